//! Finding each other, TLS, keys, signed requests.

use homeroom::homeserver::federation::{
    connect::ConnectError,
    request::{Limits, RequestError},
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
    let (a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
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
