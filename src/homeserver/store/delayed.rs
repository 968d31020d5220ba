//! Events that are sent later (MSC4140).

use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{RoomNid, UserNid};

/// A delayed event.
#[derive(Debug, Clone)]
pub struct Delayed {
    /// Its own ID: who knows it may act on it.
    pub delay_id: String,
    /// The sender.
    pub user: UserNid,
    /// The sender's device.
    pub device_id: String,
    /// The room.
    pub room: RoomNid,
    /// Event type.
    pub kind: String,
    /// State key of a state event.
    pub state_key: Option<String>,
    /// JSON.
    pub content: String,
    /// The client's transaction ID of a message event.
    pub txn_id: Option<String>,
    /// How long it waits, in milliseconds.
    pub delay_ms: i64,
    /// When it began to wait, in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

const COLUMNS: &str = "delay_id, user_nid, device_id, room_nid, type, state_key, content, txn_id, delay_ms, since_ms";

fn read(row: &Row<'_>) -> rusqlite::Result<Delayed> {
    Ok(Delayed {
        delay_id: row.get(0)?,
        user: UserNid(row.get(1)?),
        device_id: row.get(2)?,
        room: RoomNid(row.get(3)?),
        kind: row.get(4)?,
        state_key: row.get(5)?,
        content: row.get(6)?,
        txn_id: row.get(7)?,
        delay_ms: row.get(8)?,
        since_ms: row.get(9)?,
    })
}

/// Adds one.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, new: &Delayed) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO delayed_events (delay_id, user_nid, device_id, room_nid, type, state_key, content, txn_id, delay_ms, since_ms, due_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?9 + ?10)",
    )?
    .execute((
        &new.delay_id,
        new.user.0,
        &new.device_id,
        new.room.0,
        &new.kind,
        &new.state_key,
        &new.content,
        &new.txn_id,
        new.delay_ms,
        new.since_ms,
    ))?;
    Ok(())
}

/// One by its ID.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, delay_id: &str) -> Result<Option<Delayed>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM delayed_events WHERE delay_id = ?1"))?;
    Ok(query.query_row([delay_id], read).optional()?)
}

/// Lets its time begin again.
///
/// # Errors
///
/// Database errors.
pub fn restart(tx: &Tx<'_>, delay_id: &str, now_ms: i64) -> Result<()> {
    tx.prepare_cached("UPDATE delayed_events SET since_ms = ?2, due_ms = ?2 + delay_ms WHERE delay_id = ?1")?
        .execute((delay_id, now_ms))?;
    Ok(())
}

/// Removes one.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, delay_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM delayed_events WHERE delay_id = ?1")?.execute([delay_id])?;
    Ok(())
}

/// Removes those that would overwrite a state that somebody else has set meanwhile.
///
/// # Errors
///
/// Database errors.
pub fn superseded(tx: &Tx<'_>, room: RoomNid, kind: &str, state_key: &str, by: UserNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM delayed_events WHERE room_nid = ?1 AND type = ?2 AND state_key = ?3 AND user_nid <> ?4")?
        .execute((room.0, kind, state_key, by.0))?;
    Ok(())
}

/// A user's, the next one first.
///
/// # Errors
///
/// Database errors.
pub fn of_user(db: &Reader<'_>, user: UserNid) -> Result<Vec<Delayed>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM delayed_events WHERE user_nid = ?1 ORDER BY due_ms"))?;
    let rows = query.query_map([user.0], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many a user has.
///
/// # Errors
///
/// Database errors.
pub fn count(db: &Reader<'_>, user: UserNid) -> Result<i64> {
    let mut query = db.prepare_cached("SELECT count(*) FROM delayed_events WHERE user_nid = ?1")?;
    Ok(query.query_row([user.0], |row| row.get(0))?)
}

/// Those whose time has come.
///
/// # Errors
///
/// Database errors.
pub fn due(db: &Reader<'_>, now_ms: i64, limit: usize) -> Result<Vec<Delayed>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM delayed_events WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2"))?;
    let rows = query.query_map((now_ms, i64::try_from(limit).unwrap_or(i64::MAX)), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the next one is due.
///
/// # Errors
///
/// Database errors.
pub fn next_due(db: &Reader<'_>) -> Result<Option<i64>> {
    let mut query = db.prepare_cached("SELECT min(due_ms) FROM delayed_events")?;
    Ok(query.query_row([], |row| row.get(0))?)
}
