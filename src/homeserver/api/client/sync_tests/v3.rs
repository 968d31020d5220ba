//! `/v3/sync`.

use super::*;

impl Client {
    pub(super) async fn sync(&self, since: Option<&Value>, query: &str) -> Value {
        let since = since.map_or_else(String::new, |token| format!("since={}&", token.as_str().unwrap()));
        self.get(&format!("sync?{since}{query}")).await
    }
}

pub(super) fn filter(filter: &Value) -> String {
    format!(
        "filter={}",
        filter.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('[', "%5B").replace(']', "%5D")
    )
}

pub(super) fn keys(events: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    events.as_array().into_iter().flatten().map(|e| (text(&e["type"]), text(&e["state_key"]))).collect()
}

#[tokio::test]
async fn a_first_sync_has_state_before_the_timeline_and_the_timeline() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({ "name": "Room" })).await;
    for n in 0..12 {
        ann.say(&room, &n.to_string()).await;
    }
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "late" })).await;
    let all = ann.sync(None, "").await;
    let joined = &all["rooms"]["join"][&room];
    assert_eq!((&joined["timeline"]["limited"], joined["timeline"]["events"].as_array().unwrap().len()), (&json!(true), 10));
    assert_eq!(bodies(&joined["timeline"]["events"]).len(), 9);
    let state = keys(&joined["state"]["events"]);
    assert!(state.contains(&("m.room.create".into(), String::new())) && state.contains(&("m.room.name".into(), String::new())));
    assert!(!state.contains(&("m.room.topic".into(), String::new())), "it was set within the timeline: {state:?}");
    assert_eq!(joined["summary"]["m.joined_member_count"], 1);
    let after = ann.sync(None, "use_state_after=true").await;
    let state = keys(&after["rooms"]["join"][&room]["state_after"]["events"]);
    assert!(state.contains(&("m.room.topic".into(), String::new())));
    assert!(after["rooms"]["join"][&room].get("state").is_none());
    let unstable = ann.sync(None, "org.matrix.msc4222.use_state_after=true").await;
    assert!(unstable["rooms"]["join"][&room]["org.matrix.msc4222.state_after"].is_object());
    assert!(all["account_data"]["events"].as_array().unwrap().iter().any(|e| e["type"] == "m.push_rules"));
    assert_eq!(all["device_one_time_keys_count"]["signed_curve25519"], 0);
}

#[tokio::test]
async fn a_gap_is_told_with_the_state_that_changed_in_it() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let first = ann.sync(None, "").await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "one" })).await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "two" })).await;
    for n in 0..4 {
        ann.say(&room, &n.to_string()).await;
    }
    let second = ann.sync(Some(&first["next_batch"]), &filter(&json!({ "room": { "timeline": { "limit": 3 } } }))).await;
    let joined = &second["rooms"]["join"][&room];
    assert_eq!((bodies(&joined["timeline"]["events"]), &joined["timeline"]["limited"]), (vec!["1", "2", "3"], &json!(true)));
    assert_eq!(keys(&joined["state"]["events"]), [("m.room.topic".to_owned(), String::new())]);
    assert_eq!(joined["state"]["events"][0]["content"]["topic"], "two");
    let back = ann.get(&format!("rooms/{room}/messages?dir=b&limit=2&from={}", joined["timeline"]["prev_batch"].as_str().unwrap())).await;
    assert_eq!(bodies(&back["chunk"]), ["0"]);
    let third = ann.sync(Some(&second["next_batch"]), "").await;
    assert!(third.get("rooms").is_none(), "{third}");
}

#[tokio::test]
async fn filtered_timelines_still_tell_changed_state() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let first = ann.sync(None, "").await;
    ann.say(&room, "seen").await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "new" })).await;
    let only = filter(
        &json!({ "room": { "timeline": { "types": ["m.room.message"] } }, "event_fields": ["type", "state_key", "content.topic", "content.body"] }),
    );
    let second = ann.sync(Some(&first["next_batch"]), &only).await;
    let joined = &second["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["events"], json!([{ "type": "m.room.message", "content": { "body": "seen" } }]));
    assert_eq!(joined["state"]["events"], json!([{ "type": "m.room.topic", "state_key": "", "content": { "topic": "new" } }]));
}

#[tokio::test]
async fn events_come_as_servers_have_them_where_the_filter_says_so() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({ "room_version": "11" })).await;
    let event = ann.say(&room, "one").await;
    let federated = filter(&json!({ "event_format": "federation", "room": { "timeline": { "limit": 1 } } }));
    let answer = ann.sync(None, &federated).await;
    let joined = &answer["rooms"]["join"][&room];
    let shown = &joined["timeline"]["events"][0];
    assert_eq!((&shown["event_id"], &shown["room_id"], &shown["content"]["body"]), (&json!(event), &json!(room), &json!("one")));
    for event in joined["state"]["events"].as_array().unwrap().iter().chain([shown]) {
        for field in ["auth_events", "prev_events", "depth", "hashes", "signatures", "event_id", "unsigned"] {
            assert!(event.get(field).is_some(), "{field}: {event}");
        }
    }
    let plain = ann.sync(None, &filter(&json!({ "event_format": "client" }))).await;
    assert!(plain["rooms"]["join"][&room]["timeline"]["events"][0].get("hashes").is_none());
}

#[tokio::test]
async fn invites_knocks_and_leaves_have_their_own_sections() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let first = bob.sync(None, "").await;
    let room = ann.create_room(json!({ "name": "Den", "invite": [bob.id] })).await;
    let second = bob.sync(Some(&first["next_batch"]), "").await;
    let stripped = keys(&second["rooms"]["invite"][&room]["invite_state"]["events"]);
    assert!(stripped.contains(&("m.room.name".into(), String::new())) && stripped.contains(&("m.room.member".into(), bob.id.clone())));
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    ann.say(&room, "secret").await;
    let third = bob.sync(Some(&second["next_batch"]), "").await;
    let left = &third["rooms"]["leave"][&room];
    assert_eq!(left["timeline"]["events"].as_array().unwrap().len(), 1);
    assert_eq!(left["timeline"]["events"][0]["content"]["membership"], "leave");
    assert!(!third.to_string().contains("secret"));
    let knockable = ann
        .create_room(json!({ "initial_state": [
        { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } }
    ] }))
        .await;
    bob.post(&format!("knock/{knockable}"), json!({})).await;
    let fourth = bob.sync(Some(&third["next_batch"]), "").await;
    assert!(fourth["rooms"]["knock"][&knockable]["knock_state"]["events"].is_array(), "{fourth}");
}

#[tokio::test]
async fn nothing_leaks_after_leaving_and_include_leave_shows_the_room_as_it_was() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "before" })).await;
    let first = bob.sync(None, "").await;
    ann.say(&room, "goodbye").await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    ann.say(&room, "secret").await;
    ann.set_state(&room, "m.room.topic", "", json!({ "topic": "secret" })).await;
    let second = bob.sync(Some(&first["next_batch"]), "").await;
    assert_eq!(bodies(&second["rooms"]["leave"][&room]["timeline"]["events"]), ["goodbye"]);
    ann.post(&format!("rooms/{room}/ban"), json!({ "user_id": bob.id })).await;
    let third = bob.sync(Some(&second["next_batch"]), "").await;
    assert_eq!(third["rooms"]["leave"][&room]["timeline"]["events"][0]["content"]["membership"], "ban");
    let anew = bob.sync(None, "").await;
    assert!(anew["rooms"].get("leave").is_none());
    let with_left = bob.sync(None, &filter(&json!({ "room": { "include_leave": true } }))).await;
    let left = &with_left["rooms"]["leave"][&room];
    assert!(left.to_string().contains("before") && left.to_string().contains("goodbye"));
    for answer in [second, third, with_left] {
        assert!(!answer.to_string().contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn a_room_joined_again_comes_with_its_whole_state() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "preset": "public_chat", "name": "Open" })).await;
    bob.join(&room).await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    let first = bob.sync(None, "").await;
    for n in 0..12 {
        ann.say(&room, &n.to_string()).await;
    }
    bob.join(&room).await;
    let second = bob.sync(Some(&first["next_batch"]), "").await;
    let joined = &second["rooms"]["join"][&room];
    assert!(keys(&joined["state"]["events"]).contains(&("m.room.create".into(), String::new())));
    assert_eq!(joined["timeline"]["limited"], true);
}

#[tokio::test]
async fn device_lists_follow_shared_rooms() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    let first = ann.sync(None, "").await;
    bob.join(&room).await;
    let second = ann.sync(Some(&first["next_batch"]), "").await;
    assert_eq!(second["device_lists"]["changed"], json!([bob.id]));
    let third = ann.sync(Some(&second["next_batch"]), "").await;
    assert!(third.get("device_lists").is_none(), "{third}");
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    let fourth = ann.sync(Some(&third["next_batch"]), "").await;
    assert_eq!(fourth["device_lists"], json!({ "left": [bob.id] }));
}

#[tokio::test]
async fn messages_to_the_device_are_repeated_until_the_next_token_is_used() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let first = ann.sync(None, "").await;
    for n in 0..150 {
        let body = json!({ "messages": { ann.id.clone(): { "*": { "n": n } } } });
        bob.put(&format!("sendToDevice/m.test/{n}"), body).await;
    }
    let numbers = |answer: &Value| -> Vec<u64> {
        let events = answer["to_device"]["events"].as_array();
        events.into_iter().flatten().map(|e| e["content"]["n"].as_u64().unwrap()).collect()
    };
    let second = ann.sync(Some(&first["next_batch"]), "").await;
    let again = ann.sync(Some(&first["next_batch"]), "").await;
    assert_eq!(numbers(&second), (0..100).collect::<Vec<_>>());
    assert_eq!(numbers(&again), numbers(&second));
    let third = ann.sync(Some(&second["next_batch"]), "").await;
    assert_eq!(numbers(&third), (100..150).collect::<Vec<_>>());
    let fourth = ann.sync(Some(&third["next_batch"]), "").await;
    assert_eq!(numbers(&fourth), Vec::<u64>::new());
}

#[tokio::test]
async fn ignored_people_are_neither_seen_nor_counted() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    ann.put(&format!("user/{}/account_data/m.ignored_user_list", ann.id), json!({ "ignored_users": { bob.id.clone(): {} } })).await;
    let first = ann.sync(None, "").await;
    bob.say(&room, "unwanted").await;
    bob.create_room(json!({ "invite": [ann.id] })).await;
    bob.set_state(&room, "m.room.member", &bob.id.clone(), json!({ "membership": "join", "displayname": "Bobby" })).await;
    let second = ann.sync(Some(&first["next_batch"]), "").await;
    assert!(!second.to_string().contains("unwanted") && second.to_string().contains("Bobby"), "{second}");
    assert!(second["rooms"].get("invite").is_none());
    assert_eq!(second["rooms"]["join"][&room]["unread_notifications"], json!({ "notification_count": 0, "highlight_count": 0 }));
}

#[tokio::test]
async fn tags_and_account_data_come_with_their_room_and_once() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let first = ann.sync(None, "").await;
    ann.put(&format!("user/{}/rooms/{room}/tags/m.favourite", ann.id), json!({ "order": 0.5 })).await;
    ann.put(&format!("user/{}/rooms/{room}/account_data/m.marked_unread", ann.id), json!({ "unread": true })).await;
    ann.put(&format!("user/{}/account_data/m.direct", ann.id), json!({ "@bob:home.test": [room] })).await;
    let second = ann.sync(Some(&first["next_batch"]), "").await;
    let of_room = &second["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(of_room[0], json!({ "type": "m.tag", "content": { "tags": { "m.favourite": { "order": 0.5 } } } }));
    assert_eq!(of_room[1]["type"], "m.marked_unread");
    assert_eq!(second["account_data"]["events"][0]["type"], "m.direct");
    let third = ann.sync(Some(&second["next_batch"]), "").await;
    assert!(third.get("rooms").is_none() && third.get("account_data").is_none());
    ann.ok(Method::DELETE, &format!("/_matrix/client/v3/user/{}/rooms/{room}/tags/m.favourite", ann.id), None).await;
    assert_eq!(ann.get(&format!("user/{}/rooms/{room}/tags", ann.id)).await, json!({ "tags": {} }));
}

#[tokio::test]
async fn typing_is_told_while_it_lasts() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let first = ann.sync(None, "").await;
    let typing = format!("rooms/{room}/typing/{}", bob.id);
    bob.put(&typing, json!({ "typing": true, "timeout": 30000 })).await;
    let second = ann.sync(Some(&first["next_batch"]), "timeout=10000").await;
    assert_eq!(second["rooms"]["join"][&room]["ephemeral"]["events"], json!([{ "type": "m.typing", "content": { "user_ids": [bob.id] } }]));
    bob.put(&typing, json!({ "typing": false })).await;
    let third = ann.sync(Some(&second["next_batch"]), "timeout=10000").await;
    assert_eq!(third["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"]["user_ids"], json!([]));
    let (status, answer) = ann.call(Method::PUT, &format!("/_matrix/client/v3/{typing}"), Some(json!({ "typing": true }))).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
}

#[tokio::test]
async fn typing_ends_by_itself() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    bob.put(&format!("rooms/{room}/typing/{}", bob.id), json!({ "typing": true, "timeout": 1 })).await;
    let mut token = ann.sync(None, "").await["next_batch"].clone();
    loop {
        // Each answer comes with the wake-up that it is about.
        let answer = ann.sync(Some(&token), "timeout=10000").await;
        token = answer["next_batch"].clone();
        if answer["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"]["user_ids"] == json!([]) {
            break;
        }
        // Typing may have been over before the first sync, which then has nothing to tell.
        if answer.get("rooms").is_none() && answer.get("presence").is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn presence_of_people_in_shared_rooms_is_told() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let first = ann.sync(None, "").await;
    for (who, message) in [(&bob, "at the sea"), (&cat, "elsewhere")] {
        who.put(&format!("presence/{}/status", who.id), json!({ "presence": "unavailable", "status_msg": message })).await;
    }
    let second = ann.sync(Some(&first["next_batch"]), "timeout=10000").await;
    let events = second["presence"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["sender"], &events[0]["content"]["status_msg"]), (&json!(bob.id), &json!("at the sea")));
    assert_eq!(ann.get(&format!("presence/{}/status", bob.id)).await["presence"], "unavailable");
    let (status, _) = ann.call(Method::GET, &format!("/_matrix/client/v3/presence/{}/status", cat.id), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn filters_are_stored_and_bad_tokens_and_filters_refused() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let stored = ann.post(&format!("user/{}/filter", ann.id), json!({ "room": { "timeline": { "limit": 1 } } })).await;
    let id = stored["filter_id"].as_str().unwrap();
    assert_eq!(ann.get(&format!("user/{}/filter/{id}", ann.id)).await, json!({ "room": { "timeline": { "limit": 1 } } }));
    let answer = ann.sync(None, &format!("filter={id}")).await;
    assert_eq!(answer["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().len(), 1);
    for query in ["since=x", "filter=99", "filter=%7Bx", "timeout=soon", "full_state=maybe"] {
        let (status, answer) = ann.call(Method::GET, &format!("/_matrix/client/v3/sync?{query}"), None).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")), "{query}");
    }
}

#[tokio::test]
async fn an_invite_that_is_turned_down_ends_in_the_state_too_and_ends_nothing_else() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    let first = bob.sync(None, "use_state_after=true").await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    let second = bob.sync(Some(&first["next_batch"]), "use_state_after=true").await;
    let left = &second["rooms"]["leave"][&room];
    for part in ["timeline", "state_after"] {
        let events = left[part]["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{left}");
        assert_eq!((&events[0]["state_key"], &events[0]["content"]["membership"]), (&json!(bob.id), &json!("leave")));
    }
    let plain = bob.sync(Some(&first["next_batch"]), "").await["rooms"]["leave"][&room].clone();
    assert_eq!(plain["state"], json!({ "events": [] }));
    assert!(plain["timeline"]["prev_batch"].is_string(), "{plain}");
    assert!(second.get("device_lists").is_none(), "no room was shared, so nobody is lost: {second}");
}

#[tokio::test]
async fn a_ban_after_the_departure_is_how_it_ended() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let first = bob.sync(None, "use_state_after=true").await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    ann.post(&format!("rooms/{room}/ban"), json!({ "user_id": bob.id })).await;
    let second = bob.sync(Some(&first["next_batch"]), "use_state_after=true").await;
    let left = &second["rooms"]["leave"][&room];
    let memberships = |part: &str| -> Vec<Value> {
        left[part]["events"].as_array().unwrap().iter().map(|event| event["content"]["membership"].clone()).collect()
    };
    assert_eq!(memberships("timeline"), [json!("leave"), json!("ban")]);
    assert_eq!(memberships("state_after"), [json!("ban")]);
}

#[tokio::test]
async fn a_first_sync_of_many_rooms_comes_in_parts_that_lose_nothing() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let mut rooms = std::collections::BTreeSet::new();
    for n in 0..51 {
        rooms.insert(ann.create_room(json!({ "name": format!("Room {n}") })).await);
    }
    let shared = ann.create_room(json!({ "invite": [bob.id] })).await;
    rooms.insert(shared.clone());
    bob.join(&shared).await;
    let first = ann.get("sync").await;
    let told = |answer: &Value| -> std::collections::BTreeSet<String> {
        answer["rooms"]["join"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
    };
    assert_eq!(told(&first).len(), 50);
    let early = told(&first).iter().next().unwrap().clone();
    ann.say(&early, "meanwhile").await;
    bob.say(&shared, "late").await;
    let since = first["next_batch"].as_str().unwrap();
    let second = ann.get(&format!("sync?timeout=60000&since={since}")).await;
    assert_eq!(bodies(&second["rooms"]["join"][&early]["timeline"]["events"]), ["meanwhile"]);
    assert!(
        second["rooms"]["join"][&shared]["state"]["events"].as_array().is_some_and(|state| !state.is_empty())
            || second["rooms"]["join"][&shared]["timeline"]["events"].as_array().is_some_and(|events| events.len() > 5)
    );
    assert!(bodies(&second["rooms"]["join"][&shared]["timeline"]["events"]).contains(&"late"));
    let all: std::collections::BTreeSet<String> = told(&first).union(&told(&second)).cloned().collect();
    assert_eq!(all, rooms);
    let since = second["next_batch"].as_str().unwrap();
    assert!(!since.contains("_r"), "{since}");
    let third = ann.get(&format!("sync?since={since}")).await;
    assert_eq!(told(&third).len(), 0, "{third}");
}
