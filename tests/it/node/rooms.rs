//! Rooms over HTTP: creation, membership, sending, state, timelines, relations, visibility, directory, spaces, upgrades.

use serde_json::{Value, json};

use crate::support::{
    Person,
    http::{Answer, encoded},
    node::LocalNode,
};

fn room_path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encoded(room))
}

fn v1_path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/{rest}", encoded(room))
}

fn get(who: &mut Person, room: &str, rest: &str) -> Answer {
    who.http.get(&room_path(room, rest))
}

fn post(who: &mut Person, room: &str, rest: &str, body: &Value) -> Answer {
    who.http.post(&room_path(room, rest), body)
}

fn put(who: &mut Person, room: &str, rest: &str, body: &Value) -> Answer {
    who.http.put(&room_path(room, rest), body)
}

#[track_caller]
fn refused(answer: &Answer, status: u16, errcode: &str) {
    assert_eq!((answer.status, answer.errcode().as_str()), (status, errcode), "{}", String::from_utf8_lossy(&answer.body));
}

fn bodies(events: &[Value]) -> Vec<String> {
    events.iter().filter_map(|event| event["content"]["body"].as_str().map(ToOwned::to_owned)).collect()
}

fn state(who: &mut Person, room: &str, kind: &str) -> Value {
    get(who, room, &format!("state/{kind}")).ok()
}

const VERSIONS: [&str; 10] = ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

#[test]
fn a_conversation_works_in_every_room_version() {
    let node = LocalNode::start();
    let (mut ann, mut bob, mut eve) = (node.person("ann"), node.person("bob"), node.person("eve"));
    for version in VERSIONS {
        let room = ann.create_room(&json!({ "room_version": version, "name": "talk", "invite": [bob.user_id] }));
        assert_eq!(room.contains(':'), version != "12", "{room}");
        bob.join(&room);
        let event = bob.say(&room, "hello");
        let redaction = put(&mut ann, &room, &format!("redact/{}/t{version}", encoded(&event)), &json!({ "reason": "why not" })).ok();
        let shown = get(&mut bob, &room, &format!("event/{}", encoded(&event))).ok();
        assert_eq!(shown["content"], json!({}), "{version}");
        assert_eq!(shown["unsigned"]["redacted_because"]["event_id"], redaction["event_id"]);
        assert_eq!(shown["unsigned"]["redacted_because"]["content"]["redacts"], json!(event));
        assert_eq!(shown["unsigned"]["redacted_because"]["redacts"], json!(event));
        assert_eq!(state(&mut bob, &room, "m.room.create")["room_version"], version);
        refused(&post(&mut eve, &room, "join", &json!({})), 403, "M_FORBIDDEN");
        refused(&put(&mut eve, &room, "send/m.room.message/x", &json!({ "body": "let me in" })), 403, "M_FORBIDDEN");
        refused(&get(&mut eve, &room, "messages?dir=b"), 403, "M_FORBIDDEN");
        refused(&get(&mut eve, &room, "state"), 403, "M_FORBIDDEN");
        refused(&get(&mut eve, &room, &format!("event/{}", encoded(&event))), 404, "M_NOT_FOUND");
    }
    let answer = ann.http.post("/_matrix/client/v3/createRoom", &json!({ "room_version": "97" }));
    refused(&answer, 400, "M_UNSUPPORTED_ROOM_VERSION");
}

#[test]
fn the_default_room_has_version_12_and_its_creator_stands_above_everybody() {
    let node = LocalNode::start();
    let (mut ann, bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "trusted_private_chat", "invite": [bob.user_id] }));
    let create = get(&mut ann, &room, "state/m.room.create/?format=event").ok();
    assert_eq!(create["content"]["room_version"], "12");
    assert_eq!(create["content"]["additional_creators"], json!([bob.user_id]));
    assert_eq!(create["event_id"].as_str().unwrap()[1..], room[1..]);
    let mut levels = state(&mut ann, &room, "m.room.power_levels");
    assert_eq!(levels["users"], json!({}));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);
    levels["users"] = json!({ ann.user_id.clone(): 100 });
    refused(&put(&mut ann, &room, "state/m.room.power_levels", &levels), 400, "M_BAD_JSON");
}

#[test]
fn two_rooms_made_in_the_same_moment_are_two_rooms() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let rooms: std::collections::BTreeSet<String> = (0..20).map(|_| ann.create_room(&json!({}))).collect();
    assert_eq!(rooms.len(), 20);
    let joined = ann.http.get("/_matrix/client/v3/joined_rooms").ok();
    assert_eq!(joined["joined_rooms"].as_array().unwrap().len(), 20);
}

#[test]
fn presets_initial_state_and_overrides_shape_the_room() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({
        "preset": "public_chat", "name": "Café", "topic": "coffee", "room_alias_name": "cafe", "visibility": "public",
        "creation_content": { "type": "m.space", "room_version": "1", "custom": { "a": 1 } },
        "power_level_content_override": { "events_default": 10 },
        "initial_state": [{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } },
                          { "type": "org.example", "state_key": "k", "content": { "x": 1 } }],
    }));
    assert_eq!(state(&mut ann, &room, "m.room.join_rules")["join_rule"], "public");
    assert_eq!(state(&mut ann, &room, "m.room.history_visibility")["history_visibility"], "world_readable");
    assert_eq!(state(&mut ann, &room, "m.room.guest_access")["guest_access"], "forbidden");
    assert_eq!(state(&mut ann, &room, "m.room.power_levels")["events_default"], 10);
    assert_eq!(state(&mut ann, &room, "m.room.name")["name"], "Café");
    assert_eq!(state(&mut ann, &room, "m.room.topic")["topic"], "coffee");
    assert_eq!(state(&mut ann, &room, "m.room.canonical_alias")["alias"], "#cafe:home.test");
    assert_eq!(state(&mut ann, &room, "org.example/k")["x"], 1);
    let create = state(&mut ann, &room, "m.room.create");
    assert_eq!((&create["type"], &create["room_version"], &create["custom"]["a"]), (&json!("m.space"), &json!("12"), &json!(1)));
    let create = |body: Value, ann: &mut Person| ann.http.post("/_matrix/client/v3/createRoom", &body);
    refused(&create(json!({ "room_alias_name": "cafe" }), &mut ann), 400, "M_ROOM_IN_USE");
    refused(&create(json!({ "room_alias_name": "a b" }), &mut ann), 400, "M_INVALID_PARAM");
    refused(&create(json!({ "preset": "unheard_of" }), &mut ann), 400, "M_INVALID_PARAM");
    let creator = json!({ "power_level_content_override": { "users": { ann.user_id.clone(): 100 } } });
    refused(&create(creator, &mut ann), 400, "M_INVALID_ROOM_STATE");
    let twice = json!({ "initial_state": [{ "type": "m.room.create", "content": {} }] });
    refused(&create(twice, &mut ann), 400, "M_INVALID_ROOM_STATE");
    // Nothing is left behind by what failed.
    assert_eq!(ann.http.get("/_matrix/client/v3/joined_rooms").ok()["joined_rooms"], json!([room]));
}

#[test]
fn a_repeated_transaction_sends_nothing_again_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let node = LocalNode::open(path.clone()).unwrap();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let body = json!({ "msgtype": "m.text", "body": "once" });
    let first = put(&mut ann, &room, "send/m.room.message/txn1", &body).ok();
    assert_eq!(put(&mut ann, &room, "send/m.room.message/txn1", &body).ok(), first);
    let event = first["event_id"].as_str().unwrap().to_owned();
    let redact = format!("redact/{}/txn1", encoded(&event));
    assert_ne!(put(&mut ann, &room, &redact, &json!({})).ok(), first);
    let other = ann.create_room(&json!({}));
    assert_ne!(put(&mut ann, &other, "send/m.room.message/txn1", &body).ok(), first);
    let token = ann.http.token.clone();
    drop(ann);
    node.stop();
    let node = LocalNode::open(path).unwrap();
    let mut http = node.http();
    http.token = token;
    assert_eq!(http.put(&room_path(&room, "send/m.room.message/txn1"), &body).ok(), first);
    let page = http.get(&room_path(&room, "messages?dir=b&limit=100")).ok();
    let messages = page["chunk"].as_array().unwrap().iter().filter(|event| event["type"] == "m.room.message").count();
    assert_eq!(messages, 1);
}

#[test]
fn the_transaction_id_is_told_to_the_sending_device_alone() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let sent = put(&mut ann, &room, "send/m.room.message/mine", &json!({ "body": "x" })).ok();
    let path = format!("event/{}", encoded(sent["event_id"].as_str().unwrap()));
    assert_eq!(get(&mut ann, &room, &path).ok()["unsigned"]["transaction_id"], "mine");
    let mut phone = Person::login(node.address(), "ann", &ann.password);
    let shown = get(&mut phone, &room, &path).ok();
    assert_eq!(shown["unsigned"]["transaction_id"], Value::Null);
    assert_eq!(shown["unsigned"]["membership"], "join");
}

#[test]
fn state_that_is_the_same_already_makes_no_event() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let first = put(&mut ann, &room, "state/m.room.topic", &json!({ "topic": "tea" })).ok();
    assert_eq!(put(&mut ann, &room, "state/m.room.topic/", &json!({ "topic": "tea" })).ok(), first);
    let second = put(&mut ann, &room, "state/m.room.topic", &json!({ "topic": "coffee" })).ok();
    assert_ne!(second, first);
    let event = get(&mut ann, &room, "state/m.room.topic?format=event").ok();
    assert_eq!(event["unsigned"]["prev_content"]["topic"], "tea");
    assert_eq!(event["unsigned"]["replaces_state"], first["event_id"]);
    refused(&get(&mut ann, &room, "state/m.room.avatar"), 404, "M_NOT_FOUND");
    refused(&put(&mut ann, &room, "state/m.room.create", &json!({})), 400, "M_BAD_JSON");
    refused(&put(&mut ann, &room, "state/org.example/@other:home.test", &json!({})), 403, "M_FORBIDDEN");
}

#[test]
fn what_cannot_be_an_event_is_refused_with_the_right_code() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    refused(&put(&mut ann, &room, "send/m.room.message/1", &json!({ "body": 1.5 })), 400, "M_BAD_JSON");
    refused(&put(&mut ann, &room, "send/m.room.message/2", &json!([1])), 400, "M_BAD_JSON");
    refused(&put(&mut ann, &room, "send/m.room.message/3", &json!({ "body": "x".repeat(66_000) })), 413, "M_TOO_LARGE");
    refused(&put(&mut ann, &room, &format!("send/{}/4", "t".repeat(256)), &json!({})), 413, "M_TOO_LARGE");
    refused(&put(&mut ann, &room, &format!("state/t/{}", "k".repeat(256)), &json!({})), 413, "M_TOO_LARGE");
    let answer = ann.http.request("PUT", &room_path(&room, "send/m.room.message/5"), "application/json", b"{nonsense").unwrap();
    refused(&answer, 400, "M_NOT_JSON");
    refused(&put(&mut ann, "!nowhere:home.test", "send/m.room.message/6", &json!({})), 403, "M_FORBIDDEN");
    // After all of that the room goes on.
    ann.say(&room, "still here");
}

#[test]
fn membership_follows_the_rules_in_every_direction() {
    let node = LocalNode::start();
    let (mut ann, mut bob, mut eve) = (node.person("ann"), node.person("bob"), node.person("eve"));
    let room = ann.create_room(&json!({ "name": "den" }));
    let bob_id = json!({ "user_id": bob.user_id });
    refused(&post(&mut ann, &room, "invite", &json!({ "user_id": "@nobody:home.test" })), 404, "M_NOT_FOUND");
    refused(&post(&mut eve, &room, "invite", &bob_id), 403, "M_FORBIDDEN");
    let phantom = put(&mut ann, &room, "state/m.room.member/@nobody:home.test", &json!({ "membership": "invite" }));
    refused(&phantom, 404, "M_NOT_FOUND");
    let remote = put(&mut ann, &room, "state/m.room.member/@x:other.test", &json!({ "membership": "invite" }));
    refused(&remote, 403, "M_FORBIDDEN");
    post(&mut ann, &room, "invite", &json!({ "user_id": bob.user_id, "reason": "come in" })).ok();
    // Turned down, invited again, joined; joining twice is joining once.
    post(&mut bob, &room, "leave", &json!({})).ok();
    post(&mut bob, &room, "leave", &json!({})).ok();
    refused(&post(&mut bob, &room, "join", &json!({})), 403, "M_FORBIDDEN");
    post(&mut ann, &room, "invite", &bob_id).ok();
    bob.join(&room);
    bob.join(&room);
    refused(&post(&mut ann, &room, "invite", &bob_id), 403, "M_FORBIDDEN");
    refused(&post(&mut bob, &room, "kick", &json!({ "user_id": ann.user_id })), 403, "M_FORBIDDEN");
    refused(&post(&mut ann, &room, "kick", &json!({ "user_id": eve.user_id })), 403, "M_FORBIDDEN");
    refused(&post(&mut ann, &room, "unban", &bob_id), 403, "M_BAD_STATE");
    refused(&post(&mut bob, &room, "forget", &json!({})), 400, "M_UNKNOWN");
    let joined = get(&mut bob, &room, "joined_members").ok();
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    post(&mut ann, &room, "kick", &json!({ "user_id": bob.user_id, "reason": "noise" })).ok();
    refused(&get(&mut bob, &room, "joined_members"), 403, "M_FORBIDDEN");
    post(&mut ann, &room, "ban", &bob_id).ok();
    refused(&post(&mut bob, &room, "join", &json!({})), 403, "M_FORBIDDEN");
    refused(&post(&mut ann, &room, "invite", &bob_id), 403, "M_FORBIDDEN");
    refused(&post(&mut bob, &room, "leave", &json!({})), 403, "M_FORBIDDEN");
    post(&mut ann, &room, "unban", &bob_id).ok();
    post(&mut bob, &room, "forget", &json!({})).ok();
    refused(&get(&mut bob, &room, "messages?dir=b"), 403, "M_FORBIDDEN");
    refused(&post(&mut eve, &room, "leave", &json!({})), 403, "M_FORBIDDEN");
    refused(&eve.http.post("/_matrix/client/v3/join/%23nothing%3Ahome.test", &json!({})), 404, "M_NOT_FOUND");
}

#[test]
fn somebody_who_knocks_can_be_let_in() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let rule = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = ann.create_room(&json!({ "initial_state": rule }));
    let closed = ann.create_room(&json!({}));
    let knock =
        |bob: &mut Person, room: &str| bob.http.post(&format!("/_matrix/client/v3/knock/{}", encoded(room)), &json!({ "reason": "hi" }));
    refused(&knock(&mut bob, &closed), 403, "M_FORBIDDEN");
    assert_eq!(knock(&mut bob, &room).ok()["room_id"], json!(room));
    refused(&post(&mut bob, &room, "join", &json!({})), 403, "M_FORBIDDEN");
    let knocking = get(&mut ann, &room, "members?membership=knock").ok();
    assert_eq!(knocking["chunk"][0]["content"]["reason"], "hi");
    ann.invite(&room, &bob.user_id);
    bob.join(&room);
}

#[test]
fn members_of_an_allowed_room_may_join_a_restricted_one() {
    let node = LocalNode::start();
    let (mut ann, mut bob, mut eve) = (node.person("ann"), node.person("bob"), node.person("eve"));
    for version in ["8", "9", "10", "11", "12"] {
        let club = ann.create_room(&json!({ "preset": "public_chat" }));
        bob.join(&club);
        let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
        let initial = json!([{ "type": "m.room.join_rules", "content": rule }]);
        let room = ann.create_room(&json!({ "room_version": version, "initial_state": initial }));
        refused(&post(&mut eve, &room, "join", &json!({})), 403, "M_FORBIDDEN");
        bob.join(&room);
        let key = encoded(&bob.user_id);
        let member = state(&mut bob, &room, &format!("m.room.member/{key}"));
        assert_eq!(member["join_authorised_via_users_server"], json!(ann.user_id), "{version}");
    }
}

#[test]
fn history_visibility_is_exact() {
    let node = LocalNode::start();
    for (visibility, before, invited) in
        [("shared", true, true), ("invited", false, true), ("joined", false, false), ("world_readable", true, true)]
    {
        let (mut ann, mut bob, mut eve) = (
            node.person(&format!("ann_{visibility}")),
            node.person(&format!("bob_{visibility}")),
            node.person(&format!("eve_{visibility}")),
        );
        let initial = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": visibility } }]);
        let room = ann.create_room(&json!({ "initial_state": initial }));
        ann.say(&room, "before");
        ann.invite(&room, &bob.user_id);
        ann.say(&room, "invited");
        bob.join(&room);
        let joined = ann.say(&room, "joined");
        post(&mut bob, &room, "leave", &json!({})).ok();
        let after = ann.say(&room, "after");
        let expected: Vec<&str> = [("before", before), ("invited", invited), ("joined", true), ("after", visibility == "world_readable")]
            .iter()
            .filter(|(_, seen)| *seen)
            .map(|(text, _)| *text)
            .collect();
        assert_eq!(bodies(&bob.history(&room)), expected, "{visibility}");
        assert_eq!(get(&mut bob, &room, &format!("event/{}", encoded(&joined))).status, 200);
        assert_eq!(get(&mut bob, &room, &format!("event/{}", encoded(&after))).status == 200, visibility == "world_readable");
        assert_eq!(get(&mut eve, &room, "messages?dir=b").status == 200, visibility == "world_readable");
        // The state that a former member sees is the one of when they went.
        put(&mut ann, &room, "state/m.room.name", &json!({ "name": "later" })).ok();
        let name = get(&mut bob, &room, "state/m.room.name");
        assert_eq!(name.status == 200, visibility == "world_readable", "{visibility}");
        let members = get(&mut bob, &room, "members").ok();
        assert_eq!(members["chunk"].as_array().unwrap().len(), 2);
        assert_eq!(bodies(&ann.history(&room)), ["before", "invited", "joined", "after"]);
    }
}

#[test]
fn pages_go_both_ways_and_meet() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let other = ann.create_room(&json!({}));
    let texts: Vec<String> = (0..57).map(|i| format!("m{i}")).collect();
    for text in &texts {
        ann.say(&room, text);
        ann.say(&other, "noise");
    }
    assert_eq!(bodies(&ann.history(&room)), texts);
    let (mut forwards, mut from) = (Vec::new(), String::new());
    let filter = encoded(r#"{"types":["m.room.message"],"lazy_load_members":true}"#);
    let mut ends = 0;
    while ends == 0 {
        let page = get(&mut ann, &room, &format!("messages?dir=f&limit=10&filter={filter}{from}")).ok();
        forwards.extend(bodies(page["chunk"].as_array().unwrap()));
        if !page["chunk"].as_array().unwrap().is_empty() {
            assert_eq!(page["state"][0]["type"], "m.room.member");
            assert_eq!(page["state"].as_array().unwrap().len(), 1);
        }
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", encoded(end)),
            None => ends += 1,
        }
    }
    assert_eq!(forwards, texts);
    refused(&get(&mut ann, &room, "messages?dir=b&from=nonsense"), 400, "M_INVALID_PARAM");
    let page = get(&mut ann, &room, "messages?dir=b&limit=5").ok();
    let back = get(&mut ann, &room, &format!("messages?dir=f&limit=100&from={}", page["end"].as_str().unwrap())).ok();
    assert_eq!(bodies(back["chunk"].as_array().unwrap()), texts[52..]);
}

#[test]
fn an_events_surroundings_and_the_event_of_a_time() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let ids: Vec<String> = (0..9).map(|i| ann.say(&room, &format!("m{i}"))).collect();
    let context = get(&mut ann, &room, &format!("context/{}?limit=4", encoded(&ids[4]))).ok();
    assert_eq!(context["event"]["event_id"], json!(ids[4]));
    assert_eq!(bodies(context["events_before"].as_array().unwrap()), ["m3", "m2"]);
    assert_eq!(bodies(context["events_after"].as_array().unwrap()), ["m5", "m6"]);
    assert!(context["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.power_levels"));
    let older = get(&mut ann, &room, &format!("messages?dir=b&limit=1&from={}", context["start"].as_str().unwrap())).ok();
    assert_eq!(bodies(older["chunk"].as_array().unwrap()), ["m1"]);
    let newer = get(&mut ann, &room, &format!("messages?dir=f&limit=1&from={}", context["end"].as_str().unwrap())).ok();
    assert_eq!(bodies(newer["chunk"].as_array().unwrap()), ["m7"]);
    let first = ann.http.get(&v1_path(&room, "timestamp_to_event?ts=0&dir=f")).ok();
    assert_eq!(get(&mut ann, &room, &format!("event/{}", encoded(first["event_id"].as_str().unwrap()))).ok()["type"], "m.room.create");
    let last = ann.http.get(&v1_path(&room, "timestamp_to_event?ts=99999999999999&dir=b")).ok();
    assert_eq!(last["event_id"], json!(ids[8]));
    refused(&ann.http.get(&v1_path(&room, "timestamp_to_event?ts=0&dir=b")), 404, "M_NOT_FOUND");
}

#[test]
fn relations_are_listed_and_bundled() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    bob.join(&room);
    let root = ann.say(&room, "root");
    let relate = |rel_type: &str, body: &str, to: &str| json!({ "msgtype": "m.text", "body": body, "m.relates_to": { "rel_type": rel_type, "event_id": to } });
    let edit = |body: &str, to: &str| {
        json!({ "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": { "msgtype": "m.text", "body": body },
        "m.relates_to": { "rel_type": "m.replace", "event_id": to } })
    };
    ann.send_event(&room, "m.room.message", &edit("rooot", &root));
    let newest = ann.send_event(&room, "m.room.message", &edit("the root", &root));
    bob.send_event(&room, "m.room.message", &edit("not yours", &root));
    let reply = bob.send_event(&room, "m.room.message", &relate("m.thread", "first", &root));
    let last = ann.send_event(&room, "m.room.message", &relate("m.thread", "second", &root));
    ann.send_event(&room, "m.room.message", &edit("second, edited", &last));
    let reference = bob.send_event(&room, "m.room.message", &relate("m.reference", "see", &root));
    let like = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": reply, "key": "👍" } });
    let reaction = ann.send_event(&room, "m.reaction", &like);
    let again = put(&mut ann, &room, "send/m.reaction/again", &like);
    refused(&again, 400, "M_DUPLICATE_ANNOTATION");
    let shown = get(&mut bob, &room, &format!("event/{}", encoded(&root))).ok();
    let relations = &shown["unsigned"]["m.relations"];
    assert_eq!(shown["content"]["body"], "root");
    assert_eq!(relations["m.replace"]["event_id"], json!(newest));
    assert_eq!(relations["m.thread"]["count"], 2);
    assert_eq!(relations["m.thread"]["latest_event"]["event_id"], json!(last));
    assert_eq!(
        relations["m.thread"]["latest_event"]["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"]["body"],
        "second, edited"
    );
    assert_eq!(relations["m.thread"]["current_user_participated"], true);
    assert_eq!(relations["m.reference"]["chunk"], json!([{ "event_id": reference }]));
    let list = |who: &mut Person, rest: &str| who.http.get(&v1_path(&room, &format!("relations/{}{rest}", encoded(&root)))).ok();
    assert_eq!(list(&mut ann, "")["chunk"].as_array().unwrap().len(), 6);
    let threaded = list(&mut ann, "/m.thread?limit=1");
    assert_eq!(threaded["chunk"][0]["event_id"], json!(last));
    let rest = list(&mut ann, &format!("/m.thread?limit=1&from={}", threaded["next_batch"].as_str().unwrap()));
    assert_eq!(rest["chunk"][0]["event_id"], json!(reply));
    assert_eq!(rest["next_batch"], Value::Null);
    let deep = list(&mut ann, "?recurse=true&dir=f&limit=50");
    assert_eq!(deep["recursion_depth"], 3);
    assert!(deep["chunk"].as_array().unwrap().iter().any(|event| event["event_id"] == json!(reaction)));
    // It relates to the root by way of a reply alone, which is no reaction.
    assert_eq!(list(&mut ann, "/m.annotation/m.reaction?recurse=true")["chunk"].as_array().unwrap().len(), 0);
    let threads = ann.http.get(&v1_path(&room, "threads")).ok();
    assert_eq!(threads["chunk"][0]["event_id"], json!(root));
    // Nobody outside the room adds to it, whatever they relate to.
    let elsewhere = bob.create_room(&json!({}));
    bob.send_event(&elsewhere, "m.room.message", &relate("m.thread", "smuggled", &root));
    bob.send_event(&elsewhere, "m.room.message", &relate("m.reference", "smuggled", &root));
    let shown = get(&mut ann, &room, &format!("event/{}", encoded(&root))).ok();
    assert_eq!(shown["unsigned"]["m.relations"]["m.thread"]["count"], 2);
    assert_eq!(shown["unsigned"]["m.relations"]["m.reference"]["chunk"].as_array().unwrap().len(), 1);
    assert_eq!(list(&mut ann, "")["chunk"].as_array().unwrap().len(), 6);
    let nested = put(&mut ann, &room, "send/m.room.message/nested", &relate("m.thread", "nested", &reply));
    refused(&nested, 400, "M_UNKNOWN");
    // A redacted reaction can be given again; a redacted edit is no edit.
    put(&mut ann, &room, &format!("redact/{}/r1", encoded(&reaction)), &json!({})).ok();
    ann.send_event(&room, "m.reaction", &like);
    put(&mut ann, &room, &format!("redact/{}/r2", encoded(&newest)), &json!({})).ok();
    let shown = get(&mut bob, &room, &format!("event/{}", encoded(&root))).ok();
    assert_eq!(shown["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"]["body"], "rooot");
}

#[test]
fn only_the_sender_and_moderators_redact() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    bob.join(&room);
    let (hers, his) = (ann.say(&room, "hers"), bob.say(&room, "his"));
    refused(&put(&mut bob, &room, &format!("redact/{}/1", encoded(&hers)), &json!({})), 403, "M_FORBIDDEN");
    refused(&put(&mut bob, &room, "send/m.room.redaction/2", &json!({ "redacts": hers })), 403, "M_FORBIDDEN");
    refused(&put(&mut bob, &room, "redact/$nothing/3", &json!({})), 404, "M_NOT_FOUND");
    let create = format!("${}", &room[1..]);
    refused(&put(&mut ann, &room, &format!("redact/{}/4", encoded(&create)), &json!({})), 403, "M_FORBIDDEN");
    put(&mut bob, &room, "send/m.room.redaction/5", &json!({ "redacts": his })).ok();
    assert_eq!(get(&mut ann, &room, &format!("event/{}", encoded(&his))).ok()["content"], json!({}));
    assert_eq!(bodies(&ann.history(&room)), ["hers"]);
}

#[test]
fn aliases_point_to_rooms_until_they_are_deleted() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let alias = "/_matrix/client/v3/directory/room/%23tea%3Ahome.test";
    let body = json!({ "room_id": room });
    refused(&bob.http.put(alias, &body), 403, "M_FORBIDDEN");
    ann.http.put(alias, &body).ok();
    refused(&ann.http.put(alias, &body), 409, "M_UNKNOWN");
    refused(&ann.http.put("/_matrix/client/v3/directory/room/%23tea%3Aother.test", &body), 400, "M_INVALID_PARAM");
    let found = node.http().get(alias).ok();
    assert_eq!((&found["room_id"], &found["servers"]), (&json!(room), &json!(["home.test"])));
    assert_eq!(get(&mut ann, &room, "aliases").ok()["aliases"], json!(["#tea:home.test"]));
    refused(&get(&mut bob, &room, "aliases"), 403, "M_FORBIDDEN");
    refused(&put(&mut ann, &room, "state/m.room.canonical_alias", &json!({ "alias": "#other:home.test" })), 400, "M_BAD_ALIAS");
    refused(&put(&mut ann, &room, "state/m.room.canonical_alias", &json!({ "alias": "nonsense" })), 400, "M_INVALID_PARAM");
    put(&mut ann, &room, "state/m.room.canonical_alias", &json!({ "alias": "#tea:home.test" })).ok();
    assert_eq!(bob.http.post("/_matrix/client/v3/join/%23tea%3Ahome.test", &json!({})).ok()["room_id"], json!(room));
    refused(&bob.http.call("DELETE", alias, &Value::Null), 403, "M_FORBIDDEN");
    ann.http.call("DELETE", alias, &Value::Null).ok();
    refused(&ann.http.get(alias), 404, "M_NOT_FOUND");
    refused(&ann.http.call("DELETE", alias, &Value::Null), 404, "M_NOT_FOUND");
    assert_eq!(state(&mut ann, &room, "m.room.canonical_alias"), json!({}));
}

#[test]
fn the_directory_lists_and_finds_published_rooms() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let tea = ann.create_room(&json!({ "preset": "public_chat", "visibility": "public", "name": "Tea", "topic": "leaves" }));
    let space = ann.create_room(&json!({ "preset": "public_chat", "name": "Space", "creation_content": { "type": "m.space" } }));
    bob.join(&tea);
    let listing = format!("/_matrix/client/v3/directory/list/room/{}", encoded(&space));
    assert_eq!(node.http().get(&listing).ok()["visibility"], "private");
    refused(&bob.http.put(&listing, &json!({ "visibility": "public" })), 403, "M_FORBIDDEN");
    ann.http.put(&listing, &json!({ "visibility": "public" })).ok();
    let all = node.http().get("/_matrix/client/v3/publicRooms").ok();
    assert_eq!(all["total_room_count_estimate"], 2);
    assert_eq!(all["chunk"][0]["room_id"], json!(tea));
    assert_eq!(all["chunk"][0]["num_joined_members"], 2);
    let page = node.http().get("/_matrix/client/v3/publicRooms?limit=1").ok();
    let rest = node.http().get(&format!("/_matrix/client/v3/publicRooms?limit=1&since={}", page["next_batch"].as_str().unwrap())).ok();
    assert_eq!(rest["chunk"][0]["room_id"], json!(space));
    let search = |bob: &mut Person, filter: Value| {
        bob.http.post("/_matrix/client/v3/publicRooms", &json!({ "filter": filter })).ok()["chunk"].clone()
    };
    assert_eq!(search(&mut bob, json!({ "generic_search_term": "LEAV" }))[0]["room_id"], json!(tea));
    assert_eq!(search(&mut bob, json!({ "generic_search_term": "absent" })), json!([]));
    assert_eq!(search(&mut bob, json!({ "room_types": ["m.space"] }))[0]["room_id"], json!(space));
    assert_eq!(search(&mut bob, json!({ "room_types": [null] }))[0]["room_id"], json!(tea));
}

#[test]
fn a_space_shows_what_the_asker_may_know() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let space = ann.create_room(&json!({ "preset": "public_chat", "name": "Space", "creation_content": { "type": "m.space" } }));
    let open = ann.create_room(&json!({ "preset": "public_chat", "name": "Open" }));
    let secret = ann.create_room(&json!({ "name": "Secret" }));
    let inner = ann.create_room(&json!({ "preset": "public_chat", "name": "Inner", "creation_content": { "type": "m.space" } }));
    let below = ann.create_room(&json!({ "preset": "public_chat", "name": "Below" }));
    let mut child = |parent: &str, child: &str, content: Value| {
        put(&mut ann, parent, &format!("state/m.space.child/{}", encoded(child)), &content).ok()
    };
    child(&space, &open, json!({ "via": ["home.test"], "order": "b" }));
    child(&space, &secret, json!({ "via": ["home.test"] }));
    child(&space, &inner, json!({ "via": ["home.test"], "order": "a", "suggested": true }));
    child(&inner, &below, json!({ "via": ["home.test"] }));
    child(&inner, &space, json!({ "via": ["home.test"] }));
    let names = |who: &mut Person, rest: &str| -> Vec<String> {
        let found = who.http.get(&v1_path(&space, &format!("hierarchy{rest}"))).ok();
        found["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&mut bob, ""), ["Space", "Inner", "Below", "Open"]);
    assert_eq!(names(&mut ann, ""), ["Space", "Inner", "Below", "Open", "Secret"]);
    assert_eq!(names(&mut bob, "?max_depth=1"), ["Space", "Inner", "Open"]);
    assert_eq!(names(&mut bob, "?suggested_only=true"), ["Space", "Inner"]);
    let page = bob.http.get(&v1_path(&space, "hierarchy?limit=3")).ok();
    let next = encoded(page["next_batch"].as_str().unwrap());
    assert_eq!(names(&mut bob, &format!("?limit=3&from={next}")), ["Open"]);
    refused(&bob.http.get(&v1_path(&space, &format!("hierarchy?max_depth=1&from={next}"))), 400, "M_INVALID_PARAM");
    refused(&bob.http.get(&v1_path(&secret, "hierarchy")), 403, "M_FORBIDDEN");
    let summary = |room: &str| format!("/_matrix/client/v1/room_summary/{}", encoded(room));
    let told = bob.http.get(&summary(&open)).ok();
    assert_eq!((&told["name"], &told["membership"], &told["room_version"]), (&json!("Open"), &json!("leave"), &json!("12")));
    refused(&bob.http.get(&summary(&secret)), 404, "M_NOT_FOUND");
    assert_eq!(node.http().get(&format!("/_matrix/client/unstable/im.nheko.summary/summary/{}", encoded(&open))).ok()["name"], "Open");
}

#[test]
fn an_upgraded_room_takes_its_furniture_along() {
    let node = LocalNode::start();
    let (mut ann, mut bob, eve) = (node.person("ann"), node.person("bob"), node.person("eve"));
    for (from, to) in [("10", "11"), ("11", "12"), ("12", "12"), ("12", "10")] {
        let alias = format!("up{from}to{to}");
        let room = ann.create_room(&json!({
            "room_version": from, "preset": "public_chat", "name": "Old", "topic": "things", "room_alias_name": alias,
            "power_level_content_override": { "users": if from == "12" { json!({}) } else { json!({ ann.user_id.clone(): 100, bob.user_id.clone(): 60 }) } },
        }));
        bob.join(&room);
        post(&mut ann, &room, "ban", &json!({ "user_id": eve.user_id })).ok();
        refused(&post(&mut bob, &room, "upgrade", &json!({ "new_version": to })), 403, "M_FORBIDDEN");
        refused(&post(&mut ann, &room, "upgrade", &json!({ "new_version": "none" })), 400, "M_UNSUPPORTED_ROOM_VERSION");
        let new = post(&mut ann, &room, "upgrade", &json!({ "new_version": to })).ok()["replacement_room"].as_str().unwrap().to_owned();
        assert_eq!(state(&mut ann, &room, "m.room.tombstone")["replacement_room"], json!(new), "{from} to {to}");
        let create = state(&mut ann, &new, "m.room.create");
        assert_eq!((&create["predecessor"]["room_id"], &create["room_version"]), (&json!(room), &json!(to)));
        assert_eq!(state(&mut ann, &new, "m.room.name")["name"], "Old");
        assert_eq!(state(&mut ann, &new, "m.room.topic")["topic"], "things");
        assert_eq!(state(&mut ann, &new, "m.room.canonical_alias")["alias"], json!(format!("#{alias}:home.test")));
        let levels = state(&mut ann, &new, "m.room.power_levels");
        assert_eq!(levels["users"][&ann.user_id], if to == "12" { Value::Null } else { json!(100) });
        assert_eq!(levels["users"][&bob.user_id], if from == "12" { Value::Null } else { json!(60) });
        let banned = state(&mut ann, &new, &format!("m.room.member/{}", encoded(&eve.user_id)));
        assert_eq!(banned["membership"], "ban");
        bob.join(&new);
        bob.say(&new, "here");
        refused(
            &put(&mut bob, &room, "send/m.room.message/late", &json!({ "body": "?" })),
            if from == "12" { 403 } else { 200 },
            if from == "12" { "M_FORBIDDEN" } else { "" },
        );
    }
}

#[test]
fn members_can_be_asked_for_as_of_a_place_and_by_membership() {
    let node = LocalNode::start();
    let (mut ann, mut bob) = (node.person("ann"), node.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let page = get(&mut ann, &room, "messages?dir=b&limit=1").ok();
    let early = page["start"].as_str().unwrap().to_owned();
    bob.join(&room);
    let members = |ann: &mut Person, query: &str| get(ann, &room, &format!("members{query}")).ok()["chunk"].as_array().unwrap().len();
    assert_eq!(members(&mut ann, ""), 2);
    assert_eq!(members(&mut ann, &format!("?at={early}")), 1);
    post(&mut bob, &room, "leave", &json!({})).ok();
    assert_eq!(members(&mut ann, "?membership=join"), 1);
    assert_eq!(members(&mut ann, "?not_membership=leave"), 1);
    assert_eq!(members(&mut ann, "?membership=leave"), 1);
}
