//! A room as another server hands it over when we join (`PUT /_matrix/federation/v2/send_join`): every event of it goes through
//! checks 1 to 4, and what fails is not part of the state that we start from.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Ingest, check2_signatures, check3_hash, check4_auth_events, check5_state_before, place,
    remote::{Signatures, Untrusted},
    work,
};
use crate::homeserver::{
    events::{self as write, EventError, current},
    rooms::{
        auth::Verdict,
        build, versions,
        wire::{self, Purpose},
    },
    store::{
        events::{self, Placing},
        graph, rooms, servers, state,
    },
    types::{EventNid, Pdu, RoomHandle, RoomNid, StreamPos},
};

/// Events of one answer at most: several times the largest public room.
const MOST: usize = 1_000_000;
/// Events that one blocking thread reads or judges before others have their turn, and that one job of the writer stores.
const CHUNK: usize = 2000;
/// Such parts that are worked on at once, each with its JSON in memory.
const AT_ONCE: usize = 3;

/// What a server answered to our join.
#[derive(Debug)]
pub struct JoinAnswer {
    /// The room that we asked to join.
    pub room_id: OwnedRoomId,
    /// The version that `make_join` told.
    pub version: RoomVersionId,
    /// Who answered.
    pub origin: OwnedServerName,
    /// The join event, with every signature that it has to have.
    pub join: Box<RawValue>,
    /// The state before the join.
    pub state: Untrusted,
    /// What authorises the state and the join.
    pub auth_chain: Untrusted,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The room.
    pub room: RoomNid,
    /// The join's place in the stream.
    pub pos: StreamPos,
    /// State events that count.
    pub state_events: usize,
    /// Events that were refused.
    pub refused: usize,
}

/// Why a room could not be taken over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// The other server's answer cannot be used: another one may give a better.
    #[error("{0}")]
    Unusable(String),
    /// The room's version is not supported.
    #[error("room version {0} is not supported")]
    Version(RoomVersionId),
    /// The store, or a fault of ours.
    #[error(transparent)]
    Event(#[from] EventError),
}

impl From<crate::homeserver::store::StoreError> for ImportError {
    fn from(error: crate::homeserver::store::StoreError) -> Self {
        Self::Event(error.into())
    }
}

fn unusable(why: impl Into<String>) -> ImportError {
    ImportError::Unusable(why.into())
}

/// An event that passed checks 1 to 3. Of a large room there are many at once: the JSON is kept as text only.
#[derive(Debug)]
struct Sound {
    pdu: Pdu,
    json: String,
}

impl AsRef<Pdu> for Sound {
    fn as_ref(&self) -> &Pdu {
        &self.pdu
    }
}

/// Everything that is sound, by event ID.
type Events = HashMap<OwnedEventId, Sound>;

impl Ingest {
    /// Takes a room over: verifies all that was given and makes it the room's state, with the join as its only event. A room that
    /// was here before (from an earlier stay, or an invite) goes on from there.
    ///
    /// # Errors
    ///
    /// [`ImportError`]; what was stored until then has no effect.
    pub async fn import(&self, answer: JoinAnswer) -> Result<Imported, ImportError> {
        let rules = versions::rules(&answer.version).ok_or_else(|| ImportError::Version(answer.version.clone()))?;
        if answer.state.len() + answer.auth_chain.len() > MOST {
            return Err(unusable("the room is too large"));
        }
        let sent = answer.state.len() + answer.auth_chain.len();
        let join = wire::read(answer.join.get(), &rules, Purpose::Live).map_err(|e| unusable(e.to_string()))?;
        if !wire::belongs(&join, &answer.room_id, &rules) {
            return Err(unusable("the join is of another room"));
        }
        match check2_signatures::check(&*self.remote, std::slice::from_ref(&join), &rules).await.pop() {
            Some(Signatures::Valid { content_intact: true }) => {}
            other => return Err(unusable(format!("the signatures on the join: {other:?}"))),
        }
        let (state_ids, mut events) = self.read_all(answer.state, &answer.room_id, &rules).await?;
        let (chain_ids, chain) = self.read_all(answer.auth_chain, &answer.room_id, &rules).await?;
        events.extend(chain);
        events.remove(join.event_id());
        let total = state_ids.iter().chain(&chain_ids).filter(|id| *id != join.event_id()).collect::<HashSet<_>>().len();
        let total = total + sent - state_ids.len() - chain_ids.len();
        check_create(&events, &answer.version)?;
        let judged = judge(events, &rules).await?;
        // Only now is the version more than a claim: whoever made the room has signed it.
        if !judged.iter().any(|event| event.pdu.kind().to_string() == "m.room.create" && event.verdict == Verdict::Accepted) {
            return Err(unusable("the create event is not allowed"));
        }
        let room = self.room_for(&answer.room_id, &answer.version).await?;
        let Some(_claim) = self.claim_patiently(&room).await else { return Err(unusable("the room is being worked on")) };
        let kept = judged.len();
        let accepted = kept - self.keep_all(&room, &answer.origin, judged).await?;
        tracing::info!(room_id = %room.room_id, events = total, accepted, "a room came over");
        let (nid, us) = (room.nid, self.server_name.clone());
        let imported = if self.store.read(move |db| servers::is_in_room(db, nid, &us)).await? {
            self.take_in(&room, &answer.origin, join).await?
        } else {
            self.take_over(&room, &answer.origin, state_ids, join).await?
        };
        Ok(Imported { refused: total.saturating_sub(accepted), ..imported })
    }

    /// Checks 1 to 3, off the runtime's threads and some at a time. Returns the IDs of what could be read, and what is sound.
    async fn read_all(
        &self,
        raw: Untrusted,
        room_id: &OwnedRoomId,
        rules: &RoomVersionRules,
    ) -> Result<(Vec<OwnedEventId>, Events), ImportError> {
        let (mut chunks, mut raw) = (Vec::new(), raw);
        while !raw.is_empty() {
            let rest = raw.split_off(raw.len().min(CHUNK));
            chunks.push(std::mem::replace(&mut raw, rest));
        }
        let (mut ids, mut events) = (Vec::new(), Events::new());
        let mut work = stream::iter(chunks).map(|chunk| self.read_some(chunk, room_id, rules)).buffered(AT_ONCE);
        while let Some(done) = work.next().await {
            let (some_ids, some) = done?;
            ids.extend(some_ids);
            events.extend(some.into_iter().map(|sound| (sound.pdu.event_id().to_owned(), sound)));
        }
        Ok((ids, events))
    }

    async fn read_some(
        &self,
        raw: Untrusted,
        room_id: &OwnedRoomId,
        rules: &RoomVersionRules,
    ) -> Result<(Vec<OwnedEventId>, Vec<Sound>), ImportError> {
        let (room, rules_) = (room_id.clone(), rules.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = |json: Box<RawValue>| wire::read(json.get(), &rules_, Purpose::History).ok();
            raw.into_iter().filter_map(read).filter(|pdu| wire::belongs(pdu, &room, &rules_)).collect::<Vec<Pdu>>()
        });
        let read = read.await.map_err(|e| EventError::Internal(e.to_string()))?;
        let ids = read.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let answers = check2_signatures::check(&*self.remote, &read, rules).await;
        let rules = rules.clone();
        let sound = tokio::task::spawn_blocking(move || {
            let mut sound = Vec::with_capacity(read.len());
            for (pdu, answer) in read.into_iter().zip(answers) {
                match answer {
                    Signatures::Valid { content_intact } => {
                        if let Ok(pdu) = check3_hash::check(pdu, content_intact, &rules) {
                            let (pdu, json) = pdu.split();
                            let Ok(json) = build::canonical(&json) else { continue };
                            sound.push(Sound { pdu, json });
                        }
                    }
                    Signatures::Invalid(why) | Signatures::Unknown(why) => {
                        tracing::debug!(event_id = %pdu.event_id(), %why, "left out of the room");
                    }
                }
            }
            sound
        });
        Ok((ids, sound.await.map_err(|e| EventError::Internal(e.to_string()))?))
    }

    async fn room_for(&self, room_id: &OwnedRoomId, version: &RoomVersionId) -> Result<RoomHandle, ImportError> {
        let (id, version, now_ms) = (room_id.clone(), version.clone(), self.clock.now_ms());
        let room = self.store.write(move |tx| match rooms::by_id(&tx.reader(), &id)? {
            Some(room) => Ok::<_, EventError>((rooms::correct_version(tx, room, &version)?, version)),
            None => Ok((rooms::create(tx, &id, &version, now_ms)?, version)),
        });
        let (room, version) = room.await?;
        if room.version == version { Ok(room) } else { Err(unusable(format!("the room has version {}, not {version}", room.version))) }
    }

    /// Nobody else works on the room while it is taken over.
    async fn claim_patiently(&self, room: &RoomHandle) -> Option<super::Claim<'_>> {
        for _ in 0..600 {
            if let Some(claim) = self.claim(&room.room_id) {
                return Some(claim);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        None
    }

    /// Stores what was judged, as outliers. Returns how many are rejected.
    async fn keep_all(&self, room: &RoomHandle, origin: &OwnedServerName, judged: Vec<Judged>) -> Result<usize, ImportError> {
        let (mut rejected, mut judged) = (0, judged);
        while !judged.is_empty() {
            let rest = judged.split_off(judged.len().min(CHUNK));
            let chunk = std::mem::replace(&mut judged, rest);
            let (room, origin) = (room.clone(), origin.clone());
            rejected += self
                .store
                .write(move |tx| {
                    let mut rejected = 0;
                    // Within a chunk most events name the same few.
                    let mut known: HashMap<OwnedEventId, EventNid> = HashMap::new();
                    for Judged { pdu, json, verdict } in &chunk {
                        rejected += usize::from(*verdict != Verdict::Accepted);
                        if graph::find(&tx.reader(), pdu.event_id())?.is_some() {
                            continue;
                        }
                        let mut auth = Vec::new();
                        for id in pdu.auth_events() {
                            if let Some(nid) = known.get(id) {
                                auth.push(*nid);
                            } else if let Some(event) = graph::find(&tx.reader(), id)?.filter(|event| event.room == room.nid) {
                                known.insert(id.clone(), event.nid);
                                auth.push(event.nid);
                            }
                        }
                        place::insert(tx, &room, pdu, json, &origin, &auth, verdict)?;
                    }
                    Ok::<_, EventError>(rejected)
                })
                .await?;
        }
        Ok(rejected)
    }

    /// We are in the room already, and needed the other server's word only: the join is an event like any other.
    async fn take_in(&self, room: &RoomHandle, origin: &OwnedServerName, join: Pdu) -> Result<Imported, ImportError> {
        let id = join.event_id().to_owned();
        self.keep(room, origin, vec![join]).await?;
        self.place_or_fetch(room, origin, vec![id.clone()], Instant::now() + work::PATIENCE).await?;
        let nid = room.nid;
        let (stored, state_events) =
            self.store.read(move |db| Ok::<_, EventError>((events::by_id(db, &id)?, state::current_all(db, nid)?.len()))).await?;
        match stored.filter(|event| event.accepted()).and_then(|event| event.pos) {
            Some(pos) => Ok(Imported { room: nid, pos, state_events, refused: 0 }),
            None => Err(unusable("the join is not allowed by the room's state")),
        }
    }

    /// The state becomes the room's, and the join its newest event.
    async fn take_over(
        &self,
        room: &RoomHandle,
        origin: &OwnedServerName,
        state_ids: Vec<OwnedEventId>,
        join: Pdu,
    ) -> Result<Imported, ImportError> {
        let (room, origin, ctx) = (room.clone(), origin.clone(), self.ctx());
        let done = self.store.write(move |tx| {
            let map = place::told_state(tx, &room, &state_ids)?;
            let base = rooms::current_group(&tx.reader(), room.nid)?;
            let before = state::group_of(tx, room.nid, base, &map)?;
            let nid = match place::outlier(tx, &room, &join, &origin)? {
                place::Kept::Here(nid) => nid,
                place::Kept::Missing(ids) => return Err(EventError::BadState(format!("what authorises the join is not there: {ids:?}"))),
            };
            let stored = events::by_nid(&tx.reader(), nid)?;
            if let Some(why) = &stored.rejected {
                return Err(EventError::BadState(format!("the join is rejected: {why}")));
            }
            if let Verdict::Rejected(why) = check5_state_before::check(&tx.reader(), &room, &join, before)? {
                return Err(EventError::BadState(format!("the join is not allowed by the room's state: {why}")));
            }
            if let Some(pos) = stored.pos {
                // It has been taken over before.
                return Ok(Imported { room: room.nid, pos, state_events: map.len(), refused: 0 });
            }
            // The state has a place of its own before the join, so that a timeline that starts with the join starts from it.
            let pos = tx.next_pos();
            graph::set_extremities(tx, room.nid, &[])?;
            current::become_current(tx, &ctx, &room, before, pos)?;
            let pos = tx.next_pos();
            events::place(tx, room.nid, nid, &join, &Placing { pos, state_before: before, rejected: None, soft_failed: false })?;
            write::settle(tx, &ctx, &room, &join, nid, pos, stored.sender)?;
            Ok::<_, EventError>(Imported { room: room.nid, pos, state_events: map.len(), refused: 0 })
        });
        match done.await {
            Ok(imported) => Ok(imported),
            Err(EventError::BadState(why)) => Err(ImportError::Unusable(why)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The create event says that the room has the version that we were told, and there is one only.
fn check_create(events: &Events, version: &RoomVersionId) -> Result<(), ImportError> {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(default)]
        room_version: Option<String>,
    }
    let mut creates = events.values().map(AsRef::as_ref).filter(|pdu: &&Pdu| pdu.kind().to_string() == "m.room.create");
    let create = creates.next().ok_or_else(|| unusable("there is no create event"))?;
    if creates.next().is_some() {
        return Err(unusable("there are two create events"));
    }
    let content: Content = serde_json::from_str(create.content().get()).map_err(|e| unusable(e.to_string()))?;
    let said = content.room_version.unwrap_or_else(|| "1".to_owned());
    if said != version.as_str() {
        return Err(unusable(format!("the create event says version {said}, not {version}")));
    }
    // From version 12 on, the room's ID is the event's: `belongs` has seen to that.
    Ok(())
}

/// An event and what check 4 says of it.
#[derive(Debug)]
struct Judged {
    pdu: Arc<Pdu>,
    json: String,
    verdict: Verdict,
}

/// Check 4 for all, in an order in which what authorises comes first. An event that names what is not there is left out.
async fn judge(events: Events, rules: &RoomVersionRules) -> Result<Vec<Judged>, ImportError> {
    let rules = rules.authorization.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let (order, mut events) = (ordered(&events), events);
        let mut done: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::with_capacity(order.len());
        let mut judged = Vec::with_capacity(order.len());
        for id in order {
            let Some(Sound { pdu, json }) = events.remove(&id) else { continue };
            if !pdu.auth_events().iter().all(|id| done.contains_key(id)) {
                continue;
            }
            let verdict = check4_auth_events::check(&rules, &pdu, |id| done.get(id).cloned());
            // Those that follow have to see whether it was rejected.
            let pdu = Arc::new(pdu.with_rejected(matches!(verdict, Verdict::Rejected(_))));
            done.insert(id, Arc::clone(&pdu));
            judged.push(Judged { pdu, json, verdict });
        }
        judged
    });
    Ok(judged.await.map_err(|e| EventError::Internal(e.to_string()))?)
}

fn ordered(events: &Events) -> Vec<OwnedEventId> {
    let order = wire::topological(events, Pdu::auth_events);
    // In version 12 nothing names the create event, yet it authorises everything.
    let is_create = |id: &OwnedEventId| events.get(id).is_some_and(|sound| sound.pdu.kind().to_string() == "m.room.create");
    let (mut creates, rest): (Vec<OwnedEventId>, Vec<OwnedEventId>) = order.into_iter().partition(is_create);
    creates.extend(rest);
    creates
}
