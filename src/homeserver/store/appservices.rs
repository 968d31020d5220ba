//! What waits for application services, and how far they have been told.

use ruma::{OwnedDeviceId, OwnedUserId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, receipts::Receipt, users};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos, UserNid};

/// Events that wait for one service. One that is away for longer than these take misses the oldest.
const WAITING: i64 = 1_000_000;

/// A service as far as carrying goes.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The transaction that is being sent, or the next one.
    pub txn_id: i64,
    /// Its body, once it has been put together.
    pub body: Option<String>,
    /// Receipts up to here were looked at.
    pub receipts: StreamPos,
    /// Changes of keys up to here were looked at.
    pub keys: StreamPos,
    /// Attempts in a row that failed.
    pub failures: i64,
}

/// What a new transaction settles.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Queued events up to here are in it.
    pub events: Option<StreamPos>,
    /// Receipts up to here were looked at.
    pub receipts: StreamPos,
    /// Changes of keys up to here were looked at.
    pub keys: StreamPos,
    /// Messages to devices that are in it.
    pub to_device: Vec<StreamPos>,
}

/// Makes rows for services that have none, and forgets what waits for others. New ones begin with what happens from now on.
///
/// # Errors
///
/// Database errors.
pub fn register(tx: &Tx<'_>, ids: &[String], now_ms: i64) -> Result<()> {
    for id in ids {
        tx.execute(
            "INSERT OR IGNORE INTO appservices (as_id, txn_id, receipts_pos, keys_pos) VALUES (?1, ?2, ?3, ?3)",
            (id, now_ms, tx.position().0),
        )?;
    }
    let known: Vec<String> = {
        let mut query = tx.prepare("SELECT DISTINCT as_id FROM appservice_events")?;
        let rows = query.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for gone in known.iter().filter(|known| !ids.contains(known)) {
        tx.execute("DELETE FROM appservice_events WHERE as_id = ?1", [gone])?;
    }
    Ok(())
}

/// Where a service stands.
///
/// # Errors
///
/// Database errors, also for a service that was not registered.
pub fn get(db: &Reader<'_>, id: &str) -> Result<Waiting> {
    let mut query = db.prepare_cached("SELECT txn_id, body, receipts_pos, keys_pos, failures FROM appservices WHERE as_id = ?1")?;
    Ok(query.query_row([id], |row| {
        Ok(Waiting {
            txn_id: row.get(0)?,
            body: row.get(1)?,
            receipts: StreamPos(row.get(2)?),
            keys: StreamPos(row.get(3)?),
            failures: row.get(4)?,
        })
    })?)
}

/// Queues an event for a service.
///
/// # Errors
///
/// Database errors.
pub fn queue(tx: &Tx<'_>, id: &str, pos: StreamPos, event: EventNid) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO appservice_events (as_id, stream_pos, event_nid) VALUES (?1, ?2, ?3)")?
        .execute((id, pos.0, event.0))?;
    // Seldom enough to cost nothing, often enough to stay bounded.
    if pos.0 % 1024 == 0 {
        let gone = tx
            .prepare_cached(
                "DELETE FROM appservice_events WHERE as_id = ?1 AND stream_pos <=
                     (SELECT stream_pos FROM appservice_events WHERE as_id = ?1 ORDER BY stream_pos DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute((id, WAITING))?;
        if gone > 0 {
            tracing::warn!(gone, service = id, "an application service has been away for too long; the oldest events for it were dropped");
        }
    }
    Ok(())
}

/// The events that wait for a service, oldest first.
///
/// # Errors
///
/// Database errors.
pub fn queued(db: &Reader<'_>, id: &str, limit: usize) -> Result<Vec<(StreamPos, EventNid)>> {
    let mut query =
        db.prepare_cached("SELECT stream_pos, event_nid FROM appservice_events WHERE as_id = ?1 ORDER BY stream_pos LIMIT ?2")?;
    let rows =
        query.query_map((id, i64::try_from(limit).unwrap_or(i64::MAX)), |row| Ok((StreamPos(row.get(0)?), EventNid(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Writes a transaction down as it will be sent.
///
/// # Errors
///
/// Database errors.
pub fn begin(tx: &Tx<'_>, id: &str, body: &str, progress: &Progress) -> Result<()> {
    tx.prepare_cached("UPDATE appservices SET body = ?2, receipts_pos = ?3, keys_pos = ?4 WHERE as_id = ?1")?.execute((
        id,
        body,
        progress.receipts.0,
        progress.keys.0,
    ))?;
    if let Some(up_to) = progress.events {
        tx.prepare_cached("DELETE FROM appservice_events WHERE as_id = ?1 AND stream_pos <= ?2")?.execute((id, up_to.0))?;
    }
    for message in &progress.to_device {
        tx.prepare_cached("DELETE FROM to_device WHERE stream_pos = ?1")?.execute([message.0])?;
    }
    Ok(())
}

/// The transaction was taken.
///
/// # Errors
///
/// Database errors.
pub fn done(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.prepare_cached("UPDATE appservices SET body = NULL, txn_id = txn_id + 1, failures = 0, last_error = NULL WHERE as_id = ?1")?
        .execute([id])?;
    Ok(())
}

/// The transaction was not taken, and why.
///
/// # Errors
///
/// Database errors.
pub fn failed(tx: &Tx<'_>, id: &str, why: &str) -> Result<()> {
    tx.prepare_cached("UPDATE appservices SET failures = failures + 1, last_error = ?2 WHERE as_id = ?1")?.execute((id, why))?;
    Ok(())
}

/// Receipts after a position in the order in which they came, with their positions.
///
/// # Errors
///
/// Database errors.
pub fn receipts_after(db: &Reader<'_>, after: StreamPos, limit: usize) -> Result<Vec<(StreamPos, Receipt)>> {
    let mut query = db.prepare_cached(
        "SELECT r.room_nid, r.user_nid, u.user_id, r.kind, r.thread_id, r.event_id, r.event_pos, r.ts_ms, r.stream_pos
         FROM receipts r INDEXED BY receipts_by_pos JOIN users u USING (user_nid)
         WHERE r.stream_pos > ?1 ORDER BY r.stream_pos LIMIT ?2",
    )?;
    let rows = query.query_map((after.0, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
        let receipt = Receipt {
            room: RoomNid(row.get(0)?),
            user: UserNid(row.get(1)?),
            user_id: row.get(2)?,
            kind: row.get(3)?,
            thread_id: row.get(4)?,
            event_id: row.get(5)?,
            event_pos: StreamPos(row.get(6)?),
            ts_ms: row.get(7)?,
        };
        Ok((StreamPos(row.get(8)?), receipt))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A message to a device of a service's user.
#[derive(Debug, Clone)]
pub struct ToDevice {
    /// Its place in the stream.
    pub pos: StreamPos,
    /// The receiving user.
    pub user: UserNid,
    /// The same, on the wire.
    pub user_id: OwnedUserId,
    /// The receiving device.
    pub device_id: OwnedDeviceId,
    /// Who sent it.
    pub sender: String,
    /// Event type.
    pub kind: String,
    /// JSON.
    pub content: String,
}

/// Messages that wait for devices of the users that a service made, oldest first.
///
/// # Errors
///
/// Database errors.
pub fn to_device(db: &Reader<'_>, id: &str, limit: usize) -> Result<Vec<ToDevice>> {
    let mut query = db.prepare_cached(
        "SELECT t.stream_pos, t.user_nid, u.user_id, t.device_id, t.sender, t.type, t.content
         FROM to_device t JOIN accounts a USING (user_nid) JOIN users u USING (user_nid)
         WHERE a.appservice_id = ?1 ORDER BY t.stream_pos LIMIT ?2",
    )?;
    let mut rows = query.query((id, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (user_id, device_id): (String, String) = (row.get(2)?, row.get(3)?);
        found.push(ToDevice {
            pos: StreamPos(row.get(0)?),
            user: UserNid(row.get(1)?),
            user_id: users::parse(&user_id)?,
            device_id: device_id.into(),
            sender: row.get(4)?,
            kind: row.get(5)?,
            content: row.get(6)?,
        });
    }
    Ok(found)
}

/// Users whose keys changed with `after < position <= up_to`.
///
/// # Errors
///
/// Database errors.
pub fn key_changes(db: &Reader<'_>, after: StreamPos, up_to: StreamPos) -> Result<Vec<(UserNid, OwnedUserId)>> {
    let mut query = db.prepare_cached(
        "SELECT c.user_nid, u.user_id FROM device_list_changes c JOIN users u USING (user_nid) WHERE c.stream_pos > ?1 AND c.stream_pos <= ?2",
    )?;
    let mut rows = query.query((after.0, up_to.0))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let user_id: String = row.get(1)?;
        found.push((UserNid(row.get(0)?), users::parse(&user_id)?));
    }
    Ok(found)
}

/// Notes that a service made an account.
///
/// # Errors
///
/// Database errors.
pub fn set_maker(tx: &Tx<'_>, user: UserNid, id: &str) -> Result<()> {
    tx.execute("UPDATE accounts SET appservice_id = ?2 WHERE user_nid = ?1", (user.0, id))?;
    Ok(())
}

/// Lists a room in a network's directory, or takes it out.
///
/// # Errors
///
/// Database errors.
pub fn set_listed(tx: &Tx<'_>, id: &str, network: &str, room: RoomNid, listed: bool) -> Result<()> {
    if listed {
        tx.execute("INSERT OR IGNORE INTO appservice_rooms (as_id, network_id, room_nid) VALUES (?1, ?2, ?3)", (id, network, room.0))?;
    } else {
        tx.execute("DELETE FROM appservice_rooms WHERE as_id = ?1 AND network_id = ?2 AND room_nid = ?3", (id, network, room.0))?;
    }
    Ok(())
}

/// The rooms in a network's directory, or in all of them.
///
/// # Errors
///
/// Database errors.
pub fn listed(db: &Reader<'_>, network: Option<(&str, &str)>) -> Result<Vec<RoomNid>> {
    let rows = match network {
        Some((id, network)) => {
            let mut query = db.prepare_cached("SELECT room_nid FROM appservice_rooms WHERE as_id = ?1 AND network_id = ?2")?;
            query.query_map((id, network), |row| row.get(0).map(RoomNid))?.collect::<rusqlite::Result<_>>()
        }
        None => {
            let mut query = db.prepare_cached("SELECT DISTINCT room_nid FROM appservice_rooms")?;
            query.query_map([], |row| row.get(0).map(RoomNid))?.collect::<rusqlite::Result<_>>()
        }
    };
    Ok(rows?)
}

/// How services fare that are not well: ID, attempts that failed, and why, for the owner.
///
/// # Errors
///
/// Database errors.
pub fn troubled(db: &Reader<'_>, id: &str) -> Result<Option<(i64, String)>> {
    let mut query = db.prepare_cached("SELECT failures, coalesce(last_error, '') FROM appservices WHERE as_id = ?1 AND failures > 0")?;
    Ok(query.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}
