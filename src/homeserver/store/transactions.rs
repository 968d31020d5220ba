//! Idempotency of `PUT …/{txnId}`: what the first request was answered.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};
use crate::homeserver::types::UserNid;

/// Which request: the same device, endpoint and transaction ID mean the same request.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Whose.
    pub user: UserNid,
    /// From which device.
    pub device_id: &'a str,
    /// The endpoint with its path parameters.
    pub scope: &'a str,
    /// The client's transaction ID.
    pub txn_id: &'a str,
}

/// What the request was answered, when it has been.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, key: Key<'_>) -> Result<Option<String>> {
    let mut query =
        db.prepare_cached("SELECT response FROM transactions WHERE user_nid = ?1 AND device_id = ?2 AND scope = ?3 AND txn_id = ?4")?;
    Ok(query.query_row((key.user.0, key.device_id, key.scope, key.txn_id), |row| row.get(0)).optional()?)
}

/// Remembers the answer.
///
/// # Errors
///
/// Database errors, also when there is one already.
pub fn put(tx: &Tx<'_>, key: Key<'_>, response: &str, now_ms: u64) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO transactions (user_nid, device_id, scope, txn_id, response, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(rusqlite::params![
        key.user.0,
        key.device_id,
        key.scope,
        key.txn_id,
        response,
        i64::try_from(now_ms).unwrap_or(i64::MAX)
    ])?;
    Ok(())
}

/// Forgets answers from before this time. At most a batch of them: callers come again.
///
/// # Errors
///
/// Database errors.
pub fn expire(tx: &Tx<'_>, before_ms: u64) -> Result<usize> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM transactions WHERE (user_nid, device_id, scope, txn_id) IN
             (SELECT user_nid, device_id, scope, txn_id FROM transactions WHERE created_ms < ?1 ORDER BY created_ms LIMIT 1000)",
        )?
        .execute([i64::try_from(before_ms).unwrap_or(i64::MAX)])?)
}
