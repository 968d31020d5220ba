//! The accepted form: `POST /_matrix/client/v4/sync` (MSC4186).
//!
//! Everything is in the body, state is asked for by patterns, and what was deleted leaves a stub.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Form,
    request::{Context, Details, Extensions, Filters, List, Malformed, Request, place, presence, timeline_limit},
    required::{Pattern, Required},
    response::{self, Hero},
};
use crate::homeserver::sync::Raw;

#[derive(Debug, Deserialize)]
struct Body {
    conn_id: Option<String>,
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, BodyList>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, BodyDetails>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Debug, Deserialize)]
struct BodyList {
    range: Option<(u64, u64)>,
    #[serde(flatten)]
    details: BodyDetails,
    filters: Option<BodyFilters>,
}

#[derive(Debug, Deserialize)]
struct BodyDetails {
    timeline_limit: u64,
    required_state: BodyRequired,
}

#[derive(Debug, Deserialize)]
struct BodyRequired {
    #[serde(default)]
    include: Vec<BodyPattern>,
    #[serde(default)]
    exclude: Vec<BodyPattern>,
    #[serde(default)]
    lazy_members: bool,
}

#[derive(Debug, Deserialize)]
struct BodyPattern {
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct BodyFilters {
    is_dm: Option<bool>,
    is_encrypted: Option<bool>,
    is_invited: Option<bool>,
    room_types: Option<Vec<Option<String>>>,
    #[serde(default)]
    not_room_types: Vec<Option<String>>,
    spaces: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    not_tags: Vec<String>,
}

impl From<BodyDetails> for Details {
    fn from(body: BodyDetails) -> Self {
        let patterns = |list: Vec<BodyPattern>| list.into_iter().map(|p| Pattern { kind: p.kind, state_key: p.state_key }).collect();
        let BodyRequired { include, exclude, lazy_members } = body.required_state;
        Self {
            timeline_limit: timeline_limit(body.timeline_limit),
            required: Arc::new(Required::of_patterns(patterns(include), patterns(exclude), lazy_members)),
        }
    }
}

impl From<BodyFilters> for Filters {
    fn from(body: BodyFilters) -> Self {
        Self {
            is_dm: body.is_dm,
            is_encrypted: body.is_encrypted,
            is_invited: body.is_invited,
            room_types: body.room_types,
            not_room_types: body.not_room_types,
            spaces: body.spaces,
            tags: body.tags,
            not_tags: body.not_tags,
        }
    }
}

/// Appendices, "Opaque identifiers".
fn is_opaque_identifier(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
}

/// Reads a request.
///
/// # Errors
///
/// [`Malformed`].
pub fn read(body: Map<String, Value>, _: &Context) -> Result<Request, Malformed> {
    let body: Body = serde_json::from_value(body.into())?;
    if !body.lists.keys().all(|name| is_opaque_identifier(name)) {
        return Err(Malformed::Invalid("The name of a list has other characters than letters, digits and ._~-"));
    }
    let presence = presence(body.set_presence.as_deref())?;
    let list = |list: BodyList| List {
        ranges: list.range.map(|(from, to)| vec![(place(from), place(to))]),
        details: list.details.into(),
        filters: list.filters.unwrap_or_default().into(),
    };
    Ok(Request {
        form: Form::V4,
        pos: body.pos,
        timeout: Duration::from_millis(body.timeout.unwrap_or(0)),
        conn_id: body.conn_id.unwrap_or_default(),
        txn_id: None,
        presence,
        lists: body.lists.into_iter().map(|(name, body)| (name, list(body))).collect(),
        subscriptions: body.room_subscriptions.into_iter().map(|(room, details)| (room, details.into())).collect(),
        extensions: body.extensions,
    })
}

/// The answer as it is written.
#[derive(Debug, Serialize)]
pub struct Response {
    pos: String,
    lists: BTreeMap<String, response::List>,
    rooms: BTreeMap<OwnedRoomId, Room>,
    extensions: response::Extensions,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Text {
    Is(String),
    /// `null`: there is none any more.
    Gone,
}

#[derive(Debug, Serialize)]
struct Room {
    bump_stamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lists: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heroes: Option<Vec<Hero>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_dm: Option<bool>,
    #[serde(skip_serializing_if = "response::is_false")]
    initial: bool,
    #[serde(skip_serializing_if = "response::is_false")]
    expanded_timeline: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_state: Vec<Raw>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timeline: Vec<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "response::is_false")]
    limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_live: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripped_state: Option<Vec<Raw>>,
}

impl From<response::Room> for Room {
    fn from(room: response::Room) -> Self {
        Self {
            bump_stamp: room.bump_stamp,
            membership: room.membership.map(|membership| membership.to_string()),
            lists: room.lists,
            name: room.name.map(Text::Is).or(room.name_gone.then_some(Text::Gone)),
            avatar: room.avatar,
            heroes: room.heroes,
            is_dm: room.is_dm,
            initial: room.initial,
            expanded_timeline: room.unstable_expanded_timeline,
            required_state: room.required_state,
            timeline: room.timeline,
            prev_batch: room.prev_batch,
            limited: room.limited,
            num_live: room.num_live,
            joined_count: room.joined_count,
            invited_count: room.invited_count,
            stripped_state: room.invite_state,
        }
    }
}

impl From<response::Response> for Response {
    fn from(answer: response::Response) -> Self {
        let rooms = answer.rooms.into_iter().map(|(id, room)| (id, room.into())).collect();
        Self { pos: answer.pos, lists: answer.lists, rooms, extensions: answer.extensions }
    }
}
