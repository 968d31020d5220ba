//! What waits in the queue, for how long, and for what.

use std::sync::atomic::Ordering;

use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::world::{World, raw, wire};
use crate::homeserver::store::{
    StoreError, inbound,
    remote_joins::{self, RemoteJoin},
};

/// Two servers with a user each in one room.
async fn two() -> (World, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V10).await;
    world.join(1, &bob, &room, 0).await;
    (world, room, ann, bob)
}

/// Events of a room that wait on a server and may be worked on now.
async fn due(world: &World, server: usize, room: &OwnedRoomId) -> usize {
    let (room, now_ms) = (room.clone(), world.ctx(server).now_ms);
    let due = world.servers[server].store.read(move |db| {
        let origins = inbound::origins(db, &room, now_ms)?;
        origins.iter().map(|origin| Ok(inbound::of_origin(db, &room, origin, now_ms, 100)?.len())).sum::<Result<usize, StoreError>>()
    });
    due.await.unwrap()
}

#[tokio::test]
async fn an_attempt_counts_although_the_process_ends_in_the_middle_of_it() {
    let (world, room, ann, _) = two().await;
    world.say(0, &room, &ann, "missed").await.unwrap();
    let last = world.say(0, &room, &ann, "last").await.unwrap();
    let json = world.json(0, &last).await;
    let ingest = &world.servers[1].ingest;
    ingest.receive(&world.servers[0].name, "t", raw(vec![json])).await.unwrap();
    world.network.hang.store(true, Ordering::SeqCst);
    tokio::select! {
        done = ingest.drain() => panic!("{done:?}"),
        () = world.network.hung.notified() => {}
    }
    world.network.hang.store(false, Ordering::SeqCst);
    assert_eq!(due(&world, 1, &room).await, 0, "the next process does not begin with it");
    assert_eq!(world.waiting(1).await, 1);
    world.clock.advance(60_000);
    world.servers[1].ingest.drain().await.unwrap();
    assert_eq!(world.fate(1, &last).await, Some((None, false, true)));
    assert_eq!(world.waiting(1).await, 0);
}

#[tokio::test]
async fn a_spoiled_copy_from_another_server_does_not_keep_the_event_out() {
    let (mut world, room, _, bob) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    world.join(third, &carl, &room, 0).await;
    let hello = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "hello" }), |_| ()).await;
    let mut spoiled: serde_json::Value = serde_json::from_str(&wire(&hello)).unwrap();
    spoiled["signatures"] = json!({ "b.test": { "ed25519:t": "c3BvaWxlZA" } });
    let ingest = &world.servers[0].ingest;
    ingest.receive(&world.servers[third].name, "t1", raw(vec![spoiled.to_string()])).await.unwrap();
    ingest.receive(&world.servers[1].name, "t2", raw(vec![wire(&hello)])).await.unwrap();
    ingest.drain().await.unwrap();
    assert_eq!(world.fate(0, hello.event_id()).await, Some((None, false, true)));
    assert_eq!(world.waiting(0).await, 0);
}

#[tokio::test]
async fn a_branch_that_begins_below_our_own_events_is_filled() {
    let (world, room, ann, bob) = two().await;
    for n in 0..10 {
        world.say(0, &room, &ann, &format!("{n}")).await.unwrap();
    }
    let first = world.say(1, &room, &bob, "meanwhile").await.unwrap();
    let second = world.say(1, &room, &bob, "elsewhere").await.unwrap();
    world.pass(1, 0, &second).await;
    assert_eq!(world.fate(0, &first).await, Some((None, false, true)));
    assert_eq!(world.fate(0, &second).await, Some((None, false, true)));
}

#[tokio::test]
async fn a_state_of_which_a_part_cannot_be_had_is_not_believed() {
    let (world, room, ann, _) = two().await;
    let levels = json!({ "users": { ann.as_str(): 100 }, "events_default": 0 });
    let levels = world.set(0, &room, &ann, "m.room.power_levels", "", levels).await.unwrap();
    world.say(0, &room, &ann, "before").await.unwrap();
    let last = world.say(0, &room, &ann, "after").await.unwrap();
    let own = world.json(0, &levels).await;
    let lie = |answers: Vec<(String, Vec<String>)>| *world.network.lies.lock().unwrap() = answers.into_iter().collect();
    lie(vec![("missing_events".into(), Vec::new()), ("event_auth".into(), Vec::new()), (format!("event {levels}"), Vec::new())]);
    world.pass(0, 1, &last).await;
    assert!(world.fate(1, &last).await.is_none_or(|(.., placed)| !placed));
    assert_eq!(world.waiting(1).await, 1);
    lie(vec![("missing_events".into(), Vec::new()), (format!("event {levels}"), vec![own])]);
    world.clock.advance(60_000);
    world.servers[1].ingest.drain().await.unwrap();
    assert_eq!(world.fate(1, &last).await, Some((None, false, true)));
    assert_eq!(world.state(1, &room).await, world.state(0, &room).await);
}

#[tokio::test]
async fn events_that_come_while_we_join_wait_for_the_room() {
    let (mut world, room, ann, _) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    let (answer, join) = world.join_answer(third, &carl, &room, 0).await;
    world.deliver(third, 0, vec![join]).await;
    let hello = world.say(0, &room, &ann, "welcome").await.unwrap();
    let json = world.json(0, &hello).await;
    let (store, ingest) = (&world.servers[third].store, &world.servers[third].ingest);
    let from = &world.servers[0].name;
    let early = ingest.receive(from, "t1", raw(vec![json.clone()])).await.unwrap();
    assert!(early.is_empty(), "of a room that nobody joins nothing is known");
    let under_way = RemoteJoin { room_id: room.clone(), user_id: carl.clone(), via: vec![from.clone()], reason: None };
    store.write(move |tx| remote_joins::put(tx, &under_way, &RoomVersionId::V10, 1)).await.unwrap();
    let answers = ingest.receive(from, "t2", raw(vec![json])).await.unwrap();
    assert!(answers[&hello].is_ok());
    ingest.drain().await.unwrap();
    assert_eq!(due(&world, third, &room).await, 1, "it is left alone");
    ingest.import(answer).await.unwrap();
    let (id, user) = (room.clone(), carl.clone());
    store.write(move |tx| remote_joins::done(tx, &id, &user)).await.unwrap();
    ingest.drain().await.unwrap();
    assert_eq!(world.fate(third, &hello).await, Some((None, false, true)));
    assert_eq!(world.waiting(third).await, 0);
}

#[tokio::test]
async fn what_came_for_a_room_that_was_not_joined_after_all_is_dropped() {
    let (mut world, room, ann, _) = two().await;
    let third = world.add("c.test");
    let hello = world.say(0, &room, &ann, "welcome").await.unwrap();
    let json = world.json(0, &hello).await;
    let (store, ingest) = (&world.servers[third].store, &world.servers[third].ingest);
    let carl = world.user(third, "carl");
    let under_way = RemoteJoin { room_id: room.clone(), user_id: carl.clone(), via: Vec::new(), reason: None };
    store.write(move |tx| remote_joins::put(tx, &under_way, &RoomVersionId::V10, 1)).await.unwrap();
    ingest.receive(&world.servers[0].name, "t", raw(vec![json])).await.unwrap();
    let id = room.clone();
    store.write(move |tx| remote_joins::done(tx, &id, &carl)).await.unwrap();
    assert_eq!(world.waiting(third).await, 1);
    ingest.drain().await.unwrap();
    assert_eq!(world.waiting(third).await, 0);
}

#[tokio::test]
async fn a_server_outside_of_the_room_brings_members_and_a_little_of_its_own_only() {
    let (mut world, room, _, bob) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    let relayed = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "relayed" }), |_| ()).await;
    let member = world.forge(1, &room, &bob, "m.room.member", Some(bob.as_str()), json!({ "membership": "join", "n": 1 }), |_| ()).await;
    let handle = world.handle(0, &room).await;
    let mut own = Vec::new();
    for n in 0..30 {
        let event = world.forge(0, &room, &carl, "m.room.message", None, json!({ "body": n }), |_| ()).await;
        own.push(wire(&world.sign(third, &handle, event.json().clone())));
    }
    let ingest = &world.servers[0].ingest;
    let from = &world.servers[third].name;
    let answers = ingest.receive(from, "t1", raw(vec![wire(&relayed), wire(&member)])).await.unwrap();
    assert_eq!(answers[relayed.event_id()], Err("your server is not in that room".into()));
    assert_eq!(answers[member.event_id()], Ok(()));
    let answers = ingest.receive(from, "t2", raw(own)).await.unwrap();
    assert_eq!(answers.len(), 30);
    assert_eq!(answers.values().filter(|answer| answer.is_ok()).count(), 19, "with the member, twenty wait");
}

/// Waits until an event has its place, while the server works on what waits.
async fn placed_by(world: &World, server: usize, event_id: &ruma::EventId) {
    let placed = async {
        while world.fate(server, event_id).await.is_none_or(|(.., placed)| !placed) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), placed).await.expect("it does not wait for others");
}

/// A server that names what nobody has, and does not answer when it is asked for it, holds up nobody but itself.
#[tokio::test]
async fn nobody_waits_for_a_server_that_does_not_answer() {
    let (mut world, room, ann, bob) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    world.join(third, &carl, &room, 0).await;
    let join = world.state(0, &room).await[&("m.room.member".into(), carl.to_string())].clone();
    world.pass(0, 1, &join).await;
    // Both of a server in the room and of one outside.
    let outside = world.add("aa.test");
    let handle = world.handle(0, &room).await;
    let eve = world.user(outside, "eve");
    let unknown = |json: &mut ruma::CanonicalJsonObject| {
        json.insert("auth_events".into(), serde_json::from_value(json!(["$one", "$two"])).unwrap());
    };
    let stuck = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "?" }), unknown).await;
    let lost = world.forge(0, &room, &eve, "m.room.member", Some(eve.as_str()), json!({ "membership": "join" }), unknown).await;
    let lost = world.sign(outside, &handle, lost.json().clone());
    *world.network.mute.lock().unwrap() = [world.servers[1].name.clone(), world.servers[outside].name.clone()].into();
    let ingest = &world.servers[0].ingest;
    ingest.receive(&world.servers[outside].name, "t0", raw(vec![wire(&lost)])).await.unwrap();
    ingest.receive(&world.servers[1].name, "t1", raw(vec![wire(&stuck)])).await.unwrap();
    let hello = world.say(third, &room, &carl, "hello").await.unwrap();
    let json = world.json(third, &hello).await;
    ingest.receive(&world.servers[third].name, "t2", raw(vec![json])).await.unwrap();
    let rest = async {
        placed_by(&world, 0, &hello).await;
        // What comes while the others are still waited for goes on as well.
        for n in 0..3 {
            let more = world.say(third, &room, &carl, &format!("more {n}")).await.unwrap();
            let json = world.json(third, &more).await;
            ingest.receive(&world.servers[third].name, &format!("m{n}"), raw(vec![json])).await.unwrap();
            placed_by(&world, 0, &more).await;
        }
    };
    tokio::select! {
        done = ingest.drain() => panic!("the others are still waited for: {done:?}"),
        () = rest => {}
    }
    assert_eq!(world.fate(0, stuck.event_id()).await, None);
    world.say(0, &room, &ann, "all is well").await.unwrap();
}

#[tokio::test]
async fn what_came_while_we_joined_is_held_to_the_rooms_access_list() {
    let (mut world, room, ann, bob) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    let early = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "shut out" }), |_| ()).await;
    world.set(0, &room, &ann, "m.room.server_acl", "", json!({ "allow": ["*"], "deny": ["b.test"] })).await.unwrap();
    let (answer, _) = world.join_answer(third, &carl, &room, 0).await;
    let (store, ingest) = (&world.servers[third].store, &world.servers[third].ingest);
    let under_way = RemoteJoin { room_id: room.clone(), user_id: carl.clone(), via: Vec::new(), reason: None };
    store.write(move |tx| remote_joins::put(tx, &under_way, &RoomVersionId::V10, 1)).await.unwrap();
    ingest.receive(&world.servers[1].name, "t", raw(vec![wire(&early)])).await.unwrap();
    // So is what a server that is not in the room says of others.
    let outsider = world.add("d.test");
    let relayed = world.forge(0, &room, &ann, "m.room.message", None, json!({ "body": "relayed" }), |_| ()).await;
    let (store, ingest) = (&world.servers[third].store, &world.servers[third].ingest);
    ingest.receive(&world.servers[outsider].name, "t", raw(vec![wire(&relayed)])).await.unwrap();
    assert_eq!(world.waiting(third).await, 0, "a room that is being joined waits");
    ingest.import(answer).await.unwrap();
    store.write(move |tx| remote_joins::done(tx, &room, &carl)).await.unwrap();
    assert_eq!(world.waiting(third).await, 1);
    ingest.drain().await.unwrap();
    assert_eq!(world.waiting(third).await, 0);
    for event in [&early, &relayed] {
        assert_eq!(world.fate(third, event.event_id()).await, None);
    }
}

#[tokio::test]
async fn a_server_outside_of_the_room_brings_no_invites_and_no_bans() {
    let (mut world, room, ann, _) = two().await;
    let third = world.add("c.test");
    let eve = world.user(third, "eve");
    let ingest = world.servers[0].ingest.clone();
    for membership in ["invite", "ban"] {
        let event = world.forge(0, &room, &ann, "m.room.member", Some(eve.as_str()), json!({ "membership": membership }), |_| ()).await;
        let answers = ingest.receive(&world.servers[third].name, membership, raw(vec![wire(&event)])).await.unwrap();
        assert!(answers[event.event_id()].is_err(), "{membership}");
    }
}

/// What a relay has changed on the way is not blank for us for good: its own server still has it.
#[tokio::test]
async fn an_event_that_was_spoiled_on_the_way_is_asked_for_at_its_own_server() {
    let (mut world, room, ann, bob) = two().await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    world.join(third, &carl, &room, 0).await;
    for (reachable, expected) in [(true, "hello"), (false, "")] {
        let hello = world.say(1, &room, &bob, "hello").await.unwrap();
        let mut spoiled: serde_json::Value = serde_json::from_str(&world.json(1, &hello).await).unwrap();
        spoiled["content"]["body"] = json!("send me money");
        world.network.set_cut(&world.servers[0].name, &world.servers[1].name, !reachable);
        world.deliver(third, 0, vec![spoiled.to_string()]).await;
        assert_eq!(world.fate(0, &hello).await, Some((None, false, true)));
        let stored: serde_json::Value = serde_json::from_str(&world.json(0, &hello).await).unwrap();
        assert_eq!(stored["content"]["body"].as_str().unwrap_or_default(), expected);
        world.network.heal();
    }
    world.say(0, &room, &ann, "all is well").await.unwrap();
}

#[tokio::test]
async fn every_spelling_of_a_servers_name_counts_for_it() {
    let (world, room, ..) = two().await;
    let store = &world.servers[0].store;
    let names = ["evil.test", "Evil.test", "evil.test:1", "EVIL.test:65535", "evil.test.other", "evil.tes", "not-evil.test"];
    let staged = store.write(move |tx| {
        for name in names {
            let origin = ruma::ServerName::parse(name).unwrap();
            inbound::stage(tx, &room, ruma::event_id!("$some-event"), &origin, "{}", 1)?;
        }
        Ok::<_, StoreError>(())
    });
    staged.await.unwrap();
    for (name, count) in [("evil.test", 4), ("eVil.test:9", 4), ("evil.tes", 1), ("evil.test.other", 1)] {
        let origin = ruma::ServerName::parse(name).unwrap();
        assert_eq!(store.read(move |db| inbound::waiting_from(db, &origin)).await.unwrap(), count, "{name}");
    }
}
