//! The play: sets the stage, lets those with secrets speak, then lets people go on talking.
//!
//! Knows the stage, the plan and the played people; nothing of the screen but where its notices go.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::try_join_all;
use http::Method;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::OwnedRoomId;
use serde_json::json;
use tokio::sync::{OnceCell, mpsc, oneshot};

use super::{
    DemoArgs, SERVER_NAME,
    company::{self, Watch, Written},
    hand::{Hand, encoded},
    now_ms,
    plan::{self, Deed, LONG_ROOM, PlannedRoom, Size},
    script::{Entry, Exchanges, GUEST},
    stage::{Made, Stage, StageError, Told},
};
use crate::{
    base::{Secret, Shutdown, Zone},
    cli::{
        exit::{Exit, Failure},
        node::OwnNode,
    },
    client::{puppet::Puppet, session::Endpoint, update::Update},
};

/// Whose hand uploads the pictures and types.
const HANDY: &str = "wren";
/// Those who have a client of their own, for encrypted rooms.
const CLIENTS: [&str; 4] = ["mira", "priya", "sam", "yuki"];
/// Rooms in which people go on talking.
const LIVELY: [&str; 5] = [LONG_ROOM, "kitchen", "workshop", "garden", "board"];
/// The room that the screen opens with.
const FIRST_ROOM: &str = "start";
/// Lines of small talk at most: a demonstration that somebody forgets must not fill the disk.
const LINES: usize = 5_000;
/// Between two lines, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 4_000..15_000;
/// Until somebody reacts to the guest, and then until somebody answers, in milliseconds.
const REACT_MS: std::ops::Range<u64> = 700..1_800;
const ANSWER_MS: std::ops::Range<u64> = 900..2_500;
/// How long the guest's client may take to be able to read what is encrypted.
const READY: Duration = Duration::from_secs(60);

/// Those who have a client of their own.
type Clients = BTreeMap<&'static str, Puppet>;

/// Who can say something in a room: in an encrypted one, those with a client.
fn voices<'a>(room: &'a PlannedRoom, clients: &Clients) -> Vec<&'a str> {
    let can = |key: &&str| !room.encrypted || clients.contains_key(key);
    room.members.iter().map(String::as_str).filter(can).collect()
}

/// Everything that is needed for the play.
#[derive(Debug)]
pub struct Theatre {
    stage: Stage,
    plan: plan::Plan,
    socket: PathBuf,
    password: Secret,
    seed: u64,
    quiet: bool,
    first: Made,
    opened_ms: u64,
    /// Keys of the rooms that are there.
    keys: Mutex<BTreeMap<OwnedRoomId, String>>,
}

impl Theatre {
    /// Plans, and makes what the screen needs to open: the guest's account and the first room.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn open(node: &OwnNode, socket: PathBuf, password: Secret, args: &DemoArgs, zone: Zone) -> Result<Self, Failure> {
        let size = Size { rooms: args.rooms, messages: args.messages };
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failure, error.to_string());
        let now = now_ms();
        let plan =
            plan::plan(args.seed, size, now, i64::from(zone.offset_at(now).whole_seconds()) * 1000).map_err(|error| failed(&error))?;
        let stage = Stage::new(std::sync::Arc::clone(node.node()));
        // Hashing passwords takes the longest of all, on threads of its own: at the same time, then.
        let names = [GUEST, HANDY].into_iter().chain(CLIENTS);
        let accounts = names.clone().map(|name| node.create_account(name, &password, false));
        try_join_all(accounts).await.map_err(|error| failed(&error))?;
        for name in names {
            let display_name = plan.people.iter().find(|person| person.key == name).map_or("Robin", |person| person.name);
            stage.rename(name, display_name).await.map_err(|error| failed(&error))?;
        }
        stage.extras(&plan.people).await.map_err(|error| failed(&error))?;
        let handy = Hand::login(stage.node(), HANDY, &password).await.map_err(|error| failed(&error))?;
        let first = plan.rooms.iter().find(|room| room.key == FIRST_ROOM);
        let first = first.ok_or_else(|| Failure::new(Exit::Failure, "the script has no first room"))?;
        let first = stage.room(first, &BTreeMap::new(), &handy).await.map_err(|error| failed(&error))?;
        Ok(Self { stage, plan, socket, password, seed: args.seed, quiet: args.quiet, first, opened_ms: now_ms(), keys: Mutex::default() })
    }

    /// The room that the screen opens with.
    #[must_use]
    pub fn first_room(&self) -> OwnedRoomId {
        self.first.room_id.clone()
    }

    /// Plays until the signal.
    pub async fn play(self, notices: oneshot::Receiver<mpsc::Sender<Update>>, shutdown: Shutdown) {
        let result = tokio::select! {
            () = shutdown.wait() => return,
            result = Box::pin(self.perform()) => result,
        };
        if let Err(error) = result {
            tracing::error!(%error, "the demonstration did not go as planned");
            let text = format!("The demonstration did not go as planned: {error}");
            if let Ok(notices) = notices.await {
                // A screen that is gone needs no notice.
                let _ = notices.send(Update::Notice { text }).await;
            }
        }
    }

    async fn perform(self) -> Result<(), StageError> {
        let (guest, handy) = tokio::try_join!(
            Hand::login(self.stage.node(), GUEST, &self.password),
            Hand::login(self.stage.node(), HANDY, &self.password),
        )?;
        let mut made = BTreeMap::new();
        let (short, long): (Vec<_>, Vec<_>) = self.plan.rooms.iter().partition(|room| room.key != LONG_ROOM && room.children.is_none());
        self.past(&short, &mut made, &guest, &handy).await?;
        let known = made.clone();
        let clients = OnceCell::new();
        let rest = async {
            // The long room has most of the past; those with secrets need not wait for it.
            let (all, ()) = tokio::try_join!(self.secrets(&known, &guest), self.past(&long, &mut made, &guest, &handy))?;
            let clients = clients.get_or_init(|| async { all }).await;
            if self.quiet {
                guest.call(Method::POST, "/_matrix/client/v3/logout", &json!({})).await?;
                return Ok(());
            }
            self.small_talk(&made, &handy, clients).await
        };
        // Whoever writes before the past is told is answered all the same.
        let company = async { if self.quiet { Ok(()) } else { self.company(&guest, &handy, &clients).await } };
        tokio::try_join!(rest, company)?;
        Ok(())
    }

    /// What has happened so far, room by room.
    async fn past(&self, rooms: &[&PlannedRoom], made: &mut BTreeMap<String, Made>, guest: &Hand, handy: &Hand) -> Result<(), StageError> {
        let started = std::time::Instant::now();
        for room in rooms {
            // What is encrypted comes from clients, later.
            let steps = if room.encrypted { Vec::new() } else { room.steps.clone() };
            let done = if room.key == FIRST_ROOM {
                self.first.clone()
            } else {
                self.stage.room(&PlannedRoom { steps, ..(*room).clone() }, made, handy).await?
            };
            if room.entry == Entry::Direct {
                self.mark_direct(room, &done.room_id, made, guest).await?;
            }
            if room.entry != Entry::Invited
                && let Some(event_id) = &done.read
            {
                let path = format!("/_matrix/client/v3/rooms/{}/read_markers", encoded(done.room_id.as_str()));
                guest.call(Method::POST, &path, &json!({ "m.fully_read": event_id, "m.read": event_id })).await?;
            }
            self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(done.room_id.clone(), room.key.clone());
            made.insert(room.key.clone(), done);
        }
        tracing::info!(rooms = made.len(), duration_ms = started.elapsed().as_millis(), "a part of the stage is set");
        Ok(())
    }

    /// `m.direct` of the guest, who has these conversations.
    async fn mark_direct(
        &self,
        room: &PlannedRoom,
        room_id: &OwnedRoomId,
        made: &BTreeMap<String, Made>,
        guest: &Hand,
    ) -> Result<(), StageError> {
        let mut direct = serde_json::Map::new();
        let earlier = self.plan.rooms.iter().filter(|room| room.entry == Entry::Direct);
        let known = earlier.filter_map(|room| Some((room, &made.get(&room.key)?.room_id))).chain([(room, room_id)]);
        for (room, room_id) in known {
            for who in &room.members {
                direct.insert(self.stage.user(who)?.to_string(), json!([room_id]));
            }
        }
        let path = format!("/_matrix/client/v3/user/{}/account_data/m.direct", encoded(self.stage.user(GUEST)?.as_str()));
        guest.call(Method::PUT, &path, &serde_json::Value::Object(direct)).await?;
        Ok(())
    }

    /// Encrypted messages come from real clients, once the guest's own can read them.
    async fn secrets(&self, made: &BTreeMap<String, Made>, guest: &Hand) -> Result<Clients, StageError> {
        self.guest_is_ready(guest).await?;
        let endpoint = Endpoint::Socket { path: self.socket.clone(), server_name: SERVER_NAME.to_owned() };
        let mut clients = Clients::new();
        for room in self.plan.rooms.iter().filter(|room| room.encrypted) {
            let Some(there) = made.get(&room.key) else { continue };
            for step in &room.steps {
                let Deed::Say { text, .. } = &step.act else { continue };
                let Some(name) = CLIENTS.iter().find(|name| **name == step.who) else { continue };
                if !clients.contains_key(name) {
                    let puppet = Box::pin(Puppet::login(&endpoint, name, &self.password))
                        .await
                        .map_err(|error| StageError::Api(error.to_string()))?;
                    clients.insert(name, puppet);
                }
                if let Some(puppet) = clients.get(name) {
                    Box::pin(puppet.send(&there.room_id, text)).await.map_err(|error| StageError::Api(error.to_string()))?;
                }
            }
        }
        Ok(clients)
    }

    /// Waits until a device of the guest has published its keys. There is nothing to subscribe to from here, so it asks.
    async fn guest_is_ready(&self, guest: &Hand) -> Result<(), StageError> {
        let user = self.stage.user(GUEST)?;
        let asked = json!({ "device_keys": { user.as_str(): [] } });
        let ready = async {
            loop {
                let answer = guest.call(Method::POST, "/_matrix/client/v3/keys/query", &asked).await?;
                let devices = answer.get("device_keys").and_then(|all| all.get(user.as_str())).and_then(serde_json::Value::as_object);
                if devices.is_some_and(|devices| !devices.is_empty()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(READY, ready).await.unwrap_or_else(|_| Err(StageError::Ours("the guest's client published no keys".into())))
    }

    /// One line after the other, at the pace of people.
    async fn small_talk(&self, made: &BTreeMap<String, Made>, handy: &Hand, clients: &Clients) -> Result<(), StageError> {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(1));
        let exchanges = Exchanges::embedded().map_err(|error| StageError::Ours(error.to_string()))?;
        let rooms: Vec<&PlannedRoom> = self.plan.rooms.iter().filter(|room| LIVELY.contains(&room.key.as_str())).collect();
        let mut said = 0;
        while said < LINES {
            let Some((room, there)) = rooms.choose(&mut random).and_then(|room| Some((room, made.get(&room.key)?))) else { return Ok(()) };
            let people = voices(room, clients);
            for (who, text) in plan::exchange(&people, &exchanges, &mut random) {
                tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
                if who == HANDY {
                    self.type_a_while(handy, &there.room_id, &text).await?;
                }
                self.say(room, &there.room_id, &who, Told::new(&text), clients).await?;
                said += 1;
            }
        }
        Ok(())
    }

    /// Says something, encrypted where the room is.
    async fn say(&self, room: &PlannedRoom, room_id: &OwnedRoomId, who: &str, told: Told<'_>, clients: &Clients) -> Result<(), StageError> {
        match clients.get(who).filter(|_| room.encrypted) {
            Some(client) => {
                let sent = match told.thread {
                    Some(root) => Box::pin(client.send_in_thread(room_id, root, told.text)).await,
                    None => Box::pin(client.send(room_id, told.text)).await,
                };
                sent.map(drop).map_err(|error| StageError::Api(error.to_string()))
            }
            None => self.stage.say(room_id, who, told).await.map(drop),
        }
    }

    /// Somebody reacts to what the guest writes, and somebody answers.
    async fn company(&self, guest: &Hand, handy: &Hand, clients: &OnceCell<Clients>) -> Result<(), StageError> {
        let nobody = Clients::new();
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(2));
        let mut watch = Watch::new(guest, self.stage.user(GUEST)?.to_string(), self.opened_ms);
        let mut answered = 0;
        while answered < LINES {
            let written = watch.look().await?;
            // Who writes several lines at once gets one answer, to the last of them, as among people.
            let mut last: BTreeMap<OwnedRoomId, Written> = BTreeMap::new();
            written.into_iter().for_each(|written| drop(last.insert(written.room_id.clone(), written)));
            for written in last.into_values() {
                let key = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&written.room_id).cloned();
                let Some(room) = self.plan.rooms.iter().find(|room| Some(&room.key) == key.as_ref()) else { continue };
                self.react(room, &written, handy, clients.get().unwrap_or(&nobody), &mut random).await?;
                answered += 1;
            }
        }
        Ok(())
    }

    async fn react(
        &self,
        room: &PlannedRoom,
        written: &Written,
        handy: &Hand,
        clients: &Clients,
        random: &mut StdRng,
    ) -> Result<(), StageError> {
        let people = voices(room, clients);
        let pause = |range, random: &mut StdRng| tokio::time::sleep(Duration::from_millis(random.random_range::<u64, _>(range)));
        pause(REACT_MS, random).await;
        if let (Some(who), Some(key)) = (people.choose(random), company::reaction(random)) {
            match clients.get(*who).filter(|_| room.encrypted) {
                Some(client) => {
                    let reacted = Box::pin(client.react(&written.room_id, &written.event_id, key)).await;
                    reacted.map_err(|error| StageError::Api(error.to_string()))?;
                }
                None => self.stage.react(&written.room_id, who, &written.event_id, key).await.map(drop)?,
            }
        }
        let text = written.text.as_deref();
        let Some(who) = company::who(text, &people, random) else { return Ok(()) };
        let told = Told { thread: written.thread.as_deref(), ..Told::new(company::answer(text, random)) };
        if who == HANDY && !room.encrypted {
            self.type_a_while(handy, &written.room_id, told.text).await?;
        } else {
            pause(ANSWER_MS, random).await;
        }
        self.say(room, &written.room_id, who, told, clients).await
    }

    async fn type_a_while(&self, handy: &Hand, room_id: &OwnedRoomId, text: &str) -> Result<(), StageError> {
        let user = self.stage.user(HANDY)?;
        let path = format!("/_matrix/client/v3/rooms/{}/typing/{}", encoded(room_id.as_str()), encoded(user.as_str()));
        handy.call(Method::PUT, &path, &json!({ "typing": true, "timeout": 20_000 })).await?;
        let letters = u64::try_from(text.chars().count()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis((letters * 60).min(6_000))).await;
        handy.call(Method::PUT, &path, &json!({ "typing": false })).await?;
        Ok(())
    }
}
