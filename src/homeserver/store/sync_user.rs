//! What a sync asks of a user and a device: messages to the device, key counts, whose keys changed.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{DeviceId, OwnedUserId, UserId};

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{StreamPos, UserNid};

/// A message that waits for a device.
#[derive(Debug, Clone)]
pub struct ToDevice {
    /// Its place in the stream.
    pub pos: StreamPos,
    /// Who sent it.
    pub sender: String,
    /// Event type.
    pub kind: String,
    /// JSON.
    pub content: String,
}

/// Messages for a device with `after < position <= up_to`, oldest first.
///
/// # Errors
///
/// Database errors.
pub fn to_device(
    db: &Reader<'_>,
    user: UserNid,
    device: &DeviceId,
    after: StreamPos,
    up_to: StreamPos,
    limit: usize,
) -> Result<Vec<ToDevice>> {
    let mut query = db.prepare_cached(
        "SELECT stream_pos, sender, type, content FROM to_device
         WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos > ?3 AND stream_pos <= ?4 ORDER BY stream_pos LIMIT ?5",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = query.query_map((user.0, device.as_str(), after.0, up_to.0, limit), |row| {
        Ok(ToDevice { pos: StreamPos(row.get(0)?), sender: row.get(1)?, kind: row.get(2)?, content: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// True when the device has messages at or before a position.
///
/// # Errors
///
/// Database errors.
pub fn has_to_device(db: &Reader<'_>, user: UserNid, device: &DeviceId, up_to: StreamPos) -> Result<bool> {
    let mut query = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos <= ?3)")?;
    Ok(query.query_row((user.0, device.as_str(), up_to.0), |row| row.get(0))?)
}

/// Deletes the messages that a device says it has.
///
/// # Errors
///
/// Database errors.
pub fn acknowledge_to_device(tx: &Tx<'_>, user: UserNid, device: &DeviceId, up_to: StreamPos) -> Result<()> {
    tx.prepare_cached("DELETE FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos <= ?3")?
        .execute((user.0, device.as_str(), up_to.0))?;
    Ok(())
}

/// How many one-time keys of each algorithm the node holds for a device.
///
/// # Errors
///
/// Database errors.
pub fn one_time_key_counts(db: &Reader<'_>, user: UserNid, device: &DeviceId) -> Result<BTreeMap<String, u64>> {
    let mut query =
        db.prepare_cached("SELECT algorithm, count(*) FROM one_time_keys WHERE user_nid = ?1 AND device_id = ?2 GROUP BY algorithm")?;
    let rows = query.query_map((user.0, device.as_str()), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut counts = rows.collect::<rusqlite::Result<BTreeMap<_, _>>>()?;
    // Clients upload keys when they see a number; a missing one they may take for "unknown".
    counts.entry("signed_curve25519".to_owned()).or_insert(0);
    Ok(counts)
}

/// Algorithms for which a device has a fallback key that nobody has been given yet.
///
/// # Errors
///
/// Database errors.
pub fn unused_fallback_keys(db: &Reader<'_>, user: UserNid, device: &DeviceId) -> Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT algorithm FROM fallback_keys WHERE user_nid = ?1 AND device_id = ?2 AND used = 0")?;
    let rows = query.query_map((user.0, device.as_str()), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Users whose device keys or cross-signing keys changed with `after < position <= up_to`, and who are the user or share a
/// room with the user.
///
/// # Errors
///
/// Database errors.
pub fn changed_keys(db: &Reader<'_>, user: UserNid, after: StreamPos, up_to: StreamPos) -> Result<BTreeSet<UserNid>> {
    let mut query = db.prepare_cached(
        "SELECT c.user_nid FROM device_list_changes c
         WHERE c.stream_pos > ?2 AND c.stream_pos <= ?3 AND (c.user_nid = ?1 OR EXISTS (
             SELECT 1 FROM members a JOIN members b ON b.room_nid = a.room_nid AND b.user_nid = c.user_nid AND b.membership = 'join'
             WHERE a.user_nid = ?1 AND a.membership = 'join'))",
    )?;
    let rows = query.query_map((user.0, after.0, up_to.0), |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The IDs of several users.
///
/// # Errors
///
/// Database errors.
pub fn user_ids(db: &Reader<'_>, users: impl IntoIterator<Item = UserNid>) -> Result<Vec<OwnedUserId>> {
    let mut query = db.prepare_cached("SELECT user_id FROM users WHERE user_nid = ?1")?;
    let mut found = Vec::new();
    for user in users {
        let text: String = query.query_row([user.0], |row| row.get(0))?;
        found.push(UserId::parse(&text).map_err(|e| StoreError::Data(format!("user ID: {e}")))?);
    }
    Ok(found)
}
