//! Measures how fast a node takes in what another server sends, beside what the machine allows: `cargo bench --bench federation`.
//!
//! One line of figures. Another server sends events of several rooms, 50 in a transaction, and the node checks their signatures,
//! authorises them and stores them durably. The machine's limit is what has to be done for that in any case, measured alone in
//! the same run: one core checks the signatures, and every transaction is one durable commit of as many rows.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where its set-up fails")]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use homeroom::homeserver::{
    federation::request::Limits,
    rooms::build,
    store::{StoreError, rooms},
};
use http::Method;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomId, RoomVersionId, UserId,
    api::federation::membership::prepare_join_event::v1 as prepare_join,
    room_version_rules::RoomVersionRules,
    signatures::{PublicKeyMap, verify_event},
};
use serde_json::{Value, json};
use support::{
    federation::{Authority, FedNode},
    http::encoded,
};

/// Rooms that events come for.
const ROOMS: usize = 4;
/// Events of each.
const EVENTS: usize = 2500;
/// Events of a transaction: the most that there may be.
const PDUS: usize = 50;
const TEXT: &str = "The kettle is on; who else wants tea, and does anybody know where the blue mugs have gone since Tuesday?";

fn main() {
    let version = RoomVersionId::V11;
    let rules = version.rules().unwrap();
    let authority = Authority::new();
    let (node, other) = (FedNode::start(&authority), FedNode::start(&authority));
    let mut ann = node.person("ann");
    let rooms: Vec<Line> = (0..ROOMS)
        .map(|_| {
            let room = ann.create_room(&json!({ "preset": "public_chat", "room_version": version.as_str() }));
            Line::join(&node, &other, room, &rules)
        })
        .collect();
    let lines: Vec<Vec<CanonicalJsonObject>> = rooms.into_iter().map(|line| line.messages(&other, &rules)).collect();

    let all: Vec<&CanonicalJsonObject> = lines.iter().flatten().collect();
    let check = checks(&other, &all, &rules);
    let commit = commits(node.dir());
    let limit = 1.0 / (check.as_secs_f64() + commit.as_secs_f64() / PDUS as f64);

    let start = Instant::now();
    for number in 0..EVENTS / PDUS {
        for line in &lines {
            send(&node, &other, number, &line[number * PDUS..(number + 1) * PDUS]);
        }
    }
    let acknowledged = start.elapsed();
    let total = ROOMS * EVENTS;
    while stored(&node, &lines) < total {
        assert!(start.elapsed() < Duration::from_secs(600), "only {} of {total} events came", stored(&node, &lines));
        support::wait::pause(Duration::from_millis(20));
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    println!(
        "federation: {total} events of {ROOMS} rooms received at {rate:.0}/s, {:.2} of the limit of {limit:.0}/s (a signature {:.0} µs, \
         a commit of {PDUS} rows {:.2} ms) | acknowledged at {:.0}/s",
        rate / limit,
        check.as_secs_f64() * 1e6,
        commit.as_secs_f64() * 1e3,
        total as f64 / acknowledged.as_secs_f64(),
    );
}

/// A room that somebody of the other server is in.
struct Line {
    room: String,
    user: String,
    /// The last event.
    end: String,
    depth: i64,
    auth: Vec<String>,
}

impl Line {
    fn join(node: &FedNode, other: &FedNode, room: String, rules: &RoomVersionRules) -> Self {
        let user = format!("@eve:{}", other.name());
        let mut request = prepare_join::Request::new(RoomId::parse(&room).unwrap(), UserId::parse(&user).unwrap());
        request.ver = vec![RoomVersionId::V11];
        let answer = other.wait(other.node().federation.client.request(node.name(), request)).unwrap();
        let template: Value = serde_json::from_str(answer.event.get()).unwrap();
        let (event, id) = sign(other, template.clone(), rules);
        let path = format!("/_matrix/federation/v2/send_join/{}/{}", encoded(&room), encoded(&id));
        put(node, other, &path, &event);
        let auth = template["auth_events"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        // Of what authorises a join, the rule for joining authorises no message.
        let rule = node_state(node, &room, "m.room.join_rules");
        let auth = auth.filter(|auth| *auth != rule).chain([id.clone()]).collect();
        Self { room, user, end: id, depth: template["depth"].as_i64().unwrap(), auth }
    }

    /// Messages that follow each other.
    fn messages(mut self, other: &FedNode, rules: &RoomVersionRules) -> Vec<CanonicalJsonObject> {
        let mut made = Vec::with_capacity(EVENTS);
        for _ in 0..EVENTS {
            self.depth += 1;
            let (event, id) = sign(
                other,
                json!({
                    "type": "m.room.message", "room_id": self.room, "sender": self.user, "content": { "msgtype": "m.text", "body": TEXT },
                    "depth": self.depth, "origin_server_ts": 1_790_000_000_000_i64 + self.depth, "prev_events": [self.end],
                    "auth_events": self.auth,
                }),
                rules,
            );
            self.end = id;
            made.push(event);
        }
        made
    }
}

fn sign(other: &FedNode, event: Value, rules: &RoomVersionRules) -> (CanonicalJsonObject, String) {
    let CanonicalJsonValue::Object(mut event) = CanonicalJsonValue::try_from(event).unwrap() else { panic!("no object") };
    other.node().key.sign_event(other.name().as_str(), &mut event, &rules.redaction).unwrap();
    let id = build::event_id(&event, rules).unwrap().to_string();
    (event, id)
}

fn put(node: &FedNode, other: &FedNode, path: &str, body: &impl serde::Serialize) {
    let body = serde_json::to_vec(body).unwrap();
    let client = &other.node().federation.client;
    other.wait(client.raw(node.name(), Method::PUT, path, Some(body), Limits::ORDINARY.insisting())).unwrap();
}

fn send(node: &FedNode, other: &FedNode, number: usize, events: &[CanonicalJsonObject]) {
    let room = events[0]["room_id"].as_str().unwrap();
    let body = json!({ "origin": other.name(), "origin_server_ts": 1_790_000_000_000_i64, "pdus": events, "edus": [] });
    put(node, other, &format!("/_matrix/federation/v1/send/{}", encoded(&format!("{number}{room}"))), &body);
}

/// The ID of an event of a room's state.
fn node_state(node: &FedNode, room: &str, kind: &'static str) -> String {
    use homeroom::homeserver::store::{events, state};
    let room = RoomId::parse(room).unwrap();
    let found = node.node().store.read(move |db| {
        let room = rooms::by_id(db, &room)?.unwrap();
        events::id_of(db, state::current(db, room.nid, kind, "")?.unwrap())
    });
    node.wait(found).unwrap().to_string()
}

/// How many of the events have a place in their rooms.
fn stored(node: &FedNode, lines: &[Vec<CanonicalJsonObject>]) -> usize {
    let rooms: Vec<_> = lines.iter().map(|line| RoomId::parse(line[0]["room_id"].as_str().unwrap()).unwrap()).collect();
    let count = node.node().store.read(move |db| {
        let mut count = 0;
        for id in rooms {
            let room = rooms::by_id(db, &id)?.unwrap();
            count += db.query_row(
                "SELECT count(*) FROM events WHERE room_nid = ?1 AND type = 'm.room.message' AND stream_pos IS NOT NULL AND rejected IS NULL
                 AND soft_failed = 0",
                [room.nid.0],
                |row| row.get::<_, i64>(0),
            )?;
        }
        Ok::<_, StoreError>(count)
    });
    usize::try_from(node.wait(count).unwrap()).unwrap()
}

/// Time for one signature with its hashes, on one core.
fn checks(other: &FedNode, events: &[&CanonicalJsonObject], rules: &RoomVersionRules) -> Duration {
    let key = &other.node().key;
    let name = other.name().to_string();
    let signed = events[0]["signatures"].as_object().unwrap()[&name].as_object().unwrap();
    let id = signed.keys().next().unwrap().clone();
    let mut keys = PublicKeyMap::new();
    keys.entry(name).or_default().insert(id, ruma::serde::Base64::new(key.public_key().to_vec()));
    let start = Instant::now();
    for event in events {
        verify_event(&keys, event, rules).unwrap();
    }
    start.elapsed() / u32::try_from(events.len()).unwrap()
}

/// Time for a durable commit of a transaction's rows, as the node's store is set up.
fn commits(dir: &Path) -> Duration {
    const COMMITS: u32 = 100;
    let mut database = rusqlite::Connection::open(dir.join("floor.db")).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB);")
        .unwrap();
    let data = vec![7_u8; 600];
    let start = Instant::now();
    for _ in 0..COMMITS {
        let transaction = database.transaction().unwrap();
        for _ in 0..PDUS {
            transaction.prepare_cached("INSERT INTO rows (data) VALUES (?1)").unwrap().execute([&data]).unwrap();
        }
        transaction.commit().unwrap();
    }
    start.elapsed() / COMMITS
}
