//! Single fields of stored events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::homeserver::{
    events::EventError,
    store::{Result, StoreError, events::StoredEvent},
};

/// The fields of a PDU that clients get.
#[derive(Debug, Deserialize)]
struct Pdu<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow, default)]
    state_key: Option<Cow<'a, str>>,
}

fn parse(event: &StoredEvent) -> Result<Pdu<'_>> {
    serde_json::from_str(&event.json).map_err(|e| StoreError::Data(format!("event {}: {e}", event.event_id)))
}

/// The sender of an event.
pub(super) fn sender(event: &StoredEvent) -> Result<String> {
    Ok(parse(event)?.sender.into_owned())
}

/// The state key of an event.
pub(super) fn state_key(event: &StoredEvent) -> Result<Option<String>> {
    Ok(parse(event)?.state_key.map(Cow::into_owned))
}

/// One string of an event's content.
pub(super) fn content_str(event: &StoredEvent, field: &str) -> Result<Option<String>> {
    let content: Map<String, Value> =
        serde_json::from_str(parse(event)?.content.get()).map_err(|e| StoreError::Data(format!("event {}: {e}", event.event_id)))?;
    Ok(content.get(field).and_then(Value::as_str).map(str::to_owned))
}

/// True when a field of an event's content is an array.
pub(super) fn content_has_array(event: &StoredEvent, field: &str) -> Result<bool> {
    let content: Map<String, Value> =
        serde_json::from_str(parse(event)?.content.get()).map_err(|e| StoreError::Data(format!("event {}: {e}", event.event_id)))?;
    Ok(content.get(field).is_some_and(Value::is_array))
}

/// Our own bug: what is stored was checked when it came.
pub(super) fn internal(error: EventError) -> StoreError {
    match error {
        EventError::Store(error) => error,
        other => StoreError::Data(other.to_string()),
    }
}
