//! Finding each other, TLS, keys, signed requests.

use std::sync::Arc;

use homeroom::{
    base::{Clock as _, ManualClock, SystemClock},
    homeserver::federation::{
        connect::ConnectError,
        request::{Limits, RequestError},
    },
};
use ruma::api::federation::discovery::{get_server_keys::v2 as get_server_keys, get_server_version::v1 as get_server_version};

use crate::support::{
    eventually,
    federation::{Authority, FedNode},
};

#[test]
fn one_node_asks_another_for_its_version_and_keys() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let client = &a.node().federation.client;
    let version = a.wait(client.request(b.name(), get_server_version::Request::new())).unwrap();
    assert_eq!(version.server.unwrap().name.as_deref(), Some("homeroom"));
    let keys = a.wait(client.request(b.name(), get_server_keys::Request::new())).unwrap();
    let keys = keys.server_key.deserialize().unwrap();
    assert_eq!(keys.server_name, b.name());
    let key_id = b.node().key.id();
    let key = &keys.verify_keys[&ruma::OwnedServerSigningKeyId::try_from(key_id.as_str()).unwrap()];
    assert_eq!(key.key.as_bytes(), b.node().key.public_key());
}

#[test]
fn the_certificate_has_to_be_for_the_name() {
    let authority = Authority::new();
    // Its clock stands still: however long the first attempt takes, the pause after it is not over.
    let clock = Arc::new(ManualClock::at(SystemClock.now_ms()));
    let (a, mut b) = (FedNode::start_with(&authority, clock, |_| {}), FedNode::start(&authority));
    b.stop();
    authority.issue(&format!("node{}", b.tls().port()), &["example.org"]);
    b.start_again();
    let asked = a.wait(a.node().federation.client.request(b.name(), get_server_version::Request::new()));
    assert!(matches!(asked, Err(RequestError::Connect(ConnectError::Tls { .. }))), "{asked:?}");
    // It is left alone for a while after that.
    let asked = a.wait(a.node().federation.client.request(b.name(), get_server_version::Request::new()));
    assert!(matches!(asked, Err(RequestError::BackingOff { .. })), "{asked:?}");
}

#[test]
fn an_authority_that_nobody_named_is_not_trusted() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let (a, b) = (FedNode::start(&trusted), FedNode::start(&other));
    let asked = a.wait(a.node().federation.client.request(b.name(), get_server_version::Request::new()));
    assert!(matches!(asked, Err(RequestError::Connect(ConnectError::Tls { .. }))), "{asked:?}");
}

#[test]
fn private_addresses_are_for_those_who_allow_them() {
    let authority = Authority::new();
    let b = FedNode::start(&authority);
    let a = FedNode::start_with(&authority, std::sync::Arc::new(homeroom::base::SystemClock), |config| {
        config.federation.allow_private_networks = false;
    });
    let asked = a.wait(a.node().federation.client.request(b.name(), get_server_version::Request::new()));
    assert!(matches!(asked, Err(RequestError::Connect(ConnectError::Private(_)))), "{asked:?}");
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    let authority = Authority::new();
    let (a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let client = &a.node().federation.client;
    let limits = Limits::ORDINARY.insisting();
    let ask = || a.wait(client.request_within(b.name(), get_server_version::Request::new(), limits));
    ask().unwrap();
    let name = b.name().to_owned();
    b.stop();
    let gone = a.wait(client.request_within(&name, get_server_version::Request::new(), limits));
    assert!(gone.unwrap_err().is_outage());
    b.start_again();
    eventually("the server's answer", || a.wait(client.request_within(&name, get_server_version::Request::new(), limits)).ok());
    assert_eq!(a.node().federation.health.of(&name).failures, 0);
}

#[test]
fn one_node_vouches_for_the_keys_of_another() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let path = format!("/_matrix/key/v2/query/{}", crate::support::http::encoded(b.name().as_str()));
    let told = a.http().get(&path).ok();
    let signatures = &told["server_keys"][0]["signatures"];
    assert!(signatures[b.name().as_str()][b.node().key.id()].is_string(), "{told}");
    assert!(signatures[a.name().as_str()][a.node().key.id()].is_string(), "{told}");
    let body = serde_json::json!({ "server_keys": { b.name().as_str(): {}, a.name().as_str(): {}, "127.1": {}, "localhost:1": {} } });
    let told = a.http().post("/_matrix/key/v2/query", &body).ok();
    assert_eq!(told["server_keys"].as_array().unwrap().len(), 2, "{told}");
    let many: serde_json::Map<_, _> = (0..101).map(|n| (format!("s{n}.example"), serde_json::json!({}))).collect();
    assert_eq!(a.http().post("/_matrix/key/v2/query", &serde_json::json!({ "server_keys": many })).status, 400);
}

#[test]
fn a_new_signing_key_is_published_with_the_old_one_and_outlives_a_restart() {
    let authority = Authority::new();
    let mut a = FedNode::start(&authority);
    let old = a.node().key.id();
    let new = a.wait(a.node().federation.keys.rotate()).unwrap();
    a.stop();
    a.start_again();
    let told = a.http().get("/_matrix/key/v2/server").ok();
    assert_eq!(a.node().key.id(), new);
    assert!(told["verify_keys"][&new]["key"].is_string() && told["verify_keys"][&old].is_null(), "{told}");
    assert!(told["old_verify_keys"][&old]["expired_ts"].as_u64().is_some(), "{told}");
}

#[test]
fn the_place_of_the_server_is_told_where_the_owner_says_it() {
    let authority = Authority::new();
    let plain = FedNode::start(&authority);
    assert_eq!(plain.http().get("/.well-known/matrix/server").status, 404);
    let delegating = FedNode::start_with(&authority, std::sync::Arc::new(homeroom::base::SystemClock), |config| {
        config.federation.delegate = Some("matrix.example.org:443".to_owned());
    });
    let told = delegating.http().get("/.well-known/matrix/server").ok();
    assert_eq!(told, serde_json::json!({ "m.server": "matrix.example.org:443" }));
}
