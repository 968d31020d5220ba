//! Rooms of many members: how long taking one over takes. Run it in release, where signatures cost what they cost:
//! `cargo test --release --lib -- --ignored --nocapture a_room_of_many_members`.

use ruma::{CanonicalJsonValue, RoomVersionId};
use serde_json::json;

use super::world::{World, raw, wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute"]
async fn a_room_of_many_members_comes_over() {
    let members: usize = std::env::var("HOMEROOM_MEMBERS").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000);
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    let (mut answer, _) = world.join_answer(1, &bob, &room, 0).await;
    let handle = world.handle(0, &room).await;
    let user = world.user(0, "pattern");
    let join = json!({ "membership": "join", "displayname": "Somebody", "avatar_url": "mxc://a.test/abcdefghijklmnopqrstuvwx" });
    let pattern = world.forge(0, &room, &user, "m.room.member", Some(user.as_str()), join, |_| ()).await;
    let mut json = pattern.json().clone();
    json.remove("signatures");
    json.remove("hashes");
    for n in 0..members {
        let user = format!("@user{n}:a.test");
        json.insert("sender".into(), CanonicalJsonValue::String(user.clone()));
        json.insert("state_key".into(), CanonicalJsonValue::String(user));
        answer.state.append(&mut raw(vec![wire(&world.sign(0, &handle, json.clone()))]));
    }
    let started = std::time::Instant::now();
    let imported = world.servers[1].ingest.import(answer).await.unwrap();
    println!("{members} members, {} state events: {:?}", imported.state_events, started.elapsed());
    assert_eq!(imported.refused, 0);
    assert_eq!(imported.state_events, world.state(0, &room).await.len() + members);
}
