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
