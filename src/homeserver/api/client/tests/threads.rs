//! Following threads, files within bounds, what suspended users cannot do, terms.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, PASSWORD, TestNode, refused},
    config::Terms,
    media::Retention,
    store,
};

const FOLLOWED: &str = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions";

/// A room of two with a thread in it: the room, the root, and how its members are called.
struct Thread {
    test: TestNode,
    ann: Client,
    bob: Client,
    room: String,
    root: String,
}

impl Thread {
    async fn new() -> Self {
        let test = TestNode::new().await;
        let (ann, bob) = (test.client("ann", "A").await, test.client("bob", "B").await);
        let (_, made) = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "invite": [bob.user_id] })).await;
        let room = made["room_id"].as_str().unwrap().to_owned();
        assert_eq!(test.post(&bob, &format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await.0, 200);
        let mut thread = Self { test, ann, bob, room, root: String::new() };
        thread.root = thread.say("root", None).await;
        thread
    }

    /// Bob says something, in the thread or beside it.
    async fn say(&self, text: &str, root: Option<&str>) -> String {
        let mut content = json!({ "msgtype": "m.text", "body": text });
        if let Some(root) = root {
            content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
        }
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{text}", self.room);
        let (status, sent) = self.test.put(&self.bob, &path, content).await;
        assert_eq!(status, 200, "{sent}");
        sent["event_id"].as_str().unwrap().to_owned()
    }

    fn path(&self, root: &str) -> String {
        format!("/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{root}/subscription", self.room)
    }

    async fn unread(&self) -> u64 {
        let (_, sync) = self.test.get(&self.ann, "/_matrix/client/v3/sync").await;
        sync["rooms"]["join"][&self.room]["unread_notifications"]["notification_count"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn a_thread_is_followed_by_decision_or_by_a_client_and_left_for_good() {
    let thread = Thread::new().await;
    let (test, ann, path) = (&thread.test, &thread.ann, thread.path(&thread.root));
    assert_eq!(refused(&test.get(ann, &path).await), (404, "M_NOT_FOUND"));
    let beside = thread.say("beside", None).await;
    let automatic = |cause: &str| json!({ "automatic": cause });
    assert_eq!(refused(&test.put(ann, &path, automatic(&beside)).await), (400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"));
    let first = thread.say("first", Some(&thread.root)).await;
    assert_eq!(test.put(ann, &path, automatic(&first)).await.0, 200);
    assert_eq!(test.get(ann, &path).await.1, json!({ "automatic": true }));
    assert_eq!(test.put(ann, &path, json!({})).await.0, 200);
    assert_eq!(test.put(ann, &path, automatic(&first)).await.0, 200);
    assert_eq!(test.get(ann, &path).await.1, json!({ "automatic": false }), "the user's word outweighs the client's");
    assert_eq!(test.delete(ann, &path, Value::Null).await.0, 200);
    assert_eq!(test.delete(ann, &path, Value::Null).await.0, 200);
    assert_eq!(refused(&test.get(ann, &path).await), (404, "M_NOT_FOUND"));
    let conflict = test.put(ann, &path, automatic(&first)).await;
    assert_eq!(refused(&conflict), (409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"));
    let second = thread.say("second", Some(&thread.root)).await;
    assert_eq!(test.put(ann, &path, automatic(&second)).await.0, 200, "what came later counts");
    assert_eq!(refused(&test.put(ann, &thread.path("$none"), json!({})).await), (404, "M_NOT_FOUND"));
    let stranger = test.client("cyd", "C").await;
    assert_eq!(refused(&test.put(&stranger, &path, json!({})).await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn only_followed_threads_notify_who_follows_any() {
    let thread = Thread::new().await;
    let (test, ann) = (&thread.test, &thread.ann);
    let other = thread.say("other", None).await;
    let before = thread.unread().await;
    thread.say("one", Some(&other)).await;
    assert_eq!(thread.unread().await, before + 1, "who follows no threads is told as ever");
    assert_eq!(test.put(ann, &thread.path(&thread.root), json!({})).await.0, 200);
    thread.say("two", Some(&other)).await;
    assert_eq!(thread.unread().await, before + 1);
    thread.say("three", Some(&thread.root)).await;
    assert_eq!(thread.unread().await, before + 2);
    let (_, rules) = test.get(ann, "/_matrix/client/v3/pushrules/").await;
    let kinds = rules["global"].as_object().unwrap();
    let postcontent = kinds.iter().find(|(kind, _)| kind.ends_with("postcontent")).unwrap().1;
    assert_eq!(postcontent[0]["rule_id"], ".io.element.msc4306.rule.unsubscribed_thread");
    let own = "/_matrix/client/v3/pushrules/global/io.element.msc4306.postcontent/mine";
    assert_eq!(refused(&test.put(ann, own, json!({ "actions": [], "conditions": [] })).await), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn changes_come_with_sliding_sync_and_in_pages() {
    let thread = Thread::new().await;
    let (test, ann) = (&thread.test, &thread.ann);
    let roots = [thread.root.clone(), thread.say("b", None).await, thread.say("c", None).await];
    let slide = |pos: Option<String>, limit: u64| {
        let mut body = json!({ "extensions": { "io.element.msc4308.thread_subscriptions": { "enabled": true, "limit": limit } } });
        if let Some(pos) = pos {
            body["pos"] = pos.into();
        }
        async move { test.post(ann, "/_matrix/client/v4/sync", body).await.1 }
    };
    let first = slide(None, 2).await;
    assert!(first["extensions"].as_object().unwrap().is_empty(), "{first}");
    let pos = first["pos"].as_str().unwrap().to_owned();
    for root in &roots {
        assert_eq!(test.put(ann, &thread.path(root), json!({})).await.0, 200);
    }
    assert_eq!(test.delete(ann, &thread.path(&roots[1]), Value::Null).await.0, 200);
    let second = slide(Some(pos.clone()), 2).await;
    let told = &second["extensions"]["io.element.msc4308.thread_subscriptions"];
    assert!(told["subscribed"][&thread.room][&roots[2]]["bump_stamp"].is_i64(), "{second}");
    assert!(told["unsubscribed"][&thread.room][&roots[1]].is_object());
    let from = told["prev_batch"].as_str().unwrap();
    let (_, page) = test.get(ann, &format!("{FOLLOWED}?dir=b&from={from}&to={pos}")).await;
    assert_eq!(page["subscribed"][&thread.room].as_object().unwrap().keys().collect::<Vec<_>>(), [&roots[0]]);
    assert!(page.get("end").is_none());
    assert_eq!(refused(&test.get(ann, &format!("{FOLLOWED}?dir=f")).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.get(ann, FOLLOWED).await), (400, "M_MISSING_PARAM"));
}

async fn upload(test: &TestNode, who: &Client, bytes: usize) -> (u16, Value) {
    let request = Request::builder().method("POST").uri("/_matrix/media/v3/upload");
    let request = request.header("authorization", format!("Bearer {}", who.token)).body(Body::from(vec![b'x'; bytes])).unwrap();
    let response = test.send(request).await;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn media_id(uploaded: &(u16, Value)) -> String {
    uploaded.1["content_uri"].as_str().unwrap().strip_prefix("mxc://home.test/").unwrap().to_owned()
}

#[tokio::test]
async fn files_take_no_more_room_than_the_owner_gives() {
    let test = TestNode::with(|config| (config.media_user_bytes, config.media_total_bytes) = (Some(1000), Some(1500))).await;
    let (ann, bob) = (test.client("ann", "A").await, test.client("bob", "B").await);
    assert_eq!(upload(&test, &ann, 900).await.0, 200);
    assert_eq!(upload(&test, &ann, 101).await.1["errcode"], "M_FORBIDDEN");
    assert_eq!(upload(&test, &ann, 100).await.0, 200);
    assert_eq!(upload(&test, &bob, 501).await.0, 403, "everybody's room is used up before bob's");
    assert_eq!(upload(&test, &bob, 500).await.0, 200);
    let files = test.dir.path().join("media/files");
    let count = std::fs::read_dir(files).unwrap().flatten().flat_map(|shard| std::fs::read_dir(shard.path()).unwrap()).count();
    assert_eq!(count, 3, "what was refused left nothing behind");
}

#[tokio::test]
async fn old_and_unused_files_go_and_pictures_stay() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let (used, unused, face) = (upload(&test, &ann, 10).await, upload(&test, &ann, 10).await, upload(&test, &ann, 10).await);
    let path = format!("/_matrix/client/v3/profile/{}/avatar_url", ann.user_id);
    assert_eq!(test.put(&ann, &path, json!({ "avatar_url": face.1["content_uri"] })).await.0, 200);
    let day = 24 * 3_600_000;
    let get = |id: String| {
        let (test, ann) = (&test, &ann);
        async move { test.get(ann, &format!("/_matrix/client/v1/media/download/home.test/{id}")).await.0.as_u16() }
    };
    test.clock.advance(5 * day);
    assert_eq!(get(media_id(&used)).await, 200);
    test.clock.advance(6 * day);
    let keep = Retention { age_ms: None, unused_ms: Some(10 * day) };
    assert_eq!(test.node.media.expire(keep, "home.test").await.unwrap(), 1);
    assert_eq!((get(media_id(&used)).await, get(media_id(&unused)).await, get(media_id(&face)).await), (200, 404, 200));
    assert_eq!(test.node.media.expire(Retention { age_ms: Some(10 * day), unused_ms: None }, "home.test").await.unwrap(), 1);
    assert_eq!((get(media_id(&used)).await, get(media_id(&face)).await), (404, 200));
    assert_eq!(test.node.media.expire(Retention::default(), "home.test").await.unwrap(), 0);
}

#[tokio::test]
async fn what_an_administrator_withholds_nobody_gets() {
    let test = TestNode::new().await;
    test.node.accounts.create("root", PASSWORD, true).await.unwrap();
    let (root, ann) = (test.client("root", "R").await, test.client("ann", "A").await);
    let id = media_id(&upload(&test, &ann, 10).await);
    let file = format!("/_matrix/client/v1/media/download/home.test/{id}");
    let withhold = format!("/_synapse/admin/v1/media/quarantine/home.test/{id}");
    assert_eq!(refused(&test.post(&ann, &withhold, json!({})).await), (403, "M_FORBIDDEN"));
    assert_eq!(test.post(&root, &withhold, json!({})).await.0, 200);
    assert_eq!(refused(&test.get(&ann, &file).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.post(&root, &withhold.replace("quarantine", "unquarantine"), json!({})).await.0, 200);
    assert_eq!(test.get(&ann, &file).await.0, 200);
    let all = format!("/_synapse/admin/v1/user/{}/media/quarantine", ann.user_id);
    assert_eq!(test.post(&root, &all, json!({})).await.1, json!({ "num_quarantined": 1 }));
    let (_, list) = test.get(&root, &format!("/_synapse/admin/v1/users/{}/media", ann.user_id)).await;
    assert_eq!((&list["media"][0]["quarantined"], &list["total_bytes"]), (&json!(true), &json!(10)));
    let gone = format!("/_synapse/admin/v1/media/home.test/{id}");
    assert_eq!(test.delete(&root, &gone, Value::Null).await.1["deleted_media"], json!([id]));
    assert_eq!(refused(&test.delete(&root, &gone, Value::Null).await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_suspended_user_neither_uploads_nor_types() {
    let thread = Thread::new().await;
    let (test, ann) = (&thread.test, &thread.ann);
    let user = test.node.store.read(|db| store::accounts::get(db, ruma::user_id!("@ann:home.test"))).await.unwrap().unwrap().user;
    test.node.accounts.set_suspended(user, true).await.unwrap();
    assert_eq!(upload(test, ann, 10).await.1["errcode"], "M_USER_SUSPENDED");
    let typing = format!("/_matrix/client/v3/rooms/{}/typing/{}", thread.room, ann.user_id);
    assert_eq!(refused(&test.put(ann, &typing, json!({ "typing": true })).await), (403, "M_USER_SUSPENDED"));
}

#[tokio::test]
async fn whoever_registers_accepts_the_terms() {
    let terms = Terms { url: "https://example.org/terms".into(), version: "3".into() };
    let test = TestNode::with(|config| config.terms = Some(terms)).await;
    let body = json!({ "username": "dan", "password": PASSWORD });
    let with = |auth: Value| {
        let mut body = body.clone();
        body["auth"] = auth;
        body
    };
    let (status, asked) = test.call("POST", "/_matrix/client/v3/register", None, body.clone()).await;
    assert_eq!((status.as_u16(), &asked["flows"][0]["stages"]), (401, &json!(["m.login.terms", "m.login.dummy"])));
    let policy = &asked["params"]["m.login.terms"]["policies"]["terms_of_service"];
    assert_eq!((&policy["version"], &policy["en"]["url"]), (&json!("3"), &json!("https://example.org/terms")));
    let session = &asked["session"];
    let dummy = with(json!({ "type": "m.login.dummy", "session": session }));
    assert_eq!(test.call("POST", "/_matrix/client/v3/register", None, dummy).await.0, 401);
    let accepted = with(json!({ "type": "m.login.terms", "session": session }));
    let (status, made) = test.call("POST", "/_matrix/client/v3/register", None, accepted).await;
    assert_eq!((status.as_u16(), &made["user_id"]), (200, &json!("@dan:home.test")));
}
