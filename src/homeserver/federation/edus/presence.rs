//! `m.presence` (Server-Server API, "Presence").

use std::sync::Arc;

use ruma::{OwnedUserId, ServerName, presence::PresenceState};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{EduError, Result, owned};
use crate::homeserver::{
    Node,
    store::{Reader, device_lists, users},
    sync,
    types::UserNid,
};

/// Users whom one EDU may speak of.
const USERS: usize = 1000;
/// Longest status message, as for our own users. A longer one is cut off.
const STATUS_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Presence {
    push: Vec<Value>,
}

#[derive(Deserialize)]
struct Update {
    user_id: String,
    presence: PresenceState,
    #[serde(default)]
    last_active_ago: Option<u64>,
    #[serde(default)]
    status_msg: Option<String>,
}

/// A user whom somebody here shares a room with.
struct Seen {
    user: UserNid,
    user_id: OwnedUserId,
    update: Update,
    observers: Vec<UserNid>,
}

pub(super) async fn receive(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let edu: Presence = serde_json::from_str(content.get())?;
    let mut updates = Vec::new();
    for update in edu.push.into_iter().take(USERS) {
        // One that is malformed or forged does not take the others with it.
        let Ok(update) = serde_json::from_value::<Update>(update) else { continue };
        match owned(origin, &update.user_id) {
            Ok(user_id) => updates.push((user_id, update)),
            Err(error) => tracing::debug!(%origin, %error, "a presence was dropped"),
        }
    }
    let seen = node.store.read(move |db| {
        let mut seen = Vec::new();
        for (user_id, update) in updates {
            seen.extend(look(db, user_id, update)?);
        }
        Ok::<_, EduError>(seen)
    });
    for seen in seen.await? {
        let state = match seen.update.presence {
            state @ (PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline) => state,
            // Finer states than we have (MSC3026 has "busy"): they are there.
            _ => PresenceState::Online,
        };
        let message = seen.update.status_msg.map(|message| cut(message, STATUS_BYTES)).filter(|message| !message.is_empty());
        let heard = sync::presence::Heard {
            user: seen.user,
            user_id: seen.user_id,
            state,
            status_msg: message,
            last_active_ms: node.clock.now_ms().saturating_sub(seen.update.last_active_ago.unwrap_or(0)),
        };
        sync::presence::heard(node, &heard, &seen.observers);
    }
    Ok(())
}

fn look(db: &Reader<'_>, user_id: OwnedUserId, update: Update) -> Result<Option<Seen>> {
    let Some(user) = users::find(db, &user_id)? else { return Ok(None) };
    let observers = device_lists::local_observers(db, user)?;
    Ok((!observers.is_empty()).then_some(Seen { user, user_id, update, observers }))
}

fn cut(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
