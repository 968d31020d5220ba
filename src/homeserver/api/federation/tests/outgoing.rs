#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]
//! What other servers are told of our users' devices and receipts, and that nobody is told what is none of theirs.

use serde_json::{Value, json};

use super::edus::device_keys;
use crate::homeserver::{
    api::testing::{Client, TestNode},
    federation::edus::outgoing,
    store::{outbox, servers},
};

const BEN: &str = "@ben:remote.test";

async fn together() -> (TestNode, Client, String) {
    let test = TestNode::with(|config| config.federation.enabled = true).await;
    outgoing::catch_up(&test.node).await;
    let ann = test.client("ann", "ANN").await;
    let room = test.room(&ann, json!({})).await;
    test.set_member(&room, BEN, "join").await;
    sent(&test, "remote.test").await;
    (test, ann, room)
}

/// Sends everything that waits for a server, as far as its queue knows. Kind and content of the EDUs.
async fn sent(test: &TestNode, server: &str) -> Vec<(String, Value)> {
    outgoing::catch_up(&test.node).await;
    let server = ruma::ServerName::parse(server).unwrap();
    let sent = test.node.store.write(move |tx| {
        let nid = servers::intern(tx, &server)?;
        let mut all = Vec::new();
        while let Some(transaction) = outbox::transaction(tx, nid, "txn", 0)? {
            all.extend(transaction.edus);
            outbox::answered(tx, nid, 0)?;
        }
        Ok::<_, crate::homeserver::store::StoreError>(all)
    });
    sent.await.unwrap().into_iter().map(|(kind, content)| (kind, serde_json::from_str(&content).unwrap())).collect()
}

async fn upload(test: &TestNode, who: &Client) {
    let keys = device_keys(&who.user_id, &who.device_id, "a2V5");
    let (status, body) = test.post(who, "/_matrix/client/v3/keys/upload", json!({ "device_keys": keys })).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn changes_of_devices_are_told_as_a_chain_without_names() {
    let (test, ann, _room) = together().await;
    upload(&test, &ann).await;
    let first = sent(&test, "remote.test").await;
    assert_eq!(first.len(), 1);
    let (kind, content) = &first[0];
    assert_eq!((kind.as_str(), &content["device_id"], &content["prev_id"]), ("m.device_list_update", &json!("ANN"), &json!([])));
    assert_eq!(content["keys"], device_keys(&ann.user_id, "ANN", "a2V5"));
    // A new name is nobody's business elsewhere.
    test.put(&ann, "/_matrix/client/v3/devices/ANN", json!({ "display_name": "Ann's telephone" })).await;
    assert_eq!(sent(&test, "remote.test").await, []);
    let second = test.client("ann", "TWO").await;
    upload(&test, &second).await;
    let told = sent(&test, "remote.test").await;
    assert_eq!((told.len(), &told[0].1["prev_id"]), (1, &json!([content["stream_id"]])));
    test.post(&second, "/_matrix/client/v3/logout", json!({})).await;
    let gone = sent(&test, "remote.test").await;
    assert_eq!((gone.len(), &gone[0].1["deleted"], &gone[0].1["prev_id"]), (1, &json!(true), &json!([told[0].1["stream_id"]])));
    assert_eq!(sent(&test, "remote.test").await, [], "nothing is told twice");
}

#[tokio::test]
async fn servers_without_a_shared_room_are_told_nothing() {
    let (test, ann, room) = together().await;
    let other = test.client("eve", "EVE").await;
    let private = test.room(&other, json!({})).await;
    test.set_member(&private, "@cid:third.test", "join").await;
    upload(&test, &ann).await;
    let event = send(&test, &ann, &room).await;
    test.post(&ann, &format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}"), json!({})).await;
    assert_eq!(sent(&test, "third.test").await, []);
    assert_eq!(sent(&test, "remote.test").await.len(), 2);
}

async fn send(test: &TestNode, who: &Client, room: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{}", who.device_id);
    let (_, body) = test.put(who, &path, json!({ "msgtype": "m.text", "body": "hello" })).await;
    body["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn public_receipts_are_told_with_their_thread_and_private_ones_are_not() {
    let (test, ann, room) = together().await;
    let event = send(&test, &ann, &room).await;
    let path = |kind: &str| format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event}");
    test.post(&ann, &path("m.read.private"), json!({})).await;
    assert_eq!(sent(&test, "remote.test").await, []);
    test.post(&ann, &path("m.read"), json!({ "thread_id": "main" })).await;
    let told = sent(&test, "remote.test").await;
    let expected = json!({ room: { "m.read": { "@ann:home.test": {
        "event_ids": [event], "data": { "ts": test.clock_ms(), "thread_id": "main" },
    } } } });
    assert_eq!(told, [("m.receipt".to_owned(), expected)]);
}

#[tokio::test]
async fn messages_to_remote_devices_are_split_and_have_ids_of_their_own() {
    let (test, ann, _room) = together().await;
    let big = "x".repeat(30_000);
    let messages = json!({ "messages": {
        BEN: { "ONE": { "n": big }, "TWO": { "n": big }, "*": { "n": 3 } },
        "@cid:third.test": { "C": { "n": 4 } },
        "@ann:home.test": { "ANN": { "n": 5 } },
    } });
    let path = "/_matrix/client/v3/sendToDevice/m.test/txn1";
    assert_eq!(test.put(&ann, path, messages.clone()).await.0, 200);
    assert_eq!(test.put(&ann, path, messages).await.0, 200, "the same transaction again sends nothing");
    let told = sent(&test, "remote.test").await;
    let mut ids = told.iter().map(|(_, content)| content["message_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(ids.iter().all(|id| id.len() <= 32));
    ids.dedup();
    assert_eq!((told.len(), ids.len()), (2, 2));
    let devices = told.iter().flat_map(|(_, content)| content["messages"][BEN].as_object().unwrap().keys()).collect::<Vec<_>>();
    assert_eq!(devices, ["*", "ONE", "TWO"]);
    assert!(told.iter().all(|(kind, content)| kind == "m.direct_to_device" && content["sender"] == "@ann:home.test"));
    assert_eq!(sent(&test, "third.test").await.len(), 1);
}
