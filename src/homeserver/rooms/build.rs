//! Makes events: from a template to a hashed, signed and identified PDU.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, RoomId, UserId, room_version_rules::RoomVersionRules,
    signatures::reference_hash, state_res::check_pdu_format,
};

use crate::homeserver::types::Pdu;

/// An event may follow this many others at most (every room version's event format).
pub const MAX_PREV_EVENTS: usize = 20;
/// Largest event on the wire, in bytes of canonical JSON (Client-Server API, "Size limits").
pub const MAX_EVENT_BYTES: usize = 65_535;
/// Longest type, state key, sender and room ID, in bytes.
pub const MAX_FIELD_BYTES: usize = 255;
/// Largest depth that every JSON implementation carries.
const MAX_DEPTH: i64 = (1 << 53) - 1;

/// What an event says and where it goes.
#[derive(Debug)]
pub struct Template<'a> {
    /// The room; `None` for the create event of a room whose ID is that event's hash.
    pub room_id: Option<&'a RoomId>,
    /// The sender.
    pub sender: &'a UserId,
    /// The type.
    pub kind: &'a str,
    /// The state key of a state event.
    pub state_key: Option<&'a str>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// What an `m.room.redaction` redacts.
    pub redacts: Option<&'a EventId>,
    /// Milliseconds since the Unix epoch.
    pub origin_server_ts: u64,
    /// The events that it follows with the greatest of their depths.
    pub prev_events: Vec<OwnedEventId>,
    /// The greatest depth among `prev_events`; 0 when there are none.
    pub prev_depth: i64,
    /// The events that authorise it.
    pub auth_events: Vec<OwnedEventId>,
}

/// Why no event could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It or one of its fields is longer than allowed.
    #[error("the event is too large: {0}")]
    TooLarge(String),
    /// It breaks the room version's event format.
    #[error("the event is malformed: {0}")]
    Malformed(String),
}

/// Builds an event. `sign` adds the content hash and the signature.
///
/// # Errors
///
/// [`BuildError`].
pub fn build(
    template: Template<'_>,
    rules: &RoomVersionRules,
    sign: impl FnOnce(&mut CanonicalJsonObject) -> Result<(), String>,
) -> Result<(Pdu, String), BuildError> {
    for (name, value) in [
        ("type", Some(template.kind)),
        ("state_key", template.state_key),
        ("sender", Some(template.sender.as_str())),
        ("room_id", template.room_id.map(RoomId::as_str)),
    ] {
        if value.is_some_and(|value| value.len() > MAX_FIELD_BYTES) {
            return Err(BuildError::TooLarge(format!("`{name}` has more than {MAX_FIELD_BYTES} bytes")));
        }
    }
    let mut json = object(template, rules)?;
    sign(&mut json).map_err(|e| if e.contains("large") { BuildError::TooLarge(e) } else { BuildError::Malformed(e) })?;
    let text = canonical(&json)?;
    if text.len() > MAX_EVENT_BYTES {
        return Err(BuildError::TooLarge(format!("{} bytes, allowed are {MAX_EVENT_BYTES}", text.len())));
    }
    check_pdu_format(&json, &rules.event_format).map_err(BuildError::Malformed)?;
    let event_id = event_id(&json, rules)?;
    let pdu = Pdu::from_json(event_id, json, rules).map_err(|e| BuildError::Malformed(e.0))?;
    Ok((pdu, text))
}

/// Canonical JSON text of an event: what is stored and sent.
///
/// # Errors
///
/// [`BuildError::Malformed`] when it cannot be written as JSON.
pub fn canonical(json: &CanonicalJsonObject) -> Result<String, BuildError> {
    // The map is sorted by code point and holds integers only: plain serialisation is canonical.
    serde_json::to_string(json).map_err(|e| BuildError::Malformed(e.to_string()))
}

/// The event ID that an event's reference hash gives (room version 3 and later).
///
/// # Errors
///
/// [`BuildError::Malformed`] when it cannot be hashed.
pub fn event_id(json: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<OwnedEventId, BuildError> {
    let hash = reference_hash(json, rules).map_err(|e| BuildError::Malformed(e.to_string()))?;
    EventId::parse(format!("${hash}")).map_err(|e| BuildError::Malformed(e.to_string()))
}

/// The ID of the room that a create event of room version 12 or later makes: the event's ID with another sigil.
///
/// # Errors
///
/// [`BuildError::Malformed`] when the event ID is no reference hash.
pub fn room_id_of_create(event_id: &EventId) -> Result<OwnedRoomId, BuildError> {
    let hash = event_id.as_str().strip_prefix('$').unwrap_or_default();
    RoomId::parse(format!("!{hash}")).map_err(|e| BuildError::Malformed(e.to_string()))
}

/// The create event of a room whose ID is that event's hash (room version 12 and later).
#[must_use]
pub fn create_of_room_id(room_id: &RoomId) -> Option<OwnedEventId> {
    room_id.as_str().strip_prefix('!').and_then(|hash| EventId::parse(format!("${hash}")).ok())
}

fn object(template: Template<'_>, rules: &RoomVersionRules) -> Result<CanonicalJsonObject, BuildError> {
    let integer = |value: i64| -> Result<CanonicalJsonValue, BuildError> {
        ruma::Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| BuildError::Malformed("a number is too large".into()))
    };
    let ids = |ids: Vec<OwnedEventId>| CanonicalJsonValue::Array(ids.into_iter().map(|id| text(id.as_str())).collect());
    let timestamp = i64::try_from(template.origin_server_ts).map_err(|_| BuildError::Malformed("the timestamp is too large".into()))?;
    let mut content = template.content;
    let mut json = CanonicalJsonObject::new();
    if let Some(redacts) = template.redacts {
        let holder = if rules.redaction.content_field_redacts { &mut content } else { &mut json };
        holder.insert("redacts".into(), text(redacts.as_str()));
    }
    if let Some(room_id) = template.room_id {
        json.insert("room_id".into(), text(room_id.as_str()));
    }
    if let Some(state_key) = template.state_key {
        json.insert("state_key".into(), text(state_key));
    }
    json.insert("auth_events".into(), ids(template.auth_events));
    json.insert("content".into(), CanonicalJsonValue::Object(content));
    json.insert("depth".into(), integer(template.prev_depth.saturating_add(1).min(MAX_DEPTH))?);
    json.insert("origin_server_ts".into(), integer(timestamp)?);
    json.insert("prev_events".into(), ids(template.prev_events));
    json.insert("sender".into(), text(template.sender.as_str()));
    json.insert("type".into(), text(template.kind));
    Ok(json)
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use ruma::{
        RoomVersionId,
        events::StateEventType,
        room_id,
        serde::Base64,
        signatures::{Ed25519KeyPair, Verified, hash_and_sign_event, verify_event},
        user_id,
    };

    use super::*;
    use crate::homeserver::rooms::{
        auth::{self, Verdict},
        redact::prune,
        versions::SUPPORTED,
    };

    struct Signer(Ed25519KeyPair);

    impl Signer {
        fn new() -> Self {
            let der = Ed25519KeyPair::generate();
            Self(Ed25519KeyPair::from_der(&der, "t".into()).expect("a generated key can be read"))
        }

        fn build(&self, template: Template<'_>, rules: &RoomVersionRules) -> (Pdu, String) {
            build(template, rules, |json| hash_and_sign_event("home.test", &self.0, json, &rules.redaction).map_err(|e| e.to_string()))
                .expect("the event is well-formed")
        }

        fn verify(&self, json: &CanonicalJsonObject, rules: &RoomVersionRules) -> Option<Verified> {
            let keys = BTreeMap::from([("ed25519:t".to_owned(), Base64::new(self.0.public_key().to_vec()))]);
            verify_event(&BTreeMap::from([("home.test".to_owned(), keys)]), json, rules).ok()
        }
    }

    fn template<'a>(
        room_id: Option<&'a RoomId>,
        sender: &'a UserId,
        kind: &'a str,
        state_key: Option<&'a str>,
        content: &str,
    ) -> Template<'a> {
        let content = serde_json::from_str(content).expect("the test gives an object");
        Template {
            room_id,
            sender,
            kind,
            state_key,
            content,
            redacts: None,
            origin_server_ts: 1_790_000_000_000,
            prev_events: Vec::new(),
            prev_depth: 0,
            auth_events: Vec::new(),
        }
    }

    fn rules(version: &RoomVersionId) -> RoomVersionRules {
        version.rules().expect("the version is supported")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_built_verifies_and_keeps_its_id(text in ".{0,200}", number in -(1_i64 << 53) + 1..1 << 53, pick in 0..SUPPORTED.len()) {
            let signer = Signer::new();
            let version = SUPPORTED.get(pick).expect("in range");
            let rules = rules(version);
            let content = serde_json::json!({ "body": text, "number": number, "nested": { text.clone(): [true, null, number] } }).to_string();
            let room = room_id!("!room:home.test");
            let (pdu, json) = signer.build(template(Some(room), user_id!("@ann:home.test"), "m.room.message", None, &content), &rules);
            prop_assert_eq!(signer.verify(pdu.json(), &rules), Some(Verified::All));
            // As it comes out of the store or off the wire, it is the same event.
            let read: CanonicalJsonObject = serde_json::from_str(&json).expect("canonical JSON is JSON");
            prop_assert_eq!(&read, pdu.json());
            let id = event_id(&read, &rules).expect("it can be hashed");
            prop_assert_eq!(&*id, pdu.event_id());
            let pruned = prune(&read, &rules.redaction).expect("it can be redacted");
            let id = event_id(&pruned, &rules).expect("it can be hashed");
            prop_assert_eq!(&*id, pdu.event_id());
            prop_assert_eq!(signer.verify(&pruned, &rules), Some(Verified::Signatures));
            // One changed character is noticed.
            let mut changed = read;
            changed.insert("content".into(), CanonicalJsonValue::Object(CanonicalJsonObject::from([("body".into(), "other".to_owned().into())])));
            prop_assert_eq!(signer.verify(&changed, &rules), Some(Verified::Signatures));
            changed.insert("sender".into(), "@eve:home.test".to_owned().into());
            prop_assert_eq!(signer.verify(&changed, &rules), None);
        }
    }

    /// Create and join of a new room, as a state.
    fn new_room(signer: &Signer, version: &RoomVersionId) -> (ruma::OwnedRoomId, BTreeMap<(StateEventType, String), std::sync::Arc<Pdu>>) {
        let rules = rules(version);
        let (ann, fixed) = (user_id!("@ann:home.test"), room_id!("!room:home.test"));
        let named = rules.event_format.require_room_create_room_id.then_some(fixed);
        let content = format!(r#"{{"room_version":"{version}","creator":"@ann:home.test"}}"#);
        let (create, _) = signer.build(template(named, ann, "m.room.create", Some(""), &content), &rules);
        let room = named.map_or_else(|| room_id_of_create(create.event_id()).expect("a hash"), ToOwned::to_owned);
        let mut join = template(Some(&room), ann, "m.room.member", Some(ann.as_str()), r#"{"membership":"join"}"#);
        join.prev_events.push(create.event_id().to_owned());
        if rules.event_format.allow_room_create_in_auth_events {
            join.auth_events.push(create.event_id().to_owned());
        }
        let (join, _) = signer.build(join, &rules);
        let state = BTreeMap::from([
            ((StateEventType::RoomCreate, String::new()), create.into()),
            ((StateEventType::RoomMember, ann.to_string()), join.into()),
        ]);
        (room, state)
    }

    #[test]
    fn the_creator_is_let_in_and_an_outsider_is_not() {
        let signer = Signer::new();
        for version in &SUPPORTED {
            let rules = rules(version);
            let (room, state) = new_room(&signer, version);
            let judge = |sender: &UserId, kind: &str, state_key: Option<&str>, content: &str| {
                let map = serde_json::from_str(content).expect("an object");
                let selected = auth::selection(kind, sender, state_key, &map, &rules.authorization).expect("the content makes sense");
                let mut template = template(Some(&room), sender, kind, state_key, content);
                template.auth_events = selected.iter().filter_map(|pair| state.get(pair)).map(|pdu| pdu.event_id().to_owned()).collect();
                let (event, _) = signer.build(template, &rules);
                let by_id = |id: &EventId| state.values().find(|pdu| pdu.event_id() == id).cloned();
                let fetch = |kind: &StateEventType, key: &str| state.get(&(kind.clone(), key.to_owned())).cloned();
                match auth::check_references(&rules.authorization, &event, by_id) {
                    Verdict::Accepted => auth::check_state(&rules.authorization, &event, fetch),
                    rejected @ Verdict::Rejected(_) => rejected,
                }
            };
            let (ann, eve) = (user_id!("@ann:home.test"), user_id!("@eve:home.test"));
            assert_eq!(judge(ann, "m.room.message", None, r#"{"body":"hello"}"#), Verdict::Accepted, "{version}");
            assert_eq!(judge(ann, "m.room.topic", Some(""), r#"{"topic":"tea"}"#), Verdict::Accepted, "{version}");
            assert!(matches!(judge(eve, "m.room.message", None, "{}"), Verdict::Rejected(_)), "{version}");
            assert!(
                matches!(judge(eve, "m.room.member", Some(eve.as_str()), r#"{"membership":"join"}"#), Verdict::Rejected(_)),
                "{version}"
            );
            assert!(
                matches!(judge(ann, "m.room.member", Some(eve.as_str()), r#"{"membership":"join"}"#), Verdict::Rejected(_)),
                "{version}"
            );
        }
    }

    #[test]
    fn limits_are_kept() {
        let rules = rules(&RoomVersionId::V12);
        let attempt = |kind: &str, content: &str| {
            let room = room_id!("!room");
            build(template(Some(room), user_id!("@ann:home.test"), kind, None, content), &rules, |_| Ok(())).map(drop)
        };
        assert_eq!(attempt("m.room.message", "{}"), Ok(()));
        assert!(matches!(attempt(&"t".repeat(256), "{}"), Err(BuildError::TooLarge(_))));
        let long = format!(r#"{{"body":"{}"}}"#, "x".repeat(65_400));
        assert!(matches!(attempt("m.room.message", &long), Err(BuildError::TooLarge(_))));
    }
}
