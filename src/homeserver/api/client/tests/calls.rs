//! TURN credentials, places for group calls, delayed events.

use serde_json::{Value, json};

use crate::{
    base::Secret,
    homeserver::{
        api::testing::{Client, TestNode, refused},
        config::Turn,
        events::delayed,
    },
};

const DELAYED: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

#[tokio::test]
async fn turn_credentials_are_what_coturn_works_out_from_the_shared_secret() {
    let turn = Turn { uris: vec!["turn:turn.example.org?transport=udp".into()], secret: Secret::new("shared".into()), ttl_s: 3600 };
    let test = TestNode::with(|config| config.turn = Some(turn)).await;
    let ann = test.client("ann", "A").await;
    let (_, body) = test.get(&ann, "/_matrix/client/v3/voip/turnServer").await;
    assert_eq!(body["username"], "1790003600:@ann:home.test");
    // printf '1790003600:@ann:home.test' | openssl dgst -sha1 -hmac shared -binary | base64
    assert_eq!(body["password"], "uLOGwyriqL+Zd3luM0u8ZCp5fxs=");
    assert_eq!((body["ttl"].as_i64(), body["uris"][0].as_str()), (Some(3600), Some("turn:turn.example.org?transport=udp")));
}

#[tokio::test]
async fn without_a_turn_server_and_without_livekit_there_is_nothing_to_tell() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    assert_eq!(test.get(&ann, "/_matrix/client/v3/voip/turnServer").await.1, json!({}));
    let path = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
    assert_eq!(test.get(&ann, path).await.1, json!({ "rtc_transports": [] }));
    let test = TestNode::with(|config| config.livekit_urls = vec!["https://rtc.example.org".into()]).await;
    let ann = test.client("ann", "A").await;
    let expected = json!({ "rtc_transports": [{ "type": "livekit", "livekit_service_url": "https://rtc.example.org" }] });
    assert_eq!(test.get(&ann, path).await.1, expected);
}

async fn room(test: &TestNode, who: &Client) -> String {
    let (_, answer) = test.post(who, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await;
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn delay(test: &TestNode, who: &Client, path: &str, delay_ms: u64, content: Value) -> String {
    let (status, body) = test.put(who, &format!("{path}?org.matrix.msc4140.delay={delay_ms}"), content).await;
    assert_eq!(status, 200, "{body}");
    body["delay_id"].as_str().unwrap().to_owned()
}

async fn state(test: &TestNode, who: &Client, room: &str) -> Value {
    test.get(who, &format!("/_matrix/client/v3/rooms/{room}/state/org.example.seat/")).await.1
}

#[tokio::test]
async fn a_delayed_event_is_sent_when_its_time_has_come_and_not_before() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t1");
    let message = json!({ "msgtype": "m.text", "body": "later" });
    let delay_id = delay(&test, &ann, &path, 10_000, message.clone()).await;
    assert_eq!(delay(&test, &ann, &path, 10_000, message).await, delay_id, "a retry is the same request");
    let (_, listed) = test.get(&ann, DELAYED).await;
    let one = &listed["delayed_events"][0];
    assert_eq!((one["delay_id"].as_str(), one["delay"].as_i64()), (Some(delay_id.as_str()), Some(10_000)));
    assert_eq!((one["room_id"].as_str(), one["content"]["body"].as_str()), (Some(room.as_str()), Some("later")));
    test.clock.advance(9_999);
    assert_eq!(delayed::send_due(&test.node).await.unwrap(), Some(std::time::Duration::from_millis(1)));
    let newest = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1");
    assert_ne!(test.get(&ann, &newest).await.1["chunk"][0]["content"]["body"], "later");
    test.clock.advance(1);
    assert_eq!(delayed::send_due(&test.node).await.unwrap(), None);
    let (_, page) = test.get(&ann, &newest).await;
    assert_eq!(page["chunk"][0]["content"]["body"], "later");
    assert_eq!(page["chunk"][0]["unsigned"]["transaction_id"], "t1", "the client knows its own event");
    assert_eq!(test.get(&ann, DELAYED).await.1, json!({ "delayed_events": [] }));
}

#[tokio::test]
async fn a_delayed_event_can_be_restarted_sent_and_cancelled_by_who_knows_its_id() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.seat/");
    let id = delay(&test, &ann, &path, 10_000, json!({ "free": true })).await;
    test.clock.advance(9_000);
    assert_eq!(test.call("POST", &format!("{DELAYED}/{id}"), None, json!({ "action": "restart" })).await.0, 200);
    test.clock.advance(9_000);
    delayed::send_due(&test.node).await.unwrap();
    assert_eq!(state(&test, &ann, &room).await["errcode"], "M_NOT_FOUND", "it began anew");
    assert_eq!(test.call("POST", &format!("{DELAYED}/{id}/send"), None, json!({})).await.0, 200);
    assert_eq!(state(&test, &ann, &room).await, json!({ "free": true }));
    assert_eq!(refused(&test.call("POST", &format!("{DELAYED}/{id}/send"), None, json!({})).await), (404, "M_NOT_FOUND"));
    let id = delay(&test, &ann, &path, 10_000, json!({ "free": false })).await;
    assert_eq!(test.post(&ann, &format!("{DELAYED}/{id}"), json!({ "action": "cancel" })).await.0, 200);
    test.clock.advance(20_000);
    delayed::send_due(&test.node).await.unwrap();
    assert_eq!(state(&test, &ann, &room).await, json!({ "free": true }));
    assert_eq!(refused(&test.post(&ann, &format!("{DELAYED}/x"), json!({ "action": "jump" })).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.post(&ann, &format!("{DELAYED}/x"), json!({})).await), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn somebody_elses_newer_state_wins_over_a_delayed_one() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann).await;
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await;
    let levels = json!({ "users": { ann.user_id.clone(): 100 }, "events": { "org.example.seat": 0 } });
    let (_, version) = test.get(&ann, &format!("/_matrix/client/v3/rooms/{room}/state/m.room.create/")).await;
    let levels = if version["room_version"] == "12" { json!({ "events": { "org.example.seat": 0 } }) } else { levels };
    assert_eq!(test.put(&ann, &format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/"), levels).await.0, 200);
    let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.seat/");
    delay(&test, &ann, &path, 1_000, json!({ "by": "ann" })).await;
    assert_eq!(test.put(&ben, &path, json!({ "by": "ben" })).await.0, 200);
    test.clock.advance(2_000);
    delayed::send_due(&test.node).await.unwrap();
    assert_eq!(state(&test, &ann, &room).await, json!({ "by": "ben" }));
}

#[tokio::test]
async fn a_delay_that_is_too_long_or_nothing_is_refused_and_so_is_who_is_not_in_the_room() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t");
    let answer = test.put(&ann, &format!("{path}?org.matrix.msc4140.delay=99999999999"), json!({})).await;
    assert_eq!(refused(&answer), (400, "M_UNKNOWN"));
    assert_eq!(answer.1["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
    assert_eq!(answer.1["org.matrix.msc4140.max_delay"], 86_400_000);
    let answer = test.put(&ann, &format!("{path}?org.matrix.msc4140.delay=soon"), json!({})).await;
    assert_eq!(refused(&answer), (400, "M_INVALID_PARAM"));
    let answer = test.put(&ben, &format!("{path}?org.matrix.msc4140.delay=10"), json!({})).await;
    assert_eq!(refused(&answer), (403, "M_FORBIDDEN"));
    let answer = test.put(&ann, &format!("{path}?org.matrix.msc4140.delay=10"), json!({ "x": 0.5 })).await;
    assert_eq!(refused(&answer), (400, "M_BAD_JSON"));
    let answer = test.put(&ann, &format!("{path}?org.matrix.msc4140.delay=10"), json!({ "x": "x".repeat(65_535) })).await;
    assert_eq!(refused(&answer), (413, "M_TOO_LARGE"), "no event can be that large");
    let long = format!("/_matrix/client/v3/rooms/{room}/state/org.example.seat/{}", "x".repeat(256));
    let answer = test.put(&ann, &format!("{long}?org.matrix.msc4140.delay=10"), json!({})).await;
    assert_eq!(refused(&answer), (413, "M_TOO_LARGE"));
    for number in 0..100 {
        delay(&test, &ann, &format!("{path}{number}"), 1000, json!({})).await;
    }
    let answer = test.put(&ann, &format!("{path}x?org.matrix.msc4140.delay=10"), json!({})).await;
    assert_eq!(answer.1["org.matrix.msc4140.errcode"], "M_MAX_DELAYED_EVENTS_EXCEEDED");
}

#[tokio::test]
async fn strangers_cannot_try_ids_of_delayed_events_without_end() {
    let test = TestNode::new().await;
    let mut tried = 0;
    let last = loop {
        let answer = test.call("POST", &format!("{DELAYED}/{tried}/restart"), None, json!({})).await;
        if answer.0 != 404 || tried == 1000 {
            break answer;
        }
        tried += 1;
    };
    assert_eq!((refused(&last), tried), ((429, "M_LIMIT_EXCEEDED"), 100));
}

#[tokio::test]
async fn one_delayed_event_that_cannot_be_read_does_not_hold_up_the_others() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let (broken, good) = (room(&test, &ann).await, room(&test, &ann).await);
    for (room, delay_ms) in [(&broken, 1_000), (&good, 2_000)] {
        delay(&test, &ann, &format!("/_matrix/client/v3/rooms/{room}/state/org.example.seat/"), delay_ms, json!({ "free": true })).await;
    }
    let damage = test.node.store.write(move |tx| {
        tx.execute("UPDATE rooms SET version = 'damaged' WHERE room_id = ?1", [&broken])?;
        Ok::<_, crate::homeserver::store::StoreError>(())
    });
    damage.await.unwrap();
    test.clock.advance(5_000);
    assert_eq!(delayed::send_due(&test.node).await.unwrap(), None);
    assert_eq!(state(&test, &ann, &good).await, json!({ "free": true }));
}

#[tokio::test]
async fn a_delayed_redaction_redacts_in_old_rooms_as_well() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    for version in ["10", "11"] {
        let (_, answer) = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "room_version": version })).await;
        let room = answer["room_id"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t");
        let (_, sent) = test.put(&ann, &path, json!({ "msgtype": "m.text", "body": "for a moment" })).await;
        let event = sent["event_id"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.redaction/r");
        delay(&test, &ann, &path, 1_000, json!({ "redacts": event, "reason": "over" })).await;
        test.clock.advance(1_000);
        delayed::send_due(&test.node).await.unwrap();
        let (_, shown) = test.get(&ann, &format!("/_matrix/client/v3/rooms/{room}/event/{event}")).await;
        assert_eq!(shown["content"], json!({}), "version {version}");
        assert_eq!(shown["unsigned"]["redacted_because"]["content"]["reason"], "over", "version {version}");
    }
}
