//! Counting, reading and push rules.

use super::*;

/// Ann and Bob in one room, and where Ann's sync stands.
async fn together() -> (Home, Client, Client, String) {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    (home, ann, bob, room)
}

/// Main and thread counts of a room, as (notifications, highlights).
async fn counts(who: &Client, room: &str) -> (Value, Value) {
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22unread_thread_notifications%22:true%7D%7D%7D";
    let answer = who.get(&format!("sync?filter={filter}")).await;
    let joined = &answer["rooms"]["join"][room];
    (joined["unread_notifications"].clone(), joined.get("unread_thread_notifications").cloned().unwrap_or(json!({})))
}

fn count(notification: u64, highlight: u64) -> Value {
    json!({ "notification_count": notification, "highlight_count": highlight })
}

#[tokio::test]
async fn messages_and_mentions_count_until_they_are_read() {
    let (_home, ann, bob, room) = together().await;
    bob.say(&room, "one").await;
    let mention = json!({ "msgtype": "m.text", "body": "ann!", "m.mentions": { "user_ids": [ann.id] } });
    let read = bob.send(&room, "m.room.message", mention).await;
    bob.send(&room, "m.reaction", json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": read, "key": "+" } })).await;
    bob.send(&room, "m.room.message", json!({ "msgtype": "m.notice", "body": "beep" })).await;
    bob.say(&room, "three").await;
    assert_eq!(counts(&ann, &room).await.0, count(3, 1));
    assert_eq!(counts(&bob, &room).await.0, count(0, 0), "own events never count");
    ann.post(&format!("rooms/{room}/receipt/m.read/{read}"), json!({})).await;
    assert_eq!(counts(&ann, &room).await.0, count(1, 0));
}

#[tokio::test]
async fn a_redacted_message_is_no_longer_counted() {
    let (_home, ann, bob, room) = together().await;
    let event = bob.say(&room, "oops").await;
    assert_eq!(counts(&ann, &room).await.0, count(1, 0));
    bob.put(&format!("rooms/{room}/redact/{event}/r1"), json!({})).await;
    assert_eq!(counts(&ann, &room).await.0, count(0, 0));
}

#[tokio::test]
async fn whoever_speaks_has_read_what_was_said_before_in_the_thread() {
    let (_home, ann, bob, room) = together().await;
    let own = ann.say(&room, "mine").await;
    let root = bob.say(&room, "root").await;
    let in_thread = |body: &str| json!({ "msgtype": "m.text", "body": body, "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
    bob.send(&room, "m.room.message", in_thread("reply")).await;
    let thread = |count: Value| json!({ root.clone(): count });
    assert_eq!(counts(&ann, &room).await, (count(1, 0), thread(count(1, 0))));
    // Neither a new name nor taking back something old says that anything was read.
    ann.put(&format!("profile/{}/displayname", ann.id), json!({ "displayname": "Annie" })).await;
    ann.put(&format!("rooms/{room}/redact/{own}/r1"), json!({})).await;
    assert_eq!(counts(&ann, &room).await, (count(1, 0), thread(count(1, 0))));
    ann.say(&room, "answer").await;
    assert_eq!(counts(&ann, &room).await, (count(0, 0), thread(count(1, 0))));
    bob.say(&room, "more").await;
    ann.send(&room, "m.room.message", in_thread("answer")).await;
    assert_eq!(counts(&ann, &room).await, (count(1, 0), json!({})));
    let read = |answer: &Value| -> Vec<Value> {
        answer["notifications"].as_array().unwrap().iter().map(|notification| notification["read"].clone()).collect()
    };
    assert_eq!(read(&ann.get("notifications").await), [false, true, true], "newest first");
    ann.send(&room, "m.reaction", json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": root, "key": "+" } })).await;
    assert_eq!(counts(&ann, &room).await.0, count(0, 0));
}

#[tokio::test]
async fn threads_are_counted_and_read_by_themselves() {
    let (_home, ann, bob, room) = together().await;
    let root = bob.say(&room, "root").await;
    let reply = json!({ "msgtype": "m.text", "body": "reply", "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
    let reply = bob.send(&room, "m.room.message", reply).await;
    assert_eq!(counts(&ann, &room).await, (count(1, 0), json!({ root.clone(): count(1, 0) })));
    let receipt = |event: &str| format!("rooms/{room}/receipt/m.read.private/{event}");
    let wrong = ann.call(Method::POST, &format!("/_matrix/client/v3/{}", receipt(&reply)), Some(json!({ "thread_id": "main" }))).await;
    assert_eq!((wrong.0, &wrong.1["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")));
    ann.post(&receipt(&root), json!({ "thread_id": "main" })).await;
    assert_eq!(counts(&ann, &room).await, (count(0, 0), json!({ root.clone(): count(1, 0) })));
    ann.post(&receipt(&reply), json!({ "thread_id": root })).await;
    assert_eq!(counts(&ann, &room).await, (count(0, 0), json!({})));
}

#[tokio::test]
async fn an_unthreaded_receipt_covers_threads_too() {
    let (_home, ann, bob, room) = together().await;
    let root = bob.say(&room, "root").await;
    let reply = json!({ "msgtype": "m.text", "body": "reply", "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
    let reply = bob.send(&room, "m.room.message", reply).await;
    ann.post(&format!("rooms/{room}/receipt/m.read/{reply}"), json!({})).await;
    assert_eq!(counts(&ann, &room).await, (count(0, 0), json!({})));
}

#[tokio::test]
async fn private_receipts_stay_private_and_receipts_do_not_go_back() {
    let (_home, ann, bob, room) = together().await;
    let (one, two) = (bob.say(&room, "one").await, bob.say(&room, "two").await);
    let since = bob.get("sync").await["next_batch"].clone();
    ann.post(&format!("rooms/{room}/receipt/m.read.private/{two}"), json!({})).await;
    ann.post(&format!("rooms/{room}/receipt/m.read/{two}"), json!({})).await;
    ann.post(&format!("rooms/{room}/receipt/m.read/{one}"), json!({})).await;
    let news = bob.get(&format!("sync?since={}", since.as_str().unwrap())).await;
    let receipts = &news["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"];
    assert_eq!(receipts.as_object().unwrap().keys().collect::<Vec<_>>(), [&two]);
    assert!(receipts[&two]["m.read"][&ann.id]["ts"].is_u64() && receipts[&two].get("m.read.private").is_none());
    let own = ann.get("sync").await;
    let own = &own["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"][&two];
    assert!(own.get("m.read.private").is_some() && own.get("m.read").is_some());
}

#[tokio::test]
async fn read_markers_move_the_marker_and_the_receipt_together() {
    let (home, ann, bob, room) = together().await;
    let event = bob.say(&room, "one").await;
    ann.post(&format!("rooms/{room}/read_markers"), json!({ "m.fully_read": event, "m.read": event })).await;
    assert_eq!(ann.get(&format!("user/{}/rooms/{room}/account_data/m.fully_read", ann.id)).await, json!({ "event_id": event }));
    assert_eq!(counts(&ann, &room).await.0, count(0, 0));
    let path = format!("/_matrix/client/v3/user/{}/rooms/{room}/account_data/m.fully_read", ann.id);
    assert_eq!(ann.call(Method::PUT, &path, Some(json!({ "event_id": event }))).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let stranger = home.user("cat").await;
    let (status, _) =
        stranger.call(Method::POST, &format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}"), Some(json!({}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = ann.call(Method::POST, &format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/$nothing"), Some(json!({}))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rules_of_the_user_decide_what_counts() {
    let (_home, ann, bob, room) = together().await;
    let since = ann.get("sync").await["next_batch"].clone();
    let rules = "pushrules/global";
    ann.put(&format!("{rules}/room/{room}"), json!({ "actions": [] })).await;
    bob.say(&room, "muted").await;
    assert_eq!(counts(&ann, &room).await.0, count(0, 0));
    ann.put(&format!("{rules}/content/cake"), json!({ "pattern": "cake", "actions": ["notify", { "set_tweak": "highlight" }] })).await;
    bob.say(&room, "there is CAKE here").await;
    assert_eq!(counts(&ann, &room).await.0, count(1, 1));
    let news = ann.get(&format!("sync?since={}", since.as_str().unwrap())).await;
    assert_eq!(news["account_data"]["events"][0]["type"], "m.push_rules");
    assert_eq!(news["account_data"]["events"][0]["content"]["global"]["room"][0]["rule_id"], room.as_str());
    ann.put(&format!("{rules}/override/.m.rule.master/enabled"), json!({ "enabled": true })).await;
    bob.say(&room, "cake again").await;
    assert_eq!(counts(&ann, &room).await.0, count(1, 1));
    assert_eq!(ann.get(&format!("{rules}/override/.m.rule.master/enabled")).await, json!({ "enabled": true }));
    ann.ok(Method::DELETE, &format!("/_matrix/client/v3/{rules}/content/cake"), None).await;
    for (method, path, expected) in [
        (Method::GET, "content/cake", "M_NOT_FOUND"),
        (Method::DELETE, "override/.m.rule.master", "M_INVALID_PARAM"),
        (Method::PUT, "content/.mine", "M_INVALID_PARAM"),
        (Method::PUT, "content/x?before=missing", "M_UNKNOWN"),
    ] {
        let (_, answer) =
            ann.call(method, &format!("/_matrix/client/v3/{rules}/{path}"), Some(json!({ "pattern": "x", "actions": [] }))).await;
        assert_eq!(answer["errcode"], expected, "{path}");
    }
}

#[tokio::test]
async fn everybody_can_be_mentioned_by_those_who_may() {
    let (_home, ann, bob, room) = together().await;
    let everybody = json!({ "msgtype": "m.text", "body": "all", "m.mentions": { "room": true } });
    bob.send(&room, "m.room.message", everybody.clone()).await;
    assert_eq!(counts(&ann, &room).await.0, count(1, 0));
    ann.send(&room, "m.room.message", everybody).await;
    assert_eq!(counts(&bob, &room).await.0, count(1, 1), "the creator may");
}
