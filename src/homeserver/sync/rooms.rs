//! Facts about a room that both forms of sync tell.

use std::collections::{BTreeMap, BTreeSet};

use ruma::UserId;

use super::{Raw, format};
use crate::homeserver::{
    events::{invites, view::View},
    rooms::format as form,
    store::{
        Reader, Result, StoreError, events, held_invites, state,
        sync_rooms::{self, StateEntry},
        users,
    },
    types::{EventNid, RoomNid, StateKeyNid, StreamPos, UserNid},
};

/// The state events behind these entries.
pub(super) fn state_events<'a>(view: &View<'_, '_>, entries: impl IntoIterator<Item = &'a StateEntry>) -> Result<Vec<Raw>> {
    entries.into_iter().filter_map(|entry| entry.event).map(|event| view.state(event).map_err(format::internal)).collect()
}

/// The room's whole state right after a position: the current one with later changes undone.
pub(super) fn state_at(db: &Reader<'_>, room: RoomNid, at: StreamPos, now: StreamPos) -> Result<Vec<StateEntry>> {
    let mut state: BTreeMap<StateKeyNid, StateEntry> =
        sync_rooms::current_state(db, room, true)?.into_iter().map(|entry| (entry.key, entry)).collect();
    for (key, change) in sync_rooms::state_changes(db, room, at, now)? {
        match change.before {
            Some(before) => drop(state.insert(key, StateEntry { event: Some(before), ..change.entry })),
            None => drop(state.remove(&key)),
        }
    }
    Ok(state.into_values().collect())
}

/// One string of the content of a current state event; `None` where it is missing or empty.
pub(super) fn state_str(db: &Reader<'_>, room: RoomNid, kind: &str, field: &str) -> Result<Option<String>> {
    let Some(event) = state::current(db, room, kind, "")? else { return Ok(None) };
    Ok(format::content_str(&events::by_nid(db, event)?, field)?.filter(|text| !text.is_empty()))
}

/// The stripped state of an invite or a knock, with the membership event itself among it.
pub(super) fn stripped_state(db: &Reader<'_>, room: RoomNid, user: UserNid, member_event: EventNid) -> Result<Vec<Raw>> {
    let member = events::by_nid(db, member_event)?;
    let member_json = form::stripped(&member.json).map_err(|e| StoreError::Data(e.to_string()))?;
    let mut found: Vec<Raw> = match sync_rooms::invite_state(db, room, user)? {
        Some(json) => serde_json::from_str(&json).map_err(|e| StoreError::Data(e.to_string()))?,
        None => Vec::new(),
    };
    let own = |raw: &Raw| {
        let key = |json: &str| {
            let event: serde_json::Value = serde_json::from_str(json).ok()?;
            Some((event.get("type")?.as_str()?.to_owned(), event.get("state_key")?.as_str()?.to_owned()))
        };
        key(raw.get()) == key(member_json.get())
    };
    found.retain(|raw| !own(raw));
    found.push(member_json);
    Ok(found)
}

/// True when whoever sent the invite is ignored by the invited user, or by the user's wishes about invites, or when it is held.
pub(super) fn invited_by_ignored(db: &Reader<'_>, member_event: EventNid, ignored: &BTreeSet<String>) -> Result<bool> {
    let event = events::by_nid(db, member_event)?;
    let sender = format::sender(&event)?;
    if ignored.contains(&sender) {
        return Ok(true);
    }
    let Some((_, invited)) = event.state_key.map(|key| state::key(db, key)).transpose()? else { return Ok(false) };
    let (Ok(sender), Ok(invited)) = (UserId::parse(&sender), UserId::parse(&invited)) else { return Ok(false) };
    match users::find(db, &invited)? {
        Some(invited) => {
            Ok(held_invites::is_held(db, event.room, invited)? || invites::of(db, invited).map_err(format::internal)?.hides(&sender))
        }
        None => Ok(false),
    }
}
