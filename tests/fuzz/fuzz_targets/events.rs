//! Events as clients send them and as clients are shown them.
#![no_main]

use homeroom::homeserver::{
    events::content_from_json,
    rooms::format::{self, Unsigned},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let event_id = ruma::event_id!("$event");
    let _ = content_from_json(text);
    let _ = format::content(text);
    let _ = format::stripped(text);
    let _ = format::client_event(event_id, None, text, &Unsigned::default());
});
