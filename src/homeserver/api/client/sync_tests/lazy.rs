//! Members that load lazily: those without whom nothing could be shown come all the same.

use super::{
    v3::{filter, keys},
    *,
};

fn members(state: &Value) -> Vec<String> {
    let mut members: Vec<String> = keys(state).into_iter().filter(|(kind, _)| kind == "m.room.member").map(|(_, key)| key).collect();
    members.sort();
    members
}

#[tokio::test]
async fn lazy_loading_sends_the_members_that_the_timeline_needs() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let room = ann.create_room(json!({ "name": "Named after nobody", "invite": [bob.id, cat.id] })).await;
    bob.join(&room).await;
    cat.join(&room).await;
    for _ in 0..3 {
        bob.say(&room, "hi").await;
    }
    let lazy = filter(&json!({ "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 2 } } }));
    let answer = ann.sync(None, &lazy).await;
    assert_eq!(members(&answer["rooms"]["join"][&room]["state"]["events"]), [ann.id.clone(), bob.id.clone()]);
}

#[tokio::test]
async fn lazy_loading_sends_those_whom_a_room_without_a_name_is_called_after() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let (dan, eve) = (home.user("dan").await, home.user("eve").await);
    let room = ann.create_room(json!({ "invite": [bob.id, cat.id, dan.id] })).await;
    cat.join(&room).await;
    bob.join(&room).await;
    ann.say(&room, "one").await;
    let lazy = filter(&json!({ "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 1 } } }));
    let first = ann.sync(None, &lazy).await;
    let joined = &first["rooms"]["join"][&room];
    assert_eq!(joined["summary"]["m.heroes"], json!([dan.id, cat.id, bob.id]), "in the order in which they came to be what they are");
    assert_eq!(members(&joined["state"]["events"]), [ann.id.clone(), bob.id.clone(), cat.id.clone(), dan.id.clone()]);
    ann.say(&room, "two").await;
    let second = ann.sync(Some(&first["next_batch"]), &lazy).await;
    let joined = &second["rooms"]["join"][&room];
    assert!(joined.get("summary").is_none(), "{joined}");
    assert!(!members(&joined["state"]["events"]).contains(&dan.id), "nobody else is called for: {joined}");
    ann.post(&format!("rooms/{room}/invite"), json!({ "user_id": eve.id })).await;
    ann.say(&room, "three").await;
    let third = ann.sync(Some(&second["next_batch"]), &lazy).await;
    let joined = &third["rooms"]["join"][&room];
    assert_eq!(joined["summary"]["m.heroes"], json!([dan.id, cat.id, bob.id, eve.id]));
    let people = [&ann, &bob, &cat, &dan, &eve].map(|client| client.id.clone());
    assert_eq!(members(&joined["state"]["events"]), people, "whoever is new and whom it is called after");
}
