//! Rooms: identity, version, current state group, directory listing.

use ruma::{OwnedRoomId, RoomId, RoomVersionId};
use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{RoomHandle, RoomNid, StateGroupId};

/// Adds a room, published or not.
///
/// # Errors
///
/// Database errors; [`StoreError::Data`] for a version without rules.
pub fn create(tx: &Tx<'_>, room_id: &RoomId, version: &RoomVersionId, now_ms: u64) -> Result<RoomHandle> {
    let mut insert = tx.prepare_cached("INSERT INTO rooms (room_id, version, created_ms) VALUES (?1, ?2, ?3)")?;
    insert.execute((room_id.as_str(), version.as_str(), i64::try_from(now_ms).unwrap_or(i64::MAX)))?;
    handle(RoomNid(tx.last_insert_rowid()), room_id.to_owned(), version.as_str())
}

fn handle(nid: RoomNid, room_id: OwnedRoomId, version: &str) -> Result<RoomHandle> {
    let version = RoomVersionId::try_from(version).map_err(|e| StoreError::Data(format!("room version: {e}")))?;
    let rules = version.rules().ok_or_else(|| StoreError::Data(format!("room version {version} has no rules")))?;
    Ok(RoomHandle { nid, room_id, version, rules })
}

type RawHandle = (i64, String, String);

fn raw(row: &Row<'_>) -> rusqlite::Result<RawHandle> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn finish((nid, room_id, version): RawHandle) -> Result<RoomHandle> {
    handle(RoomNid(nid), parse(&room_id)?, &version)
}

/// Reads a room ID that the store holds.
pub(super) fn parse(text: &str) -> Result<OwnedRoomId> {
    RoomId::parse(text).map_err(|e| StoreError::Data(format!("room ID: {e}")))
}

/// A room by its ID.
///
/// # Errors
///
/// Database errors.
pub fn by_id(db: &Reader<'_>, room_id: &RoomId) -> Result<Option<RoomHandle>> {
    let mut query = db.prepare_cached("SELECT room_nid, room_id, version FROM rooms WHERE room_id = ?1")?;
    query.query_row([room_id.as_str()], raw).optional()?.map(finish).transpose()
}

/// A room by its integer id.
///
/// # Errors
///
/// Database errors.
pub fn by_nid(db: &Reader<'_>, room: RoomNid) -> Result<RoomHandle> {
    let mut query = db.prepare_cached("SELECT room_nid, room_id, version FROM rooms WHERE room_nid = ?1")?;
    finish(query.query_row([room.0], raw)?)
}

/// Corrects the version of a room of which there is only what others have claimed: no state, and no event in a place. Of any other
/// room the version stays.
///
/// # Errors
///
/// Database errors; [`StoreError::Data`] for a version without rules.
pub fn correct_version(tx: &Tx<'_>, room: RoomHandle, version: &RoomVersionId) -> Result<RoomHandle> {
    if room.version == *version {
        return Ok(room);
    }
    let mut update = tx.prepare_cached(
        "UPDATE rooms SET version = ?2 WHERE room_nid = ?1 AND current_group IS NULL
         AND NOT EXISTS (SELECT 1 FROM events e WHERE e.room_nid = ?1 AND e.stream_pos IS NOT NULL)",
    )?;
    match update.execute((room.nid.0, version.as_str()))? {
        0 => Ok(room),
        _ => handle(room.nid, room.room_id, version.as_str()),
    }
}

/// The state group of the current state; `None` before the create event is stored.
///
/// # Errors
///
/// Database errors.
pub fn current_group(db: &Reader<'_>, room: RoomNid) -> Result<Option<StateGroupId>> {
    let mut query = db.prepare_cached("SELECT current_group FROM rooms WHERE room_nid = ?1")?;
    Ok(query.query_row([room.0], |row| row.get::<_, Option<i64>>(0))?.map(StateGroupId))
}

/// Makes a state group the current one.
///
/// # Errors
///
/// Database errors.
pub fn set_current_group(tx: &Tx<'_>, room: RoomNid, group: StateGroupId) -> Result<()> {
    tx.prepare_cached("UPDATE rooms SET current_group = ?2 WHERE room_nid = ?1")?.execute((room.0, group.0))?;
    Ok(())
}

/// True for a room that the directory lists.
///
/// # Errors
///
/// Database errors.
pub fn published(db: &Reader<'_>, room: RoomNid) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT published FROM rooms WHERE room_nid = ?1")?;
    Ok(query.query_row([room.0], |row| row.get(0))?)
}

/// Lists a room in the directory, or takes it out.
///
/// # Errors
///
/// Database errors.
pub fn set_published(tx: &Tx<'_>, room: RoomNid, published: bool) -> Result<()> {
    tx.prepare_cached("UPDATE rooms SET published = ?2 WHERE room_nid = ?1")?.execute((room.0, published))?;
    Ok(())
}

/// Published rooms with their joined members, most members first.
///
/// # Errors
///
/// Database errors.
pub fn all_published(db: &Reader<'_>) -> Result<Vec<(RoomNid, u64)>> {
    let mut query = db.prepare_cached(
        "SELECT r.room_nid, (SELECT count(*) FROM members m WHERE m.room_nid = r.room_nid AND m.membership = 'join') AS joined
         FROM rooms r WHERE r.published = 1 ORDER BY joined DESC, r.room_nid",
    )?;
    let rows = query.query_map([], |row| Ok((RoomNid(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
