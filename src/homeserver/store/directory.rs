//! Finding people by name.

use super::{Reader, Result};
use crate::homeserver::types::{RoomNid, UserNid};

/// Somebody who may be found.
#[derive(Debug, Clone)]
pub struct Person {
    /// User ID.
    pub user_id: String,
    /// Display name.
    pub displayname: Option<String>,
    /// Avatar, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// The rooms that people of this server are in, and `seeker` is not.
///
/// # Errors
///
/// Database errors.
pub fn other_rooms(db: &Reader<'_>, seeker: UserNid) -> Result<Vec<RoomNid>> {
    let mut query = db.prepare_cached(
        "SELECT DISTINCT m.room_nid FROM accounts a CROSS JOIN members m ON m.user_nid = a.user_nid AND m.membership = 'join'
         WHERE NOT EXISTS (SELECT 1 FROM members mine WHERE mine.room_nid = m.room_nid AND mine.user_nid = ?1 AND mine.membership = 'join')",
    )?;
    let rows = query.query_map([seeker.0], |row| row.get(0).map(RoomNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Goes through the people whom `seeker` may find: those who share a room with them or are in one of the `open` rooms, and with
/// `everybody` all accounts of this server. Stops when `take` says false. Nobody comes twice.
///
/// # Errors
///
/// Database errors.
pub fn visit(db: &Reader<'_>, seeker: UserNid, open: &[RoomNid], everybody: bool, mut take: impl FnMut(Person) -> bool) -> Result<()> {
    let open = format!("[{}]", open.iter().map(|room| room.0.to_string()).collect::<Vec<_>>().join(","));
    // A local user's profile goes before what one of their rooms says.
    let mut query = db.prepare_cached(
        "WITH found (user_nid) AS (
             SELECT other.user_nid FROM members mine JOIN members other ON other.room_nid = mine.room_nid AND other.membership = 'join'
                 WHERE mine.user_nid = ?1 AND mine.membership = 'join'
             UNION SELECT user_nid FROM members WHERE membership = 'join' AND room_nid IN (SELECT value FROM json_each(?3))
             UNION SELECT user_nid FROM accounts WHERE ?2 AND deactivated = 0)
         SELECT users.user_id, accounts.user_nid IS NOT NULL, name.value, avatar.value, member.displayname, member.avatar_url
         FROM found JOIN users USING (user_nid)
         LEFT JOIN accounts USING (user_nid)
         LEFT JOIN profiles name ON name.user_nid = found.user_nid AND name.field = 'displayname'
         LEFT JOIN profiles avatar ON avatar.user_nid = found.user_nid AND avatar.field = 'avatar_url'
         LEFT JOIN members member ON accounts.user_nid IS NULL AND member.user_nid = found.user_nid AND member.room_nid =
             (SELECT max(room_nid) FROM members WHERE user_nid = found.user_nid AND membership = 'join')
         WHERE found.user_nid <> ?1 AND coalesce(accounts.deactivated, 0) = 0",
    )?;
    let mut rows = query.query((seeker.0, everybody, open))?;
    let text = |json: Option<String>| json.and_then(|json| serde_json::from_str::<String>(&json).ok());
    while let Some(row) = rows.next()? {
        let local: bool = row.get(1)?;
        let (displayname, avatar_url) = if local { (text(row.get(2)?), text(row.get(3)?)) } else { (row.get(4)?, row.get(5)?) };
        if !take(Person { user_id: row.get(0)?, displayname, avatar_url }) {
            break;
        }
    }
    Ok(())
}
