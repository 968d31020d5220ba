//! Which events relate to which (`m.relates_to`).

use ruma::EventId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, events::Order};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos, UserNid};

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

/// The newest accepted edit of an event: by the same sender and of the same type, as edits must be.
///
/// # Errors
///
/// Database errors.
pub fn newest_edit(db: &Reader<'_>, room: RoomNid, parent: &EventId, sender: UserNid, kind: &str) -> Result<Option<EventNid>> {
    let mut query = db.prepare_cached(
        "SELECT e.event_nid FROM relations r JOIN events e ON e.event_nid = r.child_nid
         WHERE r.parent_id = ?1 AND r.rel_type = 'm.replace' AND r.room_nid = ?4 AND e.sender_nid = ?2 AND e.type = ?3 AND e.statekey_nid IS NULL
           AND e.rejected IS NULL AND e.soft_failed = 0
         ORDER BY e.origin_server_ts DESC, e.event_id DESC LIMIT 1",
    )?;
    Ok(query.query_row((parent.as_str(), sender.0, kind, room.0), |row| row.get(0).map(EventNid)).optional()?)
}

/// What the root of a thread tells about it: how many replies, the newest of them, whether this user takes part.
///
/// # Errors
///
/// Database errors.
pub fn thread(db: &Reader<'_>, room: RoomNid, root: &EventId, user: UserNid) -> Result<Option<(u64, EventNid, bool)>> {
    let mut query = db.prepare_cached(
        "SELECT count(*), max(e.sender_nid = ?2) FROM relations r JOIN events e ON e.event_nid = r.child_nid
         WHERE r.parent_id = ?1 AND r.rel_type = 'm.thread' AND r.room_nid = ?3 AND e.rejected IS NULL AND e.soft_failed = 0",
    )?;
    let (count, takes_part): (u64, Option<bool>) =
        query.query_row((root.as_str(), user.0, room.0), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut query = db.prepare_cached(
        "SELECT e.event_nid FROM relations r JOIN events e ON e.event_nid = r.child_nid
         WHERE r.parent_id = ?1 AND r.rel_type = 'm.thread' AND r.room_nid = ?2 AND e.rejected IS NULL AND e.soft_failed = 0
           AND e.stream_pos IS NOT NULL
         ORDER BY e.stream_pos DESC LIMIT 1",
    )?;
    let newest = query.query_row((root.as_str(), room.0), |row| row.get(0).map(EventNid)).optional()?;
    Ok(newest.map(|newest| (count, newest, takes_part.unwrap_or(false))))
}

/// The events that refer to an event (`m.reference`), oldest first.
///
/// # Errors
///
/// Database errors.
pub fn references(db: &Reader<'_>, room: RoomNid, parent: &EventId, limit: usize) -> Result<Vec<String>> {
    let mut query = db.prepare_cached(
        "SELECT e.event_id FROM relations r JOIN events e ON e.event_nid = r.child_nid
         WHERE r.parent_id = ?1 AND r.rel_type = 'm.reference' AND r.room_nid = ?3 AND e.rejected IS NULL AND e.soft_failed = 0
         ORDER BY r.child_nid LIMIT ?2",
    )?;
    let rows = query.query_map((parent.as_str(), i64::try_from(limit).unwrap_or(i64::MAX), room.0), |row| row.get(0))?;
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
    let order = match query.order {
        Order::Forwards => "ASC",
        Order::Backwards => "DESC",
    };
    // UNION (not ALL) ends cycles; the depth bounds the rest.
    let mut statement = db.prepare_cached(&format!(
        "WITH RECURSIVE tree (child_nid, event_id, rel_type, depth) AS (
             SELECT r.child_nid, e.event_id, r.rel_type, 1 FROM relations r JOIN events e ON e.event_nid = r.child_nid WHERE r.parent_id = ?1
             UNION SELECT r.child_nid, e.event_id, r.rel_type, tree.depth + 1
             FROM tree JOIN relations r ON r.parent_id = tree.event_id JOIN events e ON e.event_nid = r.child_nid WHERE tree.depth < ?2)
         SELECT DISTINCT e.event_nid, e.stream_pos FROM tree JOIN events e ON e.event_nid = tree.child_nid
         WHERE e.room_nid = ?3 AND e.stream_pos > ?4 AND e.stream_pos <= ?5 AND (?6 IS NULL OR tree.rel_type = ?6) AND (?7 IS NULL OR e.type = ?7)
           AND e.rejected IS NULL AND e.soft_failed = 0
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

/// Roots of a room's threads whose newest reply lies before this position, newest reply first.
///
/// # Errors
///
/// Database errors.
pub fn threads(
    db: &Reader<'_>,
    room: RoomNid,
    participant: Option<UserNid>,
    before: StreamPos,
    limit: usize,
) -> Result<Vec<(EventNid, StreamPos)>> {
    let mut query = db.prepare_cached(
        "SELECT root.event_nid, max(e.stream_pos) AS newest, max(e.sender_nid = ?2) AS takes_part, root.sender_nid
         FROM relations r JOIN events e ON e.event_nid = r.child_nid JOIN events root ON root.event_id = r.parent_id AND root.room_nid = ?1
         WHERE r.room_nid = ?1 AND r.rel_type = 'm.thread' AND e.rejected IS NULL AND e.soft_failed = 0
           AND root.rejected IS NULL AND root.soft_failed = 0 AND root.stream_pos IS NOT NULL
         GROUP BY root.event_nid HAVING newest < ?3 AND (?2 IS NULL OR takes_part OR root.sender_nid = ?2)
         ORDER BY newest DESC LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        query.query_map((room.0, participant.map(|u| u.0), before.0, limit), |row| Ok((EventNid(row.get(0)?), StreamPos(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
