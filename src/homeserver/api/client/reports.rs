//! Reporting content to the node's owner (Client-Server API, "Reporting Content").

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::{
    EventId, RoomId, UserId,
    api::{auth_scheme::AccessToken, client::room::report_content},
};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    events::{EventError, visibility::History},
    store::{
        accounts, events, members,
        reports::{self, Report},
        rooms,
    },
    types::Requester,
    users::limits::{Key, Kind},
};

/// Longest reason that is kept.
const REASON_BYTES: usize = 4096;

const ROOM: &[&str] = &["/_matrix/client/v3/rooms/{room_id}/report", "/_matrix/client/unstable/org.matrix.msc4151/rooms/{room_id}/report"];
const USER: &[&str] = &["/_matrix/client/v3/users/{user_id}/report", "/_matrix/client/unstable/org.matrix.msc4260/users/{user_id}/report"];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<report_content::v3::Request, _, _, _>(report_content)
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, ROOM, report_room)
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, USER, report_user)
}

/// What a report begins with. `required`: without a reason it is none.
fn begin(node: &Node, call: &RawCall, required: bool) -> ApiResult<(Report, Map<String, Value>)> {
    node.limits.check(Kind::Report, Key::User(call.who.user)).map_err(ApiError::limit_exceeded)?;
    let body = call.object()?;
    let reason = match body.get("reason") {
        Some(Value::String(reason)) if reason.len() > REASON_BYTES => {
            return Err(ApiError::invalid_param(format!("`reason` is longer than {REASON_BYTES} bytes")));
        }
        Some(Value::String(reason)) => reason.clone(),
        None | Some(Value::Null) if required => return Err(ApiError::missing_param("`reason` is missing")),
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err(ApiError::bad_json("`reason` is not a string")),
    };
    let report = Report {
        reporter: call.who.user_id.to_string(),
        room_id: None,
        event_id: None,
        user_id: None,
        reason,
        score: None,
        created_ms: i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX),
    };
    Ok((report, body))
}

async fn store(node: &Node, report: Report, about: &'static str) -> ApiResult<Json<Value>> {
    tracing::warn!(reporter = report.reporter, about, "somebody reported content; `homeroom account reports` shows it");
    node.store.write(move |tx| reports::add(tx, &report)).await?;
    Ok(Json(json!({})))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
async fn report_content(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (mut report, body) = begin(&node, &call, false)?;
    report.score = match body.get("score") {
        None | Some(Value::Null) => None,
        Some(score) => match score.as_i64() {
            Some(score @ -100..=0) => Some(score),
            _ => return Err(ApiError::bad_json("`score` is not a number from -100 to 0")),
        },
    };
    let unknown = || ApiError::not_found("There is no such event, or you may not see it");
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| unknown())?;
    let event_id = EventId::parse(call.segment(1)?).map_err(|_| unknown())?;
    (report.room_id, report.event_id) = (Some(room_id.to_string()), Some(event_id.to_string()));
    let who: Requester = call.who;
    let sender = node.store.read(move |db| {
        let Some(room) = rooms::by_id(db, &room_id)? else { return Ok(None) };
        let Some(event) = events::by_id(db, &event_id)?.filter(|event| event.room == room.nid) else { return Ok(None) };
        // Only who is or was in the room can have seen it (1.8: the reporter has to be joined).
        let member = members::get(db, room.nid, who.user)?.is_some_and(|member| member.membership == "join");
        if !member || !History::new(db, &room, who.user, &who.user_id)?.shows(&event)? {
            return Ok(None);
        }
        Ok::<_, EventError>(Some(crate::homeserver::store::users::user_id(db, event.sender)?))
    });
    report.user_id = Some(sender.await?.ok_or_else(unknown)?.to_string());
    store(&node, report, "event").await
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report`
async fn report_room(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (mut report, _) = begin(&node, &call, true)?;
    let unknown = || ApiError::not_found("There is no such room");
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| unknown())?;
    report.room_id = Some(room_id.to_string());
    if node.store.read(move |db| rooms::by_id(db, &room_id)).await?.is_none() {
        return Err(unknown());
    }
    store(&node, report, "room").await
}

/// `POST /_matrix/client/v3/users/{userId}/report`
async fn report_user(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (mut report, _) = begin(&node, &call, true)?;
    let unknown = || ApiError::not_found("There is no such user here");
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| unknown())?;
    report.user_id = Some(user_id.to_string());
    // Users of other servers cannot be looked up; the owner may still want to hear of them.
    let ours = user_id.server_name() == node.config.server_name;
    if ours && node.store.read(move |db| accounts::active(db, &user_id)).await?.is_none() {
        return Err(unknown());
    }
    store(&node, report, "user").await
}
