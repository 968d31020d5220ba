//! Measures the program as a person has it, screen and node in one process: `cargo bench --bench screen`.
//!
//! One line of figures. The home has 1,000 rooms and one room of 3,000 messages; everything goes through the real binary in
//! a pseudo-terminal of 120x40.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where its set-up fails")]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Home, Http, Person, ServedNode, Terminal,
    http::Address,
    proc::{self, Usage},
    pty::key,
    wait,
};

const ROOMS: usize = 1000;
const MESSAGES: usize = 3000;
const KEYS: usize = 60;
const ARRIVALS: usize = 30;
const IDLE: Duration = Duration::from_secs(30);
const COLUMNS: u16 = 120;
const ROWS: u16 = 40;
const LONG: &str = "Long history";

fn main() {
    let home = Home::new();
    let (ann, mut bob, long) = fill(&home);
    let password = home.path().join("password");
    std::fs::write(&password, &ann.password).unwrap();
    let done = home.run(&["login", &ann.user_id, "--password-file", password.to_str().unwrap()]);
    assert_eq!(done.code(), 0, "{}", done.err());

    // The first run fetches the rooms; what is measured is the second.
    let mut terminal = open(&home);
    let first_run = terminal.wait("the newest rooms", |screen| screen.contents().contains(LONG));
    terminal.wait_quiet(Duration::from_secs(3));
    quit(&mut terminal);

    let start = Instant::now();
    let mut terminal = open(&home);
    terminal.wait("the newest rooms", |screen| screen.contents().contains(LONG));
    let cold = start.elapsed();
    terminal.wait_quiet(Duration::from_secs(3));

    let start = Instant::now();
    terminal.keys(&key::ctrl('k'));
    terminal.keys(LONG);
    terminal.wait("the switcher", |screen| screen.contents().matches(LONG).count() >= 2);
    terminal.keys(key::ENTER);
    // The newest one stands in the room list as well; the one before it only in the timeline.
    terminal.wait_text(&message(MESSAGES - 1));
    let last = start.elapsed();
    terminal.wait_quiet(Duration::from_secs(2));

    let (key_times, key_bytes) = typing(&terminal);
    terminal.keys(&key::ctrl('u'));
    terminal.wait_quiet(Duration::from_secs(1));
    let token = bob.http.token.take();
    bob.http = Http::new(Address::Socket(socket(&home)));
    bob.http.token = token;
    let (arrival_times, arrival_bytes) = arriving(&terminal, &mut bob, &long);
    terminal.wait_quiet(Duration::from_secs(3));

    let before = (proc::usage(terminal.pid()).unwrap(), terminal.bytes());
    wait::pause(IDLE);
    let after = (proc::usage(terminal.pid()).unwrap(), terminal.bytes());

    let start = Instant::now();
    terminal.keys("\x1b[1;5H");
    terminal.wait_within(Duration::from_secs(200), "the first message", |screen| screen.contents().contains(&message(1)));
    let first = start.elapsed();
    let end = proc::usage(terminal.pid()).unwrap();
    quit(&mut terminal);
    report(&Report { first_run, cold, last, key_times, key_bytes, arrival_times, arrival_bytes, before, after, first, end });
}

struct Report {
    first_run: Duration,
    cold: Duration,
    last: Duration,
    key_times: Vec<Duration>,
    key_bytes: u64,
    arrival_times: Vec<Duration>,
    arrival_bytes: u64,
    before: (Usage, u64),
    after: (Usage, u64),
    first: Duration,
    end: Usage,
}

fn report(report: &Report) {
    let (before, after) = (&report.before, &report.after);
    println!(
        "screen: {ROOMS} rooms first run {:.0} ms, cold start {:.0} ms | last of {MESSAGES} messages {:.0} ms, first one {:.0} ms | key to frame \
         p50 {:.2} ms, p99 {:.2} ms, {} bytes | arriving message p50 {:.1} ms, p99 {:.1} ms, {} bytes | memory {:.1} MiB idle, {:.1} MiB with \
         all history, peak {:.1} MiB | idle {} s: {} ms of processor, {} switches, {} bytes",
        ms(report.first_run),
        ms(report.cold),
        ms(report.last),
        ms(report.first),
        ms(quantile(&report.key_times, 50)),
        ms(quantile(&report.key_times, 99)),
        report.key_bytes,
        ms(quantile(&report.arrival_times, 50)),
        ms(quantile(&report.arrival_times, 99)),
        report.arrival_bytes,
        before.0.rss_kib as f64 / 1024.0,
        report.end.rss_kib as f64 / 1024.0,
        report.end.peak_kib as f64 / 1024.0,
        IDLE.as_secs(),
        (after.0.ticks - before.0.ticks) * 10,
        after.0.switches_since(&before.0),
        after.1 - before.1,
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

fn message(number: usize) -> String {
    format!("message number {number:04}.")
}

fn socket(home: &Home) -> PathBuf {
    home.path().join("data/default/node/node.sock")
}

fn open(home: &Home) -> Terminal {
    Terminal::start_with(home, &[], COLUMNS, ROWS, &[])
}

fn quit(terminal: &mut Terminal) {
    terminal.keys(&key::ctrl('q'));
    terminal.wait_exit();
    terminal.assert_restored();
}

/// Makes the rooms with a node of the profile's own, which is stopped afterwards.
fn fill(home: &Home) -> (Person, Person, String) {
    let mut node = ServedNode::start(home);
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let workers = 4;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let mut bob = copy(&bob);
            let ann = &ann.user_id;
            scope.spawn(move || {
                for number in (worker..ROOMS - 1).step_by(workers) {
                    let room = bob.create_room(&json!({ "preset": "private_chat", "name": format!("Room {number:04}"), "invite": [ann] }));
                    bob.say(&room, &format!("Welcome to room {number:04}"));
                }
            });
        }
    });
    let invited = ann.http.get("/_matrix/client/v3/sync?timeout=0").ok();
    let rooms: Vec<String> = invited["rooms"]["invite"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(rooms.len(), ROOMS - 1);
    std::thread::scope(|scope| {
        for part in rooms.chunks(rooms.len().div_ceil(workers)) {
            let mut ann = copy(&ann);
            scope.spawn(move || part.iter().for_each(|room| ann.join(room)));
        }
    });
    let long = bob.create_room(&json!({ "preset": "public_chat", "name": LONG }));
    ann.join(&long);
    for number in 1..=MESSAGES {
        let filler = "and some more words ".repeat(number % 5);
        bob.say(&long, &format!("{} {filler}", message(number)));
    }
    assert_eq!(node.terminate(), Some(0));
    (ann, bob, long)
}

fn copy(person: &Person) -> Person {
    Person {
        http: person.http.another(),
        user_id: person.user_id.clone(),
        device_id: person.device_id.clone(),
        password: person.password.clone(),
    }
}

/// Types into the composer: how long until each character is on the screen, and how many bytes it took.
fn typing(terminal: &Terminal) -> (Vec<Duration>, u64) {
    let mut times = Vec::new();
    let mut typed = String::new();
    let before = terminal.bytes();
    for number in 0..KEYS {
        let character = char::from(b'a' + u8::try_from(number % 26).unwrap());
        typed.push(character);
        let wanted: String = typed.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
        let start = Instant::now();
        terminal.keys(&character.to_string());
        terminal.wait("the typed character", |screen| screen.contents().contains(&wanted));
        times.push(start.elapsed());
        // At most one frame is drawn in 16 ms: people do not type faster than that either.
        wait::pause(Duration::from_millis(30));
    }
    (times, (terminal.bytes() - before) / KEYS as u64)
}

/// Messages from somebody else into the open room: from the start of the request until it is on the screen.
fn arriving(terminal: &Terminal, bob: &mut Person, room: &str) -> (Vec<Duration>, u64) {
    let mut times = Vec::new();
    let before = terminal.bytes();
    for number in 0..ARRIVALS {
        let text = format!("news {number:03}");
        let start = Instant::now();
        bob.say(room, &text);
        terminal.wait("the new message", |screen| screen.contents().contains(&text));
        times.push(start.elapsed());
        wait::pause(Duration::from_millis(200));
    }
    (times, (terminal.bytes() - before) / ARRIVALS as u64)
}
