//! Server discovery and capabilities negotiation.

use std::{collections::BTreeMap, sync::Arc};

use axum::Json;
use http::Method;
use ruma::api::{
    auth_scheme::NoAuthentication,
    client::discovery::{get_capabilities, get_supported_versions},
};
use serde_json::{Map, Value, json};

use super::super::{
    call::{Call, RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{Node, rooms::versions, types::Requester};

/// Versions of the specification that this node speaks. What is newer it may have all the same: `endpoints.txt` has every
/// endpoint.
const VERSIONS: &[&str] = &[
    "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13",
    "v1.14", "v1.15", "v1.16", "v1.17",
];

/// Unstable features that clients look for.
const FEATURES: &[&str] = &[
    "org.matrix.simplified_msc3575",
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    "org.matrix.msc3916.stable",
    "fi.mau.msc2246",
    "fi.mau.msc2659",
    "fi.mau.msc2659.stable",
    "org.matrix.msc3882",
    "org.matrix.msc4108",
    "uk.timedout.msc4323",
    "org.matrix.msc2432",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "org.matrix.msc3030",
    "org.matrix.msc3814",
    "org.matrix.msc4143",
    "org.matrix.msc4151",
    "org.matrix.msc4155",
    "org.matrix.msc4260",
    "org.matrix.msc4306",
    "org.matrix.msc4380",
];

/// What the setting for delayed events decides.
const DELAYED_EVENTS: &str = "org.matrix.msc4140";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_supported_versions::Request, _, _>(get_supported_versions)
        .add_raw::<get_capabilities::v3::Request, _, _, _>(get_capabilities)
        .add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &["/.well-known/matrix/client"], discover_homeserver)
        .add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &["/.well-known/matrix/support"], discover_support)
}

/// `GET /_matrix/client/v3/capabilities`
async fn get_capabilities(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    // Whoever has signed in by OAuth does these things on the account pages.
    let legacy = node.accounts.grant_of(&call.who).await?.is_none();
    let available = versions::SUPPORTED.iter().map(|version| (version.to_string(), "stable".into())).collect::<Map<_, _>>();
    let mut capabilities = json!({
        "capabilities": {
            "m.change_password": { "enabled": legacy },
            "m.room_versions": { "default": versions::DEFAULT, "available": available },
            "m.set_displayname": { "enabled": true },
            "m.set_avatar_url": { "enabled": true },
            "m.profile_fields": { "enabled": true },
            "uk.tcpip.msc4133.profile_fields": { "enabled": true },
            "m.3pid_changes": { "enabled": false },
            "m.get_login_token": { "enabled": legacy },
        }
    });
    if call.who.admin
        && let Some(object) = capabilities.get_mut("capabilities").and_then(Value::as_object_mut)
    {
        for name in ["m.account_moderation", "uk.timedout.msc4323"] {
            object.insert(name.into(), json!({ "suspend": true, "lock": true }));
        }
    }
    Ok(Json(capabilities))
}

/// `GET /.well-known/matrix/client`
async fn discover_homeserver(node: Arc<Node>, _: RawCall<()>) -> ApiResult<Json<Value>> {
    match &node.config.public_base_url {
        Some(url) => {
            let mut told = json!({ "m.homeserver": { "base_url": url } });
            let transports = super::calls::transports(&node);
            if let (false, Some(told)) = (transports.is_empty(), told.as_object_mut()) {
                // Where clients look that do not know of GET /rtc/transports (MSC4143).
                told.insert("org.matrix.msc4143.rtc_foci".into(), transports.into());
            }
            Ok(Json(told))
        }
        None => Err(ApiError::not_found("This server has no public address")),
    }
}

/// `GET /.well-known/matrix/support`
async fn discover_support(node: Arc<Node>, _: RawCall<()>) -> ApiResult<Json<Value>> {
    let mut told = Map::new();
    if let Some(email) = &node.config.support_email {
        told.insert("contacts".into(), json!([{ "email_address": email, "role": "m.role.admin" }]));
    }
    if let Some(page) = &node.config.support_page {
        told.insert("support_page".into(), page.as_str().into());
    }
    if told.is_empty() { Err(ApiError::not_found("This server names nobody to turn to")) } else { Ok(Json(told.into())) }
}

/// `GET /_matrix/client/versions`
async fn get_supported_versions(
    node: Arc<Node>,
    _: Call<get_supported_versions::Request, Option<Requester>>,
) -> ApiResult<get_supported_versions::Response> {
    let mut response = get_supported_versions::Response::new(VERSIONS.iter().map(ToString::to_string).collect());
    response.unstable_features = FEATURES.iter().map(|f| ((*f).to_owned(), true)).collect::<BTreeMap<_, _>>();
    response.unstable_features.insert(DELAYED_EVENTS.to_owned(), node.config.max_event_delay_ms > 0);
    Ok(response)
}
