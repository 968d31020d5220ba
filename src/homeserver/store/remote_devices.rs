//! Device lists of other servers' users, kept for as long as their servers tell us of every change.
//!
//! A list is current while a room has been shared without a break since it was asked for: only then did their server owe us
//! every change. That is read off the member list, so that nothing has to be done when somebody leaves.

use std::collections::HashMap;

use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{RoomNid, StreamPos, UserNid};

/// What is known of a user's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The newest change that is in it.
    pub stream_id: Option<i64>,
    /// Where our stream was when it was asked for; `None` when it has to be asked for again.
    pub asked_pos: Option<StreamPos>,
    /// Changes heard of so far.
    pub heard: i64,
}

/// What is known of a user's list, if anything.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid) -> Result<Option<Known>> {
    let mut query = db.prepare_cached("SELECT stream_id, asked_pos, heard FROM remote_device_lists WHERE user_nid = ?1")?;
    let found = query.query_row([user.0], |row| {
        Ok(Known { stream_id: row.get(0)?, asked_pos: row.get::<_, Option<i64>>(1)?.map(StreamPos), heard: row.get(2)? })
    });
    Ok(found.optional()?)
}

/// Rooms that local users are in, with the place since when without a break.
///
/// # Errors
///
/// Database errors.
pub fn local_rooms(db: &Reader<'_>) -> Result<HashMap<RoomNid, StreamPos>> {
    let mut query = db.prepare_cached(
        "SELECT m.room_nid, min(m.stream_pos) FROM accounts a CROSS JOIN members m ON m.user_nid = a.user_nid AND m.membership = 'join'
         GROUP BY m.room_nid",
    )?;
    let rows = query.query_map([], |row| Ok((RoomNid(row.get(0)?), StreamPos(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Since when a room has been shared with somebody without a break, at the longest; `None` when none is.
///
/// # Errors
///
/// Database errors.
pub fn shared_since(db: &Reader<'_>, rooms: &HashMap<RoomNid, StreamPos>, user: UserNid) -> Result<Option<StreamPos>> {
    let mut query = db.prepare_cached("SELECT room_nid, stream_pos FROM members WHERE user_nid = ?1 AND membership = 'join'")?;
    let mut rows = query.query([user.0])?;
    let mut since = None;
    while let Some(row) = rows.next()? {
        let (room, theirs) = (RoomNid(row.get(0)?), StreamPos(row.get(1)?));
        let Some(ours) = rooms.get(&room) else { continue };
        let both = theirs.max(*ours);
        if since.is_none_or(|since| both < since) {
            since = Some(both);
        }
    }
    Ok(since)
}

/// Is the list what the user's server would say now, as far as we can have heard?
///
/// # Errors
///
/// Database errors.
pub fn is_current(db: &Reader<'_>, rooms: &HashMap<RoomNid, StreamPos>, user: UserNid) -> Result<bool> {
    let Some(asked) = get(db, user)?.and_then(|known| known.asked_pos) else { return Ok(false) };
    Ok(shared_since(db, rooms, user)?.is_some_and(|since| since <= asked))
}

/// Notes that a change was heard of.
///
/// # Errors
///
/// Database errors.
pub fn heard(tx: &Tx<'_>, user: UserNid) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO remote_device_lists (user_nid, heard) VALUES (?1, 1) ON CONFLICT (user_nid) DO UPDATE SET heard = heard + 1",
    )?
    .execute([user.0])?;
    Ok(())
}

/// The list has to be asked for again.
///
/// # Errors
///
/// Database errors.
pub fn outdated(tx: &Tx<'_>, user: UserNid) -> Result<()> {
    tx.prepare_cached("UPDATE remote_device_lists SET asked_pos = NULL, stream_id = NULL WHERE user_nid = ?1")?.execute([user.0])?;
    Ok(())
}

/// A change has been applied to the list.
///
/// # Errors
///
/// Database errors.
pub fn applied(tx: &Tx<'_>, user: UserNid, stream_id: i64) -> Result<()> {
    tx.prepare_cached("UPDATE remote_device_lists SET stream_id = ?2 WHERE user_nid = ?1")?.execute((user.0, stream_id))?;
    Ok(())
}

/// Notes how new the list is that is now stored.
///
/// # Errors
///
/// Database errors.
pub fn fetched(tx: &Tx<'_>, user: UserNid, stream_id: Option<i64>, asked_pos: Option<StreamPos>) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO remote_device_lists (user_nid, stream_id, asked_pos) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_nid) DO UPDATE SET stream_id = ?2, asked_pos = ?3",
    )?
    .execute((user.0, stream_id, asked_pos.map(|pos| pos.0)))?;
    Ok(())
}

/// Removes one device's keys. False when there were none.
///
/// # Errors
///
/// Database errors.
pub fn delete_device(tx: &Tx<'_>, user: UserNid, device_id: &str) -> Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM device_keys WHERE user_nid = ?1 AND device_id = ?2")?.execute((user.0, device_id))? > 0)
}

/// Forgets lists of users with whom no room is shared, a few at a time. Returns how many.
///
/// # Errors
///
/// Database errors.
pub fn forget_strangers(tx: &Tx<'_>, at_most: usize) -> Result<usize> {
    let rooms = local_rooms(&tx.reader())?;
    let users = tx
        .prepare_cached("SELECT user_nid FROM remote_device_lists")?
        .query_map([], |row| row.get(0).map(UserNid))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut gone = 0;
    for user in users {
        if gone == at_most {
            break;
        }
        if shared_since(&tx.reader(), &rooms, user)?.is_some() {
            continue;
        }
        // The cross-signing keys stay: signatures of ours hang on them.
        for table in ["device_keys", "remote_device_lists"] {
            tx.prepare_cached(&format!("DELETE FROM {table} WHERE user_nid = ?1"))?.execute([user.0])?;
        }
        gone += 1;
    }
    Ok(gone)
}

/// Digests of what other servers were told of a user's devices, by device ID; the empty one is of the cross-signing keys.
///
/// # Errors
///
/// Database errors.
pub fn told(db: &Reader<'_>, user: UserNid) -> Result<HashMap<String, Vec<u8>>> {
    let mut query = db.prepare_cached("SELECT device_id, digest FROM told_devices WHERE user_nid = ?1")?;
    let rows = query.query_map([user.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Notes what other servers are told of a device; `None`: that it is gone.
///
/// # Errors
///
/// Database errors.
pub fn tell(tx: &Tx<'_>, user: UserNid, device_id: &str, digest: Option<&[u8]>) -> Result<()> {
    match digest {
        Some(digest) => tx
            .prepare_cached(
                "INSERT INTO told_devices (user_nid, device_id, digest) VALUES (?1, ?2, ?3)
                 ON CONFLICT (user_nid, device_id) DO UPDATE SET digest = ?3",
            )?
            .execute((user.0, device_id, digest))?,
        None => tx.prepare_cached("DELETE FROM told_devices WHERE user_nid = ?1 AND device_id = ?2")?.execute((user.0, device_id))?,
    };
    Ok(())
}

/// The stream ID of the last change of a local user's devices that others were told; 0 before the first.
///
/// # Errors
///
/// Database errors.
pub fn stream_id(db: &Reader<'_>, user: UserNid) -> Result<i64> {
    let mut query = db.prepare_cached("SELECT stream_id FROM told_streams WHERE user_nid = ?1")?;
    Ok(query.query_row([user.0], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Takes the next stream ID of a local user's device list. Returns it with the one before.
///
/// # Errors
///
/// Database errors.
pub fn next_stream_id(tx: &mut Tx<'_>, user: UserNid) -> Result<(i64, i64)> {
    let before = stream_id(&tx.reader(), user)?;
    // Places in the node's stream only grow, as these have to.
    let next = tx.next_pos().0.max(before.saturating_add(1));
    tx.prepare_cached(
        "INSERT INTO told_streams (user_nid, stream_id) VALUES (?1, ?2) ON CONFLICT (user_nid) DO UPDATE SET stream_id = ?2",
    )?
    .execute((user.0, next))?;
    Ok((next, before))
}

/// Local users whose devices or keys changed after a position, oldest change first.
///
/// # Errors
///
/// Database errors.
pub fn changed_locals(db: &Reader<'_>, after: StreamPos, limit: usize) -> Result<Vec<(StreamPos, UserNid, ruma::OwnedUserId)>> {
    let mut query = db.prepare_cached(
        "SELECT c.stream_pos, c.user_nid, u.user_id FROM device_list_changes c JOIN accounts USING (user_nid) JOIN users u USING (user_nid)
         WHERE c.stream_pos > ?1 ORDER BY c.stream_pos LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = query.query((after.0, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(2)?;
        let id = ruma::UserId::parse(&id).map_err(|e| StoreError::Data(format!("user ID: {e}")))?;
        found.push((StreamPos(row.get(0)?), UserNid(row.get(1)?), id));
    }
    Ok(found)
}
