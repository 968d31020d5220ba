//! Which events relate to which (`m.relates_to`).

use ruma::EventId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, events::Order};
use crate::homeserver::types::{EventNid, RoomNid, StateGroupId, StreamPos, UserNid};

/// Notes that an event relates to another.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, room: RoomNid, child: EventNid, parent: &EventId, rel_type: &str, key: Option<&str>) -> Result<()> {
    tx.prepare_cached("INSERT INTO relations (child_nid, room_nid, parent_id, rel_type, key) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        child.0,
        room.0,
        parent.as_str(),
        rel_type,
        key,
    ))?;
    Ok(())
}

/// A redacted event relates to nothing any more.
///
/// # Errors
///
/// Database errors.
pub fn remove(tx: &Tx<'_>, child: EventNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM relations WHERE child_nid = ?1")?.execute([child.0])?;
    Ok(())
}

/// The relation of an event: type and parent.
///
/// # Errors
///
/// Database errors.
pub fn of_child(db: &Reader<'_>, child: EventNid) -> Result<Option<(String, String)>> {
    let mut query = db.prepare_cached("SELECT rel_type, parent_id FROM relations WHERE child_nid = ?1")?;
    Ok(query.query_row([child.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// True when this sender has annotated this event with this key before.
///
/// # Errors
///
/// Database errors.
pub fn annotated(db: &Reader<'_>, parent: &EventId, sender: UserNid, kind: &str, key: &str) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM relations r JOIN events e ON e.event_nid = r.child_nid
         WHERE r.parent_id = ?1 AND r.rel_type = 'm.annotation' AND r.key = ?4 AND e.sender_nid = ?2 AND e.type = ?3
           AND e.rejected IS NULL AND e.soft_failed = 0",
    )?;
    Ok(query.exists((parent.as_str(), sender.0, kind, key))?)
}

/// The relation types that events of the same room have to an event. What other rooms relate to it never counts anywhere here:
/// there, anybody could relate to anything.
///
/// # Errors
///
/// Database errors.
pub fn types(db: &Reader<'_>, room: RoomNid, parent: &EventId) -> Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT DISTINCT rel_type FROM relations WHERE parent_id = ?1 AND room_nid = ?2")?;
    let rows = query.query_map((parent.as_str(), room.0), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Accepted children of the event `?1` in the room `?2` that have a place there.
const CHILDREN: &str = "relations r JOIN events e ON e.event_nid = r.child_nid
    WHERE r.parent_id = ?1 AND r.room_nid = ?2 AND e.rejected IS NULL AND e.soft_failed = 0 AND e.stream_pos IS NOT NULL";

/// Of those, what an [`Audience`] (`?3` to `?6`) is told of.
const SEEN: &str = "(e.stream_pos >= ?3 OR e.state_before * 2 + (e.stream_pos < ?4) IN (SELECT value FROM json_each(?5)))
    AND e.sender_nid NOT IN (SELECT value FROM json_each(?6))";

/// Who is told of relations: what they may not see, and what people say whom they ignore, does not count (Client-Server API,
/// "Aggregations of child events").
#[derive(Debug, Clone)]
pub struct Audience {
    /// They see everything from this place on.
    pub from: StreamPos,
    /// The place of their last join.
    pub last_join: StreamPos,
    /// JSON array of [`Stretch::number`]: where else they see everything.
    pub stretches: String,
    /// JSON array of the integer ids of those whom they ignore.
    pub ignored: String,
}

/// Events that one rule makes visible, or not: same state before them, same side of the viewer's last join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The state before them.
    pub group: StateGroupId,
    /// They lie before the last join.
    pub joined_later: bool,
}

impl Stretch {
    /// The stretch as one number, as [`Audience::stretches`] has it.
    #[must_use]
    pub fn number(self) -> i64 {
        self.group.0 * 2 + i64::from(self.joined_later)
    }
}

/// The stretches in which an event has children, before the place `from`.
///
/// # Errors
///
/// Database errors.
pub fn stretches(db: &Reader<'_>, room: RoomNid, parent: &EventId, from: StreamPos, last_join: StreamPos) -> Result<Vec<Stretch>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT DISTINCT e.state_before, e.stream_pos < ?4 FROM {CHILDREN} AND e.stream_pos < ?3 AND e.state_before IS NOT NULL"
    ))?;
    let rows = query.query_map((parent.as_str(), room.0, from.0, last_join.0), |row| {
        Ok(Stretch { group: StateGroupId(row.get(0)?), joined_later: row.get(1)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The newest edit of an event: by the same sender and of the same type, as edits must be.
///
/// # Errors
///
/// Database errors.
pub fn newest_edit(
    db: &Reader<'_>,
    room: RoomNid,
    parent: &EventId,
    (sender, kind): (UserNid, &str),
    audience: &Audience,
) -> Result<Option<EventNid>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT e.event_nid FROM {CHILDREN} AND {SEEN}
         AND r.rel_type = 'm.replace' AND e.sender_nid = ?7 AND e.type = ?8 AND e.statekey_nid IS NULL
         ORDER BY e.origin_server_ts DESC, e.event_id DESC LIMIT 1"
    ))?;
    let Audience { from, last_join, stretches, ignored } = audience;
    let parameters = rusqlite::params![parent.as_str(), room.0, from.0, last_join.0, stretches, ignored, sender.0, kind];
    Ok(query.query_row(parameters, |row| row.get(0).map(EventNid)).optional()?)
}

/// What the root of a thread tells about it: how many replies, the newest of them, whether this user takes part.
///
/// # Errors
///
/// Database errors.
pub fn thread(db: &Reader<'_>, room: RoomNid, root: &EventId, user: UserNid, audience: &Audience) -> Result<Option<(u64, EventNid, bool)>> {
    let Audience { from, last_join, stretches, ignored } = audience;
    let mut query = db.prepare_cached(&format!(
        "SELECT count(*), max(e.sender_nid = ?7), max(e.stream_pos) FROM {CHILDREN} AND {SEEN} AND r.rel_type = 'm.thread'"
    ))?;
    let parameters = rusqlite::params![root.as_str(), room.0, from.0, last_join.0, stretches, ignored, user.0];
    let (count, takes_part, newest): (u64, Option<bool>, Option<i64>) =
        query.query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let Some(newest) = newest else { return Ok(None) };
    let mut query = db.prepare_cached("SELECT event_nid FROM events WHERE stream_pos = ?1")?;
    let newest = query.query_row([newest], |row| row.get(0).map(EventNid))?;
    Ok(Some((count, newest, takes_part.unwrap_or(false))))
}

/// The events that refer to an event (`m.reference`), oldest first.
///
/// # Errors
///
/// Database errors.
pub fn references(db: &Reader<'_>, room: RoomNid, parent: &EventId, audience: &Audience, limit: usize) -> Result<Vec<String>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT e.event_id FROM {CHILDREN} AND {SEEN} AND r.rel_type = 'm.reference' ORDER BY r.child_nid LIMIT ?7"
    ))?;
    let Audience { from, last_join, stretches, ignored } = audience;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        query.query_map(rusqlite::params![parent.as_str(), room.0, from.0, last_join.0, stretches, ignored, limit], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Which relations to list.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Of events in this room.
    pub room: RoomNid,
    /// To this event.
    pub parent: &'a EventId,
    /// Only this relation type.
    pub rel_type: Option<&'a str>,
    /// Only children of this event type.
    pub kind: Option<&'a str>,
    /// Also what relates to the children, this many levels down (1: the children alone).
    pub depth: u32,
    /// Positions after this one.
    pub after: StreamPos,
    /// Positions up to this one.
    pub up_to: StreamPos,
    /// In this order.
    pub order: Order,
    /// At most this many.
    pub limit: usize,
}

/// Children of an event, with their positions.
///
/// # Errors
///
/// Database errors.
pub fn list(db: &Reader<'_>, query: &Query<'_>) -> Result<Vec<EventNid>> {
    // What an event relates to through others counts only if each of those matches too. UNION (not ALL) ends cycles; the depth
    // bounds the rest.
    const MATCHING: &str = "r.room_nid = ?3 AND e.rejected IS NULL AND e.soft_failed = 0
        AND (?6 IS NULL OR r.rel_type = ?6) AND (?7 IS NULL OR e.type = ?7)";
    let order = match query.order {
        Order::Forwards => "ASC",
        Order::Backwards => "DESC",
    };
    let mut statement = db.prepare_cached(&format!(
        "WITH RECURSIVE tree (child_nid, event_id, depth) AS (
             SELECT r.child_nid, e.event_id, 1 FROM relations r JOIN events e ON e.event_nid = r.child_nid
             WHERE r.parent_id = ?1 AND {MATCHING}
             UNION SELECT r.child_nid, e.event_id, tree.depth + 1
             FROM tree JOIN relations r ON r.parent_id = tree.event_id JOIN events e ON e.event_nid = r.child_nid
             WHERE tree.depth < ?2 AND {MATCHING})
         SELECT DISTINCT e.event_nid, e.stream_pos FROM tree JOIN events e ON e.event_nid = tree.child_nid
         WHERE e.stream_pos > ?4 AND e.stream_pos <= ?5
         ORDER BY e.stream_pos {order} LIMIT ?8"
    ))?;
    let parameters = rusqlite::params![
        query.parent.as_str(),
        query.depth,
        query.room.0,
        query.after.0,
        query.up_to.0,
        query.rel_type,
        query.kind,
        i64::try_from(query.limit).unwrap_or(i64::MAX),
    ];
    let rows = statement.query_map(parameters, |row| row.get(0).map(EventNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Roots of a room's threads whose newest reply lies before a position, newest reply first. Replies after `until`, and those of
/// the `ignored` (JSON array of integer ids), count for nothing.
///
/// # Errors
///
/// Database errors.
pub fn threads(
    db: &Reader<'_>,
    room: RoomNid,
    participant: Option<UserNid>,
    (before, until): (StreamPos, StreamPos),
    ignored: &str,
    limit: usize,
) -> Result<Vec<(EventNid, StreamPos)>> {
    let mut query = db.prepare_cached(
        "SELECT root.event_nid, max(e.stream_pos) AS newest, max(e.sender_nid = ?2) AS takes_part, root.sender_nid
         FROM relations r JOIN events e ON e.event_nid = r.child_nid JOIN events root ON root.event_id = r.parent_id AND root.room_nid = ?1
         WHERE r.room_nid = ?1 AND r.rel_type = 'm.thread' AND e.rejected IS NULL AND e.soft_failed = 0
           AND root.rejected IS NULL AND root.soft_failed = 0 AND root.stream_pos IS NOT NULL
           AND e.stream_pos <= ?5 AND e.sender_nid NOT IN (SELECT value FROM json_each(?6))
         GROUP BY root.event_nid HAVING newest < ?3 AND (?2 IS NULL OR takes_part OR root.sender_nid = ?2)
         ORDER BY newest DESC LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = query.query_map((room.0, participant.map(|u| u.0), before.0, limit, until.0, ignored), |row| {
        Ok((EventNid(row.get(0)?), StreamPos(row.get(1)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
