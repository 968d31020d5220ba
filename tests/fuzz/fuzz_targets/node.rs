//! A whole node: bodies of every endpoint (filters, push rules, keys ...), and what other servers tell beside events.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use std::sync::{Arc, OnceLock};

use homeroom::{
    base::{Shutdown, SystemClock, SystemRandomness},
    homeserver::{
        Config, Homeserver, Listeners,
        api::{
            endpoints::{self, Endpoint, State},
            inside::Inside,
        },
        federation::edus,
    },
};
use serde_json::{Value, json, value::RawValue};

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    br#"!{"edu_type":"m.typing","content":{"room_id":"!r:remote.test","user_id":"@ben:remote.test","typing":true}}"#,
    br#"!{"edu_type":"m.presence","content":{"push":[{"user_id":"@ben:remote.test","presence":"online","last_active_ago":5}]}}"#,
    br#"!{"edu_type":"m.receipt","content":{"!r:remote.test":{"m.read":{"@ben:remote.test":{"event_ids":["$e"],"data":{"ts":1,"thread_id":"main"}}}}}}"#,
    br#"!{"edu_type":"m.device_list_update","content":{"user_id":"@ben:remote.test","device_id":"D","stream_id":5,"prev_id":[4],"keys":{}}}"#,
    br#"!{"edu_type":"m.direct_to_device","content":{"sender":"@ben:remote.test","type":"m.x","message_id":"1","messages":{"@ann:home.test":{"*":{}}}}}"#,
    br#"!{"edu_type":"m.signing_key_update","content":{"user_id":"@ben:remote.test","master_key":{"user_id":"@ben:remote.test","usage":["master"],"keys":{"ed25519:x":"x"}}}}"#,
    br#"0{"room":{"timeline":{"limit":5,"types":["m.*"],"senders":["@ann:home.test"],"lazy_load_members":true}},"event_fields":["type"]}"#,
    br#"1{"actions":["notify",{"set_tweak":"sound","value":"default"}],"conditions":[{"kind":"event_match","key":"content.body","pattern":"*x"}],"pattern":"x"}"#,
    br#"2{"device_keys":{"user_id":"@ann:home.test","device_id":"D","algorithms":[],"keys":{},"signatures":{}},"one_time_keys":{"signed_curve25519:A":{"key":"x"}}}"#,
    br#"3{"messages":{"@ann:home.test":{"*":{"x":1}}},"devices":["D"],"new_password":"x","search_term":"x","name":"x"}"#,
];

struct Fixture {
    runtime: tokio::runtime::Runtime,
    homeserver: Homeserver,
    inside: Inside,
    token: String,
    rows: Vec<Endpoint>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::new(ruma::server_name!("home.test").to_owned(), dir.path().to_owned());
        config.rate_limits = false;
        let listeners = Listeners { socket: None, tcp: Vec::new(), tls: None };
        let (homeserver, inside, token) = runtime.block_on(async {
            let started = Homeserver::start(config, listeners, Arc::new(SystemClock), Arc::new(SystemRandomness), Shutdown::new()).await;
            let homeserver = started.expect("the node starts");
            homeserver.create_account("ann", "correct horse battery", true).await.expect("the account is made");
            let inside = Inside::new(homeserver.node());
            let login = json!({ "type": "m.login.password", "user": "ann", "password": "correct horse battery" }).to_string();
            let request = http::Request::post("/_matrix/client/v3/login").body(login.into_bytes()).expect("a request");
            let answer = inside.request(request).await.expect("an answer");
            let answer: Value = serde_json::from_slice(answer.body()).expect("JSON");
            let token = answer["access_token"].as_str().expect("a token").to_owned();
            (homeserver, inside, token)
        });
        // Who signs out, or closes the account, is refused everything else from then on.
        let ends = |path: &str| path.contains("/logout") || path.ends_with("/deactivate") || path.contains("/admin/");
        let rows = endpoints::table().into_iter().filter(|row| row.state == State::Served && row.method != "GET" && !ends(row.path));
        Self { runtime, homeserver, inside, token, rows: rows.collect(), _dir: dir }
    }

    /// A request of the signed-in user.
    fn ask(&self, row: &Endpoint, body: &[u8]) {
        let mut path = row.path.to_owned();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            let value = match &path[from..=to] {
                "{userId}" => "@ann:home.test",
                "{roomId}" | "{roomIdOrAlias}" => "!r:home.test",
                "{kind}" => "override",
                _ => "x",
            };
            path.replace_range(from..=to, value);
        }
        let request = http::Request::builder().method(row.method.clone()).uri(path.replace('!', "%21"));
        let request = request.header("Authorization", format!("Bearer {}", self.token)).body(body.to_vec()).expect("a request");
        let answer = self.runtime.block_on(self.inside.request(request)).expect("an answer");
        assert!(!answer.status().is_server_error(), "{} {path}: {}", row.method, answer.status());
    }
}

static FIXTURE: OnceLock<Fixture> = OnceLock::new();

/// The first byte says where the rest goes.
fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let fixture = FIXTURE.get_or_init(Fixture::new);
    if *first != b'!' {
        // Each endpoint in its turn: what they read differs less than what they do.
        let place = rest.iter().fold(usize::from(*first), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        if let Some(row) = fixture.rows.get(place % fixture.rows.len().max(1)) {
            fixture.ask(row, rest);
        }
        return;
    }
    let Ok(edu) = serde_json::from_slice::<Box<RawValue>>(rest) else { return };
    let origin = ruma::server_name!("remote.test");
    let received = fixture.runtime.block_on(edus::receive(fixture.homeserver.node(), origin, &edu));
    received.expect("the store works");
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
