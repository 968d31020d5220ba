//! Power cuts, full disks and second instances: what the node has acknowledged, it keeps, and it says why when it cannot start.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    Home, Http, Person, ServedNode, eventually,
    http::{Address, encoded},
    node::{LocalNode, SERVER_NAME},
};

const PEOPLE: usize = 6;
const ANSWERS_BEFORE_KILL: usize = 120;

/// One message that was sent, whether or not an answer came.
struct Sent {
    body: String,
    transaction: String,
    event_id: Option<String>,
}

/// Sends into a room until the server is gone.
fn send_until_gone(mut http: Http, user_id: &str, room: &str, round: usize, answered: &AtomicUsize) -> Vec<Sent> {
    let mut sent = Vec::new();
    loop {
        let transaction = Person::transaction();
        let body = format!("round {round}, {user_id} says {}", sent.len());
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{transaction}", encoded(room));
        let content = json!({ "msgtype": "m.text", "body": body }).to_string();
        let answer = http.request("PUT", &path, "application/json", content.as_bytes());
        let event_id =
            answer.as_ref().ok().filter(|answer| answer.status == 200).map(|answer| answer.json()["event_id"].as_str().unwrap().to_owned());
        let gone = event_id.is_none();
        sent.push(Sent { body, transaction, event_id });
        if gone {
            return sent;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn bodies(history: &[Value]) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for event in history.iter().filter(|event| event["type"] == "m.room.message") {
        found
            .entry(event["content"]["body"].as_str().unwrap().to_owned())
            .or_default()
            .push(event["event_id"].as_str().unwrap().to_owned());
    }
    found
}

/// A person's session at a node that has got another address.
fn moved(person: &Person, address: Address) -> Person {
    let mut http = Http::new(address);
    http.token.clone_from(&person.http.token);
    Person { http, user_id: person.user_id.clone(), device_id: person.device_id.clone(), password: person.password.clone() }
}

#[test]
fn what_was_answered_before_a_kill_is_there_exactly_once() {
    let home = Home::new();
    let mut node = ServedNode::start(&home);
    let mut people: Vec<Person> = (0..PEOPLE).map(|number| node.person(&format!("person{number}"))).collect();
    // Two rooms: sends to one room wait for each other, sends to two do not.
    let rooms = [people[0].create_room(&json!({ "preset": "public_chat" })), people[1].create_room(&json!({ "preset": "public_chat" }))];
    for person in &mut people {
        rooms.iter().for_each(|room| person.join(room));
    }
    for round in 0..3 {
        let answered = AtomicUsize::new(0);
        let sent: Vec<(usize, Vec<Sent>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = people
                .iter()
                .enumerate()
                .map(|(number, person)| {
                    let (http, user_id, room, answered) = (person.http.another(), person.user_id.clone(), &rooms[number % 2], &answered);
                    (number, scope.spawn(move || send_until_gone(http, &user_id, room, round, answered)))
                })
                .collect();
            eventually("enough messages", || (answered.load(Ordering::Relaxed) >= ANSWERS_BEFORE_KILL).then_some(()));
            node.kill();
            workers.into_iter().map(|(number, worker)| (number, worker.join().unwrap())).collect()
        });
        node = ServedNode::start(&home);
        people = people.iter().map(|person| moved(person, node.address())).collect();
        let histories: Vec<_> = (0..2).map(|number| bodies(&people[number].history(&rooms[number]))).collect();
        for (number, sent) in &sent {
            let found = &histories[number % 2];
            for message in sent {
                let ids = found.get(&message.body).map_or(&[][..], Vec::as_slice);
                assert!(ids.len() <= 1, "{:?} is there {} times", message.body, ids.len());
                if let Some(event_id) = &message.event_id {
                    assert_eq!(ids, std::slice::from_ref(event_id), "{:?} was answered", message.body);
                }
            }
        }
        repeat_unanswered(&mut people, &rooms, &sent);
    }
    assert_eq!(node.terminate(), Some(0));
}

/// A client repeats what got no answer with the same transaction ID. Whether or not it had been stored: it is there once.
fn repeat_unanswered(people: &mut [Person], rooms: &[String; 2], sent: &[(usize, Vec<Sent>)]) {
    for (number, sent) in sent {
        let room = &rooms[number % 2];
        for message in sent.iter().filter(|message| message.event_id.is_none()) {
            let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", encoded(room), message.transaction);
            people[*number].http.put(&path, &json!({ "msgtype": "m.text", "body": message.body })).ok();
            let found = bodies(&people[*number].history(room));
            assert_eq!(found[&message.body].len(), 1, "{:?} was repeated", message.body);
        }
    }
}

#[test]
fn a_second_instance_on_the_same_data_is_refused() {
    let home = Home::new();
    let mut node = ServedNode::start(&home);
    let done = home.run(&["serve", "--server-name", SERVER_NAME]);
    assert_eq!(done.code(), 6, "{}", done.err());
    assert!(done.err().contains("runs this node already"), "{}", done.err());
    assert_eq!(done.out(), "");
    // The first one is none the worse for it, and its socket is still its own.
    node.person("ann");
    assert_eq!(node.terminate(), Some(0));
    ServedNode::start(&home);
}

#[test]
fn a_node_says_where_it_listens_and_stops_in_order() {
    let home = Home::new();
    let mut node = ServedNode::start(&home);
    assert_eq!(node.ready.lines().count(), 1);
    assert!(node.ready.contains(SERVER_NAME), "{}", node.ready);
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let event = ann.say(&room, "kept");
    assert_eq!(node.terminate(), Some(0));
    let node = ServedNode::start(&home);
    let mut ann = moved(&ann, node.address());
    assert_eq!(ann.history(&room).last().unwrap()["event_id"], event.as_str());
}

#[test]
fn data_of_a_newer_version_is_left_alone() {
    let home = Home::new();
    let dir = home.path().join("node");
    LocalNode::open(dir.clone()).unwrap().stop();
    let database = rusqlite::Connection::open(dir.join("node.db")).unwrap();
    database.pragma_update(None, "user_version", 9999).unwrap();
    drop(database);
    let before = std::fs::read(dir.join("node.db")).unwrap();
    let done = home.run(&["serve", "--server-name", SERVER_NAME, "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(done.code(), 1, "{}", done.err());
    assert!(done.err().contains("newer"), "{}", done.err());
    assert!(!done.err().contains("panicked"), "{}", done.err());
    assert_eq!(std::fs::read(dir.join("node.db")).unwrap(), before);
}

#[test]
fn a_node_keeps_its_name() {
    let home = Home::new();
    ServedNode::start(&home).terminate();
    let done = home.run(&["serve", "--server-name", "other.test"]);
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("home.test") && done.err().contains("other.test"), "{}", done.err());
}

#[test]
fn a_database_that_is_damaged_is_named() {
    let home = Home::new();
    let dir = home.path().join("node");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("node.db"), b"this is no database, whatever its name says").unwrap();
    let done = home.run(&["serve", "--server-name", SERVER_NAME, "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(done.code(), 1, "{}", done.err());
    assert!(done.err().contains("node.db"), "{}", done.err());
}

/// Writes until the node refuses, then checks that everything it had acknowledged is there, then and after a restart.
fn survives_full_disk(home: &Home, limited: Command, unlimited: &[&str], room_to_spare: impl FnOnce()) {
    let mut node = ServedNode::spawn(limited).unwrap_or_else(|error| panic!("serve did not start: {error}"));
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let mut answered = Vec::new();
    // Text that does not compress, or the limit would take long to reach.
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let refusal = loop {
        let text: String = (0..8000).map(|_| char::from(rand::Rng::random_range(&mut random, b'!'..b'~'))).collect();
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", encoded(&room), Person::transaction());
        let answer = ann.http.put(&path, &json!({ "msgtype": "m.text", "body": text }));
        if answer.status != 200 {
            break answer;
        }
        answered.push(answer.json()["event_id"].as_str().unwrap().to_owned());
        assert!(answered.len() < 20_000, "the disk does not fill up");
    };
    assert!(refusal.status >= 500 && refusal.errcode().starts_with("M_"), "{} {}", refusal.status, refusal.json());
    // Reading goes on.
    assert_eq!(ann.http.get("/_matrix/client/v3/account/whoami").status, 200);
    let known = |history: Vec<Value>| history.iter().filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    let history = known(ann.history(&room));
    assert!(answered.iter().all(|id| history.iter().filter(|other| *other == id).count() == 1), "acknowledged, then lost");
    node.kill();
    room_to_spare();
    let node = ServedNode::start_with(home, unlimited);
    let mut ann = moved(&ann, node.address());
    let history = known(ann.history(&room));
    assert!(answered.iter().all(|id| history.iter().filter(|other| *other == id).count() == 1), "acknowledged, then lost by a restart");
    ann.say(&room, "there is room again");
}

#[test]
fn files_that_may_not_grow_lose_nothing() {
    let home = Home::new();
    let serve =
        home.command(&["serve", "--server-name", SERVER_NAME, "--listen", "127.0.0.1:0", "--registration", "open", "--no-rate-limits"]);
    let mut limited = Command::new("bash");
    // 3 MiB for each file; a process that ignores the signal gets an error from the write instead, as from a full disk.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 3072; exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(Stdio::null());
    survives_full_disk(&home, limited, &[], || {});
}

/// A file system of its own that can be filled; only where the system lets us make one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(path).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let home = Home::new();
    let path = home.path().join("small");
    let Some(disk) = SmallDisk::mount(&path) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    let data = path.join("node");
    let data = data.to_str().unwrap();
    let serve = home.command(&[
        "serve",
        "--data-dir",
        data,
        "--server-name",
        SERVER_NAME,
        "--listen",
        "127.0.0.1:0",
        "--registration",
        "open",
        "--no-rate-limits",
    ]);
    survives_full_disk(&home, serve, &["--data-dir", data], || {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&path).status();
        assert!(grown.is_ok_and(|status| status.success()));
    });
    drop(disk);
}
