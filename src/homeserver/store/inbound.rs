//! What other servers sent us and we acknowledged: events that wait for their turn, and answers to repeated transactions.

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, StoreError, Tx, codec, rooms};

/// An event that waits.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Its number in the queue.
    pub nid: i64,
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Its ID, worked out from what was sent.
    pub event_id: OwnedEventId,
    /// Who sent it to us.
    pub origin: OwnedServerName,
    /// As it came.
    pub json: String,
    /// How often it has been worked on.
    pub attempts: u32,
}

fn bad(error: impl std::fmt::Display) -> StoreError {
    StoreError::Data(format!("inbound event: {error}"))
}

fn read(row: &Row<'_>) -> Result<Staged> {
    let (event_id, origin): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(Staged {
        nid: row.get(0)?,
        room_id: rooms::parse(&row.get::<_, String>(1)?)?,
        event_id: EventId::parse(&event_id).map_err(bad)?,
        origin: ServerName::parse(&origin).map_err(bad)?,
        json: codec::unpack(row.get_ref(4)?.as_blob().map_err(bad)?)?,
        attempts: row.get(5)?,
    })
}

fn ms(now_ms: u64) -> i64 {
    i64::try_from(now_ms).unwrap_or(i64::MAX)
}

/// Puts an event into the queue. False when this server's copy waits there already: another's may be spoiled.
///
/// # Errors
///
/// Database errors.
pub fn stage(tx: &Tx<'_>, room: &RoomId, event_id: &EventId, origin: &ServerName, json: &str, now_ms: u64) -> Result<bool> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO inbound_events (room_id, event_id, origin, json, received_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    Ok(insert.execute(rusqlite::params![room.as_str(), event_id.as_str(), origin.as_str(), codec::pack(json)?, ms(now_ms)])? > 0)
}

/// How many events of this server wait, and of others on the same host: whoever has a name has it with every port and in every
/// spelling.
///
/// # Errors
///
/// Database errors.
pub fn waiting_from(db: &Reader<'_>, origin: &ServerName) -> Result<u64> {
    let mut query = db.prepare_cached(
        "SELECT (SELECT count(*) FROM inbound_events WHERE origin COLLATE NOCASE = ?1)
              + (SELECT count(*) FROM inbound_events WHERE origin COLLATE NOCASE > ?1 || ':' AND origin COLLATE NOCASE < ?1 || ';')",
    )?;
    Ok(query.query_row([origin.host()], |row| row.get(0))?)
}

/// Rooms with events that wait, those that are due for longest first, each with the time from which on its first event may be
/// worked on. Rooms that are being joined are left out until that is settled, unless we (`us`) are in them already.
///
/// # Errors
///
/// Database errors.
pub fn rooms_waiting(db: &Reader<'_>, us: &ServerName) -> Result<Vec<(OwnedRoomId, u64)>> {
    let mut query = db.prepare_cached(
        "SELECT i.room_id, min(i.retry_ms) FROM inbound_events i
         WHERE NOT EXISTS (SELECT 1 FROM remote_joins j WHERE j.room_id = i.room_id AND j.version IS NOT NULL)
            OR EXISTS (SELECT 1 FROM rooms r JOIN room_servers USING (room_nid) JOIN servers s USING (server_nid)
                       WHERE r.room_id = i.room_id AND s.name = ?1)
         GROUP BY i.room_id ORDER BY min(max(i.retry_ms, i.received_ms)), min(i.inbound_nid)",
    )?;
    let mut rows = query.query([us.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((rooms::parse(&row.get::<_, String>(0)?)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)));
    }
    Ok(found)
}

/// Servers that sent events of a room that may be worked on now, the one whose first event came first before the others.
///
/// # Errors
///
/// Database errors.
pub fn origins(db: &Reader<'_>, room: &RoomId, now_ms: u64) -> Result<Vec<OwnedServerName>> {
    let mut query = db.prepare_cached(
        "SELECT origin FROM inbound_events WHERE room_id = ?1 AND retry_ms <= ?2 GROUP BY origin ORDER BY min(inbound_nid)",
    )?;
    let mut rows = query.query((room.as_str(), ms(now_ms)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(ServerName::parse(row.get::<_, String>(0)?).map_err(bad)?);
    }
    Ok(found)
}

/// The events of a room that this server sent and that may be worked on now, in the order in which they came.
///
/// # Errors
///
/// Database errors.
pub fn of_origin(db: &Reader<'_>, room: &RoomId, origin: &ServerName, now_ms: u64, limit: usize) -> Result<Vec<Staged>> {
    let mut query = db.prepare_cached(
        "SELECT inbound_nid, room_id, event_id, origin, json, attempts FROM inbound_events
         WHERE room_id = ?1 AND origin = ?2 AND retry_ms <= ?3 ORDER BY inbound_nid LIMIT ?4",
    )?;
    let mut rows = query.query((room.as_str(), origin.as_str(), ms(now_ms), i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// An event of the queue has been decided about.
///
/// # Errors
///
/// Database errors.
pub fn done(tx: &Tx<'_>, nid: i64) -> Result<()> {
    tx.prepare_cached("DELETE FROM inbound_events WHERE inbound_nid = ?1")?.execute([nid])?;
    Ok(())
}

/// An event of the queue is going to be worked on: if it is still there then, not again before this time.
///
/// # Errors
///
/// Database errors.
pub fn later(tx: &Tx<'_>, nid: i64, retry_ms: u64) -> Result<()> {
    tx.prepare_cached("UPDATE inbound_events SET attempts = attempts + 1, retry_ms = ?2 WHERE inbound_nid = ?1")?
        .execute((nid, ms(retry_ms)))?;
    Ok(())
}

/// What a transaction was answered before.
///
/// # Errors
///
/// Database errors.
pub fn answer(db: &Reader<'_>, origin: &ServerName, txn_id: &str) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT response FROM inbound_transactions WHERE origin = ?1 AND txn_id = ?2")?;
    Ok(query.query_row([origin.as_str(), txn_id], |row| row.get(0)).optional()?)
}

/// Remembers the answer to a transaction, and forgets those given before `since_ms`.
///
/// # Errors
///
/// Database errors.
pub fn remember(tx: &Tx<'_>, origin: &ServerName, txn_id: &str, response: &str, now_ms: u64, since_ms: u64) -> Result<()> {
    tx.prepare_cached("DELETE FROM inbound_transactions WHERE received_ms < ?1")?.execute([ms(since_ms)])?;
    tx.prepare_cached("INSERT OR REPLACE INTO inbound_transactions (origin, txn_id, response, received_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute((origin.as_str(), txn_id, response, ms(now_ms)))?;
    Ok(())
}
