//! Server administration: looking at accounts, locking and suspending them (Client-Server API, "Server Administration").

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::{
    OwnedUserId, UserId,
    api::{auth_scheme::AccessToken, client::admin::get_user_info},
};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    store::{self, accounts::Account},
    types::Requester,
};

/// Stable paths and those of MSC4323.
const LOCK: [&str; 2] = ["/_matrix/client/v1/admin/lock/{userId}", "/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}"];
const SUSPEND: [&str; 2] =
    ["/_matrix/client/v1/admin/suspend/{userId}", "/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}"];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_user_info::v3::Request, _, _, _>(get_user_info)
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, &LOCK, get_locked)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, &LOCK, set_locked)
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, &SUSPEND, get_suspended)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, &SUSPEND, set_suspended)
}

/// `GET /_matrix/client/v3/admin/whois/{userId}`: everybody may look at themselves, administrators at all.
async fn get_user_info(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    if user_id != call.who.user_id && !call.who.admin {
        return Err(ApiError::forbidden("Only an administrator may look at others"));
    }
    let user = node.accounts.account(&user_id).await?.ok_or_else(|| ApiError::not_found("There is no such user here"))?.user;
    let devices = node.store.read(move |db| store::devices::list(db, user)).await?;
    let devices: Map<String, Value> = devices
        .into_iter()
        .map(|device| {
            let mut connection = Map::new();
            connection.extend(device.last_seen_ip.map(|ip| ("ip".to_owned(), ip.into())));
            connection.extend(device.last_seen_ms.map(|seen| ("last_seen".to_owned(), seen.into())));
            let connections = if connection.is_empty() { json!([]) } else { json!([connection]) };
            (device.device_id.into(), json!({ "sessions": [{ "connections": connections }] }))
        })
        .collect();
    Ok(Json(json!({ "user_id": user_id, "devices": devices })))
}

/// The account that an administrator means. Rights come first, so that nobody else learns who exists.
async fn target(node: &Node, who: &Requester, user_id: &str, changes: bool) -> ApiResult<(OwnedUserId, Account)> {
    if !who.admin {
        return Err(ApiError::forbidden("You are no administrator of this server"));
    }
    let user_id = UserId::parse(user_id).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    if user_id.server_name() != node.config.server_name {
        return Err(ApiError::invalid_param("This user belongs to another server"));
    }
    if changes && user_id == who.user_id {
        return Err(ApiError::forbidden("You cannot do this to yourself"));
    }
    let account = node.accounts.account(&user_id).await?.filter(|account| !account.deactivated);
    let account = account.ok_or_else(|| ApiError::not_found("There is no such user here"))?;
    if account.admin && user_id != who.user_id {
        return Err(ApiError::forbidden("This user is an administrator too"));
    }
    Ok((user_id, account))
}

fn flag(call: &RawCall, name: &str) -> ApiResult<bool> {
    match call.object()?.get(name) {
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ApiError::bad_json(format!("`{name}` is not a boolean"))),
        None => Err(ApiError::missing_param(format!("`{name}` is missing"))),
    }
}

/// `GET /_matrix/client/v1/admin/lock/{userId}`
async fn get_locked(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, account) = target(&node, &call.who, call.segment(0)?, false).await?;
    Ok(Json(json!({ "locked": account.locked })))
}

/// `PUT /_matrix/client/v1/admin/lock/{userId}`
async fn set_locked(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, account) = target(&node, &call.who, call.segment(0)?, true).await?;
    let locked = flag(&call, "locked")?;
    node.accounts.set_locked(account.user, locked).await?;
    Ok(Json(json!({ "locked": locked })))
}

/// `GET /_matrix/client/v1/admin/suspend/{userId}`
async fn get_suspended(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, account) = target(&node, &call.who, call.segment(0)?, false).await?;
    Ok(Json(json!({ "suspended": account.suspended })))
}

/// `PUT /_matrix/client/v1/admin/suspend/{userId}`
async fn set_suspended(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, account) = target(&node, &call.who, call.segment(0)?, true).await?;
    let suspended = flag(&call, "suspended")?;
    node.accounts.set_suspended(account.user, suspended).await?;
    Ok(Json(json!({ "suspended": suspended })))
}
