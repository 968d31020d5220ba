//! What arrives, what waits, what is refused, and what is fetched.

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId,
    serde::{Base64, base64::Standard},
};
use serde_json::json;

use super::{
    super::Ingest,
    world::{World, raw, wire},
};
use crate::homeserver::{
    events::{Draft, EventError},
    key::SigningKey,
    rooms::{build, redact::prune},
    store::{
        Observer, Store,
        events::{self, Order},
        rooms,
    },
    types::StreamPos,
};

/// Two servers with a user each in one room.
async fn two(version: RoomVersionId) -> (World, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, version).await;
    world.join(1, &bob, &room, 0).await;
    (world, room, ann, bob)
}

/// Bodies of a room's messages as a server would page through them, oldest first.
async fn bodies(world: &World, server: usize, room: &OwnedRoomId) -> Vec<String> {
    let nid = world.handle(server, room).await.nid;
    let events = world.servers[server]
        .store
        .read(move |db| events::range(db, nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Forwards, 10_000))
        .await
        .unwrap();
    let body = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap()["content"]["body"].as_str().map(ToOwned::to_owned);
    events.iter().filter_map(|event| body(&event.json)).collect()
}

#[tokio::test]
async fn servers_that_share_a_room_have_the_same_state_and_hear_each_other() {
    for version in [RoomVersionId::V3, RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let (world, room, ann, bob) = two(version).await;
        assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
        let hello = world.say(1, &room, &bob, "hello").await.unwrap();
        world.pass(1, 0, &hello).await;
        let answer = world.say(0, &room, &ann, "and to you").await.unwrap();
        world.pass(0, 1, &answer).await;
        assert_eq!(world.fate(0, &hello).await, Some((None, false, true)));
        assert_eq!(bodies(&world, 1, &room).await, ["hello", "and to you"]);
        assert_eq!(world.extremities(0, &room).await, world.extremities(1, &room).await);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_restart_and_a_repeated_transaction_changes_nothing() {
    let (world, room, ann, _) = two(RoomVersionId::V10).await;
    let hello = world.say(0, &room, &ann, "hello").await.unwrap();
    let json = world.json(0, &hello).await;
    let (origin, server) = (world.servers[0].name.clone(), &world.servers[1]);
    let answer = server.ingest.receive(&origin, "t1", raw(vec![json])).await.unwrap();
    assert_eq!(answer.get(&hello), Some(&Ok(())));
    assert_eq!(world.fate(1, &hello).await, None, "nothing has been worked on");
    assert_eq!(server.ingest.answered(&origin, "t1").await.unwrap(), Some(answer));
    assert_eq!(server.ingest.answered(&origin, "t2").await.unwrap(), None);

    // The process ends and starts again: another store on the same file.
    let (path, store) = (server.dir.path().join("node.db"), server.store.clone());
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let store = Store::open(&path, Observer(Arc::new(|_| {}))).unwrap();
    let again = Ingest::new(store.clone(), Arc::clone(&server.ingest.remote), server.ctx.clone(), Arc::new(world.clock.clone()));
    again.drain().await.unwrap();
    let id = hello.clone();
    let stored = store.read(move |db| events::by_id(db, &id)).await.unwrap().unwrap();
    assert!(stored.accepted() && stored.pos.is_some());
    assert!(again.answered(&origin, "t1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_gap_is_filled_and_its_events_stand_in_order() {
    let (world, room, ann, _) = two(RoomVersionId::V10).await;
    let mut last = None;
    for n in 0..70 {
        last = Some(world.say(0, &room, &ann, &format!("{n}")).await.unwrap());
    }
    world.pass(0, 1, &last.unwrap()).await;
    let expected: Vec<String> = (0..70).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&world, 1, &room).await, expected);
    assert_eq!(world.extremities(0, &room).await, world.extremities(1, &room).await);
}

#[tokio::test]
async fn where_a_gap_cannot_be_filled_the_state_is_asked_for_and_the_history_can_be_read_later() {
    let (world, room, ann, _) = two(RoomVersionId::V10).await;
    world.say(0, &room, &ann, "before").await.unwrap();
    world.set(0, &room, &ann, "m.room.topic", "", json!({ "topic": "changed meanwhile" })).await.unwrap();
    let last = world.say(0, &room, &ann, "after").await.unwrap();
    world.network.lies.lock().unwrap().insert("missing_events".into(), Vec::new());
    world.pass(0, 1, &last).await;
    assert_eq!(world.fate(1, &last).await, Some((None, false, true)));
    assert_eq!(bodies(&world, 1, &room).await, ["after"]);
    assert_eq!(world.state(1, &room).await, world.state(0, &room).await, "the topic is known though its event was missed");
    let handle = world.handle(1, &room).await;
    assert!(world.servers[1].ingest.has_earlier(&handle, StreamPos(i64::MAX)).await.unwrap());
    assert!(world.servers[1].ingest.backfill(&handle, StreamPos(i64::MAX)).await.unwrap() > 0);
    assert!(bodies(&world, 1, &room).await.contains(&"before".to_owned()));
}

#[tokio::test]
async fn history_from_before_a_join_is_fetched_in_order_until_there_is_no_more() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let world = World::new(2);
        let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
        let room = world.room(0, &ann, version).await;
        for n in 0..150 {
            world.say(0, &room, &ann, &n.to_string()).await.unwrap();
        }
        world.join(1, &bob, &room, 0).await;
        let handle = world.handle(1, &room).await;
        let mut rounds = 0;
        while world.servers[1].ingest.has_earlier(&handle, StreamPos(i64::MAX)).await.unwrap() {
            world.servers[1].ingest.backfill(&handle, StreamPos(i64::MAX)).await.unwrap();
            rounds += 1;
            assert!(rounds < 10, "it comes to an end");
        }
        assert_eq!(bodies(&world, 1, &room).await, (0..150).map(|n| n.to_string()).collect::<Vec<_>>());
        let first = world.servers[1]
            .store
            .read(move |db| events::range(db, handle.nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Forwards, 1))
            .await
            .unwrap();
        assert_eq!(first[0].kind, "m.room.create");
        assert_eq!(world.state(1, &room).await.len(), world.state(0, &room).await.len(), "history does not change the present");
    }
}

#[tokio::test]
async fn who_was_banned_meanwhile_is_soft_failed_and_nothing_follows_what_they_said() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let before = world.extremities(0, &room).await;
    let ban = world.set(0, &room, &ann, "m.room.member", bob.as_str(), json!({ "membership": "ban" })).await.unwrap();
    // Bob's server has not heard of it, or pretends not to have.
    let late = world.say(1, &room, &bob, "still here").await.unwrap();
    let handle = world.handle(0, &room).await;
    world.pass(1, 0, &late).await;
    assert_eq!(world.fate(0, &late).await, Some((None, true, true)));
    assert_eq!(world.extremities(0, &room).await, [ban.clone()].into());
    assert_ne!(world.extremities(0, &room).await, before);
    assert!(bodies(&world, 0, &room).await.is_empty(), "clients are not shown it");
    let next = world.say(0, &room, &ann, "quiet").await.unwrap();
    let id = next.clone();
    let stored = world.servers[0].store.read(move |db| events::by_id(db, &id)).await.unwrap().unwrap();
    assert_eq!(stored.pdu(&handle.rules).unwrap().prev_events(), [ban]);
}

#[tokio::test]
async fn an_event_of_somebody_outside_is_rejected_for_good_and_those_after_it_are_judged_by_themselves() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let eve = world.user(1, "eve");
    let bad = world.forge(1, &room, &eve, "m.room.message", None, json!({ "body": "let me in" }), |_| ()).await;
    let id = bad.event_id().to_owned();
    let good = world
        .forge(1, &room, &bob, "m.room.message", None, json!({ "body": "fine" }), |json| {
            json.insert("prev_events".into(), serde_json::from_value(json!([id.as_str()])).unwrap());
        })
        .await;
    world.deliver(1, 0, vec![wire(&good), wire(&bad)]).await;
    let (rejected, ..) = world.fate(0, bad.event_id()).await.unwrap();
    assert!(rejected.unwrap().contains("not `join`"), "the reason is kept");
    assert_eq!(world.fate(0, good.event_id()).await, Some((None, false, true)));
    assert_eq!(bodies(&world, 0, &room).await, ["fine"]);
    assert!(!world.extremities(0, &room).await.contains(bad.event_id()));
    // Coming again does not help it.
    world.deliver(1, 0, vec![wire(&bad)]).await;
    assert!(world.fate(0, bad.event_id()).await.unwrap().0.is_some());
}

#[tokio::test]
async fn what_the_events_own_authorities_allow_but_the_state_before_it_does_not_is_rejected() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let joined = world.state(0, &room).await[&("m.room.member".into(), bob.to_string())].clone();
    let kick = world.set(0, &room, &ann, "m.room.member", bob.as_str(), json!({ "membership": "leave" })).await.unwrap();
    // It follows the kick, and names the join that the kick has ended.
    let bad = world
        .forge(0, &room, &bob, "m.room.message", None, json!({ "body": "never mind" }), |json| {
            let auth = json.get_mut("auth_events").unwrap();
            let kept: Vec<_> = auth.as_array().unwrap().iter().filter(|id| id.as_str() != Some(kick.as_str())).cloned().collect();
            *auth = ruma::CanonicalJsonValue::Array(kept.into_iter().chain([joined.to_string().into()]).collect());
        })
        .await;
    let bad = world.sign(1, &world.handle(0, &room).await, unsigned(&bad));
    world.deliver(1, 0, vec![wire(&bad)]).await;
    let (rejected, soft_failed, placed) = world.fate(0, bad.event_id()).await.unwrap();
    assert!(rejected.unwrap().starts_with("by the state before it"));
    assert!(placed && !soft_failed);
}

fn unsigned(pdu: &crate::homeserver::types::Pdu) -> ruma::CanonicalJsonObject {
    let mut json = pdu.json().clone();
    json.remove("signatures");
    json.remove("hashes");
    json
}

#[tokio::test]
async fn changed_content_is_cut_down_to_what_was_signed() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let hello = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "hello" }), |_| ()).await;
    let mut json = hello.json().clone();
    json.insert("content".into(), serde_json::from_value(json!({ "body": "send me money" })).unwrap());
    world.deliver(1, 0, vec![build::canonical(&json).unwrap()]).await;
    assert_eq!(world.fate(0, hello.event_id()).await, Some((None, false, true)));
    assert!(bodies(&world, 0, &room).await.is_empty());
}

#[tokio::test]
async fn without_keys_an_event_waits_and_with_them_it_goes_on() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let hello = world.say(1, &room, &bob, "hello").await.unwrap();
    world.network.keyless.lock().unwrap().insert(world.servers[1].name.clone());
    world.pass(1, 0, &hello).await;
    assert_eq!(world.fate(0, &hello).await, None);
    assert_eq!(world.waiting(0).await, 1);
    world.network.keyless.lock().unwrap().clear();
    world.servers[0].ingest.drain().await.unwrap();
    assert_eq!(world.fate(0, &hello).await, None, "not at once");
    world.clock.advance(60_000);
    world.servers[0].ingest.drain().await.unwrap();
    assert_eq!(world.fate(0, &hello).await, Some((None, false, true)));
    assert_eq!(world.waiting(0).await, 0);
}

#[tokio::test]
async fn an_event_that_nobody_can_explain_is_given_up_in_the_end() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let orphan = world
        .forge(1, &room, &bob, "m.room.message", None, json!({ "body": "?" }), |json| {
            json.insert("prev_events".into(), serde_json::from_value(json!(["$nowhere"])).unwrap());
        })
        .await;
    world.deliver(1, 0, vec![wire(&orphan)]).await;
    for _ in 0..20 {
        world.clock.advance(7 * 24 * 3_600_000);
        world.servers[0].ingest.drain().await.unwrap();
    }
    assert_eq!(world.waiting(0).await, 0);
    assert!(world.fate(0, orphan.event_id()).await.is_none_or(|(.., placed)| !placed));
}

#[tokio::test]
async fn rooms_that_we_have_left_and_servers_that_an_acl_keeps_out_are_refused() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let acl = json!({ "allow": ["*"], "deny": ["B.test"] });
    world.set(0, &room, &ann, "m.room.server_acl", "", acl).await.unwrap();
    let hello = world.say(1, &room, &bob, "hello").await.unwrap();
    let json = world.json(1, &hello).await;
    let answer = world.servers[0].ingest.receive(&world.servers[1].name, "t1", raw(vec![json])).await.unwrap();
    assert!(answer[&hello].is_err());
    assert_eq!(world.waiting(0).await, 0);

    let leave = world.set(1, &room, &bob, "m.room.member", bob.as_str(), json!({ "membership": "leave" })).await.unwrap();
    let later = world.say(0, &room, &ann, "gone?").await.unwrap();
    let json = world.json(0, &later).await;
    let answer = world.servers[1].ingest.receive(&world.servers[0].name, "t2", raw(vec![json])).await.unwrap();
    assert!(answer[&later].is_err());
    assert_eq!(world.extremities(1, &room).await, [leave].into());
}

#[tokio::test]
async fn an_own_event_follows_all_forks() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let topic = |text: &str| json!({ "topic": text });
    let levels = json!({ "users": { ann.as_str(): 100, bob.as_str(): 50 } });
    let levels = world.set(0, &room, &ann, "m.room.power_levels", "", levels).await.unwrap();
    world.pass(0, 1, &levels).await;
    let one = world.set(0, &room, &ann, "m.room.topic", "", topic("one")).await.unwrap();
    let other = world.set(1, &room, &bob, "m.room.topic", "", topic("other")).await.unwrap();
    world.pass(1, 0, &other).await;
    assert_eq!(world.extremities(0, &room).await, [one.clone(), other.clone()].into());
    let merge = world.say(0, &room, &ann, "both").await.unwrap();
    assert_eq!(world.extremities(0, &room).await, [merge.clone()].into());
    for id in [&one, &merge] {
        world.pass(0, 1, id).await;
    }
    assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
    assert_eq!(world.extremities(1, &room).await, [merge].into());
}

#[tokio::test]
async fn a_redaction_that_comes_first_takes_effect_when_its_target_comes() {
    let (world, room, _, bob) = two(RoomVersionId::V11).await;
    let secret = world.say(1, &room, &bob, "secret").await.unwrap();
    let redaction = Draft { redacts: Some(secret.clone()), ..Draft::message(bob.clone(), "m.room.redaction", Default::default()) };
    let unredacted = world.json(1, &secret).await;
    let redaction = world.send(1, &room, redaction).await.unwrap();
    world.network.lies.lock().unwrap().insert("missing_events".into(), Vec::new());
    world.network.lies.lock().unwrap().insert(format!("event {secret}"), vec![unredacted.clone()]);
    world.pass(1, 0, &redaction).await;
    world.deliver(1, 0, vec![unredacted]).await;
    assert_eq!(world.fate(0, &secret).await, Some((None, false, true)));
    assert!(!world.json(0, &secret).await.contains("secret\""), "its content is gone");
}

#[tokio::test]
async fn a_room_can_be_left_and_joined_again() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let leave = world.set(1, &room, &bob, "m.room.member", bob.as_str(), json!({ "membership": "leave" })).await.unwrap();
    world.pass(1, 0, &leave).await;
    world.set(0, &room, &ann, "m.room.topic", "", json!({ "topic": "while away" })).await.unwrap();
    world.join(1, &bob, &room, 0).await;
    assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
    let hello: OwnedEventId = world.say(0, &room, &ann, "welcome back").await.unwrap();
    world.pass(0, 1, &hello).await;
    assert_eq!(world.fate(1, &hello).await, Some((None, false, true)));
}

#[tokio::test]
async fn what_the_rooms_policy_server_has_not_let_through_is_soft_failed() {
    let (world, room, ann, bob) = two(RoomVersionId::V11).await;
    let policy = SigningKey::for_tests("policy_server");
    let key = Base64::<Standard>::new(policy.public_key().to_vec()).encode();
    let content = json!({ "via": "b.test", "public_keys": { "ed25519": key } });
    world.set(0, &room, &ann, "m.room.policy", "", content).await.unwrap();
    // What we would say ourselves would be hidden by everybody else.
    assert!(matches!(world.say(0, &room, &ann, "unseen").await, Err(EventError::Forbidden(why)) if why.contains("policy server b.test")));
    let spam = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "spam" }), |_| ()).await;
    world.deliver(1, 0, vec![wire(&spam)]).await;
    assert_eq!(world.fate(0, spam.event_id()).await, Some((None, true, true)));

    let fine = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "fine" }), |_| ()).await;
    let mut pruned = prune(fine.json(), &world.handle(0, &room).await.rules.redaction).unwrap();
    pruned.remove("signatures");
    policy.sign_json("b.test", &mut pruned).unwrap();
    let signed = serde_json::to_value(&pruned).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&wire(&fine)).unwrap();
    json["signatures"]["b.test"]["ed25519:policy_server"] = signed["signatures"]["b.test"]["ed25519:policy_server"].clone();
    world.deliver(1, 0, vec![json.to_string()]).await;
    assert_eq!(world.fate(0, fine.event_id()).await, Some((None, false, true)));
}

#[tokio::test]
async fn a_wrong_version_that_was_claimed_before_does_not_keep_a_room_out() {
    let (mut world, room, _ann, _bob) = two(RoomVersionId::V10).await;
    let third = world.add("c.test");
    let cat = world.user(third, "cat");
    let id = room.clone();
    world.servers[third].store.write(move |tx| rooms::create(tx, &id, &RoomVersionId::V1, 1)).await.unwrap();
    world.join(third, &cat, &room, 0).await;
    assert_eq!(world.handle(third, &room).await.version, RoomVersionId::V10);
    // What has a state keeps its version.
    let id = room.clone();
    let kept = world.servers[third].store.write(move |tx| {
        let room = rooms::by_id(&tx.reader(), &id)?.unwrap();
        rooms::correct_version(tx, room, &RoomVersionId::V1)
    });
    assert_eq!(kept.await.unwrap().version, RoomVersionId::V10);
}

#[tokio::test]
async fn a_second_user_who_joins_by_another_servers_word_leaves_the_room_as_it_is() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let said = world.say(1, &room, &bob, "not yet sent to anybody").await.unwrap();
    let cat = world.user(1, "cat");
    let (answer, join) = world.join_answer(1, &cat, &room, 0).await;
    world.deliver(1, 0, vec![join]).await;
    world.servers[1].ingest.import(answer).await.unwrap();
    assert!(world.extremities(1, &room).await.contains(&said), "what this server has said is not forgotten");
    assert!(world.state(1, &room).await.contains_key(&("m.room.member".into(), cat.to_string())));
    world.pass(1, 0, &said).await;
    let hello = world.say(0, &room, &ann, "hello").await.unwrap();
    world.pass(0, 1, &hello).await;
    assert_eq!(world.extremities(0, &room).await, world.extremities(1, &room).await);
}
