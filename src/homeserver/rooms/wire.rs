//! Events as other servers send them: from untrusted JSON to a [`Pdu`], or the reason why it is none.
//!
//! The first of the checks on receipt (Server-Server API, "Checks performed on receipt of a PDU"): format and size. Signatures
//! are checked later; until then nothing in here says who made the event.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, RoomId, room_version_rules::RoomVersionRules, state_res::check_pdu_format,
};

use super::{
    build::{self, MAX_PREV_EVENTS},
    redact::prune,
};
use crate::homeserver::types::Pdu;

/// JSON longer than this is not looked at: an event of the largest size with as much again around it (`unsigned`, whitespace).
pub const MAX_RAW_BYTES: usize = 2 * 65_536;
/// An event names this many events that authorise it at most.
const MAX_AUTH_EVENTS: usize = 10;

/// What an event is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It was sent to us just now.
    Live,
    /// It is part of a history or a state that others made: limits on the number of references came into the specification
    /// after some rooms had passed them.
    History,
}

/// Why JSON is not an event of its room version. Such JSON is dropped: nothing is known of who made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed event: {0}")]
pub struct Malformed(pub String);

/// Reads an event of a room version. The ID is worked out, never taken from the JSON.
///
/// # Errors
///
/// [`Malformed`].
pub fn read(raw: &str, rules: &RoomVersionRules, purpose: Purpose) -> Result<Pdu, Malformed> {
    if raw.len() > MAX_RAW_BYTES {
        return Err(Malformed(format!("{} bytes", raw.len())));
    }
    let mut json: CanonicalJsonObject = serde_json::from_str(raw).map_err(|e| Malformed(e.to_string()))?;
    json.remove("unsigned");
    check(&json, rules, purpose)?;
    let event_id = build::event_id(&json, rules).map_err(|e| Malformed(e.to_string()))?;
    Pdu::from_json(event_id, json, rules).map_err(|e| Malformed(e.0))
}

fn check(json: &CanonicalJsonObject, rules: &RoomVersionRules, purpose: Purpose) -> Result<(), Malformed> {
    let most = |field: &str, most: usize| json.get(field).and_then(CanonicalJsonValue::as_array).is_some_and(|items| items.len() > most);
    let long = most("prev_events", MAX_PREV_EVENTS) || most("auth_events", MAX_AUTH_EVENTS);
    if purpose == Purpose::Live || !long {
        return check_pdu_format(json, &rules.event_format).map_err(Malformed);
    }
    let mut shorter = json.clone();
    for (field, most) in [("prev_events", MAX_PREV_EVENTS), ("auth_events", MAX_AUTH_EVENTS)] {
        if let Some(CanonicalJsonValue::Array(items)) = shorter.get_mut(field) {
            items.truncate(most);
        }
    }
    check_pdu_format(&shorter, &rules.event_format).map_err(Malformed)
}

/// The redacted form, which takes the place of an event whose content hash does not fit. Its ID stays the same.
///
/// # Errors
///
/// [`Malformed`] when it cannot be redacted.
pub fn redacted(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, Malformed> {
    let json = prune(pdu.json(), &rules.redaction).map_err(Malformed)?;
    Pdu::from_json(pdu.event_id().to_owned(), json, rules).map_err(|e| Malformed(e.0))
}

/// True when the event says that it belongs to this room, or is the create event that the room is named after.
#[must_use]
pub fn belongs(pdu: &Pdu, room_id: &RoomId, rules: &RoomVersionRules) -> bool {
    match pdu.room_id() {
        Some(named) => named == room_id,
        None if rules.event_format.require_room_create_room_id => false,
        None => build::room_id_of_create(pdu.event_id()).is_ok_and(|named| named == room_id),
    }
}

/// The room that raw JSON says it belongs to, and its type: enough to find the room whose version tells how to read the rest.
/// `None` for JSON without a room ID, which only the create event of a room of version 12 or later may be.
#[must_use]
pub fn room_of(raw: &str) -> Option<ruma::OwnedRoomId> {
    #[derive(serde::Deserialize)]
    struct Outside<'a> {
        #[serde(borrow)]
        room_id: std::borrow::Cow<'a, str>,
    }
    let outside: Outside<'_> = serde_json::from_str(raw).ok()?;
    (outside.room_id.len() <= build::MAX_FIELD_BYTES).then(|| RoomId::parse(&*outside.room_id).ok()).flatten()
}

/// Event IDs in an order in which each comes after those among them that it names, by the given references. What a cycle holds
/// is left out: no event can name one that names it, so those are none.
#[must_use]
pub fn topological<P: AsRef<Pdu>>(
    events: &std::collections::HashMap<OwnedEventId, P>,
    references: fn(&Pdu) -> &[OwnedEventId],
) -> Vec<OwnedEventId> {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    let mut waits: HashMap<&OwnedEventId, usize> = HashMap::with_capacity(events.len());
    let mut followers: HashMap<&OwnedEventId, Vec<&OwnedEventId>> = HashMap::new();
    let mut ready: BTreeMap<(i64, &OwnedEventId), ()> = BTreeMap::new();
    let depth = |id: &OwnedEventId| events.get(id).map_or(0, |pdu| pdu.as_ref().depth());
    for (id, pdu) in events {
        let named: BTreeSet<&OwnedEventId> = references(pdu.as_ref()).iter().filter(|other| events.contains_key(*other)).collect();
        if named.is_empty() {
            ready.insert((depth(id), id), ());
        }
        waits.insert(id, named.len());
        for other in named {
            followers.entry(other).or_default().push(id);
        }
    }
    let mut order = Vec::with_capacity(events.len());
    while let Some(((_, id), ())) = ready.pop_first() {
        order.push(id.clone());
        for follower in followers.get(id).map(Vec::as_slice).unwrap_or_default() {
            if let Some(left) = waits.get_mut(follower) {
                *left -= 1;
                if *left == 0 {
                    ready.insert((depth(follower), follower), ());
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "JSON of the tests' own making")]

    use std::collections::HashMap;

    use ruma::{RoomVersionId, room_id};
    use serde_json::{Value, json};

    use super::*;

    fn rules(version: RoomVersionId) -> RoomVersionRules {
        version.rules().expect("the version is supported")
    }

    fn event(change: impl FnOnce(&mut Value)) -> String {
        let mut event = json!({
            "type": "m.room.message", "sender": "@ann:home.test", "room_id": "!room:home.test", "content": { "body": "hello" },
            "depth": 5, "origin_server_ts": 1_790_000_000_000_u64, "prev_events": ["$a"], "auth_events": ["$b"],
            "hashes": { "sha256": "x" }, "signatures": { "home.test": { "ed25519:1": "x" } }, "unsigned": { "age": 5 },
        });
        change(&mut event);
        event.to_string()
    }

    #[test]
    fn what_is_no_event_of_the_version_is_dropped() {
        let rules = rules(RoomVersionId::V10);
        assert!(read(&event(|_| ()), &rules, Purpose::Live).is_ok());
        type Change = fn(&mut Value);
        let wrong: [(&str, Change); 16] = [
            ("no type", |e| drop(e.as_object_mut().expect("an object").remove("type"))),
            ("a sender that is none", |e| e["sender"] = json!("ann")),
            ("a sender without server", |e| e["sender"] = json!("@ann")),
            ("no room", |e| drop(e.as_object_mut().expect("an object").remove("room_id"))),
            ("a long type", |e| e["type"] = json!("x".repeat(256))),
            ("a long state key", |e| e["state_key"] = json!("x".repeat(256))),
            ("a state key that is a number", |e| e["state_key"] = json!(1)),
            ("a float", |e| e["content"]["n"] = json!(1.5)),
            ("too large a number", |e| e["content"]["n"] = json!(9_007_199_254_740_992_u64)),
            ("content that is a list", |e| e["content"] = json!([])),
            ("negative depth", |e| e["depth"] = json!(-1)),
            ("depth of letters", |e| e["depth"] = json!("1")),
            ("21 previous events", |e| e["prev_events"] = json!(vec!["$a"; 21])),
            ("11 auth events", |e| e["auth_events"] = json!(vec!["$a"; 11])),
            ("events with hashes, as in version 1", |e| e["prev_events"] = json!([{ "$a": 1 }])),
            ("70 kB", |e| e["content"]["body"] = json!("x".repeat(70_000))),
        ];
        for (name, change) in wrong {
            assert!(read(&event(change), &rules, Purpose::Live).is_err(), "{name}");
        }
        for raw in ["", "[]", "null", "{", "\u{0}", "{\"a\":"] {
            assert!(read(raw, &rules, Purpose::Live).is_err());
        }
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read(&format!("{{\"content\":{deep}}}"), &rules, Purpose::Live).is_err());
    }

    #[test]
    fn history_may_have_more_references() {
        let rules = rules(RoomVersionId::V10);
        let long = event(|e| e["prev_events"] = json!((0..40).map(|n| format!("$p{n}")).collect::<Vec<_>>()));
        assert_eq!(read(&long, &rules, Purpose::History).expect("it is history").prev_events().len(), 40);
        assert!(read(&long, &rules, Purpose::Live).is_err());
    }

    #[test]
    fn an_event_belongs_to_the_room_that_it_names() {
        let rules = rules(RoomVersionId::V10);
        let pdu = read(&event(|_| ()), &rules, Purpose::Live).expect("an event");
        assert!(belongs(&pdu, room_id!("!room:home.test"), &rules));
        assert!(!belongs(&pdu, room_id!("!other:home.test"), &rules));
        assert_eq!(room_of(&event(|_| ())).as_deref(), Some(room_id!("!room:home.test")));
        assert_eq!(room_of(r#"{"room_id":5}"#), None);
    }

    #[test]
    fn events_are_ordered_by_what_they_name_and_cycles_are_left_out() {
        let rules = rules(RoomVersionId::V10);
        let of = |id: &str, named: &[&str]| {
            let json = serde_json::from_str(&event(|e| e["auth_events"] = json!(named))).expect("canonical");
            let id = ruma::EventId::parse(id).expect("an ID");
            (id.clone(), Pdu::from_json(id, json, &rules).expect("an event"))
        };
        let events: HashMap<_, _> =
            [of("$a", &[]), of("$b", &["$a"]), of("$c", &["$b", "$a"]), of("$x", &["$y"]), of("$y", &["$x"])].into_iter().collect();
        assert_eq!(topological(&events, Pdu::auth_events), ["$a", "$b", "$c"]);
    }
}
