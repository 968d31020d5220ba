//! The deployed form: `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedRoomId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Form,
    request::{Context, Details, Extensions, Filters, List, Malformed, Request, place, presence, timeline_limit},
    required::Required,
};

#[derive(Debug, Deserialize)]
struct Body {
    conn_id: Option<String>,
    txn_id: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, BodyList>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, BodyDetails>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Debug, Deserialize)]
struct BodyList {
    ranges: Option<Vec<(u64, u64)>>,
    #[serde(flatten)]
    details: BodyDetails,
    filters: Option<BodyFilters>,
}

#[derive(Debug, Deserialize)]
struct BodyDetails {
    #[serde(default)]
    required_state: Vec<(String, String)>,
    timeline_limit: u64,
}

#[derive(Debug, Default, Deserialize)]
struct BodyFilters {
    is_dm: Option<bool>,
    is_encrypted: Option<bool>,
    is_invite: Option<bool>,
    #[serde(default)]
    room_types: Vec<Option<String>>,
    #[serde(default)]
    not_room_types: Vec<Option<String>>,
    spaces: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    not_tags: Vec<String>,
}

impl BodyDetails {
    fn read(self, me: &UserId) -> Details {
        Details { timeline_limit: timeline_limit(self.timeline_limit), required: Arc::new(Required::of_pairs(&self.required_state, me)) }
    }
}

impl From<BodyFilters> for Filters {
    fn from(body: BodyFilters) -> Self {
        Self {
            is_dm: body.is_dm,
            is_encrypted: body.is_encrypted,
            is_invited: body.is_invite,
            room_types: Some(body.room_types).filter(|types| !types.is_empty()),
            not_room_types: body.not_room_types,
            spaces: body.spaces,
            tags: body.tags,
            not_tags: body.not_tags,
        }
    }
}

/// Reads a request.
///
/// # Errors
///
/// [`Malformed`].
pub fn read(body: Map<String, Value>, context: &Context) -> Result<Request, Malformed> {
    let body: Body = serde_json::from_value(body.into())?;
    let timeout_ms = context.parameter("timeout").map_or(Ok(0), str::parse);
    let me = &context.user_id;
    let list = |list: BodyList| List {
        ranges: list.ranges.map(|ranges| ranges.into_iter().map(|(from, to)| (place(from), place(to))).collect()),
        details: list.details.read(me),
        filters: list.filters.unwrap_or_default().into(),
    };
    Ok(Request {
        form: Form::Unstable,
        pos: context.parameter("pos").map(str::to_owned),
        timeout: Duration::from_millis(timeout_ms.map_err(|_| Malformed::Invalid("`timeout` is not a number of milliseconds"))?),
        conn_id: body.conn_id.unwrap_or_default(),
        txn_id: body.txn_id,
        presence: presence(context.parameter("set_presence"))?,
        lists: body.lists.into_iter().map(|(name, body)| (name, list(body))).collect(),
        subscriptions: body.room_subscriptions.into_iter().map(|(room, details)| (room, details.read(me))).collect(),
        extensions: body.extensions,
    })
}
