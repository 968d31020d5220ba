//! Messages that wait for a device: reading and acknowledging.

use ruma::DeviceId;

use super::{Reader, Result, Tx};
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
    let mut query =
        db.prepare_cached("SELECT EXISTS (SELECT 1 FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos <= ?3)")?;
    Ok(query.query_row((user.0, device.as_str(), up_to.0), |row| row.get(0))?)
}

/// Deletes the messages that a device says it has.
///
/// # Errors
///
/// Database errors.
pub fn acknowledge_to_device(tx: &Tx<'_>, user: UserNid, device: &DeviceId, up_to: StreamPos) -> Result<()> {
    tx.prepare_cached("DELETE FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos <= ?3")?.execute((
        user.0,
        device.as_str(),
        up_to.0,
    ))?;
    Ok(())
}
