//! The state of a room at some place in its timeline.

use std::collections::BTreeMap;

use super::{EventError, Result, visibility::Access};
use crate::homeserver::{
    rooms::format,
    store::{
        Reader,
        events::{self, Order, StoredEvent},
        members, rooms, state,
    },
    types::{EventNid, RoomHandle, StateKeyNid, StreamPos},
};

/// A state by integer ids.
pub type Snapshot = BTreeMap<StateKeyNid, EventNid>;

/// The state right after an event.
///
/// # Errors
///
/// Store errors.
pub fn after(db: &Reader<'_>, event: &StoredEvent) -> Result<Snapshot> {
    let mut snapshot = before(db, event)?;
    if let Some(key) = event.state_key {
        snapshot.insert(key, event.nid);
    }
    Ok(snapshot)
}

/// The state right before an event.
///
/// # Errors
///
/// Store errors.
pub fn before(db: &Reader<'_>, event: &StoredEvent) -> Result<Snapshot> {
    match event.state_before {
        Some(group) => Ok(state::of_group(db, group)?),
        None => Err(EventError::NotFound("The state at this event is not known".into())),
    }
}

/// The state as it was at a place in the stream.
///
/// # Errors
///
/// Store errors.
pub fn at(db: &Reader<'_>, room: &RoomHandle, pos: StreamPos) -> Result<Snapshot> {
    match events::range(db, room.nid, StreamPos(i64::MIN), pos, Order::Backwards, 1)?.first() {
        Some(last) => after(db, last),
        None => Ok(Snapshot::new()),
    }
}

/// One key of the state right after an event.
///
/// # Errors
///
/// Store errors.
pub fn key_after(db: &Reader<'_>, event: &StoredEvent, key: StateKeyNid) -> Result<Option<EventNid>> {
    match event.state_before {
        _ if event.state_key == Some(key) => Ok(Some(event.nid)),
        Some(group) => Ok(state::key_of_group(db, group, key)?),
        None => Ok(None),
    }
}

/// The state that somebody with this access is shown: the present one, or that of when they went.
///
/// # Errors
///
/// Store errors.
pub fn visible_to(db: &Reader<'_>, room: &RoomHandle, access: Access) -> Result<Snapshot> {
    match access {
        Access::Former { left_by, .. } => after(db, &events::by_nid(db, left_by)?),
        Access::Member | Access::World => Ok(state::current_all(db, room.nid)?.into_iter().collect()),
    }
}

/// One key of the state that somebody with this access is shown.
///
/// # Errors
///
/// Store errors.
pub fn key_visible_to(db: &Reader<'_>, room: &RoomHandle, access: Access, key: StateKeyNid) -> Result<Option<EventNid>> {
    if let Access::Former { left_by, .. } = access {
        return key_after(db, &events::by_nid(db, left_by)?, key);
    }
    match rooms::current_group(db, room.nid)? {
        Some(group) => Ok(state::key_of_group(db, group, key)?),
        None => Ok(None),
    }
}

/// Members with their memberships, as of a place in the stream or as of the access.
///
/// # Errors
///
/// Store errors.
pub fn members(db: &Reader<'_>, room: &RoomHandle, access: Access, pos: Option<StreamPos>) -> Result<Vec<(String, EventNid)>> {
    let place = match (access, pos) {
        (Access::Former { at, .. }, Some(pos)) => Some(pos.min(at)),
        (Access::Former { at, .. }, None) => Some(at),
        (_, pos) => pos,
    };
    let Some(place) = place else {
        return Ok(members::of_room(db, room.nid)?.into_iter().map(|member| (member.membership, member.event)).collect());
    };
    let mut found = Vec::new();
    for (key, nid) in at(db, room, place)? {
        if state::key(db, key)?.0 == "m.room.member" {
            let event = events::by_nid(db, nid)?;
            found.push((membership(&event)?, nid));
        }
    }
    Ok(found)
}

fn membership(event: &StoredEvent) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Content {
        membership: String,
    }
    let internal = |e: serde_json::Error| EventError::Internal(format!("{}: {e}", event.event_id));
    let content = format::content(&event.json).map_err(internal)?;
    Ok(serde_json::from_str::<Content>(content.get()).map_err(internal)?.membership)
}
