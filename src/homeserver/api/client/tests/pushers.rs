//! Pushers and what they carry to a gateway.
#![expect(clippy::disallowed_methods, reason = "the gateway of a test ends with it")]

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::homeserver::{
    api::testing::{Client, TestNode, refused},
    push::sender,
    store::pushers as stored,
};

/// A push gateway that notes what it is told and answers what it is told to.
struct Gateway {
    url: String,
    told: mpsc::Receiver<Value>,
    answers: mpsc::Sender<(u16, Value)>,
}

type Answers = Arc<Mutex<mpsc::Receiver<(u16, Value)>>>;

impl Gateway {
    async fn start() -> Self {
        async fn notify(
            State((told, answers)): State<(mpsc::Sender<Value>, Answers)>,
            Json(body): Json<Value>,
        ) -> (StatusCode, Json<Value>) {
            told.send(body).await.unwrap();
            let (status, body) = answers.lock().await.try_recv().unwrap_or((200, json!({ "rejected": [] })));
            (StatusCode::from_u16(status).unwrap(), Json(body))
        }
        let (tell, told) = mpsc::channel(64);
        let (answers, answer) = mpsc::channel(64);
        let router = Router::new().route("/_matrix/push/v1/notify", post(notify)).with_state((tell, Arc::new(Mutex::new(answer))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, told, answers }
    }

    async fn next(&mut self) -> Value {
        let told = tokio::time::timeout(Duration::from_secs(20), self.told.recv()).await.expect("the gateway is told in time");
        told.unwrap()["notification"].clone()
    }
}

async fn node() -> TestNode {
    let test = TestNode::with(|config| config.outbound_networks = vec!["127.0.0.1".parse().unwrap()]).await;
    sender::start(&test.node);
    test
}

fn pusher(url: &str, format: Option<&str>) -> Value {
    let mut data = json!({ "url": url, "brand": "test" });
    if let Some(format) = format {
        data["format"] = format.into();
    }
    json!({
        "app_id": "test.app", "pushkey": "key", "kind": "http", "app_display_name": "Test", "device_display_name": "Telephone",
        "lang": "en", "data": data,
    })
}

async fn room(test: &TestNode, ann: &Client, ben: &Client) -> String {
    let (_, body) = test.post(ann, "/_matrix/client/v3/createRoom", json!({ "name": "Garden", "invite": [ben.user_id] })).await;
    let room = body["room_id"].as_str().unwrap().to_owned();
    let (status, body) = test.post(ben, &format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await;
    assert_eq!(status, 200, "{body}");
    room
}

async fn say(test: &TestNode, who: &Client, room: &str, text: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{}", text.replace(' ', "-"));
    let (status, body) = test.put(who, &path, json!({ "msgtype": "m.text", "body": text })).await;
    assert_eq!(status, 200, "{body}");
    body["event_id"].as_str().unwrap().to_owned()
}

async fn set(test: &TestNode, who: &Client, body: Value) {
    let (status, body) = test.post(who, "/_matrix/client/v3/pushers/set", body).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_message_reaches_the_gateway_with_what_a_device_needs_and_the_count_follows() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let mut gateway = Gateway::start().await;
    set(&test, &ben, pusher(&gateway.url, None)).await;
    let event = say(&test, &ann, &room, "hello").await;
    let told = gateway.next().await;
    assert_eq!((told["event_id"].as_str(), told["room_id"].as_str()), (Some(event.as_str()), Some(room.as_str())));
    assert_eq!((told["type"].as_str(), told["sender"].as_str()), (Some("m.room.message"), Some("@ann:home.test")));
    assert_eq!((told["content"]["body"].as_str(), told["room_name"].as_str()), (Some("hello"), Some("Garden")));
    assert_eq!(told["counts"]["unread"], 1);
    let device = &told["devices"][0];
    assert_eq!((device["app_id"].as_str(), device["pushkey"].as_str()), (Some("test.app"), Some("key")));
    assert_eq!(device["data"], json!({ "brand": "test" }), "the gateway does not need its own address");
    assert!(device["tweaks"].is_object());
    // Reading elsewhere takes the number away.
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
    assert_eq!(test.post(&ben, &path, json!({})).await.0, 200);
    let told = gateway.next().await;
    assert_eq!((told["counts"]["unread"].as_i64(), told.get("event_id")), (Some(0), None));
}

#[tokio::test]
async fn with_event_id_only_nothing_of_the_event_leaves_the_node() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let mut gateway = Gateway::start().await;
    set(&test, &ben, pusher(&gateway.url, Some("event_id_only"))).await;
    let event = say(&test, &ann, &room, "secret words").await;
    let told = gateway.next().await;
    assert_eq!(told["event_id"], event.as_str());
    let text = told.to_string();
    for hidden in ["secret", "ann", "Garden", "m.room.message", "tweaks"] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[tokio::test]
async fn an_invite_is_pushed_and_listed() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let mut gateway = Gateway::start().await;
    set(&test, &ben, pusher(&gateway.url, None)).await;
    let (_, body) = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "invite": [ben.user_id] })).await;
    let told = gateway.next().await;
    assert_eq!((told["type"].as_str(), told["user_is_target"].as_bool()), (Some("m.room.member"), Some(true)));
    assert_eq!(told["room_id"], body["room_id"]);
    let (_, listed) = test.get(&ben, "/_matrix/client/v3/notifications").await;
    assert_eq!(listed["notifications"][0]["event"]["content"]["membership"], "invite");
    assert_eq!(listed["notifications"][0]["read"], false);
}

#[tokio::test]
async fn a_gateway_that_fails_is_tried_again_and_says_so() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let mut gateway = Gateway::start().await;
    gateway.answers.send((502, json!({}))).await.unwrap();
    set(&test, &ben, pusher(&gateway.url, None)).await;
    let event = say(&test, &ann, &room, "hello").await;
    assert_eq!(gateway.next().await["event_id"], event.as_str());
    // The node's clock stands still, so the pause ends only when it is moved; any commit lets the sender look at it.
    let user = ben.user_id.clone();
    let failed = async {
        loop {
            let id = ruma::UserId::parse(&user).unwrap();
            let found = test.node.store.read(move |db| {
                let user = crate::homeserver::store::users::find(db, &id)?.unwrap();
                stored::of_user(db, user)
            });
            if found.await.unwrap()[0].failures == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failed).await.expect("the failure is written down");
    test.clock.advance(2_000);
    say(&test, &ann, &room, "again").await;
    assert_eq!(gateway.next().await["event_id"], event.as_str(), "the same one is sent again");
    assert_eq!(gateway.next().await["content"]["body"], "again");
}

#[tokio::test]
async fn a_rejected_pushkey_is_removed() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let mut gateway = Gateway::start().await;
    gateway.answers.send((200, json!({ "rejected": ["another", "key"] }))).await.unwrap();
    set(&test, &ben, pusher(&gateway.url, None)).await;
    say(&test, &ann, &room, "hello").await;
    gateway.next().await;
    let gone = async {
        loop {
            let (_, body) = test.get(&ben, "/_matrix/client/v3/pushers").await;
            if body == json!({ "pushers": [] }) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the pusher is removed");
}

#[tokio::test]
async fn a_pusher_is_told_back_replaced_and_deleted() {
    let test = node().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let url = "https://push.example.org/_matrix/push/v1/notify";
    set(&test, &ann, pusher(url, Some("event_id_only"))).await;
    let (_, body) = test.get(&ann, "/_matrix/client/v3/pushers").await;
    let found = &body["pushers"][0];
    assert_eq!((found["kind"].as_str(), found["app_id"].as_str()), (Some("http"), Some("test.app")));
    assert_eq!((found["pushkey"].as_str(), found["data"]["url"].as_str()), (Some("key"), Some(url)));
    // The same device under another account: it has changed hands, unless the client says `append`.
    let mut appended = pusher(url, None);
    appended["append"] = true.into();
    set(&test, &ben, appended).await;
    assert_eq!(test.get(&ann, "/_matrix/client/v3/pushers").await.1["pushers"].as_array().unwrap().len(), 1);
    set(&test, &ben, pusher(url, None)).await;
    assert_eq!(test.get(&ann, "/_matrix/client/v3/pushers").await.1["pushers"].as_array().unwrap().len(), 0);
    set(&test, &ben, json!({ "app_id": "test.app", "pushkey": "key", "kind": null })).await;
    assert_eq!(test.get(&ben, "/_matrix/client/v3/pushers").await.1["pushers"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_pusher_that_cannot_work_is_refused() {
    let test = node().await;
    let ann = test.client("ann", "A").await;
    let good = || pusher("https://push.example.org/_matrix/push/v1/notify", None);
    let with = |field: &str, value: Value| {
        let mut body = good();
        body[field] = value;
        body
    };
    let without = |field: &str| {
        let mut body = good();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    for (body, code) in [
        (without("kind"), "M_MISSING_PARAM"),
        (without("app_id"), "M_MISSING_PARAM"),
        (without("pushkey"), "M_MISSING_PARAM"),
        (without("lang"), "M_MISSING_PARAM"),
        (without("data"), "M_MISSING_PARAM"),
        (with("data", json!({})), "M_MISSING_PARAM"),
        (with("kind", json!("carrier pigeon")), "M_INVALID_PARAM"),
        (with("kind", json!(7)), "M_BAD_JSON"),
        (with("kind", json!("email")), "M_THREEPID_NOT_FOUND"),
        (with("pushkey", json!("x".repeat(513))), "M_INVALID_PARAM"),
        (with("app_id", json!("x".repeat(65))), "M_INVALID_PARAM"),
        (with("append", json!("yes")), "M_BAD_JSON"),
        (with("data", json!({ "url": "http://push.example.org/_matrix/push/v1/notify" })), "M_INVALID_PARAM"),
        (with("data", json!({ "url": "https://push.example.org/other" })), "M_INVALID_PARAM"),
        (with("data", json!({ "url": "no url" })), "M_INVALID_PARAM"),
    ] {
        let answer = test.post(&ann, "/_matrix/client/v3/pushers/set", body.clone()).await;
        assert_eq!(refused(&answer), (400, code), "{body}");
    }
    assert_eq!(test.get(&ann, "/_matrix/client/v3/pushers").await.1, json!({ "pushers": [] }));
}

#[tokio::test]
async fn notifications_are_listed_newest_first_in_pages_and_know_what_was_read() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let first = say(&test, &ann, &room, "one").await;
    let mention = json!({ "msgtype": "m.text", "body": "two for ben", "m.mentions": { "user_ids": [ben.user_id] } });
    test.put(&ann, &format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/m"), mention).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{first}");
    assert_eq!(test.post(&ben, &path, json!({})).await.0, 200);
    let (_, page) = test.get(&ben, "/_matrix/client/v3/notifications?limit=1").await;
    let newest = &page["notifications"][0];
    assert_eq!((newest["event"]["content"]["body"].as_str(), newest["read"].as_bool()), (Some("two for ben"), Some(false)));
    assert_eq!(newest["room_id"], room.as_str());
    assert!(newest["actions"].as_array().unwrap().contains(&json!("notify")), "{newest}");
    let next = page["next_token"].as_str().unwrap();
    let (_, page) = test.get(&ben, &format!("/_matrix/client/v3/notifications?limit=1&from={next}")).await;
    assert_eq!(
        (page["notifications"][0]["event"]["event_id"].as_str(), page["notifications"][0]["read"].as_bool()),
        (Some(first.as_str()), Some(true))
    );
    let (_, page) = test.get(&ben, "/_matrix/client/v3/notifications?only=highlight").await;
    let bodies: Vec<_> = page["notifications"].as_array().unwrap().iter().map(|n| n["event"]["content"]["body"].clone()).collect();
    assert_eq!(bodies, [json!("two for ben")], "it mentions him");
    assert_eq!(refused(&test.get(&ben, "/_matrix/client/v3/notifications?from=x").await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.get(&ben, "/_matrix/client/v3/notifications?limit=x").await), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_pusher_that_is_set_again_begins_with_what_happens_from_then_on() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann, &ben).await;
    let url = "https://push.example.org/_matrix/push/v1/notify";
    let id = ruma::UserId::parse(&ben.user_id).unwrap();
    let waiting = async || {
        let id = id.clone();
        let read = test.node.store.read(move |db| {
            let user = crate::homeserver::store::users::find(db, &id)?.unwrap();
            let pushers = stored::due(db, user, i64::MAX)?;
            stored::next_notification(db, user, pushers[0].sent_pos)
        });
        read.await.unwrap().is_some()
    };
    set(&test, &ben, pusher(url, None)).await;
    say(&test, &ann, &room, "old").await;
    assert!(waiting().await);
    set(&test, &ben, pusher(url, None)).await;
    assert!(!waiting().await, "the device has been told of it in another way, or was away for long");
    say(&test, &ann, &room, "new").await;
    assert!(waiting().await);
}
