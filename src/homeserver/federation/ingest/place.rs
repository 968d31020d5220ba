//! The store's side of receiving: events without a place (outliers) go in by check 4, and get their place by checks 5 to 7.
//!
//! Runs inside jobs of the writer thread, which is the lock of every room. What takes long, resolving forks, is left to the
//! caller: [`Placed::NeedsMerge`] says which states.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, ServerName};

use super::{check4_auth_events, check5_state_before, check6_current_state, check7_policy, lookup::Lookup};
use crate::homeserver::{
    events::{self as write, Ctx, EventError, Result, current, resolution},
    rooms::{auth::Verdict, build},
    store::{
        Reader, Tx,
        events::{self, Placing, StoredEvent},
        graph, outside,
        state::{self, Changes},
        users,
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId, StateKeyNid, StreamPos},
};

/// What became of an event on its way to being an outlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is in the store, now or already, rejected or not.
    Here(EventNid),
    /// These events that authorise it are not here: nothing can be said of it yet.
    Missing(Vec<OwnedEventId>),
}

/// Stores an event whose signatures have been checked, without a place in the room.
///
/// # Errors
///
/// Store errors.
pub fn outlier(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, from: &ServerName) -> Result<Kept> {
    let Some(known) = graph::find(&tx.reader(), pdu.event_id())? else { return unknown(tx, room, pdu, from) };
    if !outside::is_outside(&tx.reader(), known.nid)? {
        return Ok(Kept::Here(known.nid));
    }
    // It came before its room did, and knows nothing of what authorises it: it is stored anew.
    outside::put_aside(tx, room.nid)?;
    let kept = unknown(tx, room, pdu, from)?;
    outside::put_back(tx, room.nid)?;
    Ok(kept)
}

/// The same for one that is not in the store.
fn unknown(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, from: &ServerName) -> Result<Kept> {
    let db = tx.reader();
    let mut auth = Vec::new();
    let mut missing = Vec::new();
    for id in pdu.auth_events() {
        match graph::find(&db, id)? {
            // Edges stay within the room; the check refuses an event that names one of another.
            Some(event) if event.room == room.nid => auth.push(event.nid),
            Some(_) => {}
            None => missing.push(id.clone()),
        }
    }
    if !missing.is_empty() {
        return Ok(Kept::Missing(missing));
    }
    let lookup = Lookup::new(&db, room);
    let verdict = if is_second_create(&db, room, pdu)? {
        Verdict::Rejected("the room has been created by another event".into())
    } else {
        lookup.settle(check4_auth_events::check(&room.rules.authorization, pdu, |id| lookup.by_id(id)))?
    };
    let json = build::canonical(pdu.json())?;
    insert(tx, room, pdu, events::Json::Plain(&json), from, &auth, &verdict).map(Kept::Here)
}

/// Is it a create event beside that of the room? Before room version 12, the rules allow any number of them to the server that
/// the room's ID names, and each would put all of the room's state in dispute. What names a rejected event is rejected as well.
fn is_second_create(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<bool> {
    if pdu.kind().to_string() != "m.room.create" {
        return Ok(false);
    }
    let Some(create) = state::current(db, room.nid, "m.room.create", "")? else { return Ok(false) };
    Ok(events::id_of(db, create)? != *pdu.event_id())
}

/// Stores an event of which check 4 has said this.
pub(super) fn insert(
    tx: &Tx<'_>,
    room: &RoomHandle,
    pdu: &Pdu,
    json: events::Json<'_>,
    from: &ServerName,
    auth: &[EventNid],
    verdict: &Verdict,
) -> Result<EventNid> {
    let rejected = match verdict {
        Verdict::Accepted => None,
        Verdict::Rejected(why) => Some(format!("by the events that authorise it: {why}")),
    };
    if let Some(why) = &rejected {
        tracing::info!(room_id = %room.room_id, event_id = %pdu.event_id(), %why, "event rejected");
    }
    let key = pdu.state_key().map(|state_key| state::intern_key(tx, &pdu.kind().to_string(), state_key)).transpose()?;
    let new = events::NewEvent {
        pdu,
        json,
        room: room.nid,
        sender: users::intern(tx, pdu.sender())?,
        state_key: key,
        pos: None,
        state_before: None,
        auth,
        rejected: rejected.as_deref(),
        came_from: Some(from.as_str()),
        txn: None,
    };
    Ok(events::insert(tx, &new)?)
}

/// The state before an event, as far as it follows from events that have their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// This one.
    Known(StateGroupId),
    /// These states have to be merged first.
    NeedsMerge(Vec<StateGroupId>),
    /// These events that it follows have no place.
    Missing(Vec<OwnedEventId>),
}

/// Works out the state before an event. `given`: states after events that have no place, as other servers told them.
///
/// # Errors
///
/// [`EventError`].
pub fn state_before(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, given: &BTreeMap<OwnedEventId, StateGroupId>) -> Result<Before> {
    let mut groups = Vec::new();
    let mut missing = Vec::new();
    for prev in pdu.prev_events() {
        match events::by_id(&tx.reader(), prev)?.filter(|event| event.pos.is_some() && event.room == room.nid) {
            Some(event) => groups.push(current::group_after(tx, room, &event)?),
            None => match given.get(prev) {
                Some(group) => groups.push(*group),
                None => missing.push(prev.clone()),
            },
        }
    }
    if !missing.is_empty() {
        return Ok(Before::Missing(missing));
    }
    let groups = resolution::distinct(groups);
    if groups.is_empty() {
        // Only a create event follows nothing; in the empty state anything else is refused.
        return Ok(Before::Known(state::root_group(tx, room.nid, [])?));
    }
    Ok(match resolution::known(&tx.reader(), &groups)? {
        Some(group) => Before::Known(group),
        None => Before::NeedsMerge(groups),
    })
}

/// What became of an event on its way to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It had one.
    Already,
    /// It is part of the room.
    Accepted(StreamPos),
    /// It is kept, but not shown, and nothing of ours follows it.
    SoftFailed(String),
    /// It is kept so that it is known, and changes nothing.
    Rejected(String),
    /// The states after the room's forks, `after` being that after this event, have to be merged first. Nothing has changed.
    NeedsMerge {
        /// These states.
        groups: Vec<StateGroupId>,
        /// The one after the event, for the next attempt.
        after: StateGroupId,
    },
}

/// How an event comes to its place.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The state before it.
    pub before: StateGroupId,
    /// The state after it, where an earlier attempt has made it.
    pub after: Option<StateGroupId>,
    /// Merge states here and now, if need be.
    pub resolve: bool,
}

/// Gives an outlier its place at the end of the room's timeline.
///
/// # Errors
///
/// [`EventError`].
pub fn live(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, nid: EventNid, route: Route) -> Result<Placed> {
    let before = route.before;
    let event = events::by_nid(&tx.reader(), nid)?;
    if event.pos.is_some() {
        return Ok(Placed::Already);
    }
    let pdu = event.pdu(&room.rules)?;
    if let Some(why) = rejected(tx, room, &event, &pdu, before)? {
        let pos = tx.next_pos();
        events::place(tx, room.nid, nid, &pdu, &Placing { pos, state_before: before, rejected: Some(&why), soft_failed: false })?;
        return Ok(Placed::Rejected(why));
    }
    let after = match route.after {
        Some(after) => after,
        None => after(tx, room, &event, before)?,
    };
    let refused = match check6_current_state::check(&tx.reader(), room, &pdu)? {
        Verdict::Accepted => check7_policy::check(&tx.reader(), room, &pdu)?,
        refused @ Verdict::Rejected(_) => refused,
    };
    if let Verdict::Rejected(why) = refused {
        tracing::info!(room_id = %room.room_id, event_id = %event.event_id, %why, "event soft-failed");
        let pos = tx.next_pos();
        put(tx, room, &event, &pdu, pos, before, after, true)?;
        return Ok(Placed::SoftFailed(why));
    }
    if !route.resolve {
        let groups = groups_with(tx, room, &pdu, nid, after)?;
        if resolution::known(&tx.reader(), &groups)?.is_none() {
            return Ok(Placed::NeedsMerge { groups, after });
        }
    }
    let pos = tx.next_pos();
    put(tx, room, &event, &pdu, pos, before, after, false)?;
    write::settle(tx, ctx, room, &pdu, nid, pos, event.sender)?;
    Ok(Placed::Accepted(pos))
}

/// The states after the room's forward extremities once this event is among them.
fn groups_with(tx: &Tx<'_>, room: &RoomHandle, pdu: &Pdu, nid: EventNid, after: StateGroupId) -> Result<Vec<StateGroupId>> {
    let mut others = current::extremities_with(tx, room, pdu, nid)?;
    let own = others.contains(&nid).then_some(after);
    others.retain(|extremity| *extremity != nid);
    Ok(resolution::distinct(current::groups_after(tx, room, &others)?.into_iter().chain(own)))
}

/// Gives an outlier this place in the room's history, without effect on its present.
///
/// # Errors
///
/// [`EventError`].
pub fn history(tx: &mut Tx<'_>, room: &RoomHandle, nid: EventNid, before: StateGroupId, pos: StreamPos) -> Result<Placed> {
    let event = events::by_nid(&tx.reader(), nid)?;
    if event.pos.is_some() {
        return Ok(Placed::Already);
    }
    let pdu = event.pdu(&room.rules)?;
    if let Some(why) = rejected(tx, room, &event, &pdu, before)? {
        events::place(tx, room.nid, nid, &pdu, &Placing { pos, state_before: before, rejected: Some(&why), soft_failed: false })?;
        return Ok(Placed::Rejected(why));
    }
    let after = after(tx, room, &event, before)?;
    put(tx, room, &event, &pdu, pos, before, after, false)?;
    write::take_effect(tx, room, &pdu, nid)?;
    Ok(Placed::Accepted(pos))
}

/// Why the event is rejected: from before, or by the state before it.
fn rejected(tx: &Tx<'_>, room: &RoomHandle, event: &StoredEvent, pdu: &Pdu, before: StateGroupId) -> Result<Option<String>> {
    if event.rejected.is_some() {
        return Ok(event.rejected.clone());
    }
    match check5_state_before::check(&tx.reader(), room, pdu, before)? {
        Verdict::Accepted => Ok(None),
        Verdict::Rejected(why) => {
            tracing::info!(room_id = %room.room_id, event_id = %event.event_id, %why, "event rejected");
            Ok(Some(format!("by the state before it: {why}")))
        }
    }
}

/// The state after an event that is not rejected.
fn after(tx: &Tx<'_>, room: &RoomHandle, event: &StoredEvent, before: StateGroupId) -> Result<StateGroupId> {
    let Some(key) = event.state_key else { return Ok(before) };
    Ok(state::next_group(tx, room.nid, before, Changes::from([(key, Some(event.nid))]))?)
}

#[expect(clippy::too_many_arguments, reason = "one row of the store")]
fn put(
    tx: &Tx<'_>,
    room: &RoomHandle,
    event: &StoredEvent,
    pdu: &Pdu,
    pos: StreamPos,
    before: StateGroupId,
    after: StateGroupId,
    soft_failed: bool,
) -> Result<()> {
    events::place(tx, room.nid, event.nid, pdu, &Placing { pos, state_before: before, rejected: None, soft_failed })?;
    if event.state_key.is_some() {
        events::set_state_after(tx, event.nid, after)?;
    }
    Ok(())
}

/// A state that another server told: the state events among these that are here, of this room and not rejected. What was
/// rejected once does not come back by being part of somebody's state.
///
/// # Errors
///
/// [`EventError`]; [`EventError::BadState`] for a state without a create event.
pub fn told_state(db: &Reader<'_>, room: &RoomHandle, ids: &[OwnedEventId]) -> Result<BTreeMap<StateKeyNid, EventNid>> {
    let mut map = BTreeMap::new();
    for id in ids {
        if let Some(event) = graph::find(db, id)?
            && event.room == room.nid
            && !event.rejected
            && let Some(key) = event.state_key
        {
            map.insert(key, event.nid);
        }
    }
    match state::find_key(db, "m.room.create", "")? {
        Some(create) if map.contains_key(&create) => Ok(map),
        _ => Err(EventError::BadState("a state without the room's create event".into())),
    }
}
