//! From stored events to what clients are given (Client-Server API, "Room event format" and "Stripped state").

use std::{borrow::Cow, collections::BTreeMap};

use ruma::{EventId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// What the server adds to an event for one viewer.
#[derive(Debug, Default, Serialize)]
pub struct Unsigned {
    /// Milliseconds since it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<i64>,
    /// The viewer's membership when it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<String>,
    /// The transaction ID, for the device that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// What the state was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_content: Option<Box<RawValue>>,
    /// Who had set the state before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_sender: Option<String>,
    /// The event that the state was set by before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces_state: Option<String>,
    /// The redaction that took effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_because: Option<Box<RawValue>>,
    /// Bundled aggregations.
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    pub relations: Option<Relations>,
}

/// Bundled aggregations of an event's relations.
#[derive(Debug, Default, Serialize)]
pub struct Relations {
    /// The newest edit.
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    pub replace: Option<Box<RawValue>>,
    /// The thread that the event is the root of.
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
    /// The events that refer to it.
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    pub references: Option<References>,
}

impl Relations {
    /// Nothing relates to the event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replace.is_none() && self.thread.is_none() && self.references.is_none()
    }
}

/// A thread in short.
#[derive(Debug, Serialize)]
pub struct Thread {
    /// Its newest event.
    pub latest_event: Box<RawValue>,
    /// How many events it has besides the root.
    pub count: u64,
    /// The viewer has written in it.
    pub current_user_participated: bool,
}

/// Events that refer to an event.
#[derive(Debug, Serialize)]
pub struct References {
    /// Their IDs.
    pub chunk: Vec<Reference>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Reference {
    /// Its ID.
    pub event_id: String,
}

/// The fields of a stored event that clients see.
#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    state_key: Option<Cow<'a, str>>,
    origin_server_ts: i64,
    #[serde(default)]
    redacts: Option<String>,
}

#[derive(Serialize)]
struct Client<'a> {
    content: Cow<'a, RawValue>,
    event_id: &'a EventId,
    origin_server_ts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    sender: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    unsigned: &'a Unsigned,
}

/// A client event. Without `room_id` it has the form that `/sync` gives events in.
///
/// # Errors
///
/// When the JSON is not an event.
pub fn client_event(event_id: &EventId, room_id: Option<&RoomId>, json: &str, unsigned: &Unsigned) -> serde_json::Result<Box<RawValue>> {
    let stored: Stored<'_> = serde_json::from_str(json)?;
    let mut content = Cow::Borrowed(stored.content);
    let mut redacts = stored.redacts;
    if stored.kind == "m.room.redaction" {
        // Clients of either age find it: at the top up to room version 10, in the content from 11 on.
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(stored.content.get())?;
        match (&redacts, object.get("redacts").and_then(serde_json::Value::as_str)) {
            (Some(id), None) => {
                object.insert("redacts".into(), id.clone().into());
                content = Cow::Owned(to_raw_value(&object)?);
            }
            (None, Some(id)) => redacts = Some(id.to_owned()),
            _ => {}
        }
    }
    to_raw_value(&Client {
        content,
        event_id,
        origin_server_ts: stored.origin_server_ts,
        redacts: redacts.filter(|_| stored.kind == "m.room.redaction"),
        room_id,
        sender: stored.sender,
        state_key: stored.state_key,
        kind: stored.kind,
        unsigned,
    })
}

/// An event as servers have it, with its ID and what this server adds (Client-Server API, `event_format` of filters).
///
/// # Errors
///
/// When the JSON is not an object.
pub fn federation_event(event_id: &EventId, json: &str, unsigned: &Unsigned) -> serde_json::Result<Box<RawValue>> {
    let mut event: BTreeMap<Cow<'_, str>, Box<RawValue>> = serde_json::from_str(json)?;
    event.insert("event_id".into(), to_raw_value(event_id)?);
    event.insert("unsigned".into(), to_raw_value(unsigned)?);
    to_raw_value(&event)
}

/// The content of a stored event.
///
/// # Errors
///
/// When the JSON is not an event.
pub fn content(json: &str) -> serde_json::Result<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        content: &'a RawValue,
    }
    serde_json::from_str::<Event<'_>>(json).map(|event| event.content.to_owned())
}

/// A state event in the form that those outside the room are given.
///
/// # Errors
///
/// When the JSON is not a state event.
pub fn stripped(json: &str) -> serde_json::Result<Box<RawValue>> {
    #[derive(Deserialize, Serialize)]
    struct Stripped<'a> {
        #[serde(borrow)]
        content: &'a RawValue,
        #[serde(borrow)]
        sender: Cow<'a, str>,
        #[serde(borrow)]
        state_key: Cow<'a, str>,
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    to_raw_value(&serde_json::from_str::<Stripped<'_>>(json)?)
}
