//! Facts about the store itself.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};

/// Stores a fact unless it is there already, and returns what is stored.
///
/// # Errors
///
/// Database errors.
pub fn claim(tx: &Tx<'_>, key: &str, value: &str) -> Result<String> {
    let found: Option<String> = tx.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    tx.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", [key, value])?;
    Ok(value.to_owned())
}

/// When something was done last, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Database errors.
pub fn last_ms(db: &Reader<'_>, key: &str) -> Result<Option<i64>> {
    Ok(db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?)
}

/// Notes when something was done.
///
/// # Errors
///
/// Database errors.
pub fn note_ms(tx: &Tx<'_>, key: &str, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    tx.prepare_cached(sql)?.execute((key, now_ms))?;
    Ok(())
}

/// A number that was noted.
///
/// # Errors
///
/// Database errors.
pub fn number(db: &Reader<'_>, key: &str) -> Result<Option<i64>> {
    last_ms(db, key)
}

/// Notes a number.
///
/// # Errors
///
/// Database errors.
pub fn set_number(tx: &Tx<'_>, key: &str, value: i64) -> Result<()> {
    note_ms(tx, key, value)
}
