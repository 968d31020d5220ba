//! Sliding-sync connections over a restart. What is in them is the sync engine's business.

use ruma::OwnedDeviceId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};
use crate::homeserver::types::UserNid;

/// Connections of one device.
pub const PER_DEVICE: usize = 8;
/// A connection that was not used for this long is forgotten.
const FORGOTTEN_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Which connection.
#[derive(Debug, Clone)]
pub struct Key {
    /// Whose.
    pub user: UserNid,
    /// The device.
    pub device: OwnedDeviceId,
    /// In which form the client speaks.
    pub form: &'static str,
    /// The client's name for it.
    pub conn_id: String,
}

/// Writes connections; those without a form that can be kept are removed. What is too old or too much goes as well.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, rows: &[(Key, Option<Vec<u8>>)], now_ms: u64) -> Result<()> {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    for (key, saved) in rows {
        let (user, device) = (key.user.0, key.device.as_str());
        match saved {
            // The device may have been signed out meanwhile.
            Some(saved) => tx
                .prepare_cached(
                    "INSERT INTO sliding_connections (user_nid, device_id, form, conn_id, saved_ms, state)
                     SELECT user_nid, device_id, ?3, ?4, ?5, ?6 FROM devices WHERE user_nid = ?1 AND device_id = ?2
                     ON CONFLICT DO UPDATE SET saved_ms = ?5, state = ?6",
                )?
                .execute((user, device, key.form, &key.conn_id, now_ms, saved))?,
            None => tx
                .prepare_cached("DELETE FROM sliding_connections WHERE user_nid = ?1 AND device_id = ?2 AND form = ?3 AND conn_id = ?4")?
                .execute((user, device, key.form, &key.conn_id))?,
        };
        tx.prepare_cached(
            "DELETE FROM sliding_connections WHERE user_nid = ?1 AND device_id = ?2 AND saved_ms <
                 (SELECT saved_ms FROM sliding_connections WHERE user_nid = ?1 AND device_id = ?2 ORDER BY saved_ms DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute((user, device, i64::try_from(PER_DEVICE).unwrap_or(i64::MAX) - 1))?;
    }
    let before_ms = now_ms.saturating_sub(i64::try_from(FORGOTTEN_MS).unwrap_or(i64::MAX));
    tx.prepare_cached("DELETE FROM sliding_connections WHERE saved_ms < ?1")?.execute([before_ms])?;
    Ok(())
}

/// What was written of a connection.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, key: &Key) -> Result<Option<Vec<u8>>> {
    let mut query =
        db.prepare_cached("SELECT state FROM sliding_connections WHERE user_nid = ?1 AND device_id = ?2 AND form = ?3 AND conn_id = ?4")?;
    Ok(query.query_row((key.user.0, key.device.as_str(), key.form, &key.conn_id), |row| row.get(0)).optional()?)
}
