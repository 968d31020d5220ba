//! Simplified sliding sync.

use super::*;

fn list(to: u64, timeline_limit: u64) -> Value {
    let required = json!([
        ["m.room.name", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.topic", ""],
        ["m.room.create", ""],
        ["m.space.child", "*"]
    ]);
    json!({ "lists": { "all": { "ranges": [[0, to]], "timeline_limit": timeline_limit, "required_state": required } } })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test]
async fn a_new_connection_gets_the_newest_rooms_with_what_was_asked_for() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let old = ann.create_room(json!({ "name": "Old" })).await;
    let new = ann.create_room(json!({ "name": "New", "invite": [bob.id] })).await;
    let middle = ann.create_room(json!({})).await;
    ann.say(&middle, "one").await;
    bob.join(&new).await;
    bob.say(&new, "two").await;

    let answer = ann.slide(None, list(1, 1)).await;
    assert_eq!(answer["lists"]["all"]["count"], 3);
    let rooms = answer["rooms"].as_object().unwrap();
    assert_eq!(rooms.len(), 2, "{rooms:?}");
    assert!(!rooms.contains_key(&old));
    let room = &rooms[&new];
    assert_eq!((&room["name"], &room["initial"], &room["limited"]), (&json!("New"), &json!(true), &json!(true)));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(2), &json!(0)));
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&json!(1), &json!(0)));
    assert_eq!(bodies(&room["timeline"]), ["two"]);
    assert!(room["prev_batch"].as_str().unwrap().starts_with('s'));
    let state: Vec<(&str, &str)> = room["required_state"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["type"].as_str().unwrap(), e["state_key"].as_str().unwrap()))
        .collect();
    assert!(state.contains(&("m.room.name", "")) && state.contains(&("m.room.create", "")));
    assert!(state.contains(&("m.room.member", &ann.id)) && state.contains(&("m.room.member", &bob.id)), "{state:?}");
    assert!(!state.iter().any(|(kind, _)| *kind == "m.room.power_levels"));
    assert!(room.get("heroes").is_none(), "a named room needs none");
    assert!(rooms[&middle]["bump_stamp"].as_i64().unwrap() < room["bump_stamp"].as_i64().unwrap());
}

#[tokio::test]
async fn an_update_tells_only_what_is_new() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "name": "Room", "invite": [bob.id] })).await;
    let quiet = ann.create_room(json!({ "name": "Quiet" })).await;
    bob.join(&room).await;
    let first = ann.slide(None, list(9, 5)).await;
    bob.say(&room, "hello").await;
    let second = ann.slide(Some(&first["pos"]), list(9, 5)).await;
    assert!(second["rooms"].get(&quiet).is_none());
    let news = &second["rooms"][&room];
    assert_eq!(bodies(&news["timeline"]), ["hello"]);
    assert_eq!((&news["num_live"], news.get("initial"), news.get("limited")), (&json!(1), None, None));
    assert_eq!(news["notification_count"], 1);
    ann.set_state(&room, "m.room.name", "", json!({ "name": "Hall" })).await;
    let third = ann.slide(Some(&second["pos"]), list(9, 5)).await;
    assert_eq!(third["rooms"][&room]["name"], "Hall");
    assert_eq!(third["rooms"][&room]["required_state"][0]["content"]["name"], "Hall");
    let fourth = ann.slide(Some(&third["pos"]), list(9, 5)).await;
    assert_eq!(fourth["rooms"], json!({}));
}

#[tokio::test]
async fn a_repeated_position_is_answered_again() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let first = ann.slide(None, list(9, 5)).await;
    ann.say(&room, "lost").await;
    let lost = ann.slide(Some(&first["pos"]), list(9, 5)).await;
    ann.say(&room, "later").await;
    let again = ann.slide(Some(&first["pos"]), list(9, 5)).await;
    assert_eq!(bodies(&lost["rooms"][&room]["timeline"]), ["lost"]);
    assert_eq!(bodies(&again["rooms"][&room]["timeline"]), ["lost", "later"]);
    let on = ann.slide(Some(&lost["pos"]), list(9, 5)).await;
    assert_eq!(bodies(&on["rooms"][&room]["timeline"]), ["later"], "an answer that did arrive can be continued");
}

#[tokio::test]
async fn an_unknown_position_is_refused() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let first = ann.slide(None, list(9, 1)).await;
    for (who, pos) in [(&ann, "nonsense"), (&bob, first["pos"].as_str().unwrap())] {
        let (status, answer) = who.sliding(&format!("pos={pos}"), list(9, 1)).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_UNKNOWN_POS")));
    }
}

#[tokio::test]
async fn an_invite_comes_with_stripped_state_and_becomes_a_room_when_accepted() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let first = bob.slide(None, list(9, 5)).await;
    let room = ann.create_room(json!({ "name": "Party", "invite": [bob.id] })).await;
    let second = bob.slide(Some(&first["pos"]), list(9, 5)).await;
    let invite = &second["rooms"][&room];
    let stripped = invite["invite_state"].as_array().unwrap();
    assert!(stripped.iter().any(|e| e["type"] == "m.room.member" && e["state_key"] == bob.id.as_str()));
    assert!(stripped.iter().any(|e| e["type"] == "m.room.name" && e["content"]["name"] == "Party"));
    assert!(invite.get("timeline").is_none() && invite.get("required_state").is_none());
    bob.join(&room).await;
    let third = bob.slide(Some(&second["pos"]), list(9, 5)).await;
    assert_eq!(third["rooms"][&room]["initial"], true);
    assert!(third["rooms"][&room].get("invite_state").is_none());
}

#[tokio::test]
async fn leaving_is_told_once_and_nothing_after_it() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let first = bob.slide(None, list(9, 5)).await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    ann.say(&room, "secret").await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "secret" })).await;
    let second = bob.slide(Some(&first["pos"]), list(9, 5)).await;
    let left = &second["rooms"][&room];
    assert!(!left.to_string().contains("secret"), "{left}");
    let own = left["required_state"].as_array().unwrap().iter().find(|e| e["state_key"] == bob.id.as_str()).unwrap();
    assert_eq!(own["content"]["membership"], "leave");
    assert_eq!(second["lists"]["all"]["count"], 0);
    ann.say(&room, "more").await;
    let third = bob.slide(Some(&second["pos"]), list(9, 5)).await;
    assert_eq!(third["rooms"], json!({}));
    let anew = bob.slide(None, list(9, 5)).await;
    assert!(!anew.to_string().contains("secret"));
    assert_eq!(anew["rooms"][&room]["required_state"][0]["content"]["membership"], "leave", "a client that was away learns of it");
}

#[tokio::test]
async fn a_subscription_gets_more_of_the_timeline() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    for n in 0..8 {
        ann.say(&room, &n.to_string()).await;
    }
    let first = ann.slide(None, list(9, 1)).await;
    assert_eq!(bodies(&first["rooms"][&room]["timeline"]), ["7"]);
    let subscriptions = json!({ room.clone(): { "timeline_limit": 4, "required_state": [["m.room.power_levels", ""]] } });
    let body = with(list(9, 1), "room_subscriptions", subscriptions);
    let second = ann.slide(Some(&first["pos"]), body.clone()).await;
    let news = &second["rooms"][&room];
    assert_eq!(bodies(&news["timeline"]), ["4", "5", "6", "7"]);
    assert_eq!((&news["unstable_expanded_timeline"], &news["limited"], &news["num_live"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(news["required_state"].as_array().unwrap().len(), 1, "only what was not asked for before");
    assert_eq!(news["required_state"][0]["type"], "m.room.power_levels");
    let third = ann.slide(Some(&second["pos"]), body).await;
    assert_eq!(third["rooms"], json!({}));
}

#[tokio::test]
async fn a_room_outside_the_window_catches_up_when_it_comes_back() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let (one, two) = (ann.create_room(json!({})).await, ann.create_room(json!({})).await);
    let subscribe = |room: &str| json!({ "room_subscriptions": { room: { "timeline_limit": 10, "required_state": [] } } });
    let first = ann.slide(None, subscribe(&one)).await;
    ann.say(&one, "missed").await;
    let second = ann.slide(Some(&first["pos"]), subscribe(&two)).await;
    assert!(second["rooms"].get(&one).is_none());
    let third = ann.slide(Some(&second["pos"]), subscribe(&one)).await;
    assert_eq!(bodies(&third["rooms"][&one]["timeline"]), ["missed"]);
    assert!(third["rooms"][&one].get("initial").is_none());
}

#[tokio::test]
async fn a_request_without_news_waits_for_it() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let first = ann.slide(None, list(9, 5)).await;
    let waiting = {
        let (ann, query) = (ann.clone(), format!("pos={}&timeout=60000", first["pos"].as_str().unwrap()));
        tokio::spawn(async move { ann.sliding(&query, list(9, 5)).await.1 })
    };
    // Wakes the waiter, but is none of its business.
    let other = ann.create_room(json!({})).await;
    bob.say(&room, "news").await;
    let answer = waiting.await.unwrap();
    assert!(answer["rooms"].get(&other).is_some() || !bodies(&answer["rooms"][&room]["timeline"]).is_empty(), "{answer}");
}

#[tokio::test]
async fn messages_to_a_device_are_repeated_until_acknowledged() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let ask = |since: Option<&str>| {
        let mut to_device = json!({ "enabled": true });
        if let Some(since) = since {
            to_device["since"] = since.into();
        }
        json!({ "conn_id": "encryption", "extensions": { "to_device": to_device, "e2ee": { "enabled": true } } })
    };
    for n in 0..3 {
        let body = json!({ "messages": { ann.id.clone(): { "*": { "n": n } } } });
        bob.put(&format!("sendToDevice/m.test/{n}"), body).await;
    }
    let first = ann.slide(None, ask(None)).await;
    let again = ann.slide(None, ask(None)).await;
    for answer in [&first, &again] {
        let events = answer["extensions"]["to_device"]["events"].as_array().unwrap();
        assert_eq!(events.iter().map(|e| e["content"]["n"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((&events[0]["sender"], &events[0]["type"]), (&json!(bob.id), &json!("m.test")));
    }
    assert_eq!(first["extensions"]["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 0);
    let since = again["extensions"]["to_device"]["next_batch"].as_str().unwrap();
    let after = ann.slide(Some(&again["pos"]), ask(Some(since))).await;
    assert_eq!(after["extensions"]["to_device"]["events"], json!([]));
    let forgetful = ann.slide(None, ask(None)).await;
    assert_eq!(forgetful["extensions"]["to_device"]["events"], json!([]), "acknowledged messages are gone");
}

#[tokio::test]
async fn the_first_answer_has_account_data_with_the_default_push_rules() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let body = json!({ "extensions": { "account_data": { "enabled": true } } });
    let first = ann.slide(None, body.clone()).await;
    let global = first["extensions"]["account_data"]["global"].as_array().unwrap();
    let rules = global.iter().find(|e| e["type"] == "m.push_rules").unwrap();
    assert_eq!(rules["content"]["global"]["override"][0]["rule_id"], ".m.rule.master");
    let second = ann.slide(Some(&first["pos"]), body).await;
    assert!(second["extensions"]["account_data"].get("global").is_none());
}

#[tokio::test]
async fn receipts_typing_and_account_data_follow_the_rooms_that_were_told() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let event = ann.say(&room, "read me").await;
    let on = json!({ "enabled": true });
    let body = with(list(9, 5), "extensions", json!({ "receipts": on, "typing": on, "account_data": on }));
    let first = ann.slide(None, body.clone()).await;
    assert!(first["extensions"].get("receipts").is_none() && first["extensions"].get("typing").is_none());
    bob.post(&format!("rooms/{room}/receipt/m.read/{event}"), json!({})).await;
    bob.put(&format!("rooms/{room}/typing/{}", bob.id), json!({ "typing": true })).await;
    ann.put(&format!("user/{}/rooms/{room}/tags/u.x", ann.id), json!({})).await;
    let second = ann.slide(Some(&first["pos"]), body.clone()).await;
    let news = &second["extensions"];
    assert!(news["receipts"]["rooms"][&room]["content"][&event]["m.read"][&bob.id].is_object(), "{second}");
    assert_eq!(news["typing"]["rooms"][&room]["content"]["user_ids"], json!([bob.id]));
    assert_eq!(news["account_data"]["rooms"][&room][0]["content"]["tags"], json!({ "u.x": {} }));
    assert_eq!(second["rooms"], json!({}));
    let third = ann.slide(Some(&second["pos"]), body.clone()).await;
    assert_eq!(third["extensions"], json!({ "account_data": {} }));
    let anew = ann.slide(None, body).await;
    assert!(anew["extensions"]["receipts"]["rooms"][&room].is_object() && anew["extensions"]["typing"]["rooms"][&room].is_object());
    assert!(anew["extensions"]["account_data"]["rooms"][&room].is_array());
}

#[tokio::test]
async fn reading_a_room_updates_its_counts_on_other_devices() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let event = bob.say(&room, "one").await;
    let other = home.device("ann").await;
    let first = other.slide(None, list(9, 1)).await;
    assert_eq!(first["rooms"][&room]["notification_count"], 1);
    ann.post(&format!("rooms/{room}/receipt/m.read/{event}"), json!({})).await;
    let second = other.slide(Some(&first["pos"]), list(9, 1)).await;
    assert_eq!(second["rooms"][&room]["notification_count"], 0);
}

#[tokio::test]
async fn lists_are_filtered_and_direct_rooms_are_marked() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let space = ann.create_room(json!({ "creation_content": { "type": "m.space" } })).await;
    let secret = ann
        .create_room(json!({ "initial_state": [
            { "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } }
        ] }))
        .await;
    let direct = ann.create_room(json!({})).await;
    ann.put(&format!("user/{}/account_data/m.direct", ann.id), json!({ "@bob:home.test": [direct] })).await;
    for (filters, expected) in [
        (json!({ "is_dm": true }), vec![&direct]),
        (json!({ "is_encrypted": true }), vec![&secret]),
        (json!({ "is_invite": true }), vec![]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (json!({ "room_types": [null], "is_dm": false }), vec![&secret]),
        (json!({ "not_room_types": ["m.space"], "is_encrypted": false }), vec![&direct]),
    ] {
        let mut body = list(9, 1);
        body["lists"]["all"]["filters"] = filters.clone();
        let answer = ann.slide(None, body).await;
        assert_eq!(answer["rooms"].as_object().unwrap().keys().collect::<Vec<_>>(), expected, "{filters}");
        assert_eq!(answer["lists"]["all"]["count"], expected.len());
        if let Some(room) = answer["rooms"].get(&direct) {
            assert_eq!(room["is_dm"], true);
        }
    }
}

#[tokio::test]
async fn device_lists_and_key_counts_come_with_the_encryption_extension() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let body = json!({ "conn_id": "encryption", "extensions": { "e2ee": { "enabled": true } } });
    let first = ann.slide(None, body.clone()).await;
    assert!(first["extensions"]["e2ee"].get("device_lists").is_none());
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let second = ann.slide(Some(&first["pos"]), body.clone()).await;
    assert_eq!(second["extensions"]["e2ee"]["device_lists"]["changed"], json!([bob.id]));
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    let third = ann.slide(Some(&second["pos"]), body).await;
    assert_eq!(third["extensions"]["e2ee"]["device_lists"]["left"], json!([bob.id]));
}

#[tokio::test]
async fn any_event_brings_its_room_into_the_window() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let quiet = ann.create_room(json!({})).await;
    let other = ann.create_room(json!({})).await;
    ann.say(&other, "one").await;
    let first = ann.slide(None, list(0, 1)).await;
    assert!(first["rooms"][&other].is_object() && first["rooms"][&quiet].is_null());
    ann.set_state(&quiet, "m.room.topic", "", json!({ "topic": "tea" })).await;
    let second = ann.slide(Some(&first["pos"]), list(0, 1)).await;
    assert!(second["rooms"][&quiet].is_object(), "{second}");
    // Clients sort by what people did: that has not changed.
    assert!(second["rooms"][&quiet]["bump_stamp"].as_i64().unwrap() < first["rooms"][&other]["bump_stamp"].as_i64().unwrap());
}

#[tokio::test]
async fn a_room_that_one_was_thrown_out_of_stays_in_the_list_until_it_is_forgotten() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "name": "Party", "invite": [bob.id] })).await;
    let never = ann.create_room(json!({ "name": "Never", "invite": [bob.id] })).await;
    bob.join(&room).await;
    ann.say(&room, "get out").await;
    for room in [&room, &never] {
        ann.post(&format!("rooms/{room}/kick"), json!({ "user_id": bob.id })).await;
    }
    ann.set_state(&room, "m.room.name", "", json!({ "name": "secret" })).await;
    ann.say(&room, "secret").await;
    let answer = bob.slide(None, list(9, 2)).await;
    assert_eq!(answer["lists"]["all"]["count"], 1, "an invite that was taken back was never a room of theirs");
    assert!(!answer.to_string().contains("secret"), "{answer}");
    let told = &answer["rooms"][&room];
    assert_eq!((&told["name"], &told["initial"]), (&json!("Party"), &json!(true)));
    assert_eq!(
        told["timeline"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["m.room.message", "m.room.member"]
    );
    let of_ann = |e: &Value| e["state_key"] == ann.id.as_str();
    assert!(told["required_state"].as_array().unwrap().iter().any(of_ann), "who is seen to speak: {told}");
    let own: Vec<_> = told["required_state"].as_array().unwrap().iter().filter(|e| e["state_key"] == bob.id.as_str()).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(own[0]["content"]["membership"], "leave");
    let after = bob.slide(Some(&answer["pos"]), list(9, 2)).await;
    assert_eq!(after["rooms"], json!({}));
    bob.post(&format!("rooms/{room}/forget"), json!({})).await;
    assert_eq!(bob.slide(None, list(9, 2)).await["lists"]["all"]["count"], 0);
}
