//! Unread counts beside a model of the push rules: whatever is sent and read, in whatever order.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{moved, slide, sync, text};
use crate::support::{LocalNode, Person, http::encoded};

const STEPS: usize = 120;

/// An event and what the default rules make of it for the one who reads.
struct Sent {
    id: String,
    /// The thread's root, or `main`.
    thread: String,
    notify: bool,
    highlight: bool,
    redacted: bool,
}

/// What is unread, by the specification's words: everything that notifies and lies after the receipts that apply to it, and after
/// what the reader has said in the thread.
#[derive(Default)]
struct Model {
    sent: Vec<Sent>,
    /// The place up to which everything is read.
    all: usize,
    /// The same by thread.
    threads: BTreeMap<String, usize>,
}

type Counts = BTreeMap<String, (u64, u64)>;

impl Model {
    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (place, sent) in self.sent.iter().enumerate() {
            let read = place < self.all || place < self.threads.get(&sent.thread).copied().unwrap_or(0);
            if !read && !sent.redacted {
                let count = counts.entry(sent.thread.clone()).or_default();
                count.0 += u64::from(sent.notify);
                count.1 += u64::from(sent.highlight);
            }
        }
        counts.retain(|_, count| *count != (0, 0));
        counts
    }

    fn sum(&self) -> (u64, u64) {
        self.counts().values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }
}

fn pair(counts: &Value) -> (u64, u64) {
    (counts["notification_count"].as_u64().unwrap(), counts["highlight_count"].as_u64().unwrap())
}

/// The counts as both forms of sync tell them.
fn told(bob: &mut Person, room: &str) -> (Counts, (u64, u64), (u64, u64)) {
    let by_thread = sync(&mut bob.http, None, 0, true)["rooms"]["join"][room].clone();
    let mut counts: Counts = by_thread["unread_thread_notifications"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(thread, count)| (thread.clone(), pair(count)))
        .collect();
    counts.insert("main".to_owned(), pair(&by_thread["unread_notifications"]));
    counts.retain(|_, count| *count != (0, 0));
    let together = pair(&sync(&mut bob.http, None, 0, false)["rooms"]["join"][room]["unread_notifications"]);
    let sliding = pair(&slide(&mut bob.http, None, None, 0).ok()["rooms"][room]);
    (counts, together, sliding)
}

/// Something that somebody says: its content and what it means to Bob. Not everybody may call the whole room.
fn something(random: &mut StdRng, bob: &str, number: usize, may_call: bool) -> (&'static str, Value, bool, bool) {
    let body = format!("line {number}");
    match random.random_range(0..8) {
        0 => ("m.room.message", json!({ "msgtype": "m.text", "body": body, "m.mentions": { "user_ids": [bob] } }), true, true),
        1 => ("m.room.message", json!({ "msgtype": "m.text", "body": body, "m.mentions": { "room": true } }), true, may_call),
        2 => ("m.room.message", json!({ "msgtype": "m.notice", "body": body }), false, false),
        3 => ("org.example.data", json!({ "body": body }), false, false),
        4 => ("m.room.encrypted", json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": body }), true, false),
        _ => ("m.room.message", json!({ "msgtype": "m.text", "body": body }), true, false),
    }
}

fn receipt(bob: &mut Person, room: &str, random: &mut StdRng, event_id: &str, thread: Option<&str>) {
    let kind = if random.random_bool(0.5) { "m.read" } else { "m.read.private" };
    let body = thread.map_or_else(|| json!({}), |thread| json!({ "thread_id": thread }));
    bob.http.post(&format!("/_matrix/client/v3/rooms/{}/receipt/{kind}/{}", encoded(room), encoded(event_id)), &body).ok();
}

#[test]
fn unread_counts_are_what_rules_receipts_and_redactions_make_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, mut bob, mut eve) = (node.person("ann"), node.person("bob"), node.person("eve"));
    // Three people, or the rules for two would apply.
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    bob.join(&room);
    eve.join(&room);
    let mut model = Model::default();
    let mut random = StdRng::seed_from_u64(7);
    let start = text(&bob.history(&room).last().unwrap()["event_id"]);
    receipt(&mut bob, &room, &mut random, &start, None);
    for step in 0..STEPS {
        let event = (!model.sent.is_empty()).then(|| random.random_range(0..model.sent.len()));
        match (random.random_range(0..10), event) {
            (0, Some(place)) => {
                let (id, thread) = (model.sent[place].id.clone(), model.sent[place].thread.clone());
                receipt(&mut bob, &room, &mut random, &id, Some(&thread));
                let read = model.threads.entry(thread).or_default();
                *read = (*read).max(place + 1);
            }
            (1, Some(place)) if random.random_bool(0.3) => {
                receipt(&mut bob, &room, &mut random, &model.sent[place].id.clone(), None);
                model.all = model.all.max(place + 1);
            }
            (2, Some(place)) if !model.sent[place].redacted => {
                let path = format!("/_matrix/client/v3/rooms/{}/redact/{}/r{step}", encoded(&room), encoded(&model.sent[place].id));
                ann.http.put(&path, &json!({})).ok();
                model.sent[place].redacted = true;
            }
            (3..=5, Some(place)) if model.sent[place].thread == "main" && !model.sent[place].redacted => {
                let root = model.sent[place].id.clone();
                let (kind, mut content, notify, highlight) = something(&mut random, &bob.user_id, step, false);
                content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
                let id = eve.send_event(&room, kind, &content);
                model.sent.push(Sent { id, thread: root, notify, highlight, redacted: false });
            }
            (6, Some(place)) if !model.sent[place].redacted => {
                // Reactions and edits notify nobody who is not mentioned.
                let target = model.sent[place].id.clone();
                let relation = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": target, "key": format!("{step}") } });
                ann.send_event(&room, "m.reaction", &relation);
            }
            (7, Some(place)) if random.random_bool(0.3) => {
                let thread = model.sent[place].thread.clone();
                let mut content = json!({ "msgtype": "m.text", "body": format!("Bob's line {step}") });
                if thread != "main" {
                    content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": thread });
                }
                bob.send_event(&room, "m.room.message", &content);
                model.threads.insert(thread, model.sent.len());
            }
            _ => {
                let (kind, content, notify, highlight) = something(&mut random, &bob.user_id, step, true);
                let id = ann.send_event(&room, kind, &content);
                model.sent.push(Sent { id, thread: "main".to_owned(), notify, highlight, redacted: false });
            }
        }
        if step % 4 == 0 {
            assert_eq!(told(&mut bob, &room), (model.counts(), model.sum(), model.sum()), "step {step}");
        }
    }
    assert!(model.counts().len() > 2, "threads are among what is unread: {:?}", model.counts());
    node.stop();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let mut bob = moved(&bob, node.address());
    assert_eq!(told(&mut bob, &room), (model.counts(), model.sum(), model.sum()), "after a restart");
}
