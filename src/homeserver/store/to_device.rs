//! Messages from device to device, kept until the receiving device has acknowledged them.

use ruma::{DeviceId, OwnedDeviceId, UserId};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{StreamPos, UserNid};

/// Queues a message for a device and wakes its user.
///
/// # Errors
///
/// Database errors.
pub fn queue(tx: &mut Tx<'_>, user: UserNid, device_id: &DeviceId, sender: &UserId, kind: &str, content: &str) -> Result<StreamPos> {
    let pos = tx.next_pos();
    tx.prepare_cached("INSERT INTO to_device (stream_pos, user_nid, device_id, sender, type, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((pos.0, user.0, device_id.as_str(), sender.as_str(), kind, content))?;
    tx.touch(user);
    Ok(pos)
}

/// The devices that a message to all of a user's devices goes to.
///
/// # Errors
///
/// Database errors.
pub fn all_devices(db: &Reader<'_>, user: UserNid) -> Result<Vec<OwnedDeviceId>> {
    let mut query = db.prepare_cached("SELECT device_id FROM devices WHERE user_nid = ?1")?;
    let found = query.query_map([user.0], |row| row.get::<_, String>(0).map(OwnedDeviceId::from))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}
