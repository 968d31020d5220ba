//! What calls need of a server: TURN credentials and the places where group calls meet.

use std::sync::Arc;

use axum::Json;
use base64::Engine as _;
use hmac::{Hmac, Mac};
use http::Method;
use ruma::api::{auth_scheme::AccessToken, client::voip::get_turn_server_info};
use serde_json::{Value, json};
use sha1::Sha1;

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::Node;

const TRANSPORTS: &[&str] = &["/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"];

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<get_turn_server_info::v3::Request, _, _, _>(get_turn_server_info).add_raw_at::<AccessToken, _, _, _>(
        &Method::GET,
        TRANSPORTS,
        get_rtc_transports,
    )
}

/// `GET /_matrix/client/v3/voip/turnServer`
async fn get_turn_server_info(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    // Without a TURN server clients try without one; an empty object is how servers say so.
    let Some(turn) = &node.config.turn else { return Ok(Json(json!({}))) };
    let expires_s = node.clock.now_ms() / 1000 + turn.ttl_s;
    let username = format!("{expires_s}:{}", call.who.user_id);
    let mut mac = Hmac::<Sha1>::new_from_slice(turn.secret.expose().as_bytes()).map_err(ApiError::internal)?;
    mac.update(username.as_bytes());
    let password = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    Ok(Json(json!({ "username": username, "password": password, "uris": turn.uris, "ttl": turn.ttl_s })))
}

/// The transports as they are told: the authorisation services of LiveKit servers (MSC4195).
pub(super) fn transports(node: &Node) -> Vec<Value> {
    node.config.livekit_urls.iter().map(|url| json!({ "type": "livekit", "livekit_service_url": url })).collect()
}

/// `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports`
async fn get_rtc_transports(node: Arc<Node>, _: RawCall) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "rtc_transports": transports(&node) })))
}
