//! What arrives: who types, and messages that deserve attention.
//!
//! Reads the SDK's room updates as they come in with sync. A message whose key is still on its way is waited for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matrix_sdk::{Room, deserialized_responses::TimelineEvent, event_cache::RoomEventCacheGenericUpdate};
use ruma::{
    OwnedRoomId,
    events::{AnySyncEphemeralRoomEvent, AnySyncTimelineEvent},
    push::Action,
};
use tokio::sync::broadcast;

use super::{
    context::{Context, Typing},
    convert::{millis, name_of},
    rooms::{event_line, room_name},
};
use crate::client::update::Update;

/// How long a message may wait for its key before it is reported as it is.
const KEY_PATIENCE: Duration = Duration::from_secs(20);
/// Messages older than this when the client starts are history, not news.
const NEWS_MS: u64 = 60_000;
/// Events of one room in one sync answer that are looked at.
const BATCH: usize = 50;

/// Runs until shutdown.
pub(super) async fn run(context: Context) {
    let mut updates = context.client.subscribe_to_all_room_updates();
    let shutdown = context.tasks.shutdown().clone();
    loop {
        let received = tokio::select! {
            received = updates.recv() => received,
            () = shutdown.wait() => return,
        };
        let rooms = match received {
            Ok(rooms) => rooms,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "room updates came faster than they were read");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for (room_id, update) in rooms.joined {
            let Some(room) = context.client.get_room(&room_id) else { continue };
            for raw in &update.ephemeral {
                if let Ok(AnySyncEphemeralRoomEvent::Typing(event)) = raw.deserialize() {
                    typing(&context, &room, &event.content.user_ids).await;
                }
            }
            let skipped = update.timeline.events.len().saturating_sub(BATCH);
            for event in update.timeline.events.into_iter().skip(skipped) {
                consider(&context, &room, event);
            }
        }
    }
}

async fn typing(context: &Context, room: &Room, users: &[ruma::OwnedUserId]) {
    let mut names = Vec::new();
    for user in users.iter().filter(|user| **user != context.me).take(10) {
        let member = room.get_member_no_sync(user).await.ok().flatten();
        names.push(match &member {
            Some(member) => name_of(user, member.display_name(), member.name_ambiguous()),
            None => name_of(user, None, false),
        });
    }
    context.typing.send_if_modified(|typing| {
        let before = typing.get(room.room_id()).map_or(&[][..], |names| names);
        if before == names.as_slice() {
            return false;
        }
        let mut rooms: HashMap<OwnedRoomId, Arc<[String]>> = Typing::unwrap_or_clone(typing.clone());
        if names.is_empty() {
            rooms.remove(room.room_id());
        } else {
            rooms.insert(room.room_id().to_owned(), names.into());
        }
        *typing = Arc::new(rooms);
        true
    });
}

/// Starts a notification where the message is new and somebody else's. Whether it is on a screen that somebody looks at is for
/// the screen to say.
fn consider(context: &Context, room: &Room, event: TimelineEvent) {
    if event.sender().is_none_or(|sender| sender == context.me) {
        return;
    }
    if event.timestamp_raw().map(millis).is_none_or(|at| at.saturating_add(NEWS_MS) < context.started_ms) {
        return;
    }
    let waiting = event.kind.is_utd();
    if !waiting && !event.push_actions().is_some_and(|actions| actions.iter().any(Action::should_notify)) {
        return;
    }
    let (context, room) = (context.clone(), room.clone());
    context.tasks.clone().spawn("notification", async move {
        let event = if waiting { decrypted(&context, &room, event).await } else { event };
        let actions = event.push_actions().unwrap_or_default();
        if actions.iter().any(Action::should_notify) {
            notify(&context, &room, &event, actions.iter().any(Action::is_highlight)).await;
        }
    });
}

/// Waits for a message's key; gives the message as it is when the key does not come.
pub(super) async fn decrypted(context: &Context, room: &Room, event: TimelineEvent) -> TimelineEvent {
    decrypted_in(room, event, context.client.event_cache().subscribe_to_room_generic_updates(), context.tasks.shutdown()).await
}

/// As `decrypted`, for callers without a context.
pub(super) async fn decrypted_in(
    room: &Room,
    event: TimelineEvent,
    mut updates: broadcast::Receiver<RoomEventCacheGenericUpdate>,
    shutdown: &crate::base::Shutdown,
) -> TimelineEvent {
    let Some(event_id) = event.event_id() else { return event };
    let healed = async {
        let (cache, _keep) = room.event_cache().await.ok()?;
        loop {
            if let Ok(Some(found)) = cache.find_event(&event_id).await
                && !found.kind.is_utd()
            {
                return Some(found);
            }
            loop {
                match updates.recv().await {
                    Ok(update) if update.room_id == room.room_id() => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }
    };
    tokio::select! {
        found = tokio::time::timeout(KEY_PATIENCE, healed) => found.ok().flatten().unwrap_or(event),
        () = shutdown.wait() => event,
    }
}

async fn notify(context: &Context, room: &Room, event: &TimelineEvent, highlight: bool) {
    let Ok(content) = event.raw().deserialize() else { return };
    if is_edit(&content) {
        return;
    }
    let Some(text) = event_line(&content) else { return };
    let sender = content.sender();
    let member = room.get_member_no_sync(sender).await.ok().flatten();
    let name = name_of(sender, member.as_ref().and_then(|member| member.display_name()), false);
    let direct = room.direct_targets_length() > 0;
    let (room_id, room_name, text) = (room.room_id().to_owned(), room_name(room), format!("{name}: {text}"));
    context.tell(Update::Notify { room_id, room_name, text, highlight, direct }).await;
}

fn is_edit(event: &AnySyncTimelineEvent) -> bool {
    let AnySyncTimelineEvent::MessageLike(event) = event else { return false };
    event
        .original_content()
        .and_then(|content| content.relation())
        .is_some_and(|relation| matches!(relation, ruma::events::room::encrypted::Relation::Replacement(_)))
}
