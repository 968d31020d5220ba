#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;

use axum::{Json, body::Body};
use http::{Method, Request};
use ruma::{
    CanonicalJsonObject, server_name,
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::homeserver::{
    api::{
        call::{RawCall, Routes},
        testing::TestNode,
    },
    federation::key_ring::answer::tests::{answer, pair},
};

/// A node that knows the key of `a.example`, and an endpoint that says who asked.
struct Receiver {
    test: TestNode,
    router: axum::Router,
    pair: Ed25519KeyPair,
}

/// A request as `a.example` signs it, and what is changed on its way.
struct Sent {
    method: Method,
    path: &'static str,
    body: &'static str,
    destination: &'static str,
    header: fn(&str, &str) -> String,
}

const GOOD: Sent =
    Sent { method: Method::PUT, path: "/_test/a%2Fb?x=1&y=%20", body: r#"{"b":2,"a":"é"}"#, destination: "home.test", header: usual };

fn usual(key: &str, sig: &str) -> String {
    format!(r#"X-Matrix origin="a.example",destination="home.test",key="{key}",sig="{sig}""#)
}

impl Receiver {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut crate::homeserver::Config)) -> Self {
        let enabled = |config: &mut crate::homeserver::Config| {
            config.federation.enabled = true;
            change(config);
        };
        let test = TestNode::with(enabled).await;
        let pair = pair("1");
        let keys = answer("a.example", &pair, test.clock_ms() + 60_000);
        test.node.federation.keys.learn(server_name!("a.example"), keys).await.unwrap();
        let who = |_: Arc<Node>, call: RawCall<Origin>| async move { Ok(Json(json!({ "origin": call.who.0 }))) };
        let routes = Routes::new(Arc::clone(&test.node));
        let routes = routes.add_raw_at::<ServerSignatures, _, _, _>(&Method::PUT, &["/_test/{x}"], who);
        let routes = routes.add_raw_at::<ServerSignatures, _, _, _>(&Method::GET, &["/_test/{x}"], who);
        Self { test, router: routes.into_router(), pair }
    }

    fn sign(&self, sent: &Sent) -> String {
        let mut object =
            json!({ "method": sent.method.as_str(), "uri": sent.path, "origin": "a.example", "destination": sent.destination });
        if let (false, Some(fields)) = (sent.body.is_empty(), object.as_object_mut()) {
            fields.insert("content".into(), serde_json::from_str(sent.body).unwrap());
        }
        let object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        let (_, signature) = self.pair.sign(serde_json::to_string(&object).unwrap().as_bytes()).into_parts();
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        (sent.header)("ed25519:1", &STANDARD_NO_PAD.encode(signature))
    }

    async fn deliver(&self, method: Method, path: &str, body: &str, header: &str) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !header.is_empty() {
            request = request.header("Authorization", header);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// The status that the node's own endpoints answer.
    async fn served(&self, sent: Sent) -> u16 {
        let request = Request::builder().method(sent.method.clone()).uri(sent.path).header("Authorization", self.sign(&sent));
        self.test.send(request.body(Body::from(sent.body)).unwrap()).await.status().as_u16()
    }

    async fn outcome(&self, sent: Sent) -> u16 {
        let header = self.sign(&sent);
        self.deliver(sent.method, sent.path, sent.body, &header).await.0
    }
}

#[tokio::test]
async fn a_signed_request_has_an_origin() {
    let receiver = Receiver::new().await;
    let (status, body) = receiver.deliver(GOOD.method, GOOD.path, GOOD.body, &receiver.sign(&GOOD)).await;
    assert_eq!((status, body), (200, json!({ "origin": "a.example" })));
    assert_eq!(receiver.outcome(Sent { method: Method::GET, body: "", ..GOOD }).await, 200, "without a body");
}

#[tokio::test]
async fn the_header_may_be_written_in_many_ways() {
    let receiver = Receiver::new().await;
    let ways: [fn(&str, &str) -> String; 5] = [
        |key, sig| format!("X-Matrix origin=a.example,destination=home.test,key={key},sig={sig}"),
        |key, sig| format!(r#"x-matrix SIG="{sig}" , Key="{key}",  Destination="home.test",origin="a.example""#),
        |key, sig| format!(r#"X-Matrix origin="a.example",key="{key}",sig="{sig}""#),
        |key, sig| format!(r#"X-Matrix origin="a.example",key="{key}",sig="{sig}=",destination="home.test""#),
        |key, sig| format!(r#"X-Matrix origin="a.example",destination="home.test",extra="x",key="{key}",sig="{sig}""#),
    ];
    for (number, header) in ways.into_iter().enumerate() {
        assert_eq!(receiver.outcome(Sent { header, ..GOOD }).await, 200, "way {number}");
    }
}

#[tokio::test]
async fn whatever_was_changed_on_the_way_is_refused() {
    let receiver = Receiver::new().await;
    let header = receiver.sign(&GOOD);
    for (method, path, body) in [
        (Method::GET, GOOD.path, GOOD.body),
        (Method::PUT, "/_test/a%2Fb?x=2&y=%20", GOOD.body),
        (Method::PUT, "/_test/a%2Fb", GOOD.body),
        (Method::PUT, "/_test/c?x=1&y=%20", GOOD.body),
        (Method::PUT, GOOD.path, r#"{"a":"e","b":2}"#),
        (Method::PUT, GOOD.path, "{}"),
        (Method::PUT, GOOD.path, ""),
    ] {
        let (status, answer) = receiver.deliver(method.clone(), path, body, &header).await;
        assert_eq!(status, 401, "{method} {path} {body}: {answer}");
    }
    // The order of an object's fields is not signed.
    assert_eq!(receiver.deliver(Method::PUT, GOOD.path, r#"{"a":"é","b":2}"#, &header).await.0, 200);
    assert_eq!(receiver.deliver(Method::PUT, GOOD.path, "no json", &header).await.0, 400);
}

#[tokio::test]
async fn a_number_that_canonical_json_does_not_have_leaves_the_signature_good() {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let receiver = Receiver::new().await;
    let body = "{ \"pdus\": [{\"b\": 1.50e1, \"a\": \"\\u00e9\"}, {}], \"edus\": [] }";
    let signed = r#"{"content":{"edus":[],"pdus":[{"a":"é","b":1.50e1},{}]},"destination":"home.test","method":"PUT","origin":"a.example","uri":"/_test/x"}"#;
    let (_, signature) = receiver.pair.sign(signed.as_bytes()).into_parts();
    let header = usual("ed25519:1", &STANDARD_NO_PAD.encode(signature));
    assert_eq!(receiver.deliver(Method::PUT, "/_test/x", body, &header).await.0, 200);
    assert_eq!(receiver.deliver(Method::PUT, "/_test/x", &body.replace("1.50e1", "15.0"), &header).await.0, 401, "another text");
    let deep = format!("{}1.5{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(receiver.deliver(Method::PUT, "/_test/x", &deep, &header).await.0, 400);
}

#[tokio::test]
async fn a_request_for_another_server_is_refused() {
    let receiver = Receiver::new().await;
    let header = |key: &str, sig: &str| format!(r#"X-Matrix origin="a.example",destination="other.test",key="{key}",sig="{sig}""#);
    assert_eq!(receiver.outcome(Sent { destination: "other.test", header, ..GOOD }).await, 401);
    // Nor does it help to leave out or to change whom it was for.
    let header = |key: &str, sig: &str| format!(r#"X-Matrix origin="a.example",key="{key}",sig="{sig}""#);
    assert_eq!(receiver.outcome(Sent { destination: "other.test", header, ..GOOD }).await, 401);
    assert_eq!(receiver.outcome(Sent { destination: "other.test", ..GOOD }).await, 401);
}

#[tokio::test]
async fn headers_that_prove_nothing_are_refused() {
    let receiver = Receiver::new().await;
    let long = format!(r#"X-Matrix origin="{}.example",key="ed25519:1",sig="AAAA""#, "a".repeat(3000));
    for header in [
        "",
        "Bearer token",
        "X-Matrix",
        "X-Matrix ",
        "X-Matrix origin=a.example",
        "X-Matrix origin=a.example,key=ed25519:1",
        "X-Matrix origin=a.example,key=ed25519:1,sig=",
        "X-Matrix origin=a.example,key=ed25519:1,sig=%%",
        "X-Matrix origin=a.example,key=ed25519:1,sig=AAAA",
        "X-Matrix origin=a.example,key=ed25519:unknown,sig=AAAA",
        "X-Matrix origin=a.example,origin=b.example,key=ed25519:1,sig=AAAA",
        "X-Matrix origin=\"a b\",key=ed25519:1,sig=AAAA",
        "X-Matrix origin=127.1,key=ed25519:1,sig=AAAA",
        // This server does not ask itself.
        "X-Matrix origin=home.test,destination=home.test,key=ed25519:1,sig=AAAA",
        &long,
    ] {
        let (status, body) = receiver.deliver(GOOD.method, GOOD.path, GOOD.body, header).await;
        assert_eq!((status, body.get("errcode").and_then(Value::as_str)), (401, Some("M_UNAUTHORIZED")), "{header}");
    }
}

#[tokio::test]
async fn another_servers_key_and_a_key_that_has_run_out_sign_nothing() {
    let mut receiver = Receiver::new().await;
    let good = std::mem::replace(&mut receiver.pair, pair("1"));
    assert_eq!(receiver.outcome(GOOD).await, 401, "the right ID, another key");
    receiver.pair = good;
    assert_eq!(receiver.outcome(GOOD).await, 200);
    receiver.test.clock.advance(60_001);
    // The server would be asked again now, and cannot be: `.example` exists nowhere.
    assert_eq!(receiver.outcome(GOOD).await, 401);
}

#[tokio::test]
async fn one_server_can_ask_so_much_and_strangers_cannot_spend_its_allowance() {
    let receiver = Receiver::new().await;
    let header = receiver.sign(&GOOD);
    let forged = header.replace("sig=\"", "sig=\"A");
    for _ in 0..600 {
        assert_eq!(receiver.deliver(GOOD.method, GOOD.path, GOOD.body, &forged).await.0, 401);
    }
    let mut statuses = Vec::new();
    for _ in 0..510 {
        statuses.push(receiver.deliver(GOOD.method, GOOD.path, GOOD.body, &header).await.0);
    }
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!((500..510).contains(&answered), "{answered}");
    assert_eq!(statuses.last(), Some(&429));
    receiver.test.clock.advance(1000);
    assert_eq!(receiver.deliver(GOOD.method, GOOD.path, GOOD.body, &header).await.0, 200);
}

/// A bridge that has none of the users and aliases that it is asked for; what it is asked for.
async fn bridge() -> (wiremock::MockServer, tokio::sync::mpsc::Receiver<String>) {
    let server = wiremock::MockServer::start().await;
    let (sender, asked) = tokio::sync::mpsc::channel(16);
    let answer = move |request: &wiremock::Request| {
        let _ = sender.try_send(request.url.path().to_owned());
        wiremock::ResponseTemplate::new(404).set_body_json(json!({ "errcode": "COM.EXAMPLE_NOT_FOUND" }))
    };
    wiremock::Mock::given(wiremock::matchers::any()).respond_with(answer).mount(&server).await;
    (server, asked)
}

#[tokio::test]
async fn a_bridge_is_asked_for_users_and_aliases_that_another_server_asks_for() {
    let (server, mut asked) = bridge().await;
    let yaml = format!(
        "{{id: bridge, url: '{}', as_token: a, hs_token: h, sender_localpart: _b_bot,
          namespaces: {{users: [{{exclusive: true, regex: '@_b_.*'}}], aliases: [{{exclusive: true, regex: '#_b_.*'}}], rooms: []}}}}",
        server.uri()
    );
    let service = crate::homeserver::appservice::Registration::read(&yaml).unwrap();
    let receiver = Receiver::with(|config| config.appservices = vec![service]).await;
    let ask = async |path: &'static str| receiver.served(Sent { method: Method::GET, path, body: "", ..GOOD }).await;
    let profile = ask("/_matrix/federation/v1/query/profile?user_id=%40_b_ghost%3Ahome.test").await;
    assert_eq!(profile, 404);
    assert_eq!(asked.try_recv().unwrap(), "/_matrix/app/v1/users/@_b_ghost:home.test");
    let alias = ask("/_matrix/federation/v1/query/directory?room_alias=%23_b_room%3Ahome.test").await;
    assert_eq!(alias, 404);
    assert_eq!(asked.try_recv().unwrap(), "/_matrix/app/v1/rooms/%23_b_room:home.test");
    // What exists, and what is nobody's, it is not asked for.
    assert_eq!(ask("/_matrix/federation/v1/query/profile?user_id=%40_b_bot%3Ahome.test").await, 200);
    assert_eq!(ask("/_matrix/federation/v1/query/profile?user_id=%40plain%3Ahome.test").await, 404);
    assert_eq!(ask("/_matrix/federation/v1/query/directory?room_alias=%23_b_room%3Aelsewhere.test").await, 404);
    assert!(asked.try_recv().is_err());
}
