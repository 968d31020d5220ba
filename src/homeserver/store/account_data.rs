//! What clients keep on the node for a user, as a whole and room by room.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;
use serde::Deserialize;

use super::{Reader, Result, Tx};
use crate::homeserver::types::{RoomNid, StreamPos, UserNid};

/// The room id of what belongs to no room.
const GLOBAL: i64 = 0;

/// One piece of account data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountData {
    /// The room that it belongs to, if to one.
    pub room: Option<RoomNid>,
    /// Event type.
    pub kind: String,
    /// JSON.
    pub content: String,
}

fn column(room: Option<RoomNid>) -> i64 {
    room.map_or(GLOBAL, |room| room.0)
}

/// The content of one piece.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, room: Option<RoomNid>, kind: &str) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT content FROM account_data WHERE user_nid = ?1 AND room_nid = ?2 AND type = ?3")?;
    Ok(query.query_row((user.0, column(room), kind), |row| row.get(0)).optional()?)
}

/// Users whose messages and invites a user does not want to see (`m.ignored_user_list`). What a client has stored there may have
/// any form; then nobody is ignored.
///
/// # Errors
///
/// Database errors.
pub fn ignored_users(db: &Reader<'_>, user: UserNid) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: serde_json::Map<String, serde_json::Value>,
    }
    let Some(json) = get(db, user, None, "m.ignored_user_list")? else { return Ok(BTreeSet::new()) };
    Ok(serde_json::from_str::<Content>(&json).map(|c| c.ignored_users.into_iter().map(|(user, _)| user).collect()).unwrap_or_default())
}

/// Stores one piece, in place of what was there.
///
/// # Errors
///
/// Database errors.
pub fn set(tx: &mut Tx<'_>, user: UserNid, room: Option<RoomNid>, kind: &str, content: &str) -> Result<()> {
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO account_data (user_nid, room_nid, type, content, stream_pos) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET content = ?4, stream_pos = ?5",
    )?
    .execute((user.0, column(room), kind, content, pos.0))?;
    tx.touch(user);
    Ok(())
}

/// One kind of account data of all rooms that have it.
///
/// # Errors
///
/// Database errors.
pub fn of_kind(db: &Reader<'_>, user: UserNid, kind: &str) -> Result<Vec<AccountData>> {
    let mut query =
        db.prepare_cached("SELECT room_nid, type, content FROM account_data WHERE user_nid = ?1 AND room_nid <> 0 AND type = ?2")?;
    let rows = query
        .query_map((user.0, kind), |row| Ok(AccountData { room: Some(RoomNid(row.get(0)?)), kind: row.get(1)?, content: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What was set after a position; everything for position 0.
///
/// # Errors
///
/// Database errors.
pub fn since(db: &Reader<'_>, user: UserNid, after: StreamPos) -> Result<Vec<AccountData>> {
    let mut query =
        db.prepare_cached("SELECT room_nid, type, content FROM account_data WHERE user_nid = ?1 AND stream_pos > ?2 ORDER BY stream_pos")?;
    let rows = query.query_map((user.0, after.0), |row| {
        let room: i64 = row.get(0)?;
        Ok(AccountData { room: (room != GLOBAL).then_some(RoomNid(room)), kind: row.get(1)?, content: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All pieces that belong to no room.
///
/// # Errors
///
/// Database errors.
pub fn global(db: &Reader<'_>, user: UserNid) -> Result<Vec<AccountData>> {
    let mut query = db.prepare_cached("SELECT type, content FROM account_data WHERE user_nid = ?1 AND room_nid = ?2")?;
    let rows = query.query_map((user.0, GLOBAL), |row| Ok(AccountData { room: None, kind: row.get(0)?, content: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All pieces that belong to one room.
///
/// # Errors
///
/// Database errors.
pub fn of_room(db: &Reader<'_>, user: UserNid, room: RoomNid) -> Result<Vec<AccountData>> {
    let mut query = db.prepare_cached("SELECT type, content FROM account_data WHERE user_nid = ?1 AND room_nid = ?2")?;
    let rows = query.query_map((user.0, room.0), |row| Ok(AccountData { room: Some(room), kind: row.get(0)?, content: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
