//! Several servers in one process, and the network between them: who can reach whom, and what a hostile one answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures_util::stream;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{PublicKeyMap, Verified},
};
use serde_json::{Map, value::RawValue};

use super::super::{
    Head, ImportError, Imported, Ingest,
    remote::{self, Ask, Remote, RemoteError, Signatures, StateIds, Untrusted},
    scan::{List, Piece},
    takeover::Steps,
};
use crate::{
    base::{Clock, ManualClock, SystemRandomness},
    homeserver::{
        appservice::AppServices,
        events::{self, Ctx, Draft, EventError, append, content_from_map, create},
        federation::{key_ring::verify_with, reading},
        key::SigningKey,
        rooms::{
            auth,
            build::{self, Template},
            template::{NewRoom, Preset},
        },
        store::{Observer, Store, StoreError, events as stored, inbound, rooms, state},
        types::{Pdu, RoomHandle},
    },
};

/// A server.
pub(super) struct Server {
    pub(super) name: OwnedServerName,
    pub(super) store: Store,
    pub(super) ingest: Arc<Ingest>,
    pub(super) ctx: Ctx,
    pub(super) dir: tempfile::TempDir,
}

/// The servers' way to each other.
#[derive(Debug, Default)]
pub(super) struct Network {
    peers: Mutex<BTreeMap<OwnedServerName, (Store, Base64)>>,
    cut: Mutex<BTreeSet<(OwnedServerName, OwnedServerName)>>,
    /// Servers whose keys cannot be had.
    pub(super) keyless: Mutex<BTreeSet<OwnedServerName>>,
    /// Servers whose keys nobody has asked for yet.
    pub(super) cold: Mutex<BTreeSet<OwnedServerName>>,
    /// What was asked, for tests that count.
    pub(super) asked: Mutex<Vec<String>>,
    /// Told when somebody asks for missing events; with `hang` they wait for ever.
    pub(super) hung: tokio::sync::Notify,
    pub(super) hang: std::sync::atomic::AtomicBool,
    /// Servers that take questions and never answer.
    pub(super) mute: Mutex<BTreeSet<OwnedServerName>>,
    /// Answers that take the place of a server's own, by question.
    pub(super) lies: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Network {
    fn peer(&self, me: &ServerName, other: &ServerName) -> remote::Result<Store> {
        if self.is_cut(me, other) {
            return Err(RemoteError(format!("{other} cannot be reached")));
        }
        let peers = self.peers.lock().unwrap();
        peers.get(other).map(|(store, _)| store.clone()).ok_or_else(|| RemoteError(format!("there is no {other}")))
    }

    pub(super) fn is_cut(&self, one: &ServerName, other: &ServerName) -> bool {
        let cut = self.cut.lock().unwrap();
        cut.contains(&(one.to_owned(), other.to_owned())) || cut.contains(&(other.to_owned(), one.to_owned()))
    }

    pub(super) fn set_cut(&self, one: &ServerName, other: &ServerName, apart: bool) {
        let mut cut = self.cut.lock().unwrap();
        cut.remove(&(other.to_owned(), one.to_owned()));
        if apart {
            cut.insert((one.to_owned(), other.to_owned()));
        } else {
            cut.remove(&(one.to_owned(), other.to_owned()));
        }
    }

    pub(super) fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }
}

#[derive(Debug)]
struct FakeRemote {
    me: OwnedServerName,
    network: Arc<Network>,
}

impl FakeRemote {
    async fn ask<T, F>(&self, server: &ServerName, question: String, answer: F) -> remote::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&crate::homeserver::store::Reader<'_>, &ServerName) -> events::Result<T> + Send + 'static,
    {
        self.network.asked.lock().unwrap().push(question);
        if self.network.mute.lock().unwrap().contains(server) {
            std::future::pending::<()>().await;
        }
        let (store, me) = (self.network.peer(&self.me, server)?, self.me.clone());
        store.read(move |db| answer(db, &me)).await.map_err(|e| RemoteError(e.to_string()))
    }

    fn lie(&self, question: &str) -> Option<Untrusted> {
        self.network.lies.lock().unwrap().get(question).map(|lies| raw(lies.clone()))
    }
}

pub(super) fn raw(json: Vec<String>) -> Untrusted {
    json.into_iter().map(|json| RawValue::from_string(json).unwrap()).collect()
}

#[async_trait::async_trait]
impl Remote for FakeRemote {
    async fn signatures(&self, events: Vec<CanonicalJsonObject>, rules: &RoomVersionRules, ask: Ask) -> Vec<Signatures> {
        let keys: PublicKeyMap = (self.network.peers.lock().unwrap().iter())
            .map(|(name, (_, key))| (name.to_string(), BTreeMap::from([("ed25519:t".to_owned(), key.clone())])))
            .collect();
        let mut keyless = self.network.keyless.lock().unwrap().clone();
        let sender = |json: &CanonicalJsonObject| json.get("sender").and_then(|s| s.as_str()).and_then(|s| UserId::parse(s).ok());
        match ask {
            Ask::Servers => {
                self.network.asked.lock().unwrap().push("keys".into());
                let mut cold = self.network.cold.lock().unwrap();
                for sender in events.iter().filter_map(sender) {
                    cold.remove(sender.server_name());
                }
            }
            Ask::Nobody => keyless.extend(self.network.cold.lock().unwrap().iter().cloned()),
        }
        let check = |json: &CanonicalJsonObject| {
            if sender(json).is_some_and(|sender| keyless.contains(sender.server_name())) {
                return Signatures::Unknown("no key".into());
            }
            match verify_with(&keys, json, rules) {
                Ok(verified) => Signatures::Valid { content_intact: verified == Verified::All },
                Err(error) => Signatures::Invalid(error.to_string()),
            }
        };
        events.iter().map(check).collect()
    }

    async fn event(&self, server: &ServerName, event_id: &OwnedEventId) -> remote::Result<Box<RawValue>> {
        if let Some(mut lie) = self.lie(&format!("event {event_id}")) {
            return lie.pop().ok_or_else(|| RemoteError("no".into()));
        }
        let id = event_id.clone();
        let json = self.ask(server, format!("event {event_id}"), move |db, me| reading::event(db, me, &id)).await?;
        RawValue::from_string(json).map_err(|e| RemoteError(e.to_string()))
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        earliest: Vec<OwnedEventId>,
        latest: Vec<OwnedEventId>,
        limit: u32,
        min_depth: i64,
    ) -> remote::Result<Untrusted> {
        if self.network.hang.load(std::sync::atomic::Ordering::SeqCst) {
            self.network.hung.notify_one();
            std::future::pending::<()>().await;
        }
        if let Some(lie) = self.lie("missing_events") {
            return Ok(lie);
        }
        let room_id = room_id.to_owned();
        let answer = self.ask(server, "missing_events".into(), move |db, me| {
            let asked = reading::Missing { earliest: &earliest, latest: &latest, limit: limit as usize, min_depth };
            reading::missing_events(db, me, &room_id, &asked)
        });
        Ok(raw(answer.await?))
    }

    async fn state_ids(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> remote::Result<StateIds> {
        if self.lie("state_ids").is_some() {
            return Err(RemoteError("no state".into()));
        }
        let (room_id, id) = (room_id.to_owned(), event_id.clone());
        let (state, auth_chain) = self.ask(server, "state_ids".into(), move |db, me| reading::state_ids(db, me, &room_id, &id)).await?;
        let more = self.network.lies.lock().unwrap().get("more_state_ids").cloned().unwrap_or_default();
        let state = state.into_iter().chain(more.into_iter().map(|id| id.try_into().unwrap())).collect();
        Ok(StateIds { state, auth_chain })
    }

    async fn state(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> remote::Result<Untrusted> {
        let (room_id, id) = (room_id.to_owned(), event_id.clone());
        let (state, chain) = self.ask(server, "state".into(), move |db, me| reading::state(db, me, &room_id, &id)).await?;
        Ok(raw(state.into_iter().chain(chain).collect()))
    }

    async fn event_auth(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> remote::Result<Untrusted> {
        if let Some(lie) = self.lie("event_auth") {
            return Ok(lie);
        }
        let (room_id, id) = (room_id.to_owned(), event_id.clone());
        Ok(raw(self.ask(server, "event_auth".into(), move |db, me| reading::event_auth(db, me, &room_id, &id)).await?))
    }

    async fn backfill(&self, server: &ServerName, room_id: &RoomId, from: Vec<OwnedEventId>, limit: u32) -> remote::Result<Untrusted> {
        let room_id = room_id.to_owned();
        let answer = self.ask(server, "backfill".into(), move |db, me| reading::backfill(db, me, &room_id, &from, limit as usize));
        Ok(raw(answer.await?))
    }
}

/// The whole of an answer to a join, for tests to spoil.
pub(super) struct JoinAnswer {
    pub(super) room_id: OwnedRoomId,
    pub(super) version: RoomVersionId,
    pub(super) origin: OwnedServerName,
    pub(super) join: Box<RawValue>,
    pub(super) state: Untrusted,
    pub(super) auth_chain: Untrusted,
}

impl JoinAnswer {
    /// As it comes over the wire.
    fn pieces(&self) -> Vec<Piece> {
        let of = |list, events: &Untrusted| {
            let pieces = events.chunks(3).map(|some| some.iter().map(|json| json.get().into()).collect());
            pieces.map(|events| Piece { list, events }).collect::<Vec<_>>()
        };
        of(List::State, &self.state).into_iter().chain(of(List::AuthChain, &self.auth_chain)).collect()
    }
}

impl Ingest {
    /// Takes a room over.
    pub(super) async fn import(&self, answer: JoinAnswer) -> Result<Imported, ImportError> {
        let pieces = stream::iter(answer.pieces().into_iter().map(Ok::<_, ImportError>));
        let head = Head { room_id: answer.room_id, version: answer.version, origin: answer.origin };
        let gathered = self.gather(head, pieces).await?;
        self.take(gathered, answer.join.get()).await
    }
}

/// All of it.
pub(super) struct World {
    pub(super) network: Arc<Network>,
    pub(super) clock: ManualClock,
    pub(super) servers: Vec<Server>,
    steps: Steps,
}

impl World {
    /// Servers called a.test, b.test and so on.
    pub(super) fn new(count: u8) -> Self {
        // Small, so that a room of a few events comes over in several.
        Self::with(count, Steps { events: 3, entries: 5, keys: 7 })
    }

    /// The same, where rooms come over in steps as large as anywhere.
    pub(super) fn at_full_stride(count: u8) -> Self {
        Self::with(count, Steps::default())
    }

    fn with(count: u8, steps: Steps) -> Self {
        let mut world = Self { network: Arc::default(), clock: ManualClock::at(1_790_000_000_000), servers: Vec::new(), steps };
        for n in 0..count {
            let name = format!("{}.test", char::from(b'a' + n));
            world.add(&name);
        }
        world
    }

    pub(super) fn add(&mut self, name: &str) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let name = ServerName::parse(name).unwrap();
        let key = Arc::new(SigningKey::for_tests("t"));
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {}))).unwrap();
        self.network.peers.lock().unwrap().insert(name.clone(), (store.clone(), Base64::new(key.public_key().to_vec())));
        let appservices = Arc::new(AppServices::new(Vec::new(), &name).unwrap());
        let randomness = Arc::new(SystemRandomness);
        let ctx = Ctx {
            server_name: name.clone(),
            key,
            now_ms: self.clock.now_ms(),
            randomness,
            appservices,
            caution: Arc::default(),
            approval: crate::homeserver::events::policy::Approval::default(),
        };
        let remote = Arc::new(FakeRemote { me: name.clone(), network: Arc::clone(&self.network) });
        let mut ingest = Ingest::new(store.clone(), remote, ctx.clone(), Arc::new(self.clock.clone()));
        ingest.steps = self.steps;
        let ingest = Arc::new(ingest);
        self.servers.push(Server { name, store, ingest, ctx, dir });
        self.servers.len() - 1
    }

    pub(super) fn user(&self, server: usize, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.servers[server].name)).unwrap()
    }

    /// A room on a server, made by `user`.
    pub(super) async fn room(&self, server: usize, user: &UserId, version: RoomVersionId) -> OwnedRoomId {
        let new = NewRoom {
            creator: user.to_owned(),
            version,
            preset: Preset::Public,
            creation_content: Map::new(),
            power_level_override: Map::new(),
            initial_state: Vec::new(),
            name: None,
            topic: Some("first".into()),
            alias: None,
            invite: Vec::new(),
        };
        let ctx = self.ctx(server);
        self.servers[server].store.write(move |tx| create::room(tx, &ctx, &new, false, false)).await.unwrap().room_id
    }

    pub(super) fn ctx(&self, server: usize) -> Ctx {
        self.clock.advance(1);
        Ctx { now_ms: self.clock.now_ms(), ..self.servers[server].ctx.clone() }
    }

    /// An event of a local user.
    pub(super) async fn send(&self, server: usize, room_id: &RoomId, draft: Draft) -> events::Result<OwnedEventId> {
        let (ctx, room_id) = (self.ctx(server), room_id.to_owned());
        self.servers[server]
            .store
            .write(move |tx| {
                let room = events::room(&tx.reader(), &room_id)?;
                Ok(append(tx, &ctx, &room, draft)?.event_id)
            })
            .await
    }

    pub(super) async fn say(&self, server: usize, room_id: &RoomId, user: &UserId, text: &str) -> events::Result<OwnedEventId> {
        let content = content_from_map(Map::from_iter([("body".into(), text.into()), ("msgtype".into(), "m.text".into())])).unwrap();
        self.send(server, room_id, Draft::message(user.to_owned(), "m.room.message", content)).await
    }

    pub(super) async fn set(
        &self,
        server: usize,
        room_id: &RoomId,
        user: &UserId,
        kind: &str,
        key: &str,
        content: serde_json::Value,
    ) -> events::Result<OwnedEventId> {
        let content = serde_json::from_value(content).unwrap();
        self.send(server, room_id, Draft::state(user.to_owned(), kind, key, content)).await
    }

    /// A PDU made by a server outside of the usual way: on top of what that server has, with these changes.
    #[expect(clippy::too_many_arguments, reason = "everything that an event is made of")]
    pub(super) async fn forge(
        &self,
        server: usize,
        room_id: &RoomId,
        sender: &UserId,
        kind: &str,
        key: Option<&str>,
        content: serde_json::Value,
        change: impl FnOnce(&mut CanonicalJsonObject) + Send,
    ) -> Pdu {
        let (id, sender, kind, key) = (room_id.to_owned(), sender.to_owned(), kind.to_owned(), key.map(ToOwned::to_owned));
        let content: CanonicalJsonObject = serde_json::from_value(content).unwrap();
        let now_ms = self.ctx(server).now_ms;
        let (mut json, room) = self.servers[server]
            .store
            .read(move |db| {
                let room = events::room(db, &id)?;
                let extremities = stored::extremities(db, room.nid)?;
                let rules = &room.rules.authorization;
                // What makes no sense for its type is sent as if it were a message.
                let selection = auth::selection(&kind, &sender, key.as_deref(), &content, rules)
                    .or_else(|_| auth::selection("m.room.message", &sender, None, &content, rules))
                    .map_err(EventError::BadJson)?;
                let mut auth_events = Vec::new();
                for (kind, key) in selection {
                    if let Some(nid) = state::current(db, room.nid, &kind.to_string(), &key)? {
                        auth_events.push(stored::id_of(db, nid)?);
                    }
                }
                let template = Template {
                    room_id: Some(&room.room_id),
                    sender: &sender,
                    kind: &kind,
                    state_key: key.as_deref(),
                    content,
                    redacts: None,
                    origin_server_ts: now_ms,
                    prev_depth: extremities.iter().map(|e| e.depth).max().unwrap_or(0),
                    prev_events: extremities.into_iter().take(20).map(|e| e.event_id).collect(),
                    auth_events,
                };
                let (pdu, _) = build::build(template, &room.rules, |_| Ok(())).map_err(|_| EventError::Internal("unsigned".into()))?;
                Ok::<_, EventError>((pdu.json().clone(), room))
            })
            .await
            .unwrap();
        change(&mut json);
        self.sign(server, &room, json)
    }

    /// Signs JSON as a server's event.
    pub(super) fn sign(&self, server: usize, room: &RoomHandle, mut json: CanonicalJsonObject) -> Pdu {
        let server = &self.servers[server];
        server.ctx.key.sign_event(server.name.as_str(), &mut json, &room.rules.redaction).unwrap();
        let id = build::event_id(&json, &room.rules).unwrap();
        Pdu::from_json(id, json, &room.rules).unwrap()
    }

    pub(super) async fn handle(&self, server: usize, room_id: &RoomId) -> RoomHandle {
        let id = room_id.to_owned();
        self.servers[server].store.read(move |db| rooms::by_id(db, &id)).await.unwrap().unwrap()
    }

    /// Sends PDUs from one server to another, which then works on them.
    pub(super) async fn deliver(&self, from: usize, to: usize, events: Vec<String>) {
        let txn = format!("t{}", self.ctx(from).now_ms);
        self.servers[to].ingest.receive(&self.servers[from].name, &txn, raw(events)).await.unwrap();
        self.servers[to].ingest.drain().await.unwrap();
    }

    pub(super) async fn json(&self, server: usize, event_id: &OwnedEventId) -> String {
        let id = event_id.clone();
        self.servers[server].store.read(move |db| stored::by_id(db, &id)).await.unwrap().unwrap().json
    }

    /// Sends an event that a server has to another.
    pub(super) async fn pass(&self, from: usize, to: usize, event_id: &OwnedEventId) {
        let json = self.json(from, event_id).await;
        self.deliver(from, to, vec![json]).await;
    }

    /// A user of a server joins a room by way of another server.
    pub(super) async fn join(&self, server: usize, user: &UserId, room_id: &RoomId, via: usize) -> Imported {
        let (answer, join) = self.join_answer(server, user, room_id, via).await;
        self.deliver(server, via, vec![join]).await;
        self.servers[server].ingest.import(answer).await.unwrap()
    }

    /// What a server answers to a join, and the join.
    pub(super) async fn join_answer(&self, server: usize, user: &UserId, room_id: &RoomId, via: usize) -> (JoinAnswer, String) {
        let handle = self.handle(via, room_id).await;
        let unsigned =
            self.forge(via, room_id, user, "m.room.member", Some(user.as_str()), serde_json::json!({ "membership": "join" }), |_| ()).await;
        let mut json = unsigned.json().clone();
        json.remove("signatures");
        json.remove("hashes");
        let join = build::canonical(self.sign(server, &handle, json).json()).unwrap();
        let nid = handle.nid;
        let (state, chain) = self.servers[via]
            .store
            .read(move |db| {
                let nids: Vec<_> = state::current_all(db, nid)?.into_iter().map(|(_, event)| event).collect();
                let chain = crate::homeserver::store::graph::auth_chain(db, nids.iter().copied(), 100_000)?;
                let json = |nid| Ok::<_, StoreError>(stored::by_nid(db, nid)?.json);
                let state = nids.into_iter().map(json).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, StoreError>((state, chain.into_iter().map(json).collect::<Result<Vec<_>, _>>()?))
            })
            .await
            .unwrap();
        let answer = JoinAnswer {
            room_id: room_id.to_owned(),
            version: handle.version,
            origin: self.servers[via].name.clone(),
            join: RawValue::from_string(join.clone()).unwrap(),
            state: raw(state),
            auth_chain: raw(chain),
        };
        (answer, join)
    }

    /// The current state of a room as a server has it.
    pub(super) async fn state(&self, server: usize, room_id: &RoomId) -> BTreeMap<(String, String), OwnedEventId> {
        let nid = self.handle(server, room_id).await.nid;
        self.servers[server]
            .store
            .read(move |db| {
                let current = state::current_all(db, nid)?;
                // What is kept for quick answers is what the graph says.
                let group = rooms::current_group(db, nid)?.unwrap();
                assert_eq!(state::of_group(db, group)?, current.iter().copied().collect());
                current
                    .into_iter()
                    .map(|(key, event)| Ok((state::key(db, key)?, stored::id_of(db, event)?)))
                    .collect::<Result<_, StoreError>>()
            })
            .await
            .unwrap()
    }

    /// What a server made of an event: rejected (why), soft-failed, has a place. `None`: it does not have it.
    pub(super) async fn fate(&self, server: usize, event_id: &ruma::EventId) -> Option<(Option<String>, bool, bool)> {
        let id = event_id.to_owned();
        let event = self.servers[server].store.read(move |db| stored::by_id(db, &id)).await.unwrap()?;
        Some((event.rejected, event.soft_failed, event.pos.is_some()))
    }

    pub(super) async fn extremities(&self, server: usize, room_id: &RoomId) -> BTreeSet<OwnedEventId> {
        let nid = self.handle(server, room_id).await.nid;
        let found = self.servers[server].store.read(move |db| stored::extremities(db, nid)).await.unwrap();
        found.into_iter().map(|e| e.event_id).collect()
    }

    /// Events that a server has not decided about.
    pub(super) async fn waiting(&self, server: usize) -> usize {
        let us = self.servers[server].name.clone();
        self.servers[server].store.read(move |db| inbound::rooms_waiting(db, &us)).await.unwrap().len()
    }
}

/// As JSON on the wire.
pub(super) fn wire(pdu: &Pdu) -> String {
    build::canonical(pdu.json()).unwrap()
}
