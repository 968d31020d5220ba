//! Events that are asked for: what authorises others, and whole states. They go into the store as outliers, by checks 1 to 4
//! like everything else: that we asked for an event makes nothing in it truer.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, stream};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use super::{
    Ingest, check1_format, check5_state_before,
    place::{self, Kept},
    remote::Untrusted,
};
use crate::homeserver::{
    events::{EventError, Result},
    rooms::{
        auth::Verdict,
        wire::{self, Purpose},
    },
    store::{
        events, graph,
        state::{self, Changes},
    },
    types::{Pdu, RoomHandle, StateGroupId},
};

/// How often what authorises events is asked for, when the answer needs authorising itself.
const AUTH_ROUNDS: usize = 4;
/// Largest auth chain that is taken from another server for events that it sent (CVE-2024-31208).
const MOST_AUTH: usize = 20_000;
/// Single events that are asked for at most, where a list had been the way.
const MOST_SINGLE: usize = 200;
/// Single events that are asked for at once.
const AT_ONCE: usize = 8;
/// Largest state that is taken from another server.
const MOST_STATE: usize = 500_000;
/// Events stored by one job of the writer.
const CHUNK: usize = 500;
/// Servers that are asked for the same thing.
const SERVERS: usize = 3;

/// What came of an answer with events.
#[derive(Debug)]
struct Reading {
    /// What passed the checks.
    sound: Vec<Pdu>,
    /// What failed them: it would do so again, whoever gave it.
    refused: HashSet<OwnedEventId>,
    /// What nobody's keys can be had for, and does not decide about other people's events.
    keyless: HashSet<OwnedEventId>,
    /// How much could not even be read.
    unreadable: usize,
}

impl Reading {
    /// What need not be waited for: what failed the checks, and what cannot be kept because of that. Servers that are gone for
    /// ever leave members behind whose events nobody can check: they are left out, as they are when we join.
    fn failed(&self) -> HashSet<OwnedEventId> {
        let by_id: HashMap<OwnedEventId, &Pdu> = self.sound.iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        let order = wire::topological(&by_id, Pdu::auth_events);
        let mut failed = self.refused.clone();
        let names = |pdu: &Pdu, failed: &HashSet<OwnedEventId>| pdu.auth_events().iter().any(|id| failed.contains(id));
        let pdus = || order.iter().filter_map(|id| by_id.get(id).copied());
        for pdu in pdus() {
            if names(pdu, &failed) {
                failed.insert(pdu.event_id().to_owned());
            }
        }
        failed.extend(self.keyless.iter().cloned());
        for pdu in pdus() {
            if !decides(pdu) && names(pdu, &failed) {
                failed.insert(pdu.event_id().to_owned());
            }
        }
        failed
    }
}

/// Does an event say what others may do? Without it no state is to be believed.
fn decides(pdu: &Pdu) -> bool {
    matches!(pdu.kind().to_string().as_str(), "m.room.create" | "m.room.power_levels" | "m.room.join_rules")
}

impl Ingest {
    /// Reads events that another server gave us on request: checks 1 to 3. What we have already, and more than `most`, is left out.
    pub(super) async fn read(&self, room: &RoomHandle, answer: Untrusted, most: usize) -> Result<Vec<Pdu>> {
        Ok(self.read_closely(room, answer, most).await?.sound)
    }

    /// The same, with what is known of the rest.
    async fn read_closely(&self, room: &RoomHandle, answer: Untrusted, most: usize) -> Result<Reading> {
        if answer.len() > most {
            tracing::warn!(room_id = %room.room_id, events = answer.len(), most, "another server answers with more than we take");
        }
        let handle = room.clone();
        // Hashing and parsing many events is no work for the runtime's threads; a reader's connection tells what is new.
        let events = self.store.read(move |db| {
            let mut seen = HashSet::new();
            let (mut events, mut unreadable) = (Vec::new(), 0);
            for json in answer.iter().take(most) {
                match check1_format::check(json.get(), &handle, Purpose::History) {
                    Ok(pdu) => {
                        if seen.insert(pdu.event_id().to_owned()) && graph::find(db, pdu.event_id())?.is_none() {
                            events.push(pdu);
                        }
                    }
                    Err(why) => {
                        tracing::debug!(room_id = %handle.room_id, why = %why.0, "event dropped");
                        unreadable += 1;
                    }
                }
            }
            Ok::<_, EventError>((events, unreadable))
        });
        let (events, unreadable) = events.await?;
        let mut refused: HashMap<OwnedEventId, bool> = events.iter().map(|pdu| (pdu.event_id().to_owned(), decides(pdu))).collect();
        let (sound, unknown) = self.sound(room, events).await;
        for pdu in &sound {
            refused.remove(pdu.event_id());
        }
        let keyless = unknown.into_iter().filter(|id| refused.remove(id) == Some(false)).collect();
        Ok(Reading { sound, refused: refused.into_keys().collect(), keyless, unreadable })
    }

    /// Those of these events that are not in the store.
    pub(super) async fn unknown(&self, ids: Vec<OwnedEventId>) -> Result<Vec<OwnedEventId>> {
        self.store
            .read(move |db| {
                let mut unknown = Vec::new();
                for id in ids {
                    if graph::find(db, &id)?.is_none() {
                        unknown.push(id);
                    }
                }
                Ok(unknown)
            })
            .await
    }

    /// Asks for single events, whoever has them. What nobody gives is left out.
    pub(super) async fn single(&self, room: &RoomHandle, servers: &[OwnedServerName], ids: Vec<OwnedEventId>) -> Result<Vec<Pdu>> {
        Ok(self.single_closely(room, servers, ids).await?.sound)
    }

    /// The same, with what is known of the rest.
    async fn single_closely(&self, room: &RoomHandle, servers: &[OwnedServerName], ids: Vec<OwnedEventId>) -> Result<Reading> {
        let answers: Vec<_> = stream::iter(ids.into_iter().take(MOST_SINGLE))
            .map(|id| async move {
                for server in servers.iter().take(SERVERS) {
                    match self.remote.event(server, &id).await {
                        Ok(json) => return Some(json),
                        Err(error) => tracing::debug!(%server, event_id = %id, %error, "no answer to what was asked for"),
                    }
                }
                None
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(|answer| async move { answer })
            .collect()
            .await;
        self.read_closely(room, answers, MOST_SINGLE).await
    }

    /// Stores events as outliers, fetching what authorises them. Returns those that are in the store now.
    pub(super) async fn keep(&self, room: &RoomHandle, from: &ServerName, events: Vec<Pdu>) -> Result<HashSet<OwnedEventId>> {
        let mut pool: HashMap<OwnedEventId, Pdu> = events.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        let mut here = HashSet::new();
        let mut asked = BTreeSet::new();
        for round in 0..=AUTH_ROUNDS {
            let missing = self.keep_known(room, from, &mut pool, &mut here).await?;
            let wanted: Vec<OwnedEventId> = missing.values().flatten().filter(|id| asked.insert((*id).clone())).cloned().collect();
            let Some(example) = missing.keys().next().filter(|_| round < AUTH_ROUNDS && !wanted.is_empty()) else { break };
            for pdu in self.fetch_auth(room, from, example, wanted).await? {
                pool.insert(pdu.event_id().to_owned(), pdu);
            }
        }
        for id in pool.keys() {
            tracing::info!(room_id = %room.room_id, event_id = %id, "what authorises an event cannot be had");
        }
        Ok(here)
    }

    /// Stores what can be stored. Returns what the rest lacks.
    async fn keep_known(
        &self,
        room: &RoomHandle,
        from: &ServerName,
        pool: &mut HashMap<OwnedEventId, Pdu>,
        here: &mut HashSet<OwnedEventId>,
    ) -> Result<HashMap<OwnedEventId, Vec<OwnedEventId>>> {
        let mut missing = HashMap::new();
        let order = wire::topological(pool, Pdu::auth_events);
        // What names itself by way of others is nothing that anybody could have made.
        let mut ordered: Vec<Pdu> = order.iter().filter_map(|id| pool.remove(id)).collect();
        pool.clear();
        while !ordered.is_empty() {
            let rest = ordered.split_off(ordered.len().min(CHUNK));
            let chunk = std::mem::replace(&mut ordered, rest);
            let (handle, from) = (room.clone(), from.to_owned());
            let (kept, left) = self
                .store
                .write(move |tx| {
                    let (mut kept, mut left) = (Vec::new(), Vec::new());
                    for pdu in chunk {
                        match place::outlier(tx, &handle, &pdu, &from)? {
                            Kept::Here(_) => kept.push(pdu.event_id().to_owned()),
                            Kept::Missing(ids) => left.push((pdu, ids)),
                        }
                    }
                    Ok::<_, EventError>((kept, left))
                })
                .await?;
            here.extend(kept);
            for (pdu, ids) in left {
                missing.insert(pdu.event_id().to_owned(), ids);
                pool.insert(pdu.event_id().to_owned(), pdu);
            }
        }
        for ids in missing.values_mut() {
            ids.retain(|id| !pool.contains_key(id));
        }
        Ok(missing)
    }

    /// Asks for what authorises events: the chain of one of them, and singly what that does not hold.
    async fn fetch_auth(
        &self,
        room: &RoomHandle,
        from: &ServerName,
        example: &OwnedEventId,
        wanted: Vec<OwnedEventId>,
    ) -> Result<Vec<Pdu>> {
        let mut found = match self.remote.event_auth(from, &room.room_id, example).await {
            Ok(answer) => self.read(room, answer, MOST_AUTH).await?,
            Err(error) => {
                tracing::info!(server = %from, event_id = %example, %error, "no auth chain");
                Vec::new()
            }
        };
        let here: HashSet<OwnedEventId> = found.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let left = self.unknown(wanted.into_iter().filter(|id| !here.contains(id)).collect()).await?;
        if !left.is_empty() {
            let servers = self.servers_of(room, Some(from)).await?;
            found.extend(self.single(room, &servers, left).await?);
        }
        Ok(found)
    }

    /// The state before an event, as another server tells it, with everything that it holds in the store, but for what fails the
    /// checks.
    ///
    /// # Errors
    ///
    /// [`EventError::BadState`] where it cannot be had in full: with a part of a state, events would be refused for good that
    /// the whole of it allows. Store errors.
    pub(super) async fn state_told(&self, room: &RoomHandle, from: &ServerName, event_id: &OwnedEventId) -> Result<Vec<OwnedEventId>> {
        let unusable = |why: String| EventError::BadState(format!("the state before {event_id} from {from}: {why}"));
        let told = self.remote.state_ids(from, &room.room_id, event_id).await.map_err(|e| unusable(e.0))?;
        if told.state.len() + told.auth_chain.len() > MOST_STATE {
            return Err(unusable("too large".into()));
        }
        let total = told.state.len();
        let unknown = self.unknown(told.state.iter().chain(&told.auth_chain).cloned().collect()).await?;
        if !unknown.is_empty() {
            let mut turn = None;
            let reading = if unknown.len() > MOST_SINGLE.min(total / 4 + 20) {
                turn = self.states.acquire().await.ok();
                let answer = self.remote.state(from, &room.room_id, event_id).await.map_err(|e| unusable(e.0))?;
                self.read_closely(room, answer, MOST_STATE).await?
            } else {
                let servers = self.servers_of(room, Some(from)).await?;
                self.single_closely(room, &servers, unknown).await?
            };
            let (failed, unreadable) = (reading.failed(), reading.unreadable);
            self.keep(room, from, reading.sound).await?;
            drop(turn);
            let lost = self.unknown(told.state.iter().filter(|id| !failed.contains(*id)).cloned().collect()).await?;
            if lost.len() > unreadable {
                return Err(unusable(format!("{} of its events cannot be had, such as {:?}", lost.len(), lost.first())));
            }
        }
        Ok(told.state)
    }

    /// The state after an event that has no place, as the first of these servers that can tells it.
    pub(super) async fn state_after(
        &self,
        room: &RoomHandle,
        servers: &[OwnedServerName],
        event_id: &OwnedEventId,
    ) -> Result<StateGroupId> {
        let mut failure = EventError::NotFound("nobody to ask".into());
        for server in servers.iter().take(SERVERS) {
            let told = match self.state_told(room, server, event_id).await {
                Ok(told) => told,
                Err(error @ EventError::Store(_)) => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "no state at a gap");
                    failure = error;
                    continue;
                }
            };
            if !self.unknown(vec![event_id.clone()]).await?.is_empty() {
                let event = self.single(room, std::slice::from_ref(server), vec![event_id.clone()]).await?;
                self.keep(room, server, event).await?;
            }
            let group = match self.group_told(room, told).await {
                Ok(group) => group,
                Err(error @ EventError::Store(_)) => return Err(error),
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let (handle, id) = (room.clone(), event_id.clone());
            let made = self.store.write(move |tx| {
                let Some(event) = events::by_id(&tx.reader(), &id)?.filter(|event| event.room == handle.nid) else {
                    return Err(EventError::NotFound(format!("{id} cannot be had")));
                };
                let Some(key) = event.state_key.filter(|_| event.rejected.is_none()) else { return Ok(group) };
                match check5_state_before::check(&tx.reader(), &handle, &event.pdu(&handle.rules)?, group)? {
                    Verdict::Accepted => Ok(state::next_group(tx, handle.nid, group, Changes::from([(key, Some(event.nid))]))?),
                    Verdict::Rejected(_) => Ok(group),
                }
            });
            match made.await {
                Ok(group) => return Ok(group),
                Err(error @ EventError::Store(_)) => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}
