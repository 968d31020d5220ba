//! Memberships of our users in rooms that nobody here is in: invites and knocks, with what little they tell of the room, and
//! how they end.
//!
//! The events are outliers: they have no place in a timeline, because the room is not here.

use ruma::{RoomId, RoomVersionId, UserId, events::TimelineEventType};

use super::{Ctx, EventError, Result, held, hook::NewEvent};
use crate::homeserver::{
    appservice, push,
    rooms::build,
    store::{
        self, Reader, Tx, events,
        members::{self, Change, Member},
        rooms, state, users,
    },
    types::{EventNid, Pdu, RoomHandle, UserNid},
};

/// A membership event that came without its room.
#[derive(Debug)]
pub struct Outside<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// Its version.
    pub version: &'a RoomVersionId,
    /// The event.
    pub pdu: &'a Pdu,
    /// What is told of the room: a JSON array of stripped state.
    pub told: Option<String>,
    /// The server that it came from.
    pub came_from: Option<&'a str>,
}

/// Stores it and tells the user. What is stored already changes nothing.
///
/// # Errors
///
/// [`EventError`].
pub fn put(tx: &mut Tx<'_>, ctx: &Ctx, outside: Outside<'_>) -> Result<RoomHandle> {
    let pdu = outside.pdu;
    let room = match rooms::by_id(&tx.reader(), outside.room_id)? {
        // Whoever told us of the room first may have lied.
        Some(room) => rooms::correct_version(tx, room, outside.version)?,
        None => rooms::create(tx, outside.room_id, outside.version, ctx.now_ms)?,
    };
    if room.version != *outside.version {
        return Err(EventError::BadState(format!("{} is of version {}", room.room_id, room.version)));
    }
    let user_id = UserId::parse(pdu.state_key().unwrap_or_default()).map_err(|e| EventError::BadJson(e.to_string()))?;
    let membership = pdu.membership().ok_or_else(|| EventError::BadJson("there is no membership".into()))?.to_owned();
    let (user, sender) = (users::intern(tx, &user_id)?, users::intern(tx, pdu.sender())?);
    let known = events::by_id(&tx.reader(), pdu.event_id())?;
    let event = match &known {
        Some(known) => known.nid,
        None => insert(tx, &room, sender, &outside)?,
    };
    let before = members::get(&tx.reader(), room.nid, user)?;
    if before.as_ref().is_some_and(|before| before.event == event) {
        return Ok(room);
    }
    let pos = tx.next_pos();
    let text = |field: &str| pdu.json().get("content")?.as_object()?.get(field)?.as_str().map(ToOwned::to_owned);
    let member = Member {
        room: room.nid,
        user,
        membership: membership.clone(),
        event,
        pos,
        displayname: text("displayname"),
        avatar_url: text("avatar_url"),
        forgotten: false,
        invite_state: outside.told,
    };
    members::put(tx, &member)?;
    if before.is_none_or(|before| before.membership != membership) {
        members::add_change(tx, room.nid, user, &Change { pos, membership, event })?;
    }
    held::consider(tx, ctx, &room, pdu)?;
    tx.touch(user);
    push::on_event(tx, &push::NewEvent { room: &room, pdu, nid: event, pos, sender, now_ms: ctx.now_ms })?;
    let new = NewEvent { room: &room, pdu, nid: event, pos, sender, audience: &[user] };
    appservice::on_event(tx, &ctx.appservices, &new)?;
    Ok(room)
}

fn insert(tx: &Tx<'_>, room: &RoomHandle, sender: UserNid, outside: &Outside<'_>) -> Result<EventNid> {
    let pdu = outside.pdu;
    let json = build::canonical(pdu.json())?;
    let key = state::intern_key(tx, &TimelineEventType::RoomMember.to_string(), pdu.state_key().unwrap_or_default())?;
    let new = events::NewEvent {
        pdu,
        json: events::Json::Plain(&json),
        room: room.nid,
        sender,
        state_key: Some(key),
        pos: None,
        state_before: None,
        auth: &[],
        rejected: None,
        came_from: outside.came_from,
        txn: None,
    };
    let nid = events::insert(tx, &new)?;
    store::outside::add(tx, room.nid, nid, pdu.event_id())?;
    Ok(nid)
}

/// What somebody of another server is told of a room that they are invited to or knock on: whole events, so that their server
/// can check that the room is what it is said to be (MSC4311).
///
/// # Errors
///
/// Store errors.
pub fn told_in_full(db: &Reader<'_>, room: &RoomHandle, about: &Pdu) -> Result<Vec<String>> {
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
    let sender = about.sender().to_string();
    let inviter = (about.state_key() != Some(&sender)).then_some(("m.room.member", sender.as_str()));
    let mut told = Vec::new();
    for (kind, state_key) in TOLD.into_iter().map(|kind| (kind, "")).chain(inviter) {
        if let Some(nid) = state::current(db, room.nid, kind, state_key)? {
            told.push(events::by_nid(db, nid)?.json);
        }
    }
    Ok(told)
}
