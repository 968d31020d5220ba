//! What a client is told is what happened: everything, once, in order, whatever else goes on, and after a restart too.

mod counts;
mod delivery;

use serde_json::{Value, json};

use crate::support::{
    Http, Person,
    http::{Address, encoded},
};

/// A device's session at a node that has got another address.
fn moved(person: &Person, address: Address) -> Person {
    let mut http = Http::new(address);
    http.token.clone_from(&person.http.token);
    Person { http, user_id: person.user_id.clone(), device_id: person.device_id.clone(), password: person.password.clone() }
}

/// `/v3/sync` with timelines long enough for anything in here; per-thread counts when asked for.
fn sync(http: &mut Http, since: Option<&str>, timeout_ms: u64, threads: bool) -> Value {
    let filter = json!({ "room": { "timeline": { "limit": 1000, "unread_thread_notifications": threads } } });
    let since = since.map_or_else(String::new, |since| format!("&since={}", encoded(since)));
    http.get(&format!("/_matrix/client/v3/sync?timeout={timeout_ms}&filter={}{since}", encoded(&filter.to_string()))).ok()
}

/// Sliding sync over all rooms with long timelines and the to-device extension.
fn slide(http: &mut Http, pos: Option<&str>, to_device: Option<&str>, timeout_ms: u64) -> crate::support::http::Answer {
    let pos = pos.map_or_else(String::new, |pos| format!("&pos={}", encoded(pos)));
    let mut extension = json!({ "enabled": true });
    if let Some(since) = to_device {
        extension["since"] = json!(since);
    }
    let body = json!({
        "lists": { "all": { "ranges": [[0, 99]], "timeline_limit": 500, "required_state": [] } },
        "extensions": { "to_device": extension },
    });
    http.post(&format!("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout={timeout_ms}{pos}"), &body)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}")).to_owned()
}

/// IDs of the messages in a list of events.
fn messages(events: &Value) -> Vec<String> {
    events
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["type"] == "m.room.message")
        .map(|event| text(&event["event_id"]))
        .collect()
}
