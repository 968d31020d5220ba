//! Files as administrators see them, at the addresses that tools for Synapse know: looking, withholding, removing.

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::{UserId, api::auth_scheme::AccessToken};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    store::{self, StoreError, media},
    types::{Requester, UserNid},
};

const QUARANTINE: &[&str] = &["/_synapse/admin/v1/media/quarantine/{server}/{id}"];
const UNQUARANTINE: &[&str] = &["/_synapse/admin/v1/media/unquarantine/{server}/{id}"];
const QUARANTINE_USER: &[&str] = &["/_synapse/admin/v1/user/{user}/media/quarantine"];
const OF_USER: &[&str] = &["/_synapse/admin/v1/users/{user}/media"];
const FILE: &[&str] = &["/_synapse/admin/v1/media/{server}/{id}"];

/// Files on one page.
const PAGE: usize = 100;
/// Longest server name and media ID.
const NAME_BYTES: usize = 255;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, QUARANTINE, quarantine)
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, UNQUARANTINE, unquarantine)
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, QUARANTINE_USER, quarantine_user)
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, OF_USER, list)
        .add_raw_at::<AccessToken, _, _, _>(&Method::DELETE, FILE, delete)
}

fn admin(who: &Requester) -> ApiResult<()> {
    if who.admin { Ok(()) } else { Err(ApiError::forbidden("You are no administrator of this server")) }
}

fn file(call: &RawCall) -> ApiResult<(String, String)> {
    admin(&call.who)?;
    let (server, id) = (call.segment(0)?, call.segment(1)?);
    if server.len() > NAME_BYTES || id.len() > NAME_BYTES || server.is_empty() || id.is_empty() {
        return Err(ApiError::invalid_param("This is no file"));
    }
    Ok((server.to_owned(), id.to_owned()))
}

async fn user(node: &Node, call: &RawCall) -> ApiResult<UserNid> {
    admin(&call.who)?;
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    Ok(node.accounts.account(&user_id).await?.ok_or_else(|| ApiError::not_found("There is no such user here"))?.user)
}

fn now(node: &Node) -> i64 {
    i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX)
}

/// `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`: also of what is not here (yet).
async fn quarantine(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let ((server, id), by, now_ms) = (file(&call)?, call.who.user_id.to_string(), now(&node));
    node.store.write(move |tx| media::set_quarantined(tx, &server, &id, Some(&by), now_ms)).await?;
    Ok(Json(json!({})))
}

/// `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`
async fn unquarantine(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let ((server, id), now_ms) = (file(&call)?, now(&node));
    node.store.write(move |tx| media::set_quarantined(tx, &server, &id, None, now_ms)).await?;
    Ok(Json(json!({})))
}

/// `POST /_synapse/admin/v1/user/{userId}/media/quarantine`
async fn quarantine_user(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (owner, by, now_ms) = (user(&node, &call).await?, call.who.user_id.to_string(), now(&node));
    let server = node.config.server_name.to_string();
    let count = node.store.write(move |tx| media::quarantine_user(tx, &server, owner, &by, now_ms)).await?;
    Ok(Json(json!({ "num_quarantined": count })))
}

/// `GET /_synapse/admin/v1/users/{userId}/media`
async fn list(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let owner = user(&node, &call).await?;
    let number = |name: &str| call.parameter(name).map(str::parse::<usize>).transpose();
    let wrong = |_| ApiError::invalid_param("`from` or `limit` is not a number");
    let (from, limit) = (number("from").map_err(wrong)?.unwrap_or(0), number("limit").map_err(wrong)?.unwrap_or(PAGE).clamp(1, PAGE));
    let server = node.config.server_name.to_string();
    let page = node.store.read(move |db| {
        let found = store::media::of_user(db, owner, from, limit.saturating_add(1))?;
        let more = found.len() > limit;
        let mut told = Vec::new();
        for file in found.into_iter().take(limit) {
            told.push(json!({
                "media_id": file.media_id, "media_type": file.content_type, "media_length": file.size_bytes,
                "upload_name": file.filename, "created_ts": file.created_ms, "last_access_ts": file.used_ms,
                "quarantined": media::is_quarantined(db, &server, &file.media_id)?,
            }));
        }
        Ok::<_, StoreError>((told, more, media::usage(db, owner)?.0))
    });
    let (told, more, bytes) = page.await?;
    let mut answer = Map::new();
    answer.extend(more.then(|| ("next_token".to_owned(), from.saturating_add(told.len()).into())));
    answer.insert("media".into(), told.into());
    answer.insert("total_bytes".into(), bytes.into());
    Ok(Json(answer.into()))
}

/// `DELETE /_synapse/admin/v1/media/{serverName}/{mediaId}`
async fn delete(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (server, id) = file(&call)?;
    if server != node.config.server_name.as_str() {
        return Err(ApiError::invalid_param("Files of other servers are kept for a while only; withhold them instead"));
    }
    if node.media.delete(&id).await? {
        Ok(Json(json!({ "deleted_media": [id], "total": 1 })))
    } else {
        Err(ApiError::not_found("There is no such file"))
    }
}
