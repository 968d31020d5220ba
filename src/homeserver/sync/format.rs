//! Events as clients see them (Client-Server API, "Room event format").

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{Raw, raw, viewer::Viewer};
use crate::homeserver::{
    store::{
        Reader, Result, StoreError,
        events::{self, StoredEvent},
        state,
    },
    types::EventNid,
};

/// The fields of a PDU that clients get.
#[derive(Debug, Deserialize)]
struct Pdu<'a> {
    #[serde(borrow)]
    content: Cow<'a, RawValue>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow, default)]
    state_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    redacts: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct ClientEvent<'a> {
    content: &'a RawValue,
    event_id: &'a str,
    origin_server_ts: i64,
    sender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    unsigned: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    sender: &'a str,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
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

/// An event of a timeline or of the state, for one viewer, who had this membership when it was sent.
pub(super) fn event(db: &Reader<'_>, event: &StoredEvent, viewer: &Viewer, membership: Option<&str>) -> Result<Raw> {
    let pdu = parse(event)?;
    let mut unsigned = Map::new();
    let age = i64::try_from(viewer.now_ms).unwrap_or(i64::MAX).saturating_sub(event.origin_server_ts).max(0);
    unsigned.insert("age".into(), age.into());
    if let Some(membership) = membership {
        unsigned.insert("membership".into(), membership.into());
    }
    if let Some((txn, device)) = &event.txn
        && *device == viewer.device.as_str()
        && event.sender == viewer.user
    {
        unsigned.insert("transaction_id".into(), txn.as_str().into());
    }
    if let (Some(key), Some(pos)) = (event.state_key, event.pos)
        && let Some(replaced) = state::replaced_at(db, event.room, pos, key)?
    {
        note_replaced(db, replaced, &mut unsigned)?;
    }
    if let Some(by) = event.redacted_by {
        let redaction = events::by_nid(db, by)?;
        let because = to_json(&redaction, &parse(&redaction)?, Map::new())?;
        unsigned.insert("redacted_because".into(), serde_json::from_str(because.get()).map_err(|e| StoreError::Data(e.to_string()))?);
    }
    to_json(event, &pdu, unsigned)
}

/// Tells what a state event took the place of.
fn note_replaced(db: &Reader<'_>, replaced: EventNid, unsigned: &mut Map<String, Value>) -> Result<()> {
    let old = events::by_nid(db, replaced)?;
    let pdu = parse(&old)?;
    unsigned.insert("replaces_state".into(), old.event_id.as_str().into());
    unsigned.insert("prev_sender".into(), pdu.sender.as_ref().into());
    unsigned.insert("prev_content".into(), serde_json::from_str(pdu.content.get()).map_err(|e| StoreError::Data(e.to_string()))?);
    Ok(())
}

fn to_json(event: &StoredEvent, pdu: &Pdu<'_>, unsigned: Map<String, Value>) -> Result<Raw> {
    let mut content = Cow::Borrowed(pdu.content.as_ref());
    let mut redacts = pdu.redacts.as_deref().map(Cow::Borrowed);
    if event.kind == "m.room.redaction" {
        // Room versions differ in where it stands; clients find it in both places.
        let mut fields: Map<String, Value> =
            serde_json::from_str(pdu.content.get()).map_err(|e| StoreError::Data(format!("event {}: {e}", event.event_id)))?;
        match (&redacts, fields.get("redacts").and_then(Value::as_str)) {
            (None, Some(inside)) => redacts = Some(Cow::Owned(inside.to_owned())),
            (Some(outside), None) => {
                fields.insert("redacts".into(), outside.as_ref().into());
                content = Cow::Owned(raw(&fields)?);
            }
            _ => {}
        }
    }
    raw(&ClientEvent {
        content: &content,
        event_id: event.event_id.as_str(),
        origin_server_ts: event.origin_server_ts,
        sender: &pdu.sender,
        state_key: pdu.state_key.as_deref(),
        kind: &event.kind,
        redacts: redacts.as_deref(),
        unsigned,
    })
}

/// A state event with nothing but what a stranger to the room may see.
pub(super) fn stripped(event: &StoredEvent) -> Result<Raw> {
    let pdu = parse(event)?;
    let state_key = pdu.state_key.as_deref().unwrap_or_default();
    raw(&Stripped { content: &pdu.content, sender: &pdu.sender, state_key, kind: &event.kind })
}
