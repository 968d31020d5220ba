//! Facts about the store itself.

use rusqlite::OptionalExtension;

use super::{Result, Tx};

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
