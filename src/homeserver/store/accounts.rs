//! Accounts, devices and tokens.

use ruma::UserId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError};
use crate::homeserver::types::{Requester, UserNid};

/// Who an access token stands for, and when it expires (milliseconds since the Unix epoch).
///
/// # Errors
///
/// Database errors.
pub fn by_token(db: &Reader<'_>, hash: &[u8; 32]) -> Result<Option<(Requester, Option<u64>)>> {
    let mut query = db.prepare_cached(
        "SELECT t.user_nid, u.user_id, t.device_id, a.admin, t.expires_ms
         FROM access_tokens t JOIN users u USING (user_nid) JOIN accounts a USING (user_nid)
         WHERE t.token_hash = ?1 AND a.deactivated = 0",
    )?;
    let found = query
        .query_row([&hash[..]], |row| {
            let (user_id, device): (String, String) = (row.get(1)?, row.get(2)?);
            Ok((UserNid(row.get(0)?), user_id, device, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((user, user_id, device, admin, expires)) = found else { return Ok(None) };
    let user_id = UserId::parse(&user_id).map_err(|e| StoreError::Data(e.to_string()))?;
    let expires: Option<i64> = expires;
    let requester = Requester { user_id, user, device_id: device.into(), admin };
    Ok(Some((requester, expires.and_then(|ms| u64::try_from(ms).ok()))))
}
