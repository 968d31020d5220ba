//! Reports, rooms in common, addresses that nobody has.

use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, TestNode, refused},
    store::reports,
};

async fn room(test: &TestNode, who: &Client) -> String {
    let (_, answer) = test.post(who, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await;
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn said(test: &TestNode, who: &Client, room: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
    let (_, body) = test.put(who, &path, json!({ "msgtype": "m.text", "body": "x" })).await;
    body["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_report_of_an_event_a_room_or_a_user_reaches_the_owner() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let room = room(&test, &ann).await;
    let event = said(&test, &ann, &room).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/report/{event}");
    assert_eq!(refused(&test.post(&ben, &path, json!({ "reason": "rude" })).await), (404, "M_NOT_FOUND"), "he is not in the room");
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await;
    assert_eq!(test.post(&ben, &path, json!({ "reason": "rude", "score": -100 })).await, (http::StatusCode::OK, json!({})));
    let path = format!("/_matrix/client/v3/rooms/{room}/report");
    assert_eq!(test.post(&ben, &path, json!({ "reason": "loud" })).await.0, 200);
    assert_eq!(test.post(&ben, "/_matrix/client/v3/users/@ann:home.test/report", json!({ "reason": "both" })).await.0, 200);
    let found = test.node.store.read(|db| reports::newest(db, 10)).await.unwrap();
    let told: Vec<_> = found.iter().map(|report| (report.reason.as_str(), report.user_id.as_deref(), report.event_id.as_deref())).collect();
    let ann = Some("@ann:home.test");
    assert_eq!(told, [("both", ann, None), ("loud", None, None), ("rude", ann, Some(event.as_str()))]);
    assert!(found.iter().all(|report| report.reporter == ben.user_id));
}

#[tokio::test]
async fn a_report_of_nothing_or_without_a_reason_is_refused() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let room = room(&test, &ann).await;
    let event = said(&test, &ann, &room).await;
    let room_path = format!("/_matrix/client/v3/rooms/{room}/report");
    for (path, body, expected) in [
        (room_path.clone(), json!({}), (400, "M_MISSING_PARAM")),
        (room_path.clone(), json!({ "reason": 7 }), (400, "M_BAD_JSON")),
        (room_path, json!({ "reason": "x".repeat(5000) }), (400, "M_INVALID_PARAM")),
        ("/_matrix/client/v3/rooms/!nowhere:home.test/report".into(), json!({ "reason": "x" }), (404, "M_NOT_FOUND")),
        ("/_matrix/client/v3/users/@nobody:home.test/report".into(), json!({ "reason": "x" }), (404, "M_NOT_FOUND")),
        ("/_matrix/client/v3/users/nobody/report".into(), json!({ "reason": "x" }), (404, "M_NOT_FOUND")),
        (format!("/_matrix/client/v3/rooms/{room}/report/$nothing"), json!({}), (404, "M_NOT_FOUND")),
        (format!("/_matrix/client/v3/rooms/{room}/report/{event}"), json!({ "score": 1 }), (400, "M_BAD_JSON")),
    ] {
        assert_eq!(refused(&test.post(&ann, &path, body).await), expected, "{path}");
    }
    assert_eq!(test.node.store.read(|db| reports::newest(db, 10)).await.unwrap(), []);
}

#[tokio::test]
async fn reports_are_limited_and_say_when_to_come_back() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let mut answer = (http::StatusCode::OK, Value::Null);
    for _ in 0..21 {
        answer = test.post(&ann, "/_matrix/client/v3/users/@ann:home.test/report", json!({ "reason": "x" })).await;
    }
    assert_eq!(refused(&answer), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(answer.1["retry_after_ms"], 30_000);
}

#[tokio::test]
async fn rooms_in_common_are_listed_and_no_others() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let (both, _alone) = (room(&test, &ann).await, room(&test, &ann).await);
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{both}/join"), json!({})).await;
    for path in ["v1/mutual_rooms", "unstable/uk.half-shot.msc2666/user/mutual_rooms"] {
        let path = format!("/_matrix/client/{path}");
        let (_, found) = test.get(&ann, &format!("{path}?user_id=@ben:home.test")).await;
        assert_eq!(found, json!({ "joined": [both], "count": 1 }));
        let (_, found) = test.get(&ann, &format!("{path}?user_id=@nobody:elsewhere.test")).await;
        assert_eq!(found, json!({ "joined": [], "count": 0 }));
        assert_eq!(refused(&test.get(&ann, &path).await), (400, "M_MISSING_PARAM"));
        assert_eq!(refused(&test.get(&ann, &format!("{path}?user_id=@ann:home.test")).await), (400, "M_INVALID_PARAM"));
        assert_eq!(refused(&test.get(&ann, &format!("{path}?user_id=x")).await), (400, "M_INVALID_PARAM"));
        assert_eq!(refused(&test.get(&ann, &format!("{path}?user_id=@ben:home.test&from=x")).await), (400, "M_INVALID_PARAM"));
    }
}

#[tokio::test]
async fn there_are_no_addresses_to_add_and_removing_one_changes_nothing() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let base = "/_matrix/client/v3/account/3pid";
    let body = json!({ "medium": "email", "address": "ann@example.org" });
    assert_eq!(test.get(&ann, base).await.1, json!({ "threepids": [] }));
    for path in ["", "/add", "/bind", "/email/requestToken", "/msisdn/requestToken"] {
        assert_eq!(refused(&test.post(&ann, &format!("{base}{path}"), body.clone()).await), (403, "M_THREEPID_DENIED"), "{path}");
    }
    for path in ["/delete", "/unbind"] {
        let path = format!("{base}{path}");
        assert_eq!(test.post(&ann, &path, body.clone()).await.1, json!({ "id_server_unbind_result": "no-support" }));
        assert_eq!(refused(&test.post(&ann, &path, json!({ "medium": "email" })).await), (400, "M_MISSING_PARAM"));
        assert_eq!(refused(&test.post(&ann, &path, json!({ "medium": 7, "address": "x" })).await), (400, "M_BAD_JSON"));
    }
}
