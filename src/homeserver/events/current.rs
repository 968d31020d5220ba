//! The state of a room as it is now: the resolution of the states after all its forward extremities, kept up with every event.

use std::collections::BTreeSet;

use ruma::UserId;
use serde_json::value::RawValue;

use super::{Ctx, EventError, Result, resolution};
use crate::homeserver::{
    rooms::format,
    store::{
        Tx,
        events::{self, StoredEvent},
        graph,
        members::{self, Change, Member},
        rooms,
        state::{self, Changes},
        users,
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId, StateKeyNid, StreamPos, UserNid},
};

/// The state after an event that has its place in the room.
///
/// # Errors
///
/// [`EventError::Internal`] for an outlier.
pub fn group_after(tx: &Tx<'_>, room: &RoomHandle, event: &StoredEvent) -> Result<StateGroupId> {
    let before = event.state_before.ok_or_else(|| EventError::Internal(format!("{} has no place in its room", event.event_id)))?;
    match (event.state_key, event.state_after) {
        (None, _) => Ok(before),
        _ if event.rejected.is_some() => Ok(before),
        (Some(_), Some(after)) => Ok(after),
        (Some(key), None) => {
            let after = state::next_group(tx, room.nid, before, Changes::from([(key, Some(event.nid))]))?;
            events::set_state_after(tx, event.nid, after)?;
            Ok(after)
        }
    }
}

/// The room's forward extremities once this event is among them, if it is.
///
/// # Errors
///
/// Store errors.
pub fn extremities_with(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, nid: EventNid) -> Result<Vec<EventNid>> {
    let db = tx.reader();
    let mut left: Vec<EventNid> = events::extremities(&db, room.nid)?
        .into_iter()
        .filter(|old| old.nid != nid && !pdu.prev_events().contains(&old.event_id))
        .map(|old| old.nid)
        .collect();
    if !graph::is_followed(&db, pdu.event_id())? {
        left.push(nid);
    }
    Ok(left)
}

/// The states after these events, each once.
///
/// # Errors
///
/// Store errors.
pub fn groups_after(tx: &Tx<'_>, room: &RoomHandle, events: &[EventNid]) -> Result<Vec<StateGroupId>> {
    let mut groups = Vec::with_capacity(events.len());
    for event in events {
        // With many forks this is most of the work that an event makes: the JSON is not looked at where that can be helped.
        groups.push(match graph::group_after(&tx.reader(), *event)? {
            Some(group) => group,
            None => group_after(tx, room, &events::by_nid(&tx.reader(), *event)?)?,
        });
    }
    Ok(resolution::distinct(groups))
}

/// Makes these the room's forward extremities and their states, merged, its current state. Returns the local users whose
/// membership changed by it.
///
/// # Errors
///
/// [`EventError`].
pub fn advance(tx: &Tx<'_>, ctx: &Ctx, room: &RoomHandle, extremities: &[EventNid], pos: StreamPos) -> Result<BTreeSet<UserNid>> {
    graph::set_extremities(tx, room.nid, extremities)?;
    let groups = groups_after(tx, room, extremities)?;
    let group = resolution::merged(tx, room, &groups)?;
    become_current(tx, ctx, room, group, pos)
}

/// Makes a state group the room's current state.
///
/// # Errors
///
/// [`EventError`].
pub fn become_current(tx: &Tx<'_>, ctx: &Ctx, room: &RoomHandle, group: StateGroupId, pos: StreamPos) -> Result<BTreeSet<UserNid>> {
    let changes = match rooms::current_group(&tx.reader(), room.nid)? {
        Some(before) if before == group => return Ok(BTreeSet::new()),
        Some(before) => (state::divergence(&tx.reader(), &[before, group])?.into_iter())
            .map(|(key, values)| (key, values.last().copied().flatten()))
            .collect(),
        None => state::difference(&std::collections::BTreeMap::new(), &state::of_group(&tx.reader(), group)?),
    };
    rooms::set_current_group(tx, room.nid, group)?;
    change(tx, ctx, room, changes, pos)
}

/// Changes these keys of the room's current state. Returns the local users whose membership changed by it.
///
/// For who takes a room over in pieces before anybody here is in it; otherwise the state group changes in the same transaction.
///
/// # Errors
///
/// [`EventError`].
pub fn change(
    tx: &Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    changes: impl IntoIterator<Item = (StateKeyNid, Option<EventNid>)>,
    pos: StreamPos,
) -> Result<BTreeSet<UserNid>> {
    let mut moved = Vec::new();
    for (key, event) in changes {
        let before = state::set_current(tx, room.nid, key, event, pos)?;
        moved.push((key, before, event));
    }
    let mut touched = BTreeSet::new();
    // After all keys: what an invited user is told of the room is the state as it is now.
    for (key, before, event) in moved {
        let (kind, user_id) = state::key(&tx.reader(), key)?;
        if kind == "m.room.member"
            && let Some(user) = member(tx, ctx, room, &user_id, before, event, pos)?
        {
            touched.insert(user);
        }
    }
    Ok(touched)
}

#[derive(serde::Deserialize)]
struct Content {
    membership: String,
    #[serde(default)]
    displayname: Option<serde_json::Value>,
    #[serde(default)]
    avatar_url: Option<serde_json::Value>,
}

/// Follows a change of a membership key. Returns the member when they are local: they hear of it whether they are in the room
/// or not.
fn member(
    tx: &Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    user_id: &str,
    before: Option<EventNid>,
    event: Option<EventNid>,
    pos: StreamPos,
) -> Result<Option<UserNid>> {
    // The authorisation rules let no membership of anything but a user through.
    let user_id = UserId::parse(user_id).map_err(|e| EventError::Internal(e.to_string()))?;
    let user = users::intern(tx, &user_id)?;
    let local = ctx.is_ours(&user_id);
    let known = members::get(&tx.reader(), room.nid, user)?;
    let (membership, displayname, avatar_url, invite_state, holds) = match event {
        Some(nid) => {
            let stored = events::by_nid(&tx.reader(), nid)?;
            let content = format::content(&stored.json).map_err(|e| EventError::Internal(e.to_string()))?;
            let content: Content = serde_json::from_str(content.get()).map_err(|e| EventError::BadJson(e.to_string()))?;
            let text = |value: Option<serde_json::Value>| value.and_then(|v| v.as_str().map(ToOwned::to_owned));
            let outside = matches!(content.membership.as_str(), "invite" | "knock");
            let told = if local && outside { Some(stripped_state(tx, room, &stored)?) } else { None };
            (content.membership, text(content.displayname), text(content.avatar_url), told, nid)
        }
        // Resolution took the membership away: they are as if they had never been here, which for those who were is having left.
        None => match before {
            Some(before) => ("leave".to_owned(), None, None, None, before),
            None => return Ok(None),
        },
    };
    let changed = known.as_ref().is_none_or(|known| known.membership != membership);
    let member = Member {
        room: room.nid,
        user,
        membership: membership.clone(),
        event: holds,
        pos,
        displayname,
        avatar_url,
        forgotten: !changed && known.is_some_and(|known| known.forgotten),
        invite_state,
    };
    members::put(tx, &member)?;
    if local && changed {
        members::add_change(tx, room.nid, user, &Change { pos, membership, event: holds })?;
    }
    Ok(local.then_some(user))
}

/// What somebody outside is told of a room that they are invited to or knock on.
fn stripped_state(tx: &Tx<'_>, room: &RoomHandle, event: &StoredEvent) -> Result<String> {
    const TOLD: [&str; 8] = [
        "m.room.create",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.avatar",
        "m.room.name",
        "m.room.topic",
        "m.room.encryption",
        "m.room.history_visibility",
    ];
    let db = tx.reader();
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let mut told: Vec<Box<RawValue>> = Vec::new();
    let sender = users::user_id(&db, event.sender)?.to_string();
    let own = event.state_key.map(|key| state::key(&db, key)).transpose()?.is_some_and(|(_, state_key)| state_key == sender);
    let pairs = TOLD.iter().map(|kind| (*kind, "")).chain((!own).then_some(("m.room.member", &*sender)));
    for (kind, state_key) in pairs {
        if let Some(nid) = state::current(&db, room.nid, kind, state_key)? {
            told.push(format::stripped(&events::by_nid(&db, nid)?.json).map_err(internal)?);
        }
    }
    told.push(format::stripped(&event.json).map_err(internal)?);
    serde_json::to_string(&told).map_err(internal)
}
