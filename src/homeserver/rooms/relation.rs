//! `m.relates_to`: which event an event relates to, and how.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId};

use super::build::MAX_FIELD_BYTES;

/// A relation to another event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The other event.
    pub parent: OwnedEventId,
    /// `m.replace`, `m.annotation`, `m.thread`, `m.reference` or another.
    pub rel_type: String,
    /// The key of an annotation.
    pub key: Option<String>,
}

/// Reads the relation in an event's content. What is malformed is no relation.
#[must_use]
pub fn of(content: &CanonicalJsonObject) -> Option<Relation> {
    let Some(CanonicalJsonValue::Object(relates)) = content.get("m.relates_to") else { return None };
    let field = |name: &str| match relates.get(name) {
        Some(CanonicalJsonValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    let parent = field("event_id").filter(|id| id.len() <= MAX_FIELD_BYTES)?;
    let rel_type = field("rel_type").filter(|name| name.len() <= MAX_FIELD_BYTES)?;
    let key = field("key").filter(|_| rel_type == "m.annotation");
    Some(Relation { parent: EventId::parse(parent).ok()?, rel_type: rel_type.to_owned(), key: key.map(ToOwned::to_owned) })
}
