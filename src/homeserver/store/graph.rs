//! The two graphs that events form: which follow which, and which authorise which.
//!
//! An event is stored after all events that authorise it, so integer ids go up along every auth edge: walking from high to low
//! meets each event after everything that leads to it, and an auth difference ends where the chains have come together.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ruma::{EventId, OwnedEventId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{EventNid, RoomNid, StateGroupId, StateKeyNid, StreamPos};

fn parse(text: &str) -> Result<OwnedEventId> {
    EventId::parse(text).map_err(|e| StoreError::Data(format!("event ID: {e}")))
}

/// The events that authorise an event.
///
/// # Errors
///
/// Database errors.
pub fn auth_of(db: &Reader<'_>, event: EventNid) -> Result<Vec<EventNid>> {
    let mut query = db.prepare_cached("SELECT auth_nid FROM event_auth WHERE event_nid = ?1")?;
    let rows = query.query_map([event.0], |row| row.get(0).map(EventNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The state events that an event authorises.
fn authorised_by(db: &Reader<'_>, event: EventNid) -> Result<Vec<EventNid>> {
    let mut query = db.prepare_cached("SELECT event_nid FROM auth_edges WHERE auth_nid = ?1 ORDER BY event_nid DESC")?;
    let rows = query.query_map([event.0], |row| row.get(0).map(EventNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All events that authorise these, directly or through others, without these themselves. At most `limit`.
///
/// # Errors
///
/// Database errors.
pub fn auth_chain(db: &Reader<'_>, of: impl IntoIterator<Item = EventNid>, limit: usize) -> Result<BTreeSet<EventNid>> {
    let mut walk = ChainWalk::new(of, limit);
    while walk.step(db, usize::MAX)? {}
    Ok(walk.chain)
}

/// An auth chain on the way: a large one is walked in several steps, so that others can read in between.
#[derive(Debug, Default)]
pub struct ChainWalk {
    /// What has been found.
    pub chain: BTreeSet<EventNid>,
    next: Vec<EventNid>,
    limit: usize,
}

impl ChainWalk {
    /// From these events on, which are no part of it themselves; at most `limit` events.
    #[must_use]
    pub fn new(of: impl IntoIterator<Item = EventNid>, limit: usize) -> Self {
        Self { chain: BTreeSet::new(), next: of.into_iter().collect(), limit }
    }

    /// Goes on, looking at this many events. False when it is at the end.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn step(&mut self, db: &Reader<'_>, events: usize) -> Result<bool> {
        for _ in 0..events {
            let Some(event) = self.next.pop() else { return Ok(false) };
            for auth in auth_of(db, event)? {
                if self.chain.len() < self.limit && self.chain.insert(auth) {
                    self.next.push(auth);
                }
            }
        }
        Ok(!self.next.is_empty())
    }
}

/// Which of several sets lead to an event: one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mask(Vec<u64>);

impl Mask {
    fn none(sets: usize) -> Self {
        Self(vec![0; sets.div_ceil(64)])
    }

    fn add(&mut self, set: usize) {
        if let Some(word) = self.0.get_mut(set / 64) {
            *word |= 1 << (set % 64);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The events that some, but not all, of these sets hold or are authorised by (Room Version 2, "auth difference").
///
/// # Errors
///
/// Database errors.
pub fn auth_difference(db: &Reader<'_>, sets: &[BTreeSet<EventNid>]) -> Result<BTreeSet<EventNid>> {
    let mut waiting: BTreeMap<EventNid, Mask> = BTreeMap::new();
    for (number, set) in sets.iter().enumerate() {
        for event in set {
            waiting.entry(*event).or_insert_with(|| Mask::none(sets.len())).add(number);
        }
    }
    // Entries that not every set leads to: without any, the chains have come together.
    let mut apart = waiting.values().filter(|mask| mask.count() < sets.len()).count();
    let mut found = BTreeSet::new();
    while apart > 0 {
        let Some((event, mask)) = waiting.pop_last() else { break };
        if mask.count() < sets.len() {
            apart -= 1;
            found.insert(event);
        }
        for auth in auth_of(db, event)? {
            let entry = waiting.entry(auth).or_insert_with(|| {
                apart += 1;
                Mask::none(sets.len())
            });
            let before = entry.count();
            entry.merge(&mask);
            if before < sets.len() && entry.count() == sets.len() {
                apart -= 1;
            }
        }
    }
    Ok(found)
}

/// Events looked at before [`leads_to`] gives up.
const MOST_FOLLOWED: usize = 5000;

/// Does this event authorise, directly or through others, an event for which `wanted` holds? It counts as leading to itself.
/// `None` when that would take too long to find out.
///
/// # Errors
///
/// Database errors.
pub fn leads_to(db: &Reader<'_>, event: EventNid, wanted: impl Fn(EventNid) -> Result<bool>) -> Result<Option<bool>> {
    let mut seen = HashSet::from([event]);
    let mut next = vec![event];
    while let Some(event) = next.pop() {
        if wanted(event)? {
            return Ok(Some(true));
        }
        if seen.len() > MOST_FOLLOWED {
            return Ok(None);
        }
        next.extend(authorised_by(db, event)?.into_iter().filter(|follower| seen.insert(*follower)));
    }
    Ok(Some(false))
}

/// Those of `targets` that authorise one of `from`, directly or through others, or are among them.
///
/// # Errors
///
/// Database errors.
pub fn reached(db: &Reader<'_>, from: impl IntoIterator<Item = EventNid>, targets: &BTreeSet<EventNid>) -> Result<BTreeSet<EventNid>> {
    let Some(lowest) = targets.first().copied() else { return Ok(BTreeSet::new()) };
    let mut waiting: BTreeSet<EventNid> = from.into_iter().filter(|event| *event >= lowest).collect();
    let mut found = BTreeSet::new();
    while let Some(event) = waiting.pop_last() {
        if targets.contains(&event) {
            found.insert(event);
            if found.len() == targets.len() {
                break;
            }
        }
        waiting.extend(auth_of(db, event)?.into_iter().filter(|auth| *auth >= lowest));
    }
    Ok(found)
}

/// The events on auth paths between any two of these, with these themselves (room version 12, "conflicted state subgraph").
///
/// # Errors
///
/// Database errors.
pub fn between(db: &Reader<'_>, ends: &BTreeSet<EventNid>) -> Result<BTreeSet<EventNid>> {
    let Some(lowest) = ends.first().copied() else { return Ok(BTreeSet::new()) };
    let mut waiting = ends.clone();
    let mut edges: BTreeMap<EventNid, Vec<EventNid>> = BTreeMap::new();
    while let Some(event) = waiting.pop_last() {
        let auth: Vec<EventNid> = auth_of(db, event)?.into_iter().filter(|auth| *auth >= lowest).collect();
        waiting.extend(auth.iter().copied());
        edges.insert(event, auth);
    }
    // Everything here leads back from one of the ends; what also leads back to one lies between.
    let mut found = ends.clone();
    for (event, auth) in edges {
        if auth.iter().any(|auth| found.contains(auth)) {
            found.insert(event);
        }
    }
    Ok(found)
}

/// True when an event that has its place in the room, and is neither rejected nor soft-failed, follows this one.
///
/// # Errors
///
/// Database errors.
pub fn is_followed(db: &Reader<'_>, event_id: &EventId) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM event_edges g JOIN events e USING (event_nid)
         WHERE g.prev_id = ?1 AND e.stream_pos IS NOT NULL AND e.rejected IS NULL AND e.soft_failed = 0",
    )?;
    Ok(query.exists([event_id.as_str()])?)
}

/// Replaces a room's forward extremities. Writes what changes, not what stays.
///
/// # Errors
///
/// Database errors.
pub fn set_extremities(tx: &Tx<'_>, room: RoomNid, events: &[EventNid]) -> Result<()> {
    let mut query = tx.prepare_cached("SELECT event_nid FROM forward_extremities WHERE room_nid = ?1")?;
    let before: BTreeSet<EventNid> = query.query_map([room.0], |row| row.get(0).map(EventNid))?.collect::<rusqlite::Result<_>>()?;
    let after: BTreeSet<EventNid> = events.iter().copied().collect();
    let mut delete = tx.prepare_cached("DELETE FROM forward_extremities WHERE room_nid = ?1 AND event_nid = ?2")?;
    for event in before.difference(&after) {
        delete.execute((room.0, event.0))?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO forward_extremities (room_nid, event_nid) VALUES (?1, ?2)")?;
    for event in after.difference(&before) {
        insert.execute((room.0, event.0))?;
    }
    Ok(())
}

/// How many events of a room nothing follows yet.
///
/// # Errors
///
/// Database errors.
pub fn extremity_count(db: &Reader<'_>, room: RoomNid) -> Result<usize> {
    let mut query = db.prepare_cached("SELECT count(*) FROM forward_extremities WHERE room_nid = ?1")?;
    let count: i64 = query.query_row([room.0], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The state after an event with a place, where no group has to be made for it.
///
/// # Errors
///
/// Database errors.
pub fn group_after(db: &Reader<'_>, event: EventNid) -> Result<Option<StateGroupId>> {
    let mut query = db.prepare_cached(
        "SELECT CASE WHEN statekey_nid IS NULL OR rejected IS NOT NULL THEN state_before ELSE state_after END FROM events
         WHERE event_nid = ?1 AND state_before IS NOT NULL",
    )?;
    Ok(query.query_row([event.0], |row| row.get::<_, Option<i64>>(0)).optional()?.flatten().map(StateGroupId))
}

/// Events that have no place in a room though events at or before `pos` of the stream follow them: where our knowledge of its
/// history ends. Nearest first, each with the place of the nearest event that follows it.
///
/// # Errors
///
/// Database errors.
pub fn backward_extremities(db: &Reader<'_>, room: RoomNid, pos: StreamPos, limit: usize) -> Result<Vec<(OwnedEventId, StreamPos)>> {
    let mut query = db.prepare_cached(
        "SELECT b.prev_id, max(e.stream_pos) AS nearest FROM backward_edges b JOIN events e USING (event_nid)
         WHERE b.room_nid = ?1 AND e.stream_pos <= ?2 AND e.rejected IS NULL GROUP BY b.prev_id ORDER BY nearest DESC LIMIT ?3",
    )?;
    let mut rows = query.query((room.0, pos.0, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((parse(&row.get::<_, String>(0)?)?, StreamPos(row.get(1)?)));
    }
    Ok(found)
}

/// An event that other servers do not have, or that none of them shows us: asking for it again would not help.
///
/// # Errors
///
/// Database errors.
pub fn give_up(tx: &Tx<'_>, prev_id: &EventId) -> Result<()> {
    tx.prepare_cached("DELETE FROM backward_edges WHERE prev_id = ?1")?.execute([prev_id.as_str()])?;
    Ok(())
}

/// True when the event's place in the graph is known: it is no outlier.
///
/// # Errors
///
/// Database errors.
pub fn has_place(db: &Reader<'_>, event_id: &EventId) -> Result<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND stream_pos IS NOT NULL")?.exists([event_id.as_str()])?)
}

/// What walks and checks need of an event, without its JSON.
#[derive(Debug, Clone)]
pub struct Node {
    /// Integer id.
    pub nid: EventNid,
    /// Its room.
    pub room: RoomNid,
    /// Type and state key of a state event.
    pub state_key: Option<StateKeyNid>,
    /// It has no place in the room.
    pub outlier: bool,
    /// It was rejected.
    pub rejected: bool,
    /// It was soft-failed.
    pub soft_failed: bool,
}

/// An event by its ID, without its JSON.
///
/// # Errors
///
/// Database errors.
pub fn find(db: &Reader<'_>, event_id: &EventId) -> Result<Option<Node>> {
    let mut query = db.prepare_cached(
        "SELECT event_nid, room_nid, statekey_nid, stream_pos IS NULL, rejected IS NOT NULL, soft_failed FROM events WHERE event_id = ?1",
    )?;
    Ok(query
        .query_row([event_id.as_str()], |row| {
            Ok(Node {
                nid: EventNid(row.get(0)?),
                room: RoomNid(row.get(1)?),
                state_key: row.get::<_, Option<i64>>(2)?.map(StateKeyNid),
                outlier: row.get(3)?,
                rejected: row.get(4)?,
                soft_failed: row.get(5)?,
            })
        })
        .optional()?)
}

/// The events that an event follows and that are here.
///
/// # Errors
///
/// Database errors.
pub fn prev_of(db: &Reader<'_>, event: EventNid) -> Result<Vec<EventNid>> {
    let mut query =
        db.prepare_cached("SELECT p.event_nid FROM event_edges g JOIN events p ON p.event_id = g.prev_id WHERE g.event_nid = ?1")?;
    let rows = query.query_map([event.0], |row| row.get(0).map(EventNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
