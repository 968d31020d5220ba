//! Local room aliases.

use ruma::{OwnedRoomAliasId, RoomAliasId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{RoomNid, UserNid};

/// The room behind a local alias, and who made the alias.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, alias: &RoomAliasId) -> Result<Option<(RoomNid, UserNid)>> {
    let mut query = db.prepare_cached("SELECT room_nid, creator_nid FROM aliases WHERE alias = ?1")?;
    Ok(query.query_row([alias.as_str()], |row| Ok((RoomNid(row.get(0)?), UserNid(row.get(1)?)))).optional()?)
}

/// Adds an alias. False when it is taken.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, alias: &RoomAliasId, room: RoomNid, creator: UserNid) -> Result<bool> {
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO aliases (alias, room_nid, creator_nid) VALUES (?1, ?2, ?3)")?;
    Ok(insert.execute((alias.as_str(), room.0, creator.0))? > 0)
}

/// Removes an alias.
///
/// # Errors
///
/// Database errors.
pub fn remove(tx: &Tx<'_>, alias: &RoomAliasId) -> Result<()> {
    tx.prepare_cached("DELETE FROM aliases WHERE alias = ?1")?.execute([alias.as_str()])?;
    Ok(())
}

/// Points all of a room's aliases to another room.
///
/// # Errors
///
/// Database errors.
pub fn move_all(tx: &Tx<'_>, from: RoomNid, to: RoomNid) -> Result<()> {
    tx.prepare_cached("UPDATE aliases SET room_nid = ?2 WHERE room_nid = ?1")?.execute((from.0, to.0))?;
    Ok(())
}

/// The local aliases of a room.
///
/// # Errors
///
/// Database errors.
pub fn of_room(db: &Reader<'_>, room: RoomNid) -> Result<Vec<OwnedRoomAliasId>> {
    let mut query = db.prepare_cached("SELECT alias FROM aliases WHERE room_nid = ?1 ORDER BY alias")?;
    let mut rows = query.query([room.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let alias: String = row.get(0)?;
        found.push(RoomAliasId::parse(&alias).map_err(|e| StoreError::Data(format!("alias: {e}")))?);
    }
    Ok(found)
}
