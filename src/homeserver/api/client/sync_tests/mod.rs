//! Sync as clients see it: requests through the router, against a node in a temporary directory.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "the test owns its tasks and waits for them")]

mod aggregations;
mod lazy;
mod presence;
mod reading;
mod rooms;
mod sliding;
mod sliding_v4;
mod upgrading;
mod v3;
mod waiting;

use std::sync::Arc;

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    base::{ManualClock, Shutdown, random::SeededRandomness},
    homeserver::{Config, Homeserver, Listeners, api},
};

/// A node without listeners.
struct Home {
    router: Router,
    server: Homeserver,
    _dir: tempfile::TempDir,
}

/// A signed-in device.
#[derive(Clone)]
struct Client {
    router: Router,
    token: String,
    id: String,
    txn: Arc<std::sync::atomic::AtomicU64>,
}

impl Home {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { rate_limits: false, ..Config::new("home.test".try_into().unwrap(), dir.path().join("node")) };
        let clock = Arc::new(ManualClock::at(1_790_000_000_000));
        let randomness = Arc::new(SeededRandomness::new(7));
        let server = Homeserver::start(config, Listeners::default(), clock, randomness, Shutdown::new()).await.unwrap();
        Self { router: api::router(Arc::clone(server.node())), server, _dir: dir }
    }

    /// The same node, stopped and started.
    async fn restarted(self) -> Self {
        let Self { router, server, _dir } = self;
        drop(router);
        server.stop().await;
        let config = Config { rate_limits: false, ..Config::new("home.test".try_into().unwrap(), _dir.path().join("node")) };
        let clock = Arc::new(ManualClock::at(1_790_000_100_000));
        let randomness = Arc::new(SeededRandomness::new(8));
        let server = Homeserver::start(config, Listeners::default(), clock, randomness, Shutdown::new()).await.unwrap();
        Self { router: api::router(Arc::clone(server.node())), server, _dir }
    }

    /// Somebody who was signed in before the restart.
    fn again(&self, client: &Client) -> Client {
        Client { router: self.router.clone(), ..client.clone() }
    }

    /// Creates an account and signs in.
    async fn user(&self, name: &str) -> Client {
        self.server.create_account(name, "correct horse battery", false).await.unwrap();
        self.device(name).await
    }

    /// Signs in once more.
    async fn device(&self, name: &str) -> Client {
        let anonymous = Client { router: self.router.clone(), token: String::new(), id: String::new(), txn: Arc::default() };
        let identifier = json!({ "type": "m.id.user", "user": name });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "correct horse battery" });
        let answer = anonymous.ok(Method::POST, "/_matrix/client/v3/login", Some(body)).await;
        Client { token: answer["access_token"].as_str().unwrap().into(), id: answer["user_id"].as_str().unwrap().into(), ..anonymous }
    }
}

impl Client {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method.clone(), path, body).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, &format!("/_matrix/client/v3/{path}"), None).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ok(Method::POST, &format!("/_matrix/client/v3/{path}"), Some(body)).await
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        self.ok(Method::PUT, &format!("/_matrix/client/v3/{path}"), Some(body)).await
    }

    async fn create_room(&self, body: Value) -> String {
        self.post("createRoom", body).await["room_id"].as_str().unwrap().to_owned()
    }

    async fn join(&self, room: &str) {
        self.post(&format!("rooms/{room}/join"), json!({})).await;
    }

    /// Sends an event and returns its ID.
    async fn send(&self, room: &str, kind: &str, content: Value) -> String {
        let txn = self.txn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.put(&format!("rooms/{room}/send/{kind}/t{txn}"), content).await["event_id"].as_str().unwrap().to_owned()
    }

    async fn say(&self, room: &str, text: &str) -> String {
        self.send(room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    async fn set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> String {
        self.put(&format!("rooms/{room}/state/{kind}/{key}"), content).await["event_id"].as_str().unwrap().to_owned()
    }

    async fn sliding(&self, query: &str, body: Value) -> (StatusCode, Value) {
        let path = format!("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?{query}");
        self.call(Method::POST, &path, Some(body)).await
    }

    /// A sliding sync that succeeds, from a position or anew.
    async fn slide(&self, pos: Option<&Value>, body: Value) -> Value {
        let query = pos.map_or_else(String::new, |pos| format!("pos={}", pos.as_str().unwrap()));
        let (status, answer) = self.sliding(&query, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

/// The bodies of a timeline's messages.
fn bodies(timeline: &Value) -> Vec<&str> {
    timeline.as_array().into_iter().flatten().filter_map(|event| event["content"]["body"].as_str()).collect()
}
