//! Joining, leaving, knocking on and inviting to rooms (Server-Server API, "Joining Rooms" to "Leaving Rooms").

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId,
    api::federation::membership::{
        create_invite::{v1 as create_invite_v1, v2 as create_invite},
        create_join_event::v2 as create_join,
        create_knock_event::v1 as create_knock,
        create_leave_event::v2 as create_leave,
        prepare_join_event::v1 as prepare_join,
        prepare_knock_event::v1 as prepare_knock,
        prepare_leave_event::v1 as prepare_leave,
    },
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::call::Origin;
use crate::homeserver::{
    Node,
    api::{
        call::{Call, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    federation::membership::{self, Asked, Given, Invitation, Kind},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<prepare_join::Request, _, _>(make_join)
        .add_raw::<create_join::Request, _, _, _>(send_join)
        .add::<prepare_leave::Request, _, _>(make_leave)
        .add_raw::<create_leave::Request, _, _, _>(send_leave)
        .add::<prepare_knock::Request, _, _>(make_knock)
        .add_raw::<create_knock::Request, _, _, _>(send_knock)
        .add::<create_invite::Request, _, _>(send_invite)
        .add_raw::<create_invite_v1::Request, _, _, _>(send_invite_v1)
}

fn raw(json: String) -> ApiResult<Box<RawValue>> {
    RawValue::from_string(json).map_err(ApiError::internal)
}

fn raws(events: Vec<String>) -> ApiResult<Vec<Box<RawValue>>> {
    events.into_iter().map(raw).collect()
}

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
async fn make_join(node: Arc<Node>, call: Call<prepare_join::Request, Origin>) -> ApiResult<prepare_join::Response> {
    let request = call.request;
    let asked = Asked { kind: Kind::Join, room_id: request.room_id, user_id: request.user_id, versions: Some(request.ver) };
    let (version, event) = membership::propose(&node, &call.who, asked).await?;
    let mut response = prepare_join::Response::new(raw(event)?);
    response.room_version = Some(version);
    Ok(response)
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
async fn make_leave(node: Arc<Node>, call: Call<prepare_leave::Request, Origin>) -> ApiResult<prepare_leave::Response> {
    let request = call.request;
    let asked = Asked { kind: Kind::Leave, room_id: request.room_id, user_id: request.user_id, versions: None };
    let (version, event) = membership::propose(&node, &call.who, asked).await?;
    Ok(prepare_leave::Response::new(Some(version), raw(event)?))
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
async fn make_knock(node: Arc<Node>, call: Call<prepare_knock::Request, Origin>) -> ApiResult<prepare_knock::Response> {
    let request = call.request;
    let asked = Asked { kind: Kind::Knock, room_id: request.room_id, user_id: request.user_id, versions: Some(request.ver) };
    let (version, event) = membership::propose(&node, &call.who, asked).await?;
    Ok(prepare_knock::Response::new(version, raw(event)?))
}

fn room_and_event(call: &RawCall<Origin>) -> ApiResult<(OwnedRoomId, OwnedEventId)> {
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
    let event_id = EventId::parse(call.segment(1)?).map_err(|_| ApiError::invalid_param("This is not an event ID"))?;
    Ok((room_id, event_id))
}

async fn accept(node: &Arc<Node>, call: RawCall<Origin>, kind: Kind) -> ApiResult<membership::Joined> {
    let (room_id, event_id) = room_and_event(&call)?;
    let omit_members = call.parameter("omit_members") == Some("true");
    let event = String::from_utf8(call.body.to_vec()).map_err(|_| ApiError::bad_json("The body is not UTF-8"))?;
    Ok(membership::accept(node, &call.who, Given { kind, room_id, event_id, event, omit_members }).await?)
}

/// The answer to a join, but for the two lists of events. (ruma's type lacks `origin`.)
#[derive(Serialize)]
struct JoinAnswer {
    origin: String,
    event: Box<RawValue>,
    members_omitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers_in_room: Option<Vec<ruma::OwnedServerName>>,
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
async fn send_join(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Response> {
    let joined = accept(&node, call, Kind::Join).await?;
    let omitted = joined.told.members_omitted;
    let answer = JoinAnswer {
        origin: node.config.server_name.to_string(),
        event: raw(joined.event)?,
        members_omitted: omitted,
        servers_in_room: omitted.then_some(joined.servers),
    };
    // The lists of a large room are sent as they are read. Who has the end of the object has all of it.
    let mut head = serde_json::to_string(&answer).map_err(ApiError::internal)?;
    // Without the bracket that closes it.
    head.pop();
    head.push(',');
    let ends = |text: String| stream::once(async move { Ok(Bytes::from(text)) });
    let body = ends(head).chain(joined.told.fields(node.store.clone())).chain(ends("}".into()));
    let body = body.inspect_err(|error| tracing::warn!(%error, "an answer to a join breaks off"));
    Ok(([(http::header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
async fn send_leave(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    accept(&node, call, Kind::Leave).await?;
    Ok(Json(json!({})))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
async fn send_knock(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    let told = accept(&node, call, Kind::Knock).await?;
    Ok(Json(json!({ "knock_room_state": raws(told.stripped)? })))
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
async fn send_invite(node: Arc<Node>, call: Call<create_invite::Request, Origin>) -> ApiResult<create_invite::Response> {
    let request = call.request;
    let invitation = Invitation {
        room_id: request.room_id,
        event_id: request.event_id,
        version: request.room_version,
        event: request.event.get().to_owned(),
        told: request.invite_room_state,
    };
    Ok(create_invite::Response::new(raw(membership::invited(&node, &call.who, invitation).await?)?))
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: for rooms of versions 1 and 2, which this server does not support.
async fn send_invite_v1(_: Arc<Node>, _: RawCall<Origin>) -> ApiResult<Json<Value>> {
    let why = "This server does not support rooms of versions 1 and 2";
    Err(ApiError::new(http::StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", why).field("room_version", "1"))
}
