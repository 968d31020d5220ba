//! OpenID tokens, kept as hashes only.

use ruma::OwnedUserId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, tokens::TokenHash, users};
use crate::homeserver::types::UserNid;

/// Tokens that one user may have at a time; the one that expires first makes room.
const PER_USER: i64 = 100;

/// Stores a token.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, hash: &TokenHash, user: UserNid, expires_ms: i64) -> Result<()> {
    tx.prepare_cached("INSERT INTO openid_tokens (token_hash, user_nid, expires_ms) VALUES (?1, ?2, ?3)")?.execute((
        &hash[..],
        user.0,
        expires_ms,
    ))?;
    tx.prepare_cached(
        "DELETE FROM openid_tokens WHERE token_hash IN
         (SELECT token_hash FROM openid_tokens WHERE user_nid = ?1 ORDER BY expires_ms DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute((user.0, PER_USER))?;
    Ok(())
}

/// The user whose token this is, unless it has expired or the account is closed or locked.
///
/// # Errors
///
/// Database errors.
pub fn user(db: &Reader<'_>, hash: &TokenHash, now_ms: i64) -> Result<Option<OwnedUserId>> {
    let mut query = db.prepare_cached(
        "SELECT u.user_id FROM openid_tokens t JOIN users u USING (user_nid) JOIN accounts a USING (user_nid)
         WHERE t.token_hash = ?1 AND t.expires_ms > ?2 AND a.deactivated = 0 AND a.locked = 0",
    )?;
    let found: Option<String> = query.query_row((&hash[..], now_ms), |row| row.get(0)).optional()?;
    found.as_deref().map(users::parse).transpose()
}

/// Forgets expired tokens. At most a batch of them: callers come again.
///
/// # Errors
///
/// Database errors.
pub fn expire(tx: &Tx<'_>, now_ms: i64) -> Result<usize> {
    let sql = "DELETE FROM openid_tokens WHERE token_hash IN
               (SELECT token_hash FROM openid_tokens WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT 1000)";
    Ok(tx.prepare_cached(sql)?.execute([now_ms])?)
}
