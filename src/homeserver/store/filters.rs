//! Filters that clients have uploaded.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};
use crate::homeserver::types::UserNid;

/// Stores a filter and returns its number; the same filter gets the same number.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, user: UserNid, json: &str) -> Result<i64> {
    let mut query = tx.prepare_cached("SELECT filter_id FROM filters WHERE user_nid = ?1 AND json = ?2")?;
    let found: Option<i64> = query.query_row((user.0, json), |row| row.get(0)).optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    let mut insert = tx.prepare_cached(
        "INSERT INTO filters (user_nid, filter_id, json)
         SELECT ?1, coalesce(max(filter_id), 0) + 1, ?2 FROM filters WHERE user_nid = ?1 RETURNING filter_id",
    )?;
    Ok(insert.query_row((user.0, json), |row| row.get(0))?)
}

/// A filter by its number.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, filter: i64) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT json FROM filters WHERE user_nid = ?1 AND filter_id = ?2")?;
    Ok(query.query_row((user.0, filter), |row| row.get(0)).optional()?)
}
