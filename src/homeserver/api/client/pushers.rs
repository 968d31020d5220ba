//! Pushers and the list of notifications (Client-Server API, "Push Notifications").

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::api::client::push::{get_notifications, get_pushers, set_pusher};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    events::{
        EventError,
        view::{View, Viewer},
        visibility::History,
    },
    push::gateway::Target,
    store::{
        Reader, StoreError, events,
        pushers::{self, Notification, PusherId},
        rooms,
    },
    types::{StreamPos, Token},
};

/// Pushers of one user.
const PUSHERS: usize = 64;
/// Longest application ID (specification: 64 characters), and longest pushkey (512 bytes).
const APP_ID_CHARS: usize = 64;
const PUSHKEY_BYTES: usize = 512;
/// Longest text of any other field, and largest `data`.
const TEXT_BYTES: usize = 1024;
const DATA_BYTES: usize = 16 * 1024;
/// Page of notifications.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_pushers::v3::Request, _, _, _>(get_pushers)
        .add_raw::<set_pusher::v3::Request, _, _, _>(set_pusher)
        .add_raw::<get_notifications::v3::Request, _, _, _>(get_notifications)
}

/// `GET /_matrix/client/v3/pushers`
async fn get_pushers(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let found = node.store.read(move |db| pushers::of_user(db, user)).await?;
    let mut told = Vec::new();
    for pusher in found {
        let mut json: Map<String, Value> = serde_json::from_str(&pusher.json).map_err(ApiError::internal)?;
        json.insert("app_id".into(), pusher.id.app_id.into());
        json.insert("pushkey".into(), pusher.id.pushkey.into());
        json.insert("kind".into(), pusher.kind.into());
        told.push(Value::Object(json));
    }
    Ok(Json(json!({ "pushers": told })))
}

fn required(body: &Map<String, Value>, field: &str, longest: usize) -> ApiResult<String> {
    match body.get(field) {
        None => Err(ApiError::missing_param(format!("`{field}` is missing"))),
        Some(Value::String(text)) if text.len() > longest => {
            Err(ApiError::invalid_param(format!("`{field}` is longer than {longest} bytes")))
        }
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ApiError::bad_json(format!("`{field}` is not a string"))),
    }
}

/// `POST /_matrix/client/v3/pushers/set`
async fn set_pusher(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let app_id = required(&body, "app_id", TEXT_BYTES)?;
    if app_id.chars().count() > APP_ID_CHARS {
        return Err(ApiError::invalid_param("`app_id` is longer than 64 characters"));
    }
    let id = PusherId { user: call.who.user, app_id, pushkey: required(&body, "pushkey", PUSHKEY_BYTES)? };
    match body.get("kind") {
        None => return Err(ApiError::missing_param("`kind` is missing")),
        Some(Value::Null) => {
            node.store.write(move |tx| pushers::delete(tx, &id)).await?;
            return Ok(Json(json!({})));
        }
        Some(Value::String(kind)) if kind == "http" => {}
        Some(Value::String(kind)) if kind == "email" => {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_THREEPID_NOT_FOUND", "This server sends no e-mail"));
        }
        Some(Value::String(_)) => return Err(ApiError::invalid_param("`kind` is neither `http` nor `email`")),
        Some(_) => return Err(ApiError::bad_json("`kind` is not a string")),
    }
    let kept = kept(&node, &body)?;
    let append = match body.get("append") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(append)) => *append,
        Some(_) => return Err(ApiError::bad_json("`append` is not a boolean")),
    };
    let json = Value::Object(kept).to_string();
    let (device_id, now_ms) = (call.who.device_id.to_string(), i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX));
    let set = node.store.write(move |tx| {
        let own = pushers::of_user(&tx.reader(), id.user)?;
        if own.len() >= PUSHERS && !own.iter().any(|pusher| pusher.id == id) {
            return Ok(false);
        }
        if !append {
            pushers::delete_others(tx, &id)?;
        }
        pushers::set(tx, &id, &device_id, "http", &json, now_ms)?;
        Ok::<_, StoreError>(true)
    });
    if set.await? { Ok(Json(json!({}))) } else { Err(ApiError::forbidden(format!("An account has {PUSHERS} pushers at most"))) }
}

/// The fields that are told back.
fn kept(node: &Node, body: &Map<String, Value>) -> ApiResult<Map<String, Value>> {
    let mut kept = Map::new();
    for field in ["app_display_name", "device_display_name", "lang"] {
        kept.insert(field.into(), required(body, field, TEXT_BYTES)?.into());
    }
    if body.get("profile_tag").is_some_and(|tag| !tag.is_null()) {
        kept.insert("profile_tag".into(), required(body, "profile_tag", TEXT_BYTES)?.into());
    }
    let data = match body.get("data") {
        Some(Value::Object(data)) => data.clone(),
        None => return Err(ApiError::missing_param("`data` is missing")),
        Some(_) => return Err(ApiError::bad_json("`data` is not an object")),
    };
    if data.get("url").is_none() {
        return Err(ApiError::missing_param("`data.url` is missing"));
    }
    if data.get("format").is_some_and(|format| !format.is_string() && !format.is_null()) {
        return Err(ApiError::bad_json("`data.format` is not a string"));
    }
    Target::read(&data, &node.outbound).map_err(ApiError::invalid_param)?;
    let data = Value::Object(data);
    if data.to_string().len() > DATA_BYTES {
        return Err(ApiError::too_large("`data` is too large"));
    }
    kept.insert("data".into(), data);
    Ok(kept)
}

/// `GET /_matrix/client/v3/notifications`
async fn get_notifications(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let from = match call.parameter("from") {
        Some(text) => text.parse::<Token>().map_err(|_| ApiError::invalid_param("This is not a token of this server"))?.0,
        None => StreamPos(i64::MAX),
    };
    let limit = match call.parameter("limit") {
        Some(text) => text.parse::<u64>().map_err(|_| ApiError::invalid_param("`limit` is not a number"))?,
        None => DEFAULT_LIMIT as u64,
    };
    let limit = usize::try_from(limit).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT);
    let highlights = call.parameter("only").is_some_and(|only| only == "highlight");
    let (who, viewer) = (call.who.clone(), Viewer::of(&call.who, node.clock.now_ms()));
    let page = node.store.read(move |db| {
        let found = pushers::notifications(db, who.user, from, highlights, limit + 1)?;
        let mut told = Vec::new();
        for notification in found.iter().take(limit) {
            let room = rooms::by_nid(db, notification.room)?;
            let history = History::new(db, &room, who.user, &who.user_id)?;
            // Whoever has left since is not told what came of it. One's own invite one may always see.
            if notification.invite || history.shows(&events::by_nid(db, notification.event)?)? {
                told.push(shown(db, &viewer, notification, &room)?);
            }
        }
        let next = (found.len() > limit).then(|| found.get(limit - 1)).flatten().map(|last| Token(last.pos).to_string());
        Ok::<_, EventError>((told, next))
    });
    let (told, next) = page.await?;
    let mut answer = json!({ "notifications": told });
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("next_token".into(), next.into());
    }
    Ok(Json(answer))
}

fn shown(
    db: &Reader<'_>,
    viewer: &Viewer,
    notification: &Notification,
    room: &crate::homeserver::types::RoomHandle,
) -> Result<Value, EventError> {
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let view = View::new(db, room, viewer)?.for_sync();
    let event: Value = serde_json::from_str(view.by_nid(notification.event)?.get()).map_err(internal)?;
    let actions: Value = serde_json::from_str(&notification.actions).map_err(internal)?;
    Ok(json!({
        "actions": actions,
        "event": event,
        "read": notification.read,
        "room_id": room.room_id,
        "ts": notification.ts_ms,
    }))
}
