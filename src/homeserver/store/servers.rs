//! Other servers: which of them are in which rooms.
//!
//! Derived from the member list by triggers (schema 0006), so that a room of 60,000 members costs a look at a few rows.

use ruma::{OwnedServerName, ServerName};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{RoomNid, UserNid};

/// Integer id of a server in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerNid(pub i64);

/// Reads a server name that the store holds.
pub(super) fn parse(text: &str) -> Result<OwnedServerName> {
    ServerName::parse(text).map_err(|e| StoreError::Data(format!("server name: {e}")))
}

/// The integer id of a server, given out on first use.
///
/// # Errors
///
/// Database errors.
pub fn intern(tx: &Tx<'_>, server: &ServerName) -> Result<ServerNid> {
    tx.prepare_cached("INSERT OR IGNORE INTO servers (name) VALUES (?1)")?.execute([server.as_str()])?;
    find(&tx.reader(), server)?.ok_or_else(|| StoreError::Data("a server vanished".into()))
}

/// The integer id of a server that the store has met.
///
/// # Errors
///
/// Database errors.
pub fn find(db: &Reader<'_>, server: &ServerName) -> Result<Option<ServerNid>> {
    let mut query = db.prepare_cached("SELECT server_nid FROM servers WHERE name = ?1")?;
    Ok(query.query_row([server.as_str()], |row| row.get(0).map(ServerNid)).optional()?)
}

/// Servers with joined members in a room, ours among them, those with most members first.
///
/// # Errors
///
/// Database errors.
pub fn in_room(db: &Reader<'_>, room: RoomNid) -> Result<Vec<OwnedServerName>> {
    let mut query = db.prepare_cached(
        "SELECT s.name FROM room_servers r JOIN servers s USING (server_nid) WHERE r.room_nid = ?1 ORDER BY r.joined DESC, s.server_nid",
    )?;
    names(query.query([room.0])?)
}

/// Has this server a joined member in the room?
///
/// # Errors
///
/// Database errors.
pub fn is_in_room(db: &Reader<'_>, room: RoomNid, server: &ServerName) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM room_servers JOIN servers USING (server_nid) WHERE room_nid = ?1 AND name = ?2")?;
    Ok(query.exists((room.0, server.as_str()))?)
}

/// Is there a room in which both servers have joined members?
///
/// # Errors
///
/// Database errors.
pub fn share_a_room(db: &Reader<'_>, one: &ServerName, other: &ServerName) -> Result<bool> {
    let mut query = db.prepare_cached(
        "SELECT 1 FROM room_servers a JOIN room_servers b USING (room_nid)
         WHERE a.server_nid = (SELECT server_nid FROM servers WHERE name = ?1)
           AND b.server_nid = (SELECT server_nid FROM servers WHERE name = ?2) LIMIT 1",
    )?;
    Ok(query.exists((one.as_str(), other.as_str()))?)
}

/// Servers that have joined members in a room that the user is joined to, ours among them.
///
/// # Errors
///
/// Database errors.
pub fn around_user(db: &Reader<'_>, user: UserNid) -> Result<Vec<OwnedServerName>> {
    let mut query = db.prepare_cached(
        "SELECT name FROM servers WHERE server_nid IN (
             SELECT r.server_nid FROM members m JOIN room_servers r USING (room_nid) WHERE m.user_nid = ?1 AND m.membership = 'join')
         ORDER BY server_nid",
    )?;
    names(query.query([user.0])?)
}

/// The same, without rooms of more than `at_most` servers.
///
/// # Errors
///
/// Database errors.
pub fn around_user_in_rooms_of(db: &Reader<'_>, user: UserNid, at_most: usize) -> Result<Vec<OwnedServerName>> {
    let mut query = db.prepare_cached(
        "SELECT name FROM servers WHERE server_nid IN (
             SELECT r.server_nid FROM members m JOIN room_servers r USING (room_nid)
             WHERE m.user_nid = ?1 AND m.membership = 'join'
               AND (SELECT count(*) FROM (SELECT 1 FROM room_servers o WHERE o.room_nid = m.room_nid LIMIT ?2 + 1)) <= ?2)
         ORDER BY server_nid",
    )?;
    names(query.query((user.0, i64::try_from(at_most).unwrap_or(i64::MAX)))?)
}

fn names(mut rows: rusqlite::Rows<'_>) -> Result<Vec<OwnedServerName>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // User IDs of rooms that others made may name what is no server: nothing can be sent there.
        if let Ok(name) = parse(&row.get::<_, String>(0)?) {
            found.push(name);
        }
    }
    Ok(found)
}
