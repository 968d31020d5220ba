//! `/_synapse/admin/v1/register`: accounts for whoever knows the owner's secret, in the form that scripts know from Synapse.

use std::sync::Arc;

use axum::Json;
use http::{Method, StatusCode};
use ruma::api::auth_scheme::NoAuthentication;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    login,
};
use crate::homeserver::{
    Node,
    users::{
        limits::{Key, Kind},
        shared_secret::{Claim, SharedSecret},
    },
};

const PATH: &[&str] = &["/_synapse/admin/v1/register"];

/// Nobody can register like this where the owner has set no secret: then it is as if the endpoint were not there.
pub(super) fn add(routes: Routes) -> Routes {
    if routes.node().shared_secret.is_none() {
        return routes;
    }
    routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, PATH, nonce).add_raw_at::<NoAuthentication, _, _, _>(
        &Method::POST,
        PATH,
        register,
    )
}

fn shared_secret(node: &Node) -> ApiResult<&SharedSecret> {
    node.shared_secret.as_ref().ok_or_else(ApiError::unrecognized)
}

fn limit(node: &Node, address: Option<std::net::IpAddr>) -> ApiResult<()> {
    match address {
        Some(address) => node.limits.check(Kind::LoginAddress, Key::Address(address)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

/// `GET /_synapse/admin/v1/register`
async fn nonce(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    limit(&node, call.address)?;
    let nonce = shared_secret(&node)?.nonce();
    let nonce = nonce.ok_or_else(|| ApiError::limit_exceeded(std::time::Duration::from_secs(60)))?;
    Ok(Json(json!({ "nonce": nonce })))
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> ApiResult<&'a str> {
    match body.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(ApiError::bad_json(format!("`{name}` is not a string"))),
        None => Err(ApiError::missing_param(format!("`{name}` is missing"))),
    }
}

/// `POST /_synapse/admin/v1/register`
async fn register(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    limit(&node, call.address)?;
    let shared = shared_secret(&node)?;
    let body = call.object()?;
    let admin = match body.get("admin") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(admin)) => *admin,
        Some(_) => return Err(ApiError::bad_json("`admin` is not a boolean")),
    };
    let user_type = login::optional_text(&body, "user_type")?;
    let claim = Claim {
        nonce: text(&body, "nonce")?,
        username: text(&body, "username")?,
        password: text(&body, "password")?,
        admin,
        user_type: user_type.as_deref(),
    };
    if !shared.use_nonce(claim.nonce) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The nonce is unknown, used or too old"));
    }
    if !shared.is_authentic(&claim, text(&body, "mac")?) {
        return Err(ApiError::forbidden("The MAC is wrong"));
    }
    if user_type.is_some() {
        return Err(ApiError::invalid_param("This server has no kinds of users"));
    }
    let user_id = node.accounts.create(claim.username, claim.password, admin).await?;
    if let Some(name) = login::optional_text(&body, "displayname")? {
        let account = node.accounts.account(&user_id).await?.ok_or_else(|| ApiError::internal("the new account is gone"))?;
        super::profile::set_displayname(&node, account.user, &user_id, &name).await?;
    }
    if body.get("inhibit_login").and_then(Value::as_bool).unwrap_or(false) {
        return Ok(Json(json!({ "user_id": user_id, "home_server": node.config.server_name })));
    }
    let account = node.accounts.account(&user_id).await?.ok_or_else(|| ApiError::internal("the new account is gone"))?;
    let device = login::new_device(&body, call.address)?;
    let signed_in = node.accounts.sign_in(user_id, account.user, device).await?;
    Ok(Json(login::answer(&node.config, signed_in)))
}
