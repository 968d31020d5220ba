//! Stores an accepted event with all that follows from it: graph, state, members, relations, redactions.

use ruma::{UserId, events::TimelineEventType};
use serde_json::value::RawValue;

use super::{
    Ctx, EventError, Result,
    hook::{self, NewEvent},
    redaction,
};
use crate::homeserver::{
    rooms::{format, relation},
    store::{
        Tx,
        events::{self, Extremity},
        members::{self, Change, Member},
        relations, rooms, state, users,
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId, StreamPos, UserNid},
};

/// An event that passed every check, with what was looked up on the way.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) room: &'a RoomHandle,
    pub(super) pdu: &'a Pdu,
    pub(super) json: &'a str,
    pub(super) sender: UserNid,
    pub(super) state_before: StateGroupId,
    pub(super) auth: &'a [EventNid],
    /// The extremities that it follows.
    pub(super) extremities: &'a [Extremity],
    /// Transaction ID and device.
    pub(super) txn: Option<(&'a str, &'a str)>,
}

/// Stores it at the end of the room's timeline.
pub(super) fn accepted(tx: &mut Tx<'_>, ctx: &Ctx, event: &Accepted<'_>) -> Result<(EventNid, StreamPos)> {
    let (room, pdu) = (event.room, event.pdu);
    let pos = tx.next_pos();
    let kind = pdu.kind().to_string();
    let key = pdu.state_key().map(|state_key| state::intern_key(tx, &kind, state_key)).transpose()?;
    let new = events::NewEvent {
        pdu,
        json: event.json,
        room: room.nid,
        sender: event.sender,
        state_key: key,
        pos: Some(pos),
        state_before: Some(event.state_before),
        auth: event.auth,
        txn: event.txn,
    };
    let nid = events::insert(tx, &new)?;
    events::advance_extremities(tx, room.nid, event.extremities, nid)?;
    if let Some(key) = key {
        let group = state::next_group(tx, room.nid, event.state_before, key, nid)?;
        rooms::set_current_group(tx, room.nid, group)?;
        state::set_current(tx, room.nid, key, nid, pos)?;
    }
    let target = if *pdu.kind() == TimelineEventType::RoomMember { member(tx, ctx, event, nid, pos)? } else { None };
    relate(tx, room, pdu, nid)?;
    if *pdu.kind() == TimelineEventType::RoomRedaction {
        redaction::apply(tx, room, pdu, nid)?;
    }
    let mut audience = members::local_joined(&tx.reader(), room.nid)?;
    if let Some(target) = target
        && !audience.contains(&target)
    {
        audience.push(target);
    }
    hook::after_append(tx, ctx, &NewEvent { room, pdu, nid, pos, sender: event.sender, audience: &audience })?;
    Ok((nid, pos))
}

fn relate(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, nid: EventNid) -> Result<()> {
    // State events take no part in relations, except as what others relate to.
    if pdu.state_key().is_none()
        && let Some(content) = pdu.json().get("content").and_then(|content| content.as_object())
        && let Some(relation) = relation::of(content)
    {
        relations::add(tx, room.nid, nid, &relation.parent, &relation.rel_type, relation.key.as_deref())?;
    }
    Ok(())
}

/// Applies a membership event. Returns the member when they are local: they hear of it whether they are in the room or not.
fn member(tx: &Tx<'_>, ctx: &Ctx, event: &Accepted<'_>, nid: EventNid, pos: StreamPos) -> Result<Option<UserNid>> {
    #[derive(serde::Deserialize)]
    struct Content {
        membership: String,
        #[serde(default)]
        displayname: Option<serde_json::Value>,
        #[serde(default)]
        avatar_url: Option<serde_json::Value>,
    }
    let room = event.room;
    let user_id = UserId::parse(event.pdu.state_key().unwrap_or_default()).map_err(|e| EventError::Internal(e.to_string()))?;
    let content: Content = serde_json::from_str(event.pdu.content().get()).map_err(|e| EventError::BadJson(e.to_string()))?;
    let user = users::intern(tx, &user_id)?;
    let before = members::get(&tx.reader(), room.nid, user)?;
    let local = ctx.is_ours(&user_id);
    let outside = matches!(content.membership.as_str(), "invite" | "knock");
    let invite_state = if local && outside { Some(stripped_state(tx, event)?) } else { None };
    let text = |value: Option<serde_json::Value>| value.and_then(|v| v.as_str().map(ToOwned::to_owned));
    let member = Member {
        room: room.nid,
        user,
        membership: content.membership.clone(),
        event: nid,
        pos,
        displayname: text(content.displayname),
        avatar_url: text(content.avatar_url),
        forgotten: false,
        invite_state,
    };
    members::put(tx, &member)?;
    if local && before.is_none_or(|before| before.membership != content.membership) {
        members::add_change(tx, room.nid, user, &Change { pos, membership: content.membership, event: nid })?;
    }
    Ok(local.then_some(user))
}

/// What somebody outside is told of a room that they are invited to or knock on.
fn stripped_state(tx: &Tx<'_>, event: &Accepted<'_>) -> Result<String> {
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
    let sender = event.pdu.sender().to_string();
    let pairs = TOLD.iter().map(|kind| (*kind, "")).chain((event.pdu.state_key() != Some(&sender)).then_some(("m.room.member", &*sender)));
    for (kind, state_key) in pairs {
        if let Some(nid) = state::current(&db, event.room.nid, kind, state_key)? {
            told.push(format::stripped(&events::by_nid(&db, nid)?.json).map_err(internal)?);
        }
    }
    told.push(format::stripped(event.json).map_err(internal)?);
    serde_json::to_string(&told).map_err(internal)
}
