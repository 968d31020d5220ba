//! Identity keys of devices, cross-signing keys, and the signatures that were put on them later.

use ruma::{DeviceId, OwnedDeviceId};
use rusqlite::OptionalExtension;
use serde_json::Value;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| StoreError::Data(e.to_string()))
}

/// Keys of one device, as it uploaded them.
///
/// # Errors
///
/// Database errors.
pub fn device(db: &Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<Option<Value>> {
    let mut query = db.prepare_cached("SELECT json FROM device_keys WHERE user_nid = ?1 AND device_id = ?2")?;
    let found: Option<String> = query.query_row((user.0, device_id.as_str()), |row| row.get(0)).optional()?;
    found.as_deref().map(parse).transpose()
}

/// Keys of all devices of a user that have any, with the devices' names.
///
/// # Errors
///
/// Database errors.
pub fn devices(db: &Reader<'_>, user: UserNid) -> Result<Vec<(OwnedDeviceId, Value, Option<String>)>> {
    let mut query = db.prepare_cached(
        "SELECT keys.device_id, keys.json, devices.display_name FROM device_keys keys LEFT JOIN devices USING (user_nid, device_id)
         WHERE keys.user_nid = ?1",
    )?;
    let rows = query.query_map([user.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
    let mut found = Vec::new();
    for row in rows {
        let (device_id, json, name) = row?;
        found.push((device_id.into(), parse(&json)?, name));
    }
    Ok(found)
}

/// Stores a device's keys.
///
/// # Errors
///
/// Database errors.
pub fn put_device(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, keys: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO device_keys (user_nid, device_id, json) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_nid, device_id) DO UPDATE SET json = ?3",
    )?
    .execute((user.0, device_id.as_str(), keys.to_string()))?;
    Ok(())
}

/// A user's cross-signing key of this usage (`master`, `self_signing`, `user_signing`).
///
/// # Errors
///
/// Database errors.
pub fn cross_signing(db: &Reader<'_>, user: UserNid, usage: &str) -> Result<Option<Value>> {
    let mut query = db.prepare_cached("SELECT json FROM cross_signing_keys WHERE user_nid = ?1 AND usage = ?2")?;
    let found: Option<String> = query.query_row((user.0, usage), |row| row.get(0)).optional()?;
    found.as_deref().map(parse).transpose()
}

/// Stores a cross-signing key.
///
/// # Errors
///
/// Database errors.
pub fn put_cross_signing(tx: &Tx<'_>, user: UserNid, usage: &str, key: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO cross_signing_keys (user_nid, usage, json) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_nid, usage) DO UPDATE SET json = ?3",
    )?
    .execute((user.0, usage, key.to_string()))?;
    Ok(())
}

/// Removes a cross-signing key.
///
/// # Errors
///
/// Database errors.
pub fn delete_cross_signing(tx: &Tx<'_>, user: UserNid, usage: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM cross_signing_keys WHERE user_nid = ?1 AND usage = ?2")?.execute((user.0, usage))?;
    Ok(())
}

/// A signature on somebody's key.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Who signed.
    pub signer: UserNid,
    /// The signer's user ID.
    pub signer_id: String,
    /// With which key, for instance `ed25519:ABC`.
    pub signing_key: String,
    /// Base64.
    pub signature: String,
}

/// The signatures that were put on a key after its upload. `target_key` is a device ID or a cross-signing public key.
///
/// # Errors
///
/// Database errors.
pub fn signatures(db: &Reader<'_>, target: UserNid, target_key: &str) -> Result<Vec<Signature>> {
    let mut query = db.prepare_cached(
        "SELECT signer_nid, user_id, signing_key, signature FROM key_signatures JOIN users ON user_nid = signer_nid
         WHERE target_nid = ?1 AND target_key = ?2",
    )?;
    let found = query
        .query_map((target.0, target_key), |row| {
            Ok(Signature { signer: UserNid(row.get(0)?), signer_id: row.get(1)?, signing_key: row.get(2)?, signature: row.get(3)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// Adds a signature. False when it was there already.
///
/// # Errors
///
/// Database errors.
pub fn put_signature(tx: &Tx<'_>, target: UserNid, target_key: &str, signer: UserNid, signing_key: &str, signature: &str) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            "INSERT INTO key_signatures (target_nid, target_key, signer_nid, signing_key, signature) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (target_nid, target_key, signer_nid, signing_key) DO UPDATE SET signature = ?5 WHERE signature <> ?5",
        )?
        .execute((target.0, target_key, signer.0, signing_key, signature))?;
    Ok(changed > 0)
}

/// Removes the signatures on a key that is replaced.
///
/// # Errors
///
/// Database errors.
pub fn drop_signatures_on(tx: &Tx<'_>, target: UserNid, target_key: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM key_signatures WHERE target_nid = ?1 AND target_key = ?2")?.execute((target.0, target_key))?;
    Ok(())
}

/// Removes the signatures that a user made with a key that is replaced.
///
/// # Errors
///
/// Database errors.
pub fn drop_signatures_by(tx: &Tx<'_>, signer: UserNid, signing_key: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM key_signatures WHERE signer_nid = ?1 AND signing_key = ?2")?.execute((signer.0, signing_key))?;
    Ok(())
}
