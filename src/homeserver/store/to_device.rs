//! Messages from device to device, kept until the receiving device has acknowledged them.

use ruma::{DeviceId, OwnedDeviceId, UserId};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{StreamPos, UserNid};

/// Messages that wait for one device. A device that never comes back must not fill the disk; one that does asks again for the
/// keys that it lacks.
const WAITING: i64 = 50_000;

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
    // Seldom enough to cost nothing, often enough to stay bounded.
    if pos.0 % 64 == 0 {
        let gone = tx
            .prepare_cached(
                "DELETE FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND stream_pos <=
                     (SELECT stream_pos FROM to_device WHERE user_nid = ?1 AND device_id = ?2 ORDER BY stream_pos DESC LIMIT 1 OFFSET ?3)",
            )?
            .execute((user.0, device_id.as_str(), WAITING))?;
        if gone > 0 {
            tracing::warn!(gone, device_id = device_id.as_str(), "a device does not fetch its messages; the oldest were dropped");
        }
    }
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

/// How long a message is remembered: longer than any server goes on sending again.
const REMEMBERED_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Notes a message of another server. False when it arrived before.
///
/// # Errors
///
/// Database errors.
pub fn receive_once(tx: &Tx<'_>, server: &ruma::ServerName, message_id: &str, now_ms: i64) -> Result<bool> {
    let added = tx
        .prepare_cached("INSERT OR IGNORE INTO received_to_device (server, message_id, received_ms) VALUES (?1, ?2, ?3)")?
        .execute((server.as_str(), message_id, now_ms))?;
    // A few old ones for each new one: the table shrinks as fast as it grows.
    tx.prepare_cached(
        "DELETE FROM received_to_device WHERE (server, message_id) IN
             (SELECT server, message_id FROM received_to_device WHERE received_ms < ?1 ORDER BY received_ms LIMIT 4)",
    )?
    .execute([now_ms.saturating_sub(REMEMBERED_MS)])?;
    Ok(added > 0)
}
