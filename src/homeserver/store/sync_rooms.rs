//! What a sync asks of rooms: which of them concern a user, what changed, and what they look like.
//!
//! Reads only. Each function answers for one consistent snapshot; nothing here decides what a user may see.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedRoomId, OwnedUserId, UserId, events::room::member::MembershipState};
use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, StoreError, rooms};
use crate::homeserver::types::{EventNid, RoomNid, StateKeyNid, StreamPos, UserNid};

/// Gaps of up to this many positions are read in one go; longer ones room by room.
const SHORT_GAP: i64 = 2000;

/// The newest position in this snapshot.
///
/// # Errors
///
/// Database errors.
pub fn position(db: &Reader<'_>) -> Result<StreamPos> {
    let mut query = db.prepare_cached("SELECT value FROM meta WHERE key = 'position'")?;
    Ok(StreamPos(query.query_row([], |row| row.get(0)).optional()?.unwrap_or(0)))
}

/// A user's place in a room.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The room.
    pub room: RoomNid,
    /// The same, on the wire.
    pub room_id: OwnedRoomId,
    /// What the user is to it.
    pub membership: MembershipState,
    /// The membership event.
    pub event: EventNid,
    /// When this became so.
    pub pos: StreamPos,
    /// The user has forgotten the room.
    pub forgotten: bool,
}

const MEMBERSHIP: &str = "SELECT m.room_nid, r.room_id, m.membership, m.event_nid, m.stream_pos, m.forgotten
                          FROM members m JOIN rooms r USING (room_nid)";

fn read_membership(row: &Row<'_>) -> Result<Membership> {
    let (room_id, membership): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(Membership {
        room: RoomNid(row.get(0)?),
        room_id: rooms::parse(&room_id)?,
        membership: membership.into(),
        event: EventNid(row.get(3)?),
        pos: StreamPos(row.get(4)?),
        forgotten: row.get(5)?,
    })
}

/// All rooms that a user has, or had, to do with.
///
/// # Errors
///
/// Database errors.
pub fn memberships(db: &Reader<'_>, user: UserNid) -> Result<HashMap<RoomNid, Membership>> {
    let mut query = db.prepare_cached(&format!("{MEMBERSHIP} WHERE m.user_nid = ?1"))?;
    let mut rows = query.query([user.0])?;
    let mut found = HashMap::new();
    while let Some(row) = rows.next()? {
        let membership = read_membership(row)?;
        found.insert(membership.room, membership);
    }
    Ok(found)
}

/// What a user is to one room.
///
/// # Errors
///
/// Database errors.
pub fn membership(db: &Reader<'_>, user: UserNid, room: RoomNid) -> Result<Option<Membership>> {
    let mut query = db.prepare_cached(&format!("{MEMBERSHIP} WHERE m.user_nid = ?1 AND m.room_nid = ?2"))?;
    query.query_row((user.0, room.0), |row| Ok(read_membership(row))).optional()?.transpose()
}

/// The stripped state that came with an invite or a knock, as a JSON array.
///
/// # Errors
///
/// Database errors.
pub fn invite_state(db: &Reader<'_>, room: RoomNid, user: UserNid) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT invite_state FROM members WHERE room_nid = ?1 AND user_nid = ?2")?;
    Ok(query.query_row((room.0, user.0), |row| row.get(0)).optional()?.flatten())
}

/// One change of a user's membership.
#[derive(Debug, Clone)]
pub struct MembershipChange {
    /// When.
    pub pos: StreamPos,
    /// What it became.
    pub membership: MembershipState,
    /// The event.
    pub event: EventNid,
}

/// The changes of a user's memberships after a position, room by room and in order.
///
/// # Errors
///
/// Database errors.
pub fn membership_changes(db: &Reader<'_>, user: UserNid, after: StreamPos) -> Result<HashMap<RoomNid, Vec<MembershipChange>>> {
    let mut query = db.prepare_cached(
        "SELECT room_nid, stream_pos, membership, event_nid FROM membership_changes
         WHERE user_nid = ?1 AND stream_pos > ?2 ORDER BY stream_pos",
    )?;
    let mut rows = query.query((user.0, after.0))?;
    let mut found: HashMap<RoomNid, Vec<MembershipChange>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let membership: String = row.get(2)?;
        let change = MembershipChange { pos: StreamPos(row.get(1)?), membership: membership.into(), event: EventNid(row.get(3)?) };
        found.entry(RoomNid(row.get(0)?)).or_default().push(change);
    }
    Ok(found)
}

/// SQLite's own choice would be to go through all events of all rooms, in the order of an index that covers the query.
const ROOMS_OF_NEW_EVENTS: &str = "SELECT DISTINCT e.room_nid FROM events e INDEXED BY events_by_pos
                                   CROSS JOIN members m ON m.room_nid = e.room_nid AND m.user_nid = ?1
                                   WHERE e.stream_pos > ?2";

/// Rooms that got events after a position, of those that the user has or had to do with. Every change of state comes with an
/// event, so this is all that can change in a room as such.
///
/// # Errors
///
/// Database errors.
pub fn rooms_with_events(db: &Reader<'_>, user: UserNid, after: StreamPos, now: StreamPos) -> Result<BTreeSet<RoomNid>> {
    // After a short time the few new events are read, after a long one each room is asked.
    let mut query = if now.0 - after.0 <= SHORT_GAP {
        db.prepare_cached(ROOMS_OF_NEW_EVENTS)?
    } else {
        db.prepare_cached(
            "SELECT m.room_nid FROM members m
             WHERE m.user_nid = ?1 AND EXISTS (SELECT 1 FROM events e WHERE e.room_nid = m.room_nid AND e.stream_pos > ?2)",
        )?
    };
    let rows = query.query_map((user.0, after.0), |row| row.get(0).map(RoomNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Position of the newest event that moves a room up in a list sorted by activity.
///
/// # Errors
///
/// Database errors.
pub fn bump_stamp(db: &Reader<'_>, room: RoomNid) -> Result<Option<StreamPos>> {
    // The list of types is the one of the partial index; SQLite uses the index only for the very same text.
    let mut query = db.prepare_cached(
        "SELECT stream_pos FROM events WHERE room_nid = ?1 AND type IN ('m.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker', 'm.call.invite', 'm.poll.start', 'org.matrix.msc3381.poll.start')
         AND stream_pos > 0 AND rejected IS NULL AND soft_failed = 0 ORDER BY stream_pos DESC LIMIT 1",
    )?;
    Ok(query.query_row([room.0], |row| row.get(0)).optional()?.map(StreamPos))
}

/// An entry of a room's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The pair's integer id.
    pub key: StateKeyNid,
    /// Event type.
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// The event that holds; `None` where resolution removed the key.
    pub event: Option<EventNid>,
}

/// The current state, with or without its membership events.
///
/// # Errors
///
/// Database errors.
pub fn current_state(db: &Reader<'_>, room: RoomNid, members: bool) -> Result<Vec<StateEntry>> {
    // CROSS JOIN fixes the order: the room's entries first, not the node's keys.
    let mut query = db.prepare_cached(
        "SELECT k.statekey_nid, k.type, k.state_key, c.event_nid
         FROM current_state c CROSS JOIN state_keys k ON k.statekey_nid = c.statekey_nid
         WHERE c.room_nid = ?1 AND (?2 OR k.type <> 'm.room.member')",
    )?;
    let rows = query.query_map((room.0, members), |row| {
        Ok(StateEntry {
            key: StateKeyNid(row.get(0)?),
            kind: row.get(1)?,
            state_key: row.get(2)?,
            event: row.get::<_, Option<i64>>(3)?.map(EventNid),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The current membership event of one user.
///
/// # Errors
///
/// Database errors.
pub fn member_entry(db: &Reader<'_>, room: RoomNid, user_id: &UserId) -> Result<Option<StateEntry>> {
    let mut query = db.prepare_cached(
        "SELECT k.statekey_nid, c.event_nid FROM state_keys k JOIN current_state c USING (statekey_nid)
         WHERE k.type = 'm.room.member' AND k.state_key = ?2 AND c.room_nid = ?1",
    )?;
    let found: Option<(i64, i64)> = query.query_row((room.0, user_id.as_str()), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.map(|(key, event)| StateEntry {
        key: StateKeyNid(key),
        kind: "m.room.member".to_owned(),
        state_key: user_id.to_string(),
        event: Some(EventNid(event)),
    }))
}

/// How one key of a room's state changed in a stretch of the stream.
#[derive(Debug, Clone)]
pub struct StateChange {
    /// The key and what it pointed to at the end of the stretch.
    pub entry: StateEntry,
    /// What it pointed to before the stretch.
    pub before: Option<EventNid>,
    /// Position of the last change.
    pub pos: StreamPos,
}

/// What changed in a room's state with `after < position <= up_to`.
///
/// # Errors
///
/// Database errors.
pub fn state_changes(db: &Reader<'_>, room: RoomNid, after: StreamPos, up_to: StreamPos) -> Result<BTreeMap<StateKeyNid, StateChange>> {
    let mut query = db.prepare_cached(
        "SELECT s.statekey_nid, k.type, k.state_key, s.event_nid, s.prev_event_nid, s.stream_pos
         FROM state_changes s CROSS JOIN state_keys k ON k.statekey_nid = s.statekey_nid
         WHERE s.room_nid = ?1 AND s.stream_pos > ?2 AND s.stream_pos <= ?3 ORDER BY s.stream_pos",
    )?;
    let mut rows = query.query((room.0, after.0, up_to.0))?;
    let mut found: BTreeMap<StateKeyNid, StateChange> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let key = StateKeyNid(row.get(0)?);
        let event = row.get::<_, Option<i64>>(3)?.map(EventNid);
        let pos = StreamPos(row.get(5)?);
        if let Some(known) = found.get_mut(&key) {
            known.entry.event = event;
            known.pos = pos;
            continue;
        }
        let entry = StateEntry { key, kind: row.get(1)?, state_key: row.get(2)?, event };
        found.insert(key, StateChange { entry, before: row.get::<_, Option<i64>>(4)?.map(EventNid), pos });
    }
    Ok(found)
}

/// How a key of the state changed over time, oldest first: the position and the event from there on.
///
/// # Errors
///
/// Database errors.
pub fn key_history(db: &Reader<'_>, room: RoomNid, kind: &str, state_key: &str) -> Result<Vec<(StreamPos, Option<EventNid>)>> {
    let mut query = db.prepare_cached(
        "SELECT s.stream_pos, s.event_nid FROM state_changes s
         WHERE s.room_nid = ?1 AND s.statekey_nid = (SELECT statekey_nid FROM state_keys WHERE type = ?2 AND state_key = ?3)
         ORDER BY s.stream_pos",
    )?;
    let rows =
        query.query_map((room.0, kind, state_key), |row| Ok((StreamPos(row.get(0)?), row.get::<_, Option<i64>>(1)?.map(EventNid))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Heroes of a room.
const HEROES: u8 = 5;

/// A member after whom a room without a name can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hero {
    /// Who.
    pub user_id: OwnedUserId,
    /// Their name in the room.
    pub displayname: Option<String>,
    /// Their picture in the room.
    pub avatar_url: Option<String>,
}

/// The first five members other than `me`, in the order in which they came: joined and invited ones, or, where there are none, those
/// who have gone (Client-Server API, `m.heroes` of `GET /sync`).
///
/// # Errors
///
/// Database errors.
pub fn heroes(db: &Reader<'_>, room: RoomNid, me: UserNid) -> Result<Vec<Hero>> {
    for memberships in [["join", "invite"], ["leave", "ban"]] {
        let mut found = Vec::new();
        // One after the other, each along the index: large rooms have many members.
        for membership in memberships {
            let mut query = db.prepare_cached(
                "SELECT u.user_id, m.displayname, m.avatar_url, m.stream_pos FROM members m JOIN users u USING (user_nid)
                 WHERE m.room_nid = ?1 AND m.membership = ?2 AND m.user_nid <> ?3 ORDER BY m.stream_pos, m.user_nid LIMIT ?4",
            )?;
            let mut rows = query.query((room.0, membership, me.0, HEROES))?;
            while let Some(row) = rows.next()? {
                let user_id: String = row.get(0)?;
                let user_id = UserId::parse(&user_id).map_err(|e| StoreError::Data(format!("user ID: {e}")))?;
                found.push((row.get::<_, i64>(3)?, Hero { user_id, displayname: row.get(1)?, avatar_url: row.get(2)? }));
            }
        }
        if !found.is_empty() {
            found.sort_by_key(|(pos, _)| *pos);
            return Ok(found.into_iter().map(|(_, hero)| hero).take(usize::from(HEROES)).collect());
        }
    }
    Ok(Vec::new())
}

/// Joined members of a room.
///
/// # Errors
///
/// Database errors.
pub fn joined_members(db: &Reader<'_>, room: RoomNid) -> Result<Vec<UserNid>> {
    let mut query = db.prepare_cached("SELECT user_nid FROM members WHERE room_nid = ?1 AND membership = 'join'")?;
    let rows = query.query_map([room.0], |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::homeserver::store::{Observer, Store};

    /// Queries that every wake-up runs must not grow with the node's history.
    #[tokio::test]
    async fn waking_up_scans_no_table() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {}))).expect("a new store opens");
        for query in [ROOMS_OF_NEW_EVENTS, crate::homeserver::store::receipts::ROOMS_WITH_NEWS] {
            let plan = store.read(move |db| {
                let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {query}"))?;
                let rows = explain.query_map((1, 1), |row| row.get::<_, String>(3))?;
                Ok::<_, StoreError>(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            });
            let plan = plan.await.expect("the query is valid");
            assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{plan:?}");
        }
    }
}
