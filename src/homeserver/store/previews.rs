//! Previews of pages, kept for a while.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};

/// Previews that are kept; the oldest make room.
const KEPT: i64 = 5000;

/// A preview that was fetched after this time.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, url: &str, since_ms: i64) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT json FROM previews WHERE url = ?1 AND fetched_ms > ?2")?;
    Ok(query.query_row((url, since_ms), |row| row.get(0)).optional()?)
}

/// Keeps one.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, url: &str, json: &str, now_ms: i64) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO previews (url, json, fetched_ms) VALUES (?1, ?2, ?3)")?.execute((url, json, now_ms))?;
    tx.prepare_cached(
        "DELETE FROM previews WHERE fetched_ms < (SELECT fetched_ms FROM previews ORDER BY fetched_ms DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([KEPT])?;
    Ok(())
}
