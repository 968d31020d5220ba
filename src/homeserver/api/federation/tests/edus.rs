#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]
//! EDUs as they come, forged ones among them: nobody speaks for another server's users, and nobody is heard in rooms that are
//! none of theirs.

use std::time::Duration;

use ruma::OwnedUserId;
use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, TestNode},
    federation::edus::receive,
    store::{self, StoreError, remote_devices},
    sync::live::SILENCE,
};

const BEN: &str = "@ben:remote.test";

/// Ann of this server and Ben of another in a room.
async fn together() -> (TestNode, Client, String) {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ANN").await;
    let room = test.room(&ann, json!({})).await;
    test.set_member(&room, BEN, "join").await;
    (test, ann, room)
}

async fn say(test: &TestNode, who: &Client, room: &str, txn: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
    let (_, body) = test.put(who, &path, json!({ "msgtype": "m.text", "body": txn })).await;
    body["event_id"].as_str().unwrap().to_owned()
}

fn ephemeral<'a>(sync: &'a Value, room: &str, kind: &str) -> Option<&'a Value> {
    let events = sync["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
    events.iter().find(|event| event["type"] == kind).map(|event| &event["content"])
}

#[tokio::test]
async fn a_remote_member_is_seen_typing() {
    let (test, ann, room) = together().await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("remote.test", "m.typing", json!({ "room_id": room, "user_id": BEN, "typing": true })).await;
    let (since, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), Some(&json!({ "user_ids": [BEN] })));
    test.edu("remote.test", "m.typing", json!({ "room_id": room, "user_id": BEN, "typing": false })).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), Some(&json!({ "user_ids": [] })));
}

#[tokio::test]
async fn typing_is_not_believed_of_strangers_other_servers_users_and_shut_out_servers() {
    let (test, ann, room) = together().await;
    let other = test.room(&ann, json!({})).await;
    let acl = json!({ "allow": ["*"], "deny": ["shut.test"] });
    test.set_member(&room, "@cid:shut.test", "join").await;
    test.put(&ann, &format!("/_matrix/client/v3/rooms/{room}/state/m.room.server_acl/"), acl).await;
    let (since, _) = test.sync(&ann, None).await;
    for (origin, content) in [
        ("evil.test", json!({ "room_id": room, "user_id": BEN, "typing": true })),
        ("remote.test", json!({ "room_id": room, "user_id": ann.user_id, "typing": true })),
        ("remote.test", json!({ "room_id": other, "user_id": BEN, "typing": true })),
        ("remote.test", json!({ "room_id": room, "user_id": "@dan:remote.test", "typing": true })),
        ("shut.test", json!({ "room_id": room, "user_id": "@cid:shut.test", "typing": true })),
        ("remote.test", json!({ "room_id": room, "user_id": [BEN], "typing": true })),
    ] {
        test.edu(origin, "m.typing", content.clone()).await;
        let (_, sync) = test.sync(&ann, Some(&since)).await;
        assert_eq!(sync["rooms"]["join"], Value::Null, "{origin} {content}");
    }
}

fn receipt(room: &str, user: &str, event: &str, data: &Value) -> Value {
    json!({ room: { "m.read": { user: { "event_ids": [event], "data": data } } } })
}

#[tokio::test]
async fn a_remote_receipt_is_told_with_its_thread() {
    let (test, ann, room) = together().await;
    let event = say(&test, &ann, &room, "one").await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("remote.test", "m.receipt", receipt(&room, BEN, &event, &json!({ "ts": 5, "thread_id": "main" }))).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    let expected = json!({ event: { "m.read": { BEN: { "ts": 5, "thread_id": "main" } } } });
    assert_eq!(ephemeral(&sync, &room, "m.receipt"), Some(&expected));
}

/// CVE-2023-42453: a server could send receipts of other servers' users.
#[tokio::test]
async fn forged_receipts_are_dropped() {
    let (test, ann, room) = together().await;
    let event = say(&test, &ann, &room, "one").await;
    test.set_member(&room, "@cid:shut.test", "join").await;
    let acl = json!({ "allow": ["*"], "deny": ["shut.test"] });
    test.put(&ann, &format!("/_matrix/client/v3/rooms/{room}/state/m.room.server_acl/"), acl).await;
    let (since, _) = test.sync(&ann, None).await;
    let private = json!({ room.clone(): { "m.read.private": { BEN: { "event_ids": [event], "data": { "ts": 1 } } } } });
    for (origin, content) in [
        ("evil.test", receipt(&room, BEN, &event, &json!({ "ts": 1 }))),
        ("remote.test", receipt(&room, &ann.user_id, &event, &json!({ "ts": 1 }))),
        ("remote.test", receipt(&room, "@dan:remote.test", &event, &json!({ "ts": 1 }))),
        ("remote.test", receipt(&room, BEN, &event, &json!({ "ts": 1, "thread_id": "$no-such-event" }))),
        ("shut.test", receipt(&room, "@cid:shut.test", &event, &json!({ "ts": 1 }))),
        ("remote.test", private),
        ("remote.test", json!({ room.clone(): [] })),
    ] {
        test.edu(origin, "m.receipt", content.clone()).await;
        let (_, sync) = test.sync(&ann, Some(&since)).await;
        assert_eq!(sync["rooms"]["join"], Value::Null, "{origin} {content}");
    }
}

#[tokio::test]
async fn a_receipt_that_comes_before_its_event_waits_for_it() {
    let (test, ann, room) = together().await;
    let other = test.room(&ann, json!({})).await;
    // The event's ID is known beforehand where the node makes it from content: send it once, see its ID, and use a fresh one.
    let first = say(&test, &ann, &room, "one").await;
    test.edu("remote.test", "m.receipt", receipt(&room, BEN, "$not-yet-here", &json!({ "ts": 1 }))).await;
    test.edu("remote.test", "m.receipt", receipt(&other, BEN, &first, &json!({ "ts": 1 }))).await;
    let waiting = || test.node.federation.edus.waiting_receipts();
    assert_eq!(waiting(), 1, "an event of another room is not waited for");
    let (since, _) = test.sync(&ann, None).await;
    test.rename_event(&first, "$not-yet-here").await;
    say(&test, &ann, &other, "wakes").await;
    tokio::time::timeout(Duration::from_secs(10), async {
        while waiting() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(ephemeral(&sync, &room, "m.receipt"), Some(&json!({ "$not-yet-here": { "m.read": { BEN: { "ts": 1 } } } })));
}

fn presence(user: &str, state: &str) -> Value {
    json!({ "push": [{ "user_id": user, "presence": state, "last_active_ago": 10, "status_msg": "here", "currently_active": true }] })
}

#[tokio::test]
async fn remote_presence_is_told_to_those_who_share_a_room_and_ends_with_silence() {
    let (test, ann, _room) = together().await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("remote.test", "m.presence", presence(BEN, "online")).await;
    let (since, sync) = test.sync(&ann, Some(&since)).await;
    let event = sync["presence"]["events"].as_array().unwrap().iter().find(|event| event["sender"] == BEN).unwrap();
    assert_eq!((&event["content"]["presence"], &event["content"]["status_msg"]), (&json!("online"), &json!("here")));
    let (gone, next) = test.node.sync.live.expire_silent(tokio::time::Instant::now() + SILENCE);
    assert_eq!((gone.len(), next), (1, None));
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    let event = sync["presence"]["events"].as_array().unwrap().iter().find(|event| event["sender"] == BEN).unwrap();
    assert_eq!(event["content"]["presence"], "offline");
}

#[tokio::test]
async fn presence_of_strangers_and_of_other_servers_users_is_dropped_alone() {
    let (test, ann, _room) = together().await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("evil.test", "m.presence", presence(BEN, "online")).await;
    test.edu("remote.test", "m.presence", presence("@dan:remote.test", "online")).await;
    let (since, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(sync["presence"], Value::Null);
    let mixed = json!({ "push": [{ "user_id": 5 }, { "user_id": ann.user_id, "presence": "offline" }, { "user_id": BEN, "presence": "unavailable" }] });
    test.edu("remote.test", "m.presence", mixed).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    let senders = sync["presence"]["events"].as_array().unwrap().iter().map(|event| event["sender"].clone()).collect::<Vec<_>>();
    assert_eq!(senders, [json!(BEN)]);
}

fn direct(sender: &str, id: &str, to: &str, device: &str) -> Value {
    json!({ "sender": sender, "type": "m.test", "message_id": id, "messages": { to: { device: { "n": id } } } })
}

async fn messages(test: &TestNode, who: &Client) -> Vec<String> {
    let (_, sync) = test.sync(who, None).await;
    let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| format!("{} {}", event["sender"].as_str().unwrap(), event["content"]["n"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_message_to_a_device_arrives_once_however_often_it_is_sent() {
    let (test, ann, _room) = together().await;
    let second = test.client("ann", "TWO").await;
    for (id, device) in [("one", "ANN"), ("one", "ANN"), ("two", "*"), ("two", "*"), ("three", "NOBODY")] {
        test.edu("remote.test", "m.direct_to_device", direct(BEN, id, &ann.user_id, device)).await;
    }
    // The same ID from another server is another message.
    test.edu("other.test", "m.direct_to_device", direct("@eve:other.test", "one", &ann.user_id, "ANN")).await;
    assert_eq!(messages(&test, &ann).await, ["@ben:remote.test one", "@ben:remote.test two", "@eve:other.test one"]);
    assert_eq!(messages(&test, &second).await, ["@ben:remote.test two"]);
}

#[tokio::test]
async fn forged_and_malformed_messages_to_devices_are_dropped() {
    let (test, ann, _room) = together().await;
    test.edu("evil.test", "m.direct_to_device", direct(BEN, "one", &ann.user_id, "ANN")).await;
    test.edu("remote.test", "m.direct_to_device", direct(&ann.user_id, "two", &ann.user_id, "ANN")).await;
    test.edu("remote.test", "m.direct_to_device", direct(BEN, "", &ann.user_id, "ANN")).await;
    test.edu("remote.test", "m.direct_to_device", direct(BEN, &"x".repeat(300), &ann.user_id, "ANN")).await;
    test.edu("remote.test", "m.direct_to_device", direct(BEN, "four", "@ann:elsewhere.test", "ANN")).await;
    let mut not_objects = direct(BEN, "five", &ann.user_id, "ANN");
    not_objects["messages"][&ann.user_id]["ANN"] = json!("text");
    test.edu("remote.test", "m.direct_to_device", not_objects).await;
    assert_eq!(messages(&test, &ann).await, Vec::<String>::new());
}

/// A server that shares no room with anybody here says a little, not a lot; those that do are not kept waiting by it.
#[tokio::test]
async fn strangers_fill_nobodys_queue_of_messages_to_devices() {
    let (test, ann, _room) = together().await;
    test.edu("remote.test", "m.direct_to_device", direct(BEN, "before", &ann.user_id, "ANN")).await;
    for n in 0..150 {
        test.edu("evil.test", "m.direct_to_device", direct("@eve:evil.test", &n.to_string(), &ann.user_id, "ANN")).await;
    }
    for n in 0..150 {
        test.edu("remote.test", "m.direct_to_device", direct(BEN, &n.to_string(), &ann.user_id, "ANN")).await;
    }
    let counts = test.node.store.read(store::to_device::counts).await.unwrap();
    // What nobody is sent is not remembered either.
    assert_eq!(counts, [("evil.test".to_owned(), 100, 100), ("remote.test".to_owned(), 151, 151)]);
}

pub(super) fn device_keys(user: &str, device: &str, key: &str) -> Value {
    json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): key },
        "signatures": { user: { format!("ed25519:{device}"): "c2ln" } },
    })
}

fn update(device: &str, stream_id: i64, prev_id: &[i64], keys: Value) -> Value {
    json!({ "user_id": BEN, "device_id": device, "stream_id": stream_id, "prev_id": prev_id, "keys": keys, "device_display_name": "Phone" })
}

/// As after a query: Ben has one device, and the list is current.
async fn fetched(test: &TestNode, stream_id: i64) {
    let ben: OwnedUserId = BEN.try_into().unwrap();
    let stored = test.node.store.write(move |tx| {
        let user = store::users::intern(tx, &ben)?;
        let mut list = crate::homeserver::users::remote_keys::Fetched { stream_id: Some(stream_id), ..Default::default() };
        list.add_device(&ben, "ONE", device_keys(BEN, "ONE", "a2V5"), None);
        let asked = tx.position();
        crate::homeserver::users::remote_keys::replace(tx, user, &list, asked, 0)
    });
    stored.await.unwrap();
}

/// Device IDs that are kept, and whether the list is current.
async fn kept(test: &TestNode) -> (Vec<String>, bool) {
    let ben: OwnedUserId = BEN.try_into().unwrap();
    let read = test.node.store.read(move |db| {
        let user = store::users::find(db, &ben)?.unwrap();
        let devices = store::keys::devices(db, user)?.into_iter().map(|(id, ..)| id.to_string()).collect();
        let rooms = remote_devices::local_rooms(db)?;
        Ok::<_, StoreError>((devices, remote_devices::is_current(db, &rooms, user)?))
    });
    read.await.unwrap()
}

#[tokio::test]
async fn changes_that_follow_each_other_keep_a_list_current_and_clients_are_told() {
    let (test, ann, _room) = together().await;
    fetched(&test, 5).await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("remote.test", "m.device_list_update", update("TWO", 6, &[5], device_keys(BEN, "TWO", "a2V5"))).await;
    assert_eq!(kept(&test).await, (vec!["ONE".to_owned(), "TWO".to_owned()], true));
    let (since, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(sync["device_lists"]["changed"], json!([BEN]));
    let gone = json!({ "user_id": BEN, "device_id": "ONE", "stream_id": 9, "prev_id": [6], "deleted": true });
    test.edu("remote.test", "m.device_list_update", gone.clone()).await;
    assert_eq!(kept(&test).await, (vec!["TWO".to_owned()], true));
    let (since, _) = test.sync(&ann, Some(&since)).await;
    test.edu("remote.test", "m.device_list_update", gone).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!((sync["device_lists"].clone(), kept(&test).await.1), (Value::Null, true), "the same again is no news");
}

#[tokio::test]
async fn a_gap_makes_a_list_be_asked_for_again() {
    for (prev, keys) in [(&[4][..], json!(null)), (&[][..], json!(null)), (&[5, 4][..], json!(null)), (&[5][..], json!({ "user_id": BEN }))]
    {
        let (test, ann, _room) = together().await;
        fetched(&test, 5).await;
        let (since, _) = test.sync(&ann, None).await;
        test.edu("remote.test", "m.device_list_update", update("TWO", 7, prev, keys)).await;
        assert_eq!(kept(&test).await, (vec!["ONE".to_owned()], false), "{prev:?}");
        let (_, sync) = test.sync(&ann, Some(&since)).await;
        assert_eq!(sync["device_lists"]["changed"], json!([BEN]), "{prev:?}");
    }
}

#[tokio::test]
async fn forged_changes_of_device_lists_change_nothing() {
    let (test, ann, _room) = together().await;
    fetched(&test, 5).await;
    let (since, _) = test.sync(&ann, None).await;
    test.edu("evil.test", "m.device_list_update", update("TWO", 6, &[5], device_keys(BEN, "TWO", "a2V5"))).await;
    test.edu("evil.test", "m.signing_key_update", json!({ "user_id": BEN, "master_key": {} })).await;
    let mut local = update("TWO", 6, &[5], device_keys(&ann.user_id, "TWO", "a2V5"));
    local["user_id"] = json!(ann.user_id);
    test.edu("remote.test", "m.device_list_update", local).await;
    let mut long = update("TWO", 6, &[5], Value::Null);
    long["device_id"] = json!("x".repeat(300));
    test.edu("remote.test", "m.device_list_update", long).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!((sync["device_lists"].clone(), kept(&test).await), (Value::Null, (vec!["ONE".to_owned()], true)));
}

#[tokio::test]
async fn a_list_is_current_only_while_a_room_has_been_shared_ever_since() {
    let (test, _ann, room) = together().await;
    fetched(&test, 5).await;
    assert!(kept(&test).await.1);
    test.set_member(&room, BEN, "leave").await;
    assert!(!kept(&test).await.1);
    test.set_member(&room, BEN, "join").await;
    assert!(!kept(&test).await.1, "changes in between were not for us");
}

#[tokio::test]
async fn new_signing_keys_are_taken_if_they_are_keys() {
    let (test, ann, _room) = together().await;
    fetched(&test, 5).await;
    let public = "Kl2UOzTxWbeUyzhKzhwD3mNkVKSZs1hG0NsUKZTK8oY";
    let master = json!({ "user_id": BEN, "usage": ["master"], "keys": { format!("ed25519:{public}"): public } });
    let (since, _) = test.sync(&ann, None).await;
    test.edu("remote.test", "m.signing_key_update", json!({ "user_id": BEN, "master_key": { "keys": 5 } })).await;
    let (since, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(sync["device_lists"], Value::Null);
    test.edu("remote.test", "m.signing_key_update", json!({ "user_id": BEN, "master_key": master })).await;
    let (_, sync) = test.sync(&ann, Some(&since)).await;
    assert_eq!(sync["device_lists"]["changed"], json!([BEN]));
    let ben: OwnedUserId = BEN.try_into().unwrap();
    let stored = test.node.store.read(move |db| {
        let user = store::users::find(db, &ben)?.unwrap();
        store::keys::cross_signing(db, user, "master")
    });
    assert_eq!(stored.await.unwrap(), Some(master));
}

#[tokio::test]
async fn what_is_no_edu_and_what_nobody_knows_is_passed_over() {
    let (test, ann, _room) = together().await;
    let origin = ruma::server_name!("remote.test");
    for text in ["5", "{}", r#"{"edu_type":5,"content":{}}"#, r#"{"edu_type":"m.typing"}"#, r#"{"edu_type":"org.unknown","content":{}}"#] {
        let edu = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        receive(&test.node, origin, &edu).await.unwrap();
    }
    test.sync(&ann, None).await;
}
