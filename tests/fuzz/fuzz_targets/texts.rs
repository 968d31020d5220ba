//! Tokens, address ranges, names, and registration files of application services.
#![no_main]

use homeroom::homeserver::{
    appservice::Registration,
    outbound::Network,
    sync::SyncToken,
    types::Token,
    users::{local_user_id, new_user_id},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
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
});
