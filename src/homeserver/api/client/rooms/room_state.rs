//! Reading a room's state and members.

use std::sync::Arc;

use axum::Json;
use ruma::{
    RoomId,
    api::client::{
        membership::{get_member_events::v3 as get_member_events, joined_members::v3 as joined_members},
        state::{
            get_state_event_for_key::v3::{self as get_state_event_for_key, StateEventFormat},
            get_state_events::v3 as get_state_events,
        },
    },
    serde::Raw,
};
use serde_json::{Map, Value, json};

use super::{
    super::super::{
        call::{Call, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    look,
};
use crate::homeserver::{
    Node,
    events::{
        self, EventError, snapshot,
        view::{View, Viewer},
        visibility::{Access, enter},
    },
    store::{
        events as stored,
        members::{self, Member},
        state,
    },
    types::Token,
};

/// The forms of the path without a state key, which is then empty.
const WITHOUT_STATE_KEY: [&str; 4] = [
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_state_events::Request, _, _>(get_state_events)
        .add::<get_state_event_for_key::Request, _, _>(get_state_event_for_key)
        .add_at::<get_state_event_for_key::Request, _, _>(&WITHOUT_STATE_KEY, get_state_event_for_key)
        .add::<get_member_events::Request, _, _>(get_member_events)
        .add_raw::<joined_members::Request, _, _, _>(joined_members)
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
async fn get_state_events(node: Arc<Node>, call: Call<get_state_events::Request>) -> ApiResult<get_state_events::Response> {
    let viewer = Viewer::of(&call.who, node.clock.now_ms());
    let room_id = call.request.room_id;
    let found = look(&node, move |db| {
        let room = events::room(db, &room_id)?;
        let access = enter(db, &room, viewer.user)?;
        let view = View::new(db, &room, &viewer)?;
        snapshot::visible_to(db, &room, access)?.into_values().map(|nid| view.state(nid).map(Raw::from_json)).collect::<Result<Vec<_>, _>>()
    });
    Ok(get_state_events::Response::new(found.await?))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn get_state_event_for_key(
    node: Arc<Node>,
    call: Call<get_state_event_for_key::Request>,
) -> ApiResult<get_state_event_for_key::Response> {
    let viewer = Viewer::of(&call.who, node.clock.now_ms());
    let request = call.request;
    let found = look(&node, move |db| {
        let missing = || EventError::NotFound("The room has no such state".into());
        let room = events::room(db, &request.room_id)?;
        let access = enter(db, &room, viewer.user)?;
        let key = state::find_key(db, &request.event_type.to_string(), &request.state_key)?.ok_or_else(missing)?;
        let nid = snapshot::key_visible_to(db, &room, access, key)?.ok_or_else(missing)?;
        let view = View::new(db, &room, &viewer)?;
        match request.format {
            StateEventFormat::Event => view.state(nid),
            _ => view.content(&stored::by_nid(db, nid)?),
        }
    });
    Ok(get_state_event_for_key::Response::new(found.await?))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
async fn get_member_events(node: Arc<Node>, call: Call<get_member_events::Request>) -> ApiResult<get_member_events::Response> {
    let viewer = Viewer::of(&call.who, node.clock.now_ms());
    let request = call.request;
    let at = request.at.as_deref().map(str::parse::<Token>).transpose().map_err(|e| ApiError::invalid_param(e.to_string()))?;
    let chunk = look(&node, move |db| {
        let room = events::room(db, &request.room_id)?;
        let access = enter(db, &room, viewer.user)?;
        let view = View::new(db, &room, &viewer)?;
        let mut chunk = Vec::new();
        for (membership, nid) in snapshot::members(db, &room, access, at.map(|token| token.0))? {
            let wanted = request.membership.as_ref().map(|wanted| wanted.as_str() == membership);
            let others = request.not_membership.as_ref().map(|unwanted| unwanted.as_str() != membership);
            // With both, either is enough.
            let fits = match (wanted, others) {
                (Some(wanted), Some(others)) => wanted || others,
                (wanted, others) => wanted.or(others).unwrap_or(true),
            };
            if fits {
                chunk.push(Raw::from_json(view.state(nid)?));
            }
        }
        Ok(chunk)
    });
    Ok(get_member_events::Response::new(chunk.await?))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`: for those who are in the room. What a member has not set is there as
/// `null`: some clients ask for the fields without asking whether they are there.
async fn joined_members(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
    let joined = look(&node, move |db| {
        let room = events::room(db, &room_id)?;
        if enter(db, &room, user)? != Access::Member {
            return Err(EventError::Forbidden("You are not in this room".into()));
        }
        let shown = |member: Member| json!({ "display_name": member.displayname, "avatar_url": member.avatar_url });
        Ok(members::joined(db, room.nid)?.into_iter().map(|(id, member)| (id.to_string(), shown(member))).collect::<Map<_, _>>())
    });
    Ok(Json(json!({ "joined": joined.await? })))
}
