//! The accepted form of sliding sync, and what connections survive.

use super::*;

impl Client {
    async fn v4(&self, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, "/_matrix/client/v4/sync", Some(body)).await
    }

    /// A sync that succeeds, from a position or anew.
    async fn slide4(&self, pos: Option<&Value>, mut body: Value) -> Value {
        if let Some(pos) = pos {
            body["pos"] = pos.clone();
        }
        let (status, answer) = self.v4(body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

fn list(filters: Value) -> Value {
    let required = json!({ "include": [{ "type": "m.room.name", "state_key": "" }], "lazy_members": true });
    json!({ "lists": { "all": { "range": [0, 9], "timeline_limit": 5, "required_state": required, "filters": filters } } })
}

#[tokio::test]
async fn a_room_is_told_with_its_membership_and_lists() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "name": "Room", "invite": [bob.id] })).await;
    let first = bob.slide4(None, list(json!({}))).await;
    let invited = &first["rooms"][&room];
    assert_eq!((&invited["membership"], &invited["lists"]), (&json!("invite"), &json!(["all"])));
    assert!(invited["stripped_state"].is_array() && invited.get("invite_state").is_none(), "{invited}");
    bob.join(&room).await;
    let second = bob.slide4(Some(&first["pos"]), list(json!({}))).await;
    let joined = &second["rooms"][&room];
    assert_eq!((&joined["membership"], &joined["name"], &joined["initial"]), (&json!("join"), &json!("Room"), &json!(true)));
    assert!(joined.get("notification_count").is_none() && joined.get("highlight_count").is_none());
    ann.set_state(&room, "m.room.name", "", json!({})).await;
    let third = bob.slide4(Some(&second["pos"]), list(json!({}))).await;
    assert_eq!(third["rooms"][&room].as_object().unwrap().get("name"), Some(&Value::Null), "{third}");
    assert!(third["rooms"][&room]["heroes"].is_array());
}

#[tokio::test]
async fn state_is_asked_for_by_patterns_and_exclusions() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({ "name": "Room", "topic": "tea" })).await;
    let ask = |required: Value| json!({ "room_subscriptions": { room.clone(): { "timeline_limit": 1, "required_state": required } } });
    let types = |answer: &Value| -> Vec<String> {
        let state = answer["rooms"][&room]["required_state"].as_array().cloned().unwrap_or_default();
        state.iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
    };
    let all = types(&ann.slide4(None, ask(json!({ "include": [{}] }))).await);
    assert!(all.contains(&"m.room.create".into()) && all.contains(&"m.room.member".into()));
    let some = types(&ann.slide4(None, ask(json!({ "include": [{}], "exclude": [{ "type": "m.room.create" }] }))).await);
    assert_eq!(some.len(), all.len() - 1);
    let own = types(&ann.slide4(None, ask(json!({ "include": [{ "state_key": ann.id }] }))).await);
    assert_eq!(own, ["m.room.member"]);
    let first = ann.slide4(None, ask(json!({}))).await;
    assert_eq!(types(&first), Vec::<String>::new());
    assert!(first["rooms"][&room].get("lists").is_none(), "it is there by name alone");
    let more = ann.slide4(Some(&first["pos"]), ask(json!({ "include": [{ "type": "m.room.topic" }] }))).await;
    assert_eq!(types(&more), ["m.room.topic"]);
}

#[tokio::test]
async fn who_left_by_oneself_is_not_told_anew_and_an_invite_turned_down_has_no_more_than_stripped_state() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let left = ann.create_room(json!({ "invite": [bob.id] })).await;
    let declined = ann.create_room(json!({ "name": "Secret", "invite": [bob.id] })).await;
    bob.join(&left).await;
    let first = bob.slide4(None, list(json!({}))).await;
    for room in [&left, &declined] {
        bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    }
    let second = bob.slide4(Some(&first["pos"]), list(json!({}))).await;
    assert_eq!(second["rooms"][&left]["membership"], "leave");
    let told = &second["rooms"][&declined];
    assert_eq!(told["membership"], "leave");
    assert!(told["stripped_state"].is_array() && told.get("required_state").is_none() && told.get("timeline").is_none(), "{told}");
    assert_eq!(bob.slide4(None, list(json!({}))).await["rooms"], json!({}));
}

#[tokio::test]
async fn lists_are_filtered_by_spaces_tags_and_invites() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let space = ann.create_room(json!({ "creation_content": { "type": "m.space" } })).await;
    let (child, other) = (ann.create_room(json!({})).await, ann.create_room(json!({})).await);
    let invite = bob.create_room(json!({ "invite": [ann.id] })).await;
    ann.set_state(&space, "m.space.child", &child, json!({ "via": ["home.test"] })).await;
    ann.set_state(&space, "m.space.child", &other, json!({})).await;
    ann.put(&format!("user/{}/rooms/{other}/tags/m.favourite", ann.id), json!({})).await;
    for (filters, expected) in [
        (json!({ "spaces": [space] }), vec![&child]),
        (json!({ "spaces": ["!nowhere:home.test", invite] }), vec![]),
        (json!({ "tags": ["m.favourite", "u.x"] }), vec![&other]),
        (json!({ "not_tags": ["m.favourite"], "is_invited": false, "not_room_types": ["m.space"] }), vec![&child]),
        (json!({ "tags": ["m.favourite"], "not_tags": ["m.favourite"] }), vec![]),
        (json!({ "is_invited": true }), vec![&invite]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (json!({ "room_types": [] }), vec![]),
    ] {
        let answer = ann.slide4(None, list(filters.clone())).await;
        assert_eq!(answer["rooms"].as_object().unwrap().keys().collect::<Vec<_>>(), expected, "{filters}");
        assert_eq!(answer["lists"]["all"]["count"], expected.len());
    }
}

#[tokio::test]
async fn a_list_without_a_range_has_all_rooms() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    for _ in 0..3 {
        ann.create_room(json!({})).await;
    }
    let body = json!({ "lists": { "all": { "timeline_limit": 0, "required_state": {} } } });
    assert_eq!(ann.slide4(None, body).await["rooms"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let subscriptions: serde_json::Map<String, Value> =
        (0..101).map(|n| (format!("!r{n}:home.test"), json!({ "timeline_limit": 1, "required_state": {} }))).collect();
    let pos = ann.slide(None, json!({})).await["pos"].clone();
    for (body, code) in [
        (json!({ "set_presence": "dancing" }), "M_INVALID_PARAM"),
        (json!({ "lists": { "a b": { "timeline_limit": 1, "required_state": {} } } }), "M_INVALID_PARAM"),
        (json!({ "lists": { "a": { "timeline_limit": 1 } } }), "M_MISSING_PARAM"),
        (json!({ "lists": { "a": { "timeline_limit": -1, "required_state": {} } } }), "M_BAD_JSON"),
        (json!({ "lists": { "a": { "timeline_limit": 1, "required_state": {}, "range": [2, 1] } } }), "M_INVALID_PARAM"),
        (json!({ "room_subscriptions": subscriptions }), "M_INVALID_PARAM"),
        (json!({ "pos": "s1_x" }), "M_UNKNOWN_POS"),
        (json!({ "pos": pos }), "M_UNKNOWN_POS"),
    ] {
        let (status, answer) = ann.v4(body.clone()).await;
        assert_eq!((status, answer["errcode"].as_str()), (StatusCode::BAD_REQUEST, Some(code)), "{body}");
    }
}

#[tokio::test]
async fn a_position_is_a_place_to_page_from() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    ann.say(&room, "before").await;
    let pos = ann.slide4(None, list(json!({}))).await["pos"].as_str().unwrap().to_owned();
    ann.say(&room, "after").await;
    let back = ann.get(&format!("rooms/{room}/messages?dir=b&limit=1&from={pos}")).await;
    assert_eq!(bodies(&back["chunk"]), ["before"]);
    let on = ann.get(&format!("rooms/{room}/messages?dir=f&limit=5&from={pos}")).await;
    assert_eq!(bodies(&on["chunk"]), ["after"]);
}

#[tokio::test]
async fn a_claimed_key_ends_a_wait() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let device = ann.get("account/whoami").await["device_id"].as_str().unwrap().to_owned();
    ann.post("keys/upload", json!({ "one_time_keys": { "signed_curve25519:A": { "key": "x" } } })).await;
    let body = json!({ "extensions": { "e2ee": { "enabled": true } } });
    let first = ann.slide4(None, body.clone()).await;
    assert_eq!(first["extensions"]["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 1);
    let waiting = {
        let (ann, mut body, pos) = (ann.clone(), body, first["pos"].clone());
        body["timeout"] = 60_000.into();
        tokio::spawn(async move { ann.slide4(Some(&pos), body).await })
    };
    bob.post("keys/claim", json!({ "one_time_keys": { ann.id.clone(): { device: "signed_curve25519" } } })).await;
    let answer = waiting.await.unwrap();
    assert_eq!(answer["extensions"]["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 0);
}

#[tokio::test]
async fn connections_go_on_after_a_restart_and_end_with_their_device() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    let quiet = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    bob.join(&quiet).await;
    let (first, old) = (bob.slide4(None, list(json!({}))).await, bob.slide(None, json!({ "conn_id": "other" })).await);
    let home = home.restarted().await;
    let (ann, bob) = (home.again(&ann), home.again(&bob));
    ann.say(&room, "news").await;
    let second = bob.slide4(Some(&first["pos"]), list(json!({}))).await;
    assert_eq!(bodies(&second["rooms"][&room]["timeline"]), ["news"]);
    assert!(second["rooms"][&room].get("initial").is_none() && second["rooms"].get(&quiet).is_none(), "{second}");
    assert_eq!(bob.slide4(Some(&second["pos"]), list(json!({}))).await["rooms"], json!({}));
    bob.slide(Some(&old["pos"]), json!({ "conn_id": "other" })).await;
    bob.post("logout", json!({})).await;
    let kept = home.server.node().store.read(|db| {
        Ok::<i64, crate::homeserver::store::StoreError>(db.query_row("SELECT count(*) FROM sliding_connections", [], |row| row.get(0))?)
    });
    assert_eq!(kept.await.unwrap(), 0);
}
