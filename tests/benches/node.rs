//! Measures `homeroom serve` beside what the machine allows: `cargo bench --bench node`.
//!
//! One line of figures. The floor is one HTTP round trip to a server that does nothing plus one durable SQLite commit, both
//! measured in the same run; a send cannot be quicker for one client that waits for each answer.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where its set-up fails")]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Home, Http, Person, ServedNode, eventually,
    http::{Address, encoded},
    proc, wait,
};

const ROUND_TRIPS: usize = 500;
const SENDS_ALONE: usize = 500;
const CLIENTS: usize = 8;
const SENDS_EACH: usize = 250;
const WAKE_UPS: usize = 100;
const TEXT: &str = "The kettle is on; who else wants tea, and does anybody know where the blue mugs have gone since Tuesday?";

fn main() {
    let home = Home::new();
    let round_trip = round_trip();
    let commit = commit(home.path());
    let floor = round_trip.p50 + commit.p50;

    let start = Instant::now();
    let node = ServedNode::start(&home);
    let status = Http::new(node.address()).get("/_matrix/client/versions").status;
    let started = start.elapsed();
    assert_eq!(status, 200);

    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let alone = sends(&mut ann, &room, SENDS_ALONE);

    // The rate is taken from the time that sends took: setting up the eight is not part of it.
    let together = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (node, room) = (&node, &room);
                scope.spawn(move || {
                    let mut person = node.person(&format!("client{number}"));
                    person.join(room);
                    sends(&mut person, room, SENDS_EACH)
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap().all).collect::<Vec<_>>()
    });

    let together = Figures::of(together);

    let wake = wake_ups(&node, &mut ann, &room);
    let events = SENDS_ALONE + CLIENTS * SENDS_EACH + WAKE_UPS;
    let before = proc::usage(node.pid()).unwrap();
    wait::pause(Duration::from_secs(5));
    let after = proc::usage(node.pid()).unwrap();
    let database = database_bytes(home.path());
    println!(
        "node: start to first answer {:.0} ms | floor {:.2} ms (round trip {:.2} + commit {:.2}) | 1 client {:.0} sends/s, p50 {:.2} ms \
         ({:.1} x floor), p99 {:.2} ms | {CLIENTS} clients {:.0} sends/s, p50 {:.2} ms, p99 {:.2} ms | send to sync p50 {:.2} ms, p99 {:.2} ms \
         | {events} events in {:.2} MiB ({:.0} bytes each) | memory {:.1} MiB, peak {:.1} MiB | idle {} ticks, {} switches in 5 s",
        ms(started),
        ms(floor),
        ms(round_trip.p50),
        ms(commit.p50),
        1.0 / alone.mean.as_secs_f64(),
        ms(alone.p50),
        alone.p50.as_secs_f64() / floor.as_secs_f64(),
        ms(alone.p99),
        CLIENTS as f64 / together.mean.as_secs_f64(),
        ms(together.p50),
        ms(together.p99),
        ms(wake.p50),
        ms(wake.p99),
        database as f64 / 1_048_576.0,
        database as f64 / events as f64,
        after.rss_kib as f64 / 1024.0,
        after.peak_kib as f64 / 1024.0,
        after.ticks - before.ticks,
        after.switches_since(&before),
    );
}

struct Figures {
    all: Vec<Duration>,
    mean: Duration,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        let mean = all.iter().sum::<Duration>() / u32::try_from(all.len()).unwrap();
        Self { mean, p50: all[all.len() / 2], p99: all[all.len() * 99 / 100], all }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One request and answer on a kept connection to a server that only counts lines.
fn round_trip() -> Figures {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line == "\r\n" {
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            }
            line.clear();
        }
    });
    let mut http = Http::new(Address::Tcp(address));
    Figures::of((0..ROUND_TRIPS).map(|_| timed(|| http.get("/").ok())).collect())
}

/// One row of a message's size in one durable transaction, as the node's store is set up.
fn commit(dir: &Path) -> Figures {
    let database = rusqlite::Connection::open(dir.join("floor.db")).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB);")
        .unwrap();
    let data = vec![7_u8; 600];
    Figures::of((0..ROUND_TRIPS).map(|_| timed(|| database.execute("INSERT INTO rows (data) VALUES (?1)", [&data]).unwrap())).collect())
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

fn sends(person: &mut Person, room: &str, count: usize) -> Figures {
    Figures::of((0..count).map(|_| timed(|| person.say(room, TEXT))).collect())
}

/// From the moment that a message is sent until somebody else's waiting sync has brought it.
fn wake_ups(node: &ServedNode, ann: &mut Person, room: &str) -> Figures {
    let mut bob = node.person("bob");
    bob.join(room);
    let (ready_in, ready) = mpsc::sync_channel(1);
    let (woken_in, woken) = mpsc::sync_channel(1);
    let listener = std::thread::spawn(move || {
        let mut since = bob.http.get("/_matrix/client/v3/sync?timeout=0").ok()["next_batch"].as_str().unwrap().to_owned();
        for _ in 0..WAKE_UPS {
            ready_in.send(()).unwrap();
            loop {
                let answer = bob.http.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={}", encoded(&since))).ok();
                let at = Instant::now();
                since = answer["next_batch"].as_str().unwrap().to_owned();
                let news = answer["rooms"]["join"].as_object().into_iter().flat_map(|rooms| rooms.values());
                if news
                    .flat_map(|room| room["timeline"]["events"].as_array().cloned().unwrap_or_default())
                    .any(|e| e["type"] == "m.room.message")
                {
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
        wait::pause(Duration::from_millis(20));
        let start = Instant::now();
        ann.say(room, TEXT);
        times.push(woken.recv().unwrap().saturating_duration_since(start));
    }
    listener.join().unwrap();
    Figures::of(times)
}

/// The node's database with its log, wherever it is below the home.
fn database_bytes(home: &Path) -> u64 {
    fn walk(dir: &Path, total: &mut u64) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, total);
            } else if path.file_name().is_some_and(|name| name == "node.db") {
                *total += entry.metadata().map_or(0, |data| data.len());
            }
        }
    }
    eventually("the node's database", || {
        let mut total = 0;
        walk(home, &mut total);
        (total > 0).then_some(total)
    })
}
