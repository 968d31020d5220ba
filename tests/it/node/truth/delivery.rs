//! Wake-ups, to-device messages, transactions and tokens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{messages, moved, slide, sync, text};
use crate::support::{Http, LocalNode, Person, http::encoded};

const ROOMS: usize = 3;
const WRITERS: usize = 5;
const EACH: usize = 40;
/// A client that waits this long with news at the server was not woken.
const WAIT_MS: u64 = 30_000;

/// What a syncer was told, room by room.
type Heard = BTreeMap<String, Vec<String>>;

fn total(heard: &Heard) -> usize {
    heard.values().map(Vec::len).sum()
}

fn hear(heard: &mut Heard, rooms: &Value, timeline: impl Fn(&Value) -> (Value, bool)) -> usize {
    let before = total(heard);
    for (id, room) in rooms.as_object().into_iter().flatten() {
        let (events, limited) = timeline(room);
        assert!(!limited, "a gap in {id}");
        heard.entry(id.clone()).or_default().extend(messages(&events));
    }
    total(heard) - before
}

/// Syncs until all messages are there. Every answer but those that tell of something else has to bring one.
fn listen(mut http: Http, since: String, all: usize) -> Heard {
    let (mut heard, mut since) = (Heard::new(), since);
    while total(&heard) < all {
        let started = std::time::Instant::now();
        let answer = sync(&mut http, Some(&since), WAIT_MS, false);
        let new =
            hear(&mut heard, &answer["rooms"]["join"], |room| (room["timeline"]["events"].clone(), room["timeline"]["limited"] == true));
        assert!(new > 0 || started.elapsed().as_millis() < u128::from(WAIT_MS), "a wake-up was lost after {} messages", total(&heard));
        since = text(&answer["next_batch"]);
    }
    heard
}

fn listen_sliding(mut http: Http, pos: String, all: usize) -> Heard {
    let (mut heard, mut pos) = (Heard::new(), pos);
    while total(&heard) < all {
        let started = std::time::Instant::now();
        let answer = slide(&mut http, Some(&pos), None, WAIT_MS).ok();
        let new = hear(&mut heard, &answer["rooms"], |room| (room["timeline"].clone(), room["limited"] == true));
        assert!(new > 0 || started.elapsed().as_millis() < u128::from(WAIT_MS), "a wake-up was lost after {} messages", total(&heard));
        pos = text(&answer["pos"]);
    }
    heard
}

#[test]
fn everybody_who_syncs_is_told_every_message_once_and_in_order_while_many_write() {
    let node = LocalNode::start();
    let mut people: Vec<Person> = (0..WRITERS).map(|number| node.person(&format!("writer{number}"))).collect();
    let rooms: Vec<String> = (0..ROOMS).map(|_| people[0].create_room(&json!({ "preset": "public_chat" }))).collect();
    for person in &mut people {
        rooms.iter().for_each(|room| person.join(room));
    }
    let all = WRITERS * EACH;
    // One person with four devices, and one who writes too: each connection is told everything.
    let mut listeners: Vec<Person> = (0..2).map(|_| Person::login(node.address(), "writer1", &people[1].password)).collect();
    listeners.push(Person::login(node.address(), "writer0", &people[0].password));
    let mut sliders: Vec<Person> = (0..3).map(|_| Person::login(node.address(), "writer1", &people[1].password)).collect();
    let since: Vec<String> = listeners.iter_mut().map(|who| text(&sync(&mut who.http, None, 0, false)["next_batch"])).collect();
    let pos: Vec<String> = sliders.iter_mut().map(|who| text(&slide(&mut who.http, None, None, 0).ok()["pos"])).collect();
    let heard: Vec<Heard> = std::thread::scope(|scope| {
        let mut told = Vec::new();
        for (who, since) in listeners.iter().zip(since) {
            let http = who.http.another();
            told.push(scope.spawn(move || listen(http, since, all)));
        }
        for (who, pos) in sliders.iter().zip(pos) {
            let http = who.http.another();
            told.push(scope.spawn(move || listen_sliding(http, pos, all)));
        }
        for person in &mut people {
            let rooms = &rooms;
            scope.spawn(move || {
                for number in 0..EACH {
                    let line = format!("{} says {number}", person.user_id);
                    person.say(&rooms[number % ROOMS], &line);
                }
            });
        }
        told.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (index, room) in rooms.iter().enumerate() {
        let written = messages(&Value::from(people[2].history(room)));
        assert_eq!(written.len(), WRITERS * (0..EACH).filter(|number| number % ROOMS == index).count());
        for (number, heard) in heard.iter().enumerate() {
            assert_eq!(heard[room], written, "syncer {number}");
        }
    }
}

fn send_to_device(from: &mut Person, to: &Person, number: usize) {
    let path = format!("/_matrix/client/v3/sendToDevice/org.example.number/{}", Person::transaction());
    let body = json!({ "messages": { to.user_id.clone(): { to.device_id.clone(): { "n": number } } } });
    from.http.put(&path, &body).ok();
}

fn numbers(events: &Value) -> Vec<u64> {
    events["events"].as_array().into_iter().flatten().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn messages_to_a_device_come_until_they_are_acknowledged_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let before = text(&sync(&mut bob.http, None, 0, false)["next_batch"]);
    for number in 0..250 {
        send_to_device(&mut ann, &bob, number);
    }
    let first = sync(&mut bob.http, Some(&before), 0, false);
    assert_eq!(numbers(&first["to_device"]), (0..100).collect::<Vec<_>>());
    node.stop();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let mut bob = moved(&bob, node.address());
    // Nothing was acknowledged: all of it again, by either form of sync.
    assert_eq!(numbers(&sync(&mut bob.http, Some(&before), 0, false)["to_device"]), (0..100).collect::<Vec<_>>());
    let sliding = slide(&mut bob.http, None, None, 0).ok();
    assert_eq!(numbers(&sliding["extensions"]["to_device"]), (0..100).collect::<Vec<_>>());
    let second = sync(&mut bob.http, first["next_batch"].as_str(), 0, false);
    assert_eq!(numbers(&second["to_device"]), (100..200).collect::<Vec<_>>());
    node.stop();
    // What was acknowledged stays so after another restart, and an answer that was lost comes again.
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let mut bob = moved(&bob, node.address());
    assert_eq!(numbers(&sync(&mut bob.http, first["next_batch"].as_str(), 0, false)["to_device"]), (100..200).collect::<Vec<_>>());
    let third = sync(&mut bob.http, second["next_batch"].as_str(), 0, false);
    assert_eq!(numbers(&third["to_device"]), (200..250).collect::<Vec<_>>());
    let since = text(&slide(&mut bob.http, None, None, 0).ok()["extensions"]["to_device"]["next_batch"]);
    assert_eq!(numbers(&sync(&mut bob.http, third["next_batch"].as_str(), 0, false)["to_device"]), Vec::<u64>::new());
    assert_eq!(numbers(&slide(&mut bob.http, None, Some(&since), 0).ok()["extensions"]["to_device"]), Vec::<u64>::new());
    assert_eq!(numbers(&sync(&mut bob.http, None, 0, false)["to_device"]), Vec::<u64>::new(), "gone for good");
}

#[test]
fn messages_to_a_device_come_once_and_in_order_while_they_are_sent() {
    const COUNT: usize = 300;
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let mut slider = Person::login(node.address(), "bob", &bob.password);
    let target = Person {
        http: slider.http.another(),
        user_id: slider.user_id.clone(),
        device_id: slider.device_id.clone(),
        password: String::new(),
    };
    let mut since = text(&sync(&mut bob.http, None, 0, false)["next_batch"]);
    let to_bob =
        Person { http: bob.http.another(), user_id: bob.user_id.clone(), device_id: bob.device_id.clone(), password: String::new() };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..COUNT {
                send_to_device(&mut ann, &to_bob, number);
                send_to_device(&mut ann, &target, number);
            }
        });
        let sliding = scope.spawn(move || {
            let (mut got, mut pos, mut acknowledged) = (Vec::new(), None, None);
            while got.len() < COUNT {
                let answer = slide(&mut slider.http, pos.as_deref(), acknowledged.as_deref(), WAIT_MS).ok();
                got.extend(numbers(&answer["extensions"]["to_device"]));
                (pos, acknowledged) = (Some(text(&answer["pos"])), Some(text(&answer["extensions"]["to_device"]["next_batch"])));
            }
            got
        });
        let mut got = Vec::new();
        while got.len() < COUNT {
            let answer = sync(&mut bob.http, Some(&since), WAIT_MS, false);
            got.extend(numbers(&answer["to_device"]));
            since = text(&answer["next_batch"]);
        }
        let wanted: Vec<u64> = (0..COUNT as u64).collect();
        assert_eq!(got, wanted);
        assert_eq!(sliding.join().unwrap(), wanted);
    });
}

#[test]
fn a_transaction_that_comes_many_times_at_once_and_after_a_restart_is_one_event() {
    let dir = tempfile::tempdir().unwrap();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({}));
    let victim = ann.say(&room, "to be redacted");
    let send = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/same", encoded(&room));
    let redact = format!("/_matrix/client/v3/rooms/{}/redact/{}/same", encoded(&room), encoded(&victim));
    let ping = "/_matrix/client/v3/sendToDevice/org.example.number/same";
    let body = json!({ "msgtype": "m.text", "body": "once" });
    let pings = json!({ "messages": { bob.user_id.clone(): { "*": { "n": 7 } } } });
    let repeat = |http: &mut Http| {
        let sent = text(&http.put(&send, &body).ok()["event_id"]);
        let redacted = text(&http.put(&redact, &json!({})).ok()["event_id"]);
        http.put(ping, &pings).ok();
        (sent, redacted)
    };
    let mut answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| ann.http.another()).map(|mut http| scope.spawn(move || repeat(&mut http))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    node.stop();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, mut bob) = (moved(&ann, node.address()), moved(&bob, node.address()));
    answers.push(repeat(&mut ann.http));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let history = ann.history(&room);
    assert_eq!(history.iter().filter(|event| event["content"]["body"] == "once").count(), 1);
    assert_eq!(history.iter().filter(|event| event["type"] == "m.room.redaction").count(), 1);
    assert_eq!(numbers(&sync(&mut bob.http, None, 0, false)["to_device"]), [7]);
    // Another device's transaction of the same name is another one.
    let mut phone = Person::login(node.address(), "ann", &ann.password);
    assert_ne!(text(&phone.http.put(&send, &body).ok()["event_id"]), answers[0].0);
}

#[test]
fn a_sync_goes_on_where_it_was_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    bob.join(&room);
    let since = text(&sync(&mut bob.http, None, 0, false)["next_batch"]);
    let pos = text(&slide(&mut bob.http, None, None, 0).ok()["pos"]);
    let before = ann.say(&room, "before");
    let typing = format!("/_matrix/client/v3/rooms/{}/typing/{}", encoded(&room), encoded(&ann.user_id));
    ann.http.put(&typing, &json!({ "typing": true, "timeout": 60_000 })).ok();
    assert!(sync(&mut bob.http, Some(&since), 0, false).to_string().contains("m.typing"));
    node.stop();
    let node = LocalNode::open(dir.path().to_path_buf()).unwrap();
    let (mut ann, mut bob) = (moved(&ann, node.address()), moved(&bob, node.address()));
    let after = ann.say(&room, "after");
    let answer = sync(&mut bob.http, Some(&since), WAIT_MS, false);
    let told = &answer["rooms"]["join"][&room];
    assert_eq!(messages(&told["timeline"]["events"]), [before.clone(), after.clone()]);
    assert_eq!(told["timeline"]["limited"], false);
    assert_eq!(told["unread_notifications"]["notification_count"], 2);
    // What was only in memory is gone, and what happens now is told all the same.
    assert!(!told.to_string().contains("m.typing"), "{told}");
    ann.http.put(&typing, &json!({ "typing": true, "timeout": 60_000 })).ok();
    let next = sync(&mut bob.http, answer["next_batch"].as_str(), WAIT_MS, false);
    assert_eq!(next["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"]["user_ids"], json!([ann.user_id]));
    // Sliding sync goes on as well, with what is new and no more.
    let on = slide(&mut bob.http, Some(&pos), None, 0).ok();
    assert_eq!(messages(&on["rooms"][&room]["timeline"]), [before.clone(), after.clone()]);
    assert_eq!(on["rooms"][&room].get("initial"), None);
    let unknown = slide(&mut bob.http, Some("s1_nonsense"), None, 0);
    assert_eq!((unknown.status, unknown.errcode().as_str()), (400, "M_UNKNOWN_POS"));
    // An old place to page from holds too.
    let page = bob.http.get(&format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=10&from={}", encoded(&room), encoded(&since))).ok();
    assert_eq!(messages(&page["chunk"]).len(), 2);
}
