//! Events: as clients send them, as clients are shown them, and as other servers send them, in every room version.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use homeroom::homeserver::{
    events::content_from_json,
    rooms::{
        acl::Acl,
        format::{self, Unsigned},
        relation, versions,
        wire::{self, Purpose},
    },
};
use ruma::RoomVersionId;

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    br#"{"auth_events":["$a"],"content":{"body":"x","msgtype":"m.text"},"depth":3,"hashes":{"sha256":"x"},"origin_server_ts":1,"prev_events":["$b"],"room_id":"!r:a.example","sender":"@a:a.example","signatures":{"a.example":{"ed25519:1":"x"}},"type":"m.room.message","unsigned":{"age":1}}"#,
    br#"{"auth_events":[["$a:a.example",{"sha256":"x"}]],"content":{"membership":"join"},"depth":3,"event_id":"$e:a.example","hashes":{"sha256":"x"},"origin_server_ts":1,"prev_events":[],"room_id":"!r:a.example","sender":"@a:a.example","signatures":{},"state_key":"@a:a.example","type":"m.room.member"}"#,
    br#"{"auth_events":[],"content":{"room_version":"12","additional_creators":["@b:b.example"]},"depth":1,"hashes":{"sha256":"x"},"origin_server_ts":1,"prev_events":[],"sender":"@a:a.example","signatures":{},"state_key":"","type":"m.room.create"}"#,
    br#"{"users":{"@a:a.example":100},"events":{"m.room.name":"50"},"ban":50,"notifications":{"room":50}}"#,
    br#"{"allow":["*"],"deny":["*.example","10.?.*"],"allow_ip_literals":false}"#,
    br#"{"m.relates_to":{"rel_type":"m.thread","event_id":"$e","is_falling_back":true,"m.in_reply_to":{"event_id":"$e"}}}"#,
];

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let event_id = ruma::event_id!("$event");
    let _ = format::content(text);
    let _ = format::stripped(text);
    let _ = format::client_event(event_id, None, text, &Unsigned::default());
    if let Ok(content) = content_from_json(text) {
        let _ = relation::of(&content);
    }
    let acl = Acl::new(text);
    let _ = acl.allows(ruma::server_name!("a.example"));
    let _ = wire::room_of(text);
    for version in ["1", "3", "6", "11", "12"] {
        let version = RoomVersionId::try_from(version).expect("a room version");
        let rules = versions::rules(&version).expect("the node has this version");
        for purpose in [Purpose::Live, Purpose::History] {
            let Ok(pdu) = wire::read(text, &rules, purpose) else { continue };
            let _ = wire::belongs(&pdu, ruma::room_id!("!r:a.example"), &rules);
            let redacted = wire::redacted(&pdu, &rules).expect("what is an event is one when it is redacted");
            assert_eq!(redacted.event_id(), pdu.event_id(), "redacting changes no ID");
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
