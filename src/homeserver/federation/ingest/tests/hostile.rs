//! What servers that mean ill send: one test for every advisory that concerns events (SERVER-CHECKLIST, "Advisories").

use ruma::{CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::{
    super::ImportError,
    world::{World, raw, wire},
};
use crate::homeserver::{
    events::{
        EventError,
        outside::{self, Outside},
    },
    federation::reading,
    rooms::build,
    store::{
        events::{self, Order},
        graph,
    },
    types::StreamPos,
};

async fn two(version: RoomVersionId) -> (World, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, version).await;
    world.join(1, &bob, &room, 0).await;
    (world, room, ann, bob)
}

/// MSC4307: somebody's power in one room must count for nothing in another.
#[tokio::test]
async fn authority_of_another_room_is_worth_nothing() {
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        let (world, room, _, bob) = two(version.clone()).await;
        // Bob is all-powerful in a room of his own, which our server knows as well.
        let own = world.room(1, &bob, version).await;
        let ann = world.user(0, "ann");
        world.join(0, &ann, &own, 1).await;
        let levels = world.state(1, &own).await[&("m.room.power_levels".into(), String::new())].clone();
        let member = world.state(1, &own).await[&("m.room.member".into(), bob.to_string())].clone();
        let bad = world
            .forge(1, &room, &bob, "m.room.name", Some(""), json!({ "name": "mine" }), |json| {
                let foreign = json.get("auth_events").unwrap().as_array().unwrap().first().cloned();
                let auth = foreign.into_iter().chain([levels.to_string().into(), member.to_string().into()]);
                json.insert("auth_events".into(), CanonicalJsonValue::Array(auth.collect()));
            })
            .await;
        world.deliver(1, 0, vec![wire(&bad)]).await;
        assert!(world.fate(0, bad.event_id()).await.is_none_or(|(rejected, ..)| rejected.is_some()));
        assert!(!world.state(0, &room).await.contains_key(&("m.room.name".into(), String::new())));
    }
}

/// CVE-2020-26257: an event is of the room that it names, however it came.
#[tokio::test]
async fn events_of_another_room_do_not_come_in_with_an_answer() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let elsewhere = world.room(1, &bob, RoomVersionId::V10).await;
    let foreign = world.say(1, &elsewhere, &bob, "of another room").await.unwrap();
    world.say(0, &room, &ann, "missed").await.unwrap();
    let last = world.say(0, &room, &ann, "last").await.unwrap();
    let lie = world.json(1, &foreign).await;
    world.network.lies.lock().unwrap().insert("missing_events".into(), vec![lie.clone()]);
    world.pass(0, 1, &last).await;
    let (answer, _) = world.join_answer(1, &bob, &room, 0).await;
    let nid = world.handle(1, &room).await.nid;
    let id = foreign.clone();
    let stored = world.servers[1].store.read(move |db| events::by_id(db, &id)).await.unwrap().unwrap();
    assert_ne!(stored.room, nid, "it stays where it belongs");
    let answer = super::world::JoinAnswer { join: raw(vec![lie]).pop().unwrap(), ..answer };
    assert!(matches!(world.servers[1].ingest.import(answer).await, Err(ImportError::Unusable(_))));
}

/// CVE-2022-39374: what was rejected does not come back as part of somebody's state.
#[tokio::test]
async fn a_rejected_event_does_not_re_enter_by_a_state() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let takeover = json!({ "users": { bob.as_str(): 100 } });
    let bad = world.forge(1, &room, &bob, "m.room.power_levels", Some(""), takeover, |_| ()).await;
    world.deliver(1, 0, vec![wire(&bad)]).await;
    assert!(world.fate(0, bad.event_id()).await.unwrap().0.is_some());
    // Ann's server leaves and joins again by way of Bob's, who hands out a state of his liking.
    let leave = world.set(0, &room, &ann, "m.room.member", ann.as_str(), json!({ "membership": "leave" })).await.unwrap();
    world.pass(0, 1, &leave).await;
    let (mut answer, _) = world.join_answer(0, &ann, &room, 1).await;
    answer.state.push(raw(vec![wire(&bad)]).pop().unwrap());
    world.servers[0].ingest.import(answer).await.unwrap();
    assert_ne!(world.state(0, &room).await[&("m.room.power_levels".into(), String::new())], *bad.event_id());
}

/// CVE-2022-39374 once more, where the state is that of a gap.
#[tokio::test]
async fn a_rejected_event_does_not_re_enter_by_the_state_at_a_gap() {
    for version in [RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V12] {
        let (world, room, _, bob) = two(version).await;
        let takeover = json!({ "users": { bob.as_str(): 100 } });
        let bad = world.forge(1, &room, &bob, "m.room.power_levels", Some(""), takeover, |_| ()).await;
        world.deliver(1, 0, vec![wire(&bad)]).await;
        assert!(world.fate(0, bad.event_id()).await.unwrap().0.is_some());
        let before = world.state(0, &room).await;
        world.say(1, &room, &bob, "missed").await.unwrap();
        let last = world.say(1, &room, &bob, "last").await.unwrap();
        let lies = [("missing_events".to_owned(), Vec::new()), ("more_state_ids".to_owned(), vec![bad.event_id().to_string()])];
        *world.network.lies.lock().unwrap() = lies.into_iter().collect();
        world.pass(1, 0, &last).await;
        assert_eq!(world.fate(0, &last).await, Some((None, false, true)), "the rest of the state is good");
        assert_eq!(world.state(0, &room).await, before);
    }
}

/// The same for a server that has never seen the event: every event of the state is checked (Dendrite before 0.9.8 and 0.9.3).
#[tokio::test]
async fn every_event_of_a_join_is_checked_and_what_fails_is_left_out() {
    let (mut world, room, _, bob) = two(RoomVersionId::V12).await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    let takeover = json!({ "users": { bob.as_str(): 100 } });
    let unauthorised = world.forge(1, &room, &bob, "m.room.power_levels", Some(""), takeover, |_| ()).await;
    let (mut answer, _) = world.join_answer(third, &carl, &room, 1).await;
    // A topic that Ann never set, with the signature of another event of hers.
    let topic = world.state(1, &room).await[&("m.room.topic".into(), String::new())].clone();
    let mut forged: serde_json::Value = serde_json::from_str(&world.json(1, &topic).await).unwrap();
    forged["content"]["topic"] = json!("forged");
    forged["origin_server_ts"] = json!(1_800_000_000_000_u64);
    let forged = forged.to_string();
    answer.state.push(raw(vec![wire(&unauthorised)]).pop().unwrap());
    answer.state.push(raw(vec![forged]).pop().unwrap());
    answer.state.push(raw(vec!["{}".into()]).pop().unwrap());
    let imported = world.servers[third].ingest.import(answer).await.unwrap();
    assert_eq!(imported.refused, 3);
    let mut expected = world.state(1, &room).await;
    expected.insert(
        ("m.room.member".into(), carl.to_string()),
        world.state(third, &room).await[&("m.room.member".into(), carl.to_string())].clone(),
    );
    assert_eq!(world.state(third, &room).await, expected);
    assert!(world.fate(third, unauthorised.event_id()).await.unwrap().0.is_some());
}

#[tokio::test]
async fn a_join_answer_that_contradicts_itself_is_not_used() {
    let (mut world, room, _, bob) = two(RoomVersionId::V10).await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    let answer = || world.join_answer(third, &carl, &room, 1);
    let (mut other_version, _) = answer().await;
    other_version.version = RoomVersionId::V9;
    let (mut no_create, _) = answer().await;
    no_create.state.retain(|json| !json.get().contains("m.room.create"));
    no_create.auth_chain.retain(|json| !json.get().contains("m.room.create"));
    let (mut other_room, _) = answer().await;
    other_room.room_id = world.room(1, &bob, RoomVersionId::V10).await;
    let (mut unsigned, _) = answer().await;
    let mut join: serde_json::Value = serde_json::from_str(unsigned.join.get()).unwrap();
    join["origin_server_ts"] = json!(5);
    unsigned.join = raw(vec![join.to_string()]).pop().unwrap();
    for (what, answer) in [("version", other_version), ("create", no_create), ("room", other_room), ("signature", unsigned)] {
        let outcome = world.servers[third].ingest.import(answer).await;
        assert!(matches!(outcome, Err(ImportError::Unusable(_))), "{what}: {outcome:?}");
    }
    let fine = answer().await.0;
    world.servers[third].ingest.import(fine).await.unwrap();
}

/// CVE-2025-30355, CVE-2024-52815: a malformed event harms nobody but itself.
#[tokio::test]
async fn malformed_events_are_dropped_and_what_came_with_them_goes_on() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let good = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "good" }), |_| ()).await;
    let long = "x".repeat(70_000);
    let with = |field: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&wire(&good)).unwrap();
        json[field] = value;
        json.to_string()
    };
    let mut events = vec![
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        with("room_id", json!(7)),
        with("room_id", json!("!")),
        with("sender", json!("@")),
        with("depth", json!(1.5)),
        with("depth", json!(9_223_372_036_854_775_807_u64)),
        with("depth", json!("deep")),
        with("content", json!(null)),
        with("content", json!([])),
        with("content", json!({ "body": long })),
        with("prev_events", json!({})),
        with("auth_events", json!([[[]]])),
        with("auth_events", json!([null])),
        with("hashes", json!("")),
        with("signatures", json!([])),
        with("signatures", json!({ "b.test": { "ed25519:t": "" } })),
        with("state_key", json!({})),
        with("type", json!("")),
        with("origin_server_ts", json!(-1)),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    ];
    for kind in ["m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.create", "m.room.third_party_invite"] {
        for content in
            [json!({}), json!({ "membership": 1, "users": 1, "join_rule": [] }), json!({ "membership": "join", "displayname": [] })]
        {
            events.push(wire(&world.forge(1, &room, &bob, kind, Some("@"), content, |_| ()).await));
        }
    }
    events.push(wire(&good));
    for chunk in events.chunks(10) {
        world.deliver(1, 0, chunk.to_vec()).await;
    }
    assert_eq!(world.fate(0, good.event_id()).await, Some((None, false, true)));
    let reply = world.say(0, &room, &world.user(0, "ann"), "all is well").await.unwrap();
    world.pass(0, 1, &reply).await;
    assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
}

/// CVE-2024-31208: a chain of events that authorise each other, as long as the attacker likes, is taken up to a limit only.
#[tokio::test]
async fn an_endless_auth_chain_is_not_followed() {
    let (world, room, _, bob) = two(RoomVersionId::V10).await;
    let bad = world
        .forge(1, &room, &bob, "m.room.message", None, json!({ "body": "?" }), |json| {
            json.insert("auth_events".into(), serde_json::from_value(json!(["$one", "$two"])).unwrap());
        })
        .await;
    // Each event that is asked for names others that nobody has.
    let mut chain = Vec::new();
    for n in 0..300 {
        let event = world.forge(1, &room, &bob, "m.room.member", Some(bob.as_str()), json!({ "membership": "join", "n": n }), |json| {
            json.insert("auth_events".into(), serde_json::from_value(json!([format!("$m{n}"), format!("$k{n}")])).unwrap());
        });
        chain.push(wire(&event.await));
    }
    chain.extend((0..60_000).map(|n| format!("{{\"n\":{n}}}")));
    world.network.lies.lock().unwrap().insert("event_auth".into(), chain);
    world.deliver(1, 0, vec![wire(&bad)]).await;
    let asked = world.network.asked.lock().unwrap().len();
    assert!(asked < 2000, "{asked} questions");
    assert_eq!(world.fate(0, bad.event_id()).await, None);
}

/// Dendrite before 0.9.8: what fills a gap is checked like everything else.
#[tokio::test]
async fn missing_events_are_verified() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    let missed = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "missed" }), |_| ()).await;
    let id = missed.event_id().to_string();
    let last = world
        .forge(1, &room, &bob, "m.room.message", None, json!({ "body": "last" }), |json| {
            json.insert("prev_events".into(), serde_json::from_value(json!([id])).unwrap());
        })
        .await;
    // The same event, in Ann's name: its ID is another, and Bob's server cannot sign for her.
    let mut forged = missed.json().clone();
    forged.insert("sender".into(), ann.to_string().into());
    let forged = build::canonical(&forged).unwrap();
    let handle = world.handle(0, &room).await;
    let forged_id = build::event_id(&serde_json::from_str(&forged).unwrap(), &handle.rules).unwrap();
    world.network.lies.lock().unwrap().insert("missing_events".into(), vec![forged]);
    world.deliver(1, 0, vec![wire(&last)]).await;
    assert_eq!(world.fate(0, &forged_id).await, None);
}

/// CVE-2026-45076: rejected and soft-failed events neither show in a page nor end it.
#[tokio::test]
async fn pages_go_over_rejected_events() {
    let (world, room, ann, bob) = two(RoomVersionId::V10).await;
    world.say(0, &room, &ann, "first").await.unwrap();
    let eve = world.user(1, "eve");
    for n in 0..5 {
        let bad = world.forge(1, &room, &eve, "m.room.message", None, json!({ "body": format!("bad {n}") }), |_| ()).await;
        world.deliver(1, 0, vec![wire(&bad)]).await;
    }
    let good = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "good" }), |_| ()).await;
    world.deliver(1, 0, vec![wire(&good)]).await;
    let nid = world.handle(0, &room).await.nid;
    let page = world.servers[0]
        .store
        .read(move |db| events::range(db, nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Backwards, 2))
        .await
        .unwrap();
    assert_eq!(page.len(), 2);
    assert!(page[0].json.contains("good") && page[1].json.contains("first"));
}

/// CVE-2022-39335 and its like: who is not in the room learns nothing of it.
#[tokio::test]
async fn servers_outside_are_told_nothing() {
    let (mut world, room, ann, bob) = two(RoomVersionId::V10).await;
    let third = world.add("c.test");
    let secret = world.say(0, &room, &ann, "secret").await.unwrap();
    let outsider = world.servers[third].name.clone();
    let (id, other) = (room.clone(), outsider.clone());
    let answers = world.servers[0].store.read(move |db| {
        let missing = reading::Missing { earliest: &[], latest: std::slice::from_ref(&secret), limit: 10, min_depth: 0 };
        Ok::<_, EventError>(vec![
            reading::event(db, &other, &secret).map(drop),
            reading::event_auth(db, &other, &id, &secret).map(drop),
            reading::state(db, &other, &id, &secret).map(drop),
            reading::state_ids(db, &other, &id, &secret).map(drop),
            reading::backfill(db, &other, &id, std::slice::from_ref(&secret), 10).map(drop),
            reading::missing_events(db, &other, &id, &missing).map(drop),
            reading::timestamp_to_event(db, &other, &id, 0, Order::Forwards).map(drop),
        ])
    });
    for (n, answer) in answers.await.unwrap().into_iter().enumerate() {
        assert!(matches!(answer, Err(EventError::Forbidden(_) | EventError::NotFound(_))), "{n}: {answer:?}");
    }
    // An event of a room that the asker is in, asked for by way of that room, is no way to others either.
    let elsewhere = world.room(0, &ann, RoomVersionId::V10).await;
    let hidden = world.say(0, &elsewhere, &ann, "hidden").await.unwrap();
    let (id, us) = (room.clone(), world.servers[1].name.clone());
    let answer = world.servers[0].store.read(move |db| {
        Ok::<_, EventError>([reading::state(db, &us, &id, &hidden).map(drop), reading::event_auth(db, &us, &id, &hidden).map(drop)])
    });
    for answer in answer.await.unwrap() {
        assert!(matches!(answer, Err(EventError::NotFound(_))), "{answer:?}");
    }
    drop(bob);
}

#[tokio::test]
async fn history_from_before_their_join_is_hidden_from_servers_where_the_room_says_so() {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V10).await;
    world.set(0, &room, &ann, "m.room.history_visibility", "", json!({ "history_visibility": "joined" })).await.unwrap();
    let before = world.say(0, &room, &ann, "among us").await.unwrap();
    world.join(1, &bob, &room, 0).await;
    let after = world.say(0, &room, &ann, "for all").await.unwrap();
    let (id, us) = (room.clone(), world.servers[1].name.clone());
    let (hidden, shown, page) = world.servers[0]
        .store
        .read(move |db| {
            let page = reading::backfill(db, &us, &id, std::slice::from_ref(&after), 50)?;
            Ok::<_, EventError>((reading::event(db, &us, &before).is_err(), reading::event(db, &us, &after).is_ok(), page))
        })
        .await
        .unwrap();
    assert!(hidden && shown);
    assert!(page.iter().any(|json| json.contains("for all")));
    assert!(!page.iter().any(|json| json.contains("among us")), "it is redacted, its place in the graph stays");
    assert!(page.iter().filter(|json| json.contains("m.room.message")).count() >= 2);
}

/// An event is its sender's server's to sign, whoever brings it.
#[tokio::test]
async fn nobody_speaks_for_another_servers_users() {
    let (world, room, ann, _) = two(RoomVersionId::V10).await;
    let forged = world.forge(1, &room, &ann, "m.room.message", None, json!({ "body": "I, Ann" }), |_| ()).await;
    world.deliver(1, 0, vec![wire(&forged)]).await;
    assert_eq!(world.fate(0, forged.event_id()).await, None);
    assert_eq!(world.waiting(0).await, 0);
    let id: &EventId = forged.event_id();
    assert!(!world.extremities(0, &room).await.contains(id));
}

/// Before room version 12 (MSC4291), the server that made a room could make it again, which put all of its state in dispute.
#[tokio::test]
async fn a_room_is_created_once() {
    for version in [RoomVersionId::V3, RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V11] {
        let world = World::new(2);
        let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
        // The room's ID is of the second server, whose user has lost it.
        let room = world.room(1, &bob, version.clone()).await;
        world.join(0, &ann, &room, 1).await;
        let before = world.state(0, &room).await;
        let content = json!({ "creator": bob, "room_version": version, "m.federate": false });
        let again = world
            .forge(1, &room, &bob, "m.room.create", Some(""), content, |json| {
                json.insert("prev_events".into(), CanonicalJsonValue::Array(Vec::new()));
                json.insert("auth_events".into(), CanonicalJsonValue::Array(Vec::new()));
                json.insert("depth".into(), serde_json::from_value(json!(1)).unwrap());
            })
            .await;
        let id = again.event_id().to_string();
        let member = world
            .forge(1, &room, &bob, "m.room.member", Some(bob.as_str()), json!({ "membership": "join" }), |json| {
                json.insert("prev_events".into(), serde_json::from_value(json!([id])).unwrap());
                json.insert("auth_events".into(), serde_json::from_value(json!([id])).unwrap());
            })
            .await;
        world.deliver(1, 0, vec![wire(&again), wire(&member)]).await;
        for event in [&again, &member] {
            let fate = world.fate(0, event.event_id()).await;
            assert!(fate.as_ref().is_none_or(|(rejected, ..)| rejected.is_some()), "{version}: {fate:?}");
            assert!(!world.extremities(0, &room).await.contains(event.event_id()));
        }
        assert_eq!(world.state(0, &room).await, before, "{version}");
        // Nor does it come in as part of a state that is asked for.
        let hello = world
            .forge(1, &room, &bob, "m.room.message", None, json!({ "body": "hello" }), |json| {
                json.insert("prev_events".into(), serde_json::from_value(json!([id])).unwrap());
            })
            .await;
        world.deliver(1, 0, vec![wire(&hello)]).await;
        assert_eq!(world.state(0, &room).await, before, "{version}");
        let said = world.say(0, &room, &ann, "still here").await.unwrap();
        world.pass(0, 1, &said).await;
        assert_eq!(world.fate(1, &said).await, Some((None, false, true)));
    }
}

/// State that has no place in the room may be of a time when the asker was not in it.
#[tokio::test]
async fn state_without_a_place_is_shown_only_where_everybody_has_to_have_it() {
    let (mut world, room, ann, bob) = two(RoomVersionId::V10).await;
    let third = world.add("c.test");
    let carl = world.user(third, "carl");
    world.join(third, &carl, &room, 0).await;
    let levels = json!({ "users": { ann.as_str(): 100, bob.as_str(): 50 } });
    let levels = world.set(0, &room, &ann, "m.room.power_levels", "", levels).await.unwrap();
    world.pass(0, 1, &levels).await;
    let lost = |json: &mut ruma::CanonicalJsonObject| {
        json.insert("prev_events".into(), serde_json::from_value(json!(["$nobody-has-it"])).unwrap());
    };
    let topic = world.forge(1, &room, &bob, "m.room.topic", Some(""), json!({ "topic": "among us" }), lost).await;
    let member = world.forge(1, &room, &bob, "m.room.member", Some(bob.as_str()), json!({ "membership": "join", "n": 1 }), lost).await;
    world.deliver(1, 0, vec![wire(&topic), wire(&member)]).await;
    for event in [&topic, &member] {
        assert_eq!(world.fate(0, event.event_id()).await, Some((None, false, false)), "it is here without a place");
    }
    let (asker, ids) = (world.servers[third].name.clone(), [topic.event_id().to_owned(), member.event_id().to_owned()]);
    let shown = world.servers[0].store.read(move |db| Ok::<_, EventError>(ids.map(|id| reading::event(db, &asker, &id).is_ok())));
    assert_eq!(shown.await.unwrap(), [false, true]);
}

/// An invite is stored without its room while somebody joins; when it comes as one of the room's events, it is one of them.
#[tokio::test]
async fn an_invite_that_came_before_its_room_is_stored_with_what_authorises_it() {
    let (world, room, ann, _) = two(RoomVersionId::V10).await;
    let zoe = world.user(1, "zoe");
    let pdu = world.forge(0, &room, &ann, "m.room.member", Some(zoe.as_str()), json!({ "membership": "invite" }), |_| ()).await;
    let (invite, json) = (pdu.event_id().to_owned(), wire(&pdu));
    let (ctx, id, server) = (world.ctx(1), room.clone(), &world.servers[1]);
    let put = server.store.write(move |tx| {
        let outside = Outside { room_id: &id, version: &RoomVersionId::V10, pdu: &pdu, told: None, came_from: Some("a.test") };
        outside::put(tx, &ctx, outside)
    });
    put.await.unwrap();
    let auth = |id: OwnedEventId| async move {
        let found = server.store.read(move |db| {
            let nid = graph::find(db, &id)?.unwrap().nid;
            Ok::<_, EventError>((nid, graph::auth_of(db, nid)?))
        });
        found.await.unwrap()
    };
    assert!(auth(invite.clone()).await.1.is_empty());
    world.deliver(0, 1, vec![json]).await;
    assert_eq!(world.fate(1, &invite).await, Some((None, false, true)));
    let (nid, authorising) = auth(invite.clone()).await;
    assert!(!authorising.is_empty() && authorising.iter().all(|auth| *auth < nid), "{nid:?} {authorising:?}");
    assert_eq!(world.state(1, &room).await[&("m.room.member".into(), zoe.to_string())], invite);
}
