//! User IDs and their integer ids, of local and remote users alike.

use ruma::{OwnedUserId, UserId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::UserNid;

/// The integer id of a user, given out on first use.
///
/// # Errors
///
/// Database errors.
pub fn intern(tx: &Tx<'_>, user_id: &UserId) -> Result<UserNid> {
    if let Some(found) = find(&tx.reader(), user_id)? {
        return Ok(found);
    }
    tx.prepare_cached("INSERT INTO users (user_id) VALUES (?1)")?.execute([user_id.as_str()])?;
    Ok(UserNid(tx.last_insert_rowid()))
}

/// The integer id of a user that the store has met.
///
/// # Errors
///
/// Database errors.
pub fn find(db: &Reader<'_>, user_id: &UserId) -> Result<Option<UserNid>> {
    let mut query = db.prepare_cached("SELECT user_nid FROM users WHERE user_id = ?1")?;
    Ok(query.query_row([user_id.as_str()], |row| row.get(0).map(UserNid)).optional()?)
}

/// The user ID behind an integer id.
///
/// # Errors
///
/// Database errors; [`StoreError::Data`] for an id that was never given out.
pub fn user_id(db: &Reader<'_>, user: UserNid) -> Result<OwnedUserId> {
    let mut query = db.prepare_cached("SELECT user_id FROM users WHERE user_nid = ?1")?;
    let text: String = query.query_row([user.0], |row| row.get(0))?;
    parse(&text)
}

/// The same; `None` for an integer id that was never given out.
///
/// # Errors
///
/// Database errors.
pub fn known(db: &Reader<'_>, user: UserNid) -> Result<Option<OwnedUserId>> {
    let mut query = db.prepare_cached("SELECT user_id FROM users WHERE user_nid = ?1")?;
    let text: Option<String> = query.query_row([user.0], |row| row.get(0)).optional()?;
    text.as_deref().map(parse).transpose()
}

/// Reads a user ID that the store holds.
pub(super) fn parse(text: &str) -> Result<OwnedUserId> {
    UserId::parse(text).map_err(|e| StoreError::Data(format!("user ID: {e}")))
}

/// True for a user who has a live account on this node.
///
/// # Errors
///
/// Database errors.
pub fn is_local(db: &Reader<'_>, user: UserNid) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM accounts WHERE user_nid = ?1 AND deactivated = 0")?;
    Ok(query.exists([user.0])?)
}

/// What a user's own `m.room.member` event says about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberProfile {
    /// Display name.
    pub displayname: Option<String>,
    /// Avatar, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// The profile fields that go into membership events.
///
/// # Errors
///
/// Database errors.
pub fn member_profile(db: &Reader<'_>, user: UserNid) -> Result<MemberProfile> {
    let mut query =
        db.prepare_cached("SELECT field, value FROM profiles WHERE user_nid = ?1 AND field IN ('displayname', 'avatar_url')")?;
    let mut rows = query.query([user.0])?;
    let mut profile = MemberProfile::default();
    while let Some(row) = rows.next()? {
        let (field, value): (String, String) = (row.get(0)?, row.get(1)?);
        let value: Option<String> = serde_json::from_str(&value).map_err(|e| StoreError::Data(format!("profile: {e}")))?;
        if field == "displayname" {
            profile.displayname = value;
        } else {
            profile.avatar_url = value;
        }
    }
    Ok(profile)
}
