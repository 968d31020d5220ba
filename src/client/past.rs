//! Cached history that the SDK's timeline does not reach: it stops at a stretch that was never fetched, whatever is cached
//! before that. While the server is out of reach this is all there is to read, so it is read past the SDK.

use std::collections::{HashMap, HashSet};

use matrix_sdk::{
    Client,
    cross_process_lock::MappedCrossProcessLockState,
    deserialized_responses::TimelineEvent,
    linked_chunk::{ChunkContent, LinkedChunkId},
};
use matrix_sdk_ui::timeline::Timeline as SdkTimeline;
use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId, events::AnySyncTimelineEvent, serde::Raw};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    convert::{self, Names},
    mirror::Mirror,
    words::Trouble,
};
use crate::client::view::{Item, ItemId, ItemKind};

/// Events that are read at most, in whole chunks (of up to 128).
const ENOUGH: usize = 300;

/// A piece of the cache.
pub(super) enum Cached {
    Event(Box<TimelineEvent>),
    /// Something is missing here.
    Gap,
}

/// What is cached before the newest gap, oldest first, and that gap. Empty where there is nothing before it, or no gap.
pub(super) async fn read(client: &Client, room_id: &RoomId) -> Result<Vec<Cached>, Trouble> {
    let locked = client.event_cache_store().lock().await.map_err(|error| Trouble::of_store(&error))?;
    let (MappedCrossProcessLockState::Clean(store) | MappedCrossProcessLockState::Dirty(store)) = locked;
    let id = LinkedChunkId::Room(room_id);
    let failed = |error| Trouble::of_store(&error);
    let (mut chunk, _) = store.load_last_chunk(id).await.map_err(failed)?;
    let mut newest_first = Vec::new();
    while let Some(raw) = chunk {
        match raw.content {
            ChunkContent::Gap(_) => newest_first.push(Cached::Gap),
            ChunkContent::Items(events) if !newest_first.is_empty() => {
                newest_first.extend(events.into_iter().rev().map(|event| Cached::Event(Box::new(event))));
            }
            // After the newest gap: the timeline has it.
            ChunkContent::Items(_) => {}
        }
        if newest_first.len() >= ENOUGH {
            break;
        }
        chunk = store.load_previous_chunk(id, raw.identifier).await.map_err(failed)?;
    }
    // A gap before everything is only the rest of the history.
    while matches!(newest_first.last(), Some(Cached::Gap)) {
        newest_first.pop();
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// The same as the screen shows it. Events that the timeline shows itself are left out.
pub(super) async fn items(cached: Vec<Cached>, timeline: &SdkTimeline, mirror: &mut Mirror, me: &UserId, names: &Names) -> Vec<Item> {
    let shown: HashSet<ItemId> = mirror.items().iter().filter_map(|item| item.id.clone()).collect();
    let edits = edits(&cached);
    let mut items: Vec<Item> = Vec::new();
    for piece in cached {
        let event = match piece {
            Cached::Gap => {
                // Nothing to be seen between two gaps makes them one.
                if items.last().is_some_and(|item| item.kind != ItemKind::Gap) {
                    let unique = mirror.unique(None);
                    items.push(convert::aside(ItemKind::Gap, items.last().map_or(0, |item| item.timestamp_ms), unique));
                }
                continue;
            }
            Cached::Event(event) => event,
        };
        let Some(id) = event.event_id().map(ItemId::Event).filter(|id| !shown.contains(id)) else { continue };
        if Relation::of(event.raw()).is_some_and(|relation| relation.is_edit()) {
            continue;
        }
        let edited = event.sender().and_then(|sender| edits.get(&(id.clone(), sender))).and_then(|content| with_content(&event, content));
        let is_edited = edited.is_some();
        // `None`: it changes other events and is none to be shown.
        let Ok(Some(event)) = timeline.make_replied_to(edited.unwrap_or(*event)).await else { continue };
        let mut item = convert::embedded(event, mirror.unique(Some(&id)), me, names);
        if let ItemKind::Message(message) = &mut item.kind {
            message.edited |= is_edited;
        }
        items.push(item);
    }
    items
}

/// Nobody edits what others have written, so an edit is known by its target and its sender.
type Edits = HashMap<(ItemId, OwnedUserId), Box<RawValue>>;

/// The content that the newest edit of each event gives it.
fn edits(cached: &[Cached]) -> Edits {
    let mut edits = HashMap::new();
    for piece in cached {
        let Cached::Event(event) = piece else { continue };
        let Some(relation) = Relation::of(event.raw()).filter(Relation::is_edit) else { continue };
        if let (Some(target), Some(content)) = (relation.event_id, relation.new_content) {
            edits.insert((ItemId::Event(target), relation.sender), content);
        }
    }
    edits
}

/// The event with another content.
fn with_content(event: &TimelineEvent, content: &RawValue) -> Option<TimelineEvent> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(event.raw().json().get()).ok()?;
    fields.insert("content".to_owned(), serde_json::from_str(content.get()).ok()?);
    let raw = Raw::new(&fields).ok()?.cast_unchecked::<AnySyncTimelineEvent>();
    Some(TimelineEvent::from_plaintext(raw))
}

/// What an event says about another.
struct Relation {
    sender: OwnedUserId,
    rel_type: Option<String>,
    event_id: Option<OwnedEventId>,
    new_content: Option<Box<RawValue>>,
}

impl Relation {
    fn of(raw: &Raw<AnySyncTimelineEvent>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Event {
            sender: OwnedUserId,
            content: Content,
        }
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relates_to: RelatesTo,
            #[serde(rename = "m.new_content")]
            new_content: Option<Box<RawValue>>,
        }
        #[derive(Deserialize)]
        struct RelatesTo {
            rel_type: Option<String>,
            event_id: Option<OwnedEventId>,
        }
        let event: Event = serde_json::from_str(raw.json().get()).ok()?;
        let RelatesTo { rel_type, event_id } = event.content.relates_to;
        Some(Self { sender: event.sender, rel_type, event_id, new_content: event.content.new_content })
    }

    fn is_edit(&self) -> bool {
        self.rel_type.as_deref() == Some("m.replace")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    fn event(json: &serde_json::Value) -> TimelineEvent {
        TimelineEvent::from_plaintext(Raw::new(json).unwrap().cast_unchecked())
    }

    fn message(id: &str, sender: &str, content: &serde_json::Value) -> TimelineEvent {
        event(&serde_json::json!({
            "type": "m.room.message", "event_id": id, "sender": sender, "origin_server_ts": 1, "content": content,
        }))
    }

    #[test]
    fn an_edit_changes_the_message_of_its_own_sender_only() {
        let first = message("$1", "@a:x", &serde_json::json!({"msgtype": "m.text", "body": "tpyo"}));
        let by = |id: &str, sender: &str, body: &str| {
            let content = serde_json::json!({
                "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": {"msgtype": "m.text", "body": body},
                "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"},
            });
            Cached::Event(Box::new(message(id, sender, &content)))
        };
        let body = |cached: &[Cached]| {
            let edits = edits(cached);
            let id = ItemId::Event("$1".try_into().unwrap());
            let event = with_content(&first, edits.get(&(id, first.sender()?))?)?;
            let json: serde_json::Value = serde_json::from_str(event.raw().json().get()).unwrap();
            Some(json.pointer("/content/body").unwrap().as_str().unwrap().to_owned())
        };
        assert_eq!(body(&[]), None);
        assert_eq!(body(&[by("$2", "@a:x", "tyop"), by("$3", "@a:x", "typo")]).as_deref(), Some("typo"));
        assert_eq!(body(&[by("$2", "@a:x", "typo"), by("$3", "@b:x", "mine")]).as_deref(), Some("typo"));
        assert_eq!(body(&[by("$2", "@b:x", "mine")]), None);
    }
}
