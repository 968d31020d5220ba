//! Devices of local accounts.

use ruma::{DeviceId, OwnedDeviceId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, tokens};
use crate::homeserver::types::UserNid;

/// A device as its owner sees it.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its ID.
    pub device_id: OwnedDeviceId,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// When it was last heard of.
    pub last_seen_ms: Option<i64>,
    /// From which address.
    pub last_seen_ip: Option<String>,
}

fn device(row: &rusqlite::Row<'_>) -> rusqlite::Result<Device> {
    let device_id: String = row.get(0)?;
    Ok(Device { device_id: device_id.into(), display_name: row.get(1)?, last_seen_ms: row.get(2)?, last_seen_ip: row.get(3)? })
}

/// Creates the device, or keeps the one of that ID with its name.
///
/// # Errors
///
/// Database errors.
pub fn ensure(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, display_name: Option<&str>, now_ms: i64, ip: Option<&str>) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO devices (user_nid, device_id, display_name, created_ms, last_seen_ms, last_seen_ip) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
         ON CONFLICT (user_nid, device_id) DO UPDATE SET last_seen_ms = ?4, last_seen_ip = ?5",
    )?
    .execute((user.0, device_id.as_str(), display_name, now_ms, ip))?;
    Ok(())
}

/// Notes that the device was heard of.
///
/// # Errors
///
/// Database errors.
pub fn seen(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, now_ms: i64, ip: Option<&str>) -> Result<()> {
    tx.prepare_cached("UPDATE devices SET last_seen_ms = ?3, last_seen_ip = ?4 WHERE user_nid = ?1 AND device_id = ?2")?.execute((
        user.0,
        device_id.as_str(),
        now_ms,
        ip,
    ))?;
    Ok(())
}

/// All devices of an account, in the order of their IDs.
///
/// # Errors
///
/// Database errors.
pub fn list(db: &Reader<'_>, user: UserNid) -> Result<Vec<Device>> {
    let mut query = db.prepare_cached("SELECT device_id, display_name, last_seen_ms, last_seen_ip FROM devices WHERE user_nid = ?1")?;
    let found = query.query_map([user.0], device)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// One device.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<Option<Device>> {
    let mut query = db
        .prepare_cached("SELECT device_id, display_name, last_seen_ms, last_seen_ip FROM devices WHERE user_nid = ?1 AND device_id = ?2")?;
    Ok(query.query_row((user.0, device_id.as_str()), device).optional()?)
}

/// Renames a device. False when there is none of that ID.
///
/// # Errors
///
/// Database errors.
pub fn rename(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, display_name: Option<&str>) -> Result<bool> {
    let changed = tx.prepare_cached("UPDATE devices SET display_name = ?3 WHERE user_nid = ?1 AND device_id = ?2")?.execute((
        user.0,
        device_id.as_str(),
        display_name,
    ))?;
    Ok(changed > 0)
}

/// Deletes a device with its tokens, keys, waiting to-device messages and pushers. True when it had published keys, so that
/// others must be told.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId) -> Result<bool> {
    tokens::revoke(tx, user, device_id)?;
    let key = (user.0, device_id.as_str());
    for table in
        ["one_time_keys", "fallback_keys", "to_device", "pushers", "transactions", "dehydrated_devices", "sliding_connections", "devices"]
    {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE user_nid = ?1 AND device_id = ?2"))?.execute(key)?;
    }
    tx.prepare_cached("DELETE FROM key_signatures WHERE target_nid = ?1 AND target_key = ?2")?.execute(key)?;
    let had_keys = tx.prepare_cached("DELETE FROM device_keys WHERE user_nid = ?1 AND device_id = ?2")?.execute(key)?;
    Ok(had_keys > 0)
}
