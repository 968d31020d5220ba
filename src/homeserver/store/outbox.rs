//! What waits to be sent to other servers.
//!
//! Written in the transaction that stores the event, so that nothing acknowledged is ever not sent. What goes out together is
//! marked with the transaction's ID before the first attempt, and stays so until it is answered: a restart repeats the
//! transaction instead of making another.

use super::{
    Reader, Result, Tx, codec,
    servers::{self, ServerNid},
};
use crate::homeserver::types::{EventNid, RoomNid, StreamPos};
use ruma::{OwnedServerName, ServerName};

/// PDUs of one transaction (Server-Server API, "Transactions").
const MAX_PDUS: i64 = 50;
/// EDUs of one transaction.
const MAX_EDUS: i64 = 100;
/// Bytes of PDUs, and of EDUs, that begin no further one in a transaction: together they stay below the 4 MiB that some servers
/// take at most.
const PDU_BYTES: usize = 1 << 20;
/// See [`PDU_BYTES`].
const EDU_BYTES: usize = 2 << 20;
/// EDUs that wait for one server at most; beyond that the oldest are dropped.
const MAX_WAITING_EDUS: i64 = 10_000;

/// An event that goes to other servers.
#[derive(Debug)]
pub struct OutgoingPdu<'a> {
    /// Its room: every server in it is sent the event.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
    /// Its place in the stream.
    pub pos: StreamPos,
    /// Also sent there, whether in the room or not: the server of whom a membership event is about.
    pub also: Option<&'a ServerName>,
    /// Not sent there: our own name, and the server that the event came from.
    pub except: &'a [&'a ServerName],
}

/// Queues an event for every server in its room.
///
/// # Errors
///
/// Database errors.
pub fn queue_pdu(tx: &mut Tx<'_>, pdu: &OutgoingPdu<'_>) -> Result<()> {
    let mut to = Vec::new();
    {
        let mut query =
            tx.prepare_cached("SELECT server_nid, name FROM room_servers JOIN servers USING (server_nid) WHERE room_nid = ?1")?;
        let mut rows = query.query([pdu.room.0])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(1)?.as_str().unwrap_or_default();
            if !pdu.except.iter().any(|except| except.as_str() == name) {
                to.push(ServerNid(row.get(0)?));
            }
        }
    }
    // Whoever is not in the room finds no other event by way of this one.
    let mut alone = None;
    if let Some(also) = pdu.also.filter(|also| !pdu.except.contains(also)) {
        let also = servers::intern(tx, also)?;
        if !to.contains(&also) {
            to.push(also);
            alone = Some(also);
        }
    }
    for server in to {
        put_pdu(tx, server, pdu, alone == Some(server))?;
    }
    Ok(())
}

/// Did another server give us this event?
///
/// # Errors
///
/// Database errors.
pub fn came_from_elsewhere(db: &Reader<'_>, event: EventNid) -> Result<bool> {
    let mut query = db.prepare_cached("SELECT came_from IS NOT NULL FROM events WHERE event_nid = ?1")?;
    Ok(query.query_row([event.0], |row| row.get(0))?)
}

fn put_pdu(tx: &mut Tx<'_>, server: ServerNid, pdu: &OutgoingPdu<'_>, alone: bool) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO outgoing_pdus (server_nid, stream_pos, event_nid, room_nid, alone) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((server.0, pdu.pos.0, pdu.event.0, pdu.room.0, alone))?;
    if mark_pending(tx, server)? {
        // Of each room the newest is enough: it leads the server to the others once it is back.
        tx.prepare_cached(
            "DELETE FROM outgoing_pdus WHERE server_nid = ?1 AND room_nid = ?2 AND stream_pos < ?3 AND in_txn = 0 AND alone = 0",
        )?
        .execute((server.0, pdu.room.0, pdu.pos.0))?;
    }
    Ok(())
}

/// Something waits for the server. True when it has been away for long.
fn mark_pending(tx: &mut Tx<'_>, server: ServerNid) -> Result<bool> {
    let (pending, away): (bool, bool) = {
        let mut query = tx.prepare_cached("SELECT pending, away FROM servers WHERE server_nid = ?1")?;
        query.query_row([server.0], |row| Ok((row.get(0)?, row.get(1)?)))?
    };
    if !pending {
        tx.prepare_cached("UPDATE servers SET pending = 1 WHERE server_nid = ?1")?.execute([server.0])?;
    }
    tx.has_outgoing();
    Ok(away)
}

/// An EDU to be sent.
#[derive(Debug)]
pub struct OutgoingEdu<'a> {
    /// `edu_type`.
    pub kind: &'a str,
    /// `content`, a JSON object.
    pub content: &'a str,
    /// A later EDU of the same kind and key takes the place of this one, if it has not been sent by then.
    pub key: Option<&'a str>,
    /// Worth nothing after this time, in milliseconds since the Unix epoch; `None` for what must arrive.
    pub expires_ms: Option<u64>,
}

/// Queues an EDU for a server.
///
/// # Errors
///
/// Database errors.
pub fn queue_edu(tx: &mut Tx<'_>, to: &ServerName, edu: &OutgoingEdu<'_>) -> Result<()> {
    let server = servers::intern(tx, to)?;
    if let Some(key) = edu.key {
        tx.prepare_cached("DELETE FROM outgoing_edus WHERE server_nid = ?1 AND kind = ?2 AND key = ?3 AND in_txn = 0")?
            .execute((server.0, edu.kind, key))?;
    }
    tx.prepare_cached("INSERT INTO outgoing_edus (server_nid, kind, key, content, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        server.0,
        edu.kind,
        edu.key,
        edu.content,
        edu.expires_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
    ))?;
    if tx.last_insert_rowid() % 64 == 0 {
        bound_edus(tx, server)?;
    }
    mark_pending(tx, server)?;
    Ok(())
}

/// Drops the oldest EDUs of a server that is not reached.
fn bound_edus(tx: &Tx<'_>, server: ServerNid) -> Result<()> {
    let dropped = tx
        .prepare_cached(
            "DELETE FROM outgoing_edus WHERE server_nid = ?1 AND in_txn = 0 AND edu_nid <=
             (SELECT edu_nid FROM outgoing_edus WHERE server_nid = ?1 ORDER BY edu_nid DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute((server.0, MAX_WAITING_EDUS))?;
    if dropped > 0 {
        tracing::warn!(server_nid = server.0, dropped, "too much waits for a server that is not reached; the oldest was dropped");
    }
    Ok(())
}

/// A server that something waits for.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// In the store.
    pub nid: ServerNid,
    /// Its name.
    pub name: OwnedServerName,
    /// Failures in a row.
    pub failures: i64,
    /// Since when, in milliseconds since the Unix epoch.
    pub failing_since_ms: Option<i64>,
}

/// Servers that may be sent to now, those that have waited longest first; at most `limit`.
///
/// # Errors
///
/// Database errors.
pub fn due(db: &Reader<'_>, now_ms: i64, limit: usize) -> Result<Vec<Waiting>> {
    let mut query = db.prepare_cached(
        "SELECT server_nid, name, failures, failing_since_ms FROM servers WHERE pending = 1 AND retry_ms <= ?1 ORDER BY retry_ms LIMIT ?2",
    )?;
    let mut rows = query.query((now_ms, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(name) = servers::parse(&row.get::<_, String>(1)?) {
            due.push(Waiting { nid: ServerNid(row.get(0)?), name, failures: row.get(2)?, failing_since_ms: row.get(3)? });
        }
    }
    Ok(due)
}

/// When the next server after now may be sent to.
///
/// # Errors
///
/// Database errors.
pub fn next_due(db: &Reader<'_>, now_ms: i64) -> Result<Option<i64>> {
    let mut query = db.prepare_cached("SELECT min(retry_ms) FROM servers WHERE pending = 1 AND retry_ms > ?1")?;
    Ok(query.query_row([now_ms], |row| row.get(0))?)
}

/// A transaction to be sent, or sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its ID: the same until it is answered.
    pub id: String,
    /// `origin_server_ts`, in milliseconds since the Unix epoch.
    pub origin_server_ts: i64,
    /// Events as they are signed, in order.
    pub pdus: Vec<String>,
    /// EDUs, each as kind and content.
    pub edus: Vec<(String, String)>,
}

/// The transaction under way to a server, or a new one of that ID. `None` when nothing waits any more.
///
/// # Errors
///
/// Database errors.
pub fn transaction(tx: &Tx<'_>, server: ServerNid, new_id: &str, now_ms: i64) -> Result<Option<Transaction>> {
    let mut query = tx.prepare_cached("SELECT txn_id, txn_ms FROM servers WHERE server_nid = ?1")?;
    let under_way: (Option<String>, Option<i64>) = query.query_row([server.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (id, origin_server_ts) = match under_way {
        (Some(id), ms) => (id, ms.unwrap_or(now_ms)),
        (None, _) => {
            if !begin(tx, server, new_id, now_ms)? {
                return Ok(None);
            }
            (new_id.to_owned(), now_ms)
        }
    };
    let mut pdus = Vec::new();
    let mut query = tx.prepare_cached(
        "SELECT e.json FROM outgoing_pdus o JOIN events e USING (event_nid) WHERE o.server_nid = ?1 AND o.in_txn = 1 ORDER BY o.stream_pos",
    )?;
    let mut rows = query.query([server.0])?;
    while let Some(row) = rows.next()? {
        pdus.push(codec::unpack(row.get_ref(0)?.as_blob().map_err(|e| super::StoreError::Data(e.to_string()))?)?);
    }
    let mut query = tx.prepare_cached("SELECT kind, content FROM outgoing_edus WHERE server_nid = ?1 AND in_txn = 1 ORDER BY edu_nid")?;
    let edus = query.query_map([server.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Transaction { id, origin_server_ts, pdus, edus }))
}

/// Marks what goes out next. False when there is nothing.
fn begin(tx: &Tx<'_>, server: ServerNid, new_id: &str, now_ms: i64) -> Result<bool> {
    tx.prepare_cached("DELETE FROM outgoing_edus WHERE server_nid = ?1 AND expires_ms < ?2")?.execute((server.0, now_ms))?;
    let (pdu, edu) = (last_pdu(tx, server)?, last_edu(tx, server)?);
    if let Some(last) = pdu {
        tx.prepare_cached("UPDATE outgoing_pdus SET in_txn = 1 WHERE server_nid = ?1 AND stream_pos <= ?2")?.execute((server.0, last))?;
    }
    if let Some(last) = edu {
        tx.prepare_cached("UPDATE outgoing_edus SET in_txn = 1 WHERE server_nid = ?1 AND edu_nid <= ?2")?.execute((server.0, last))?;
    }
    if pdu.is_none() && edu.is_none() {
        tx.prepare_cached("UPDATE servers SET pending = 0 WHERE server_nid = ?1")?.execute([server.0])?;
        return Ok(false);
    }
    tx.prepare_cached("UPDATE servers SET txn_id = ?2, txn_ms = ?3 WHERE server_nid = ?1")?.execute((server.0, new_id, now_ms))?;
    Ok(true)
}

/// The last of the events that go out next.
fn last_pdu(tx: &Tx<'_>, server: ServerNid) -> Result<Option<i64>> {
    let mut query = tx.prepare_cached(
        "SELECT o.stream_pos, e.json FROM outgoing_pdus o JOIN events e USING (event_nid) WHERE o.server_nid = ?1 ORDER BY o.stream_pos LIMIT ?2",
    )?;
    let mut rows = query.query((server.0, MAX_PDUS))?;
    let (mut last, mut bytes) = (None, 0);
    while let Some(row) = rows.next()?.filter(|_| bytes < PDU_BYTES) {
        bytes += codec::unpack(row.get_ref(1)?.as_blob().map_err(|e| super::StoreError::Data(e.to_string()))?)?.len();
        last = Some(row.get(0)?);
    }
    Ok(last)
}

/// The last of the EDUs that go out next.
fn last_edu(tx: &Tx<'_>, server: ServerNid) -> Result<Option<i64>> {
    let mut query = tx.prepare_cached(
        "SELECT edu_nid, length(CAST(content AS BLOB)) FROM outgoing_edus WHERE server_nid = ?1 ORDER BY edu_nid LIMIT ?2",
    )?;
    let mut rows = query.query((server.0, MAX_EDUS))?;
    let (mut last, mut bytes) = (None, 0);
    while let Some(row) = rows.next()?.filter(|_| bytes < EDU_BYTES) {
        bytes += row.get::<_, usize>(1)?;
        last = Some(row.get(0)?);
    }
    Ok(last)
}

/// The transaction was answered: what was in it is forgotten, and the server counts as reached. True when more waits.
///
/// # Errors
///
/// Database errors.
pub fn answered(tx: &mut Tx<'_>, server: ServerNid, now_ms: i64) -> Result<bool> {
    let away: bool = tx.query_row("SELECT away FROM servers WHERE server_nid = ?1", [server.0], |row| row.get(0))?;
    tx.prepare_cached("DELETE FROM outgoing_pdus WHERE server_nid = ?1 AND in_txn = 1")?.execute([server.0])?;
    tx.prepare_cached("DELETE FROM outgoing_edus WHERE server_nid = ?1 AND in_txn = 1")?.execute([server.0])?;
    if away {
        catch_up(tx, server)?;
    }
    let mut query = tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM outgoing_pdus WHERE server_nid = ?1) OR EXISTS (SELECT 1 FROM outgoing_edus WHERE server_nid = ?1)",
    )?;
    let more: bool = query.query_row([server.0], |row| row.get(0))?;
    tx.prepare_cached(
        "UPDATE servers SET txn_id = NULL, txn_ms = NULL, failures = 0, failing_since_ms = NULL, retry_ms = ?3, away = 0,
                            last_error = NULL, pending = ?2 WHERE server_nid = ?1",
    )?
    // Whoever was served last comes last: nobody waits behind those who always have something.
    .execute((server.0, more, now_ms))?;
    Ok(more)
}

/// A server is back: of each room that it is in it gets the newest events, whoever sent them, and finds the others from there.
fn catch_up(tx: &mut Tx<'_>, server: ServerNid) -> Result<()> {
    let mut query = tx.prepare_cached(
        "SELECT DISTINCT o.room_nid FROM outgoing_pdus o JOIN room_servers r ON r.room_nid = o.room_nid AND r.server_nid = o.server_nid
         WHERE o.server_nid = ?1",
    )?;
    let rooms = query.query_map([server.0], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    drop(query);
    for room in rooms {
        tx.prepare_cached("DELETE FROM outgoing_pdus WHERE server_nid = ?1 AND room_nid = ?2 AND alone = 0")?.execute((server.0, room))?;
        tx.prepare_cached(
            "INSERT OR IGNORE INTO outgoing_pdus (server_nid, stream_pos, event_nid, room_nid)
             SELECT ?1, e.stream_pos, e.event_nid, f.room_nid FROM forward_extremities f JOIN events e USING (event_nid)
             WHERE f.room_nid = ?2 AND e.stream_pos IS NOT NULL",
        )?
        .execute((server.0, room))?;
    }
    Ok(())
}

/// An attempt failed. With `away`, what waits is cut to the newest event of each room.
///
/// # Errors
///
/// Database errors.
pub fn failed(tx: &Tx<'_>, server: ServerNid, why: &str, now_ms: i64, retry_ms: i64, away: bool) -> Result<()> {
    tx.prepare_cached(
        "UPDATE servers SET failures = failures + 1, failing_since_ms = coalesce(failing_since_ms, ?2), retry_ms = ?3, last_error = ?4,
                            away = max(away, ?5) WHERE server_nid = ?1",
    )?
    .execute((server.0, now_ms, retry_ms, why, away))?;
    if away {
        tx.prepare_cached(
            "DELETE FROM outgoing_pdus WHERE server_nid = ?1 AND in_txn = 0 AND alone = 0 AND stream_pos <
             (SELECT max(n.stream_pos) FROM outgoing_pdus n WHERE n.server_nid = ?1 AND n.room_nid = outgoing_pdus.room_nid)",
        )?
        .execute([server.0])?;
    }
    Ok(())
}

/// Nothing goes to this server: what waits for it is dropped.
///
/// # Errors
///
/// Database errors.
pub fn discard(tx: &Tx<'_>, server: ServerNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM outgoing_pdus WHERE server_nid = ?1")?.execute([server.0])?;
    tx.prepare_cached("DELETE FROM outgoing_edus WHERE server_nid = ?1")?.execute([server.0])?;
    tx.prepare_cached(
        "UPDATE servers SET txn_id = NULL, txn_ms = NULL, failures = 0, failing_since_ms = NULL, away = 0, last_error = NULL, pending = 0
         WHERE server_nid = ?1",
    )?
    .execute([server.0])?;
    Ok(())
}

/// The server has spoken to us: whatever waits for it is tried at once. True when something does.
///
/// # Errors
///
/// Database errors.
pub fn heard_from(tx: &mut Tx<'_>, server: &ServerName) -> Result<bool> {
    let changed = tx
        .prepare_cached("UPDATE servers SET retry_ms = 0 WHERE name = ?1 AND pending = 1 AND retry_ms > 0")?
        .execute([server.as_str()])?;
    if changed > 0 {
        tx.has_outgoing();
    }
    Ok(changed > 0)
}

/// Servers that did not answer the last time.
///
/// # Errors
///
/// Database errors.
pub fn silent(db: &Reader<'_>) -> Result<Vec<OwnedServerName>> {
    let mut query = db.prepare_cached("SELECT name FROM servers WHERE pending = 1 AND failures > 0")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(servers::parse(&row.get::<_, String>(0)?)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::{collections::BTreeMap, sync::Arc};

    use proptest::{prelude::*, test_runner::TestRunner};
    use ruma::server_name;

    use super::*;
    use crate::homeserver::store::{Observer, Store, StoreError};

    /// A room of ours with a member at each of two other servers, and ten events in it.
    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {}))).unwrap();
        let furnished = store.write(|tx| {
            tx.execute_batch(
                "INSERT INTO users VALUES (1, '@ann:home.test'), (2, '@bob:b.test'), (3, '@cat:c.test:8448');
                 INSERT INTO rooms VALUES (1, '!room', '12', 0, NULL, 0), (2, '!other', '12', 0, NULL, 0);",
            )?;
            for event in 1..=10 {
                let json = codec::pack(&format!("{{\"event\":{event}}}"))?;
                tx.execute(
                    "INSERT INTO events (event_nid, event_id, room_nid, sender_nid, type, depth, origin_server_ts, stream_pos, json)
                     VALUES (?1, '$' || ?1, 1 + ?1 / 8, 1, 't', 1, 1, ?1, ?2)",
                    (event, json),
                )?;
            }
            for user in 1..=3 {
                member(tx, 1, user, "join")?;
            }
            member(tx, 2, 2, "join")
        });
        furnished.await.unwrap();
        (dir, store)
    }

    fn member(tx: &Tx<'_>, room: i64, user: i64, membership: &str) -> Result<()> {
        tx.execute(
            "INSERT INTO members (room_nid, user_nid, membership, event_nid, stream_pos) VALUES (?1, ?2, ?3, 1, 1)
             ON CONFLICT DO UPDATE SET membership = ?3",
            (room, user, membership),
        )?;
        Ok(())
    }

    fn queue(tx: &mut Tx<'_>, room: i64, event: i64) -> Result<()> {
        let ours = server_name!("home.test");
        queue_pdu(tx, &OutgoingPdu { room: RoomNid(room), event: EventNid(event), pos: StreamPos(event), also: None, except: &[ours] })
    }

    fn take(tx: &Tx<'_>, server: &ServerName, id: &str) -> Option<(String, Vec<String>)> {
        let nid = servers::find(&tx.reader(), server).unwrap().unwrap();
        let numbers = |json: String| json.trim_start_matches("{\"event\":").trim_end_matches('}').to_owned();
        transaction(tx, nid, id, 5).unwrap().map(|t| {
            (t.id, t.pdus.into_iter().map(numbers).chain(t.edus.into_iter().map(|(kind, content)| format!("{kind} {content}"))).collect())
        })
    }

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_transaction_stays_the_same_until_it_is_answered() {
        let (_dir, store) = store().await;
        let b = server_name!("b.test");
        let done = store.write(move |tx| {
            queue(tx, 1, 1)?;
            queue(tx, 1, 2)?;
            assert_eq!(take(tx, b, "t1"), Some(("t1".into(), texts(&["1", "2"]))));
            queue(tx, 1, 3)?;
            assert_eq!(take(tx, b, "t2"), Some(("t1".into(), texts(&["1", "2"]))), "a restart would ask for a new one");
            let nid = servers::find(&tx.reader(), b)?.unwrap();
            assert!(answered(tx, nid, 300)?);
            assert_eq!(take(tx, b, "t3"), Some(("t3".into(), texts(&["3"]))));
            assert!(!answered(tx, nid, 300)?);
            assert_eq!(take(tx, b, "t4"), None);
            assert_eq!(take(tx, server_name!("c.test:8448"), "u1"), Some(("u1".into(), texts(&["1", "2", "3"]))));
            assert!(servers::find(&tx.reader(), server_name!("home.test"))?.is_some());
            let to_us: i64 =
                tx.query_row("SELECT count(*) FROM outgoing_pdus JOIN servers USING (server_nid) WHERE name = 'home.test'", [], |r| {
                    r.get(0)
                })?;
            assert_eq!(to_us, 0);
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_was_away_gets_the_newest_of_each_room_it_is_in() {
        let (_dir, store) = store().await;
        let b = server_name!("b.test");
        let done = store.write(move |tx| {
            queue(tx, 1, 1)?;
            assert!(take(tx, b, "t1").is_some());
            for event in 2..=5 {
                queue(tx, 1, event)?;
            }
            queue(tx, 2, 8)?;
            let nid = servers::find(&tx.reader(), b)?.unwrap();
            failed(tx, nid, "no route", 100, 200, true)?;
            for event in 6..=7 {
                queue(tx, 1, event)?;
            }
            queue(tx, 2, 9)?;
            let waiting: i64 = tx.query_row("SELECT count(*) FROM outgoing_pdus WHERE server_nid = ?1", [nid.0], |r| r.get(0))?;
            assert_eq!(waiting, 3, "the transaction under way, and one of each room");
            // Meanwhile somebody else's event has become the newest one of room 1, and the server has left room 2.
            tx.execute_batch("INSERT INTO forward_extremities VALUES (1, 10)")?;
            tx.execute_batch("UPDATE members SET membership = 'leave' WHERE room_nid = 2 AND user_nid = 2")?;
            assert_eq!(due(&tx.reader(), 199, 9)?.iter().filter(|w| w.nid == nid).count(), 0);
            assert!(heard_from(tx, b)?);
            assert_eq!(due(&tx.reader(), 199, 9)?.iter().filter(|w| w.nid == nid).count(), 1);
            assert_eq!(take(tx, b, "t2"), Some(("t1".into(), texts(&["1"]))));
            assert!(answered(tx, nid, 300)?);
            assert_eq!(take(tx, b, "t3"), Some(("t3".into(), texts(&["9", "10"]))));
            assert!(!answered(tx, nid, 300)?);
            queue(tx, 1, 3)?;
            queue(tx, 1, 4)?;
            assert_eq!(take(tx, b, "t4"), Some(("t4".into(), texts(&["3", "4"]))), "it is not away any more");
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    /// Two people of a server that is in no room are thrown out while it is away: each has to hear of it.
    #[tokio::test]
    async fn who_is_not_in_the_room_gets_each_event_that_is_about_them() {
        let (_dir, store) = store().await;
        let done = store.write(move |tx| {
            let (ours, d) = (server_name!("home.test"), server_name!("d.test"));
            let about = |tx: &mut Tx<'_>, event| {
                let pdu = OutgoingPdu { room: RoomNid(1), event: EventNid(event), pos: StreamPos(event), also: Some(d), except: &[ours] };
                queue_pdu(tx, &pdu)
            };
            about(tx, 1)?;
            let nid = servers::find(&tx.reader(), d)?.unwrap();
            failed(tx, nid, "no route", 100, 200, true)?;
            about(tx, 2)?;
            about(tx, 3)?;
            failed(tx, nid, "no route", 300, 400, true)?;
            assert_eq!(take(tx, d, "t1"), Some(("t1".into(), texts(&["1", "2", "3"]))));
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn edus_replace_those_of_their_key_and_expire() {
        let (_dir, store) = store().await;
        let b = server_name!("b.test");
        let done = store.write(move |tx| {
            let edu = |content, key, expires_ms| OutgoingEdu { kind: "k", content, key, expires_ms };
            queue_edu(tx, b, &edu("1", Some("x"), None))?;
            queue_edu(tx, b, &edu("2", None, None))?;
            queue_edu(tx, b, &edu("3", Some("y"), Some(4)))?;
            queue_edu(tx, b, &edu("4", Some("x"), None))?;
            assert_eq!(take(tx, b, "t1"), Some(("t1".into(), texts(&["k 2", "k 4"]))), "3 has expired, 1 was replaced");
            queue_edu(tx, b, &edu("5", Some("x"), None))?;
            assert_eq!(take(tx, b, "t2"), Some(("t1".into(), texts(&["k 2", "k 4"]))), "what is under way stays");
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    /// A hundred parcels of room keys for a server that was away: they are sent in pieces that it takes, and none is lost.
    #[tokio::test]
    async fn a_transaction_ends_where_it_would_become_too_large() {
        let (_dir, store) = store().await;
        let done = store.write(move |tx| {
            let b = server_name!("b.test");
            for number in 0..100 {
                let content = format!("{{\"n\":{number},\"x\":\"{}\"}}", "ü".repeat(25_000));
                queue_edu(tx, b, &OutgoingEdu { kind: "k", content: &content, key: None, expires_ms: None })?;
            }
            let large = codec::pack(&format!("{{\"event\":\"{}\"}}", "x".repeat(60_000)))?;
            tx.execute("UPDATE events SET json = ?1", [large])?;
            for round in 0..10 {
                for event in 1..=7 {
                    tx.execute("INSERT INTO outgoing_pdus (server_nid, stream_pos, event_nid, room_nid) SELECT server_nid, ?1, ?2, 1 FROM servers WHERE name = 'b.test'", (round * 7 + event, event))?;
                }
            }
            let nid = servers::find(&tx.reader(), b)?.unwrap();
            let (mut edus, mut pdus, mut more) = (Vec::new(), 0, true);
            while more {
                let transaction = transaction(tx, nid, &format!("t{}", edus.len()), 5)?.unwrap();
                let bytes: usize = transaction.pdus.iter().chain(transaction.edus.iter().map(|(_, content)| content)).map(String::len).sum();
                assert!(bytes < 4_000_000 - 100_000, "{bytes}");
                assert!(!transaction.edus.is_empty() || !transaction.pdus.is_empty());
                pdus += transaction.pdus.len();
                edus.extend(transaction.edus.into_iter().map(|(_, content)| content));
                more = answered(tx, nid, 300)?;
            }
            assert_eq!((pdus, edus.len()), (70, 100));
            assert!(edus.iter().enumerate().all(|(n, content)| content.starts_with(&format!("{{\"n\":{n},"))), "in order");
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn edus_for_a_server_that_is_never_reached_are_bounded() {
        let (_dir, store) = store().await;
        let done = store.write(move |tx| {
            let b = server_name!("b.test");
            for _ in 0..MAX_WAITING_EDUS + 200 {
                queue_edu(tx, b, &OutgoingEdu { kind: "k", content: "{}", key: None, expires_ms: None })?;
            }
            let waiting: i64 = tx.query_row("SELECT count(*) FROM outgoing_edus", [], |r| r.get(0))?;
            assert!((MAX_WAITING_EDUS..MAX_WAITING_EDUS + 64).contains(&waiting), "{waiting}");
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn the_servers_of_a_room_follow_its_members() {
        let (_dir, store) = store().await;
        let done = store.write(|tx| {
            tx.execute_batch("DELETE FROM members; INSERT INTO users VALUES (4, '@dan:b.test')")?;
            let left: i64 = tx.query_row("SELECT count(*) FROM room_servers", [], |r| r.get(0))?;
            assert_eq!(left, 0);
            let server = |user: i64| if user == 4 { 2 } else { user };
            let step = (1..=4_i64, prop_oneof![Just("join"), Just("leave"), Just("ban"), Just("invite")]);
            let outcome = TestRunner::new(ProptestConfig::with_cases(60)).run(&proptest::collection::vec(step, 1..30), |steps| {
                let mut members = BTreeMap::new();
                for (user, membership) in steps {
                    member(tx, 1, user, membership).unwrap();
                    members.insert(user, membership);
                    let mut expected = BTreeMap::<String, i64>::new();
                    for (user, _) in members.iter().filter(|(_, membership)| **membership == "join") {
                        *expected
                            .entry(["home.test", "b.test", "c.test:8448"][usize::try_from(server(*user) - 1).unwrap()].into())
                            .or_default() += 1;
                    }
                    let mut query = tx.prepare_cached("SELECT name, joined FROM room_servers JOIN servers USING (server_nid)").unwrap();
                    let found = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
                    prop_assert_eq!(found.collect::<rusqlite::Result<BTreeMap<String, i64>>>().unwrap(), expected);
                }
                tx.execute_batch("DELETE FROM members").unwrap();
                Ok(())
            });
            outcome.map_err(|e| StoreError::Data(e.to_string()))
        });
        done.await.unwrap();
    }
}
