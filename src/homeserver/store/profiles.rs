//! Profile fields of users, as JSON values.

use rusqlite::OptionalExtension;
use serde_json::{Map, Value};

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| StoreError::Data(e.to_string()))
}

/// All fields of a user.
///
/// # Errors
///
/// Database errors.
pub fn all(db: &Reader<'_>, user: UserNid) -> Result<Map<String, Value>> {
    let mut query = db.prepare_cached("SELECT field, value FROM profiles WHERE user_nid = ?1")?;
    let rows = query.query_map([user.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut profile = Map::new();
    for row in rows {
        let (field, value) = row?;
        profile.insert(field, parse(&value)?);
    }
    Ok(profile)
}

/// One field.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, field: &str) -> Result<Option<Value>> {
    let mut query = db.prepare_cached("SELECT value FROM profiles WHERE user_nid = ?1 AND field = ?2")?;
    let found: Option<String> = query.query_row((user.0, field), |row| row.get(0)).optional()?;
    found.as_deref().map(parse).transpose()
}

/// Sets a field.
///
/// # Errors
///
/// Database errors.
pub fn set(tx: &Tx<'_>, user: UserNid, field: &str, value: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO profiles (user_nid, field, value) VALUES (?1, ?2, ?3) ON CONFLICT (user_nid, field) DO UPDATE SET value = ?3",
    )?
    .execute((user.0, field, value.to_string()))?;
    Ok(())
}

/// Deletes a field.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, user: UserNid, field: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM profiles WHERE user_nid = ?1 AND field = ?2")?.execute((user.0, field))?;
    Ok(())
}
