//! Which threads users follow (MSC4306).

use ruma::{EventId, OwnedEventId, OwnedRoomId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx, rooms};
use crate::homeserver::types::{RoomNid, StreamPos, UserNid};

/// A user's relation to a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The user follows it.
    pub subscribed: bool,
    /// A client decided that, not the user.
    pub automatic: bool,
    /// Where in the stream the user stopped following it last.
    pub unsubscribed: Option<StreamPos>,
}

/// What a user has decided about a thread.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, user: UserNid, room: RoomNid, root: &EventId) -> Result<Option<Subscription>> {
    let mut query = db.prepare_cached(
        "SELECT subscribed, automatic, unsubscribed_pos FROM thread_subscriptions WHERE user_nid = ?1 AND room_nid = ?2 AND root_id = ?3",
    )?;
    let found = query.query_row((user.0, room.0, root.as_str()), |row| {
        Ok(Subscription { subscribed: row.get(0)?, automatic: row.get(1)?, unsubscribed: row.get::<_, Option<i64>>(2)?.map(StreamPos) })
    });
    Ok(found.optional()?)
}

/// True when the user follows the thread.
///
/// # Errors
///
/// Database errors.
pub fn is_subscribed(db: &Reader<'_>, user: UserNid, room: RoomNid, root: &EventId) -> Result<bool> {
    Ok(get(db, user, room, root)?.is_some_and(|subscription| subscription.subscribed))
}

/// True when a client of the user has ever said which threads the user follows.
///
/// # Errors
///
/// Database errors.
pub fn in_use(db: &Reader<'_>, user: UserNid) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT 1 FROM thread_subscriptions WHERE user_nid = ?1 LIMIT 1")?;
    Ok(query.exists([user.0])?)
}

/// Stores what a user decided, and wakes the user's clients.
///
/// # Errors
///
/// Database errors.
pub fn set(tx: &mut Tx<'_>, user: UserNid, room: RoomNid, root: &EventId, subscription: &Subscription) -> Result<()> {
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO thread_subscriptions (user_nid, room_nid, root_id, subscribed, automatic, unsubscribed_pos, stream_pos)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET subscribed = ?4, automatic = ?5, unsubscribed_pos = ?6, stream_pos = ?7",
    )?
    .execute((
        user.0,
        room.0,
        root.as_str(),
        subscription.subscribed,
        subscription.automatic,
        subscription.unsubscribed.map(|pos| pos.0),
        pos.0,
    ))?;
    tx.touch(user);
    Ok(())
}

/// One change, as clients are told of it.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub pos: StreamPos,
    /// Where.
    pub room_id: OwnedRoomId,
    /// The thread.
    pub root: OwnedEventId,
    /// The user follows it.
    pub subscribed: bool,
    /// A client decided that.
    pub automatic: bool,
}

/// A user's changes with `after < position <= up_to`, newest first.
///
/// # Errors
///
/// Database errors.
pub fn changes(db: &Reader<'_>, user: UserNid, after: StreamPos, up_to: StreamPos, limit: usize) -> Result<Vec<Change>> {
    let mut query = db.prepare_cached(
        "SELECT t.stream_pos, r.room_id, t.root_id, t.subscribed, t.automatic FROM thread_subscriptions t JOIN rooms r USING (room_nid)
         WHERE t.user_nid = ?1 AND t.stream_pos > ?2 AND t.stream_pos <= ?3 ORDER BY t.stream_pos DESC LIMIT ?4",
    )?;
    let mut rows = query.query((user.0, after.0, up_to.0, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (room_id, root): (String, String) = (row.get(1)?, row.get(2)?);
        found.push(Change {
            pos: StreamPos(row.get(0)?),
            room_id: rooms::parse(&room_id)?,
            root: EventId::parse(&root).map_err(|e| StoreError::Data(format!("event ID: {e}")))?,
            subscribed: row.get(3)?,
            automatic: row.get(4)?,
        });
    }
    Ok(found)
}
