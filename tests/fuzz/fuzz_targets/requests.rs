//! Requests of sliding sync, in both forms.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use homeroom::homeserver::sync::sliding::{Context, unstable, v4};

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    br#"{"conn_id":"c","txn_id":"t","lists":{"a":{"ranges":[[0,10]],"timeline_limit":3,"required_state":[["m.room.member","$LAZY"],["*","*"]],"filters":{"is_dm":false,"spaces":["!r:home.test"],"room_types":[null,"m.space"],"tags":["m.favourite"]}}}}"#,
    br#"{"room_subscriptions":{"!r:home.test":{"timeline_limit":1,"required_state":[["m.room.create",""]]}},"extensions":{"to_device":{"enabled":true,"since":"1","limit":5},"e2ee":{"enabled":true},"account_data":{"enabled":true,"lists":["a"],"rooms":["*"]},"receipts":{"enabled":true},"typing":{"enabled":true}}}"#,
    br#"{"lists":{"a":{"range":[0,99],"timeline_limit":1,"required_state":{"include":[{"type":"m.room.name","state_key":""}],"lazy_members":true}}}}"#,
];

fn run(data: &[u8]) {
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(data) else { return };
    let query = vec![("pos".to_owned(), "s1_x.1".to_owned()), ("timeout".to_owned(), "0".to_owned())];
    let context = Context { user_id: ruma::owned_user_id!("@ann:home.test"), query };
    let _ = unstable::read(body.clone(), &context);
    let _ = v4::read(body, &context);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
