//! Application services: a bridge made for the test, which the test answers for.
#![expect(clippy::disallowed_methods, reason = "the bridge of a test ends with it")]

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::homeserver::{
    api::testing::{Client, TestNode, refused},
    appservice::{Registration, sender},
    store,
};

/// A request that the bridge was made.
struct Asked {
    method: String,
    path: String,
    query: String,
    token: String,
    body: Value,
    reply: oneshot::Sender<(u16, Value)>,
}

impl Asked {
    fn answer(self, status: u16, body: Value) {
        self.reply.send((status, body)).unwrap();
    }

    /// The events of a transaction, by type and body.
    fn events(&self) -> Vec<(&str, &str)> {
        let text = |event: &'_ Value| event["content"]["body"].as_str().unwrap_or_default().to_owned();
        let events = self.body["events"].as_array().unwrap();
        events.iter().map(|e| (e["type"].as_str().unwrap(), &*Box::leak(text(e).into_boxed_str()))).collect()
    }
}

/// The bridge.
struct Bridge {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
}

impl Bridge {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::channel(16);
        let app = Router::new().fallback(move |request: Request| take(request, sender.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked }
    }

    async fn next(&mut self) -> Asked {
        tokio::time::timeout(std::time::Duration::from_secs(60), self.asked.recv()).await.expect("the bridge is asked").unwrap()
    }

    /// Takes transactions until one has an event with this text, and returns the texts on the way.
    async fn until(&mut self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let asked = self.next().await;
            found.extend(asked.events().iter().map(|(_, body)| (*body).to_owned()).filter(|body| !body.is_empty()));
            asked.answer(200, json!({}));
            if found.iter().any(|known| known == text) {
                return found;
            }
        }
    }

    fn registration(&self, more: &str) -> Registration {
        Registration::read(&format!(
            "{{id: bridge, url: 'http://{}', as_token: as-token, hs_token: hs-token, sender_localpart: _b_bot, {more}
              namespaces: {{users: [{{exclusive: true, regex: '@_b_.*'}}], aliases: [{{exclusive: true, regex: '#_b_.*'}}], rooms: []}}}}",
            self.address
        ))
        .unwrap()
    }
}

async fn take(request: Request, sender: mpsc::Sender<Asked>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let (reply, answer) = oneshot::channel();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        token: parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
        reply,
    };
    sender.send(asked).await.unwrap();
    let (status, body) = answer.await.unwrap_or((500, json!({})));
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// A node with this bridge, which is told nothing yet.
async fn with(bridge: &Bridge, more: &str) -> (TestNode, Client) {
    let registration = bridge.registration(more);
    let test = TestNode::with(|config| config.appservices = vec![registration]).await;
    let service = Client { user_id: "@_b_bot:home.test".into(), device_id: String::new(), token: "as-token".into() };
    (test, service)
}

async fn ghost(test: &TestNode, name: &str) -> String {
    let body = json!({ "type": "m.login.application_service", "username": name, "inhibit_login": true });
    let (status, answer) = test.call("POST", "/_matrix/client/v3/register", Some("as-token"), body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.get("access_token").is_none());
    answer["user_id"].as_str().unwrap().to_owned()
}

async fn room(test: &TestNode, who: &Client, body: Value) -> String {
    let (status, answer) = test.post(who, "/_matrix/client/v3/createRoom", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn say(test: &TestNode, who: &Client, room: &str, text: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}");
    let (status, answer) = test.put(who, &path, json!({ "msgtype": "m.text", "body": text })).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn events_come_in_order_and_a_transaction_is_repeated_until_it_is_taken() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "").await;
    let ann = test.client("ann", "A").await;
    let ghost = ghost(&test, "_b_ghost").await;
    let unrelated = room(&test, &ann, json!({})).await;
    say(&test, &ann, &unrelated, "not-for-you").await;
    let portal = room(&test, &ann, json!({ "name": "Portal", "invite": [ghost] })).await;
    sender::start(&test.node);
    let first = bridge.next().await;
    assert_eq!((first.method.as_str(), first.token.as_str(), first.query.as_str()), ("PUT", "Bearer hs-token", ""));
    assert!(first.path.starts_with("/_matrix/app/v1/transactions/"));
    let invite = &first.body["events"][0];
    assert_eq!((&invite["state_key"], &invite["room_id"]), (&json!(ghost), &json!(portal)));
    let stripped = invite["unsigned"]["invite_room_state"].as_array().unwrap();
    assert!(stripped.iter().any(|event| event["content"]["name"] == "Portal"));
    first.answer(200, json!({}));
    say(&test, &ann, &portal, "while-invited").await;
    let join = format!("/_matrix/client/v3/rooms/{portal}/join?user_id={ghost}");
    assert_eq!(test.post(&service, &join, json!({})).await.0, 200);
    say(&test, &ann, &portal, "one").await;
    assert_eq!(bridge.until("one").await, ["one"]);
    say(&test, &ann, &portal, "two").await;
    let refused = bridge.next().await;
    let (path, body) = (refused.path.clone(), refused.body.clone());
    refused.answer(500, json!({}));
    say(&test, &ann, &portal, "three").await;
    // Heard of, it is tried again without waiting.
    assert_eq!(test.get(&service, "/_matrix/client/v3/account/whoami").await.0, 200);
    let again = bridge.next().await;
    assert_eq!((&again.path, &again.body), (&path, &body), "nothing is added to it");
    again.answer(200, json!({}));
    let next = bridge.next().await;
    assert_ne!(next.path, path);
    assert_eq!(next.events(), [("m.room.message", "three")]);
    next.answer(200, json!({}));
}

#[tokio::test]
async fn a_transaction_that_was_not_taken_outlives_a_restart() {
    let mut bridge = Bridge::start().await;
    let (test, _) = with(&bridge, "").await;
    let ann = test.client("ann", "A").await;
    let ghost = ghost(&test, "_b_ghost").await;
    let portal = room(&test, &ann, json!({ "invite": [ghost] })).await;
    sender::start(&test.node);
    let first = bridge.next().await;
    let (path, body) = (first.path.clone(), first.body.clone());
    drop(first);
    say(&test, &ann, &portal, "later").await;
    let under_way = bridge.next().await;
    assert_eq!((&under_way.path, &under_way.body), (&path, &body));
    test.node.tasks.shutdown().trigger();
    // A third of what a service may take over an answer: the end does not wait for one that is under way.
    assert!(test.node.tasks.finish(std::time::Duration::from_secs(20)).await);
    drop(under_way);
    let test = test.reopened().await;
    sender::start(&test.node);
    let again = bridge.next().await;
    assert_eq!((&again.path, &again.body), (&path, &body));
    again.answer(200, json!({}));
    assert!(test.node.store.read(|db| store::appservices::troubled(db, "bridge")).await.unwrap().is_none_or(|(n, _)| n < 3));
}

#[tokio::test]
async fn a_service_acts_as_its_users_and_no_others() {
    let bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "").await;
    test.client("ann", "A").await;
    let ghost = ghost(&test, "_b_ghost").await;
    let who = |query: String| test.get(&service, Box::leak(format!("/_matrix/client/v3/account/whoami{query}").into_boxed_str()));
    assert_eq!(who(String::new()).await.1, json!({ "user_id": "@_b_bot:home.test" }));
    assert_eq!(who(format!("?user_id={ghost}")).await.1["user_id"], ghost);
    assert_eq!(refused(&who("?user_id=@ann:home.test".into()).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&who("?user_id=@_b_nobody:home.test".into()).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&who("?user_id=nonsense".into()).await), (400, "M_INVALID_PARAM"));
    let unknown = format!("?user_id={ghost}&device_id=BRIDGE");
    assert_eq!(refused(&who(unknown.clone()).await), (400, "M_UNKNOWN_DEVICE"));
    let device = format!("/_matrix/client/v3/devices/BRIDGE?user_id={ghost}");
    assert_eq!(test.put(&service, &device, json!({ "display_name": "Bridge" })).await.0, 201);
    assert_eq!(test.put(&service, &device, json!({})).await.0, 200);
    assert_eq!(who(unknown.clone()).await.1["device_id"], "BRIDGE");
    assert_eq!(who(unknown.replace("device_id", "org.matrix.msc3202.device_id")).await.1["device_id"], "BRIDGE");
    // Keys belong to a device, and need no password of the ghost's.
    let upload = |query: &str| format!("/_matrix/client/v3/keys/upload?user_id={ghost}{query}");
    assert_eq!(refused(&test.post(&service, &upload(""), json!({})).await), (400, "M_MISSING_PARAM"));
    let keys = json!({ "one_time_keys": { "signed_curve25519:A": { "key": "x" } } });
    assert_eq!(test.post(&service, &upload("&device_id=BRIDGE"), keys).await.1["one_time_key_counts"]["signed_curve25519"], 1);
    assert_eq!(test.delete(&service, &device, Value::Null).await.0, 200);
    assert_eq!(refused(&who(unknown).await), (400, "M_UNKNOWN_DEVICE"));
    let (status, sync) = test.get(&service, &format!("/_matrix/client/v3/sync?user_id={ghost}")).await;
    assert_eq!(status, 200, "{sync}");
}

#[tokio::test]
async fn names_of_a_namespace_are_its_service_s() {
    let bridge = Bridge::start().await;
    let (test, _) = with(&bridge, "").await;
    let ann = test.client("ann", "A").await;
    let register = |token: Option<&'static str>, body: Value| test.call("POST", "/_matrix/client/v3/register", token, body);
    let as_service = |name: &str| json!({ "type": "m.login.application_service", "username": name });
    assert_eq!(refused(&register(None, as_service("_b_x")).await), (401, "M_MISSING_TOKEN"));
    assert_eq!(refused(&register(Some("wrong"), as_service("_b_x")).await), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(refused(&register(Some("as-token"), as_service("stranger")).await), (400, "M_EXCLUSIVE"));
    assert_eq!(refused(&register(Some("as-token"), json!({ "type": "m.login.application_service" })).await), (400, "M_MISSING_PARAM"));
    let (_, made) = register(Some("as-token"), as_service("_b_x")).await;
    assert!(made["access_token"].is_string() && made["device_id"].is_string());
    assert_eq!(refused(&register(Some("as-token"), as_service("_b_x")).await), (400, "M_USER_IN_USE"));
    let person = json!({ "username": "_b_person", "password": "correct horse battery" });
    assert_eq!(refused(&register(None, person).await), (400, "M_EXCLUSIVE"));
    let (_, available) = test.call("GET", "/_matrix/client/v3/register/available?username=_b_y", None, Value::Null).await;
    assert_eq!(available["errcode"], "M_EXCLUSIVE");

    let login = |token: Option<&'static str>, name: &str| {
        let identifier = json!({ "type": "m.id.user", "user": name });
        test.call("POST", "/_matrix/client/v3/login", token, json!({ "type": "m.login.application_service", "identifier": identifier }))
    };
    assert_eq!(refused(&login(None, "_b_x").await), (401, "M_MISSING_TOKEN"));
    assert_eq!(refused(&login(Some("as-token"), "ann").await), (400, "M_EXCLUSIVE"));
    assert_eq!(refused(&login(Some("as-token"), "_b_none").await), (403, "M_FORBIDDEN"));
    assert_eq!(login(Some("as-token"), "_b_x").await.1["user_id"], "@_b_x:home.test");
    let (_, flows) = test.call("GET", "/_matrix/client/v3/login", None, Value::Null).await;
    assert!(flows["flows"].as_array().unwrap().contains(&json!({ "type": "m.login.application_service" })));

    let alias = json!({ "room_alias_name": "_b_room" });
    assert_eq!(refused(&test.post(&ann, "/_matrix/client/v3/createRoom", alias.clone()).await), (400, "M_EXCLUSIVE"));
    let service = Client { user_id: String::new(), device_id: String::new(), token: "as-token".into() };
    let portal = room(&test, &service, alias).await;
    let own = "/_matrix/client/v3/directory/room/%23_b_room:home.test";
    assert_eq!(refused(&test.put(&ann, &own.replace("room:", "other:"), json!({ "room_id": portal })).await), (400, "M_EXCLUSIVE"));
    let foreign = "/_matrix/client/v3/directory/room/%23plain:home.test";
    assert_eq!(refused(&test.put(&service, foreign, json!({ "room_id": portal })).await), (400, "M_EXCLUSIVE"));
    assert_eq!(refused(&test.delete(&ann, own, Value::Null).await), (400, "M_EXCLUSIVE"));
    assert_eq!(test.delete(&service, own, Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_service_is_asked_for_users_and_aliases_that_it_may_make() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "").await;
    let ann = test.client("ann", "A").await;
    let portal = room(&test, &ann, json!({})).await;
    let invite = format!("/_matrix/client/v3/rooms/{portal}/invite");
    let (answer, ()) = tokio::join!(test.post(&ann, &invite, json!({ "user_id": "@_b_new:home.test" })), async {
        let asked = bridge.next().await;
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/_matrix/app/v1/users/@_b_new:home.test"));
        ghost(&test, "_b_new").await;
        asked.answer(200, json!({}));
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    let (profile, ()) = tokio::join!(test.get(&ann, "/_matrix/client/v3/profile/@_b_none:home.test"), async {
        // Unknown under the new path, it is asked under the old one as well.
        bridge.next().await.answer(404, json!({ "errcode": "M_UNRECOGNIZED" }));
        let old = bridge.next().await;
        assert_eq!((old.path.as_str(), old.query.as_str()), ("/users/@_b_none:home.test", "access_token=hs-token"));
        old.answer(404, json!({}));
    });
    assert_eq!(refused(&profile), (404, "M_NOT_FOUND"));
    let (profile, ()) = tokio::join!(test.get(&ann, "/_matrix/client/v3/profile/@_b_none:home.test"), async {
        bridge.next().await.answer(404, json!({ "errcode": "COM.EXAMPLE_NOT_FOUND" }));
    });
    assert_eq!(refused(&profile), (404, "M_NOT_FOUND"));
    let (joined, ()) = tokio::join!(test.post(&ann, "/_matrix/client/v3/join/%23_b_there:home.test", json!({})), async {
        let asked = bridge.next().await;
        assert_eq!(asked.path, "/_matrix/app/v1/rooms/%23_b_there:home.test");
        room(&test, &service, json!({ "room_alias_name": "_b_there", "preset": "public_chat" })).await;
        asked.answer(200, json!({}));
    });
    assert_eq!(joined.0, 200, "{}", joined.1);
    // What is there is not asked for, and neither is what is nobody's.
    assert_eq!(test.get(&ann, "/_matrix/client/v3/directory/room/%23_b_there:home.test").await.0, 200);
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v3/directory/room/%23plain:home.test").await), (404, "M_NOT_FOUND"));
    assert!(bridge.asked.try_recv().is_err());
}

#[tokio::test]
async fn typing_receipts_and_presence_come_to_who_asks_for_them() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "receive_ephemeral: true,").await;
    let ann = test.client("ann", "A").await;
    let ghost = ghost(&test, "_b_ghost").await;
    let portal = room(&test, &ann, json!({ "invite": [ghost] })).await;
    let elsewhere = room(&test, &ann, json!({})).await;
    assert_eq!(test.post(&service, &format!("/_matrix/client/v3/rooms/{portal}/join?user_id={ghost}"), json!({})).await.0, 200);
    say(&test, &ann, &portal, "start").await;
    sender::start(&test.node);
    bridge.until("start").await;
    for room in [&elsewhere, &portal] {
        let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", ann.user_id);
        assert_eq!(test.put(&ann, &path, json!({ "typing": true })).await.0, 200);
    }
    let typing = bridge.next().await;
    assert_eq!(typing.body["events"], json!([]));
    let expected = json!([{ "type": "m.typing", "room_id": portal, "content": { "user_ids": [ann.user_id] } }]);
    assert_eq!(typing.body["ephemeral"], expected);
    typing.answer(200, json!({}));
    let (_, page) = test.get(&ann, &format!("/_matrix/client/v3/rooms/{portal}/messages?dir=b&limit=1")).await;
    let event = page["chunk"][0]["event_id"].as_str().unwrap();
    for kind in ["m.read.private", "m.read"] {
        let path = format!("/_matrix/client/v3/rooms/{portal}/receipt/{kind}/{event}");
        assert_eq!(test.post(&ann, &path, json!({})).await.0, 200);
    }
    let read = loop {
        let asked = bridge.next().await;
        let body = asked.body.clone();
        asked.answer(200, json!({}));
        if body.to_string().contains("m.receipt") {
            break body;
        }
    };
    assert_eq!(read["ephemeral"][0]["room_id"], portal);
    assert!(read["ephemeral"][0]["content"][event]["m.read"][&ann.user_id].is_object(), "{read}");
    assert!(!read.to_string().contains("m.read.private"), "what is private is not told: {read}");
    let path = format!("/_matrix/client/v3/presence/{}/status", ann.user_id);
    assert_eq!(test.put(&ann, &path, json!({ "presence": "online", "status_msg": "here" })).await.0, 200);
    let presence = bridge.next().await;
    assert_eq!(presence.body["ephemeral"][0]["content"]["status_msg"], "here");
    presence.answer(200, json!({}));
}

#[tokio::test]
async fn who_keeps_keys_for_its_users_gets_their_messages_to_devices() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "org.matrix.msc3202: true,").await;
    let ann = test.client("ann", "A").await;
    let ghost = ghost(&test, "_b_ghost").await;
    let at = |path: &str| format!("/_matrix/client/v3/{path}?user_id={ghost}&device_id=B");
    assert_eq!(test.put(&service, &format!("/_matrix/client/v3/devices/B?user_id={ghost}"), json!({})).await.0, 201);
    let keys = json!({ "one_time_keys": { "signed_curve25519:A": { "key": "x" }, "signed_curve25519:B": { "key": "y" } } });
    assert_eq!(test.post(&service, &at("keys/upload"), keys).await.0, 200);
    let claim = json!({ "one_time_keys": { ghost.clone(): { "B": "signed_curve25519" } } });
    assert_eq!(test.post(&ann, "/_matrix/client/v3/keys/claim", claim).await.0, 200);
    let message = json!({ "messages": { ghost.clone(): { "B": { "secret": 1 } } } });
    assert_eq!(test.put(&ann, "/_matrix/client/v3/sendToDevice/m.room.encrypted/1", message).await.0, 200);
    sender::start(&test.node);
    let got = bridge.next().await;
    let expected = json!([{ "type": "m.room.encrypted", "sender": ann.user_id, "content": { "secret": 1 },
                            "to_user_id": ghost, "to_device_id": "B" }]);
    assert_eq!(got.body["de.sorunome.msc2409.to_device"], expected);
    assert_eq!(got.body["org.matrix.msc3202.device_one_time_keys_count"][&ghost]["B"]["signed_curve25519"], 1);
    got.answer(200, json!({}));
    let left = test.node.store.read(|db| store::appservices::to_device(db, "bridge", 10)).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn who_keeps_keys_is_told_whom_it_shares_rooms_with_and_no_more() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "org.matrix.msc3202: true,").await;
    let (ann, ben, cid) = (test.client("ann", "A").await, test.client("ben", "B").await, test.client("cid", "C").await);
    let ghost = ghost(&test, "_b_ghost").await;
    let portal = room(&test, &ann, json!({ "preset": "public_chat" })).await;
    let other = room(&test, &ann, json!({ "preset": "public_chat" })).await;
    let join = |room: &str| format!("/_matrix/client/v3/rooms/{room}/join");
    let leave = |room: &str| format!("/_matrix/client/v3/rooms/{room}/leave");
    let as_ghost = |path: String| format!("{path}?user_id={ghost}");
    for who in [&ben, &cid] {
        assert_eq!(test.post(who, &join(&portal), json!({})).await.0, 200);
    }
    sender::start(&test.node);
    // Each step is told in the transaction that has its event, or in one before the next step.
    let mut told = async |text: &str| {
        say(&test, &ann, &portal, text).await;
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        loop {
            let asked = bridge.next().await;
            let lists = asked.body["org.matrix.msc3202.device_lists"].clone();
            for (list, field) in [(&mut changed, "changed"), (&mut left, "left")] {
                list.extend(lists[field].as_array().into_iter().flatten().map(|user| user.as_str().unwrap().to_owned()));
                list.sort();
                list.dedup();
            }
            let last = asked.events().iter().any(|(_, body)| *body == text);
            asked.answer(200, json!({}));
            if last {
                return (changed, left);
            }
        }
    };
    let users = |users: &[&Client]| users.iter().map(|user| user.user_id.clone()).collect::<Vec<_>>();
    assert_eq!(test.post(&service, &as_ghost(join(&portal)), json!({})).await.0, 200);
    assert_eq!(told("one").await, (users(&[&ann, &ben, &cid]), vec![]), "all who were there");
    assert_eq!(test.post(&ben, &leave(&portal), json!({})).await.0, 200);
    assert_eq!(told("two").await, (vec![], users(&[&ben])));
    assert_eq!(test.post(&ben, &join(&portal), json!({})).await.0, 200);
    assert_eq!(told("three").await, (users(&[&ben]), vec![]));
    // Who shares another room with it is not gone.
    assert_eq!(test.post(&cid, &join(&other), json!({})).await.0, 200);
    assert_eq!(test.post(&service, &as_ghost(join(&other)), json!({})).await.0, 200);
    told("four").await;
    assert_eq!(test.post(&cid, &leave(&portal), json!({})).await.0, 200);
    assert_eq!(told("five").await, (vec![], vec![]));
    // Its own user goes, and with it those who were only there.
    assert_eq!(test.post(&service, &as_ghost(leave(&other)), json!({})).await.0, 200);
    assert_eq!(told("six").await, (vec![], users(&[&cid])));
    // An invite that is turned down had shared nothing.
    assert_eq!(test.post(&ann, &format!("/_matrix/client/v3/rooms/{portal}/invite"), json!({ "user_id": cid.user_id })).await.0, 200);
    assert_eq!(test.post(&cid, &leave(&portal), json!({})).await.0, 200);
    assert_eq!(told("seven").await, (vec![], vec![]));
}

#[tokio::test]
async fn two_of_a_services_users_who_come_or_go_together_bring_everybody_along() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "org.matrix.msc3202: true,").await;
    let (ann, ben) = (test.client("ann", "A").await, test.client("ben", "B").await);
    let portal = room(&test, &ann, json!({ "preset": "public_chat" })).await;
    assert_eq!(test.post(&ben, &format!("/_matrix/client/v3/rooms/{portal}/join"), json!({})).await.0, 200);
    let ghosts = [ghost(&test, "_b_one").await, ghost(&test, "_b_two").await];
    let both = async |what: &str| {
        for ghost in &ghosts {
            let path = format!("/_matrix/client/v3/rooms/{portal}/{what}?user_id={ghost}");
            assert_eq!(test.post(&service, &path, json!({})).await.0, 200);
        }
    };
    // Nothing is carried yet: what has happened by then goes in one transaction.
    both("join").await;
    sender::start(&test.node);
    let came = bridge.next().await;
    let all = json!([ann.user_id, ben.user_id]);
    assert_eq!(came.body["events"].as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member").count(), 2);
    assert_eq!(came.body["org.matrix.msc3202.device_lists"], json!({ "changed": all, "left": [] }));
    // While the service thinks about it, both go.
    both("leave").await;
    came.answer(200, json!({}));
    let went = bridge.next().await;
    assert_eq!(went.body["org.matrix.msc3202.device_lists"], json!({ "changed": [], "left": all }));
    went.answer(200, json!({}));
}

#[tokio::test]
async fn a_ping_says_what_is_wrong() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "").await;
    let ann = test.client("ann", "A").await;
    let path = "/_matrix/client/v1/appservice/bridge/ping";
    let body = json!({ "transaction_id": "meow" });
    let (answer, ()) = tokio::join!(test.post(&service, path, body.clone()), async {
        let asked = bridge.next().await;
        assert_eq!((asked.path.as_str(), &asked.body), ("/_matrix/app/v1/ping", &body));
        asked.answer(200, json!({}));
    });
    assert!(answer.1["duration_ms"].is_u64(), "{answer:?}");
    let (answer, ()) = tokio::join!(test.post(&service, path, json!({})), async {
        bridge.next().await.answer(403, json!({ "errcode": "M_FORBIDDEN" }));
    });
    assert_eq!((refused(&answer), &answer.1["status"]), ((502, "M_BAD_STATUS"), &json!(403)));
    assert!(answer.1["body"].as_str().unwrap().contains("M_FORBIDDEN"));
    assert_eq!(refused(&test.post(&service, &path.replace("bridge", "other"), json!({})).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.post(&ann, path, json!({})).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.call("POST", path, Some("nonsense"), json!({})).await), (401, "M_UNKNOWN_TOKEN"));
    let silent = Registration::read("{id: s, url: null, as_token: t, hs_token: h, sender_localpart: s, namespaces: {}}").unwrap();
    let gone =
        Registration::read("{id: g, url: 'http://127.0.0.1:1', as_token: u, hs_token: h, sender_localpart: g, namespaces: {}}").unwrap();
    let test = TestNode::with(|config| config.appservices = vec![silent, gone]).await;
    for (id, token, expected) in [("s", "t", (400, "M_URL_NOT_SET")), ("g", "u", (502, "M_CONNECTION_FAILED"))] {
        let path = format!("/_matrix/client/v1/appservice/{id}/ping");
        assert_eq!(refused(&test.call("POST", &path, Some(token), json!({})).await), expected);
    }
}

#[tokio::test]
async fn networks_are_described_looked_up_and_listed() {
    let mut bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "protocols: [irc],").await;
    let ann = test.client("ann", "A").await;
    let described = json!({ "user_fields": [], "instances": [{ "network_id": "libera", "desc": "Libera" }] });
    let (all, ()) = tokio::join!(test.get(&ann, "/_matrix/client/v3/thirdparty/protocols"), async {
        let asked = bridge.next().await;
        assert_eq!(asked.path, "/_matrix/app/v1/thirdparty/protocol/irc");
        asked.answer(200, described);
    });
    assert_eq!(all.1["irc"]["instances"][0]["instance_id"], "bridge|libera", "{}", all.1);
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v3/thirdparty/protocol/xmpp").await), (404, "M_NOT_FOUND"));
    let (found, ()) = tokio::join!(test.get(&ann, "/_matrix/client/v3/thirdparty/location/irc?channel=%23x"), async {
        let asked = bridge.next().await;
        assert_eq!((asked.path.as_str(), asked.query.as_str()), ("/_matrix/app/v1/thirdparty/location/irc", "channel=%23x"));
        asked.answer(200, json!([{ "alias": "#_b_x:home.test", "protocol": "irc", "fields": {} }]));
    });
    assert_eq!(found.1[0]["protocol"], "irc");
    let (none, ()) = tokio::join!(test.get(&ann, "/_matrix/client/v3/thirdparty/user?userid=@_b_x:home.test"), async {
        bridge.next().await.answer(200, json!([]));
    });
    assert_eq!(refused(&none), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v3/thirdparty/location").await), (400, "M_MISSING_PARAM"));

    let portal = room(&test, &service, json!({ "name": "Portal" })).await;
    let list = format!("/_matrix/client/v3/directory/list/appservice/libera/{portal}");
    assert_eq!(refused(&test.put(&ann, &list, json!({ "visibility": "public" })).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.put(&service, &list, json!({ "visibility": "odd" })).await), (400, "M_INVALID_PARAM"));
    assert_eq!(test.put(&service, &list, json!({ "visibility": "public" })).await.0, 200);
    let rooms = |body: Value| test.post(&ann, "/_matrix/client/v3/publicRooms", body);
    let count = |answer: &(StatusCode, Value)| answer.1["chunk"].as_array().unwrap().len();
    assert_eq!(count(&rooms(json!({})).await), 0);
    assert_eq!(count(&rooms(json!({ "third_party_instance_id": "bridge|libera" })).await), 1);
    assert_eq!(count(&rooms(json!({ "third_party_instance_id": "bridge|oftc" })).await), 0);
    assert_eq!(count(&rooms(json!({ "include_all_networks": true })).await), 1);
    assert_eq!(test.put(&service, &list, json!({ "visibility": "private" })).await.0, 200);
    assert_eq!(count(&rooms(json!({ "include_all_networks": true })).await), 0);
}

#[tokio::test]
async fn a_service_says_when_something_was_sent_and_others_cannot() {
    let bridge = Bridge::start().await;
    let (test, service) = with(&bridge, "rate_limited: false,").await;
    let ann = test.client("ann", "A").await;
    for (who, expected) in [(&service, 12345), (&ann, test.clock_ms())] {
        let room = room(&test, who, json!({})).await;
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1?ts=12345");
        let (_, sent) = test.put(who, &path, json!({ "body": "old", "msgtype": "m.text" })).await;
        let event = format!("/_matrix/client/v3/rooms/{room}/event/{}", sent["event_id"].as_str().unwrap());
        assert_eq!(test.get(who, &event).await.1["origin_server_ts"], expected);
    }
    let room = room(&test, &service, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/2?ts=tomorrow");
    assert_eq!(refused(&test.put(&service, &path, json!({})).await), (400, "M_INVALID_PARAM"));
}
