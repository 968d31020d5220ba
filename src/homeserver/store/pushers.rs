//! Pushers, and the notifications that they carry away.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos, UserNid};

/// Notifications that are remembered for one user.
const REMEMBERED: i64 = 1000;

/// What makes a pusher this pusher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PusherId {
    /// Whose.
    pub user: UserNid,
    /// The application.
    pub app_id: String,
    /// The device, as the push gateway knows it.
    pub pushkey: String,
}

/// A pusher.
#[derive(Debug, Clone)]
pub struct Pusher {
    /// Which.
    pub id: PusherId,
    /// `http` or `email`.
    pub kind: String,
    /// As the client set it, without what is not told back.
    pub json: String,
    /// When it was set, in milliseconds since the Unix epoch.
    pub set_ms: i64,
    /// Notifications up to here need nothing more.
    pub sent_pos: StreamPos,
    /// The unread count that the device was last told.
    pub badge: i64,
    /// Attempts in a row that failed.
    pub failures: i64,
}

const COLUMNS: &str = "user_nid, app_id, pushkey, kind, json, set_ms, sent_pos, badge, failures";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Pusher> {
    Ok(Pusher {
        id: PusherId { user: UserNid(row.get(0)?), app_id: row.get(1)?, pushkey: row.get(2)? },
        kind: row.get(3)?,
        json: row.get(4)?,
        set_ms: row.get(5)?,
        sent_pos: StreamPos(row.get(6)?),
        badge: row.get(7)?,
        failures: row.get(8)?,
    })
}

/// Sets a pusher. It begins with what happens from now on.
///
/// # Errors
///
/// Database errors.
pub fn set(tx: &Tx<'_>, id: &PusherId, device_id: &str, kind: &str, json: &str, now_ms: i64) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO pushers (user_nid, app_id, pushkey, device_id, kind, json, set_ms, sent_pos) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET device_id = ?4, kind = ?5, json = ?6, set_ms = ?7, sent_pos = ?8,
             failures = 0, retry_ms = 0, last_error = NULL",
    )?
    .execute((id.user.0, &id.app_id, &id.pushkey, device_id, kind, json, now_ms, tx.position().0))?;
    Ok(())
}

/// Removes a pusher. True when it was there.
///
/// # Errors
///
/// Database errors.
pub fn delete(tx: &Tx<'_>, id: &PusherId) -> Result<bool> {
    let gone = tx.prepare_cached("DELETE FROM pushers WHERE user_nid = ?1 AND app_id = ?2 AND pushkey = ?3")?.execute((
        id.user.0,
        &id.app_id,
        &id.pushkey,
    ))?;
    Ok(gone > 0)
}

/// Removes pushers of other users with the same application and key: the device has changed hands.
///
/// # Errors
///
/// Database errors.
pub fn delete_others(tx: &Tx<'_>, id: &PusherId) -> Result<()> {
    tx.prepare_cached("DELETE FROM pushers WHERE app_id = ?2 AND pushkey = ?3 AND user_nid <> ?1")?.execute((
        id.user.0,
        &id.app_id,
        &id.pushkey,
    ))?;
    Ok(())
}

/// A user's pushers.
///
/// # Errors
///
/// Database errors.
pub fn of_user(db: &Reader<'_>, user: UserNid) -> Result<Vec<Pusher>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushers WHERE user_nid = ?1 ORDER BY app_id, pushkey"))?;
    let rows = query.query_map([user.0], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A pusher.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, id: &PusherId) -> Result<Option<Pusher>> {
    let sql = format!("SELECT {COLUMNS} FROM pushers WHERE user_nid = ?1 AND app_id = ?2 AND pushkey = ?3");
    Ok(db.prepare_cached(&sql)?.query_row((id.user.0, &id.app_id, &id.pushkey), read).optional()?)
}

/// Unread notifications of a user in the rooms that they are in: the number that a device shows.
///
/// # Errors
///
/// Database errors.
pub fn badge(db: &Reader<'_>, user: UserNid) -> Result<i64> {
    let mut query = db.prepare_cached("SELECT coalesce(sum(notify), 0) FROM push_actions WHERE user_nid = ?1")?;
    Ok(query.query_row([user.0], |row| row.get(0))?)
}

/// A user's pushers that have something to send and may try now, those first that were served longest ago.
///
/// # Errors
///
/// Database errors.
pub fn due(db: &Reader<'_>, user: UserNid, now_ms: i64) -> Result<Vec<Pusher>> {
    let mut any = db.prepare_cached("SELECT 1 FROM pushers WHERE user_nid = ?1 AND kind = 'http' AND retry_ms <= ?2")?;
    // Most people have none, and then nothing is counted.
    if !any.exists((user.0, now_ms))? {
        return Ok(Vec::new());
    }
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM pushers p WHERE user_nid = ?1 AND kind = 'http' AND retry_ms <= ?2
           AND (badge <> ?3 OR EXISTS (SELECT 1 FROM notifications n WHERE n.user_nid = p.user_nid AND n.stream_pos > p.sent_pos))
         ORDER BY served_ms, app_id, pushkey"
    ))?;
    let rows = query.query_map((user.0, now_ms, badge(db, user)?), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Everybody who has a pusher.
///
/// # Errors
///
/// Database errors.
pub fn owners(db: &Reader<'_>) -> Result<Vec<UserNid>> {
    let mut query = db.prepare_cached("SELECT DISTINCT user_nid FROM pushers")?;
    let rows = query.query_map([], |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whose pushers have failed and may try again.
///
/// # Errors
///
/// Database errors.
pub fn rested(db: &Reader<'_>, now_ms: i64) -> Result<Vec<UserNid>> {
    let mut query = db.prepare_cached("SELECT DISTINCT user_nid FROM pushers WHERE retry_ms > 0 AND retry_ms <= ?1")?;
    let rows = query.query_map([now_ms], |row| row.get(0).map(UserNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the next pusher that failed tries again.
///
/// # Errors
///
/// Database errors.
pub fn next_retry(db: &Reader<'_>, now_ms: i64) -> Result<Option<i64>> {
    // The first condition lets the index serve.
    let mut query = db.prepare_cached("SELECT min(retry_ms) FROM pushers WHERE retry_ms > 0 AND retry_ms > ?1")?;
    Ok(query.query_row([now_ms], |row| row.get(0))?)
}

/// A pusher has done its work up to here.
///
/// # Errors
///
/// Database errors.
pub fn sent(tx: &Tx<'_>, id: &PusherId, up_to: StreamPos, badge: i64, now_ms: i64) -> Result<()> {
    tx.prepare_cached(
        "UPDATE pushers SET sent_pos = max(sent_pos, ?4), badge = ?5, served_ms = ?6, failures = 0, retry_ms = 0, last_error = NULL
         WHERE user_nid = ?1 AND app_id = ?2 AND pushkey = ?3",
    )?
    .execute((id.user.0, &id.app_id, &id.pushkey, up_to.0, badge, now_ms))?;
    Ok(())
}

/// A pusher could not send, and why; it tries again at this time.
///
/// # Errors
///
/// Database errors.
pub fn failed(tx: &Tx<'_>, id: &PusherId, why: &str, retry_ms: i64, now_ms: i64) -> Result<()> {
    tx.prepare_cached(
        "UPDATE pushers SET failures = failures + 1, retry_ms = ?4, last_error = ?5, served_ms = ?6
         WHERE user_nid = ?1 AND app_id = ?2 AND pushkey = ?3",
    )?
    .execute((id.user.0, &id.app_id, &id.pushkey, retry_ms, why, now_ms))?;
    Ok(())
}

/// Pushers that cannot send at the moment: user ID, application, attempts that failed, and why the last did.
///
/// # Errors
///
/// Database errors.
pub fn failing(db: &Reader<'_>, limit: usize) -> Result<Vec<(String, String, i64, String)>> {
    let mut query = db.prepare_cached(
        "SELECT u.user_id, p.app_id, p.failures, coalesce(p.last_error, '') FROM pushers p JOIN users u USING (user_nid)
         WHERE p.failures > 0 ORDER BY p.failures DESC LIMIT ?1",
    )?;
    let rows =
        query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A notification.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The event's place.
    pub pos: StreamPos,
    /// Where.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
    /// JSON, as the rule has them.
    pub actions: String,
    /// The rule highlights.
    pub highlight: bool,
    /// Of an invite to the user.
    pub invite: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// The user has read it (or the event is gone).
    pub read: bool,
}

/// Remembers a notification, and forgets the user's oldest.
///
/// # Errors
///
/// Database errors.
pub fn notify(tx: &Tx<'_>, user: UserNid, new: &Notification) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO notifications (user_nid, stream_pos, room_nid, event_nid, actions, highlight, invite, ts_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((user.0, new.pos.0, new.room.0, new.event.0, &new.actions, new.highlight, new.invite, new.ts_ms))?;
    // Seldom enough to cost nothing, often enough to stay bounded.
    if new.pos.0 % 64 == 0 {
        tx.prepare_cached(
            "DELETE FROM notifications WHERE user_nid = ?1 AND stream_pos <=
                 (SELECT stream_pos FROM notifications WHERE user_nid = ?1 ORDER BY stream_pos DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute((user.0, REMEMBERED))?;
    }
    Ok(())
}

// Read: what is counted is unread; an invite is unread for as long as it stands.
const NOTIFICATION: &str = "SELECT n.stream_pos, n.room_nid, n.event_nid, n.actions, n.highlight, n.invite, n.ts_ms,
        CASE WHEN n.invite THEN NOT EXISTS (SELECT 1 FROM members m WHERE m.room_nid = n.room_nid AND m.user_nid = n.user_nid
                                            AND m.membership = 'invite' AND m.event_nid = n.event_nid)
             ELSE NOT EXISTS (SELECT 1 FROM push_actions a WHERE a.user_nid = n.user_nid AND a.room_nid = n.room_nid
                              AND a.stream_pos = n.stream_pos) END
     FROM notifications n";

fn read_notification(row: &rusqlite::Row<'_>) -> rusqlite::Result<Notification> {
    Ok(Notification {
        pos: StreamPos(row.get(0)?),
        room: RoomNid(row.get(1)?),
        event: EventNid(row.get(2)?),
        actions: row.get(3)?,
        highlight: row.get(4)?,
        invite: row.get(5)?,
        ts_ms: row.get(6)?,
        read: row.get(7)?,
    })
}

/// A user's notifications before a place, newest first.
///
/// # Errors
///
/// Database errors.
pub fn notifications(db: &Reader<'_>, user: UserNid, before: StreamPos, highlights: bool, limit: usize) -> Result<Vec<Notification>> {
    let mut query = db.prepare_cached(&format!(
        "{NOTIFICATION} WHERE n.user_nid = ?1 AND n.stream_pos < ?2 AND n.highlight >= ?3 ORDER BY n.stream_pos DESC LIMIT ?4"
    ))?;
    let rows = query.query_map((user.0, before.0, highlights, i64::try_from(limit).unwrap_or(i64::MAX)), read_notification)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first notification of a user after a place.
///
/// # Errors
///
/// Database errors.
pub fn next_notification(db: &Reader<'_>, user: UserNid, after: StreamPos) -> Result<Option<Notification>> {
    let mut query =
        db.prepare_cached(&format!("{NOTIFICATION} WHERE n.user_nid = ?1 AND n.stream_pos > ?2 ORDER BY n.stream_pos LIMIT 1"))?;
    Ok(query.query_row((user.0, after.0), read_notification).optional()?)
}
