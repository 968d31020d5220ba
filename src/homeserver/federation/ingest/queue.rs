//! The durable queue of what came in: staged and answered in one commit, worked on by room, taken up again after a restart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};
use serde_json::value::RawValue;

use super::{Dropped, Ingest, acl_allows, check1_format};
use crate::{
    base::Tasks,
    homeserver::{
        events::{EventError, Result},
        rooms::{
            versions,
            wire::{self, Purpose},
        },
        store::{Reader, graph, inbound, remote_joins, rooms, servers},
        types::{Pdu, RoomHandle},
    },
};

/// Events of one server that may wait; more of them are refused until some are worked on.
const MOST_WAITING: u64 = 5000;
/// Events that may wait of a server that is not in the room, as far as we know.
const MOST_OUTSIDE: u64 = 20;
/// How long the answer to a transaction is remembered: longer than any server repeats one without sending another.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;
/// Rooms that are worked on at once.
const ROOMS_AT_ONCE: usize = 8;
/// A room that takes longer does not count among them: it waits for other servers.
const QUICK: Duration = Duration::from_secs(5);
/// Rooms at once with those. Each has a few hundred events in memory at most.
const ROOMS_IN_ALL: usize = 40;
/// Wait after the store has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Longest wait before the queue is looked at again.
const IDLE: Duration = Duration::from_secs(60);

/// The outcome of each event of a transaction, as it is answered: staged, or why not.
pub type Outcomes = BTreeMap<OwnedEventId, std::result::Result<(), String>>;

/// An event that may be staged.
struct Stageable {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    json: Box<RawValue>,
}

impl Ingest {
    /// What a transaction was answered when it came before.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub async fn answered(&self, origin: &ServerName, txn_id: &str) -> Result<Option<Outcomes>> {
        let (origin, txn_id) = (origin.to_owned(), txn_id.to_owned());
        let found = self.store.read(move |db| inbound::answer(db, &origin, &txn_id)).await?;
        found.map(|text| serde_json::from_str(&text).map_err(|e| EventError::Internal(format!("remembered transaction: {e}")))).transpose()
    }

    /// Takes the events of a transaction (`PUT /_matrix/federation/v1/send/{txnId}`). On disk when this returns.
    ///
    /// # Errors
    ///
    /// [`EventError::BadState`] when too many events of this server wait already; store errors.
    pub async fn receive(&self, origin: &ServerName, txn_id: &str, events: Vec<Box<RawValue>>) -> Result<Outcomes> {
        let (us, from) = (self.server_name.clone(), origin.to_owned());
        let (waiting, mut outcomes, stageable) = self
            .store
            .read(move |db| {
                let waiting = inbound::waiting_from(db, &from)?;
                let mut sieve = Sieve { us, origin: from, waiting, outcomes: Outcomes::new(), stageable: Vec::new() };
                for json in events {
                    sieve.sift(db, json)?;
                }
                Ok::<_, EventError>((waiting, sieve.outcomes, sieve.stageable))
            })
            .await?;
        if waiting > MOST_WAITING && !stageable.is_empty() {
            return Err(EventError::BadState(format!("{waiting} events of {origin} wait already")));
        }
        outcomes.extend(stageable.iter().map(|event| (event.event_id.clone(), Ok(()))));
        let answer = serde_json::to_string(&outcomes).map_err(|e| EventError::Internal(e.to_string()))?;
        let (origin, txn_id, now_ms) = (origin.to_owned(), txn_id.to_owned(), self.clock.now_ms());
        self.store
            .write(move |tx| {
                for event in &stageable {
                    inbound::stage(tx, &event.room_id, &event.event_id, &origin, event.json.get(), now_ms)?;
                }
                inbound::remember(tx, &origin, &txn_id, &answer, now_ms, now_ms.saturating_sub(REMEMBERED_MS))
            })
            .await?;
        self.news.notify_one();
        self.arrived.send_replace(());
        Ok(outcomes)
    }

    /// Starts working on what waits, now and ever after. Ends with the node.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let (this, shutdown, spawner) = (Arc::clone(self), tasks.shutdown().clone(), tasks.clone());
        tasks.spawn("federation-inbound", async move {
            let places = Places {
                quick: Arc::new(tokio::sync::Semaphore::new(ROOMS_AT_ONCE)),
                all: Arc::new(tokio::sync::Semaphore::new(ROOMS_IN_ALL)),
            };
            loop {
                let pause = match this.dispatch(&spawner, &places).await {
                    Ok(pause) => pause,
                    Err(EventError::Store(crate::homeserver::store::StoreError::Closed)) => return,
                    Err(error) => {
                        tracing::warn!(%error, "received events wait for the store");
                        IDLE
                    }
                };
                // Cancel-safe: a notification that comes between two waits is kept.
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = this.news.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Starts work on every room that something waits for and that nobody works on. Returns how long until more is due.
    async fn dispatch(self: &Arc<Self>, tasks: &Tasks, places: &Places) -> Result<Duration> {
        let now_ms = self.clock.now_ms();
        let mut pause = IDLE;
        for (room_id, due_ms) in self.rooms_waiting().await? {
            if due_ms > now_ms {
                pause = pause.min(Duration::from_millis(due_ms - now_ms));
                continue;
            }
            // Who works on it wakes us afterwards.
            if self.is_busy(&room_id) {
                continue;
            }
            // Without a free place the next one that ends wakes us.
            let (Ok(quick), Ok(place)) = (Arc::clone(&places.quick).try_acquire_owned(), Arc::clone(&places.all).try_acquire_owned())
            else {
                break;
            };
            let (this, shutdown) = (Arc::clone(self), tasks.shutdown().clone());
            tasks.spawn("federation-room", async move {
                // What is not decided waits in the store. The end does not wait for other servers.
                tokio::select! {
                    () = shutdown.wait() => {}
                    () = this.work_and_yield(&room_id, quick) => {}
                }
                drop(place);
                this.news.notify_one();
            });
        }
        Ok(pause)
    }

    async fn rooms_waiting(&self) -> Result<Vec<(OwnedRoomId, u64)>> {
        let us = self.server_name.clone();
        Ok(self.store.read(move |db| inbound::rooms_waiting(db, &us)).await?)
    }

    /// Works on a room, and gives the place to another when that takes its time.
    async fn work_and_yield(&self, room_id: &OwnedRoomId, quick: tokio::sync::OwnedSemaphorePermit) {
        let mut work = std::pin::pin!(self.work_logged(room_id));
        // Cancel-safe: the work goes on below.
        tokio::select! {
            () = &mut work => return,
            () = tokio::time::sleep(QUICK) => {}
        }
        drop(quick);
        self.news.notify_one();
        work.await;
    }

    async fn work_logged(&self, room_id: &OwnedRoomId) {
        let Some(_claim) = self.claim(room_id) else { return };
        if let Err(error) = self.work(room_id).await {
            tracing::warn!(%error, %room_id, "received events of a room wait");
            // Otherwise the same failure would come again at once, and for ever.
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    /// Works on everything that waits and may be worked on now.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub async fn drain(&self) -> Result<()> {
        let now_ms = self.clock.now_ms();
        for (room_id, due_ms) in self.rooms_waiting().await? {
            if due_ms <= now_ms
                && let Some(_claim) = self.claim(&room_id)
            {
                self.work(&room_id).await?;
            }
        }
        Ok(())
    }
}

/// Places for rooms that are worked on.
struct Places {
    quick: Arc<tokio::sync::Semaphore>,
    all: Arc<tokio::sync::Semaphore>,
}

/// May a server that is not in the room bring this event? Its own, and comings and goings, of which it can know first.
pub(super) fn brought_by_outsider(json: &str, room: &RoomHandle, origin: &ServerName) -> bool {
    check1_format::check(json, room, Purpose::Live).is_ok_and(|pdu| may_be_brought(&pdu, origin))
}

fn may_be_brought(pdu: &Pdu, origin: &ServerName) -> bool {
    let comes_or_goes = pdu.kind().to_string() == "m.room.member" && matches!(pdu.membership(), Some("join" | "knock" | "leave"));
    comes_or_goes || pdu.sender().server_name() == origin
}

/// Decides which events of one server are staged.
struct Sieve {
    us: OwnedServerName,
    origin: OwnedServerName,
    /// Events of that server that wait already.
    waiting: u64,
    outcomes: Outcomes,
    stageable: Vec<Stageable>,
}

impl Sieve {
    fn sift(&mut self, db: &Reader<'_>, json: Box<RawValue>) -> Result<()> {
        // Without a room there is no version, without a version no event ID, and without an event ID nothing to answer.
        let Some(room_id) = wire::room_of(json.get()) else { return Ok(()) };
        let room = rooms::by_id(db, &room_id)?;
        let inside = match &room {
            Some(room) => servers::is_in_room(db, room.nid, &self.us)?,
            None => false,
        };
        let joining = if inside { None } else { remote_joins::version_of(db, &room_id)? };
        let rules = match &room {
            Some(room) => Some(room.rules.clone()),
            None => joining.as_ref().and_then(versions::rules),
        };
        let Some(rules) = rules else { return Ok(()) };
        let pdu = match check1_format::check_for(json.get(), &room_id, &rules, Purpose::Live) {
            Ok(pdu) => pdu,
            Err(Dropped(why)) => {
                tracing::debug!(origin = %self.origin, %room_id, %why, "event dropped");
                return Ok(());
            }
        };
        let event_id = pdu.event_id().to_owned();
        let refusal = match &room {
            Some(room) if inside => self.refusal(db, room, &pdu)?,
            // The others count us in before we have the room: what they send meanwhile waits for it.
            _ if joining.is_some() => None,
            _ => Some("this server is not in that room"),
        };
        if let Some(why) = refusal {
            self.outcomes.insert(event_id, Err(why.into()));
        } else if graph::has_place(db, &event_id)? {
            self.outcomes.insert(event_id, Ok(()));
        } else {
            self.stageable.push(Stageable { room_id, event_id, json });
        }
        Ok(())
    }

    /// Why an event of a room that we are in is not taken from this server.
    fn refusal(&self, db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Option<&'static str>> {
        if !acl_allows(db, room, &self.origin)? {
            return Ok(Some("this server may not take part in that room"));
        }
        if servers::is_in_room(db, room.nid, &self.origin)? {
            return Ok(None);
        }
        // What a server says first can be faster than the join that another one relays: a little of that is taken.
        if may_be_brought(pdu, &self.origin) && self.waiting + (self.stageable.len() as u64) < MOST_OUTSIDE {
            return Ok(None);
        }
        Ok(Some("your server is not in that room"))
    }
}
