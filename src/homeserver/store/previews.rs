//! Previews of pages, kept for a while.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};

/// Previews that are kept; the oldest make room.
const KEPT: i64 = 5000;

/// SHA-256 of a picture's bytes.
pub type PictureHash = [u8; 32];

/// A preview that was fetched after this time.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, url: &str, since_ms: i64) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT json FROM previews WHERE url = ?1 AND fetched_ms > ?2")?;
    Ok(query.query_row((url, since_ms), |row| row.get(0)).optional()?)
}

/// The media ID under which this picture is kept for any preview.
///
/// # Errors
///
/// Database errors.
pub fn picture(db: &Reader<'_>, hash: &PictureHash) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT image FROM previews WHERE image_hash = ?1 LIMIT 1")?;
    Ok(query.query_row([&hash[..]], |row| row.get(0)).optional()?)
}

/// Keeps one, with the media ID of its picture. Returns the media IDs of pictures that no preview shows any more.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, url: &str, json: &str, picture: Option<&(String, PictureHash)>, now_ms: i64) -> Result<Vec<String>> {
    let before: Option<Option<String>> =
        tx.prepare_cached("SELECT image FROM previews WHERE url = ?1")?.query_row([url], |row| row.get(0)).optional()?;
    tx.prepare_cached("INSERT OR REPLACE INTO previews (url, json, fetched_ms, image, image_hash) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((url, json, now_ms, picture.map(|(media_id, _)| media_id), picture.map(|(_, hash)| &hash[..])))?;
    let mut oldest = tx.prepare_cached(
        "DELETE FROM previews WHERE fetched_ms < (SELECT fetched_ms FROM previews ORDER BY fetched_ms DESC LIMIT 1 OFFSET ?1)
         RETURNING image",
    )?;
    let rows = oldest.query_map([KEPT], |row| row.get::<_, Option<String>>(0))?;
    let mut gone = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    gone.extend(before);
    let mut shown = tx.prepare_cached("SELECT 1 FROM previews WHERE image = ?1")?;
    let mut unused = Vec::new();
    for media_id in gone.into_iter().flatten() {
        if !unused.contains(&media_id) && !shown.exists([&media_id])? {
            unused.push(media_id);
        }
    }
    Ok(unused)
}
