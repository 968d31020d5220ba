//! Whose keys changed when, and who is told.

use ruma::{OwnedUserId, UserId};

use super::{Reader, Result, StoreError, Tx, users};
use crate::homeserver::types::{StreamPos, UserNid};

/// Notes that a user's devices or keys changed, and wakes the user and every local user who shares a room with them.
///
/// # Errors
///
/// Database errors.
pub fn changed(tx: &mut Tx<'_>, user: UserNid) -> Result<StreamPos> {
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO device_list_changes (user_nid, stream_pos) VALUES (?1, ?2) ON CONFLICT (user_nid) DO UPDATE SET stream_pos = ?2",
    )?
    .execute((user.0, pos.0))?;
    for observer in local_observers(&tx.reader(), user)? {
        tx.touch(observer);
    }
    if users::is_local(&tx.reader(), user)? {
        tx.touch(user);
    }
    Ok(pos)
}

/// Notes that a user signed somebody else's key: the user's own devices are to ask for it again.
///
/// # Errors
///
/// Database errors.
pub fn signed(tx: &mut Tx<'_>, signer: UserNid, target: UserNid) -> Result<StreamPos> {
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO signature_changes (signer_nid, target_nid, stream_pos) VALUES (?1, ?2, ?3)
         ON CONFLICT (signer_nid, target_nid) DO UPDATE SET stream_pos = ?3",
    )?
    .execute((signer.0, target.0, pos.0))?;
    tx.touch(signer);
    Ok(pos)
}

/// The other local users who share a joined room with this user.
///
/// # Errors
///
/// Database errors.
pub fn local_observers(db: &Reader<'_>, user: UserNid) -> Result<Vec<UserNid>> {
    let mut query = db.prepare_cached(
        // Accounts are few, members of a room may be many: the order of the joins is not left to statistics.
        "SELECT DISTINCT other.user_nid FROM members mine
         CROSS JOIN accounts
         CROSS JOIN members other ON other.room_nid = mine.room_nid AND other.user_nid = accounts.user_nid AND other.membership = 'join'
         WHERE mine.user_nid = ?1 AND mine.membership = 'join' AND other.user_nid <> ?1",
    )?;
    let found = query.query_map([user.0], |row| row.get(0).map(UserNid))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// True when both are joined to one room, or are one user.
///
/// # Errors
///
/// Database errors.
pub fn share_a_room(db: &Reader<'_>, one: UserNid, other: UserNid) -> Result<bool> {
    let mut query = db.prepare_cached(
        // From the other's rooms, of which we mostly know few.
        "SELECT 1 FROM members b CROSS JOIN members a ON b.room_nid = a.room_nid AND b.user_nid = ?2 AND b.membership = 'join'
         WHERE a.user_nid = ?1 AND a.membership = 'join'",
    )?;
    Ok(one == other || query.exists((one.0, other.0))?)
}

/// Users whose keys changed after `from` and up to `to`, as far as `user` shares a room with them (or is one of them), and
/// those whose keys `user` signed in that time.
///
/// # Errors
///
/// Database errors.
pub fn changed_between(db: &Reader<'_>, user: UserNid, from: StreamPos, to: StreamPos) -> Result<Vec<OwnedUserId>> {
    let mut query = db.prepare_cached(
        "SELECT users.user_id FROM device_list_changes changes JOIN users USING (user_nid)
         WHERE changes.stream_pos > ?2 AND changes.stream_pos <= ?3 AND (changes.user_nid = ?1 OR EXISTS (
             SELECT 1 FROM members mine JOIN members other ON other.room_nid = mine.room_nid AND other.membership = 'join'
             WHERE mine.user_nid = ?1 AND mine.membership = 'join' AND other.user_nid = changes.user_nid))
         UNION
         SELECT users.user_id FROM signature_changes JOIN users ON users.user_nid = signature_changes.target_nid
         WHERE signer_nid = ?1 AND stream_pos > ?2 AND stream_pos <= ?3",
    )?;
    let found = query.query_map((user.0, from.0, to.0), |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    found.into_iter().map(|id| UserId::parse(&id).map_err(|e| StoreError::Data(e.to_string()))).collect()
}

/// Who came to share a room with `user` after `from` and up to `to`, and who shares none any more.
///
/// # Errors
///
/// Database errors.
pub fn moved_between(db: &Reader<'_>, user: UserNid, from: StreamPos, to: StreamPos) -> Result<(Vec<OwnedUserId>, Vec<OwnedUserId>)> {
    let mut query = db.prepare_cached(
        "SELECT DISTINCT other.user_nid FROM members mine JOIN members other USING (room_nid)
         WHERE mine.user_nid = ?1 AND other.user_nid <> ?1 AND CASE
             WHEN mine.membership = 'join' AND other.membership = 'join'
                 THEN max(mine.stream_pos, other.stream_pos) > ?2 AND max(mine.stream_pos, other.stream_pos) <= ?3
             WHEN mine.membership = 'join' AND other.membership IN ('leave', 'ban') THEN other.stream_pos > ?2 AND other.stream_pos <= ?3
             WHEN mine.membership IN ('leave', 'ban') AND other.membership = 'join' THEN mine.stream_pos > ?2 AND mine.stream_pos <= ?3
             ELSE 0 END",
    )?;
    let found = query.query_map((user.0, from.0, to.0), |row| row.get(0).map(UserNid))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let (mut came, mut left) = (Vec::new(), Vec::new());
    for other in found {
        let list = if share_a_room(db, user, other)? { &mut came } else { &mut left };
        list.push(users::user_id(db, other)?);
    }
    Ok((came, left))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A room with these members and nothing else, for tests of what sharing a room means.
    pub(crate) fn share_a_room(tx: &mut Tx<'_>, people: &[String]) -> Result<()> {
        tx.execute("INSERT INTO rooms (room_id, version, created_ms) SELECT '!test' || count(*) || ':home.test', '12', 0 FROM rooms", [])?;
        let (room, pos) = (tx.last_insert_rowid(), tx.next_pos());
        for person in people {
            let user = users::intern(tx, &UserId::parse(person).map_err(|e| StoreError::Data(e.to_string()))?)?;
            tx.execute(
                "INSERT INTO events (event_id, room_nid, sender_nid, type, depth, origin_server_ts, json)
                 SELECT '$' || count(*), ?1, ?2, 'm.room.member', 1, 0, x'00' FROM events",
                (room, user.0),
            )?;
            tx.execute(
                "INSERT INTO members (room_nid, user_nid, membership, event_nid, stream_pos) VALUES (?1, ?2, 'join', ?3, ?4)",
                (room, user.0, tx.last_insert_rowid(), pos.0),
            )?;
        }
        Ok(())
    }

    /// Puts somebody into a room, or takes them out, as far as the member list goes.
    pub(crate) fn set_member(tx: &mut Tx<'_>, room_id: &str, person: &str, membership: &str) -> Result<()> {
        let room: i64 = tx.query_row("SELECT room_nid FROM rooms WHERE room_id = ?1", [room_id], |row| row.get(0))?;
        let user = users::intern(tx, &UserId::parse(person).map_err(|e| StoreError::Data(e.to_string()))?)?;
        let pos = tx.next_pos();
        tx.execute(
            "INSERT INTO events (event_id, room_nid, sender_nid, type, depth, origin_server_ts, json)
             SELECT '$m' || count(*), ?1, ?2, 'm.room.member', 1, 0, x'00' FROM events",
            (room, user.0),
        )?;
        tx.execute(
            "INSERT INTO members (room_nid, user_nid, membership, event_nid, stream_pos) VALUES (?1, ?2, ?5, ?3, ?4)
             ON CONFLICT DO UPDATE SET membership = ?5, event_nid = ?3, stream_pos = ?4",
            (room, user.0, tx.last_insert_rowid(), pos.0, membership),
        )?;
        Ok(())
    }

    /// Gives an event another ID, as if that one had come.
    pub(crate) fn rename_event(tx: &mut Tx<'_>, from: &str, to: &str) -> Result<()> {
        tx.execute("UPDATE events SET event_id = ?2 WHERE event_id = ?1", [from, to])?;
        Ok(())
    }
}
