//! Keys of other servers, and signing keys of ours that are past.

use ruma::ServerName;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its ID, `ed25519:…`.
    pub key_id: String,
    /// Its 32 bytes.
    pub public: Vec<u8>,
    /// Until when what it signs counts, in milliseconds since the Unix epoch.
    pub valid_until_ms: i64,
    /// True for a key in use.
    pub current: bool,
}

/// A server's last answer about its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// When it came, in milliseconds since the Unix epoch.
    pub fetched_ms: i64,
    /// When to ask again, as the server says.
    pub valid_until_ms: i64,
    /// Its JSON as it came.
    pub answer: Vec<u8>,
}

/// A signing key of ours that is past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastKey {
    /// Its ID.
    pub key_id: String,
    /// Its public part.
    pub public: Vec<u8>,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub expired_ms: i64,
}

/// Stores what a server says. Keys that it no longer lists stay, as keys of the past.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, server: &ServerName, keys: &[StoredKey], answer: &StoredAnswer) -> Result<()> {
    tx.prepare_cached("UPDATE server_keys SET current = 0 WHERE server = ?1")?.execute([server.as_str()])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO server_keys (server, key_id, public, valid_until_ms, current) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (server, key_id) DO UPDATE SET
             public = excluded.public, valid_until_ms = excluded.valid_until_ms, current = excluded.current",
    )?;
    for key in keys {
        insert.execute((server.as_str(), &key.key_id, &key.public, key.valid_until_ms, key.current))?;
    }
    tx.prepare_cached("INSERT OR REPLACE INTO server_key_answers (server, fetched_ms, valid_until_ms, answer) VALUES (?1, ?2, ?3, ?4)")?
        .execute((server.as_str(), answer.fetched_ms, answer.valid_until_ms, &answer.answer))?;
    Ok(())
}

/// Stores keys of a server that are not known, as keys of the past.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, server: &ServerName, keys: &[StoredKey]) -> Result<()> {
    let mut insert = tx
        .prepare_cached("INSERT OR IGNORE INTO server_keys (server, key_id, public, valid_until_ms, current) VALUES (?1, ?2, ?3, ?4, 0)")?;
    for key in keys {
        insert.execute((server.as_str(), &key.key_id, &key.public, key.valid_until_ms))?;
    }
    Ok(())
}

/// The keys of a server.
///
/// # Errors
///
/// Database errors.
pub fn keys(db: &Reader<'_>, server: &ServerName) -> Result<Vec<StoredKey>> {
    let mut query = db.prepare_cached("SELECT key_id, public, valid_until_ms, current FROM server_keys WHERE server = ?1")?;
    let rows = query.query_map([server.as_str()], |row| {
        Ok(StoredKey { key_id: row.get(0)?, public: row.get(1)?, valid_until_ms: row.get(2)?, current: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A server's last answer.
///
/// # Errors
///
/// Database errors.
pub fn answer(db: &Reader<'_>, server: &ServerName) -> Result<Option<StoredAnswer>> {
    let mut query = db.prepare_cached("SELECT fetched_ms, valid_until_ms, answer FROM server_key_answers WHERE server = ?1")?;
    let found = query
        .query_row([server.as_str()], |row| Ok(StoredAnswer { fetched_ms: row.get(0)?, valid_until_ms: row.get(1)?, answer: row.get(2)? }));
    Ok(found.optional()?)
}

/// Notes that a key of ours is past.
///
/// # Errors
///
/// Database errors.
pub fn retire(tx: &Tx<'_>, key: &PastKey) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO own_past_keys (key_id, public, expired_ms) VALUES (?1, ?2, ?3)")?.execute((
        &key.key_id,
        &key.public,
        key.expired_ms,
    ))?;
    Ok(())
}

/// Takes that back.
///
/// # Errors
///
/// Database errors.
pub fn reinstate(tx: &Tx<'_>, key_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM own_past_keys WHERE key_id = ?1")?.execute([key_id])?;
    Ok(())
}

/// Keys of ours that are past, the newest first.
///
/// # Errors
///
/// Database errors.
pub fn past(db: &Reader<'_>) -> Result<Vec<PastKey>> {
    let mut query = db.prepare_cached("SELECT key_id, public, expired_ms FROM own_past_keys ORDER BY expired_ms DESC")?;
    let rows = query.query_map([], |row| Ok(PastKey { key_id: row.get(0)?, public: row.get(1)?, expired_ms: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
