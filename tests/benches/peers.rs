//! Measures `homeroom serve` beside Synapse, on this machine in one run: `cargo bench --bench peers`.
//!
//! A table of figures with their ratio. Both servers are driven by the same plain client over loopback TCP, one after the other,
//! so that neither takes processor time from the other. `cargo test --bench peers` runs the same with small numbers.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where its set-up fails")]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    Home, Http, Person, ServedNode,
    http::{Address, encoded},
    peers::Synapse,
    proc, wait,
};

/// In a debug build the numbers mean nothing, so there are few of them.
const SMALL: bool = cfg!(debug_assertions);
const SENDS_ALONE: usize = if SMALL { 20 } else { 300 };
const CLIENTS: usize = 8;
const SENDS_EACH: usize = if SMALL { 5 } else { 100 };
const ROOMS: usize = if SMALL { 20 } else { 300 };
const WAKE_UPS: usize = if SMALL { 5 } else { 100 };
const TIMES: usize = if SMALL { 3 } else { 20 };
const PAGE: usize = 100;
const WINDOW: usize = 20;
const TEXT: &str = "The kettle is on; who else wants tea, and does anybody know where the blue mugs have gone since Tuesday?";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = Home::new();
    let mut node = ServedNode::start(&home);
    node.terminate();
    let start = Instant::now();
    node = ServedNode::start(&home);
    let ours = measure(&node.address(), node.pid(), start);
    drop(node);

    let mut synapse = runtime.block_on(Synapse::start()).unwrap();
    synapse.stop().unwrap();
    let start = Instant::now();
    runtime.block_on(synapse.start_again()).unwrap();
    let theirs = measure(&synapse.address(), synapse.pid(), start);

    println!("{:<44}{:>12}{:>12}{:>9}", "peers", "homeroom", "Synapse", "ratio");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // Above one is better than Synapse: less of everything but of what is done in a second.
        let ratio = if ours.0.ends_with("per second") { ours.1 / theirs.1 } else { theirs.1 / ours.1 };
        println!("{:<44}{:>12.2}{:>12.2}{ratio:>8.1}x", ours.0, ours.1, theirs.1);
    }
}

/// All figures of one server, in the same order for each.
fn measure(address: &Address, pid: u32, start: Instant) -> Vec<(&'static str, f64)> {
    assert_eq!(Http::new(address.clone()).get("/_matrix/client/versions").status, 200);
    let started = start.elapsed();
    let idle = memory(pid);

    let mut ann = Person::register(address.clone(), "ann");
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let alone = median((0..SENDS_ALONE).map(|_| timed(|| ann.say(&room, TEXT))).collect());
    let rate = sends_together(address, &room);
    let wake = wake_ups(address, &mut ann, &room);
    for number in 0..ROOMS {
        let own = ann.create_room(&json!({ "name": format!("room {number}") }));
        ann.say(&own, TEXT);
    }
    let sync = median((0..TIMES).map(|_| timed(|| ann.http.get("/_matrix/client/v3/sync?timeout=0").ok())).collect());
    let window = median((0..TIMES).map(|number| timed(|| slide(&mut ann, number))).collect());
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit={PAGE}", encoded(&room));
    let messages = median((0..TIMES).map(|_| timed(|| ann.http.get(&path).ok())).collect());
    let busy = proc::usage(pid).unwrap();
    vec![
        ("start to first answer, ms", ms(started)),
        ("send, one client, p50, ms", ms(alone)),
        ("sends of eight clients, per second", rate),
        ("send to another's waiting sync, p50, ms", ms(wake)),
        (if SMALL { "initial sync of 21 rooms, ms" } else { "initial sync of 301 rooms, ms" }, ms(sync)),
        ("sliding sync, first window of 20 rooms, ms", ms(window)),
        ("messages, a page of 100, ms", ms(messages)),
        ("memory when idle, MiB", idle),
        ("memory afterwards, MiB", busy.rss_kib as f64 / 1024.0),
        ("memory at its peak, MiB", busy.peak_kib as f64 / 1024.0),
    ]
}

fn memory(pid: u32) -> f64 {
    // What start-up leaves behind is freed, or not, within this time.
    wait::pause(Duration::from_secs(2));
    proc::usage(pid).unwrap().rss_kib as f64 / 1024.0
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Sends per second of several clients in one room.
fn sends_together(address: &Address, room: &str) -> f64 {
    let mut people: Vec<Person> = (0..CLIENTS).map(|number| Person::register(address.clone(), &format!("client{number}"))).collect();
    people.iter_mut().for_each(|person| person.join(room));
    let time = timed(|| {
        std::thread::scope(|scope| {
            for person in &mut people {
                scope.spawn(|| (0..SENDS_EACH).for_each(|_| drop(person.say(room, TEXT))));
            }
        });
    });
    (CLIENTS * SENDS_EACH) as f64 / time.as_secs_f64()
}

/// From the moment that a message is sent until somebody else's waiting sync has brought it.
fn wake_ups(address: &Address, ann: &mut Person, room: &str) -> Duration {
    let mut bob = Person::register(address.clone(), "bob");
    bob.join(room);
    let (ready_in, ready) = mpsc::sync_channel(1);
    let (woken_in, woken) = mpsc::sync_channel(1);
    let listener = std::thread::spawn(move || {
        let token = |answer: &Value| encoded(answer["next_batch"].as_str().unwrap());
        let mut since = token(&bob.http.get("/_matrix/client/v3/sync?timeout=0").ok());
        for _ in 0..WAKE_UPS {
            ready_in.send(()).unwrap();
            loop {
                let answer = bob.http.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={since}")).ok();
                let at = Instant::now();
                since = token(&answer);
                if answer.to_string().contains("m.room.message") {
                    woken_in.send(at).unwrap();
                    break;
                }
            }
        }
    });
    let mut times = Vec::new();
    for _ in 0..WAKE_UPS {
        ready.recv().unwrap();
        // The sync must be waiting at the server before the message is sent.
        wait::pause(Duration::from_millis(50));
        let start = Instant::now();
        ann.say(room, TEXT);
        times.push(woken.recv().unwrap().saturating_duration_since(start));
    }
    listener.join().unwrap();
    median(times)
}

/// What a client shows first, on a connection of its own.
fn slide(person: &mut Person, number: usize) -> Value {
    let required = json!([
        ["m.room.name", ""],
        ["m.room.avatar", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"]
    ]);
    let list = json!({ "ranges": [[0, WINDOW - 1]], "timeline_limit": 1, "required_state": required });
    let body = json!({ "conn_id": format!("bench{number}"), "lists": { "all": list } });
    let answer = person.http.post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0", &body).ok();
    assert_eq!(answer["rooms"].as_object().unwrap().len(), WINDOW);
    answer
}
