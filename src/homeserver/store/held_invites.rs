//! Invites that their receivers are not shown before the owner of the node has let them through.

use ruma::{RoomId, UserId};

use super::{Reader, Result, Tx, rooms, users};
use crate::homeserver::types::{RoomNid, UserNid};

/// An invite that is held.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// The room.
    pub room_id: String,
    /// Who is invited.
    pub user_id: String,
    /// Who invites.
    pub inviter: String,
    /// Why it is held, in words.
    pub reason: String,
    /// When it came, in milliseconds since the Unix epoch.
    pub held_ms: i64,
}

/// Holds a user's invite to a room.
///
/// # Errors
///
/// Database errors.
pub fn hold(tx: &Tx<'_>, room: RoomNid, user: UserNid, inviter: &UserId, reason: &str, now_ms: u64) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO held_invites (room_nid, user_nid, inviter, reason, held_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET inviter = ?3, reason = ?4, held_ms = ?5",
    )?
    .execute((room.0, user.0, inviter.as_str(), reason, i64::try_from(now_ms).unwrap_or(i64::MAX)))?;
    Ok(())
}

/// Nothing is held of this user and this room any more.
///
/// # Errors
///
/// Database errors.
pub fn forget(tx: &Tx<'_>, room: RoomNid, user: UserNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM held_invites WHERE room_nid = ?1 AND user_nid = ?2")?.execute((room.0, user.0))?;
    Ok(())
}

/// Is this user's invite to this room held?
///
/// # Errors
///
/// Database errors.
pub fn is_held(db: &Reader<'_>, room: RoomNid, user: UserNid) -> Result<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM held_invites WHERE room_nid = ?1 AND user_nid = ?2")?.exists((room.0, user.0))?)
}

/// The invites that are held, the newest first.
///
/// # Errors
///
/// Database errors.
pub fn all(db: &Reader<'_>, limit: usize) -> Result<Vec<Held>> {
    let mut query = db.prepare_cached(
        "SELECT r.room_id, u.user_id, h.inviter, h.reason, h.held_ms FROM held_invites h JOIN rooms r USING (room_nid)
         JOIN users u USING (user_nid) JOIN members m USING (room_nid, user_nid) WHERE m.membership = 'invite' ORDER BY h.held_ms DESC, h.room_nid DESC LIMIT ?1",
    )?;
    let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(Held { room_id: row.get(0)?, user_id: row.get(1)?, inviter: row.get(2)?, reason: row.get(3)?, held_ms: row.get(4)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Lets an invite through: the user's clients are shown it as if it had just come. False when none is held.
///
/// # Errors
///
/// Database errors.
pub fn release(tx: &mut Tx<'_>, room_id: &RoomId, user_id: &UserId) -> Result<bool> {
    let (room, user) = (rooms::by_id(&tx.reader(), room_id)?, users::find(&tx.reader(), user_id)?);
    let (Some(room), Some(user)) = (room.map(|room| room.nid), user) else { return Ok(false) };
    if !is_held(&tx.reader(), room, user)? {
        return Ok(false);
    }
    forget(tx, room, user)?;
    let pos = tx.next_pos();
    let invited = tx
        .prepare_cached("UPDATE members SET stream_pos = ?3 WHERE room_nid = ?1 AND user_nid = ?2 AND membership = 'invite'")?
        .execute((room.0, user.0, pos.0))?;
    if invited > 0 {
        tx.prepare_cached(
            "INSERT INTO membership_changes (user_nid, stream_pos, room_nid, membership, event_nid)
             SELECT user_nid, ?3, room_nid, membership, event_nid FROM members WHERE room_nid = ?1 AND user_nid = ?2",
        )?
        .execute((room.0, user.0, pos.0))?;
        tx.touch(user);
    }
    Ok(true)
}

/// Is there a room that both users are joined to?
///
/// # Errors
///
/// Database errors.
pub fn share_a_room(db: &Reader<'_>, one: UserNid, other: UserNid) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM members a JOIN members b USING (room_nid)
         WHERE a.user_nid = ?1 AND b.user_nid = ?2 AND a.membership = 'join' AND b.membership = 'join' LIMIT 1",
    )?;
    Ok(query.exists((one.0, other.0))?)
}
