//! Finding people by name.

use super::{Reader, Result};
use crate::homeserver::types::UserNid;

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

/// Goes through the people whom `seeker` may find: those who share a room with them or are in a published room, and with
/// `everybody` all accounts of this server. Stops when `take` says false. Nobody comes twice.
///
/// # Errors
///
/// Database errors.
pub fn visit(db: &Reader<'_>, seeker: UserNid, everybody: bool, mut take: impl FnMut(Person) -> bool) -> Result<()> {
    // A local user's profile goes before what one of their rooms says.
    let mut query = db.prepare_cached(
        "WITH found (user_nid) AS (
             SELECT other.user_nid FROM members mine JOIN members other ON other.room_nid = mine.room_nid AND other.membership = 'join'
                 WHERE mine.user_nid = ?1 AND mine.membership = 'join'
             UNION SELECT members.user_nid FROM rooms JOIN members USING (room_nid) WHERE published = 1 AND membership = 'join'
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
    let mut rows = query.query((seeker.0, everybody))?;
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
