//! Taking rooms over: keys, interruptions, and what is left of an attempt that failed.

use ruma::{CanonicalJsonValue, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName};
use serde_json::json;

use super::{
    super::ImportError,
    world::{JoinAnswer, World, raw, wire},
};
use crate::homeserver::{
    events::EventError,
    store::{StoreError, servers, state},
};

/// A room on the first server, and what it answers to a join of the second's Bob.
async fn room() -> (World, OwnedRoomId, OwnedUserId, JoinAnswer) {
    let world = World::new(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    let answer = world.join_answer(1, &bob, &room, 0).await.0;
    (world, room, bob, answer)
}

/// A join of a user of this server, as part of the answer.
async fn add_member(world: &World, answer: &mut JoinAnswer, server: usize, name: &str) {
    let user = world.user(server, name);
    let content = json!({ "membership": "join" });
    let join = world.forge(0, &answer.room_id, &user, "m.room.member", Some(user.as_str()), content, |_| ()).await;
    let mut json = join.json().clone();
    json.remove("signatures");
    json.remove("hashes");
    json.insert("depth".into(), CanonicalJsonValue::Integer(9.into()));
    let handle = world.handle(0, &answer.room_id).await;
    answer.state.append(&mut raw(vec![wire(&world.sign(server, &handle, json))]));
}

#[tokio::test]
async fn the_keys_of_all_members_servers_are_asked_for_together() {
    let (mut world, room, _, mut answer) = room().await;
    for n in 0..8 {
        let server = world.add(&format!("m{n}.test"));
        for user in ["x", "y"] {
            add_member(&world, &mut answer, server, user).await;
        }
        world.network.cold.lock().unwrap().insert(world.servers[server].name.clone());
    }
    let gone = ServerName::parse("m7.test").unwrap();
    world.network.keyless.lock().unwrap().insert(gone);
    let imported = world.servers[1].ingest.import(answer).await.unwrap();
    assert_eq!(imported.refused, 2, "those whose keys nobody has are left out");
    let asked = world.network.asked.lock().unwrap().iter().filter(|question| *question == "keys").count();
    assert_eq!(asked, 2, "once for the members, once for the join");
    let state = world.state(1, &room).await;
    for n in 0..7 {
        assert!(state.contains_key(&("m.room.member".into(), format!("@x:m{n}.test"))), "{n}");
    }
    assert!(!state.contains_key(&("m.room.member".into(), "@x:m7.test".into())));
}

#[tokio::test]
async fn a_take_over_that_broke_off_leaves_nothing_of_its_state_behind() {
    let (world, room, bob, mut answer) = room().await;
    for n in 0..30 {
        add_member(&world, &mut answer, 0, &format!("early{n}")).await;
    }
    let store = &world.servers[1].store;
    // The store fails in the middle of the state's becoming the room's.
    let fail = "CREATE TRIGGER stop BEFORE INSERT ON current_state WHEN (SELECT count(*) FROM current_state) >= 20
                BEGIN SELECT RAISE(ABORT, 'on purpose'); END";
    store.write(move |tx| Ok::<_, StoreError>(tx.execute_batch(fail)?)).await.unwrap();
    let failed = world.servers[1].ingest.import(answer).await;
    assert!(matches!(failed, Err(ImportError::Event(EventError::Store(_)))), "{failed:?}");
    let us = world.servers[1].name.clone();
    let handle = world.handle(1, &room).await;
    let left =
        store.read(move |db| Ok::<_, StoreError>((state::current_all(db, handle.nid)?.len(), servers::is_in_room(db, handle.nid, &us)?)));
    let (left, inside) = left.await.unwrap();
    assert!(left >= 8, "some of it was there: {left}");
    assert!(!inside, "nobody here is in the room");
    store.write(|tx| Ok::<_, StoreError>(tx.execute_batch("DROP TRIGGER stop")?)).await.unwrap();
    // Meanwhile the room has changed: what comes the second time is not what came the first time.
    let (mut answer, _) = world.join_answer(1, &bob, &room, 0).await;
    add_member(&world, &mut answer, 0, "late").await;
    let imported = world.servers[1].ingest.import(answer).await.unwrap();
    assert_eq!(imported.refused, 0);
    let mut expected = world.state(0, &room).await;
    let mut state = world.state(1, &room).await;
    for user in [bob.as_str(), "@late:a.test"] {
        assert!(state.remove(&("m.room.member".into(), user.into())).is_some(), "{user}");
        expected.remove(&("m.room.member".into(), user.into()));
    }
    assert_eq!(state, expected);
}

#[tokio::test]
async fn a_join_that_the_state_does_not_allow_changes_nothing() {
    let (world, room, bob, _) = room().await;
    let banned = world.set(0, &room, &world.user(0, "ann"), "m.room.member", bob.as_str(), json!({ "membership": "ban" })).await.unwrap();
    let (mut answer, _) = world.join_answer(1, &bob, &room, 0).await;
    // The ban is not among what the join says authorises it, only in the state.
    let ban = world.json(0, &banned).await;
    let mut join: ruma::CanonicalJsonObject = serde_json::from_str(answer.join.get()).unwrap();
    if let Some(CanonicalJsonValue::Array(auth)) = join.get_mut("auth_events") {
        auth.retain(|id| id.as_str() != Some(banned.as_str()));
    }
    join.remove("signatures");
    join.remove("hashes");
    let handle = world.handle(0, &room).await;
    answer.join = raw(vec![wire(&world.sign(1, &handle, join))]).pop().unwrap();
    assert!(answer.state.iter().any(|json| json.get() == ban));
    let outcome = world.servers[1].ingest.import(answer).await;
    assert!(matches!(outcome, Err(ImportError::Unusable(_))), "{outcome:?}");
    let nid = world.handle(1, &room).await.nid;
    let left = world.servers[1].store.read(move |db| state::current_all(db, nid)).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}
