//! Local accounts: passwords, rights, registration tokens.

use ruma::UserId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, users};
use crate::homeserver::types::{StreamPos, UserNid};

/// A local account as far as signing in needs it.
#[derive(Debug, Clone)]
pub struct Account {
    /// In the store.
    pub user: UserNid,
    /// argon2id as a PHC string; `None` where nobody can sign in with a password.
    pub password_hash: Option<String>,
    /// May use admin endpoints.
    pub admin: bool,
    /// Closed for good.
    pub deactivated: bool,
    /// Can do nothing until it is unlocked.
    pub locked: bool,
    /// Can only look until it is lifted.
    pub suspended: bool,
}

/// The account of a user, if the user has one here.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user_id: &UserId) -> Result<Option<Account>> {
    let mut query = db.prepare_cached(
        "SELECT user_nid, password_hash, admin, deactivated, locked, suspended FROM accounts JOIN users USING (user_nid) WHERE user_id = ?1",
    )?;
    let found = query.query_row([user_id.as_str()], |row| {
        Ok(Account {
            user: UserNid(row.get(0)?),
            password_hash: row.get(1)?,
            admin: row.get(2)?,
            deactivated: row.get(3)?,
            locked: row.get(4)?,
            suspended: row.get(5)?,
        })
    });
    Ok(found.optional()?)
}

/// The local user behind a user ID, if there is an active account.
///
/// # Errors
///
/// Database errors.
pub fn active(db: &Reader<'_>, user_id: &UserId) -> Result<Option<UserNid>> {
    Ok(get(db, user_id)?.filter(|account| !account.deactivated).map(|account| account.user))
}

/// Makes an account. `None` when the user ID is or was in use: closed accounts' names are never given out again.
///
/// # Errors
///
/// Database errors.
pub fn create(tx: &Tx<'_>, user_id: &UserId, password_hash: Option<&str>, admin: bool, now_ms: i64) -> Result<Option<UserNid>> {
    let user = users::intern(tx, user_id)?;
    if get(&tx.reader(), user_id)?.is_some() {
        return Ok(None);
    }
    tx.prepare_cached("INSERT INTO accounts (user_nid, password_hash, admin, created_ms) VALUES (?1, ?2, ?3, ?4)")?.execute((
        user.0,
        password_hash,
        admin,
        now_ms,
    ))?;
    Ok(Some(user))
}

/// Replaces the password.
///
/// # Errors
///
/// Database errors.
pub fn set_password(tx: &Tx<'_>, user: UserNid, password_hash: &str) -> Result<()> {
    tx.prepare_cached("UPDATE accounts SET password_hash = ?2 WHERE user_nid = ?1 AND deactivated = 0")?
        .execute((user.0, password_hash))?;
    Ok(())
}

/// Closes an account: nobody can sign in to it again, and what only its owner could use is gone. Devices are deleted separately.
///
/// # Errors
///
/// Database errors.
pub fn deactivate(tx: &Tx<'_>, user: UserNid) -> Result<()> {
    tx.execute("UPDATE accounts SET deactivated = 1, password_hash = NULL, admin = 0 WHERE user_nid = ?1", [user.0])?;
    for table in [
        "profiles",
        "filters",
        "account_data",
        "pushers",
        "push_actions",
        "notifications",
        "delayed_events",
        "transactions",
        "cross_signing_keys",
        "backup_sessions",
        "backup_versions",
        "oauth_codes",
        "openid_tokens",
        "thread_subscriptions",
    ] {
        tx.execute(&format!("DELETE FROM {table} WHERE user_nid = ?1"), [user.0])?;
    }
    tx.execute("DELETE FROM signature_changes WHERE signer_nid = ?1", [user.0])?;
    tx.execute("DELETE FROM key_signatures WHERE target_nid = ?1 OR signer_nid = ?1", [user.0])?;
    Ok(())
}

/// Makes a registration token, or replaces one of the same name.
///
/// # Errors
///
/// Database errors.
pub fn put_registration_token(tx: &Tx<'_>, token: &str, uses_allowed: Option<i64>, expires_ms: Option<i64>, now_ms: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO registration_tokens (token, uses_allowed, expires_ms, created_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (token) DO UPDATE SET uses_allowed = ?2, expires_ms = ?3",
        (token, uses_allowed, expires_ms, now_ms),
    )?;
    Ok(())
}

/// True when the token may be used for a registration now.
///
/// # Errors
///
/// Database errors.
pub fn registration_token_is_valid(db: &Reader<'_>, token: &str, now_ms: i64) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM registration_tokens
         WHERE token = ?1 AND (uses_allowed IS NULL OR uses < uses_allowed) AND (expires_ms IS NULL OR expires_ms > ?2)",
    )?;
    Ok(query.exists((token, now_ms))?)
}

/// Uses the token once. False when it was not valid (any more).
///
/// # Errors
///
/// Database errors.
pub fn use_registration_token(tx: &Tx<'_>, token: &str, now_ms: i64) -> Result<bool> {
    if !registration_token_is_valid(&tx.reader(), token, now_ms)? {
        return Ok(false);
    }
    tx.execute("UPDATE registration_tokens SET uses = uses + 1 WHERE token = ?1", [token])?;
    Ok(true)
}

/// Locks or unlocks an account.
///
/// # Errors
///
/// Database errors.
pub fn set_locked(tx: &Tx<'_>, user: UserNid, locked: bool) -> Result<()> {
    tx.execute("UPDATE accounts SET locked = ?2 WHERE user_nid = ?1", (user.0, locked))?;
    Ok(())
}

/// Suspends an account, or lifts that.
///
/// # Errors
///
/// Database errors.
pub fn set_suspended(tx: &Tx<'_>, user: UserNid, suspended: bool) -> Result<()> {
    tx.execute("UPDATE accounts SET suspended = ?2 WHERE user_nid = ?1", (user.0, suspended))?;
    Ok(())
}

/// True for a local user whose account is suspended.
///
/// # Errors
///
/// Database errors.
pub fn is_suspended(db: &Reader<'_>, user: UserNid) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM accounts WHERE user_nid = ?1 AND suspended = 1")?;
    Ok(query.exists([user.0])?)
}

/// Notes that a user's messages up to here are to be erased.
///
/// # Errors
///
/// Database errors.
pub fn set_erased(tx: &mut Tx<'_>, user: UserNid) -> Result<()> {
    let pos = tx.next_pos();
    tx.execute("UPDATE accounts SET erased_pos = ?2 WHERE user_nid = ?1", (user.0, pos.0))?;
    Ok(())
}

/// Where in the stream a user asked for erasure.
///
/// # Errors
///
/// Database errors.
pub fn erased_at(db: &Reader<'_>, user: UserNid) -> Result<Option<StreamPos>> {
    let mut query = db.prepare_cached("SELECT erased_pos FROM accounts WHERE user_nid = ?1 AND erased_pos IS NOT NULL")?;
    Ok(query.query_row([user.0], |row| row.get(0).map(StreamPos)).optional()?)
}
