//! What other servers may read of our rooms: events, states, histories (Server-Server API, "Retrieving events", "Backfilling and
//! retrieving missing events", "Authorization rules").
//!
//! Every function answers one server: it has to have a user in the room, the room's ACL has to let it, and each event has to be
//! visible to it by the room's history visibility at that event. What it may not see is left out, or redacted where its place
//! in the graph has to stay.

use std::{
    cell::RefCell,
    collections::{BinaryHeap, HashMap, HashSet},
};

use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde::Deserialize;

use super::ingest::acl_allows;
use crate::homeserver::{
    events::{EventError, Result},
    rooms::{build, format, redact::prune},
    store::{
        Reader,
        events::{self, Order, StoredEvent},
        graph, rooms, servers, state,
    },
    types::{EventNid, RoomHandle, StateGroupId},
};

/// Events that one answer holds at most, whatever is asked for.
const MOST_EVENTS: usize = 100;
/// Events that one question walks over at most, whether they can be shown or not.
const MOST_WALKED: usize = 1000;
/// Auth chains end here; no room that works has longer ones.
const MOST_AUTH: usize = 200_000;
/// Events looked at for one time.
const MOST_BY_TIME: usize = 200;

/// A room that this server may read.
///
/// # Errors
///
/// [`EventError::NotFound`] for a room that is not here; [`EventError::Forbidden`] for a server without users in it, or one that
/// its ACL keeps out.
pub fn enter(db: &Reader<'_>, room_id: &RoomId, origin: &ServerName) -> Result<RoomHandle> {
    let room = rooms::by_id(db, room_id)?.ok_or_else(|| EventError::NotFound("This server does not know that room".into()))?;
    if !servers::is_in_room(db, room.nid, origin)? {
        return Err(EventError::Forbidden("Your server has no users in that room".into()));
    }
    if !acl_allows(db, &room, origin)? {
        return Err(EventError::Forbidden("The room's access list keeps your server out".into()));
    }
    Ok(room)
}

fn not_found() -> EventError {
    EventError::NotFound("There is no such event, or your server may not see it".into())
}

/// An event that this server may see, or the reason why not.
fn visible_event(db: &Reader<'_>, room: &RoomHandle, origin: &ServerName, event_id: &EventId) -> Result<StoredEvent> {
    let event = events::by_id(db, event_id)?.filter(|event| event.room == room.nid && event.rejected.is_none()).ok_or_else(not_found)?;
    if Visibility::new(db, room, origin).shows(&event)? { Ok(event) } else { Err(not_found()) }
}

/// `GET /_matrix/federation/v1/event/{eventId}`
///
/// # Errors
///
/// [`EventError`].
pub fn event(db: &Reader<'_>, origin: &ServerName, event_id: &EventId) -> Result<String> {
    let event = events::by_id(db, event_id)?.ok_or_else(not_found)?;
    let room = rooms::by_nid(db, event.room)?;
    // Which room an event is of is nobody else's business: the answer is the same as for one that does not exist.
    let room = enter(db, &room.room_id, origin).map_err(|_| not_found())?;
    Ok(visible_event(db, &room, origin, event_id)?.json)
}

/// Events that a job looks at on the way through an auth chain.
const STEP: usize = 10_000;

/// A whole state and what authorises it, or an event's auth chain, by number: of a large room that is a lot, and is worked out a
/// piece at a time.
#[derive(Debug, Default)]
pub struct Whole {
    /// The state's events.
    pub state: Vec<EventNid>,
    walk: graph::ChainWalk,
    /// From room version 12 on the create event authorises without being named.
    create: Option<EventNid>,
}

impl Whole {
    fn new(db: &Reader<'_>, room: &RoomHandle, state: Vec<EventNid>, of: impl IntoIterator<Item = EventNid>) -> Result<Self> {
        let create = match room.rules.authorization.room_create_event_id_as_room_id {
            true => state::current(db, room.nid, "m.room.create", "")?,
            false => None,
        };
        Ok(Self { state, walk: graph::ChainWalk::new(of, MOST_AUTH), create })
    }

    /// Goes on. False when it is complete.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn step(&mut self, db: &Reader<'_>) -> Result<bool> {
        Ok(self.walk.step(db, STEP)?)
    }

    /// What authorises the state or the event.
    #[must_use]
    pub fn chain(mut self) -> (Vec<EventNid>, Vec<EventNid>) {
        self.walk.chain.extend(self.create);
        (self.state, self.walk.chain.into_iter().collect())
    }

    #[cfg(test)]
    fn complete(mut self, db: &Reader<'_>) -> Result<(Vec<EventNid>, Vec<EventNid>)> {
        while self.step(db)? {}
        Ok(self.chain())
    }
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`: to be stepped through.
///
/// # Errors
///
/// [`EventError`].
pub fn whole_auth(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Whole> {
    let room = enter(db, room_id, origin)?;
    let event = visible_event(db, &room, origin, event_id)?;
    Whole::new(db, &room, Vec::new(), [event.nid])
}

/// `GET /_matrix/federation/v1/state/{roomId}` and `state_ids`: the state before an event, and what authorises it; to be stepped
/// through.
///
/// # Errors
///
/// [`EventError`].
pub fn whole_state(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Whole> {
    let room = enter(db, room_id, origin)?;
    let event = visible_event(db, &room, origin, event_id)?;
    let group = event.state_before.ok_or_else(not_found)?;
    let state: Vec<EventNid> = state::of_group(db, group)?.into_values().collect();
    Whole::new(db, &room, state.clone(), state)
}

/// The IDs of events.
///
/// # Errors
///
/// Store errors.
pub fn ids(db: &Reader<'_>, nids: &[EventNid]) -> Result<Vec<OwnedEventId>> {
    nids.iter().map(|nid| Ok(events::id_of(db, *nid)?)).collect()
}

#[cfg(test)]
fn texts(db: &Reader<'_>, nids: &[EventNid]) -> Result<Vec<String>> {
    nids.iter().map(|nid| Ok(events::by_nid(db, *nid)?.json)).collect()
}

/// All of [`whole_auth`] at once, as events.
#[cfg(test)]
pub fn event_auth(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<Vec<String>> {
    texts(db, &whole_auth(db, origin, room_id, event_id)?.complete(db)?.1)
}

/// All of [`whole_state`] at once, as IDs.
#[cfg(test)]
pub fn state_ids(
    db: &Reader<'_>,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<(Vec<OwnedEventId>, Vec<OwnedEventId>)> {
    let (state, chain) = whole_state(db, origin, room_id, event_id)?.complete(db)?;
    Ok((ids(db, &state)?, ids(db, &chain)?))
}

/// The same, as events.
#[cfg(test)]
pub fn state(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<(Vec<String>, Vec<String>)> {
    let (state, chain) = whole_state(db, origin, room_id, event_id)?.complete(db)?;
    Ok((texts(db, &state)?, texts(db, &chain)?))
}

/// What is asked of [`missing_events`].
#[derive(Debug)]
pub struct Missing<'a> {
    /// What the asker has.
    pub earliest: &'a [OwnedEventId],
    /// What it wants to know the predecessors of.
    pub latest: &'a [OwnedEventId],
    /// At most so many.
    pub limit: usize,
    /// None that are less deep.
    pub min_depth: i64,
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`: oldest first.
///
/// # Errors
///
/// [`EventError`].
pub fn missing_events(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, asked: &Missing<'_>) -> Result<Vec<String>> {
    let room = enter(db, room_id, origin)?;
    let mut walk = Walk { seen: asked.earliest.iter().chain(asked.latest).cloned().collect(), next: BinaryHeap::new() };
    for id in asked.latest.iter().take(MOST_EVENTS) {
        if let Some(event) = events::by_id(db, id)?.filter(|event| event.room == room.nid) {
            walk.follow(db, &room, &event)?;
        }
    }
    let mut found = walk.collect(db, &room, origin, asked.limit.min(MOST_EVENTS), asked.min_depth)?;
    found.reverse();
    Ok(found)
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`: these events and those before them, newest first.
///
/// # Errors
///
/// [`EventError`].
pub fn backfill(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, from: &[OwnedEventId], limit: usize) -> Result<Vec<String>> {
    let room = enter(db, room_id, origin)?;
    let mut walk = Walk { seen: HashSet::new(), next: BinaryHeap::new() };
    for id in from.iter().take(MOST_EVENTS) {
        walk.add(db, &room, id)?;
    }
    walk.collect(db, &room, origin, limit.min(MOST_EVENTS), i64::MIN)
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`: the event's ID and time.
///
/// # Errors
///
/// [`EventError`].
pub fn timestamp_to_event(db: &Reader<'_>, origin: &ServerName, room_id: &RoomId, ts_ms: i64, order: Order) -> Result<(OwnedEventId, i64)> {
    let room = enter(db, room_id, origin)?;
    let visibility = Visibility::new(db, &room, origin);
    for event in events::closest(db, room.nid, ts_ms, order, MOST_BY_TIME)? {
        if visibility.shows(&event)? {
            return Ok((event.event_id, event.origin_server_ts));
        }
    }
    Err(EventError::NotFound("There is no event on that side of that time".into()))
}

/// Goes back through a room's graph, the deepest event first.
struct Walk {
    seen: HashSet<OwnedEventId>,
    next: BinaryHeap<(i64, EventNid)>,
}

impl Walk {
    fn add(&mut self, db: &Reader<'_>, room: &RoomHandle, id: &EventId) -> Result<()> {
        if self.seen.insert(id.to_owned())
            && let Some(event) = events::by_id(db, id)?.filter(|event| event.room == room.nid && event.pos.is_some())
        {
            self.next.push((event.depth, event.nid));
        }
        Ok(())
    }

    fn follow(&mut self, db: &Reader<'_>, room: &RoomHandle, event: &StoredEvent) -> Result<()> {
        for nid in graph::prev_of(db, event.nid)? {
            let id = events::id_of(db, nid)?;
            self.add(db, room, &id)?;
        }
        Ok(())
    }

    fn collect(&mut self, db: &Reader<'_>, room: &RoomHandle, origin: &ServerName, limit: usize, min_depth: i64) -> Result<Vec<String>> {
        let visibility = Visibility::new(db, room, origin);
        let (mut found, mut walked) = (Vec::new(), 0);
        while let Some((depth, nid)) = self.next.pop() {
            walked += 1;
            if found.len() >= limit || walked > MOST_WALKED {
                break;
            }
            if depth < min_depth {
                continue;
            }
            let event = events::by_nid(db, nid)?;
            self.follow(db, room, &event)?;
            // Rejected events are not passed on.
            if event.rejected.is_none() {
                found.push(if visibility.shows(&event)? { event.json } else { redacted(room, &event)? });
            }
        }
        Ok(found)
    }
}

fn redacted(room: &RoomHandle, event: &StoredEvent) -> Result<String> {
    let pruned = prune(event.pdu(&room.rules)?.json(), &room.rules.redaction).map_err(EventError::Internal)?;
    Ok(build::canonical(&pruned)?)
}

/// What a server may see of a room's events: what one of its users might have seen.
struct Visibility<'a, 'db> {
    db: &'a Reader<'db>,
    room: &'a RoomHandle,
    origin: &'a ServerName,
    /// By state group, because runs of events share one.
    seen: RefCell<HashMap<StateGroupId, bool>>,
}

#[derive(Deserialize)]
struct Setting {
    #[serde(default)]
    history_visibility: Option<String>,
}

#[derive(Deserialize)]
struct Membership {
    #[serde(default)]
    membership: Option<String>,
}

impl<'a, 'db> Visibility<'a, 'db> {
    fn new(db: &'a Reader<'db>, room: &'a RoomHandle, origin: &'a ServerName) -> Self {
        Self { db, room, origin, seen: RefCell::default() }
    }

    fn shows(&self, event: &StoredEvent) -> Result<bool> {
        let Some(group) = event.state_before else {
            // An outlier is state, or what authorises it. What a room is about, others may have been told at a time when the asker
            // was not in it: without a place in the room nobody can say.
            return self.is_agreed_on(event);
        };
        if self.is_agreed_on(event)? {
            return Ok(true);
        }
        if let Some(known) = self.seen.borrow().get(&group) {
            return Ok(*known);
        }
        let shown = self.at(group)?;
        self.seen.borrow_mut().insert(group, shown);
        Ok(shown)
    }

    /// Is it of what everybody in the room has to agree on: the current state, and what may be in an auth chain?
    fn is_agreed_on(&self, event: &StoredEvent) -> Result<bool> {
        const AUTHORISING: [&str; 5] =
            ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.third_party_invite"];
        let Some(key) = event.state_key else { return Ok(false) };
        let (kind, state_key) = state::key(self.db, key)?;
        Ok(AUTHORISING.contains(&kind.as_str()) || state::current(self.db, self.room.nid, &kind, &state_key)? == Some(event.nid))
    }

    fn at(&self, group: StateGroupId) -> Result<bool> {
        let setting = match state::find_key(self.db, "m.room.history_visibility", "")? {
            Some(key) => self.field::<Setting>(state::key_of_group(self.db, group, key)?)?.and_then(|s| s.history_visibility),
            None => None,
        };
        let invited = match setting.as_deref() {
            Some("joined") => false,
            Some("invited") => true,
            // `shared` is for whoever is in the room now, which this server is.
            _ => return Ok(true),
        };
        for key in state::member_keys_of_server(self.db, self.room.nid, self.origin)? {
            let member = self.field::<Membership>(state::key_of_group(self.db, group, key)?)?.and_then(|m| m.membership);
            match member.as_deref() {
                Some("join") => return Ok(true),
                Some("invite") if invited => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    fn field<T: for<'de> Deserialize<'de>>(&self, event: Option<EventNid>) -> Result<Option<T>> {
        let Some(nid) = event else { return Ok(None) };
        let content = format::content(&events::by_nid(self.db, nid)?.json).map_err(|e| EventError::Internal(e.to_string()))?;
        Ok(serde_json::from_str(content.get()).ok())
    }
}
