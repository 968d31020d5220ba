//! What is known of media files. The bytes are files in the data directory.

use std::collections::{BTreeSet, HashSet};

use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{EventNid, UserNid};

/// A media file, or the place of one that is still to come.
#[derive(Debug, Clone)]
pub struct Media {
    /// Its ID.
    pub media_id: String,
    /// Who uploaded or will upload it.
    pub owner: Option<UserNid>,
    /// What the uploader says that it is.
    pub content_type: Option<String>,
    /// What the uploader called it.
    pub filename: Option<String>,
    /// Its size; `None` when it has not been uploaded yet.
    pub size_bytes: Option<i64>,
    /// When it was uploaded, or its place made.
    pub created_ms: i64,
    /// When somebody last got it.
    pub used_ms: Option<i64>,
}

/// Looks a media ID up.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, media_id: &str) -> Result<Option<Media>> {
    let mut query = db.prepare_cached(
        "SELECT media_id, user_nid, content_type, filename, size_bytes, created_ms, used_ms FROM media WHERE media_id = ?1",
    )?;
    Ok(query.query_row([media_id], read).optional()?)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Media> {
    Ok(Media {
        media_id: row.get(0)?,
        owner: row.get::<_, Option<i64>>(1)?.map(UserNid),
        content_type: row.get(2)?,
        filename: row.get(3)?,
        size_bytes: row.get(4)?,
        created_ms: row.get(5)?,
        used_ms: row.get(6)?,
    })
}

/// Bytes of one user's files, and of all.
///
/// # Errors
///
/// Database errors.
pub fn usage(db: &Reader<'_>, owner: UserNid) -> Result<(u64, u64)> {
    let mut own = db.prepare_cached("SELECT coalesce(sum(size_bytes), 0) FROM media WHERE user_nid = ?1")?;
    let mut all = db.prepare_cached("SELECT coalesce(sum(size_bytes), 0) FROM media")?;
    let bytes = |sum: i64| u64::try_from(sum).unwrap_or(0);
    Ok((bytes(own.query_row([owner.0], |row| row.get(0))?), bytes(all.query_row([], |row| row.get(0))?)))
}

/// Notes that somebody got a file.
///
/// # Errors
///
/// Database errors.
pub fn used(tx: &Tx<'_>, media_id: &str, now_ms: i64) -> Result<()> {
    tx.prepare_cached("UPDATE media SET used_ms = ?2 WHERE media_id = ?1")?.execute((media_id, now_ms))?;
    Ok(())
}

/// Files uploaded before `before_ms`, or that nobody got since `unused_since_ms`, in the order of their IDs.
///
/// # Errors
///
/// Database errors.
pub fn stale(db: &Reader<'_>, before_ms: i64, unused_since_ms: i64, after: &str, limit: usize) -> Result<Vec<String>> {
    let mut query = db.prepare_cached(
        "SELECT media_id FROM media WHERE media_id > ?3 AND size_bytes IS NOT NULL
           AND (created_ms < ?1 OR max(created_ms, coalesce(used_ms, 0)) < ?2) ORDER BY media_id LIMIT ?4",
    )?;
    let rows = query.query_map((before_ms, unused_since_ms, after, i64::try_from(limit).unwrap_or(i64::MAX)), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A user's files, newest first.
///
/// # Errors
///
/// Database errors.
pub fn of_user(db: &Reader<'_>, owner: UserNid, skip: usize, limit: usize) -> Result<Vec<Media>> {
    let mut query = db.prepare_cached(
        "SELECT media_id, user_nid, content_type, filename, size_bytes, created_ms, used_ms FROM media
         WHERE user_nid = ?1 AND size_bytes IS NOT NULL ORDER BY created_ms DESC, media_id LIMIT ?3 OFFSET ?2",
    )?;
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let rows = query.query_map((owner.0, number(skip), number(limit)), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Pictures of people and rooms, as `mxc:` URIs: clients keep them for long, so that they seem unused.
///
/// # Errors
///
/// Database errors.
pub fn pictures(db: &Reader<'_>) -> Result<BTreeSet<String>> {
    let mut query = db.prepare_cached("SELECT DISTINCT avatar_url FROM members WHERE avatar_url IS NOT NULL")?;
    let mut found = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<BTreeSet<String>>>()?;
    let mut query = db.prepare_cached("SELECT value FROM profiles WHERE field = 'avatar_url'")?;
    for value in query.query_map([], |row| row.get::<_, String>(0))? {
        found.extend(serde_json::from_str::<String>(&value?).ok());
    }
    let mut query =
        db.prepare_cached("SELECT c.event_nid FROM state_keys k JOIN current_state c USING (statekey_nid) WHERE k.type = 'm.room.avatar'")?;
    for event in query.query_map([], |row| row.get(0).map(EventNid))? {
        let event = super::events::by_nid(db, event?)?;
        let json: serde_json::Value = serde_json::from_str(&event.json).map_err(|e| StoreError::Data(e.to_string()))?;
        found.extend(json.pointer("/content/url").and_then(serde_json::Value::as_str).map(str::to_owned));
    }
    Ok(found)
}

/// True for a file that nobody is given.
///
/// # Errors
///
/// Database errors.
pub fn is_quarantined(db: &Reader<'_>, server: &str, media_id: &str) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM quarantined_media WHERE server = ?1 AND media_id = ?2")?;
    Ok(query.exists((server, media_id))?)
}

/// Withholds a file from everybody, or gives it free again.
///
/// # Errors
///
/// Database errors.
pub fn set_quarantined(tx: &Tx<'_>, server: &str, media_id: &str, by: Option<&str>, now_ms: i64) -> Result<()> {
    match by {
        Some(by) => tx
            .prepare_cached("INSERT OR IGNORE INTO quarantined_media (server, media_id, by_user, since_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute((server, media_id, by, now_ms))?,
        None => tx.prepare_cached("DELETE FROM quarantined_media WHERE server = ?1 AND media_id = ?2")?.execute((server, media_id))?,
    };
    Ok(())
}

/// Withholds all files that a user has uploaded. Returns how many those are.
///
/// # Errors
///
/// Database errors.
pub fn quarantine_user(tx: &Tx<'_>, server: &str, owner: UserNid, by: &str, now_ms: i64) -> Result<usize> {
    let changed = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO quarantined_media (server, media_id, by_user, since_ms)
             SELECT ?1, media_id, ?3, ?4 FROM media WHERE user_nid = ?2 AND size_bytes IS NOT NULL",
        )?
        .execute((server, owner.0, by, now_ms))?;
    Ok(changed)
}

/// Those of these media IDs whose files have been uploaded.
///
/// # Errors
///
/// Database errors.
pub fn uploaded_among(db: &Reader<'_>, media_ids: &[String]) -> Result<HashSet<String>> {
    let wanted = serde_json::to_string(media_ids).map_err(|e| StoreError::Data(e.to_string()))?;
    let mut query =
        db.prepare_cached("SELECT media_id FROM media WHERE media_id IN (SELECT value FROM json_each(?1)) AND size_bytes IS NOT NULL")?;
    let rows = query.query_map([wanted], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets a file. Its bytes are the caller's.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, media_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM media WHERE media_id = ?1")?.execute([media_id])?;
    Ok(())
}

/// Makes a place for a file that comes later.
///
/// # Errors
///
/// Database errors.
pub fn reserve(tx: &Tx<'_>, media_id: &str, owner: UserNid, now_ms: i64) -> Result<()> {
    tx.prepare_cached("INSERT INTO media (media_id, user_nid, created_ms) VALUES (?1, ?2, ?3)")?.execute((media_id, owner.0, now_ms))?;
    Ok(())
}

/// How many places a user has made since then without filling them.
///
/// # Errors
///
/// Database errors.
pub fn pending(db: &Reader<'_>, owner: UserNid, since_ms: i64) -> Result<i64> {
    let mut query = db.prepare_cached("SELECT count(*) FROM media WHERE size_bytes IS NULL AND user_nid = ?1 AND created_ms > ?2")?;
    Ok(query.query_row((owner.0, since_ms), |row| row.get(0))?)
}

/// Forgets places that were made before and never filled.
///
/// # Errors
///
/// Database errors.
pub fn forget_unused(tx: &Tx<'_>, before_ms: i64) -> Result<()> {
    tx.prepare_cached("DELETE FROM media WHERE size_bytes IS NULL AND created_ms <= ?1")?.execute([before_ms])?;
    Ok(())
}

/// Notes that the bytes are there. False when they were already: what has been uploaded never changes.
///
/// # Errors
///
/// Database errors.
pub fn uploaded(tx: &Tx<'_>, media: &Media) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            "INSERT INTO media (media_id, user_nid, content_type, filename, size_bytes, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (media_id) DO UPDATE SET content_type = ?3, filename = ?4, size_bytes = ?5 WHERE size_bytes IS NULL",
        )?
        .execute((
            &media.media_id,
            media.owner.map(|owner| owner.0),
            &media.content_type,
            &media.filename,
            media.size_bytes,
            media.created_ms,
        ))?;
    Ok(changed > 0)
}
