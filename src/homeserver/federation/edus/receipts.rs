//! `m.receipt` (Server-Server API, "Receipts"). A server sends the receipts of its own users only (CVE-2023-42453).
//!
//! A receipt may come before the event that it is about: events are checked for longer. It waits for a while then.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{EduError, ID_BYTES, Result, may_speak, owned};
use crate::homeserver::{
    Node,
    store::{
        StoreError, Tx, events, members,
        receipts::{self, NewReceipt},
        rooms, users,
    },
};

/// Receipts in one EDU.
const RECEIPTS: usize = 2000;
/// Events that one receipt may name.
const EVENTS: usize = 20;
/// Receipts that wait for their events at one time. More are dropped: the next one of the same user makes up for it.
const WAITING: usize = 2000;
/// How many of them one server may have.
const OF_SERVER: usize = 100;
/// They are looked at no more often than this, however much else is stored.
const ROUND: Duration = Duration::from_secs(1);
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct OfRoom {
    /// Private receipts never leave their server; other kinds nobody knows.
    #[serde(rename = "m.read", default)]
    read: BTreeMap<String, Read>,
}

#[derive(Deserialize)]
struct Read {
    event_ids: Vec<String>,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize, Default)]
struct Data {
    #[serde(default)]
    ts: Option<i64>,
    #[serde(default)]
    thread_id: Option<String>,
}

/// A receipt whose origin owns the user.
#[derive(Debug, Clone)]
struct Heard {
    origin: OwnedServerName,
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    events: Vec<OwnedEventId>,
    thread_id: String,
    ts_ms: i64,
}

/// Receipts that came before their events.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    receipts: VecDeque<(Instant, Heard)>,
    /// A task looks after them.
    watched: bool,
}

impl Waiting {
    fn with<T>(&self, f: impl FnOnce(&mut Queue) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.with(|queue| queue.receipts.len())
    }

    /// True when somebody has to look after them from now on.
    fn add(&self, receipts: Vec<Heard>, until: Instant) -> bool {
        self.with(|queue| {
            for receipt in receipts {
                let of_server = queue.receipts.iter().filter(|(_, waiting)| waiting.origin == receipt.origin).count();
                if queue.receipts.len() < WAITING && of_server < OF_SERVER {
                    queue.receipts.push_back((until, receipt));
                }
            }
            !queue.receipts.is_empty() && !std::mem::replace(&mut queue.watched, true)
        })
    }
}

pub(super) async fn receive(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let edu: BTreeMap<String, OfRoom> = serde_json::from_str(content.get())?;
    if edu.values().map(|room| room.read.len()).sum::<usize>() > RECEIPTS {
        return Err(EduError::Malformed("too many receipts".into()));
    }
    let now_ms = i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX);
    let mut heard = Vec::new();
    for (room_id, of_room) in edu {
        let Ok(room_id) = RoomId::parse(&room_id) else { continue };
        for (user_id, read) in of_room.read {
            match check(origin, &room_id, &user_id, read, now_ms) {
                Ok(receipt) => heard.push(receipt),
                Err(error) => tracing::debug!(%origin, %error, "a receipt was dropped"),
            }
        }
    }
    if heard.is_empty() {
        return Ok(());
    }
    let early = node.store.write(move |tx| apply_all(tx, heard)).await?;
    if node.federation.edus.waiting.add(early, Instant::now() + PATIENCE) {
        node.tasks.spawn("receipts", watch(Arc::clone(node)));
    }
    Ok(())
}

fn check(origin: &ServerName, room_id: &RoomId, user_id: &str, read: Read, now_ms: i64) -> Result<Heard> {
    let user_id = owned(origin, user_id)?;
    let thread_id = read.data.thread_id.unwrap_or_default();
    if read.event_ids.len() > EVENTS || thread_id.len() > ID_BYTES {
        return Err(EduError::Malformed("too many events, or the thread's ID is too long".into()));
    }
    let events = read.event_ids.iter().filter(|id| id.len() <= ID_BYTES).filter_map(|id| EventId::parse(id).ok()).collect();
    let ts_ms = read.data.ts.filter(|ts| (0..=now_ms).contains(ts)).unwrap_or(now_ms);
    Ok(Heard { origin: origin.to_owned(), room_id: room_id.to_owned(), user_id, events, thread_id, ts_ms })
}

/// Applies what can be applied and returns what came before its event.
fn apply_all(tx: &mut Tx<'_>, heard: Vec<Heard>) -> Result<Vec<Heard>, StoreError> {
    let mut early = Vec::new();
    for receipt in heard {
        match apply(tx, &receipt) {
            Ok(true) => {}
            Ok(false) => early.push(receipt),
            Err(EduError::Store(error)) => return Err(error),
            Err(error) => tracing::debug!(origin = %receipt.origin, %error, "a receipt was dropped"),
        }
    }
    Ok(early)
}

/// False when the event is not here yet.
fn apply(tx: &mut Tx<'_>, receipt: &Heard) -> Result<bool> {
    let Some(room) = rooms::by_id(&tx.reader(), &receipt.room_id)? else { return Ok(true) };
    may_speak(&tx.reader(), &room, &receipt.origin)?;
    let Some(user) = users::find(&tx.reader(), &receipt.user_id)? else { return Ok(true) };
    let locals = members::local_joined(&tx.reader(), room.nid)?;
    let joined = members::get(&tx.reader(), room.nid, user)?.is_some_and(|member| member.membership == "join");
    if locals.is_empty() || !joined {
        return Ok(true);
    }
    let place = |id: &EventId| Ok::<_, StoreError>(events::by_id(&tx.reader(), id)?.filter(|event| event.room == room.nid));
    // A thread is named by an event that is here: nobody fills the disk with threads that there are not.
    if !matches!(receipt.thread_id.as_str(), "" | "main") {
        let Ok(root) = EventId::parse(&receipt.thread_id) else { return Ok(true) };
        if place(&root)?.is_none() {
            return Ok(false);
        }
    }
    let mut furthest = None;
    for id in &receipt.events {
        let Some(event) = place(id)? else { continue };
        if let Some(pos) = event.pos
            && furthest.as_ref().is_none_or(|(best, _)| pos > *best)
        {
            furthest = Some((pos, id));
        }
    }
    let Some((event_pos, event_id)) = furthest else { return Ok(receipt.events.is_empty()) };
    let new = NewReceipt {
        room: room.nid,
        user,
        kind: "m.read",
        thread_id: &receipt.thread_id,
        event_id: event_id.as_str(),
        event_pos,
        ts_ms: receipt.ts_ms,
    };
    if receipts::advance(tx, &new)? {
        for local in locals {
            tx.touch(local);
        }
    }
    Ok(true)
}

/// Tries those that wait again after each commit, until none is left.
async fn watch(node: Arc<Node>) {
    let mut commits = node.notifier.subscribe_to_all();
    loop {
        let now = Instant::now();
        let (due, next) = node.federation.edus.waiting.with(|queue| {
            queue.receipts.retain(|(until, _)| *until > now);
            queue.watched = !queue.receipts.is_empty();
            (queue.receipts.iter().map(|(_, receipt)| receipt.clone()).collect::<Vec<_>>(), queue.receipts.front().map(|(until, _)| *until))
        });
        let Some(next) = next else { return };
        let known = node.store.read(move |db| {
            let mut known = Vec::new();
            for receipt in due {
                for id in &receipt.events {
                    if events::by_id(db, id)?.is_some_and(|event| event.pos.is_some()) {
                        known.push(receipt.clone());
                        break;
                    }
                }
            }
            Ok::<_, StoreError>(known)
        });
        let applied = match known.await {
            Ok(known) if !known.is_empty() => {
                let ours = known.iter().map(|receipt| (receipt.user_id.clone(), receipt.events.clone())).collect::<Vec<_>>();
                let applied = node.store.write(move |tx| apply_all(tx, known)).await;
                node.federation.edus.waiting.with(|queue| {
                    queue.receipts.retain(|(_, receipt)| !ours.contains(&(receipt.user_id.clone(), receipt.events.clone())));
                });
                applied.map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = applied {
            tracing::warn!(%error, "receipts that waited for their events could not be stored");
        }
        let news = async {
            // Closed or not: a look does no harm.
            let _closed = commits.changed().await.is_err();
            tokio::time::sleep(ROUND).await;
        };
        // Cancel-safe: each only waits, and the next round looks at everything that has come.
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = news => {}
            () = node.tasks.shutdown().wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn early(server: &str, count: usize) -> Vec<Heard> {
        let receipt = |n: usize| Heard {
            origin: ServerName::parse(server).unwrap(),
            room_id: RoomId::parse("!r:home.test").unwrap(),
            user_id: OwnedUserId::try_from(format!("@u{n}:{server}")).unwrap(),
            events: vec![EventId::parse("$nobody-has-it").unwrap()],
            thread_id: String::new(),
            ts_ms: 1,
        };
        (0..count).map(receipt).collect()
    }

    #[tokio::test]
    async fn one_server_leaves_room_for_the_receipts_of_others() {
        let (waiting, until) = (Waiting::default(), Instant::now() + PATIENCE);
        assert!(waiting.add(early("evil.test", 5_000), until));
        assert_eq!(waiting.len(), OF_SERVER);
        waiting.add(early("friend.test", 10), until);
        assert_eq!(waiting.len(), OF_SERVER + 10);
        for n in 0..50 {
            waiting.add(early(&format!("s{n}.test"), OF_SERVER), until);
        }
        assert_eq!(waiting.len(), WAITING);
    }
}
