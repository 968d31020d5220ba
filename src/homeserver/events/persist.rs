//! Stores an accepted event with all that follows from it: graph, state, members, relations, redactions.

use ruma::events::TimelineEventType;

use super::{
    Ctx, Result, current,
    hook::{self, NewEvent},
    redaction,
};
use crate::homeserver::{
    rooms::relation,
    store::{Tx, events, members, relations, state},
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
    /// The server that gave it to us; `None` for our own.
    pub(super) came_from: Option<&'a str>,
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
        json: events::Json::Plain(event.json),
        room: room.nid,
        sender: event.sender,
        state_key: key,
        pos: Some(pos),
        state_before: Some(event.state_before),
        auth: event.auth,
        rejected: None,
        came_from: event.came_from,
        txn: event.txn,
    };
    let nid = events::insert(tx, &new)?;
    settle(tx, ctx, room, pdu, nid, pos, event.sender)?;
    Ok((nid, pos))
}

/// An event that is new at the end of the timeline takes effect: on the room's state, on other events, on those who hear of it.
///
/// # Errors
///
/// [`super::EventError`].
pub fn settle(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, pdu: &Pdu, nid: EventNid, pos: StreamPos, sender: UserNid) -> Result<()> {
    let extremities = current::extremities_with(tx, room, pdu, nid)?;
    let moved = current::advance(tx, ctx, room, &extremities, pos)?;
    take_effect(tx, room, pdu, nid)?;
    let mut audience = members::local_joined(&tx.reader(), room.nid)?;
    for user in moved {
        if !audience.contains(&user) {
            audience.push(user);
        }
    }
    hook::after_append(tx, ctx, &NewEvent { room, pdu, nid, pos, sender, audience: &audience })
}

/// What an accepted event does to others, whether it is new or history.
///
/// # Errors
///
/// [`super::EventError`].
pub fn take_effect(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, nid: EventNid) -> Result<()> {
    // State events take no part in relations, except as what others relate to.
    if pdu.state_key().is_none()
        && let Some(content) = pdu.json().get("content").and_then(|content| content.as_object())
        && let Some(relation) = relation::of(content)
    {
        relations::add(tx, room.nid, nid, &relation.parent, &relation.rel_type, relation.key.as_deref())?;
    }
    if *pdu.kind() == TimelineEventType::RoomRedaction {
        redaction::apply(tx, room, pdu, nid)?;
    }
    redaction::catch_up(tx, room, pdu.event_id())
}
