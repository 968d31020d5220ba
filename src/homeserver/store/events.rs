//! Events and their place in the graph and in the stream.

use std::borrow::Cow;

use ruma::{EventId, OwnedEventId, room_version_rules::RoomVersionRules};
use rusqlite::{OptionalExtension, Row};

use super::{Reader, Result, StoreError, Tx, codec, search};
use crate::homeserver::types::{EventNid, Pdu, RoomNid, StateGroupId, StateKeyNid, StreamPos, UserNid};

/// An event as the store has it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Integer id.
    pub nid: EventNid,
    /// Event ID.
    pub event_id: OwnedEventId,
    /// Its room.
    pub room: RoomNid,
    /// Its sender.
    pub sender: UserNid,
    /// Its type.
    pub kind: String,
    /// Type and state key, for a state event.
    pub state_key: Option<StateKeyNid>,
    /// Distance from the room's start.
    pub depth: i64,
    /// When its sender says it was sent.
    pub origin_server_ts: i64,
    /// Where it stands in the stream; `None` for an outlier.
    pub pos: Option<StreamPos>,
    /// The state before it; `None` for an outlier.
    pub state_before: Option<StateGroupId>,
    /// Why it was rejected.
    pub rejected: Option<String>,
    /// Allowed where it was sent, refused by the current state: never shown to clients.
    pub soft_failed: bool,
    /// The state after it, where that differs from the one before.
    pub state_after: Option<StateGroupId>,
    /// The redaction that took effect on it.
    pub redacted_by: Option<EventNid>,
    /// The transaction ID and device that sent it, if a local one did.
    pub txn: Option<(String, String)>,
    /// The PDU; pruned once redacted.
    pub json: String,
}

impl StoredEvent {
    /// May be shown to clients, as far as authorisation goes.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.rejected.is_none() && !self.soft_failed
    }

    /// The event with its fields read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Data`] when it is not what was stored.
    pub fn pdu(&self, rules: &RoomVersionRules) -> Result<Pdu> {
        let json = serde_json::from_str(&self.json).map_err(|e| StoreError::Data(format!("event {}: {e}", self.event_id)))?;
        let pdu = Pdu::from_json(self.event_id.clone(), json, rules).map_err(|e| StoreError::Data(format!("{}: {e}", self.event_id)))?;
        Ok(pdu.with_rejected(self.rejected.is_some()))
    }
}

const COLUMNS: &str = "event_nid, event_id, room_nid, sender_nid, type, statekey_nid, depth, origin_server_ts, stream_pos, state_before, \
                       rejected, soft_failed, redacted_by, txn_id, txn_device, json, state_after";

fn read(row: &Row<'_>) -> Result<StoredEvent> {
    let event_id: String = row.get(1)?;
    let txn: (Option<String>, Option<String>) = (row.get(13)?, row.get(14)?);
    Ok(StoredEvent {
        nid: EventNid(row.get(0)?),
        event_id: EventId::parse(&event_id).map_err(|e| StoreError::Data(format!("event ID: {e}")))?,
        room: RoomNid(row.get(2)?),
        sender: UserNid(row.get(3)?),
        kind: row.get(4)?,
        state_key: row.get::<_, Option<i64>>(5)?.map(StateKeyNid),
        depth: row.get(6)?,
        origin_server_ts: row.get(7)?,
        pos: row.get::<_, Option<i64>>(8)?.map(StreamPos),
        state_before: row.get::<_, Option<i64>>(9)?.map(StateGroupId),
        rejected: row.get(10)?,
        soft_failed: row.get(11)?,
        redacted_by: row.get::<_, Option<i64>>(12)?.map(EventNid),
        state_after: row.get::<_, Option<i64>>(16)?.map(StateGroupId),
        txn: txn.0.zip(txn.1),
        json: codec::unpack(row.get_ref(15)?.as_blob().map_err(|e| StoreError::Data(e.to_string()))?)?,
    })
}

/// An event's JSON as the store keeps it: made beforehand, so that the writer has less to do.
#[derive(Debug, Clone)]
pub struct Packed(Vec<u8>);

/// Packs canonical JSON.
///
/// # Errors
///
/// [`StoreError::Data`].
pub fn pack(json: &str) -> Result<Packed> {
    let mut packed = codec::pack(json)?;
    packed.shrink_to_fit();
    Ok(Packed(packed))
}

/// The JSON of a packed event.
///
/// # Errors
///
/// [`StoreError::Data`].
pub fn unpack(packed: &Packed) -> Result<String> {
    codec::unpack(&packed.0)
}

/// An event's canonical JSON, on its way into the store.
#[derive(Debug, Clone, Copy)]
pub enum Json<'a> {
    /// As text.
    Plain(&'a str),
    /// Made ready.
    Packed(&'a Packed),
}

/// What [`insert`] stores.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// The event.
    pub pdu: &'a Pdu,
    /// Its canonical JSON.
    pub json: Json<'a>,
    /// Its room.
    pub room: RoomNid,
    /// Its sender.
    pub sender: UserNid,
    /// Type and state key, for a state event.
    pub state_key: Option<StateKeyNid>,
    /// Its place; `None` for an outlier.
    pub pos: Option<StreamPos>,
    /// The state before it; `None` for an outlier.
    pub state_before: Option<StateGroupId>,
    /// The events that authorise it.
    pub auth: &'a [EventNid],
    /// Why it was rejected.
    pub rejected: Option<&'a str>,
    /// The server that sent it to us; `None` for our own.
    pub came_from: Option<&'a str>,
    /// Transaction ID and device.
    pub txn: Option<(&'a str, &'a str)>,
}

/// Stores an event with its edges.
///
/// # Errors
///
/// Database errors, also for an event ID that is there already.
pub fn insert(tx: &Tx<'_>, new: &NewEvent<'_>) -> Result<EventNid> {
    let pdu = new.pdu;
    let packed = match new.json {
        Json::Plain(text) => Cow::Owned(codec::pack(text)?),
        Json::Packed(packed) => Cow::Borrowed(&packed.0),
    };
    let kind = pdu.kind().to_string();
    tx.prepare_cached(
        "INSERT INTO events (event_id, room_nid, sender_nid, type, statekey_nid, depth, origin_server_ts, stream_pos, state_before,
                             txn_id, txn_device, json, rejected, came_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(rusqlite::params![
        pdu.event_id().as_str(),
        new.room.0,
        new.sender.0,
        kind,
        new.state_key.map(|k| k.0),
        pdu.depth(),
        i64::from(pdu.origin_server_ts().0),
        new.pos.map(|p| p.0),
        new.state_before.map(|g| g.0),
        new.txn.map(|t| t.0),
        new.txn.map(|t| t.1),
        *packed,
        new.rejected,
        new.came_from,
    ])?;
    let nid = EventNid(tx.last_insert_rowid());
    let mut edge = tx.prepare_cached("INSERT OR IGNORE INTO event_edges (event_nid, prev_id) VALUES (?1, ?2)")?;
    for prev in pdu.prev_events() {
        edge.execute((nid.0, prev.as_str()))?;
    }
    let mut auth = tx.prepare_cached("INSERT OR IGNORE INTO event_auth (event_nid, auth_nid) VALUES (?1, ?2)")?;
    for event in new.auth {
        auth.execute((nid.0, event.0))?;
    }
    if new.state_key.is_some() {
        let mut edge = tx.prepare_cached("INSERT OR IGNORE INTO auth_edges (auth_nid, event_nid) VALUES (?1, ?2)")?;
        for event in new.auth {
            edge.execute((event.0, nid.0))?;
        }
    }
    if new.pos.is_some() {
        close_gap(tx, new.room, nid, pdu)?;
    }
    match new.json {
        Json::Plain(text) => search::add(tx, nid, &kind, text)?,
        Json::Packed(packed) if search::takes(&kind) => search::add(tx, nid, &kind, &unpack(packed)?)?,
        Json::Packed(_) => {}
    }
    Ok(nid)
}

/// The event has its place in the room now: nothing before it is missing any more, except what it follows and we do not have.
fn close_gap(tx: &Tx<'_>, room: RoomNid, nid: EventNid, pdu: &Pdu) -> Result<()> {
    tx.prepare_cached("DELETE FROM backward_edges WHERE prev_id = ?1")?.execute([pdu.event_id().as_str()])?;
    let mut placed = tx.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND stream_pos IS NOT NULL")?;
    let mut missing = tx.prepare_cached("INSERT OR IGNORE INTO backward_edges (room_nid, prev_id, event_nid) VALUES (?1, ?2, ?3)")?;
    for prev in pdu.prev_events() {
        if !placed.exists([prev.as_str()])? {
            missing.execute((room.0, prev.as_str(), nid.0))?;
        }
    }
    Ok(())
}

/// What became of an event that had no place in the room.
#[derive(Debug)]
pub struct Placing<'a> {
    /// Its place; negative for history.
    pub pos: StreamPos,
    /// The state before it.
    pub state_before: StateGroupId,
    /// Why it was rejected.
    pub rejected: Option<&'a str>,
    /// Allowed where it was sent, refused by the current state.
    pub soft_failed: bool,
}

/// Gives an outlier its place.
///
/// # Errors
///
/// Database errors.
pub fn place(tx: &Tx<'_>, room: RoomNid, nid: EventNid, pdu: &Pdu, placing: &Placing<'_>) -> Result<()> {
    tx.prepare_cached(
        "UPDATE events SET stream_pos = ?2, state_before = ?3, rejected = ?4, soft_failed = ?5 WHERE event_nid = ?1 AND stream_pos IS NULL",
    )?
    .execute(rusqlite::params![nid.0, placing.pos.0, placing.state_before.0, placing.rejected, placing.soft_failed])?;
    close_gap(tx, room, nid, pdu)
}

/// Notes the state after a state event.
///
/// # Errors
///
/// Database errors.
pub fn set_state_after(tx: &Tx<'_>, event: EventNid, group: StateGroupId) -> Result<()> {
    tx.prepare_cached("UPDATE events SET state_after = ?2 WHERE event_nid = ?1")?.execute((event.0, group.0))?;
    Ok(())
}

/// The next place before all history that any room has.
///
/// # Errors
///
/// Database errors.
pub fn next_back_pos(tx: &Tx<'_>) -> Result<StreamPos> {
    let mut query = tx.prepare_cached("SELECT min(stream_pos) FROM events WHERE stream_pos IS NOT NULL")?;
    let first: Option<i64> = query.query_row([], |row| row.get(0))?;
    Ok(StreamPos(first.unwrap_or(0).min(0) - 1))
}

/// An event by its integer id.
///
/// # Errors
///
/// Database errors.
pub fn by_nid(db: &Reader<'_>, event: EventNid) -> Result<StoredEvent> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE event_nid = ?1"))?;
    query.query_row([event.0], |row| Ok(read(row)))?
}

/// An event by its ID.
///
/// # Errors
///
/// Database errors.
pub fn by_id(db: &Reader<'_>, event_id: &EventId) -> Result<Option<StoredEvent>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE event_id = ?1"))?;
    query.query_row([event_id.as_str()], |row| Ok(read(row))).optional()?.transpose()
}

/// Type and state key of a state event, by integer id.
///
/// # Errors
///
/// Database errors.
pub fn state_key_of(db: &Reader<'_>, event: EventNid) -> Result<Option<StateKeyNid>> {
    let mut query = db.prepare_cached("SELECT statekey_nid FROM events WHERE event_nid = ?1")?;
    Ok(query.query_row([event.0], |row| row.get::<_, Option<i64>>(0))?.map(StateKeyNid))
}

/// The ID of an event.
///
/// # Errors
///
/// Database errors.
pub fn id_of(db: &Reader<'_>, event: EventNid) -> Result<OwnedEventId> {
    let mut query = db.prepare_cached("SELECT event_id FROM events WHERE event_nid = ?1")?;
    let text: String = query.query_row([event.0], |row| row.get(0))?;
    EventId::parse(&text).map_err(|e| StoreError::Data(format!("event ID: {e}")))
}

/// Which way to go through a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From old to new.
    Forwards,
    /// From new to old.
    Backwards,
}

/// Accepted events of a room with `after < position <= up_to`, in the given order, at most `limit`.
///
/// # Errors
///
/// Database errors.
pub fn range(db: &Reader<'_>, room: RoomNid, after: StreamPos, up_to: StreamPos, order: Order, limit: usize) -> Result<Vec<StoredEvent>> {
    let order = match order {
        Order::Forwards => "ASC",
        Order::Backwards => "DESC",
    };
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM events WHERE room_nid = ?1 AND stream_pos > ?2 AND stream_pos <= ?3
         AND rejected IS NULL AND soft_failed = 0 ORDER BY stream_pos {order} LIMIT ?4"
    ))?;
    let mut rows = query.query((room.0, after.0, up_to.0, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row)?);
    }
    Ok(events)
}

/// The position of the room's newest event.
///
/// # Errors
///
/// Database errors.
pub fn newest_pos(db: &Reader<'_>, room: RoomNid) -> Result<Option<StreamPos>> {
    let mut query = db.prepare_cached("SELECT max(stream_pos) FROM events WHERE room_nid = ?1 AND stream_pos IS NOT NULL")?;
    Ok(query.query_row([room.0], |row| row.get::<_, Option<i64>>(0))?.map(StreamPos))
}

/// The accepted event of a room that was sent closest to a time: the first at or after it, or the last at or before it.
///
/// # Errors
///
/// Database errors.
pub fn closest(db: &Reader<'_>, room: RoomNid, ts_ms: i64, order: Order, limit: usize) -> Result<Vec<StoredEvent>> {
    let (compare, order) = match order {
        Order::Forwards => (">=", "ASC"),
        Order::Backwards => ("<=", "DESC"),
    };
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM events WHERE room_nid = ?1 AND origin_server_ts {compare} ?2 AND stream_pos IS NOT NULL
         AND rejected IS NULL AND soft_failed = 0 ORDER BY origin_server_ts {order}, stream_pos {order} LIMIT ?3"
    ))?;
    let mut rows = query.query((room.0, ts_ms, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row)?);
    }
    Ok(events)
}

/// An event that nothing follows yet.
#[derive(Debug, Clone)]
pub struct Extremity {
    /// Integer id.
    pub nid: EventNid,
    /// Event ID.
    pub event_id: OwnedEventId,
    /// Distance from the room's start.
    pub depth: i64,
}

/// The room's forward extremities, deepest first.
///
/// # Errors
///
/// Database errors.
pub fn extremities(db: &Reader<'_>, room: RoomNid) -> Result<Vec<Extremity>> {
    let mut query = db.prepare_cached(
        "SELECT e.event_nid, e.event_id, e.depth FROM forward_extremities f JOIN events e USING (event_nid)
         WHERE f.room_nid = ?1 ORDER BY e.depth DESC, e.event_nid DESC",
    )?;
    let mut rows = query.query([room.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let event_id: String = row.get(1)?;
        let event_id = EventId::parse(&event_id).map_err(|e| StoreError::Data(format!("event ID: {e}")))?;
        found.push(Extremity { nid: EventNid(row.get(0)?), event_id, depth: row.get(2)? });
    }
    Ok(found)
}

/// The depth at which what we know of a room's history begins: that of the oldest event with a place. 0 for a room without any.
///
/// # Errors
///
/// Database errors.
pub fn oldest_depth(db: &Reader<'_>, room: RoomNid) -> Result<i64> {
    let mut query =
        db.prepare_cached("SELECT depth FROM events WHERE room_nid = ?1 AND stream_pos IS NOT NULL ORDER BY stream_pos LIMIT 1")?;
    Ok(query.query_row([room.0], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Replaces an event's JSON by its pruned form.
///
/// # Errors
///
/// Database errors.
pub fn redact(tx: &Tx<'_>, event: EventNid, pruned: &str, by: EventNid) -> Result<()> {
    let packed = codec::pack(pruned)?;
    tx.prepare_cached("UPDATE events SET json = ?2, redacted_by = ?3 WHERE event_nid = ?1")?.execute((event.0, packed, by.0))?;
    search::remove(tx, event)
}

/// Remembers a redaction whose target is not here, or that may not yet take effect.
///
/// # Errors
///
/// Database errors.
pub fn add_pending_redaction(tx: &Tx<'_>, redacts: &EventId, redaction: EventNid) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO pending_redactions (redacts, redaction_nid) VALUES (?1, ?2)")?
        .execute((redacts.as_str(), redaction.0))?;
    Ok(())
}

/// The redactions that wait for an event.
///
/// # Errors
///
/// Database errors.
pub fn pending_redactions(db: &Reader<'_>, redacts: &EventId) -> Result<Vec<EventNid>> {
    let mut query = db.prepare_cached("SELECT redaction_nid FROM pending_redactions WHERE redacts = ?1 ORDER BY redaction_nid")?;
    let rows = query.query_map([redacts.as_str()], |row| row.get(0).map(EventNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
