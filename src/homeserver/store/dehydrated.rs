//! Dehydrated devices: what a user's client needs to read messages that came while no client was there (MSC3814).

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};
use crate::homeserver::types::UserNid;

/// A user's dehydrated device: its ID and its data, which only the user can read.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid) -> Result<Option<(String, String)>> {
    let mut query = db.prepare_cached("SELECT device_id, device_data FROM dehydrated_devices WHERE user_nid = ?1")?;
    Ok(query.query_row([user.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Sets it. The device itself is made and deleted like any other.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, user: UserNid, device_id: &str, device_data: &str) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO dehydrated_devices (user_nid, device_id, device_data) VALUES (?1, ?2, ?3)")?.execute((
        user.0,
        device_id,
        device_data,
    ))?;
    Ok(())
}
