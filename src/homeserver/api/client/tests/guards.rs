//! Invites that nobody wants, dehydrated devices, proxies, leftovers, what the node says of itself.

use std::{net::SocketAddr, time::Duration};

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::homeserver::{
    api::{
        endpoints::{self, State},
        testing::{Client, TestNode, refused},
    },
    listen::Peer,
    store,
};

const DEHYDRATED: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

async fn room(test: &TestNode, who: &Client) -> String {
    let (_, answer) = test.post(who, "/_matrix/client/v3/createRoom", json!({})).await;
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn account_data(test: &TestNode, who: &Client, kind: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/{kind}", who.user_id);
    assert_eq!(test.put(who, &path, content).await.0, 200);
}

#[tokio::test]
async fn who_blocks_invites_gets_none_and_the_inviter_is_told() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let path = format!("/_matrix/client/v3/rooms/{}/invite", room(&test, &ann).await);
    let invite = || test.post(&ann, &path, json!({ "user_id": ben.user_id }));
    account_data(&test, &ben, "m.invite_permission_config", json!({ "default_action": "block" })).await;
    assert_eq!(refused(&invite().await), (403, "M_INVITE_BLOCKED"));
    account_data(&test, &ben, "m.invite_permission_config", json!({})).await;
    let blocked = json!({ "blocked_users": ["@a*:home.test"] });
    account_data(&test, &ben, "org.matrix.msc4155.invite_permission_config", blocked).await;
    assert_eq!(refused(&invite().await), (403, "M_INVITE_BLOCKED"));
    let allowed = json!({ "allowed_users": [ann.user_id], "blocked_servers": ["*"] });
    account_data(&test, &ben, "org.matrix.msc4155.invite_permission_config", allowed).await;
    assert_eq!(invite().await.0, 200);
    let (_, sync) = test.get(&ben, "/_matrix/client/v3/sync").await;
    assert_eq!(sync["rooms"]["invite"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn an_ignored_invite_is_neither_shown_nor_pushed_and_the_inviter_does_not_notice() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    account_data(&test, &ben, "org.matrix.msc4155.invite_permission_config", json!({ "ignored_servers": ["home.test"] })).await;
    let path = format!("/_matrix/client/v3/rooms/{}/invite", room(&test, &ann).await);
    assert_eq!(test.post(&ann, &path, json!({ "user_id": ben.user_id })).await.0, 200);
    let (_, sync) = test.get(&ben, "/_matrix/client/v3/sync").await;
    assert_eq!(sync["rooms"].get("invite"), None, "{sync}");
    assert_eq!(test.get(&ben, "/_matrix/client/v3/notifications").await.1, json!({ "notifications": [] }));
}

#[tokio::test]
async fn who_wants_no_invites_any_more_is_not_shown_those_from_before() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let path = format!("/_matrix/client/v3/rooms/{}/invite", room(&test, &ann).await);
    let (_, before) = test.get(&ben, "/_matrix/client/v3/sync").await;
    assert_eq!(test.post(&ann, &path, json!({ "user_id": ben.user_id })).await.0, 200);
    let since = format!("/_matrix/client/v3/sync?since={}", before["next_batch"].as_str().unwrap());
    let slide = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let window = || json!({ "lists": { "all": { "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] } } });
    for (action, shown) in [("allow", 1), ("block", 0), ("allow", 1)] {
        account_data(&test, &ben, "m.invite_permission_config", json!({ "default_action": action })).await;
        for path in ["/_matrix/client/v3/sync", &since] {
            let (_, sync) = test.get(&ben, path).await;
            assert_eq!(sync["rooms"]["invite"].as_object().map_or(0, |invites| invites.len()), shown, "{action} {path}: {sync}");
        }
        let (_, slid) = test.post(&ben, slide, window()).await;
        assert_eq!(slid["lists"]["all"]["count"], shown, "{action}: {slid}");
    }
}

fn device(id: &str, user: &str, key: &str) -> Value {
    json!({
        "device_id": id, "initial_device_display_name": "Asleep", "device_data": { "algorithm": "test", "pickle": key },
        "device_keys": { "user_id": user, "device_id": id, "algorithms": [], "keys": { format!("ed25519:{id}"): key },
            "signatures": { user: {} }, "dehydrated": true },
        "one_time_keys": { format!("signed_curve25519:{key}"): { "key": key } },
        "fallback_keys": {},
    })
}

#[tokio::test]
async fn a_dehydrated_device_takes_keys_and_messages_and_can_be_read_and_replaced() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    assert_eq!(refused(&test.get(&ann, DEHYDRATED).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.put(&ann, DEHYDRATED, device("D1", &ann.user_id, "one")).await.1, json!({ "device_id": "D1" }));
    let (_, body) = test.get(&ann, DEHYDRATED).await;
    assert_eq!(body, json!({ "device_id": "D1", "device_data": { "algorithm": "test", "pickle": "one" } }));
    let query = json!({ "device_keys": { ann.user_id.clone(): [] } });
    let (_, keys) = test.post(&ben, "/_matrix/client/v3/keys/query", query).await;
    assert_eq!(keys["device_keys"][&ann.user_id]["D1"]["dehydrated"], true);
    let messages = json!({ "messages": { ann.user_id.clone(): { "D1": { "secret": 1 } } } });
    assert_eq!(test.put(&ben, "/_matrix/client/v3/sendToDevice/m.room.encrypted/t", messages).await.0, 200);
    let events = format!("{DEHYDRATED}/D1/events");
    let (_, page) = test.post(&ann, &events, json!({})).await;
    assert_eq!(page["events"], json!([{ "sender": ben.user_id, "type": "m.room.encrypted", "content": { "secret": 1 } }]));
    let (_, page) = test.post(&ann, &events, json!({ "next_batch": page["next_batch"] })).await;
    assert_eq!(page["events"], json!([]));
    assert_eq!(refused(&test.post(&ann, &format!("{DEHYDRATED}/X/events"), json!({})).await), (403, "M_FORBIDDEN"));
    assert_eq!(test.put(&ann, DEHYDRATED, device("D2", &ann.user_id, "two")).await.0, 200);
    let (_, devices) = test.get(&ann, "/_matrix/client/v3/devices").await;
    let mut ids: Vec<_> = devices["devices"].as_array().unwrap().iter().map(|d| d["device_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["A", "D2"]);
    let whoami = "/_matrix/client/v3/account/whoami";
    let asleep = test.client("ann", "D2").await;
    assert_eq!(test.get(&asleep, whoami).await.0, 200);
    assert_eq!(test.delete(&ann, DEHYDRATED, json!(null)).await.1, json!({ "device_id": "D2" }));
    assert_eq!(refused(&test.get(&asleep, whoami).await), (401, "M_UNKNOWN_TOKEN"), "who was signed in on it is no more");
    assert_eq!(refused(&test.delete(&ann, DEHYDRATED, json!(null)).await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&test.put(&ann, DEHYDRATED, device("A", &ann.user_id, "x")).await), (400, "M_INVALID_PARAM"), "it is signed in");
    assert_eq!(refused(&test.put(&ann, DEHYDRATED, device("D3", &ben.user_id, "x")).await), (400, "M_BAD_JSON"));
    assert_eq!(refused(&test.get(&ann, DEHYDRATED).await), (404, "M_NOT_FOUND"), "nothing was kept of what was refused");
}

/// Attempts to sign in until there are too many, through a proxy that says whom it forwards.
async fn attempts(test: &TestNode, forwarded: &str) -> usize {
    let body = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "nobody" }, "password": "x" });
    for attempt in 0..100 {
        let request = Request::builder()
            .method("POST")
            .uri("/_matrix/client/v3/login")
            .extension(Peer(Some(SocketAddr::from(([127, 0, 0, 9], 5)))))
            .header("x-forwarded-for", forwarded)
            .body(Body::from(body.to_string()))
            .unwrap();
        if test.send(request).await.status() == 429 {
            return attempt;
        }
    }
    100
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_allowance() {
    let test = TestNode::with(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let test = &test;
    let registration = |forwarded: &'static str| async move {
        let mut done = 0;
        loop {
            let request = Request::builder()
                .uri("/_matrix/client/v3/register/available?username=x")
                .extension(Peer(Some(SocketAddr::from(([127, 0, 0, 9], 5)))))
                .header("x-forwarded-for", forwarded)
                .body(Body::empty())
                .unwrap();
            if test.send(request).await.status() == 429 {
                return done;
            }
            done += 1;
        }
    };
    let first = registration("203.0.113.1").await;
    assert!(first > 0);
    assert_eq!(registration("203.0.113.1").await, 0, "the allowance is spent");
    assert_eq!(registration("203.0.113.1, 203.0.113.2").await, first, "the address that the proxy saw counts, not what a client claims");
    assert_eq!(registration("203.0.113.3, 127.0.0.5").await, first, "a proxy before the proxy is passed over");
}

#[tokio::test]
async fn without_a_trusted_proxy_the_header_changes_nothing() {
    let test = TestNode::new().await;
    let first = attempts(&test, "203.0.113.1").await;
    assert!(first < 100);
    assert_eq!(attempts(&test, "203.0.113.2").await, 0);
}

#[tokio::test]
async fn files_that_no_row_knows_are_swept_and_others_are_not() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let request = Request::builder()
        .method("POST")
        .uri("/_matrix/media/v3/upload")
        .header("authorization", format!("Bearer {}", ann.token))
        .body(Body::from("kept"))
        .unwrap();
    let body = axum::body::to_bytes(test.send(request).await.into_body(), 1000).await.unwrap();
    let uri: Value = serde_json::from_slice(&body).unwrap();
    let media = uri["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let orphan = test.dir.path().join("media/files/ab/abcdefghijklmnop");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "left behind").unwrap();
    assert_eq!(test.node.media.sweep(Duration::from_secs(3600)).await.unwrap(), 0, "it may be on its way to a row");
    assert_eq!(test.node.media.sweep(Duration::ZERO).await.unwrap(), 1);
    assert!(!orphan.exists());
    assert_eq!(test.get(&ann, &format!("/_matrix/client/v1/media/download/{media}")).await.0, 200);
}

#[tokio::test]
async fn a_device_that_never_fetches_its_messages_does_not_fill_the_disk() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let id = ruma::UserId::parse(&ann.user_id).unwrap();
    let sender = ruma::UserId::parse(&ben.user_id).unwrap();
    let waiting = test.node.store.write(move |tx| {
        let user = store::users::find(&tx.reader(), &id)?.unwrap();
        let device = ruma::OwnedDeviceId::from("A");
        for _ in 0..50_200 {
            store::to_device::queue(tx, user, &device, &sender, "m.test", "{}")?;
        }
        store::sync_user::to_device(
            &tx.reader(),
            user,
            &device,
            crate::homeserver::types::StreamPos(0),
            crate::homeserver::types::StreamPos(i64::MAX),
            100_000,
        )
    });
    let waiting = waiting.await.unwrap().len();
    assert!((50_000..50_100).contains(&waiting), "{waiting}");
}

#[tokio::test]
async fn who_answers_for_the_node_is_told_when_the_owner_says_so() {
    let path = "/.well-known/matrix/support";
    let test = TestNode::new().await;
    assert_eq!(refused(&test.call("GET", path, None, json!(null)).await), (404, "M_NOT_FOUND"));
    let test = TestNode::with(|config| config.support_email = Some("ann@example.org".into())).await;
    let expected = json!({ "contacts": [{ "email_address": "ann@example.org", "role": "m.role.admin" }] });
    assert_eq!(test.call("GET", path, None, json!(null)).await.1, expected);
}

#[tokio::test]
async fn versions_tell_what_the_table_says_is_served() {
    let test = TestNode::new().await;
    let (_, body) = test.call("GET", "/_matrix/client/versions", None, json!(null)).await;
    let features: Vec<&String> =
        body["unstable_features"].as_object().unwrap().iter().filter(|(_, on)| **on == json!(true)).map(|(f, _)| f).collect();
    let rows = endpoints::table();
    let served = |part: &str| rows.iter().any(|row| row.state == State::Served && row.path.contains(part));
    for (feature, part) in [
        ("org.matrix.simplified_msc3575", "org.matrix.simplified_msc3575/sync"),
        ("org.matrix.msc3814", "org.matrix.msc3814.v1"),
        ("org.matrix.msc4140", "org.matrix.msc4140"),
        ("org.matrix.msc4143", "org.matrix.msc4143"),
        ("uk.half-shot.msc2666.query_mutual_rooms", "uk.half-shot.msc2666"),
        ("uk.tcpip.msc4133", "uk.tcpip.msc4133"),
        ("fi.mau.msc2246", "fi.mau.msc2246"),
        ("org.matrix.msc4306", "io.element.msc4306"),
        ("org.matrix.msc4108", "org.matrix.msc4108/rendezvous"),
    ] {
        assert_eq!(features.iter().any(|told| *told == feature), served(part), "{feature}");
    }
}
