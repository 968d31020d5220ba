//! Gaps with state in them, gaps that take several attempts, and gaps as wide as a room may be forked.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::world::{World, wire};
use crate::homeserver::{
    store::events::{self, Order},
    types::StreamPos,
};

async fn two() -> (World, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    world.join(1, &bob, &room, 0).await;
    (world, room, ann, bob)
}

/// A room's events as a server would page through them from this one on, oldest first.
async fn from(world: &World, server: usize, room: &OwnedRoomId, first: &OwnedEventId) -> Vec<OwnedEventId> {
    let nid = world.handle(server, room).await.nid;
    let all = world.servers[server]
        .store
        .read(move |db| events::range(db, nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Forwards, 10_000));
    all.await.unwrap().into_iter().map(|event| event.event_id).skip_while(|id| id != first).collect()
}

/// What happens on Ann's server: messages, and among them power levels, a join, a topic and a member who speaks.
async fn eventful(world: &World, room: &OwnedRoomId, ann: &OwnedUserId) -> Vec<OwnedEventId> {
    let cat = world.user(0, "cat");
    let mut made = Vec::new();
    for round in 0..3 {
        for n in 0..4 {
            made.push(world.say(0, room, ann, &format!("{round} {n}")).await.unwrap());
        }
        let levels = json!({ "users": { ann.as_str(): 100, cat.as_str(): 50 + round }, "events_default": 0 });
        made.push(world.set(0, room, ann, "m.room.power_levels", "", levels).await.unwrap());
        made.push(world.say(0, room, ann, "levels are set").await.unwrap());
        let join = json!({ "membership": "join", "displayname": format!("cat {round}") });
        made.push(world.set(0, room, &cat, "m.room.member", cat.as_str(), join).await.unwrap());
        made.push(world.set(0, room, &cat, "m.room.topic", "", json!({ "topic": format!("{round}") })).await.unwrap());
        made.push(world.say(0, room, &cat, "said by cat").await.unwrap());
    }
    made
}

#[tokio::test]
async fn a_gap_with_state_in_it_is_filled_without_a_hole() {
    let (world, room, ann, _) = two().await;
    let made = eventful(&world, &room, &ann).await;
    world.network.asked.lock().unwrap().clear();
    world.pass(0, 1, made.last().unwrap()).await;
    assert_eq!(from(&world, 1, &room, &made[0]).await, made);
    for id in &made {
        assert_eq!(world.fate(1, id).await, Some((None, false, true)));
    }
    let handle = world.handle(1, &room).await;
    let nid = handle.nid;
    let ends =
        world.servers[1].store.read(move |db| crate::homeserver::store::graph::backward_extremities(db, nid, StreamPos(i64::MAX), 10));
    let ends: Vec<OwnedEventId> = ends.await.unwrap().into_iter().map(|(id, _)| id).collect();
    assert!(ends.iter().all(|id| !made.contains(id)), "no hole in the middle");
    assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
    let asked = world.network.asked.lock().unwrap();
    assert!(!asked.iter().any(|question| question.starts_with("state")), "no state is asked for: {asked:?}");
}

#[tokio::test]
async fn a_gap_that_took_too_long_is_filled_by_the_next_attempt() {
    let (world, room, ann, _) = two().await;
    let made = eventful(&world, &room, &ann).await;
    // The first attempt gets the last few events, and no state: that is as far as it comes before its time is over.
    let mut lies = vec![("state_ids".to_owned(), Vec::new())];
    let mut some = Vec::new();
    for id in made.iter().rev().skip(1).take(6) {
        some.push(world.json(0, id).await);
    }
    lies.push(("missing_events".into(), some));
    *world.network.lies.lock().unwrap() = lies.into_iter().collect();
    world.pass(0, 1, made.last().unwrap()).await;
    assert_eq!(world.waiting(1).await, 1);
    assert!(matches!(world.fate(1, &made[made.len() - 3]).await, Some((None, false, false))), "it is here without a place");
    world.network.lies.lock().unwrap().clear();
    world.clock.advance(60_000);
    world.servers[1].ingest.drain().await.unwrap();
    assert_eq!(from(&world, 1, &room, &made[0]).await, made);
    assert_eq!(world.waiting(1).await, 0);
    assert_eq!(world.state(0, &room).await, world.state(1, &room).await);
}

/// Branches of three events each that all begin at one place, and events that draw them together, twenty at a time.
#[tokio::test]
async fn a_gap_of_a_hundred_branches_is_filled_without_asking_for_a_state() {
    let (world, room, _, bob) = two().await;
    let say = |prev: Option<Vec<OwnedEventId>>, text: String| {
        let (world, room, bob) = (&world, &room, &bob);
        async move {
            let change = move |json: &mut ruma::CanonicalJsonObject| {
                if let Some(prev) = prev {
                    json.insert("prev_events".into(), serde_json::from_value(json!(prev)).unwrap());
                }
            };
            world.forge(1, room, bob, "m.room.message", None, json!({ "body": text }), change).await
        }
    };
    let mut made = Vec::new();
    let mut ends = Vec::new();
    for branch in 0..100 {
        let mut prev = None;
        for n in 0..3 {
            let event = say(prev, format!("{branch} {n}")).await;
            prev = Some(vec![event.event_id().to_owned()]);
            made.push(event);
        }
        ends.extend(prev.into_iter().flatten());
    }
    let mut last = Vec::new();
    for (n, some) in ends.chunks(20).enumerate() {
        last.push(say(Some(some.to_vec()), format!("together {n}")).await);
    }
    // Bob's server has all of it, Ann's is told of the last five.
    for some in made.chunks(50) {
        world.deliver(1, 1, some.iter().map(wire).collect()).await;
    }
    let last: Vec<String> = last.iter().map(wire).collect();
    world.deliver(1, 1, last.clone()).await;
    world.network.asked.lock().unwrap().clear();
    world.deliver(1, 0, last).await;
    for event in &made {
        assert_eq!(world.fate(0, event.event_id()).await, Some((None, false, true)), "{}", wire(event));
    }
    assert_eq!(world.waiting(0).await, 0);
    let asked = world.network.asked.lock().unwrap();
    assert!(!asked.iter().any(|question| question.starts_with("state")), "{asked:?}");
    assert!(asked.len() < 40, "{} questions", asked.len());
}
