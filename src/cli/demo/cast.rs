//! The play: sets the stage, lets those with secrets speak, then lets people go on talking.
//!
//! Knows the stage, the plan and the played people; nothing of the screen but where its notices go.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::Method;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::OwnedRoomId;
use serde_json::json;
use time::UtcOffset;
use tokio::sync::{mpsc, oneshot};

use super::{
    DemoArgs, SERVER_NAME,
    hand::{Hand, encoded},
    now_ms,
    plan::{self, Deed, LONG_ROOM, PlannedRoom, Size},
    script::{Entry, Exchanges, GUEST},
    stage::{Made, Stage, StageError},
};
use crate::{
    base::{Secret, Shutdown},
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
const LIVELY: [&str; 4] = [LONG_ROOM, "kitchen", "workshop", "garden"];
/// Lines of small talk at most: a demonstration that somebody forgets must not fill the disk.
const LINES: usize = 5_000;
/// Between two lines, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 4_000..15_000;
/// How long the guest's client may take to be able to read what is encrypted.
const READY: Duration = Duration::from_secs(60);

/// Everything that is needed for the play.
#[derive(Debug)]
pub struct Theatre {
    stage: Stage,
    plan: plan::Plan,
    socket: PathBuf,
    password: Secret,
    seed: u64,
    quiet: bool,
}

impl Theatre {
    /// Plans, and makes the accounts; afterwards the guest can sign in.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn open(node: &OwnNode, socket: PathBuf, password: Secret, args: &DemoArgs, offset: UtcOffset) -> Result<Self, Failure> {
        let size = Size { rooms: args.rooms, messages: args.messages };
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failure, error.to_string());
        let plan = plan::plan(args.seed, size, now_ms(), i64::from(offset.whole_seconds()) * 1000).map_err(|error| failed(&error))?;
        let stage = Stage::new(std::sync::Arc::clone(node.node()));
        for name in [GUEST, HANDY].into_iter().chain(CLIENTS) {
            let display_name = plan.people.iter().find(|person| person.key == name).map_or("Robin", |person| person.name);
            node.create_account(name, &password, false).await.map_err(|error| failed(&error))?;
            stage.rename(name, display_name).await.map_err(|error| failed(&error))?;
        }
        stage.extras(&plan.people).await.map_err(|error| failed(&error))?;
        Ok(Self { stage, plan, socket, password, seed: args.seed, quiet: args.quiet })
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
        let made = self.past(&guest, &handy).await?;
        let secrets = self.secrets(&made, &guest).await;
        guest.call(Method::POST, "/_matrix/client/v3/logout", &json!({})).await?;
        let clients = secrets?;
        if self.quiet {
            drop(clients);
            return Ok(());
        }
        self.small_talk(&made, &handy).await
    }

    /// What has happened so far, room by room.
    async fn past(&self, guest: &Hand, handy: &Hand) -> Result<BTreeMap<String, Made>, StageError> {
        let mut made = BTreeMap::new();
        let started = std::time::Instant::now();
        for room in &self.plan.rooms {
            // What is encrypted comes from clients, later.
            let steps = if room.encrypted { Vec::new() } else { room.steps.clone() };
            let done = self.stage.room(&PlannedRoom { steps, ..room.clone() }, &made, handy).await?;
            if room.entry == Entry::Direct {
                self.mark_direct(room, &done.room_id, &made, guest).await?;
            }
            if room.entry != Entry::Invited
                && let Some(event_id) = &done.read
            {
                let path = format!("/_matrix/client/v3/rooms/{}/read_markers", encoded(done.room_id.as_str()));
                guest.call(Method::POST, &path, &json!({ "m.fully_read": event_id, "m.read": event_id })).await?;
            }
            made.insert(room.key.clone(), done);
        }
        tracing::info!(rooms = made.len(), duration_ms = started.elapsed().as_millis(), "the stage is set");
        Ok(made)
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
    async fn secrets(&self, made: &BTreeMap<String, Made>, guest: &Hand) -> Result<Vec<Puppet>, StageError> {
        self.guest_is_ready(guest).await?;
        let endpoint = Endpoint::Socket { path: self.socket.clone(), server_name: SERVER_NAME.to_owned() };
        let mut clients: BTreeMap<&str, Puppet> = BTreeMap::new();
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
        Ok(clients.into_values().collect())
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
    async fn small_talk(&self, made: &BTreeMap<String, Made>, handy: &Hand) -> Result<(), StageError> {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(1));
        let exchanges = Exchanges::embedded().map_err(|error| StageError::Ours(error.to_string()))?;
        let rooms: Vec<&PlannedRoom> = self.plan.rooms.iter().filter(|room| LIVELY.contains(&room.key.as_str())).collect();
        let mut said = 0;
        while said < LINES {
            let Some((room, there)) = rooms.choose(&mut random).and_then(|room| Some((room, made.get(&room.key)?))) else { return Ok(()) };
            let people: Vec<&str> = room.members.iter().map(String::as_str).collect();
            for (who, text) in plan::exchange(&people, &exchanges, &mut random) {
                tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
                if who == HANDY {
                    self.type_a_while(handy, &there.room_id, &text).await?;
                }
                self.stage.say(&there.room_id, &who, &text).await?;
                said += 1;
            }
        }
        Ok(())
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
