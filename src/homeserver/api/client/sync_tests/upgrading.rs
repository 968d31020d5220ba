//! A room that another one replaces: who may do what there.

use super::*;

impl Client {
    async fn upgrade(&self, room: &str, body: Value) -> String {
        self.post(&format!("rooms/{room}/upgrade"), body).await["replacement_room"].as_str().unwrap().to_owned()
    }

    async fn powers(&self, room: &str) -> Value {
        self.get(&format!("rooms/{room}/state/m.room.power_levels")).await["users"].clone()
    }
}

#[tokio::test]
async fn nobody_rises_by_upgrading_a_room() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let levels = |bob_has: i64, users: Value| {
        let mut users = users;
        users[&bob.id] = bob_has.into();
        json!({ "users": users, "events": { "m.room.tombstone": bob_has } })
    };
    let old = json!({ "preset": "public_chat", "room_version": "11", "power_level_content_override": levels(50, json!({ ann.id.clone(): 100 })) });
    let old = ann.create_room(old).await;
    bob.join(&old).await;
    let new = bob.upgrade(&old, json!({ "new_version": "11" })).await;
    assert_eq!(bob.powers(&new).await, json!({ ann.id.clone(): 100, bob.id.clone(): 50 }));
    let modern = json!({
        "preset": "public_chat", "room_version": "12", "creation_content": { "additional_creators": [cat.id] },
        "power_level_content_override": levels(150, json!({})),
    });
    for (body, expected) in [
        (json!({ "new_version": "12" }), json!({})),
        (json!({ "new_version": "12", "additional_creators": [ann.id] }), json!({})),
        (json!({ "new_version": "11" }), json!({ ann.id.clone(): 100, bob.id.clone(): 150, cat.id.clone(): 100 })),
    ] {
        let old = ann.create_room(modern.clone()).await;
        bob.join(&old).await;
        let new = bob.upgrade(&old, body.clone()).await;
        assert_eq!(bob.powers(&new).await, expected, "{body}");
    }
}
