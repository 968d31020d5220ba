//! One-time keys and fallback keys: uploaded by a device, each claimed once, oldest first.

use std::collections::BTreeMap;

use ruma::DeviceId;
use rusqlite::OptionalExtension;
use serde_json::Value;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| StoreError::Data(e.to_string()))
}

/// How many unclaimed keys a device has, per algorithm.
///
/// # Errors
///
/// Database errors.
pub fn counts(db: &Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<BTreeMap<String, u64>> {
    let mut query =
        db.prepare_cached("SELECT algorithm, count(*) FROM one_time_keys WHERE user_nid = ?1 AND device_id = ?2 GROUP BY algorithm")?;
    let rows = query.query_map((user.0, device_id.as_str()), |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| row.map(|(algorithm, count)| (algorithm, count.unsigned_abs())).map_err(StoreError::from)).collect()
}

/// An unclaimed key.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, device_id: &DeviceId, algorithm: &str, key_id: &str) -> Result<Option<Value>> {
    let mut query =
        db.prepare_cached("SELECT json FROM one_time_keys WHERE user_nid = ?1 AND device_id = ?2 AND algorithm = ?3 AND key_id = ?4")?;
    let found: Option<String> = query.query_row((user.0, device_id.as_str(), algorithm, key_id), |row| row.get(0)).optional()?;
    found.as_deref().map(parse).transpose()
}

/// Adds a key.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, algorithm: &str, key_id: &str, key: &Value) -> Result<()> {
    tx.prepare_cached("INSERT INTO one_time_keys (user_nid, device_id, algorithm, key_id, json) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((user.0, device_id.as_str(), algorithm, key_id, key.to_string()))?;
    Ok(())
}

/// Sets the fallback key of an algorithm. One that was not there before counts as unused.
///
/// # Errors
///
/// Database errors.
pub fn set_fallback(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, algorithm: &str, key_id: &str, key: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO fallback_keys (user_nid, device_id, algorithm, key_id, json) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (user_nid, device_id, algorithm) DO UPDATE SET key_id = ?4, json = ?5, used = 0 WHERE key_id <> ?4 OR json <> ?5",
    )?
    .execute((user.0, device_id.as_str(), algorithm, key_id, key.to_string()))?;
    Ok(())
}

/// Algorithms of the device's fallback keys that nobody has claimed yet.
///
/// # Errors
///
/// Database errors.
pub fn unused_fallbacks(db: &Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT algorithm FROM fallback_keys WHERE user_nid = ?1 AND device_id = ?2 AND used = 0")?;
    let found = query.query_map((user.0, device_id.as_str()), |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// Claims the oldest key of an algorithm, or the fallback key when there is none left. The first is gone afterwards, the
/// second is marked as used. The device is woken, so that it uploads more.
///
/// # Errors
///
/// Database errors.
pub fn claim(tx: &mut Tx<'_>, user: UserNid, device_id: &DeviceId, algorithm: &str) -> Result<Option<(String, Value)>> {
    let of = (user.0, device_id.as_str(), algorithm);
    let oldest: Option<(String, String)> = tx
        .prepare_cached(
            "DELETE FROM one_time_keys WHERE seq =
                 (SELECT min(seq) FROM one_time_keys WHERE user_nid = ?1 AND device_id = ?2 AND algorithm = ?3)
             RETURNING key_id, json",
        )?
        .query_row(of, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let found = match oldest {
        Some(found) => Some(found),
        None => tx
            .prepare_cached(
                "UPDATE fallback_keys SET used = 1 WHERE user_nid = ?1 AND device_id = ?2 AND algorithm = ?3 RETURNING key_id, json",
            )?
            .query_row(of, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?,
    };
    if found.is_some() {
        tx.next_pos();
        tx.touch(user);
    }
    found.map(|(key_id, json)| Ok((key_id, parse(&json)?))).transpose()
}
