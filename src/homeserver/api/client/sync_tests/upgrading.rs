//! A room that another one replaces: who may do what there, and what people had set.

use super::*;

impl Client {
    async fn upgrade(&self, room: &str, body: Value) -> String {
        self.post(&format!("rooms/{room}/upgrade"), body).await["replacement_room"].as_str().unwrap().to_owned()
    }

    async fn powers(&self, room: &str) -> Value {
        self.get(&format!("rooms/{room}/state/m.room.power_levels")).await["users"].clone()
    }

    /// Mutes the room in both ways that clients do, gives it a tag and calls it a direct chat.
    async fn settle_in(&self, room: &str, with: &Client) {
        self.put(&format!("pushrules/global/room/{room}"), json!({ "actions": [] })).await;
        let about = json!([{ "kind": "event_match", "key": "room_id", "pattern": room }]);
        for rule in [room, "mine"] {
            self.put(&format!("pushrules/global/override/{rule}"), json!({ "actions": [], "conditions": about })).await;
        }
        self.put(&format!("user/{}/rooms/{room}/tags/m.favourite", self.id), json!({ "order": 0.5 })).await;
        self.put(&format!("user/{}/account_data/m.direct", self.id), json!({ with.id.clone(): [room], "@else:home.test": [] })).await;
    }

    /// Which of the settings there are for a room.
    async fn settled(&self, room: &str) -> [bool; 5] {
        let rules = self.get("pushrules/").await["global"].clone();
        let about = |kind: &str| -> Vec<Value> { rules[kind].as_array().unwrap().clone() };
        let overrides: Vec<Value> = about("override")
            .into_iter()
            .filter(|rule| rule["conditions"][0]["pattern"] == room)
            .map(|rule| rule["rule_id"].clone())
            .collect();
        let tags = self.get(&format!("user/{}/rooms/{room}/tags", self.id)).await;
        let direct = self.get(&format!("user/{}/account_data/m.direct", self.id)).await;
        let in_direct = |rooms: &Value| rooms.as_array().unwrap().iter().any(|id| id == room);
        [
            about("room").iter().any(|rule| rule["rule_id"] == room && rule["actions"] == json!([])),
            overrides.contains(&json!(room)),
            overrides.iter().any(|id| id.as_str().unwrap().starts_with("mine")),
            tags["tags"]["m.favourite"]["order"] == 0.5,
            direct.as_object().unwrap().values().any(in_direct) && direct["@else:home.test"] == json!([]),
        ]
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

#[tokio::test]
async fn what_people_have_set_for_a_room_goes_along_to_the_one_that_replaces_it() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let old = ann.create_room(json!({ "preset": "public_chat" })).await;
    bob.join(&old).await;
    ann.settle_in(&old, &bob).await;
    bob.settle_in(&old, &ann).await;
    let since = bob.get("sync").await["next_batch"].clone();
    let new = ann.upgrade(&old, json!({ "new_version": "12" })).await;
    assert_eq!(ann.settled(&new).await, [true; 5], "of who made it");
    assert_eq!(bob.settled(&new).await, [false; 5], "not before they are there");
    bob.join(&new).await;
    assert_eq!(bob.settled(&new).await, [true; 5]);
    assert_eq!(bob.settled(&old).await, [true; 5], "what was there stays");
    let told = bob.get(&format!("sync?since={}", since.as_str().unwrap())).await;
    let kinds: Vec<&str> = told["account_data"]["events"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert!(kinds.contains(&"m.push_rules") && kinds.contains(&"m.direct"), "{kinds:?}");
    assert_eq!(told["rooms"]["join"][&new]["account_data"]["events"][0]["type"], "m.tag");
    // Once: what is taken away afterwards stays away.
    bob.ok(Method::DELETE, &format!("/_matrix/client/v3/user/{}/rooms/{new}/tags/m.favourite", bob.id), None).await;
    bob.ok(Method::DELETE, &format!("/_matrix/client/v3/pushrules/global/room/{new}"), None).await;
    bob.post(&format!("rooms/{new}/leave"), json!({})).await;
    bob.join(&new).await;
    assert_eq!(bob.settled(&new).await, [false, true, true, false, true]);
}

#[tokio::test]
async fn settings_follow_a_successor_that_the_room_itself_names_and_no_other() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let old = ann.create_room(json!({ "preset": "public_chat" })).await;
    bob.join(&old).await;
    bob.settle_in(&old, &ann).await;
    let claims = json!({ "preset": "public_chat", "creation_content": { "predecessor": { "room_id": old } } });
    let (false_one, true_one) = (ann.create_room(claims.clone()).await, ann.create_room(claims).await);
    bob.join(&false_one).await;
    bob.join(&true_one).await;
    assert_eq!(bob.settled(&true_one).await, [false; 5], "it is none yet");
    // An upgrade by hand: the room says last where it has gone, when people may be there already.
    ann.set_state(&old, "m.room.tombstone", "", json!({ "body": "moved", "replacement_room": true_one })).await;
    assert_eq!(bob.settled(&true_one).await, [true; 5]);
    assert_eq!(bob.settled(&false_one).await, [false; 5]);
}
