//! OAuth 2.0: registered clients, the sessions that were granted to them, authorisation codes.

use ruma::{DeviceId, OwnedDeviceId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, tokens::TokenHash};
use crate::homeserver::types::UserNid;

/// Rows that one round of [`expire`] takes from each table.
const BATCH: i64 = 1000;

/// The client of this metadata, which is registered if there is none yet. `None` when there are `most` clients already and
/// each of them is in use.
///
/// # Errors
///
/// Database errors.
pub fn register(tx: &Tx<'_>, client_id: &str, metadata: &str, hash: &TokenHash, most: i64, now_ms: i64) -> Result<Option<String>> {
    let known: Option<String> = tx
        .prepare_cached("UPDATE oauth_clients SET used_ms = ?2 WHERE metadata_hash = ?1 RETURNING client_id")?
        .query_row((&hash[..], now_ms), |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(known);
    }
    let count: i64 = tx.query_row("SELECT count(*) FROM oauth_clients", [], |row| row.get(0))?;
    if count >= most && forget_unused(tx, now_ms, 1)? == 0 {
        return Ok(None);
    }
    tx.prepare_cached("INSERT INTO oauth_clients (client_id, metadata_hash, metadata, used_ms) VALUES (?1, ?2, ?3, ?4)")?.execute((
        client_id,
        &hash[..],
        metadata,
        now_ms,
    ))?;
    Ok(Some(client_id.to_owned()))
}

/// Forgets clients that nobody is signed in with and that were not used since, the least recently used first.
fn forget_unused(tx: &Tx<'_>, before_ms: i64, most: i64) -> Result<usize> {
    let sql = "DELETE FROM oauth_clients WHERE client_id IN (
                   SELECT client_id FROM oauth_clients c WHERE used_ms <= ?1
                   AND NOT EXISTS (SELECT 1 FROM oauth_grants g WHERE g.client_id = c.client_id)
                   AND NOT EXISTS (SELECT 1 FROM oauth_codes k WHERE k.client_id = c.client_id)
                   ORDER BY used_ms LIMIT ?2)";
    Ok(tx.prepare_cached(sql)?.execute((before_ms, most))?)
}

/// The metadata of a client.
///
/// # Errors
///
/// Database errors.
pub fn client(db: &Reader<'_>, client_id: &str) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT metadata FROM oauth_clients WHERE client_id = ?1")?;
    Ok(query.query_row([client_id], |row| row.get(0)).optional()?)
}

/// What a client was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The client.
    pub client_id: String,
    /// The scope, as it was asked for.
    pub scope: String,
    /// The code that it was got with, where it was.
    pub code_hash: Option<Vec<u8>>,
}

/// The grant behind a device's tokens; `None` for a device that signed in by the legacy API.
///
/// # Errors
///
/// Database errors.
pub fn grant(db: &Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<Option<Grant>> {
    let mut query = db.prepare_cached("SELECT client_id, scope, code_hash FROM oauth_grants WHERE user_nid = ?1 AND device_id = ?2")?;
    let found = query
        .query_row((user.0, device_id.as_str()), |row| Ok(Grant { client_id: row.get(0)?, scope: row.get(1)?, code_hash: row.get(2)? }));
    Ok(found.optional()?)
}

/// All clients that a user has granted something, by device, with their metadata.
///
/// # Errors
///
/// Database errors.
pub fn clients_of(db: &Reader<'_>, user: UserNid) -> Result<Vec<(OwnedDeviceId, String)>> {
    let mut query =
        db.prepare_cached("SELECT device_id, metadata FROM oauth_grants JOIN oauth_clients USING (client_id) WHERE user_nid = ?1")?;
    let rows = query.query_map([user.0], |row| Ok((row.get::<_, String>(0)?.into(), row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Stores what a client was granted. What the device had before has been revoked by the caller.
///
/// # Errors
///
/// Database errors.
pub fn put_grant(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, grant: &Grant, now_ms: i64) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO oauth_grants (user_nid, device_id, client_id, scope, code_hash, granted_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((user.0, device_id.as_str(), &grant.client_id, &grant.scope, grant.code_hash.as_deref(), now_ms))?;
    tx.prepare_cached("UPDATE oauth_clients SET used_ms = ?2 WHERE client_id = ?1")?.execute((&grant.client_id, now_ms))?;
    Ok(())
}

/// An authorisation code and what it stands for.
#[derive(Debug, Clone)]
pub struct Code {
    /// Who may use it.
    pub client_id: String,
    /// Who gave it.
    pub user: UserNid,
    /// For which device.
    pub device_id: OwnedDeviceId,
    /// For which scope.
    pub scope: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// The PKCE challenge (S256).
    pub challenge: String,
    /// When it ends.
    pub expires_ms: i64,
    /// It has been used.
    pub used: bool,
}

/// Stores a code.
///
/// # Errors
///
/// Database errors.
pub fn put_code(tx: &Tx<'_>, hash: &TokenHash, code: &Code) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO oauth_codes (code_hash, client_id, user_nid, device_id, scope, redirect_uri, challenge, expires_ms, used)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        &hash[..],
        &code.client_id,
        code.user.0,
        code.device_id.as_str(),
        &code.scope,
        &code.redirect_uri,
        &code.challenge,
        code.expires_ms,
        code.used,
    ))?;
    Ok(())
}

/// A code as it was before this use. It is used up by it, whatever comes of that.
///
/// # Errors
///
/// Database errors.
pub fn use_code(tx: &Tx<'_>, hash: &TokenHash) -> Result<Option<Code>> {
    let mut query = tx.prepare_cached(
        "SELECT client_id, user_nid, device_id, scope, redirect_uri, challenge, expires_ms, used FROM oauth_codes WHERE code_hash = ?1",
    )?;
    let found = query.query_row([&hash[..]], |row| {
        Ok(Code {
            client_id: row.get(0)?,
            user: UserNid(row.get(1)?),
            device_id: row.get::<_, String>(2)?.into(),
            scope: row.get(3)?,
            redirect_uri: row.get(4)?,
            challenge: row.get(5)?,
            expires_ms: row.get(6)?,
            used: row.get(7)?,
        })
    });
    let found = found.optional()?;
    if found.is_some() {
        tx.prepare_cached("UPDATE oauth_codes SET used = 1 WHERE code_hash = ?1")?.execute([&hash[..]])?;
    }
    Ok(found)
}

/// Ends the codes of a user that were not used yet.
///
/// # Errors
///
/// Database errors.
pub fn forget_codes(tx: &Tx<'_>, user: UserNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM oauth_codes WHERE user_nid = ?1 AND used = 0")?.execute([user.0])?;
    Ok(())
}

/// Until when things are kept, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// Codes that ended before.
    pub codes_ms: i64,
    /// Refresh tokens that were replaced before.
    pub spent_ms: i64,
    /// Clients that nobody is signed in with and that were used before.
    pub clients_ms: i64,
}

/// Forgets what lies beyond the horizon. At most a batch of each: callers come again.
///
/// # Errors
///
/// Database errors.
pub fn expire(tx: &Tx<'_>, horizon: Horizon) -> Result<usize> {
    let codes = "DELETE FROM oauth_codes WHERE code_hash IN
                 (SELECT code_hash FROM oauth_codes WHERE expires_ms < ?1 ORDER BY expires_ms LIMIT ?2)";
    let spent = "DELETE FROM spent_refresh_tokens WHERE token_hash IN
                 (SELECT token_hash FROM spent_refresh_tokens WHERE spent_ms < ?1 ORDER BY spent_ms LIMIT ?2)";
    let mut count = tx.prepare_cached(codes)?.execute((horizon.codes_ms, BATCH))?;
    count += tx.prepare_cached(spent)?.execute((horizon.spent_ms, BATCH))?;
    Ok(count + forget_unused(tx, horizon.clients_ms, BATCH)?)
}
