//! Server-side key backup: which version takes keys, and which of two copies of a session is the better one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::homeserver::{
    store::{
        self, Reader, StoreError, Tx,
        backup::{Session, Version, Which},
    },
    types::UserNid,
};

/// Largest encrypted session.
const SESSION_BYTES: usize = 64 * 1024;

/// Why a backup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no such version.
    #[error("there is no such backup")]
    UnknownVersion,
    /// Keys go into the newest version only.
    #[error("the backup's current version is {current}")]
    WrongVersion {
        /// The newest.
        current: i64,
    },
    /// The algorithm of a version is fixed.
    #[error("the algorithm of a backup cannot be changed")]
    AlgorithmChanged,
    /// A session has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Room to session ID to session.
pub type Rooms = BTreeMap<String, BTreeMap<String, Session>>;

/// What every change answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Changes whenever the sessions do.
    pub etag: i64,
    /// How many sessions there are.
    pub count: i64,
}

/// Reads a session from JSON.
///
/// # Errors
///
/// [`BackupError::Invalid`].
pub fn session(json: &Value) -> Result<Session, BackupError> {
    let invalid = |field: &str| BackupError::Invalid(format!("`{field}` of a session is missing or has the wrong form"));
    let number = |field: &str| json.get(field).and_then(Value::as_i64).filter(|n| *n >= 0).ok_or_else(|| invalid(field));
    let session_data = json.get("session_data").filter(|data| data.is_object()).ok_or_else(|| invalid("session_data"))?.clone();
    if session_data.to_string().len() > SESSION_BYTES {
        return Err(BackupError::Invalid("a session is too large".into()));
    }
    Ok(Session {
        first_message_index: number("first_message_index")?,
        forwarded_count: number("forwarded_count")?,
        is_verified: json.get("is_verified").and_then(Value::as_bool).ok_or_else(|| invalid("is_verified"))?,
        session_data,
    })
}

/// True when the new copy is better (Client-Server API, `PUT /room_keys/keys/{roomId}/{sessionId}`).
fn replaces(new: &Session, old: &Session) -> bool {
    if new.is_verified != old.is_verified {
        return new.is_verified;
    }
    if new.first_message_index != old.first_message_index {
        return new.first_message_index < old.first_message_index;
    }
    new.forwarded_count < old.forwarded_count
}

/// The version of that number.
///
/// # Errors
///
/// [`BackupError::UnknownVersion`].
pub fn version(db: &Reader<'_>, user: UserNid, version: Option<i64>) -> Result<Version, BackupError> {
    store::backup::get(db, user, version)?.ok_or(BackupError::UnknownVersion)
}

fn state(db: &Reader<'_>, user: UserNid, number: i64) -> Result<State, BackupError> {
    Ok(State { etag: version(db, user, Some(number))?.etag, count: store::backup::count(db, user, number)? })
}

/// Stores sessions in the newest version.
///
/// # Errors
///
/// [`BackupError::WrongVersion`] for an older one, [`BackupError::UnknownVersion`].
pub fn put(tx: &Tx<'_>, user: UserNid, number: i64, rooms: &Rooms) -> Result<State, BackupError> {
    let current = version(&tx.reader(), user, None)?.version;
    if number != current {
        version(&tx.reader(), user, Some(number))?;
        return Err(BackupError::WrongVersion { current });
    }
    let mut changed = false;
    for (room_id, sessions) in rooms {
        for (session_id, new) in sessions {
            let which = Which { room_id: Some(room_id.clone()), session_id: Some(session_id.clone()) };
            let old = store::backup::sessions(&tx.reader(), user, number, &which)?.pop();
            if old.is_none_or(|(_, _, old)| replaces(new, &old)) {
                store::backup::put_session(tx, user, number, room_id, session_id, new)?;
                changed = true;
            }
        }
    }
    if changed {
        store::backup::bump(tx, user, number)?;
    }
    state(&tx.reader(), user, number)
}

/// Deletes sessions.
///
/// # Errors
///
/// [`BackupError::UnknownVersion`].
pub fn delete(tx: &Tx<'_>, user: UserNid, number: i64, which: &Which) -> Result<State, BackupError> {
    version(&tx.reader(), user, Some(number))?;
    if store::backup::delete_sessions(tx, user, number, which)? > 0 {
        store::backup::bump(tx, user, number)?;
    }
    state(&tx.reader(), user, number)
}

/// Replaces a version's `auth_data`.
///
/// # Errors
///
/// [`BackupError`].
pub fn update(tx: &Tx<'_>, user: UserNid, number: i64, algorithm: &str, auth_data: &Value) -> Result<(), BackupError> {
    if version(&tx.reader(), user, Some(number))?.algorithm != algorithm {
        return Err(BackupError::AlgorithmChanged);
    }
    Ok(store::backup::set_auth_data(tx, user, number, auth_data)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verified_beats_unverified_then_the_earlier_then_the_less_forwarded() {
        let make = |verified, index, forwarded| Session {
            first_message_index: index,
            forwarded_count: forwarded,
            is_verified: verified,
            session_data: json!({}),
        };
        assert!(replaces(&make(true, 9, 9), &make(false, 0, 0)));
        assert!(!replaces(&make(false, 0, 0), &make(true, 9, 9)));
        assert!(replaces(&make(true, 1, 9), &make(true, 2, 0)));
        assert!(!replaces(&make(true, 3, 0), &make(true, 2, 9)));
        assert!(replaces(&make(true, 2, 0), &make(true, 2, 1)));
        assert!(!replaces(&make(true, 2, 1), &make(true, 2, 1)), "the same is kept");
    }
}
