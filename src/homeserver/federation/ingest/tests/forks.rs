//! Rooms that others have forked widely.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::world::{World, wire};
use crate::homeserver::{
    rooms::visibility::DUMMY,
    store::{
        accounts,
        events::{self, Order},
    },
    types::StreamPos,
};

/// Gives a user of the first server an account.
async fn account(world: &World, user: &OwnedUserId) {
    let user = user.clone();
    world.servers[0].store.write(move |tx| accounts::create(tx, &user, None, false, 1)).await.unwrap();
}

/// Two servers with a user each in one room, and that many messages of Bob's on his server that all follow the same event.
async fn forked(count: usize) -> (World, OwnedRoomId, OwnedUserId, OwnedUserId, Vec<String>) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    account(&world, &ann).await;
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    world.join(1, &bob, &room, 0).await;
    let mut forks = Vec::new();
    for n in 0..count {
        forks.push(wire(&world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": n.to_string() }), |_| ()).await));
    }
    (world, room, ann, bob, forks)
}

/// The events of the kind that a server has made or taken.
async fn dummies(world: &World, server: usize, room: &OwnedRoomId) -> Vec<OwnedEventId> {
    let nid = world.handle(server, room).await.nid;
    let all = world.servers[server]
        .store
        .read(move |db| events::range(db, nid, StreamPos(i64::MIN), StreamPos(i64::MAX), Order::Forwards, 10_000));
    all.await.unwrap().into_iter().filter(|event| event.kind == DUMMY).map(|event| event.event_id).collect()
}

#[tokio::test]
async fn many_ends_are_drawn_together_after_a_while() {
    let (world, room, ann, bob, forks) = forked(60).await;
    world.deliver(1, 0, forks).await;
    assert_eq!(world.extremities(0, &room).await.len(), 60);
    assert!(dummies(&world, 0, &room).await.is_empty(), "somebody else may be first");
    world.clock.advance(121_000);
    let late = world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": "late" }), |_| ()).await;
    world.deliver(1, 0, vec![wire(&late)]).await;
    let left = world.extremities(0, &room).await;
    assert!(left.len() < 10, "{}", left.len());
    let made = dummies(&world, 0, &room).await;
    assert!((3..=4).contains(&made.len()), "{}", made.len());
    // What was followed is still part of the room: the next event of ours comes after all of it.
    world.say(0, &room, &ann, "all together").await.unwrap();
    let end = world.extremities(0, &room).await;
    assert_eq!(end.len(), 1);
}

#[tokio::test]
async fn a_flood_of_forks_is_drawn_together_at_once() {
    let (world, room, _, _, forks) = forked(230).await;
    let mut most = 0;
    for some in forks.chunks(50) {
        world.deliver(1, 0, some.to_vec()).await;
        most = most.max(world.extremities(0, &room).await.len());
    }
    assert!(most < 150, "{most}");
    assert!(!dummies(&world, 0, &room).await.is_empty());
}

#[tokio::test]
async fn where_nobody_here_may_speak_the_room_goes_on_forked() {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    account(&world, &ann).await;
    let room = world.room(1, &bob, RoomVersionId::V11).await;
    world.join(0, &ann, &room, 1).await;
    let muted = json!({ "users": { bob.as_str(): 100 }, "events_default": 50 });
    let levels = world.set(1, &room, &bob, "m.room.power_levels", "", muted).await.unwrap();
    world.pass(1, 0, &levels).await;
    let mut forks = Vec::new();
    for n in 0..110 {
        forks.push(wire(&world.forge(1, &room, &bob, "m.room.message", None, json!({ "body": n.to_string() }), |_| ()).await));
    }
    for some in forks.chunks(50) {
        world.deliver(1, 0, some.to_vec()).await;
    }
    assert_eq!(world.extremities(0, &room).await.len(), 110);
    assert!(dummies(&world, 0, &room).await.is_empty());
    let last = world.say(1, &room, &bob, "and on").await.unwrap();
    world.pass(1, 0, &last).await;
    assert_eq!(world.fate(0, &last).await, Some((None, false, true)));
}
