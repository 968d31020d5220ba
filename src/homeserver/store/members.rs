//! Who is in which room, now and over time.

use ruma::OwnedRoomId;
use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, Tx, rooms, users};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos, UserNid};

/// A user's present standing in a room.
#[derive(Debug, Clone)]
pub struct Member {
    /// The room.
    pub room: RoomNid,
    /// The user.
    pub user: UserNid,
    /// join, invite, knock, leave or ban.
    pub membership: String,
    /// The membership event.
    pub event: EventNid,
    /// When the membership became what it is.
    pub pos: StreamPos,
    /// Display name in the room.
    pub displayname: Option<String>,
    /// Avatar in the room.
    pub avatar_url: Option<String>,
    /// The user has asked to forget the room.
    pub forgotten: bool,
    /// JSON array of stripped state, for invites and knocks.
    pub invite_state: Option<String>,
}

const COLUMNS: &str = "room_nid, user_nid, membership, event_nid, stream_pos, displayname, avatar_url, forgotten, invite_state";

fn read(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member {
        room: RoomNid(row.get(0)?),
        user: UserNid(row.get(1)?),
        membership: row.get(2)?,
        event: EventNid(row.get(3)?),
        pos: StreamPos(row.get(4)?),
        displayname: row.get(5)?,
        avatar_url: row.get(6)?,
        forgotten: row.get(7)?,
        invite_state: row.get(8)?,
    })
}

/// A user's standing in a room; `None` when they never had one.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, room: RoomNid, user: UserNid) -> Result<Option<Member>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM members WHERE room_nid = ?1 AND user_nid = ?2"))?;
    Ok(query.query_row((room.0, user.0), read).optional()?)
}

/// Everybody who has or had a standing in a room, by the order of their events.
///
/// # Errors
///
/// Database errors.
pub fn of_room(db: &Reader<'_>, room: RoomNid) -> Result<Vec<Member>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM members WHERE room_nid = ?1 ORDER BY event_nid"))?;
    let rows = query.query_map([room.0], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Every room that a user has or had a standing in.
///
/// # Errors
///
/// Database errors.
pub fn of_user(db: &Reader<'_>, user: UserNid) -> Result<Vec<Member>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM members WHERE user_nid = ?1"))?;
    let rows = query.query_map([user.0], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The rooms that a user is joined to.
///
/// # Errors
///
/// Database errors.
pub fn joined_rooms(db: &Reader<'_>, user: UserNid) -> Result<Vec<OwnedRoomId>> {
    let mut query = db.prepare_cached(
        "SELECT r.room_id FROM members m JOIN rooms r USING (room_nid) WHERE m.user_nid = ?1 AND m.membership = 'join' ORDER BY r.room_nid",
    )?;
    let mut rows = query.query([user.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(rooms::parse(&row.get::<_, String>(0)?)?);
    }
    Ok(found)
}

/// How many members of a room have this membership.
///
/// # Errors
///
/// Database errors.
pub fn count(db: &Reader<'_>, room: RoomNid, membership: &str) -> Result<u64> {
    let mut query = db.prepare_cached("SELECT count(*) FROM members WHERE room_nid = ?1 AND membership = ?2")?;
    Ok(query.query_row((room.0, membership), |row| row.get(0))?)
}

/// Local users (with accounts) who are joined to a room.
///
/// # Errors
///
/// Database errors.
pub fn local_joined(db: &Reader<'_>, room: RoomNid) -> Result<Vec<UserNid>> {
    let mut query = db.prepare_cached(
        // Accounts are few, members may be many: the order of the join is not left to statistics.
        "SELECT m.user_nid FROM accounts a CROSS JOIN members m ON m.user_nid = a.user_nid WHERE m.room_nid = ?1 AND m.membership = 'join'",
    )?;
    let rows = query.query_map([room.0], |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Has this server a user who is invited to the room, or has knocked on it?
///
/// # Errors
///
/// Database errors.
pub fn is_server_invited(db: &Reader<'_>, room: RoomNid, server: &ruma::ServerName) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM members m JOIN users u USING (user_nid)
         WHERE m.room_nid = ?1 AND m.membership IN ('invite', 'knock') AND substr(u.user_id, instr(u.user_id, ':') + 1) = ?2",
    )?;
    Ok(query.exists((room.0, server.as_str()))?)
}

/// A user's membership in the room that they joined last.
///
/// # Errors
///
/// Database errors.
pub fn newest_joined(db: &Reader<'_>, user: UserNid) -> Result<Option<Member>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM members WHERE user_nid = ?1 AND membership = 'join' ORDER BY event_nid DESC LIMIT 1"
    ))?;
    Ok(query.query_row([user.0], read).optional()?)
}

/// The joined members of a room with name and avatar.
///
/// # Errors
///
/// Database errors.
pub fn joined(db: &Reader<'_>, room: RoomNid) -> Result<Vec<(ruma::OwnedUserId, Member)>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, u.user_id FROM members JOIN users u USING (user_nid) WHERE room_nid = ?1 AND membership = 'join'"
    ))?;
    let mut rows = query.query([room.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((users::parse(&row.get::<_, String>(9)?)?, read(row)?));
    }
    Ok(found)
}

/// Puts a member's new standing in place. `member.pos` is kept from before when the membership stays what it was.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, member: &Member) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO members (room_nid, user_nid, membership, event_nid, stream_pos, displayname, avatar_url, forgotten, invite_state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET membership = ?3, event_nid = ?4, displayname = ?6, avatar_url = ?7, forgotten = ?8, invite_state = ?9,
             stream_pos = CASE WHEN membership = ?3 THEN stream_pos ELSE ?5 END",
    )?
    .execute(rusqlite::params![
        member.room.0,
        member.user.0,
        member.membership,
        member.event.0,
        member.pos.0,
        member.displayname,
        member.avatar_url,
        member.forgotten,
        member.invite_state,
    ])?;
    Ok(())
}

/// A redaction took a membership event's name and avatar away.
///
/// # Errors
///
/// Database errors.
pub fn clear_profile(tx: &Tx<'_>, event: EventNid, room: RoomNid) -> Result<()> {
    tx.prepare_cached("UPDATE members SET displayname = NULL, avatar_url = NULL WHERE room_nid = ?1 AND event_nid = ?2")?
        .execute((room.0, event.0))?;
    Ok(())
}

/// The user wants to hear no more of a room that they are not in.
///
/// # Errors
///
/// Database errors.
pub fn set_forgotten(tx: &Tx<'_>, room: RoomNid, user: UserNid) -> Result<()> {
    tx.prepare_cached("UPDATE members SET forgotten = 1 WHERE room_nid = ?1 AND user_nid = ?2")?.execute((room.0, user.0))?;
    Ok(())
}

/// A change of a local user's membership.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub pos: StreamPos,
    /// To what.
    pub membership: String,
    /// The membership event.
    pub event: EventNid,
}

/// Notes a change of a local user's membership.
///
/// # Errors
///
/// Database errors.
pub fn add_change(tx: &Tx<'_>, room: RoomNid, user: UserNid, change: &Change) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO membership_changes (user_nid, stream_pos, room_nid, membership, event_nid) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(rusqlite::params![user.0, change.pos.0, room.0, change.membership, change.event.0])?;
    Ok(())
}

/// A local user's history in a room, oldest first.
///
/// # Errors
///
/// Database errors.
pub fn changes(db: &Reader<'_>, room: RoomNid, user: UserNid) -> Result<Vec<Change>> {
    let mut query = db.prepare_cached(
        "SELECT stream_pos, membership, event_nid FROM membership_changes WHERE room_nid = ?1 AND user_nid = ?2 ORDER BY stream_pos",
    )?;
    let rows = query.query_map((room.0, user.0), |row| {
        Ok(Change { pos: StreamPos(row.get(0)?), membership: row.get(1)?, event: EventNid(row.get(2)?) })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
