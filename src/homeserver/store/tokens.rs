//! Access and refresh tokens, kept as hashes only.

use ruma::{DeviceId, UserId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{Requester, UserNid};

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// What the store knows of an access token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// Who it stands for.
    pub requester: Requester,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
    /// The refresh token that it was made with; `None` once it has been used.
    pub supersedes: Option<Vec<u8>>,
    /// When its device was seen last.
    pub last_seen_ms: Option<i64>,
    /// The account is locked: the token is good again once it is not.
    pub locked: bool,
}

/// What an access token stands for; nothing for a closed account's.
///
/// # Errors
///
/// Database errors.
pub fn access(db: &Reader<'_>, hash: &TokenHash) -> Result<Option<AccessToken>> {
    let mut query = db.prepare_cached(
        "SELECT t.user_nid, u.user_id, t.device_id, a.admin, t.expires_ms, t.supersedes, d.last_seen_ms, a.locked
         FROM access_tokens t JOIN users u USING (user_nid) JOIN accounts a USING (user_nid)
         JOIN devices d ON d.user_nid = t.user_nid AND d.device_id = t.device_id
         WHERE t.token_hash = ?1 AND a.deactivated = 0",
    )?;
    let found = query
        .query_row([&hash[..]], |row| {
            let (user_id, device_id): (String, String) = (row.get(1)?, row.get(2)?);
            Ok((UserNid(row.get(0)?), user_id, device_id, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
        })
        .optional()?;
    let Some((user, user_id, device_id, admin, expires_ms, supersedes, last_seen_ms, locked)) = found else { return Ok(None) };
    let user_id = UserId::parse(&user_id).map_err(|e| StoreError::Data(e.to_string()))?;
    let requester = Requester { user_id, user, device_id: device_id.into(), admin, application: None };
    Ok(Some(AccessToken { requester, expires_ms, supersedes, last_seen_ms, locked }))
}

/// Tokens to be issued to a device.
#[derive(Debug, Clone, Copy)]
pub struct NewTokens {
    /// Hash of the access token.
    pub access: TokenHash,
    /// When that expires.
    pub expires_ms: Option<i64>,
    /// Hash of the refresh token, where the client can use one.
    pub refresh: Option<TokenHash>,
    /// The refresh token that they were made with.
    pub supersedes: Option<TokenHash>,
}

/// Stores new tokens.
///
/// # Errors
///
/// Database errors.
pub fn issue(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, tokens: &NewTokens, now_ms: i64) -> Result<()> {
    let supersedes = tokens.supersedes.as_ref().map(|hash| &hash[..]);
    tx.prepare_cached(
        "INSERT INTO access_tokens (token_hash, user_nid, device_id, created_ms, expires_ms, supersedes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((&tokens.access[..], user.0, device_id.as_str(), now_ms, tokens.expires_ms, supersedes))?;
    if let Some(refresh) = &tokens.refresh {
        tx.prepare_cached(
            "INSERT INTO refresh_tokens (token_hash, user_nid, device_id, created_ms, supersedes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((&refresh[..], user.0, device_id.as_str(), now_ms, supersedes))?;
    }
    Ok(())
}

/// The user and device of a refresh token, and the token that it supersedes until first used.
///
/// # Errors
///
/// Database errors.
#[expect(clippy::type_complexity, reason = "read in one place")]
pub fn refresh(db: &Reader<'_>, hash: &TokenHash) -> Result<Option<(UserNid, String, Option<Vec<u8>>)>> {
    let mut query = db.prepare_cached(
        "SELECT t.user_nid, t.device_id, t.supersedes FROM refresh_tokens t JOIN accounts a USING (user_nid)
         WHERE t.token_hash = ?1 AND a.deactivated = 0",
    )?;
    Ok(query.query_row([&hash[..]], |row| Ok((UserNid(row.get(0)?), row.get(1)?, row.get(2)?))).optional()?)
}

/// One of a pair of new tokens was used: what they were made with, and the access tokens from before, end. Of an OAuth
/// session's refresh token it is remembered that it was good once.
///
/// # Errors
///
/// Database errors.
pub fn settle(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, superseded: &[u8], now_ms: i64) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO spent_refresh_tokens (token_hash, user_nid, device_id, spent_ms)
         SELECT token_hash, user_nid, device_id, ?2 FROM refresh_tokens JOIN oauth_grants USING (user_nid, device_id) WHERE token_hash = ?1",
    )?
    .execute((superseded, now_ms))?;
    tx.prepare_cached("DELETE FROM refresh_tokens WHERE token_hash = ?1")?.execute([superseded])?;
    tx.prepare_cached("DELETE FROM access_tokens WHERE user_nid = ?1 AND device_id = ?2 AND supersedes IS NOT ?3")?.execute((
        user.0,
        device_id.as_str(),
        superseded,
    ))?;
    for table in ["access_tokens", "refresh_tokens"] {
        tx.prepare_cached(&format!("UPDATE {table} SET supersedes = NULL WHERE user_nid = ?1 AND device_id = ?2 AND supersedes = ?3"))?
            .execute((user.0, device_id.as_str(), superseded))?;
    }
    Ok(())
}

/// Forgets tokens of a device that were made with this refresh token and never used: their answer got lost.
///
/// # Errors
///
/// Database errors.
pub fn forget_unused(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, superseded: &TokenHash) -> Result<()> {
    for table in ["access_tokens", "refresh_tokens"] {
        let sql = format!("DELETE FROM {table} WHERE user_nid = ?1 AND device_id = ?2 AND supersedes = ?3");
        tx.prepare_cached(&sql)?.execute((user.0, device_id.as_str(), &superseded[..]))?;
    }
    Ok(())
}

/// The user and device whose access or refresh token this is, in whichever state.
///
/// # Errors
///
/// Database errors.
pub fn owner(db: &Reader<'_>, hash: &TokenHash) -> Result<Option<(UserNid, String)>> {
    let mut query = db.prepare_cached(
        "SELECT user_nid, device_id FROM access_tokens WHERE token_hash = ?1
         UNION ALL SELECT user_nid, device_id FROM refresh_tokens WHERE token_hash = ?1",
    )?;
    Ok(query.query_row([&hash[..]], |row| Ok((UserNid(row.get(0)?), row.get(1)?))).optional()?)
}

/// The user and device of an OAuth session to whom this refresh token belonged before it was replaced.
///
/// # Errors
///
/// Database errors.
pub fn spent(db: &Reader<'_>, hash: &TokenHash) -> Result<Option<(UserNid, String)>> {
    let mut query = db.prepare_cached("SELECT user_nid, device_id FROM spent_refresh_tokens WHERE token_hash = ?1")?;
    Ok(query.query_row([&hash[..]], |row| Ok((UserNid(row.get(0)?), row.get(1)?))).optional()?)
}

/// Ends every token of a device, and what allowed an OAuth client to get them.
///
/// # Errors
///
/// Database errors.
pub fn revoke(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId) -> Result<()> {
    for table in ["access_tokens", "refresh_tokens", "spent_refresh_tokens", "oauth_grants"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE user_nid = ?1 AND device_id = ?2"))?.execute((user.0, device_id.as_str()))?;
    }
    Ok(())
}
