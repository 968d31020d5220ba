//! What is known of media files. The bytes are files in the data directory.

use std::collections::HashSet;

use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

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
}

/// Looks a media ID up.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, media_id: &str) -> Result<Option<Media>> {
    let mut query =
        db.prepare_cached("SELECT media_id, user_nid, content_type, filename, size_bytes, created_ms FROM media WHERE media_id = ?1")?;
    let found = query.query_row([media_id], |row| {
        Ok(Media {
            media_id: row.get(0)?,
            owner: row.get::<_, Option<i64>>(1)?.map(UserNid),
            content_type: row.get(2)?,
            filename: row.get(3)?,
            size_bytes: row.get(4)?,
            created_ms: row.get(5)?,
        })
    });
    Ok(found.optional()?)
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
