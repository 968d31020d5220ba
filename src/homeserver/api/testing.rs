//! A node for tests of endpoints: its router is driven without a socket, its clock stands still.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode, header};
use ruma::server_name;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    base::{ManualClock, Shutdown, SystemRandomness, Tasks},
    homeserver::{Config, Node, Registration, listen::Peer},
};

/// The password of every test user.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A node named `home.test` in a temporary directory.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) clock: ManualClock,
    pub(crate) dir: tempfile::TempDir,
    router: Router,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
}

impl TestNode {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut config = Config::new(server_name!("home.test").to_owned(), dir.path().to_owned());
        config.registration = Registration::Open;
        change(&mut config);
        let clock = ManualClock::at(1_790_000_000_000);
        let tasks = Tasks::new(Shutdown::new());
        let node = Node::open(config, Arc::new(clock.clone()), Arc::new(SystemRandomness), tasks).await.expect("the node opens");
        let node = Arc::new(node);
        Self { router: super::router(Arc::clone(&node)), node, clock, dir }
    }

    /// The same node on the same data, as after a restart. Its tasks have to have ended.
    pub(crate) async fn reopened(self) -> Self {
        let Self { node, clock, dir, router } = self;
        drop(router);
        node.store.close();
        let tasks = Tasks::new(Shutdown::new());
        let opened = Node::open(node.config.clone(), Arc::new(clock.clone()), Arc::new(SystemRandomness), tasks).await;
        let node = Arc::new(opened.expect("the node opens"));
        Self { router: super::router(Arc::clone(&node)), node, clock, dir }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("the router answers everything")
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path).extension(Peer(Some(SocketAddr::from(([127, 0, 0, 9], 5)))));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(request.body(body).expect("the request is well-formed")).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("the answer has a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Makes an account and signs in on a device of that ID.
    pub(crate) async fn client(&self, name: &str, device_id: &str) -> Client {
        if self.node.accounts.check_available(name).await.is_ok() {
            self.node.accounts.create(name, PASSWORD, false).await.expect("the account is made");
        }
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": PASSWORD,
            "device_id": device_id,
        });
        let (status, body) = self.call("POST", "/_matrix/client/v3/login", None, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Client { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
    }

    /// What the node's clock shows, in milliseconds since the Unix epoch.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.node.clock.now_ms()
    }

    /// A GET of somebody.
    pub(crate) async fn get(&self, who: &Client, path: &str) -> (StatusCode, Value) {
        self.call("GET", path, Some(&who.token), Value::Null).await
    }

    /// A POST of somebody.
    pub(crate) async fn post(&self, who: &Client, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("POST", path, Some(&who.token), body).await
    }

    /// A PUT of somebody.
    pub(crate) async fn put(&self, who: &Client, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("PUT", path, Some(&who.token), body).await
    }

    /// A DELETE of somebody.
    pub(crate) async fn delete(&self, who: &Client, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("DELETE", path, Some(&who.token), body).await
    }

    /// Puts people into a room, as far as the member list goes.
    pub(crate) async fn share_a_room(&self, people: &[&Client]) {
        let people = people.iter().map(|client| client.user_id.clone()).collect::<Vec<_>>();
        let shared = self.node.store.write(move |tx| crate::homeserver::store::device_lists::tests::share_a_room(tx, &people));
        shared.await.expect("the room is made");
    }
}

/// Rooms with members of other servers, for tests of what they may do.
impl TestNode {
    /// Makes a room of somebody's.
    pub(crate) async fn room(&self, who: &Client, body: Value) -> String {
        let (status, body) = self.post(who, "/_matrix/client/v3/createRoom", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body.get("room_id").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Gives somebody of another server a membership, as far as the member list goes.
    pub(crate) async fn set_member(&self, room_id: &str, person: &str, membership: &'static str) {
        let (room_id, person) = (room_id.to_owned(), person.to_owned());
        let set =
            self.node.store.write(move |tx| crate::homeserver::store::device_lists::tests::set_member(tx, &room_id, &person, membership));
        set.await.expect("the membership is set");
    }

    /// Gives an event another ID, as if that one had come.
    pub(crate) async fn rename_event(&self, from: &str, to: &str) {
        let (from, to) = (from.to_owned(), to.to_owned());
        let renamed = self.node.store.write(move |tx| crate::homeserver::store::device_lists::tests::rename_event(tx, &from, &to));
        renamed.await.expect("the event is renamed");
    }

    /// A sync from a token on; the token for the next one with the answer.
    pub(crate) async fn sync(&self, who: &Client, since: Option<&str>) -> (String, Value) {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let (status, body) = self.get(who, &format!("/_matrix/client/v3/sync?timeout=0{since}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        (body.get("next_batch").and_then(Value::as_str).unwrap_or_default().to_owned(), body)
    }

    /// Hands an EDU of another server over.
    pub(crate) async fn edu(&self, origin: &str, kind: &str, content: Value) {
        let origin = ruma::ServerName::parse(origin).expect("a server name");
        let edu = serde_json::value::to_raw_value(&json!({ "edu_type": kind, "content": content })).expect("JSON");
        crate::homeserver::federation::edus::receive(&self.node, &origin, &edu).await.expect("the store works");
    }
}

/// What went wrong, in short: status and errcode.
pub(crate) fn refused(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1.get("errcode").and_then(Value::as_str).unwrap_or_default())
}

/// The password stage of user-interactive authentication.
pub(crate) fn password_stage(session: &Value, user: &str, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": user }, "password": password, "session": session })
}
