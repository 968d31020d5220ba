//! OpenID: proving to other services who one is.

use std::sync::Arc;

use axum::Json;
use http::{Method, StatusCode};
use ruma::api::{auth_scheme::NoAuthentication, client::account::request_openid_token};
use serde_json::{Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    account_data::own,
};
use crate::homeserver::{
    Node,
    users::limits::{Key, Kind},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<request_openid_token::v3::Request, _, _, _>(request_openid_token).add_raw_at::<NoAuthentication, _, _, _>(
        &Method::GET,
        &["/_matrix/federation/v1/openid/userinfo"],
        get_userinfo,
    )
}

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
async fn request_openid_token(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, call.segment(0)?)?;
    call.object()?;
    let (token, lifetime_ms) = node.accounts.openid_token(call.who.user).await?;
    Ok(Json(json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": node.config.server_name,
        "expires_in": lifetime_ms / 1000,
    })))
}

/// `GET /_matrix/federation/v1/openid/userinfo` (Server-Server API, "OpenID"). Not signed: the asker is no homeserver.
async fn get_userinfo(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    let token = call
        .parameter("access_token")
        .ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "`access_token` is missing"))?;
    if let Some(address) = call.address {
        node.limits.check(Kind::Lookup, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    let user = node.accounts.openid_user(token).await?;
    let user = user.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "The token is unknown or has expired"))?;
    Ok(Json(json!({ "sub": user })))
}
