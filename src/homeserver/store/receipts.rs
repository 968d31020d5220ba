//! Who has read how far.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{RoomNid, StreamPos, UserNid};

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Room.
    pub room: RoomNid,
    /// Whose.
    pub user: UserNid,
    /// The same, on the wire.
    pub user_id: String,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// Root of the thread, `main`, or empty for an unthreaded receipt.
    pub thread_id: String,
    /// The event that was read last.
    pub event_id: String,
    /// Where it stands.
    pub event_pos: StreamPos,
    /// When it was read.
    pub ts_ms: i64,
}

const COLUMNS: &str = "r.room_nid, r.user_nid, u.user_id, r.kind, r.thread_id, r.event_id, r.event_pos, r.ts_ms";

fn read(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    Ok(Receipt {
        room: RoomNid(row.get(0)?),
        user: UserNid(row.get(1)?),
        user_id: row.get(2)?,
        kind: row.get(3)?,
        thread_id: row.get(4)?,
        event_id: row.get(5)?,
        event_pos: StreamPos(row.get(6)?),
        ts_ms: row.get(7)?,
    })
}

/// Receipts of a room that came after a position (0: all) and that `viewer` may see: private ones are their owner's only.
///
/// # Errors
///
/// Database errors.
pub fn since(db: &Reader<'_>, room: RoomNid, viewer: UserNid, after: StreamPos) -> Result<Vec<Receipt>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM receipts r JOIN users u USING (user_nid)
         WHERE r.room_nid = ?1 AND r.stream_pos > ?2 AND (r.kind <> 'm.read.private' OR r.user_nid = ?3)"
    ))?;
    let rows = query.query_map((room.0, after.0, viewer.0), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The index is named because SQLite would rather go through all receipts.
pub(super) const ROOMS_WITH_NEWS: &str = "SELECT DISTINCT r.room_nid FROM receipts r INDEXED BY receipts_by_pos
    CROSS JOIN members m ON m.room_nid = r.room_nid AND m.user_nid = ?2 AND m.membership = 'join'
    WHERE r.stream_pos > ?1 AND (r.kind <> 'm.read.private' OR r.user_nid = ?2)";

/// Rooms that the user is in with receipts after a position that the user may see.
///
/// # Errors
///
/// Database errors.
pub fn rooms_with_news(db: &Reader<'_>, viewer: UserNid, after: StreamPos) -> Result<BTreeSet<RoomNid>> {
    let mut query = db.prepare_cached(ROOMS_WITH_NEWS)?;
    let rows = query.query_map((after.0, viewer.0), |row| row.get(0).map(RoomNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Rooms in which the user's own receipts moved after a position.
///
/// # Errors
///
/// Database errors.
pub fn own_rooms_since(db: &Reader<'_>, user: UserNid, after: StreamPos) -> Result<Vec<RoomNid>> {
    let mut query = db.prepare_cached("SELECT DISTINCT room_nid FROM receipts WHERE stream_pos > ?1 AND user_nid = ?2")?;
    let rows = query.query_map((after.0, user.0), |row| row.get(0).map(RoomNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The receipt of one kind and thread, if there is one.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, room: RoomNid, user: UserNid, kind: &str, thread_id: &str) -> Result<Option<Receipt>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM receipts r JOIN users u USING (user_nid)
         WHERE r.room_nid = ?1 AND r.user_nid = ?2 AND r.kind = ?3 AND r.thread_id = ?4"
    ))?;
    Ok(query.query_row((room.0, user.0, kind, thread_id), read).optional()?)
}

/// A receipt to store.
#[derive(Debug, Clone)]
pub struct NewReceipt<'a> {
    /// Room.
    pub room: RoomNid,
    /// Whose.
    pub user: UserNid,
    /// `m.read` or `m.read.private`.
    pub kind: &'a str,
    /// Root of the thread, `main`, or empty for an unthreaded receipt.
    pub thread_id: &'a str,
    /// The event that was read last.
    pub event_id: &'a str,
    /// Where it stands.
    pub event_pos: StreamPos,
    /// When it was read.
    pub ts_ms: i64,
}

/// Moves a receipt forward. False where it stands there already, or further on.
///
/// # Errors
///
/// Database errors.
pub fn advance(tx: &mut Tx<'_>, new: &NewReceipt<'_>) -> Result<bool> {
    if get(&tx.reader(), new.room, new.user, new.kind, new.thread_id)?.is_some_and(|old| old.event_pos >= new.event_pos) {
        return Ok(false);
    }
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO receipts (room_nid, user_nid, kind, thread_id, event_id, event_pos, ts_ms, stream_pos)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET event_id = ?5, event_pos = ?6, ts_ms = ?7, stream_pos = ?8",
    )?
    .execute((new.room.0, new.user.0, new.kind, new.thread_id, new.event_id, new.event_pos.0, new.ts_ms, pos.0))?;
    Ok(true)
}

/// A public receipt of a local user, for other servers.
#[derive(Debug, Clone)]
pub struct LocalReceipt {
    /// When it moved.
    pub pos: StreamPos,
    /// Room.
    pub room: RoomNid,
    /// The same, on the wire.
    pub room_id: String,
    /// Whose.
    pub user_id: String,
    /// Root of the thread, `main`, or empty for an unthreaded receipt.
    pub thread_id: String,
    /// The event that was read last.
    pub event_id: String,
    /// When it was read.
    pub ts_ms: i64,
}

/// Public receipts of local users that moved after a position, oldest first.
///
/// # Errors
///
/// Database errors.
pub fn of_locals(db: &Reader<'_>, after: StreamPos, limit: usize) -> Result<Vec<LocalReceipt>> {
    let mut query = db.prepare_cached(
        "SELECT r.stream_pos, r.room_nid, rooms.room_id, u.user_id, r.thread_id, r.event_id, r.ts_ms
         FROM receipts r INDEXED BY receipts_by_pos CROSS JOIN accounts USING (user_nid) JOIN users u USING (user_nid)
         JOIN rooms ON rooms.room_nid = r.room_nid
         WHERE r.stream_pos > ?1 AND r.kind = 'm.read' ORDER BY r.stream_pos LIMIT ?2",
    )?;
    let rows = query.query_map((after.0, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
        Ok(LocalReceipt {
            pos: StreamPos(row.get(0)?),
            room: RoomNid(row.get(1)?),
            room_id: row.get(2)?,
            user_id: row.get(3)?,
            thread_id: row.get(4)?,
            event_id: row.get(5)?,
            ts_ms: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
