//! Types that the node's parts share. No behaviour beyond conversions, no I/O.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    RoomVersionId, UserId, events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;

/// Integer id of a user in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserNid(pub i64);
/// Integer id of a room in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomNid(pub i64);
/// Integer id of an event in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventNid(pub i64);
/// Integer id of a (type, state key) pair in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKeyNid(pub i64);
/// Integer id of a state group in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateGroupId(pub i64);
/// A place in the node's one stream of changes. Events that came by backfill have negative positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamPos(pub i64);

/// Who makes a request, as the access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The user.
    pub user_id: OwnedUserId,
    /// The same, in the store.
    pub user: UserNid,
    /// The device that the token belongs to.
    pub device_id: ruma::OwnedDeviceId,
    /// May use admin endpoints.
    pub admin: bool,
    /// The ID of the application service that acts as the user, if one does. The device ID may be empty then.
    pub application: Option<std::sync::Arc<str>>,
}

/// A persistent data unit with its identity worked out. The JSON is what is hashed, signed and sent.
#[derive(Debug, Clone)]
pub struct Pdu {
    event_id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    kind: TimelineEventType,
    state_key: Option<String>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: i64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    content: Box<RawValue>,
    json: CanonicalJsonObject,
    rejected: bool,
}

/// Why JSON is not a PDU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid PDU: {0}")]
pub struct InvalidPdu(pub String);

fn text<'a>(json: &'a CanonicalJsonObject, field: &str) -> Result<&'a str, InvalidPdu> {
    match json.get(field) {
        Some(CanonicalJsonValue::String(value)) => Ok(value),
        Some(_) => Err(InvalidPdu(format!("`{field}` is not a string"))),
        None => Err(InvalidPdu(format!("`{field}` is missing"))),
    }
}

fn integer(json: &CanonicalJsonObject, field: &str) -> Result<i64, InvalidPdu> {
    match json.get(field) {
        Some(CanonicalJsonValue::Integer(value)) => Ok(i64::from(*value)),
        Some(_) => Err(InvalidPdu(format!("`{field}` is not an integer"))),
        None => Err(InvalidPdu(format!("`{field}` is missing"))),
    }
}

/// Event IDs of `prev_events` or `auth_events`, in either of the two formats (room versions 1-2: pairs with hashes).
fn event_ids(json: &CanonicalJsonObject, field: &str) -> Result<Vec<OwnedEventId>, InvalidPdu> {
    let Some(CanonicalJsonValue::Array(items)) = json.get(field) else {
        return Err(InvalidPdu(format!("`{field}` is not an array")));
    };
    items
        .iter()
        .map(|item| {
            let id = match item {
                CanonicalJsonValue::String(id) => Some(id),
                CanonicalJsonValue::Array(pair) => match pair.first() {
                    Some(CanonicalJsonValue::String(id)) => Some(id),
                    _ => None,
                },
                _ => None,
            };
            id.and_then(|id| EventId::parse(id).ok()).ok_or_else(|| InvalidPdu(format!("`{field}` holds something that is no event ID")))
        })
        .collect()
}

impl Pdu {
    /// Reads a PDU whose event ID is known. Signatures, hashes and limits are the caller's business.
    ///
    /// # Errors
    ///
    /// `InvalidPdu` when a field that every PDU has is missing or of the wrong type.
    pub fn from_json(event_id: OwnedEventId, json: CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Self, InvalidPdu> {
        let sender = UserId::parse(text(&json, "sender")?).map_err(|e| InvalidPdu(format!("`sender`: {e}")))?;
        let kind = TimelineEventType::from(text(&json, "type")?);
        let state_key = match json.get("state_key") {
            Some(_) => Some(text(&json, "state_key")?.to_owned()),
            None => None,
        };
        let room_id = match json.get("room_id") {
            Some(_) => Some(RoomId::parse(text(&json, "room_id")?).map_err(|e| InvalidPdu(format!("`room_id`: {e}")))?),
            None => None,
        };
        let ts = u64::try_from(integer(&json, "origin_server_ts")?).map_err(|_| InvalidPdu("`origin_server_ts` is negative".into()))?;
        let ts = ruma::UInt::try_from(ts).map_err(|_| InvalidPdu("`origin_server_ts` is too large".into()))?;
        let content = match json.get("content") {
            Some(content @ CanonicalJsonValue::Object(_)) => {
                serde_json::value::to_raw_value(content).map_err(|e| InvalidPdu(format!("`content`: {e}")))?
            }
            _ => return Err(InvalidPdu("`content` is not an object".into())),
        };
        let redacts_in_content = rules.redaction.content_field_redacts;
        let redacts = if kind == TimelineEventType::RoomRedaction {
            let source = match (redacts_in_content, json.get("content")) {
                (true, Some(CanonicalJsonValue::Object(content))) => content.get("redacts"),
                _ => json.get("redacts"),
            };
            source.and_then(CanonicalJsonValue::as_str).and_then(|id| EventId::parse(id).ok())
        } else {
            None
        };
        Ok(Self {
            event_id,
            room_id,
            sender,
            kind,
            state_key,
            origin_server_ts: MilliSecondsSinceUnixEpoch(ts),
            depth: integer(&json, "depth")?,
            prev_events: event_ids(&json, "prev_events")?,
            auth_events: event_ids(&json, "auth_events")?,
            redacts,
            content,
            json,
            rejected: false,
        })
    }

    /// The event without its JSON, and the JSON: for those who keep many events at once and need the text only. [`Self::json`] of
    /// what is left is empty.
    #[must_use]
    pub fn split(mut self) -> (Self, CanonicalJsonObject) {
        let json = std::mem::take(&mut self.json);
        (self, json)
    }

    /// Marks the event as rejected, which auth checks of later events take into account.
    #[must_use]
    pub fn with_rejected(mut self, rejected: bool) -> Self {
        self.rejected = rejected;
        self
    }

    /// The event ID.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The room ID in the JSON; absent in an `m.room.create` of room version 12 and later.
    #[must_use]
    pub fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }

    /// The sender.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// The event type.
    #[must_use]
    pub fn kind(&self) -> &TimelineEventType {
        &self.kind
    }

    /// The state key of a state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// When the sender's server says that it was sent.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// Distance from the room's start, as the sender's server says.
    #[must_use]
    pub fn depth(&self) -> i64 {
        self.depth
    }

    /// The events that it follows.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The events that authorise it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// What an `m.room.redaction` redacts, where the room version says to look for it.
    #[must_use]
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// `membership` in the content, where it is text.
    #[must_use]
    pub fn membership(&self) -> Option<&str> {
        self.json.get("content")?.as_object()?.get("membership")?.as_str()
    }

    /// The content as JSON.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        &self.content
    }

    /// The whole event as it is hashed, signed and sent, without `event_id` and `unsigned` (room version 3 and later).
    #[must_use]
    pub fn json(&self) -> &CanonicalJsonObject {
        &self.json
    }
}

impl AsRef<Self> for Pdu {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl ruma::state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }
    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }
    fn sender(&self) -> &UserId {
        &self.sender
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&Self::Id> {
        self.redacts.as_ref()
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// A room's identity and the rules of its version.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    /// In the store.
    pub nid: RoomNid,
    /// On the wire.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// What that version means.
    pub rules: RoomVersionRules,
}

/// A state map as the store gives it: (type, state key) to event.
pub type StateMap = BTreeMap<(String, String), EventNid>;

/// A place in a room's timeline as clients hold it: `s` and the stream position after which it lies.
///
/// Going backwards from it gives events at that position and before, going forwards those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub StreamPos);

/// Text that is no [`Token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a pagination token")]
pub struct InvalidToken;

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s{}", self.0.0)
    }
}

impl std::str::FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        // A sync token goes on after an underscore with what is not about timelines.
        let text = text.split_once('_').map_or(text, |(place, _)| place);
        let digits = text.strip_prefix('s').ok_or(InvalidToken)?;
        // One spelling per token: no plus sign, no leading zeros.
        let position = digits.parse().map_err(|_| InvalidToken)?;
        let token = Self(StreamPos(position));
        if token.to_string() == text { Ok(token) } else { Err(InvalidToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_spelling() {
        for position in [0, 1, -1, i64::MAX, i64::MIN] {
            let token = Token(StreamPos(position));
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        assert_eq!("s5_1790000000000_3".parse(), Ok(Token(StreamPos(5))), "a sync token names a place in timelines as well");
        for wrong in ["", "s", "1", "s+1", "s01", "s1 ", "t1", "s99999999999999999999"] {
            assert_eq!(wrong.parse::<Token>(), Err(InvalidToken), "{wrong}");
        }
    }
}
