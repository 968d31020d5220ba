//! Long polls: nothing is missed, nobody is kept waiting for nothing, and the pieces add up.

use std::{collections::BTreeMap, time::Duration};

use super::*;

const SENDERS: usize = 4;
const EACH: usize = 40;

/// Waits through `/v3/sync` until it has seen so many messages.
async fn collect_v3(who: Client, room: String, mut token: Value, wanted: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < wanted {
        let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:500%7D%7D%7D";
        let answer = who.get(&format!("sync?since={}&timeout=60000&filter={filter}", token.as_str().unwrap())).await;
        token = answer["next_batch"].clone();
        seen.extend(bodies(&answer["rooms"]["join"][&room]["timeline"]["events"]).into_iter().map(str::to_owned));
    }
    seen
}

/// The same through sliding sync.
async fn collect_sliding(who: Client, room: String, mut pos: Value, wanted: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < wanted {
        let body = json!({ "room_subscriptions": { room.clone(): { "timeline_limit": 500, "required_state": [] } } });
        let (_, answer) = who.sliding(&format!("pos={}&timeout=60000", pos.as_str().unwrap()), body).await;
        pos = answer["pos"].clone();
        seen.extend(bodies(&answer["rooms"][&room]["timeline"]).into_iter().map(str::to_owned));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_missed_or_repeated_while_many_write() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let device = home.device("ann").await;
        let token = device.get("sync").await["next_batch"].clone();
        readers.push(tokio::spawn(collect_v3(device, room.clone(), token, SENDERS * EACH)));
        let device = home.device("ann").await;
        let body = json!({ "room_subscriptions": { room.clone(): { "timeline_limit": 500, "required_state": [] } } });
        let first = device.slide(None, body).await;
        readers.push(tokio::spawn(collect_sliding(device, room.clone(), first["pos"].clone(), SENDERS * EACH)));
    }
    let mut writers = Vec::new();
    for writer in 0..SENDERS {
        let (bob, room) = (home.device("bob").await, room.clone());
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                bob.say(&room, &format!("{writer}/{n}")).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut wanted: Vec<String> = (0..SENDERS).flat_map(|w| (0..EACH).map(move |n| format!("{w}/{n}"))).collect();
    wanted.sort();
    for reader in readers {
        // A lost wake-up would leave the reader waiting for a minute.
        let mut seen = tokio::time::timeout(Duration::from_secs(40), reader).await.expect("every wake-up arrives").unwrap();
        seen.sort();
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn a_timeout_is_obeyed_and_gives_a_usable_token() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let first = ann.get("sync").await;
    let second = ann.get(&format!("sync?since={}&timeout=1", first["next_batch"].as_str().unwrap())).await;
    assert!(second.get("rooms").is_none());
    ann.say(&room, "later").await;
    let third = ann.get(&format!("sync?since={}&timeout=60000", second["next_batch"].as_str().unwrap())).await;
    assert_eq!(bodies(&third["rooms"]["join"][&room]["timeline"]["events"]), ["later"]);
}

#[tokio::test]
async fn stopping_the_node_answers_who_waits() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let token = ann.get("sync").await["next_batch"].clone();
    let first = ann.slide(None, json!({})).await;
    let polls = [
        tokio::spawn({
            let (ann, token) = (ann.clone(), token.clone());
            async move {
                ann.call(Method::GET, &format!("/_matrix/client/v3/sync?since={}&timeout=300000", token.as_str().unwrap()), None).await
            }
        }),
        tokio::spawn(async move { ann.sliding(&format!("pos={}&timeout=300000", first["pos"].as_str().unwrap()), json!({})).await }),
    ];
    tokio::task::yield_now().await;
    home.server.node().tasks.shutdown().trigger();
    for poll in polls {
        let (status, _) = tokio::time::timeout(Duration::from_secs(60), poll).await.expect("an answer at once").unwrap();
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_device_that_is_signed_out_hears_nothing_more() {
    let home = Home::new().await;
    let (ann, stolen) = (home.user("ann").await, home.device("ann").await);
    let room = ann.create_room(json!({})).await;
    let token = stolen.get("sync").await["next_batch"].clone();
    let first = stolen.slide(None, json!({})).await;
    let polls = [
        tokio::spawn({
            let stolen = stolen.clone();
            let path = format!("/_matrix/client/v3/sync?since={}&timeout=300000", token.as_str().unwrap());
            async move { stolen.call(Method::GET, &path, None).await }
        }),
        tokio::spawn({
            let (stolen, query) = (stolen.clone(), format!("pos={}&timeout=300000", first["pos"].as_str().unwrap()));
            async move { stolen.sliding(&query, json!({})).await }
        }),
    ];
    tokio::task::yield_now().await;
    stolen.post("logout", json!({})).await;
    ann.say(&room, "secret").await;
    for poll in polls {
        let (status, answer) = tokio::time::timeout(Duration::from_secs(60), poll).await.expect("an answer at once").unwrap();
        assert_eq!((status, &answer["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNKNOWN_TOKEN")));
    }
}

type State = BTreeMap<(String, String), Value>;

fn apply(state: &mut State, events: &Value) {
    for event in events.as_array().into_iter().flatten() {
        if let Some(key) = event["state_key"].as_str() {
            state.insert((event["type"].as_str().unwrap().to_owned(), key.to_owned()), event["event_id"].clone());
        }
    }
}

/// The joined rooms' state as a client has it after applying an answer.
fn follow(rooms: &mut BTreeMap<String, State>, answer: &Value) {
    for (room, joined) in answer["rooms"]["join"].as_object().into_iter().flatten() {
        let state = rooms.entry(room.clone()).or_default();
        apply(state, &joined["state"]["events"]);
        apply(state, &joined["timeline"]["events"]);
        apply(state, &joined["state_after"]["events"]);
    }
    for (room, _) in answer["rooms"]["leave"].as_object().into_iter().flatten() {
        rooms.remove(room);
    }
}

/// One step of a random history.
async fn step(dice: &mut rand::rngs::StdRng, ann: &Client, bob: &Client, rooms: &mut Vec<String>) {
    use rand::Rng;
    let room = |dice: &mut rand::rngs::StdRng, rooms: &[String]| rooms[dice.random_range(0..rooms.len())].clone();
    match dice.random_range(0..8) {
        0 if rooms.len() < 4 => rooms.push(ann.create_room(json!({ "preset": "public_chat", "invite": [bob.id] })).await),
        1 => drop(bob.call(Method::POST, &format!("/_matrix/client/v3/join/{}", room(dice, rooms)), Some(json!({}))).await),
        2 => drop(bob.call(Method::POST, &format!("/_matrix/client/v3/rooms/{}/leave", room(dice, rooms)), Some(json!({}))).await),
        3 | 4 => {
            let (room, n) = (room(dice, rooms), dice.random_range(0..3));
            ann.set_state(&room, "m.test", &format!("k{n}"), json!({ "v": dice.random_range(0..1000) })).await;
        }
        5 => drop(ann.set_state(&room(dice, rooms), "m.room.topic", "", json!({ "topic": dice.random_range(0..1000).to_string() })).await),
        _ => drop(ann.say(&room(dice, rooms), "x").await),
    }
}

#[tokio::test]
async fn syncs_one_after_another_add_up_to_the_whole_state() {
    use rand::{Rng, SeedableRng};
    for seed in 0..4 {
        let home = Home::new().await;
        let (ann, bob) = (home.user("ann").await, home.user("bob").await);
        let mut dice = rand::rngs::StdRng::seed_from_u64(seed);
        let mut rooms = vec![ann.create_room(json!({ "preset": "public_chat" })).await];
        let forms = ["", "&use_state_after=true"];
        let mut followed = [BTreeMap::new(), BTreeMap::new()];
        let mut tokens = [None, None];
        for _ in 0..60 {
            step(&mut dice, &ann, &bob, &mut rooms).await;
            for (n, form) in forms.iter().enumerate() {
                if dice.random_range(0..3) == 0 {
                    let since: String = tokens[n].as_ref().map_or_else(String::new, |t: &String| format!("&since={t}"));
                    let limit = dice.random_range(1..4);
                    let filter = format!("%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:{limit}%7D%7D%7D");
                    let answer = bob.get(&format!("sync?filter={filter}{since}{form}")).await;
                    tokens[n] = Some(answer["next_batch"].as_str().unwrap().to_owned());
                    follow(&mut followed[n], &answer);
                }
            }
        }
        let mut whole = BTreeMap::new();
        follow(&mut whole, &bob.get("sync?use_state_after=true").await);
        for (n, form) in forms.iter().enumerate() {
            let since: String = tokens[n].as_ref().map_or_else(String::new, |t: &String| format!("&since={t}"));
            follow(&mut followed[n], &bob.get(&format!("sync?timeout=0{since}{form}")).await);
            assert_eq!(followed[n], whole, "seed {seed}, form {form:?}");
        }
    }
}

#[tokio::test]
async fn keys_that_are_claimed_end_a_wait_and_are_told() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let keys: serde_json::Map<String, Value> = (0..50).map(|n| (format!("signed_curve25519:{n}"), json!({ "key": "x" }))).collect();
    ann.post("keys/upload", json!({ "one_time_keys": keys })).await;
    let device = ann.get("account/whoami").await["device_id"].as_str().unwrap().to_owned();
    let token = ann.get("sync").await["next_batch"].as_str().unwrap().to_owned();
    let reader = {
        let ann = ann.clone();
        tokio::spawn(async move { ann.get(&format!("sync?since={token}&timeout=600000")).await })
    };
    // Claims until the wait ends: some come before it has begun, and those need not end it.
    for _ in 0..50 {
        if reader.is_finished() {
            break;
        }
        bob.post("keys/claim", json!({ "one_time_keys": { ann.id.clone(): { device.clone(): "signed_curve25519" } } })).await;
        tokio::task::yield_now().await;
    }
    let answer = tokio::time::timeout(Duration::from_secs(20), reader).await.expect("the wait ends").unwrap();
    assert!(answer["device_one_time_keys_count"]["signed_curve25519"].as_u64().unwrap() < 50);
}
