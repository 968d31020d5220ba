//! Events that others have a part in: proposed here and signed there, or the other way round.
//!
//! Unlike [`super::append`], which makes an event at the end of the room, these have a place already when they are stored; the
//! room may have gone on since.

use std::{cell::RefCell, sync::Arc};

use ruma::{EventId, ServerName, UserId, events::StateEventType};

use super::{
    Appended, Ctx, Draft, EventError, Result,
    append::{self, Known},
    current,
    persist::{self, Accepted},
    policy, resolution, sanity,
};
use crate::homeserver::{
    rooms::{
        auth::{self, Verdict},
        build::{self, MAX_PREV_EVENTS},
    },
    store::{
        self, Reader, StoreError, Tx,
        events::{self, StoredEvent},
        graph,
        outbox::{self, OutgoingPdu},
        rooms, state, users,
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId},
};

/// Builds and authorises an event at the end of the room without storing it. It is signed by us.
///
/// # Errors
///
/// [`EventError`].
pub fn propose(tx: &Tx<'_>, ctx: &Ctx, room: &RoomHandle, draft: &Draft) -> Result<Pdu> {
    let db = tx.reader();
    if ctx.is_ours(&draft.sender) {
        sanity::check_sender(&db, draft)?;
    }
    let known = Known::load(&db, room, draft)?;
    let mut extremities = events::extremities(&db, room.nid)?;
    extremities.truncate(MAX_PREV_EVENTS);
    let (pdu, _) = append::build(ctx, room, draft, &known, &extremities)?;
    append::authorise(room, &pdu, &known)?;
    if ctx.is_ours(&draft.sender)
        && let Some(signed) = policy::approved(&db, ctx, room, &pdu)?
    {
        return Ok(signed);
    }
    Ok(pdu)
}

/// Whose event it is.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// One of our users'.
    Ours,
    /// This server gave it to us, for us to pass on.
    Server(&'a ServerName),
}

/// Stores an event whose signatures and hash have been checked, where its `prev_events` say. It must be allowed by its
/// `auth_events`, by the state before it and by the current state, and everything that it names must be here. An event that is
/// here already changes nothing.
///
/// # Errors
///
/// [`EventError::Forbidden`] when the rules say no.
pub fn place(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, pdu: &Pdu, source: &Source<'_>) -> Result<Appended> {
    place_with(tx, ctx, room, pdu, source, None)
}

/// Keys of the state in which an event that others give us may differ from the room as it is now.
const MOST_DISPUTED: usize = 500;

/// Is this event, which another server gives us to [`place`], worth the work? Whoever asks for a template and signs it follows the
/// room's ends; an event that follows one end and something long past would have us resolve two states of the whole room, in the
/// store's only writer. Neither needs a rule of the room to say no.
///
/// # Errors
///
/// [`EventError::BadState`] when it is not; [`EventError::Forbidden`] for what the rules refuse whatever the state before it is.
pub fn worthwhile(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<()> {
    if events::by_id(db, pdu.event_id())?.is_some_and(|known| known.pos.is_some()) {
        return Ok(());
    }
    let followed = lookup(db, room, pdu.prev_events())?;
    if followed.is_empty() || followed.iter().any(|event| event.state_before.is_none() || !event.accepted()) {
        return Err(EventError::BadState("The event does not say where in the room it belongs".into()));
    }
    let auth = lookup(db, room, pdu.auth_events())?;
    check(db, room, pdu, &auth, None)?;
    let mut groups: Vec<StateGroupId> = rooms::current_group(db, room.nid)?.into_iter().collect();
    for event in &followed {
        // Of an event whose state nobody has needed yet, that before it says as much.
        groups.extend(graph::group_after(db, event.nid)?.or(event.state_before));
    }
    let groups = resolution::distinct(groups);
    if groups.len() > 1 && state::divergence(db, &groups)?.len() > MOST_DISPUTED {
        return Err(EventError::BadState("The event follows what is too far from the room as it is now".into()));
    }
    Ok(())
}

/// The same with a client's transaction ID and device.
pub(super) fn place_with(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    pdu: &Pdu,
    source: &Source<'_>,
    txn: Option<(&str, &str)>,
) -> Result<Appended> {
    if let Some(known) = events::by_id(&tx.reader(), pdu.event_id())?
        && let Some(pos) = known.pos
    {
        return match known.accepted() {
            true => Ok(Appended { event_id: known.event_id, stored: Some((known.nid, pos)) }),
            false => Err(EventError::Forbidden("The event was refused before".into())),
        };
    }
    let followed = lookup(&tx.reader(), room, pdu.prev_events())?;
    if followed.is_empty() || followed.iter().any(|event| event.state_before.is_none() || !event.accepted()) {
        return Err(EventError::BadState("The event does not say where in the room it belongs".into()));
    }
    let auth = lookup(&tx.reader(), room, pdu.auth_events())?;
    let followed: Vec<EventNid> = followed.iter().map(|event| event.nid).collect();
    // What costs little first: whatever the state before it, the event has to pass these.
    check(&tx.reader(), room, pdu, &auth, None)?;
    let before = resolution::merged(tx, room, &current::groups_after(tx, room, &followed)?)?;
    check(&tx.reader(), room, pdu, &auth, Some(before))?;
    let sender = users::intern(tx, pdu.sender())?;
    let json = build::canonical(pdu.json())?;
    let auth: Vec<EventNid> = auth.iter().map(|event| event.nid).collect();
    let came_from = match source {
        Source::Ours => None,
        Source::Server(server) => Some(server.as_str()),
    };
    let accepted = Accepted { room, pdu, json: &json, sender, state_before: before, auth: &auth, came_from, txn };
    let (nid, pos) = persist::accepted(tx, ctx, &accepted)?;
    if let Source::Server(server) = source
        && !ctx.is_ours(pdu.sender())
    {
        let about = pdu.state_key().and_then(|target| UserId::parse(target).ok());
        let also = about.as_ref().map(|target| target.server_name());
        outbox::queue_pdu(tx, &OutgoingPdu { room: room.nid, event: nid, pos, also, except: &[&ctx.server_name, server] })?;
    }
    Ok(Appended { event_id: pdu.event_id().to_owned(), stored: Some((nid, pos)) })
}

fn lookup(db: &Reader<'_>, room: &RoomHandle, ids: &[ruma::OwnedEventId]) -> Result<Vec<StoredEvent>> {
    ids.iter()
        .map(|id| {
            let found = events::by_id(db, id)?.filter(|event| event.room == room.nid);
            found.ok_or_else(|| EventError::BadState("The event names events that are not known here".into()))
        })
        .collect()
}

/// Checks 4 to 6 on receipt of a PDU (Server-Server API, "Checks performed on receipt of a PDU"); without a state before it, 4
/// and 6.
fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu, auth: &[StoredEvent], before: Option<StateGroupId>) -> Result<()> {
    let rules = &room.rules.authorization;
    let named = auth.iter().map(|event| event.pdu(&room.rules).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    // The rules ask by closures that cannot fail: what does is kept, and what the rules say then counts for nothing.
    let failure: RefCell<Option<StoreError>> = RefCell::new(None);
    let note = |found: store::Result<Option<Arc<Pdu>>>| {
        found.unwrap_or_else(|error| {
            failure.borrow_mut().get_or_insert(error);
            None
        })
    };
    let read = |nid: EventNid| events::by_nid(db, nid)?.pdu(&room.rules).map(Arc::new);
    let current = |kind: &StateEventType, key: &str| {
        note(state::current(db, room.nid, &kind.to_string(), key).and_then(|nid| nid.map(read).transpose()))
    };
    // From version 12 on, the room's ID stands for the create event, which is then not named.
    let create = current(&StateEventType::RoomCreate, "");
    let by_id = |id: &EventId| named.iter().chain(&create).find(|event| event.event_id() == id).cloned();
    let of_auth = |kind: &StateEventType, key: &str| {
        let is = |event: &&Arc<Pdu>| event.kind().to_string() == kind.to_string() && event.state_key() == Some(key);
        named.iter().find(is).or(create.as_ref().filter(|_| *kind == StateEventType::RoomCreate)).cloned()
    };
    let of_before = |kind: &StateEventType, key: &str| {
        let look = || {
            let (Some(before), Some(key)) = (before, state::find_key(db, &kind.to_string(), key)?) else { return Ok(None) };
            state::key_of_group(db, before, key)?.map(read).transpose()
        };
        note(look())
    };
    let verdicts = [
        auth::check_references(rules, pdu, by_id),
        auth::check_state(rules, pdu, of_auth),
        before.map_or(Verdict::Accepted, |_| auth::check_state(rules, pdu, of_before)),
        auth::check_state(rules, pdu, current),
    ];
    if let Some(error) = failure.take() {
        return Err(error.into());
    }
    match verdicts.into_iter().find_map(|verdict| if let Verdict::Rejected(why) = verdict { Some(why) } else { None }) {
        Some(why) => Err(EventError::Forbidden(why)),
        None => Ok(()),
    }
}
