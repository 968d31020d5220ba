//! Registration of accounts.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::api::client::account::{check_registration_token_validity, get_username_availability, register};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{MaybeService, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    login, uia,
};
use crate::homeserver::{
    Node, Registration,
    appservice::Service,
    store,
    users::{
        Accounts,
        limits::{Key, Kind},
        uia::Stage,
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<register::v3::Request, _, _, _>(register)
        .add_raw::<get_username_availability::v3::Request, _, _, _>(get_username_availability)
        .add_raw::<check_registration_token_validity::v1::Request, _, _, _>(check_registration_token_validity)
}

fn closed() -> ApiError {
    ApiError::forbidden("Registration is closed on this server")
}

fn limit(node: &Node, kind: Kind, address: Option<std::net::IpAddr>) -> ApiResult<()> {
    match address {
        Some(address) => node.limits.check(kind, Key::Address(address)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

/// `POST /_matrix/client/v3/register`
async fn register(node: Arc<Node>, call: RawCall<MaybeService>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    if body.get("type").and_then(Value::as_str) == Some("m.login.application_service") {
        return register_for(&node, call.who.service()?, &body, call.address).await;
    }
    match call.parameter("kind") {
        None | Some("user") => {}
        Some("guest") => return Err(ApiError::forbidden("This server has no guests")),
        Some(_) => return Err(ApiError::invalid_param("`kind` is neither `user` nor `guest`")),
    }
    let mut flow: Vec<Stage> = node.config.terms.iter().map(|_| Stage::Terms).collect();
    match node.config.registration {
        Registration::Closed => return Err(closed()),
        Registration::Token => flow.push(Stage::RegistrationToken),
        Registration::Open => flow.push(Stage::Dummy),
    }
    limit(&node, Kind::Lookup, call.address)?;
    if body.contains_key("type") {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "This server has no such registration"));
    }
    // What cannot succeed is refused before anybody goes through the stages.
    if let Some(name) = login::optional_text(&body, "username")? {
        node.accounts.check_available(&name).await?;
    }
    if let Some(password) = login::optional_text(&body, "password")? {
        Accounts::check_password(&password)?;
    }
    let passed = uia::authenticate(&node, "register", None, body, &[&flow]).await?;
    limit(&node, Kind::Registration, call.address)?;
    create(&node, &passed.body, passed.registration_token, call.address).await
}

/// `POST /register` with `m.login.application_service`, whether registration is open or not.
async fn register_for(
    node: &Node,
    service: &Service,
    body: &Map<String, Value>,
    address: Option<std::net::IpAddr>,
) -> ApiResult<Json<Value>> {
    let name = login::optional_text(body, "username")?.ok_or_else(|| ApiError::missing_param("`username` is missing"))?;
    let device = login::new_device(body, address)?;
    let (user_id, user) = node.accounts.create_for(service, &name).await?;
    if body.get("inhibit_login").and_then(Value::as_bool).unwrap_or(false) {
        return Ok(Json(json!({ "user_id": user_id, "home_server": node.config.server_name })));
    }
    let signed_in = node.accounts.sign_in(user_id, user, device).await?;
    Ok(Json(login::answer(&node.config, signed_in)))
}

async fn create(
    node: &Node,
    body: &Map<String, Value>,
    registration_token: Option<String>,
    address: Option<std::net::IpAddr>,
) -> ApiResult<Json<Value>> {
    let password = login::optional_text(body, "password")?.ok_or_else(|| ApiError::missing_param("`password` is missing"))?;
    let name = match login::optional_text(body, "username")? {
        Some(name) => name,
        None => node.randomness.alphanumeric(16).to_ascii_lowercase(),
    };
    let device = login::new_device(body, address)?;
    let user_id = node.accounts.create_with(&name, &password, false, registration_token).await?;
    if body.get("inhibit_login").and_then(Value::as_bool).unwrap_or(false) {
        return Ok(Json(json!({ "user_id": user_id, "home_server": node.config.server_name })));
    }
    let wanted = user_id.clone();
    let account = node.store.read(move |db| store::accounts::active(db, &wanted)).await?;
    let user = account.ok_or_else(|| ApiError::internal("the new account is gone"))?;
    let signed_in = node.accounts.sign_in(user_id, user, device).await?;
    Ok(Json(login::answer(&node.config, signed_in)))
}

/// `GET /_matrix/client/v3/register/available`
async fn get_username_availability(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    if node.config.registration == Registration::Closed {
        return Err(closed());
    }
    limit(&node, Kind::Lookup, call.address)?;
    let name = call.parameter("username").ok_or_else(|| ApiError::missing_param("`username` is missing"))?;
    node.accounts.check_available(name).await?;
    Ok(Json(json!({ "available": true })))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
async fn check_registration_token_validity(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    if node.config.registration == Registration::Closed {
        return Err(closed());
    }
    limit(&node, Kind::Lookup, call.address)?;
    let token = call.parameter("token").ok_or_else(|| ApiError::missing_param("`token` is missing"))?;
    Ok(Json(json!({ "valid": node.accounts.registration_token_is_valid(token).await? })))
}
