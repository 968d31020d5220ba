//! Servers that talk, change the room, lose sight of each other and come back: in the end all have the same room.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::world::World;
use crate::homeserver::{events::EventError, store::servers};

/// One run.
struct Run {
    world: World,
    rng: StdRng,
    room: OwnedRoomId,
    /// Users by server; the first of server 0 made the room.
    users: Vec<Vec<OwnedUserId>>,
    /// What each server has sent, in order, and how far each other server has been given it.
    log: Vec<Vec<OwnedEventId>>,
    given: BTreeMap<(usize, usize), BTreeSet<usize>>,
}

impl Run {
    async fn new(seed: u64, servers: u8, version: RoomVersionId) -> Self {
        let world = World::new(servers);
        let users: Vec<Vec<OwnedUserId>> = (0..usize::from(servers)).map(|s| vec![world.user(s, "ann"), world.user(s, "bob")]).collect();
        let room = world.room(0, &users[0][0], version).await;
        let mut run = Self {
            rng: StdRng::seed_from_u64(seed),
            log: vec![Vec::new(); usize::from(servers)],
            given: BTreeMap::new(),
            world,
            room,
            users,
        };
        for server in 1..usize::from(servers) {
            let user = run.users[server][0].clone();
            run.world.join(server, &user, &run.room, 0).await;
        }
        for server in 0..usize::from(servers) {
            let user = run.users[server][1].clone();
            run.act(server, "m.room.member", Some(user.as_str()), &user, json!({ "membership": "join" })).await;
        }
        // Everybody's first user can do a good deal.
        let mut levels = json!({ "users": {}, "state_default": 50, "events": { "m.room.topic": 0 }, "ban": 50, "kick": 50 });
        for server in 0..usize::from(servers) {
            let creator = server == 0;
            if !(creator && run.world.handle(0, &run.room).await.rules.authorization.explicitly_privilege_room_creators) {
                levels["users"][run.users[server][0].as_str()] = json!(if creator { 100 } else { 60 });
            }
        }
        let creator = run.users[0][0].clone();
        run.act(0, "m.room.power_levels", Some(""), &creator, levels).await;
        run.settle().await;
        run
    }

    /// A local user tries something; whether the room lets them is the room's business.
    async fn act(&mut self, server: usize, kind: &str, key: Option<&str>, user: &OwnedUserId, content: serde_json::Value) {
        let sent = match key {
            Some(key) => self.world.set(server, &self.room, user, kind, key, content).await,
            None => self.world.say(server, &self.room, user, content["body"].as_str().unwrap()).await,
        };
        match sent {
            Ok(id) if !self.log[server].contains(&id) => self.log[server].push(id),
            Ok(_) | Err(EventError::Forbidden(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    async fn step(&mut self, number: usize) {
        let count = self.users.len();
        let server = self.rng.random_range(0..count);
        let user = self.users[server].choose(&mut self.rng).unwrap().clone();
        let anybody = self.users.choose(&mut self.rng).unwrap().choose(&mut self.rng).unwrap().clone();
        let membership = |m: &str| json!({ "membership": m, "displayname": format!("n{number}") });
        match self.rng.random_range(0..12) {
            0..=2 => self.act(server, "m.room.message", None, &user, json!({ "body": format!("{number}") })).await,
            3 | 4 => self.act(server, "m.room.topic", Some(""), &user, json!({ "topic": format!("{number}") })).await,
            5 => self.act(server, "m.room.member", Some(user.as_str()), &user, membership("join")).await,
            6 => {
                // The creator's server stays: somebody has to be there to compare with.
                let goes = anybody != self.users[0][0];
                let what = *["leave", "ban"].choose(&mut self.rng).unwrap();
                if goes && anybody.localpart() == "bob" {
                    self.act(server, "m.room.member", Some(anybody.as_str()), &user, membership(what)).await;
                }
            }
            7 => {
                let rule = *["public", "invite"].choose(&mut self.rng).unwrap();
                self.act(server, "m.room.join_rules", Some(""), &user, json!({ "join_rule": rule })).await;
            }
            8 => self.levels(server, &user, &anybody).await,
            9 => {
                let other = self.rng.random_range(0..count);
                let apart = self.rng.random_bool(0.6);
                if other != server {
                    self.world.network.set_cut(&self.world.servers[server].name, &self.world.servers[other].name, apart);
                }
            }
            _ => {
                let other = self.rng.random_range(0..count);
                self.give(server, other, false).await;
            }
        }
    }

    /// Changes somebody's power on top of what the server thinks the levels are.
    async fn levels(&mut self, server: usize, user: &OwnedUserId, of: &OwnedUserId) {
        let state = self.world.state(server, &self.room).await;
        let Some(now) = state.get(&("m.room.power_levels".into(), String::new())) else { return };
        let now: serde_json::Value = serde_json::from_str(&self.world.json(server, now).await).unwrap();
        let mut content = now["content"].clone();
        content["users"][of.as_str()] = json!(self.rng.random_range(0..60));
        if *of != self.users[0][0] {
            self.act(server, "m.room.power_levels", Some(""), user, content).await;
        }
    }

    /// Gives some of what one server sent, or all of it, to another, in any order.
    async fn give(&mut self, from: usize, to: usize, all: bool) {
        if from == to || self.world.network.is_cut(&self.world.servers[from].name, &self.world.servers[to].name) {
            return;
        }
        let given = self.given.entry((from, to)).or_default();
        let mut open: Vec<usize> = (0..self.log[from].len()).filter(|n| !given.contains(n)).collect();
        open.shuffle(&mut self.rng);
        if !all {
            open.truncate(self.rng.random_range(1..5));
        }
        open.truncate(50);
        given.extend(open.iter().copied());
        let mut events = Vec::new();
        for n in open {
            events.push(self.world.json(from, &self.log[from][n]).await);
        }
        if !events.is_empty() {
            self.world.deliver(from, to, events).await;
        }
    }

    /// Everybody can reach everybody, and what was missed is caught up with.
    async fn settle(&mut self) {
        self.world.network.heal();
        for _ in 0..3 {
            for from in 0..self.users.len() {
                for to in 0..self.users.len() {
                    self.give(from, to, true).await;
                }
            }
            self.world.clock.advance(48 * 3_600_000);
            for server in &self.world.servers {
                server.ingest.drain().await.unwrap();
            }
        }
    }

    /// After the last words everybody's room is the same.
    async fn check(&mut self, what: &str) {
        self.settle().await;
        // One message of each server, seen by all before the next speaks, ties the ends together.
        for server in 0..self.users.len() {
            let user = self.users[server][0].clone();
            self.act(server, "m.room.message", None, &user, json!({ "body": format!("last of {server}") })).await;
            self.settle().await;
        }
        let expected = self.world.state(0, &self.room).await;
        let ends = self.world.extremities(0, &self.room).await;
        for server in 0..self.users.len() {
            assert_eq!(self.world.waiting(server).await, 0, "{what}: {server} is done");
            let (nid, name) = (self.world.handle(server, &self.room).await.nid, self.world.servers[server].name.clone());
            if !self.world.servers[server].store.read(move |db| servers::is_in_room(db, nid, &name)).await.unwrap() {
                continue;
            }
            assert_eq!(self.world.extremities(server, &self.room).await, ends, "{what}: the ends at {server}");
            assert_eq!(self.world.state(server, &self.room).await, expected, "{what}: the state at {server}");
        }
    }
}

async fn simulate(seed: u64, servers: u8, steps: usize, version: RoomVersionId) {
    let mut run = Run::new(seed, servers, version.clone()).await;
    run.check(&format!("seed {seed}, {version}, at the start")).await;
    for number in 0..steps {
        run.step(number).await;
    }
    run.check(&format!("seed {seed}, {version}")).await;
}

#[tokio::test]
async fn partitions_heal_to_one_state_by_version_2_of_resolution() {
    for seed in 0..6 {
        simulate(seed, 3, 60, RoomVersionId::V10).await;
    }
}

#[tokio::test]
async fn partitions_heal_to_one_state_by_version_2_1_of_resolution() {
    for seed in 100..106 {
        simulate(seed, 3, 60, RoomVersionId::V12).await;
    }
}

#[tokio::test]
async fn more_servers_and_an_old_room_version_converge_as_well() {
    simulate(7, 5, 120, RoomVersionId::V5).await;
    simulate(8, 4, 80, RoomVersionId::V6).await;
}
