//! Joining, inviting, leaving, removing, knocking across servers; messages both ways; servers that are away.

use std::sync::Arc;

use homeroom::base::ManualClock;
use serde_json::{Value, json};

use crate::support::{
    Person,
    across::{ask, becomes, bodies, hears, invite_in, join, joined_members, membership, path, post, refused, removed, sync},
    eventually,
    federation::{Authority, FedNode},
    http::encoded,
};

const VERSIONS: [&str; 10] = ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

#[test]
fn a_public_room_of_every_version_is_joined_through_its_server() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    for version in VERSIONS {
        let room = ann.create_room(&json!({ "preset": "public_chat", "room_version": version, "name": "talk", "topic": "all" }));
        join(&mut bob, &room, a.name().as_str());
        let both = vec![ann.user_id.clone(), bob.user_id.clone()];
        assert_eq!(joined_members(&mut ann, &room), both, "{version}");
        assert_eq!(joined_members(&mut bob, &room), both, "{version}");
        for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.name", "m.room.topic"] {
            let of = |who: &mut Person| who.http.get(&path(&room, &format!("state/{kind}"))).ok();
            assert_eq!(of(&mut ann), of(&mut bob), "{version} {kind}");
        }
        let shown = sync(&mut bob);
        assert!(shown["rooms"]["join"][&room].is_object(), "{version}: {shown}");
    }
}

#[test]
fn who_may_not_join_is_told_why_and_nothing_is_left_behind() {
    let authority = Authority::new();
    let (a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let private = ann.create_room(&json!({ "preset": "private_chat" }));
    refused(&ask(&mut bob, "join", &private, a.name().as_str()), 403, "M_FORBIDDEN");
    let public = ann.create_room(&json!({ "preset": "public_chat" }));
    post(&mut ann, &public, "ban", &json!({ "user_id": bob.user_id })).ok();
    refused(&ask(&mut bob, "join", &public, a.name().as_str()), 403, "M_FORBIDDEN");
    refused(&ask(&mut bob, "join", "!nowhere:localhost:1", a.name().as_str()), 404, "M_NOT_FOUND");
    refused(&ask(&mut bob, "knock", &private, a.name().as_str()), 403, "M_FORBIDDEN");
    let shut = ann.create_room(&json!({ "preset": "public_chat", "initial_state": [{
        "type": "m.room.server_acl", "state_key": "", "content": { "allow": ["*"], "deny": ["localhost"] },
    }] }));
    refused(&ask(&mut bob, "join", &shut, a.name().as_str()), 403, "M_FORBIDDEN");
    assert_eq!(sync(&mut bob)["rooms"]["join"], Value::Null);
    // A server that is not there is no reason to wait for ever.
    b.stop();
    let mut here = a.person("cat");
    let gone =
        here.http.post(&format!("/_matrix/client/v3/join/{}?via={}", encoded("!x:localhost:1"), encoded(b.name().as_str())), &json!({}));
    refused(&gone, 502, "M_UNKNOWN");
}

#[test]
fn an_invite_is_shown_accepted_and_turned_down() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    for version in ["6", "10", "12"] {
        let room = ann.create_room(&json!({ "preset": "private_chat", "room_version": version, "name": "quiet" }));
        ann.invite(&room, &bob.user_id);
        assert_eq!(membership(&mut ann, &room, &bob.user_id), "invite");
        let told = invite_in(&sync(&mut bob), &room).expect("the invite is shown");
        let find = |kind: &str| told.iter().find(|event| event["type"] == kind).cloned().unwrap_or_default();
        assert_eq!(find("m.room.name")["content"]["name"], "quiet", "{version}");
        assert_eq!(find("m.room.create")["content"]["room_version"], version);
        assert!(told.iter().any(|event| event["state_key"] == json!(bob.user_id) && event["content"]["membership"] == "invite"));
        assert!(told.iter().all(|event| event.get("signatures").is_none()), "clients get no signatures");
        // Without `via`: the inviter's server is asked.
        bob.join(&room);
        becomes(&mut ann, &room, &bob.user_id, "join");
        assert_eq!(joined_members(&mut bob, &room).len(), 2);
        assert!(invite_in(&sync(&mut bob), &room).is_none());

        let other =
            ann.create_room(&json!({ "preset": "private_chat", "room_version": version, "invite": [bob.user_id], "is_direct": true }));
        let told = invite_in(&sync(&mut bob), &other).expect("an invite with the room's creation is shown");
        assert!(told.iter().any(|event| event["content"]["is_direct"] == true));
        post(&mut bob, &other, "leave", &json!({ "reason": "no time" })).ok();
        becomes(&mut ann, &other, &bob.user_id, "leave");
        assert!(invite_in(&sync(&mut bob), &other).is_none());
        // And again.
        ann.invite(&other, &bob.user_id);
        assert!(invite_in(&sync(&mut bob), &other).is_some());
        bob.join(&other);
        becomes(&mut ann, &other, &bob.user_id, "join");
    }
}

#[test]
fn an_invite_whose_server_is_gone_can_be_turned_down_all_the_same() {
    let authority = Authority::new();
    let (mut a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let room = ann.create_room(&json!({ "preset": "private_chat", "invite": [bob.user_id] }));
    assert!(invite_in(&sync(&mut bob), &room).is_some());
    a.stop();
    post(&mut bob, &room, "leave", &json!({})).ok();
    let after = sync(&mut bob);
    assert!(invite_in(&after, &room).is_none(), "{after}");
    refused(&ask(&mut bob, "join", &room, a.name().as_str()), 502, "M_UNKNOWN");
}

#[test]
fn who_wants_no_invites_gets_none_and_the_inviter_is_told() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let config = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", encoded(&bob.user_id));
    bob.http.put(&config, &json!({ "default_action": "block" })).ok();
    let room = ann.create_room(&json!({ "preset": "private_chat" }));
    let invite = |ann: &mut Person, who: &str| post(ann, &room, "invite", &json!({ "user_id": who }));
    refused(&invite(&mut ann, &bob.user_id), 403, "M_INVITE_BLOCKED");
    assert_eq!(membership(&mut ann, &room, &bob.user_id), "");
    assert!(invite_in(&sync(&mut bob), &room).is_none());
    refused(&invite(&mut ann, &format!("@nobody:{}", b.name())), 404, "M_NOT_FOUND");
    // The other way to say it.
    let by_state =
        ann.http.put(&path(&room, &format!("state/m.room.member/{}", encoded(&bob.user_id))), &json!({ "membership": "invite" }));
    refused(&by_state, 403, "M_INVITE_BLOCKED");
}

#[test]
fn a_knock_is_heard_answered_and_taken_back() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    for version in ["7", "12"] {
        let room = ann.create_room(&json!({ "preset": "private_chat", "room_version": version, "name": "door", "initial_state": [
            { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } },
        ] }));
        ask(&mut bob, "knock", &room, a.name().as_str()).ok();
        assert_eq!(membership(&mut ann, &room, &bob.user_id), "knock");
        let shown = sync(&mut bob);
        let told = shown["rooms"]["knock"][&room]["knock_state"]["events"].as_array().cloned().unwrap_or_default();
        assert!(told.iter().any(|event| event["content"]["name"] == "door"), "{version}: {shown}");
        post(&mut bob, &room, "leave", &json!({})).ok();
        becomes(&mut ann, &room, &bob.user_id, "leave");
        ask(&mut bob, "knock", &room, a.name().as_str()).ok();
        ann.invite(&room, &bob.user_id);
        assert!(invite_in(&sync(&mut bob), &room).is_some());
        bob.join(&room);
        becomes(&mut ann, &room, &bob.user_id, "join");
        assert_eq!(joined_members(&mut bob, &room).len(), 2);
    }
}

#[test]
fn members_of_a_space_join_its_restricted_rooms_and_others_do_not() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob, mut cat) = (a.person("ann"), b.person("bob"), b.person("cat"));
    for version in ["8", "10", "12"] {
        let space = ann.create_room(&json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } }));
        let restricted = |other: &str| {
            json!({ "preset": "private_chat", "room_version": version, "initial_state": [{
                "type": "m.room.join_rules", "state_key": "",
                "content": { "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": other }] },
            }] })
        };
        let room = ann.create_room(&restricted(&space));
        refused(&ask(&mut bob, "join", &room, a.name().as_str()), 403, "M_FORBIDDEN");
        join(&mut bob, &space, a.name().as_str());
        join(&mut bob, &room, a.name().as_str());
        becomes(&mut ann, &room, &bob.user_id, "join");
        let member = path(&room, &format!("state/m.room.member/{}", encoded(&bob.user_id)));
        let of = |who: &mut Person| who.http.get(&member).ok();
        assert_eq!(of(&mut ann)["join_authorised_via_users_server"], json!(ann.user_id), "{version}");
        assert_eq!(of(&mut bob), of(&mut ann));
        // Their server is in the room now, but nobody there may let others in: the other server is asked.
        refused(&ask(&mut cat, "join", &room, a.name().as_str()), 403, "M_FORBIDDEN");
        join(&mut cat, &space, a.name().as_str());
        join(&mut cat, &room, a.name().as_str());
        becomes(&mut ann, &room, &cat.user_id, "join");
        becomes(&mut bob, &room, &cat.user_id, "join");
        // Nobody at the first server can tell who is in a room that it is not in.
        let far = bob.create_room(&json!({ "preset": "public_chat" }));
        let unknown = ann.create_room(&restricted(&far));
        refused(&ask(&mut cat, "join", &unknown, a.name().as_str()), 400, "M_UNABLE_TO_AUTHORISE_JOIN");
    }
}

#[test]
fn messages_go_both_ways_and_to_a_third_server() {
    let authority = Authority::new();
    let (a, b, c) = (FedNode::start(&authority), FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob, mut cat) = (a.person("ann"), b.person("bob"), c.person("cat"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, a.name().as_str());
    ann.say(&room, "from ann");
    bob.say(&room, "from bob");
    hears(&mut bob, &room, &["from ann"]);
    hears(&mut ann, &room, &["from bob"]);
    // The third joins through the first; the second hears of it from there.
    join(&mut cat, &room, a.name().as_str());
    becomes(&mut bob, &room, &cat.user_id, "join");
    cat.say(&room, "from cat");
    bob.say(&room, "and again");
    for who in [&mut ann, &mut bob, &mut cat] {
        hears(who, &room, &["from cat", "and again"]);
    }
    post(&mut cat, &room, "leave", &json!({})).ok();
    becomes(&mut ann, &room, &cat.user_id, "leave");
    becomes(&mut bob, &room, &cat.user_id, "leave");
    bob.say(&room, "without cat");
    hears(&mut ann, &room, &["without cat"]);
    // Whoever has left can come back, by whomever is there.
    join(&mut cat, &room, b.name().as_str());
    for who in [&mut ann, &mut bob] {
        becomes(who, &room, &cat.user_id, "join");
    }
    ann.say(&room, "welcome back");
    hears(&mut cat, &room, &["welcome back"]);
}

#[test]
fn who_is_removed_hears_of_it_and_the_last_of_a_server_as_well() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, a.name().as_str());
    post(&mut ann, &room, "kick", &json!({ "user_id": bob.user_id, "reason": "enough" })).ok();
    removed(&mut bob, &room, "leave");
    join(&mut bob, &room, a.name().as_str());
    post(&mut ann, &room, "ban", &json!({ "user_id": bob.user_id })).ok();
    removed(&mut bob, &room, "ban");
    refused(&ask(&mut bob, "join", &room, a.name().as_str()), 403, "M_FORBIDDEN");
    post(&mut ann, &room, "unban", &json!({ "user_id": bob.user_id })).ok();
    join(&mut bob, &room, a.name().as_str());
    becomes(&mut ann, &room, &bob.user_id, "join");
    // An invite that is taken back.
    let other = ann.create_room(&json!({ "preset": "private_chat", "invite": [bob.user_id] }));
    assert!(invite_in(&sync(&mut bob), &other).is_some());
    post(&mut ann, &other, "kick", &json!({ "user_id": bob.user_id })).ok();
    eventually("the invite to be gone", || invite_in(&sync(&mut bob), &other).is_none().then_some(()));
}

#[test]
fn what_is_said_while_the_other_side_is_down_arrives_when_it_is_back() {
    let authority = Authority::new();
    let (mut a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, a.name().as_str());
    b.stop();
    ann.say(&room, "one");
    ann.say(&room, "two");
    // The sender restarts as well: what waits is on disk.
    a.stop();
    a.start_again();
    let mut ann = Person::login(a.address(), "ann", &ann.password);
    ann.say(&room, "three");
    b.start_again();
    let mut bob = Person::login(b.address(), "bob", &bob.password);
    // It is tried again at once when the other side speaks.
    bob.say(&room, "here again");
    hears(&mut ann, &room, &["here again"]);
    hears(&mut bob, &room, &["one", "two", "three"]);
}

#[test]
fn a_server_that_was_away_for_days_catches_up() {
    let authority = Authority::new();
    let clock = ManualClock::at(homeroom::base::Clock::now_ms(&homeroom::base::SystemClock));
    let start = || FedNode::start_with(&authority, Arc::new(clock.clone()), |_| {});
    let (a, mut b) = (start(), start());
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, a.name().as_str());
    b.stop();
    let waiting = || {
        let count = a.node().store.read(|db| {
            Ok::<_, homeroom::homeserver::store::StoreError>(
                db.query_row("SELECT count(*) FROM outgoing_pdus", [], |row| row.get::<_, i64>(0))?,
            )
        });
        a.wait(count).unwrap()
    };
    let failures = || {
        let failures = a.node().store.read(|db| {
            Ok::<_, homeroom::homeserver::store::StoreError>(
                db.query_row("SELECT max(failures) FROM servers", [], |row| row.get::<_, i64>(0))?,
            )
        });
        a.wait(failures).unwrap()
    };
    ann.say(&room, "message 0");
    eventually("the first failure", || (failures() >= 1).then_some(()));
    for hours in [2_u64, 20, 40] {
        let before = failures();
        clock.advance(hours * 60 * 60 * 1000);
        a.node().federation.sender.look();
        eventually("another failure", || (failures() > before).then_some(()));
    }
    for number in 1..=30 {
        ann.say(&room, &format!("message {number}"));
    }
    assert!(waiting() <= 2, "one under way, and the newest: {}", waiting());
    b.start_again();
    let mut bob = Person::login(b.address(), "bob", &bob.password);
    clock.advance(9 * 60 * 60 * 1000);
    a.node().federation.sender.look();
    let wanted: Vec<String> = (0..=30).map(|number| format!("message {number}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    // Time goes on: what did not work at once for a passing reason is tried again.
    eventually("everything that was said", || {
        clock.advance(10_000);
        a.node().federation.sender.look();
        (bodies(&mut bob, &room).len() >= wanted.len()).then_some(())
    });
    hears(&mut bob, &room, &wanted);
    bob.say(&room, "what a lot");
    hears(&mut ann, &room, &["what a lot"]);
}
