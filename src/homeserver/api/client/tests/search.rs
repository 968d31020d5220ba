//! Server-side search.

use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, TestNode, refused},
    store::{self, StoreError},
};

const SEARCH: &str = "/_matrix/client/v3/search";

async fn room(test: &TestNode, who: &Client, body: Value) -> String {
    let (status, answer) = test.post(who, "/_matrix/client/v3/createRoom", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn say(test: &TestNode, who: &Client, room: &str, text: &str) -> String {
    test.clock.advance(1000);
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{}", test.clock_ms());
    let (status, body) = test.put(who, &path, json!({ "msgtype": "m.text", "body": text })).await;
    assert_eq!(status, 200, "{body}");
    body["event_id"].as_str().unwrap().to_owned()
}

async fn search(test: &TestNode, who: &Client, criteria: Value) -> Value {
    let (status, body) = test.post(who, SEARCH, json!({ "search_categories": { "room_events": criteria } })).await;
    assert_eq!(status, 200, "{body}");
    body["search_categories"]["room_events"].clone()
}

fn bodies(found: &Value) -> Vec<String> {
    let text = |result: &Value| result["result"]["content"]["body"].as_str().unwrap_or_default().to_owned();
    found["results"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn words_are_found_whatever_their_case_and_accents_and_nothing_is_query_language() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann, json!({ "name": "Kitchen", "topic": "What we cook" })).await;
    say(&test, &ann, &room, "Crème brûlée OR nothing").await;
    say(&test, &ann, &room, "plain bread").await;
    for (term, found) in [
        ("creme", vec!["Crème brûlée OR nothing"]),
        ("CRÈME nothing", vec!["Crème brûlée OR nothing"]),
        ("creme bread", vec![]),
        ("bread OR creme", vec![]),
        ("\"plain", vec!["plain bread"]),
        ("body:plain*", vec![]),
        ("plain) OR (x", vec![]),
        ("", vec![]),
        ("!!! ???", vec![]),
    ] {
        assert_eq!(bodies(&search(&test, &ann, json!({ "search_term": term })).await), found, "{term}");
    }
    let found = search(&test, &ann, json!({ "search_term": "kitchen" })).await;
    assert_eq!(found["results"][0]["result"]["type"], "m.room.name");
    let found = search(&test, &ann, json!({ "search_term": "kitchen", "keys": ["content.body", "content.topic"] })).await;
    assert_eq!(found["count"], 0);
    let found = search(&test, &ann, json!({ "search_term": "Plain BREAD" })).await;
    assert_eq!(found["highlights"], json!(["bread", "plain"]));
}

#[tokio::test]
async fn only_what_the_searcher_may_see_is_found_and_counted() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let history = json!([{ "type": "m.room.history_visibility", "state_key": "", "content": { "history_visibility": "joined" } }]);
    let shared = room(&test, &ann, json!({ "preset": "public_chat", "initial_state": history })).await;
    let private = room(&test, &ann, json!({})).await;
    say(&test, &ann, &shared, "apple before").await;
    say(&test, &ann, &private, "apple private").await;
    assert_eq!(search(&test, &ben, json!({ "search_term": "apple" })).await["count"], 0);
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{shared}/join"), json!({})).await;
    say(&test, &ann, &shared, "apple while there").await;
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{shared}/leave"), json!({})).await;
    say(&test, &ann, &shared, "apple after").await;
    let found = search(&test, &ben, json!({ "search_term": "apple" })).await;
    assert_eq!((bodies(&found), found["count"].as_i64()), (vec!["apple while there".to_owned()], Some(1)));
    assert_eq!(search(&test, &ann, json!({ "search_term": "apple" })).await["count"], 4);
}

#[tokio::test]
async fn a_redacted_message_is_not_found_and_neither_is_an_encrypted_one() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann, json!({})).await;
    let event = say(&test, &ann, &room, "forget me").await;
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "forget", "body": "forget" });
    test.put(&ann, &format!("/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/e"), content).await;
    assert_eq!(bodies(&search(&test, &ann, json!({ "search_term": "forget" })).await), ["forget me"]);
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/r");
    assert_eq!(test.put(&ann, &path, json!({})).await.0, 200);
    assert_eq!(search(&test, &ann, json!({ "search_term": "forget" })).await["count"], 0);
}

#[tokio::test]
async fn results_come_in_order_in_pages_with_context_groups_filters_and_state() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let (one, two) = (room(&test, &ann, json!({})).await, room(&test, &ann, json!({})).await);
    for number in 0..7 {
        say(&test, &ann, if number % 2 == 0 { &one } else { &two }, &format!("pear {number}")).await;
    }
    let criteria = json!({
        "search_term": "pear", "order_by": "recent", "filter": { "limit": 4 }, "include_state": true,
        "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true },
        "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
    });
    let first = search(&test, &ann, criteria.clone()).await;
    assert_eq!(bodies(&first), ["pear 6", "pear 5", "pear 4", "pear 3"]);
    assert_eq!(first["count"], 7);
    let context = &first["results"][2]["context"];
    assert_eq!(context["events_before"][0]["content"]["body"], "pear 2");
    assert_eq!(context["events_after"][0]["content"]["body"], "pear 6");
    assert!(context["start"].is_string() && context["end"].is_string());
    assert!(context["profile_info"]["@ann:home.test"].is_object());
    assert!(first["state"][&one].as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
    assert_eq!(first["groups"]["room_id"][&one]["results"].as_array().unwrap().len(), 4);
    assert_eq!(first["groups"]["sender"]["@ann:home.test"]["results"].as_array().unwrap().len(), 7);
    let path = format!("{SEARCH}?next_batch={}", first["next_batch"].as_str().unwrap());
    let (_, second) = test.post(&ann, &path, json!({ "search_categories": { "room_events": criteria } })).await;
    let second = &second["search_categories"]["room_events"];
    assert_eq!(bodies(second), ["pear 2", "pear 1", "pear 0"]);
    assert_eq!(second.get("next_batch"), None);
    let found = search(&test, &ann, json!({ "search_term": "pear", "order_by": "recent", "filter": { "rooms": [two] } })).await;
    assert_eq!(bodies(&found), ["pear 5", "pear 3", "pear 1"]);
    let found = search(&test, &ann, json!({ "search_term": "pear", "filter": { "not_senders": [ann.user_id] } })).await;
    assert_eq!(found["count"], 0);
}

#[tokio::test]
async fn a_malformed_search_is_refused() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let events = |criteria: Value| json!({ "search_categories": { "room_events": criteria } });
    for (body, code) in [
        (json!({}), "M_MISSING_PARAM"),
        (json!({ "search_categories": 7 }), "M_BAD_JSON"),
        (events(json!({})), "M_MISSING_PARAM"),
        (events(json!({ "search_term": 7 })), "M_BAD_JSON"),
        (events(json!({ "search_term": "x", "order_by": "luck" })), "M_INVALID_PARAM"),
        (events(json!({ "search_term": "x".repeat(2000) })), "M_INVALID_PARAM"),
        (events(json!({ "search_term": "x", "event_context": { "before_limit": -1 } })), "M_BAD_JSON"),
        (events(json!({ "search_term": "x", "groupings": { "group_by": [{ "key": "mood" }] } })), "M_BAD_JSON"),
    ] {
        assert_eq!(refused(&test.post(&ann, SEARCH, body.clone()).await), (400, code), "{body}");
    }
    let body = events(json!({ "search_term": "x" }));
    assert_eq!(refused(&test.post(&ann, &format!("{SEARCH}?next_batch=zz"), body).await), (400, "M_INVALID_PARAM"));
    assert_eq!(test.post(&ann, SEARCH, json!({ "search_categories": {} })).await.1, json!({ "search_categories": {} }));
}

#[tokio::test]
async fn the_index_catches_up_in_bounded_steps_however_many_events_have_nothing_to_find() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann, json!({})).await;
    for text in ["plum one", "plum two", "plum three"] {
        say(&test, &ann, &room, text).await;
    }
    // As after an update: nothing is in the index, and the backlog ends far above the last message.
    let forget = test.node.store.write(|tx| {
        tx.execute_batch("INSERT INTO search_index (search_index) VALUES ('delete-all'); UPDATE search_backlog SET next_nid = 12000")?;
        Ok::<_, StoreError>(())
    });
    forget.await.unwrap();
    assert_eq!(search(&test, &ann, json!({ "search_term": "plum" })).await["count"], 0);
    let mut steps = 0;
    while test.node.store.write(|tx| store::search::catch_up(tx, 2)).await.unwrap() {
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps >= 3, "{steps}: two stretches of nothing, then two at a time");
    assert_eq!(search(&test, &ann, json!({ "search_term": "plum" })).await["count"], 3);
}
