//! Key backups.

use serde_json::{Value, json};

use crate::homeserver::api::testing::{Client, TestNode, refused};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

async fn create(test: &TestNode, who: &Client) -> String {
    let body = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "abc", "signatures": {}, "extra": [1] } });
    test.post(who, VERSION, body).await.1["version"].as_str().unwrap().to_owned()
}

fn session(index: u32, verified: bool) -> Value {
    json!({ "first_message_index": index, "forwarded_count": 0, "is_verified": verified, "session_data": { "ciphertext": "c", "new": 1 } })
}

#[tokio::test]
async fn versions_are_created_read_changed_and_never_numbered_twice() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    assert_eq!(refused(&test.get(&ann, VERSION).await), (404, "M_NOT_FOUND"));
    assert_eq!(create(&test, &ann).await, "1");
    assert_eq!(create(&test, &ann).await, "2");
    let (_, newest) = test.get(&ann, VERSION).await;
    let expected = json!({
        "version": "2", "algorithm": ALGORITHM, "etag": "0", "count": 0,
        "auth_data": { "public_key": "abc", "signatures": {}, "extra": [1] },
    });
    assert_eq!(newest, expected);
    assert_eq!(test.get(&ann, &format!("{VERSION}/1")).await.1["version"], json!("1"));
    assert_eq!(refused(&test.get(&ben, &format!("{VERSION}/1")).await), (404, "M_NOT_FOUND"));
    let update =
        |algorithm: &str, version: &str| json!({ "algorithm": algorithm, "auth_data": { "public_key": "new" }, "version": version });
    assert_eq!(test.put(&ann, &format!("{VERSION}/2"), update(ALGORITHM, "2")).await.0, 200);
    assert_eq!(refused(&test.put(&ann, &format!("{VERSION}/2"), update("other", "2")).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.put(&ann, &format!("{VERSION}/2"), update(ALGORITHM, "1")).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.put(&ann, &format!("{VERSION}/x"), update(ALGORITHM, "x")).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.get(&ann, VERSION).await.1["auth_data"], json!({ "public_key": "new" }));
    assert_eq!(test.delete(&ann, &format!("{VERSION}/2"), Value::Null).await.0, 200);
    assert_eq!(refused(&test.delete(&ann, &format!("{VERSION}/2"), Value::Null).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.get(&ann, VERSION).await.1["version"], json!("1"));
    assert_eq!(create(&test, &ann).await, "3");
}

#[tokio::test]
async fn keys_go_into_the_newest_version_only() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let body = json!({ "sessions": { "S": session(0, true) } });
    assert_eq!(refused(&test.put(&ann, &format!("{KEYS}/!r:x?version=1"), body.clone()).await), (404, "M_NOT_FOUND"));
    create(&test, &ann).await;
    create(&test, &ann).await;
    let wrong = test.put(&ann, &format!("{KEYS}/!r:x?version=1"), body.clone()).await;
    assert_eq!((refused(&wrong), &wrong.1["current_version"]), ((403, "M_WRONG_ROOM_KEYS_VERSION"), &json!("2")));
    assert_eq!(refused(&test.put(&ann, &format!("{KEYS}/!r:x?version=9"), body.clone()).await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&test.put(&ann, &format!("{KEYS}/!r:x"), body).await), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn better_copies_replace_worse_ones_and_the_etag_tells() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    create(&test, &ann).await;
    let one = format!("{KEYS}/!r:x/S?version=1");
    assert_eq!(test.put(&ann, &one, session(5, false)).await.1, json!({ "etag": "1", "count": 1 }));
    assert_eq!(test.put(&ann, &one, session(7, false)).await.1, json!({ "etag": "1", "count": 1 }), "a worse copy is not kept");
    assert_eq!(test.put(&ann, &one, session(3, false)).await.1, json!({ "etag": "2", "count": 1 }));
    assert_eq!(test.put(&ann, &one, session(9, true)).await.1, json!({ "etag": "3", "count": 1 }));
    assert_eq!(test.get(&ann, &one).await.1, session(9, true));
    let all = json!({ "rooms": { "!r:x": { "sessions": { "T": session(0, true) } }, "!q:x": { "sessions": { "U": session(1, true) } } } });
    assert_eq!(test.put(&ann, &format!("{KEYS}?version=1"), all).await.1, json!({ "etag": "4", "count": 3 }));
    let (_, room) = test.get(&ann, &format!("{KEYS}/!r:x?version=1")).await;
    assert_eq!(room, json!({ "sessions": { "S": session(9, true), "T": session(0, true) } }));
    let (_, everything) = test.get(&ann, &format!("{KEYS}?version=1")).await;
    assert_eq!(everything["rooms"]["!q:x"], json!({ "sessions": { "U": session(1, true) } }));
    assert_eq!(refused(&test.get(&ann, &format!("{KEYS}/!r:x/X?version=1")).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.get(&ann, &format!("{KEYS}/!none:x?version=1")).await.1, json!({ "sessions": {} }));

    assert_eq!(test.delete(&ann, &one, Value::Null).await.1, json!({ "etag": "5", "count": 2 }));
    assert_eq!(test.delete(&ann, &format!("{KEYS}/!q:x?version=1"), Value::Null).await.1, json!({ "etag": "6", "count": 1 }));
    assert_eq!(test.delete(&ann, &format!("{KEYS}?version=1"), Value::Null).await.1, json!({ "etag": "7", "count": 0 }));
}

#[tokio::test]
async fn malformed_sessions_are_refused() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    create(&test, &ann).await;
    for (field, value) in
        [("first_message_index", json!(-1)), ("is_verified", json!("yes")), ("session_data", json!("x")), ("forwarded_count", json!(null))]
    {
        let mut bad = session(0, true);
        bad[field] = value;
        assert_eq!(refused(&test.put(&ann, &format!("{KEYS}/!r:x/S?version=1"), bad).await), (400, "M_BAD_JSON"), "{field}");
    }
}
