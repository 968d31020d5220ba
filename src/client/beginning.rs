//! Whether the beginning of a room's history is really on the screen.
//!
//! The SDK marks the beginning as soon as it has loaded the last page, while the messages of that page come into the timeline
//! through another task of its own. Until they have, "this is the beginning" would stand above the wrong message.

use matrix_sdk::{Room, deserialized_responses::TimelineEvent};
use ruma::OwnedEventId;
use serde::Deserialize;

/// Of the loaded events, how many of the oldest are looked at.
const LOOKED_AT: usize = 200;

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<serde::de::IgnoredAny>,
}

/// True for events that have an item of their own in every timeline. Others may be hidden, or a part of another event's item.
fn is_certain(event: &TimelineEvent) -> bool {
    let Ok(shape) = event.raw().deserialize_as_unchecked::<Shape>() else { return false };
    match shape.kind.as_str() {
        "m.room.create" => true,
        "m.room.message" | "m.room.encrypted" => shape.content.relates_to.is_none(),
        _ => false,
    }
}

/// The oldest event that the SDK has loaded of a room and that will be shown.
pub(super) async fn oldest_shown(room: &Room) -> Option<OwnedEventId> {
    let (cache, _tasks) = room.event_cache().await.ok()?;
    // The cache is walked from the newest to the oldest.
    let mut loaded = 0_usize;
    let count = cache.rfind_map_event_in_memory_by(|_| {
        loaded += 1;
        None::<()>
    });
    count.await.ok()?;
    let mut at = 0_usize;
    let mut oldest = None;
    let look = cache.rfind_map_event_in_memory_by(|event| {
        at += 1;
        if at.saturating_add(LOOKED_AT) > loaded && is_certain(event) {
            oldest = event.event_id();
        }
        None::<()>
    });
    look.await.ok()?;
    oldest
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

    use ruma::serde::Raw;
    use serde_json::{Value, json};

    use super::*;

    fn certain(kind: &str, content: Value) -> bool {
        let json = json!({ "type": kind, "event_id": "$a", "sender": "@a:x", "origin_server_ts": 1, "content": content });
        is_certain(&TimelineEvent::from_plaintext(Raw::new(&json).unwrap().cast_unchecked()))
    }

    #[test]
    fn only_events_that_are_always_items_are_waited_for() {
        assert!(certain("m.room.create", json!({})));
        assert!(certain("m.room.message", json!({ "msgtype": "m.text", "body": "a" })));
        assert!(certain("m.room.message", json!({})), "redacted messages are shown as such");
        let edit = json!({ "body": "a", "m.relates_to": { "rel_type": "m.replace", "event_id": "$b" } });
        assert!(!certain("m.room.message", edit));
        assert!(!certain("m.reaction", json!({})));
        assert!(!certain("m.room.redaction", json!({})));
    }
}
