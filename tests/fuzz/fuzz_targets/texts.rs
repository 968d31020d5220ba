//! Tokens, address ranges, names, and files of the owner's: application services and providers of sign-ins.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use homeroom::homeserver::{
    appservice::Registration,
    outbound::Network,
    sync::SyncToken,
    types::Token,
    users::{local_user_id, new_user_id, sso::Provider},
};

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    b"s12_34.5",
    b"t7_9",
    b"192.168.1.0/24",
    b"fd00::/8",
    b"ann.lee=40x",
    b"@ann:home.test",
    b"{id: irc, url: 'http://127.0.0.1:1', as_token: a, hs_token: h, sender_localpart: bot, namespaces: {users: [{exclusive: true, regex: '@_irc_.*'}]}}",
    b"id: irc\nurl: null\nas_token: a\nhs_token: h\nsender_localpart: bot\nnamespaces:\n  users:\n  - regex: \"@_(a|b)+\"\n",
    b"id = \"work\"\nname = \"W\"\nissuer = \"https://id.example\"\nclient_id = \"us\"\nlocalpart = \"{preferred_username}\"\n",
];

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let server = ruma::server_name!("home.test");
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(token) = text.parse::<SyncToken>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    if let Ok(user_id) = new_user_id(text, server) {
        assert!(user_id.as_str().len() <= 255);
        assert_eq!(local_user_id(user_id.as_str(), server), Some(user_id));
    }
    if let Ok(service) = Registration::read(text) {
        let _ = service.has_user(ruma::user_id!("@_irc_ann:home.test"));
    }
    // A directory without files: a secret is none of what is tried here.
    if let Ok(provider) = Provider::read(text, std::path::Path::new("/nowhere")) {
        let claims = serde_json::json!({ "preferred_username": text, "sub": text });
        if let Some(localpart) = claims.as_object().and_then(|claims| provider.localpart(claims)) {
            assert!(new_user_id(&localpart, server).is_ok() || localpart.len() > 200);
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
