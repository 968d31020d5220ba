//! What push rules said of events, until the user has read them.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos, UserNid};

/// Unread notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that notify.
    pub notify: u64,
    /// Events that highlight.
    pub highlight: u64,
}

/// Counts of a room: by thread, where the key `main` is what belongs to none.
pub type RoomCounts = BTreeMap<String, Counts>;

/// A row of `push_actions`.
#[derive(Debug, Clone)]
pub struct Action<'a> {
    /// For whom.
    pub user: UserNid,
    /// Where.
    pub room: RoomNid,
    /// The event's place.
    pub pos: StreamPos,
    /// The event.
    pub event: EventNid,
    /// `main`, or the root of the event's thread.
    pub thread_id: &'a str,
    /// Counts as a notification.
    pub notify: bool,
    /// Counts as a highlight.
    pub highlight: bool,
}

/// Adds a row.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, action: &Action<'_>) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO push_actions (user_nid, room_nid, stream_pos, event_nid, thread_id, notify, highlight)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((action.user.0, action.room.0, action.pos.0, action.event.0, action.thread_id, action.notify, action.highlight))?;
    Ok(())
}

/// Removes what was read: everything up to a position in one thread, or in all of the room.
///
/// # Errors
///
/// Database errors.
pub fn clear(tx: &Tx<'_>, user: UserNid, room: RoomNid, thread_id: Option<&str>, up_to: StreamPos) -> Result<()> {
    match thread_id {
        Some(thread) => tx
            .prepare_cached("DELETE FROM push_actions WHERE user_nid = ?1 AND room_nid = ?2 AND stream_pos <= ?3 AND thread_id = ?4")?
            .execute((user.0, room.0, up_to.0, thread))?,
        None => tx
            .prepare_cached("DELETE FROM push_actions WHERE user_nid = ?1 AND room_nid = ?2 AND stream_pos <= ?3")?
            .execute((user.0, room.0, up_to.0))?,
    };
    Ok(())
}

/// Removes what is counted for an event, for everybody: it was redacted.
///
/// # Errors
///
/// Database errors.
pub fn clear_event(tx: &Tx<'_>, room: RoomNid, pos: StreamPos) -> Result<Vec<UserNid>> {
    let mut query = tx.prepare_cached(
        "DELETE FROM push_actions WHERE room_nid = ?1 AND stream_pos = ?2 AND user_nid IN (SELECT user_nid FROM accounts)
         RETURNING user_nid",
    )?;
    let rows = query.query_map((room.0, pos.0), |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Unread counts of one room.
///
/// # Errors
///
/// Database errors.
pub fn counts(db: &Reader<'_>, user: UserNid, room: RoomNid) -> Result<RoomCounts> {
    let mut query = db.prepare_cached(
        "SELECT thread_id, sum(notify), sum(highlight) FROM push_actions WHERE user_nid = ?1 AND room_nid = ?2 GROUP BY thread_id",
    )?;
    let rows = query.query_map((user.0, room.0), |row| Ok((row.get(0)?, Counts { notify: row.get(1)?, highlight: row.get(2)? })))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Somebody for whom rules are evaluated.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Who.
    pub user: UserNid,
    /// The same, on the wire.
    pub user_id: String,
    /// Name in the room.
    pub displayname: Option<String>,
    /// The user's own rules (content of `m.push_rules`), where there are any.
    pub rules: Option<String>,
    /// Content of `m.ignored_user_list`, where there is one.
    pub ignored: Option<String>,
    /// Follows threads, so that the rules for them apply.
    pub threads: bool,
}

/// Local joined members of a room other than the sender, with what decides about their notifications.
///
/// # Errors
///
/// Database errors.
pub fn recipients(db: &Reader<'_>, room: RoomNid, sender: UserNid) -> Result<Vec<Recipient>> {
    let mut query = db.prepare_cached(
        "SELECT a.user_nid, u.user_id, m.displayname, r.content, i.content,
                EXISTS (SELECT 1 FROM thread_subscriptions t WHERE t.user_nid = a.user_nid)
         FROM members m CROSS JOIN accounts a ON a.user_nid = m.user_nid JOIN users u ON u.user_nid = a.user_nid
         LEFT JOIN account_data r ON r.user_nid = a.user_nid AND r.room_nid = 0 AND r.type = 'm.push_rules'
         LEFT JOIN account_data i ON i.user_nid = a.user_nid AND i.room_nid = 0 AND i.type = 'm.ignored_user_list'
         WHERE m.room_nid = ?1 AND m.membership = 'join' AND m.user_nid <> ?2 AND a.deactivated = 0",
    )?;
    let rows = query.query_map((room.0, sender.0), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Recipient> {
    Ok(Recipient {
        user: UserNid(row.get(0)?),
        user_id: row.get(1)?,
        displayname: row.get(2)?,
        rules: row.get(3)?,
        ignored: row.get(4)?,
        threads: row.get(5)?,
    })
}

/// One local user, who may not be in the room yet.
///
/// # Errors
///
/// Database errors.
pub fn recipient(db: &Reader<'_>, user: UserNid) -> Result<Option<Recipient>> {
    let mut query = db.prepare_cached(
        "SELECT a.user_nid, u.user_id, NULL, r.content, i.content,
                EXISTS (SELECT 1 FROM thread_subscriptions t WHERE t.user_nid = a.user_nid) FROM accounts a JOIN users u ON u.user_nid = a.user_nid
         LEFT JOIN account_data r ON r.user_nid = a.user_nid AND r.room_nid = 0 AND r.type = 'm.push_rules'
         LEFT JOIN account_data i ON i.user_nid = a.user_nid AND i.room_nid = 0 AND i.type = 'm.ignored_user_list'
         WHERE a.user_nid = ?1 AND a.deactivated = 0",
    )?;
    let found = query.query_row([user.0], read);
    Ok(found.optional()?)
}
