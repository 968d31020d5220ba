//! Identities that providers vouch for, and the accounts that they open.

use ruma::OwnedUserId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, users};
use crate::homeserver::types::UserNid;

/// The account of an identity.
///
/// # Errors
///
/// Database errors.
pub fn user_of(db: &Reader<'_>, issuer: &str, subject: &str) -> Result<Option<(OwnedUserId, UserNid)>> {
    let mut query = db.prepare_cached("SELECT user_nid FROM sso_identities WHERE issuer = ?1 AND subject = ?2")?;
    let found: Option<i64> = query.query_row([issuer, subject], |row| row.get(0)).optional()?;
    found.map(|nid| Ok((users::user_id(db, UserNid(nid))?, UserNid(nid)))).transpose()
}

/// The issuers that vouch for a user.
///
/// # Errors
///
/// Database errors.
pub fn issuers_of(db: &Reader<'_>, user: UserNid) -> Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT DISTINCT issuer FROM sso_identities WHERE user_nid = ?1 ORDER BY issuer")?;
    let found = query.query_map([user.0], |row| row.get(0))?.collect::<rusqlite::Result<_>>();
    Ok(found?)
}

/// Gives an account to an identity that has none.
///
/// # Errors
///
/// Database errors, among them that the identity has one.
pub fn link(tx: &Tx<'_>, issuer: &str, subject: &str, user: UserNid, now_ms: i64) -> Result<()> {
    tx.prepare_cached("INSERT INTO sso_identities (issuer, subject, user_nid, linked_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute((issuer, subject, user.0, now_ms))?;
    Ok(())
}
