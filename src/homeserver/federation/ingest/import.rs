//! A room as another server hands it over when we join (`PUT /_matrix/federation/v2/send_join`): every event of it goes through
//! checks 1 to 4, and what fails is not part of the state that we start from.
//!
//! The events come in pieces and are checked as they come. Each is kept in the form in which the store will have it, so that a
//! room of a hundred thousand fits into memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{Stream, StreamExt};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId,
    room_version_rules::RoomVersionRules,
};
use tokio::time::Duration;

use super::{
    Ingest, check2_signatures, check3_hash, check4_auth_events,
    remote::{Ask, Signatures},
    scan::{List, Piece},
};
use crate::homeserver::{
    events::EventError,
    rooms::{
        auth::Verdict,
        build, versions,
        wire::{self, Purpose},
    },
    store::{
        events::{self, Packed},
        rooms, servers,
    },
    types::{Pdu, RoomHandle, RoomNid, StreamPos},
};

/// Events of one answer at most: several times the largest public room.
const MOST: usize = 1_000_000;
/// Pieces that are worked on at once, each with its JSON in memory: one for every core of a small machine, and one to go on with.
const AT_ONCE: usize = 3;
/// Events that wait for a key and are looked at in one go once the keys are there.
const CHUNK: usize = 1000;
/// How long the keys of a room's servers are looked for. Large rooms have members whose servers are gone for ever.
const KEYS: Duration = Duration::from_secs(120);
/// Events that stand for the keys that are wanted, each for those that none before it needs.
const MOST_KEYS: usize = 20_000;
/// Servers whose signatures on one event are looked at, and keys of each.
const MOST_SIGNERS: usize = 8;

/// Which room comes over, and from whom.
#[derive(Debug, Clone)]
pub struct Head {
    /// The room that we asked to join.
    pub room_id: OwnedRoomId,
    /// The version that `make_join` told.
    pub version: RoomVersionId,
    /// Who answers.
    pub origin: OwnedServerName,
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

pub(super) fn unusable(why: impl Into<String>) -> ImportError {
    ImportError::Unusable(why.into())
}

/// An event that passed checks 1 to 3, its JSON set apart.
#[derive(Debug)]
struct Sound {
    pdu: Pdu,
    packed: Packed,
}

impl AsRef<Pdu> for Sound {
    fn as_ref(&self) -> &Pdu {
        &self.pdu
    }
}

/// Everything that is sound, by event ID.
type Events = HashMap<OwnedEventId, Sound>;

/// Events that have been read and checked, but for what they say of each other.
#[derive(Debug)]
pub struct Gathered {
    head: Head,
    rules: RoomVersionRules,
    state_ids: Vec<OwnedEventId>,
    events: Events,
    /// What failed the checks, and how much could not even be read.
    unsound: HashSet<OwnedEventId>,
    unreadable: usize,
}

/// An event whose key was not at hand.
#[derive(Debug)]
struct Waiting {
    event_id: OwnedEventId,
    packed: Packed,
    /// The servers and key IDs of its signatures.
    signers: Vec<String>,
}

/// What came of one piece. What is sound has been put where all of it is.
#[derive(Debug, Default)]
struct Reading {
    state_ids: Vec<OwnedEventId>,
    unsound: Vec<OwnedEventId>,
    unreadable: usize,
    waiting: Vec<Waiting>,
}

impl Ingest {
    /// Reads a room's events as they come, and puts them through checks 1 to 3, off the runtime's threads and some at a time.
    /// Nothing is written.
    ///
    /// # Errors
    ///
    /// [`ImportError`], and what the pieces themselves end with.
    pub async fn gather<S, E>(&self, head: Head, pieces: S) -> Result<Gathered, E>
    where
        S: Stream<Item = Result<Piece, E>> + Send,
        E: From<ImportError> + Send,
    {
        let rules = versions::rules(&head.version).ok_or_else(|| ImportError::Version(head.version.clone()))?;
        let sound: Arc<Mutex<Events>> = Arc::default();
        let (mut state_ids, mut unsound, mut unreadable, mut waiting) = (Vec::new(), HashSet::new(), 0, Vec::new());
        let mut count = 0;
        {
            let read = pieces.map(|piece| {
                let (sound, room_id, rules) = (Arc::clone(&sound), &head.room_id, &rules);
                async move {
                    let piece = piece?;
                    let length = piece.events.len();
                    Ok::<_, E>((length, self.read_piece(piece, room_id, rules, sound).await?))
                }
            });
            let mut read = std::pin::pin!(read.buffered(AT_ONCE));
            while let Some(done) = read.next().await {
                let (length, reading) = done?;
                count += length;
                if count > MOST {
                    return Err(unusable("the room is too large").into());
                }
                state_ids.extend(reading.state_ids);
                unsound.extend(reading.unsound);
                unreadable += reading.unreadable;
                waiting.extend(reading.waiting);
            }
        }
        if !waiting.is_empty() {
            unsound.extend(self.read_waiting(waiting, &rules, &sound).await?);
        }
        let events = std::mem::take(&mut *sound.lock().unwrap_or_else(PoisonError::into_inner));
        // A spoiled copy does not count where a good one came as well.
        unsound.retain(|id| !events.contains_key(id));
        Ok(Gathered { head, rules, state_ids, events, unsound, unreadable })
    }

    async fn read_piece(
        &self,
        piece: Piece,
        room_id: &OwnedRoomId,
        rules: &RoomVersionRules,
        sound: Arc<Mutex<Events>>,
    ) -> Result<Reading, ImportError> {
        let (room, rules_, known) = (room_id.clone(), rules.clone(), Arc::clone(&sound));
        let parsed = blocking(move || {
            let mut reading = Reading::default();
            let mut pdus = Vec::with_capacity(piece.events.len());
            for json in piece.events {
                match wire::read(&json, &rules_, Purpose::History).ok().filter(|pdu| wire::belongs(pdu, &room, &rules_)) {
                    Some(pdu) => pdus.push(pdu),
                    None => reading.unreadable += 1,
                }
            }
            if piece.list == List::State {
                reading.state_ids = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
            }
            // What authorises much stands in both lists.
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            pdus.retain(|pdu| !known.contains_key(pdu.event_id()));
            (reading, pdus)
        });
        let (mut reading, pdus) = parsed.await?;
        let answers = check2_signatures::check(&*self.remote, &pdus, rules, Ask::Nobody).await;
        let rules = rules.clone();
        let (unsound, waiting) = blocking(move || sift(pdus, answers, &rules, &sound)).await??;
        reading.unsound = unsound;
        reading.waiting = waiting;
        Ok(reading)
    }

    /// Gets the keys that were not at hand, all of them together, and looks at what waited for them. Returns what is not sound.
    async fn read_waiting(
        &self,
        waiting: Vec<Waiting>,
        rules: &RoomVersionRules,
        sound: &Arc<Mutex<Events>>,
    ) -> Result<Vec<OwnedEventId>, ImportError> {
        let mut wanted = HashSet::new();
        let mut examples = Vec::new();
        for event in &waiting {
            let mut new = false;
            for signer in &event.signers {
                new |= wanted.insert(signer.as_str());
            }
            if new && examples.len() < MOST_KEYS {
                examples.push(json_of(&event.packed)?);
            }
        }
        tracing::info!(events = waiting.len(), keys = wanted.len(), "a room's events wait for keys");
        drop(wanted);
        // What they say is asked again below; what has not been found until then will not be.
        if tokio::time::timeout(KEYS, self.remote.signatures(examples, rules, Ask::Servers)).await.is_err() {
            tracing::info!("not all servers of a room have shown their keys in time");
        }
        let mut unsound = Vec::new();
        let mut waiting = waiting.into_iter();
        loop {
            let some: Vec<Waiting> = waiting.by_ref().take(CHUNK).collect();
            if some.is_empty() {
                return Ok(unsound);
            }
            let rules_ = rules.clone();
            let pdus = blocking(move || {
                let read = |event: Waiting| -> Result<Pdu, ImportError> {
                    let json = json_of(&event.packed)?;
                    Pdu::from_json(event.event_id, json, &rules_).map_err(|e| EventError::Internal(e.to_string()).into())
                };
                some.into_iter().map(read).collect::<Result<Vec<Pdu>, _>>()
            });
            let pdus = pdus.await??;
            let answers = check2_signatures::check(&*self.remote, &pdus, rules, Ask::Nobody).await;
            let (rules_, sound) = (rules.clone(), Arc::clone(sound));
            let (failed, keyless) = blocking(move || sift(pdus, answers, &rules_, &sound)).await??;
            unsound.extend(failed);
            for event in keyless {
                tracing::debug!(event_id = %event.event_id, "left out of the room: nobody has its key");
                unsound.push(event.event_id);
            }
        }
    }

    /// Takes a room over: judges all that was gathered and makes it the room's state, with the join (which has every signature
    /// that it has to have) as its only event. A room that was here before (from an earlier stay, or an invite) goes on from
    /// there.
    ///
    /// # Errors
    ///
    /// [`ImportError`]; what was stored until then has no effect.
    pub async fn take(&self, gathered: Gathered, join: &str) -> Result<Imported, ImportError> {
        let Gathered { head, rules, state_ids, mut events, mut unsound, unreadable } = gathered;
        let join = wire::read(join, &rules, Purpose::Live).map_err(|e| unusable(e.to_string()))?;
        if !wire::belongs(&join, &head.room_id, &rules) {
            return Err(unusable("the join is of another room"));
        }
        match check2_signatures::check(&*self.remote, std::slice::from_ref(&join), &rules, Ask::Servers).await.pop() {
            Some(Signatures::Valid { content_intact: true }) => {}
            other => return Err(unusable(format!("the signatures on the join: {other:?}"))),
        }
        events.remove(join.event_id());
        unsound.remove(join.event_id());
        let total = events.len() + unsound.len() + unreadable;
        check_create(&events, &head.version)?;
        let judged = judge(events, &rules).await?;
        // Only now is the version more than a claim: whoever made the room has signed it.
        if !judged.iter().any(|event| event.pdu.kind().to_string() == "m.room.create" && event.verdict == Verdict::Accepted) {
            return Err(unusable("the create event is not allowed"));
        }
        let room = self.room_for(&head.room_id, &head.version).await?;
        let Some(_claim) = self.claim_patiently(&room).await else { return Err(unusable("the room is being worked on")) };
        let kept = judged.len();
        let accepted = kept - self.keep_all(&room, &head.origin, judged).await?;
        tracing::info!(room_id = %room.room_id, events = total, accepted, "a room came over");
        let (nid, us) = (room.nid, self.server_name.clone());
        let imported = if self.store.read(move |db| servers::is_in_room(db, nid, &us)).await? {
            self.take_in(&room, &head.origin, join).await?
        } else {
            self.take_over(&room, &head.origin, state_ids, join).await?
        };
        Ok(Imported { refused: total.saturating_sub(accepted), ..imported })
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
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }
}

/// Work for a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ImportError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|e| EventError::Internal(e.to_string()))?)
}

fn json_of(packed: &Packed) -> Result<CanonicalJsonObject, ImportError> {
    let text = events::unpack(packed)?;
    Ok(serde_json::from_str(&text).map_err(|e| EventError::Internal(e.to_string()))?)
}

/// Check 3, for what passed check 2. Returns what is not sound, and what waits for a key.
fn sift(
    pdus: Vec<Pdu>,
    answers: Vec<Signatures>,
    rules: &RoomVersionRules,
    sound: &Mutex<Events>,
) -> Result<(Vec<OwnedEventId>, Vec<Waiting>), ImportError> {
    let (mut good, mut unsound, mut waiting) = (Vec::with_capacity(pdus.len()), Vec::new(), Vec::new());
    for (pdu, answer) in pdus.into_iter().zip(answers) {
        let event_id = pdu.event_id().to_owned();
        match answer {
            Signatures::Valid { content_intact } => match check3_hash::check(pdu, content_intact, rules) {
                Ok(pdu) => {
                    let (pdu, json) = pdu.split();
                    good.push(Sound { pdu, packed: pack(&json)? });
                }
                Err(_) => unsound.push(event_id),
            },
            Signatures::Invalid(why) => {
                tracing::debug!(%event_id, %why, "left out of the room");
                unsound.push(event_id);
            }
            Signatures::Unknown(_) => waiting.push(Waiting { event_id, signers: signers(&pdu), packed: pack(pdu.json())? }),
        }
    }
    let mut sound = sound.lock().unwrap_or_else(PoisonError::into_inner);
    sound.extend(good.into_iter().map(|event| (event.pdu.event_id().to_owned(), event)));
    Ok((unsound, waiting))
}

fn pack(json: &CanonicalJsonObject) -> Result<Packed, ImportError> {
    Ok(events::pack(&build::canonical(json).map_err(EventError::from)?)?)
}

/// The servers and key IDs of an event's signatures, that of its sender first.
fn signers(pdu: &Pdu) -> Vec<String> {
    let servers = pdu.json().get("signatures").and_then(|all| all.as_object());
    let of = |(server, keys): (&String, &CanonicalJsonValue)| -> Vec<String> {
        keys.as_object().into_iter().flatten().map(|(key, _)| format!("{server} {key}")).take(MOST_SIGNERS).collect()
    };
    let own = servers.and_then(|all| all.get_key_value(pdu.sender().server_name().as_str()));
    own.into_iter().chain(servers.into_iter().flatten()).take(MOST_SIGNERS).flat_map(of).collect()
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
pub(super) struct Judged {
    pub(super) pdu: Arc<Pdu>,
    pub(super) packed: Packed,
    pub(super) verdict: Verdict,
}

/// Check 4 for all, in an order in which what authorises comes first. An event that names what is not there is left out.
async fn judge(events: Events, rules: &RoomVersionRules) -> Result<Vec<Judged>, ImportError> {
    let rules = rules.authorization.clone();
    blocking(move || {
        let (order, mut events) = (ordered(&events), events);
        let mut done: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::with_capacity(order.len());
        let mut judged = Vec::with_capacity(order.len());
        for id in order {
            let Some(Sound { pdu, packed }) = events.remove(&id) else { continue };
            if !pdu.auth_events().iter().all(|id| done.contains_key(id)) {
                continue;
            }
            let verdict = check4_auth_events::check(&rules, &pdu, |id| done.get(id).cloned());
            // Those that follow have to see whether it was rejected.
            let pdu = Arc::new(pdu.with_rejected(matches!(verdict, Verdict::Rejected(_))));
            done.insert(id, Arc::clone(&pdu));
            judged.push(Judged { pdu, packed, verdict });
        }
        judged
    })
    .await
}

fn ordered(events: &Events) -> Vec<OwnedEventId> {
    let order = wire::topological(events, Pdu::auth_events);
    // In version 12 nothing names the create event, yet it authorises everything.
    let is_create = |id: &OwnedEventId| events.get(id).is_some_and(|sound| sound.pdu.kind().to_string() == "m.room.create");
    let (mut creates, rest): (Vec<OwnedEventId>, Vec<OwnedEventId>) = order.into_iter().partition(is_create);
    creates.extend(rest);
    creates
}
