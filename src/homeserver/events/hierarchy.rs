//! Spaces: a room and the rooms below it (Client-Server API, "Spaces"). `federation::spaces` walks them.

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::{Map, Value, json};

use super::{EventError, Result, summary};
use crate::homeserver::{
    store::{Reader, events, members, rooms, servers, state, users},
    types::{RoomHandle, UserNid},
};

/// A child of a space, in the order of the space.
#[derive(Debug, Clone)]
pub struct Child {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that know it.
    pub via: Vec<OwnedServerName>,
    /// The `m.space.child` event, stripped.
    pub event: Value,
    order: Option<String>,
    ts: i64,
}

/// What this server knows of a room.
#[derive(Debug, Clone)]
pub enum Look {
    /// Its summary, and its children.
    Known(Map<String, Value>, Vec<Child>),
    /// It is here, and none of the asker's business.
    Hidden,
    /// Nobody of ours is in it: other servers may know more.
    Unknown,
}

/// Looks at one room of a hierarchy.
///
/// # Errors
///
/// Store errors.
pub fn look(db: &Reader<'_>, room_id: &RoomId, user: UserNid, suggested_only: bool) -> Result<Look> {
    let Some(room) = rooms::by_id(db, room_id)? else { return Ok(Look::Unknown) };
    if members::local_joined(db, room.nid)?.is_empty() && !servers::in_room(db, room.nid)?.is_empty() {
        return Ok(Look::Unknown);
    }
    if !summary::may_know(db, &room, Some(user))? {
        return Ok(Look::Hidden);
    }
    let entry = summary::of(db, &room)?;
    let children = children(db, &room, &entry, suggested_only)?;
    Ok(Look::Known(entry, children))
}

/// The children of a room with this summary, in order; none where it is no space.
///
/// # Errors
///
/// Store errors.
pub fn children(db: &Reader<'_>, space: &RoomHandle, summary: &Map<String, Value>, suggested_only: bool) -> Result<Vec<Child>> {
    if summary.get("room_type").and_then(Value::as_str) != Some("m.space") {
        return Ok(Vec::new());
    }
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let mut children = Vec::new();
    for (state_key, nid) in state::current_of_type(db, space.nid, "m.space.child")? {
        let event = events::by_nid(db, nid)?;
        let content = crate::homeserver::rooms::format::content(&event.json).map_err(internal)?;
        let content: Value = serde_json::from_str(content.get()).map_err(internal)?;
        let sender = users::user_id(db, event.sender)?;
        let stripped = json!({
            "content": content,
            "origin_server_ts": event.origin_server_ts,
            "sender": sender,
            "state_key": state_key,
            "type": "m.space.child",
        });
        children.extend(child(stripped, suggested_only));
    }
    sort(&mut children);
    Ok(children)
}

/// A stripped `m.space.child` event as a child; `None` for one that has been taken out, is not wanted, or is malformed.
#[must_use]
pub fn child(event: Value, suggested_only: bool) -> Option<Child> {
    let room_id = RoomId::parse(event.get("state_key")?.as_str()?).ok()?;
    let content = event.get("content")?.as_object()?;
    let via = content.get("via")?.as_array()?;
    let suggested = content.get("suggested").and_then(Value::as_bool).unwrap_or(false);
    if via.is_empty() || (suggested_only && !suggested) {
        return None;
    }
    let via = via.iter().filter_map(Value::as_str).filter_map(|server| ServerName::parse(server).ok()).collect();
    let order = content.get("order").and_then(Value::as_str).filter(|order| valid_order(order)).map(ToOwned::to_owned);
    let ts = event.get("origin_server_ts").and_then(Value::as_i64).unwrap_or(0);
    Some(Child { room_id, via, order, ts, event })
}

/// Those with an order come first.
pub fn sort(children: &mut [Child]) {
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.ts, child.room_id.clone());
        key(a).cmp(&key(b))
    });
}

/// Up to 50 printable ASCII characters.
fn valid_order(order: &str) -> bool {
    order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}
