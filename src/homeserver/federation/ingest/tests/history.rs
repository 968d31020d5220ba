//! History that forks, and events that would follow what is long past.

use ruma::{CanonicalJsonObject, OwnedEventId, RoomVersionId};
use serde_json::json;

use super::world::{World, wire};
use crate::homeserver::{
    events::{self, EventError},
    store::events::{self as stored, Order},
    types::{Pdu, StreamPos},
};

fn follows(prev: &[&Pdu]) -> impl FnOnce(&mut CanonicalJsonObject) + Send + use<> {
    let ids: Vec<String> = prev.iter().map(|pdu| pdu.event_id().to_string()).collect();
    move |json| {
        json.insert("prev_events".into(), serde_json::from_value(json!(ids)).unwrap());
    }
}

/// The states before events that follow forks are merged while history gets its places, and it stands in order all the same.
#[tokio::test]
async fn history_that_forks_gets_its_places_in_order() {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    let mut made: Vec<Pdu> = Vec::new();
    for round in 0..5 {
        let base = world.forge(0, &room, &ann, "m.room.message", None, json!({ "body": format!("base {round}") }), |_| ()).await;
        let topic = json!({ "topic": format!("{round}") });
        let topic = world.forge(0, &room, &ann, "m.room.topic", Some(""), topic, follows(&[&base])).await;
        let name = json!({ "name": format!("{round}") });
        let name = world.forge(0, &room, &ann, "m.room.name", Some(""), name, follows(&[&base])).await;
        let both = world.forge(0, &room, &ann, "m.room.message", None, json!({ "body": "both" }), follows(&[&topic, &name])).await;
        for event in [base, topic, name, both] {
            world.deliver(0, 0, vec![wire(&event)]).await;
            assert_eq!(world.fate(0, event.event_id()).await, Some((None, false, true)));
            made.push(event);
        }
    }
    world.join(1, &bob, &room, 0).await;
    let handle = world.handle(1, &room).await;
    let mut rounds = 0;
    while world.servers[1].ingest.has_earlier(&handle, StreamPos(i64::MAX)).await.unwrap() {
        world.servers[1].ingest.backfill(&handle, StreamPos(i64::MAX)).await.unwrap();
        rounds += 1;
        assert!(rounds < 10, "it comes to an end");
    }
    let nid = handle.nid;
    let all =
        world.servers[1].store.read(move |db| stored::range(db, nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Forwards, 1000));
    let found: Vec<OwnedEventId> = all.await.unwrap().into_iter().map(|event| event.event_id).collect();
    let at = |event: &Pdu| found.iter().position(|id| id == event.event_id()).unwrap_or_else(|| panic!("{} has no place", wire(event)));
    for event in &made {
        for prev in made.iter().filter(|other| event.prev_events().iter().any(|id| id == other.event_id())) {
            assert!(at(prev) < at(event));
        }
    }
    assert_eq!(world.state(1, &room).await[&("m.room.topic".into(), String::new())], *made[17].event_id());
}

/// Whoever gives us an event to pass on cannot have two states of the whole room resolved by it.
#[tokio::test]
async fn an_event_that_follows_what_is_long_past_is_not_worth_the_work() {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    world.join(1, &bob, &room, 0).await;
    let past = world.say(0, &room, &ann, "long ago").await.unwrap();
    for n in 0..520 {
        world.set(0, &room, &ann, "test.state", &n.to_string(), json!({ "n": n })).await.unwrap();
    }
    let near = world.say(0, &room, &ann, "just now").await.unwrap();
    let handle = world.handle(0, &room).await;
    let leave = |prev: Vec<OwnedEventId>| {
        let (world, room, bob) = (&world, &room, &bob);
        async move {
            let change = move |json: &mut CanonicalJsonObject| {
                json.insert("prev_events".into(), serde_json::from_value(json!(prev)).unwrap());
            };
            world.forge(0, room, bob, "m.room.member", Some(bob.as_str()), json!({ "membership": "leave" }), change).await
        }
    };
    for (prev, good) in [(vec![near.clone()], true), (vec![past.clone(), near], false), (vec![past], false)] {
        let (pdu, handle) = (leave(prev).await, handle.clone());
        let outcome = world.servers[0].store.read(move |db| events::worthwhile(db, &handle, &pdu)).await;
        assert_eq!(outcome.is_ok(), good, "{outcome:?}");
        assert!(good || matches!(outcome, Err(EventError::BadState(_))), "{outcome:?}");
    }
    // What the rules refuse anyway does not come so far.
    let takeover = world.forge(0, &room, &bob, "m.room.power_levels", Some(""), json!({ "users": { bob.as_str(): 100 } }), |_| ()).await;
    let outcome = world.servers[0].store.read(move |db| events::worthwhile(db, &handle, &takeover)).await;
    assert!(matches!(outcome, Err(EventError::Forbidden(_))), "{outcome:?}");
}
