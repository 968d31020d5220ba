//! Login tokens, OpenID tokens, locked and suspended accounts, erasure, registration by shared secret.

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{
    base::Secret,
    homeserver::api::testing::{Client, PASSWORD, TestNode, password_stage, refused},
};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const LOGIN: &str = "/_matrix/client/v3/login";

async fn admin(test: &TestNode) -> Client {
    test.node.accounts.create("root", PASSWORD, true).await.unwrap();
    test.client("root", "ROOT").await
}

#[tokio::test]
async fn a_login_token_costs_a_password_and_signs_in_once_and_soon() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let get = "/_matrix/client/v1/login/get_token";
    let challenge = test.post(&ann, get, json!({})).await;
    assert_eq!((challenge.0.as_u16(), &challenge.1["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let auth = json!({ "auth": password_stage(&challenge.1["session"], "ann", PASSWORD) });
    let (status, made) = test.post(&ann, get, auth.clone()).await;
    assert_eq!((status.as_u16(), &made["expires_in_ms"]), (200, &json!(120_000)));
    assert_ne!(test.post(&ann, get, auth).await.0, 200, "every token is asked for anew");
    let login = |token: &Value| json!({ "type": "m.login.token", "token": token, "device_id": "TWO" });
    let answer = test.call("POST", LOGIN, None, login(&made["login_token"])).await.1;
    assert_eq!((&answer["user_id"], &answer["device_id"]), (&json!("@ann:home.test"), &json!("TWO")));
    assert_eq!(refused(&test.call("POST", LOGIN, None, login(&made["login_token"])).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.call("POST", LOGIN, None, json!({ "type": "m.login.token" })).await), (400, "M_MISSING_PARAM"));
    let late =
        test.node.accounts.login_token(test.node.accounts.account(&ruma::owned_user_id!("@ann:home.test")).await.unwrap().unwrap().user);
    test.clock.advance(120_000);
    assert_eq!(refused(&test.call("POST", LOGIN, None, login(&json!(late))).await), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn an_openid_token_says_who_and_opens_nothing() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let path = "/_matrix/client/v3/user/@ann:home.test/openid/request_token";
    assert_eq!(refused(&test.post(&ben, path, json!({})).await), (403, "M_FORBIDDEN"));
    let made = test.post(&ann, path, json!({})).await.1;
    assert_eq!(
        (&made["token_type"], &made["matrix_server_name"], &made["expires_in"]),
        (&json!("Bearer"), &json!("home.test"), &json!(3600))
    );
    let token = made["access_token"].as_str().unwrap();
    let info = async |token: &str| {
        test.call("GET", &format!("/_matrix/federation/v1/openid/userinfo?access_token={token}"), None, Value::Null).await
    };
    assert_eq!(info(token).await.1, json!({ "sub": "@ann:home.test" }));
    assert_eq!(info(token).await.0, 200, "as often as the other service likes");
    assert_eq!(refused(&test.call("GET", WHOAMI, Some(token), Value::Null).await), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(refused(&info(&ann.token).await), (401, "M_UNKNOWN_TOKEN"), "an access token is no OpenID token");
    assert_eq!(refused(&test.call("GET", "/_matrix/federation/v1/openid/userinfo", None, Value::Null).await), (401, "M_MISSING_TOKEN"));
    test.clock.advance(60 * 60 * 1000);
    assert_eq!(refused(&info(token).await), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_locked_account_can_only_sign_out_and_keeps_its_sessions() {
    let test = TestNode::new().await;
    let (root, ann) = (admin(&test).await, test.client("ann", "ONE").await);
    let lock = "/_matrix/client/v1/admin/lock/@ann:home.test";
    assert_eq!(test.get(&root, lock).await.1, json!({ "locked": false }));
    assert_eq!(test.get(&ann, WHOAMI).await.0, 200, "the token is in the cache");
    assert_eq!(test.put(&root, lock, json!({ "locked": true })).await.1, json!({ "locked": true }));
    let answer = test.get(&ann, WHOAMI).await;
    assert_eq!((refused(&answer), &answer.1["soft_logout"]), ((401, "M_USER_LOCKED"), &json!(true)));
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v3/sync").await), (401, "M_USER_LOCKED"));
    for end in ["logout", "logout/all"] {
        let path = format!("/_matrix/client/v3/rooms/!r:home.test/send/m.room.message/{end}");
        assert_eq!(refused(&test.put(&ann, &path, json!({})).await).1 == "M_USER_LOCKED", end == "logout", "no route has the other");
    }
    let path = "/_matrix/client/v3/rooms/!r:home.test/state/m.room.topic/logout";
    assert_eq!(refused(&test.put(&ann, path, json!({})).await), (401, "M_USER_LOCKED"), "a name of one's own signs nobody out");
    let login =
        |password: &str| json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ann" }, "password": password });
    assert_eq!(refused(&test.call("POST", LOGIN, None, login(PASSWORD)).await), (401, "M_USER_LOCKED"));
    assert_eq!(refused(&test.call("POST", LOGIN, None, login("wrong")).await), (403, "M_FORBIDDEN"), "strangers do not learn of the lock");
    test.put(&root, lock, json!({ "locked": false })).await;
    assert_eq!(test.get(&ann, WHOAMI).await.0, 200);
    test.put(&root, lock, json!({ "locked": true })).await;
    assert_eq!(test.post(&ann, "/_matrix/client/v3/logout", json!({})).await.0, 200);
    test.put(&root, lock, json!({ "locked": false })).await;
    assert_eq!(refused(&test.get(&ann, WHOAMI).await), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn locking_is_for_administrators_and_not_for_their_equals() {
    let test = TestNode::new().await;
    let (root, ann) = (admin(&test).await, test.client("ann", "ONE").await);
    test.node.accounts.create("other", PASSWORD, true).await.unwrap();
    for kind in ["lock", "suspend"] {
        let at = |user: &str| format!("/_matrix/client/v1/admin/{kind}/{user}");
        let body = json!({ "locked": true, "suspended": true });
        for user in ["@root:home.test", "@nobody:home.test", "@ann:other.test", "@ann:home.test"] {
            assert_eq!(refused(&test.put(&ann, &at(user), body.clone()).await), (403, "M_FORBIDDEN"), "{user}");
            assert_eq!(refused(&test.get(&ann, &at(user)).await), (403, "M_FORBIDDEN"), "{user}");
        }
        for (user, wanted) in [
            ("@root:home.test", (403, "M_FORBIDDEN")),
            ("@other:home.test", (403, "M_FORBIDDEN")),
            ("@nobody:home.test", (404, "M_NOT_FOUND")),
            ("@ann:other.test", (400, "M_INVALID_PARAM")),
            ("nonsense", (400, "M_INVALID_PARAM")),
        ] {
            assert_eq!(refused(&test.put(&root, &at(user), body.clone()).await), wanted, "{kind} {user}");
        }
        assert_eq!(refused(&test.put(&root, &at("@ann:home.test"), json!({})).await), (400, "M_MISSING_PARAM"));
        assert_eq!(refused(&test.put(&root, &at("@ann:home.test"), json!({ "locked": 1, "suspended": 1 })).await), (400, "M_BAD_JSON"));
    }
    let moderation = |answer: Value| answer["capabilities"]["m.account_moderation"].clone();
    assert_eq!(moderation(test.get(&root, "/_matrix/client/v3/capabilities").await.1), json!({ "suspend": true, "lock": true }));
    assert_eq!(moderation(test.get(&ann, "/_matrix/client/v3/capabilities").await.1), Value::Null);
}

#[tokio::test]
async fn whois_tells_oneself_and_administrators() {
    let test = TestNode::new().await;
    let (root, ann) = (admin(&test).await, test.client("ann", "ONE").await);
    let path = "/_matrix/client/v3/admin/whois/@ann:home.test";
    for who in [&root, &ann] {
        let answer = test.get(who, path).await.1;
        assert_eq!(answer["user_id"], "@ann:home.test");
        assert_eq!(answer["devices"]["ONE"]["sessions"][0]["connections"][0]["ip"], "127.0.0.9");
    }
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v3/admin/whois/@root:home.test").await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.get(&root, "/_matrix/client/v3/admin/whois/@nobody:home.test").await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_suspended_user_looks_goes_and_takes_back_but_says_nothing() {
    let test = TestNode::new().await;
    let (root, ann, ben) = (admin(&test).await, test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let room = test.post(&ben, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.1["room_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = test.post(&ben, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.1["room_id"]
        .as_str()
        .unwrap()
        .to_owned();
    test.post(&ann, &format!("/_matrix/client/v3/join/{room}"), json!({})).await;
    let say = |txn: &str| format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
    let text = json!({ "msgtype": "m.text", "body": "x" });
    let own = test.put(&ann, &say("1"), text.clone()).await.1["event_id"].as_str().unwrap().to_owned();
    let bens = test.put(&ben, &say("1"), text.clone()).await.1["event_id"].as_str().unwrap().to_owned();
    test.put(&root, "/_matrix/client/v1/admin/suspend/@ann:home.test", json!({ "suspended": true })).await;
    let suspended = (403, "M_USER_SUSPENDED");
    assert_eq!(refused(&test.put(&ann, &say("2"), text.clone()).await), suspended);
    assert_eq!(refused(&test.post(&ann, &format!("/_matrix/client/v3/join/{other}"), json!({})).await), suspended);
    assert_eq!(refused(&test.post(&ann, "/_matrix/client/v3/createRoom", json!({})).await), suspended);
    assert_eq!(
        refused(&test.post(&ann, &format!("/_matrix/client/v3/rooms/{room}/invite"), json!({ "user_id": "@root:home.test" })).await),
        suspended
    );
    assert_eq!(
        refused(&test.put(&ann, "/_matrix/client/v3/profile/@ann:home.test/displayname", json!({ "displayname": "x" })).await),
        suspended
    );
    let typing = format!("/_matrix/client/v3/rooms/{room}/typing/@ann:home.test");
    assert_eq!(refused(&test.put(&ann, &typing, json!({ "typing": true })).await), suspended);
    assert_eq!(refused(&test.put(&ann, "/_matrix/client/v3/directory/room/%23x:home.test", json!({ "room_id": room })).await), suspended);
    assert_eq!(refused(&test.post(&ann, "/_matrix/media/v1/create", json!({})).await), suspended);
    assert_eq!(refused(&test.post(&ann, "/_matrix/media/v3/upload", json!({ "a": "file" })).await), suspended);
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v1/media/preview_url?url=https://example.org/").await), suspended);
    assert_eq!(refused(&test.put(&ann, &format!("{}?org.matrix.msc4140.delay=10", say("3")), text.clone()).await), suspended);
    let status = json!({ "presence": "online", "status_msg": "x" });
    assert_eq!(refused(&test.put(&ann, "/_matrix/client/v3/presence/@ann:home.test/status", status).await), suspended);
    let to = |kind: &str, user: &Client, txn: &str| {
        let body = json!({ "messages": { user.user_id.clone(): { "*": {} } } });
        (format!("/_matrix/client/v3/sendToDevice/{kind}/{txn}"), body)
    };
    for (kind, txn) in [("m.custom", "1"), ("m.room_key_request", "1"), ("m.key.verificationx", "1")] {
        let (path, body) = to(kind, &ben, txn);
        assert_eq!(refused(&test.put(&ann, &path, body).await), suspended, "{kind}");
    }
    for (path, body) in [
        to("m.key.verification.request", &ann, "2"),
        to("m.key.verification.request", &ben, "2"),
        to("m.key.verification.mac", &ben, "2"),
        to("m.room.encrypted", &ben, "3"),
    ] {
        assert_eq!(test.put(&ann, &path, body).await.0, 200, "devices are verified, and encrypted sessions kept alive: {path}");
    }
    let redact = |event: &str| format!("/_matrix/client/v3/rooms/{room}/redact/{event}/t{}", event.len());
    assert_eq!(refused(&test.put(&ann, &redact(&bens), json!({})).await), suspended);
    assert_eq!(test.put(&ann, &redact(&own), json!({})).await.0, 200);
    assert_eq!(test.get(&ann, &format!("/_matrix/client/v3/rooms/{room}/messages?dir=b")).await.0, 200);
    assert_eq!(test.get(&ann, "/_matrix/client/v3/sync").await.0, 200);
    test.client("ann", "TWO").await;
    assert_eq!(test.post(&ann, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.0, 200);
    test.put(&root, "/_matrix/client/v1/admin/suspend/@ann:home.test", json!({ "suspended": false })).await;
    assert_eq!(test.post(&ann, &format!("/_matrix/client/v3/join/{other}"), json!({})).await.0, 200);
}

#[tokio::test]
async fn a_suspended_user_verifies_others_in_a_room_and_says_nothing_else_by_it() {
    let test = TestNode::new().await;
    let (root, ann, ben) = (admin(&test).await, test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let room = test.room(&ben, json!({ "preset": "public_chat" })).await;
    test.post(&ann, &format!("/_matrix/client/v3/join/{room}"), json!({})).await;
    test.put(&root, "/_matrix/client/v1/admin/suspend/@ann:home.test", json!({ "suspended": true })).await;
    let send = |kind: &str, txn: &str| format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{txn}");
    let request = json!({
        "msgtype": "m.key.verification.request", "body": "Please verify", "from_device": "ONE", "to": ben.user_id,
        "methods": ["m.sas.v1"],
    });
    let (status, sent) = test.put(&ann, &send("m.room.message", "1"), request.clone()).await;
    assert_eq!(status, 200, "{sent}");
    let relates = json!({ "m.relates_to": { "rel_type": "m.reference", "event_id": sent["event_id"] } });
    for kind in ["m.key.verification.start", "m.key.verification.accept", "m.key.verification.mac", "m.key.verification.done"] {
        assert_eq!(test.put(&ann, &send(kind, "1"), relates.clone()).await.0, 200, "{kind}");
    }
    for (field, value) in [
        ("msgtype", json!("m.text")),
        ("to", Value::Null),
        ("to", json!("ben")),
        ("from_device", json!("")),
        ("methods", json!([])),
        ("formatted_body", json!("<b>buy</b>")),
        ("url", json!("mxc://home.test/x")),
    ] {
        let mut said = request.clone();
        said[field] = value;
        assert_eq!(refused(&test.put(&ann, &send("m.room.message", field), said).await), (403, "M_USER_SUSPENDED"), "{field}");
    }
    for kind in ["m.reaction", "m.sticker", "m.room.encrypted", "m.key.verificationx"] {
        assert_eq!(refused(&test.put(&ann, &send(kind, "2"), relates.clone()).await), (403, "M_USER_SUSPENDED"), "{kind}");
    }
    let state = format!("/_matrix/client/v3/rooms/{room}/state/m.key.verification.start/x");
    assert_eq!(refused(&test.put(&ann, &state, json!({})).await), (403, "M_USER_SUSPENDED"), "no state by that name");
}

#[tokio::test]
async fn messages_of_an_erased_user_are_served_redacted_to_those_who_join_later() {
    for erase in [true, false] {
        let test = TestNode::new().await;
        let (ann, ben, carl) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await, test.client("carl", "CARL").await);
        let made = test.post(&ben, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.1;
        let room = made["room_id"].as_str().unwrap();
        let join = format!("/_matrix/client/v3/join/{room}");
        test.post(&ann, &join, json!({})).await;
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        let event =
            test.put(&ann, &path, json!({ "msgtype": "m.text", "body": "secret" })).await.1["event_id"].as_str().unwrap().to_owned();
        test.put(&ben, &path, json!({ "msgtype": "m.text", "body": "ben's" })).await;
        let close = json!({ "erase": erase, "auth": password_stage(&Value::Null, "ann", PASSWORD) });
        assert_eq!(test.post(&ann, "/_matrix/client/v3/account/deactivate", close).await.0, 200);
        test.post(&carl, &join, json!({})).await;
        let messages = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
        let one = format!("/_matrix/client/v3/rooms/{room}/event/{event}");
        for path in [&messages, &one, &"/_matrix/client/v3/sync".to_owned()] {
            assert!(test.get(&ben, path).await.1.to_string().contains("secret"), "{path}: who was there keeps it");
            assert_eq!(test.get(&carl, path).await.1.to_string().contains("secret"), !erase, "{path}");
        }
        assert!(test.get(&carl, &messages).await.1.to_string().contains("ben's"));
        assert_eq!(test.get(&carl, &one).await.1["content"] == json!({}), erase);
    }
}

#[tokio::test]
async fn erasure_takes_names_and_words_but_leaves_the_room_what_it_is() {
    let test = TestNode::new().await;
    let (ann, ben, carl) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await, test.client("carl", "CARL").await);
    let encryption = json!({ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
    let body = json!({ "preset": "public_chat", "initial_state": [encryption] });
    let made = test.post(&ann, "/_matrix/client/v3/createRoom", body).await.1;
    let room = made["room_id"].as_str().unwrap();
    let at = |path: &str| format!("/_matrix/client/v3/rooms/{room}/{path}");
    test.post(&ben, &at("join"), json!({})).await;
    let avatar = json!({ "avatar_url": "mxc://home.test/secretface" });
    assert_eq!(test.put(&ann, "/_matrix/client/v3/profile/@ann:home.test/avatar_url", avatar).await.0, 200);
    test.put(&ann, &at("send/m.room.message/1"), json!({ "msgtype": "m.text", "body": "secretword" })).await;
    let close = json!({ "erase": true, "auth": password_stage(&Value::Null, "ann", PASSWORD) });
    assert_eq!(test.post(&ann, "/_matrix/client/v3/account/deactivate", close).await.0, 200);
    test.post(&carl, &at("join"), json!({})).await;
    for who in [&ben, &carl] {
        let (_, content) = test.get(who, &at("state/m.room.encryption/")).await;
        assert_eq!(content["algorithm"], "m.megolm.v1.aes-sha2", "whoever joins encrypts as well");
        let (_, whole) = test.get(who, &at("state")).await;
        assert!(whole.to_string().contains("m.megolm.v1.aes-sha2"), "{whole}");
    }
    let member = at("state/m.room.member/@ann:home.test");
    assert_eq!(test.get(&carl, &member).await.1, json!({ "membership": "leave" }));
    for path in [at("state"), at("members"), at("messages?dir=b&limit=50"), "/_matrix/client/v3/sync".to_owned()] {
        assert!(!test.get(&carl, &path).await.1.to_string().contains("secret"), "{path}");
    }
    let search = json!({ "search_categories": { "room_events": { "search_term": "secretword" } } });
    for (who, count) in [(&ben, 1), (&carl, 0)] {
        let (_, found) = test.post(who, "/_matrix/client/v3/search", search.clone()).await;
        assert_eq!(found["search_categories"]["room_events"]["count"], count, "{}", who.user_id);
    }
}

#[tokio::test]
async fn accounts_are_made_by_whoever_knows_the_owners_secret() {
    let test = TestNode::with(|config| {
        config.registration = crate::homeserver::Registration::Closed;
        config.registration_shared_secret = Some(Secret::new("s3cret".into()));
    })
    .await;
    let path = "/_synapse/admin/v1/register";
    let mac = |secret: &str, nonce: &str, name: &str, admin: &str| {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{nonce}\0{name}\0{PASSWORD}\0{admin}").as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let nonce = async || test.call("GET", path, None, Value::Null).await.1["nonce"].as_str().unwrap().to_owned();
    let body = |nonce: &str, admin: bool, mac: String| json!({ "nonce": nonce, "username": "bot", "password": PASSWORD, "admin": admin, "mac": mac });
    let first = nonce().await;
    let wrong = test.call("POST", path, None, body(&first, true, mac("s3cret", &first, "bot", "notadmin"))).await;
    assert_eq!(refused(&wrong), (403, "M_FORBIDDEN"), "rights are part of what is signed");
    let again = test.call("POST", path, None, body(&first, false, mac("s3cret", &first, "bot", "notadmin"))).await;
    assert_eq!(refused(&again), (400, "M_UNKNOWN"), "a nonce is good for one attempt");
    let guess = nonce().await;
    assert_eq!(
        refused(&test.call("POST", path, None, body(&guess, false, mac("guess", &guess, "bot", "notadmin"))).await),
        (403, "M_FORBIDDEN")
    );
    let good = nonce().await;
    let (status, answer) = test.call("POST", path, None, body(&good, true, mac("s3cret", &good, "bot", "admin"))).await;
    assert_eq!((status.as_u16(), &answer["user_id"]), (200, &json!("@bot:home.test")));
    assert!(test.node.accounts.requester(answer["access_token"].as_str().unwrap(), None).await.unwrap().admin);
    let without = TestNode::new().await;
    assert_eq!(refused(&without.call("GET", path, None, Value::Null).await), (404, "M_UNRECOGNIZED"));
}
