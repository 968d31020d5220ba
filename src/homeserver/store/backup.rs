//! Key backups: versions and the sessions in them. The sessions are encrypted for their owner.

use rusqlite::OptionalExtension;
use serde_json::Value;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| StoreError::Data(e.to_string()))
}

/// A version of a user's backup.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its number.
    pub version: i64,
    /// How sessions are encrypted.
    pub algorithm: String,
    /// What that algorithm needs.
    pub auth_data: Value,
    /// Changes whenever the sessions do.
    pub etag: i64,
}

/// A session as its owner stored it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// First message that it can decrypt.
    pub first_message_index: i64,
    /// How many hands it went through.
    pub forwarded_count: i64,
    /// Whether the device that gave it was verified.
    pub is_verified: bool,
    /// The encrypted rest.
    pub session_data: Value,
}

/// Which sessions: all, those of a room, or one.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Only of this room.
    pub room_id: Option<String>,
    /// Only this one.
    pub session_id: Option<String>,
}

impl Which {
    /// As SQL, in a form that the primary key serves: a device that backs up asks once per session.
    const fn condition(&self) -> &'static str {
        match (&self.room_id, &self.session_id) {
            (Some(_), Some(_)) => "room_id = ?3 AND session_id = ?4",
            (Some(_), None) => "room_id = ?3 AND ?4 IS NULL",
            _ => "?3 IS NULL AND ?4 IS NULL",
        }
    }
}

/// Creates the next version. Numbers of deleted ones are not given out again.
///
/// # Errors
///
/// Database errors.
pub fn create(tx: &Tx<'_>, user: UserNid, algorithm: &str, auth_data: &Value) -> Result<i64> {
    let version = tx
        .prepare_cached(
            "INSERT INTO backup_versions (user_nid, version, algorithm, auth_data)
             SELECT ?1, coalesce(max(version), 0) + 1, ?2, ?3 FROM backup_versions WHERE user_nid = ?1 RETURNING version",
        )?
        .query_row((user.0, algorithm, auth_data.to_string()), |row| row.get(0))?;
    Ok(version)
}

/// A version, or the newest one. Deleted ones are not found.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, version: Option<i64>) -> Result<Option<Version>> {
    let mut query = db.prepare_cached(
        "SELECT version, algorithm, auth_data, etag FROM backup_versions
         WHERE user_nid = ?1 AND deleted = 0 AND (?2 IS NULL OR version = ?2) ORDER BY version DESC LIMIT 1",
    )?;
    let found: Option<(i64, String, String, i64)> =
        query.query_row((user.0, version), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).optional()?;
    found.map(|(version, algorithm, auth_data, etag)| Ok(Version { version, algorithm, auth_data: parse(&auth_data)?, etag })).transpose()
}

/// Replaces what a version's algorithm needs.
///
/// # Errors
///
/// Database errors.
pub fn set_auth_data(tx: &Tx<'_>, user: UserNid, version: i64, auth_data: &Value) -> Result<()> {
    tx.prepare_cached("UPDATE backup_versions SET auth_data = ?3 WHERE user_nid = ?1 AND version = ?2 AND deleted = 0")?.execute((
        user.0,
        version,
        auth_data.to_string(),
    ))?;
    Ok(())
}

/// Deletes a version with its sessions. False when there is none of that number.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, user: UserNid, version: i64) -> Result<bool> {
    tx.prepare_cached("DELETE FROM backup_sessions WHERE user_nid = ?1 AND version = ?2")?.execute((user.0, version))?;
    let changed = tx
        .prepare_cached("UPDATE backup_versions SET deleted = 1 WHERE user_nid = ?1 AND version = ?2 AND deleted = 0")?
        .execute((user.0, version))?;
    Ok(changed > 0)
}

/// How many sessions a version has.
///
/// # Errors
///
/// Database errors.
pub fn count(db: &Reader<'_>, user: UserNid, version: i64) -> Result<i64> {
    let mut query = db.prepare_cached("SELECT count(*) FROM backup_sessions WHERE user_nid = ?1 AND version = ?2")?;
    Ok(query.query_row((user.0, version), |row| row.get(0))?)
}

/// Sessions as (room, session ID, session), in that order.
///
/// # Errors
///
/// Database errors.
pub fn sessions(db: &Reader<'_>, user: UserNid, version: i64, which: &Which) -> Result<Vec<(String, String, Session)>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data FROM backup_sessions
         WHERE user_nid = ?1 AND version = ?2 AND {}",
        which.condition()
    ))?;
    let mut rows = query.query((user.0, version, &which.room_id, &which.session_id))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let data: String = row.get(5)?;
        let session = Session {
            first_message_index: row.get(2)?,
            forwarded_count: row.get(3)?,
            is_verified: row.get(4)?,
            session_data: parse(&data)?,
        };
        found.push((row.get(0)?, row.get(1)?, session));
    }
    Ok(found)
}

/// Stores a session, replacing one of the same ID.
///
/// # Errors
///
/// Database errors.
pub fn put_session(tx: &Tx<'_>, user: UserNid, version: i64, room_id: &str, session_id: &str, session: &Session) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO backup_sessions
         (user_nid, version, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        user.0,
        version,
        room_id,
        session_id,
        session.first_message_index,
        session.forwarded_count,
        session.is_verified,
        session.session_data.to_string(),
    ))?;
    Ok(())
}

/// Deletes sessions, and says how many.
///
/// # Errors
///
/// Database errors.
pub fn delete_sessions(tx: &Tx<'_>, user: UserNid, version: i64, which: &Which) -> Result<usize> {
    let sql = format!("DELETE FROM backup_sessions WHERE user_nid = ?1 AND version = ?2 AND {}", which.condition());
    let deleted = tx.prepare_cached(&sql)?.execute((user.0, version, &which.room_id, &which.session_id))?;
    Ok(deleted)
}

/// Gives a version a new etag.
///
/// # Errors
///
/// Database errors.
pub fn bump(tx: &Tx<'_>, user: UserNid, version: i64) -> Result<()> {
    tx.prepare_cached("UPDATE backup_versions SET etag = etag + 1 WHERE user_nid = ?1 AND version = ?2")?.execute((user.0, version))?;
    Ok(())
}
