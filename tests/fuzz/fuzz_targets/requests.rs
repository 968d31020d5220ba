//! Requests of sliding sync, in both forms.
#![no_main]

use homeroom::homeserver::sync::sliding::{Context, unstable, v4};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(data) else { return };
    let query = vec![("pos".to_owned(), "s1_x.1".to_owned()), ("timeout".to_owned(), "0".to_owned())];
    let context = Context { user_id: ruma::owned_user_id!("@ann:home.test"), query };
    let _ = unstable::read(body.clone(), &context);
    let _ = v4::read(body, &context);
});
