//! Third-party networks: what application services know of people and places there.

use std::sync::Arc;

use axum::Json;
use ruma::api::client::thirdparty::{
    get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols, get_user_for_protocol, get_user_for_user_id,
};
use serde_json::Value;

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{Node, appservice::query};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_protocols::v3::Request, _, _, _>(get_protocols)
        .add_raw::<get_protocol::v3::Request, _, _, _>(get_protocol)
        .add_raw::<get_location_for_protocol::v3::Request, _, _, _>(get_location_for_protocol)
        .add_raw::<get_user_for_protocol::v3::Request, _, _, _>(get_user_for_protocol)
        .add_raw::<get_location_for_room_alias::v3::Request, _, _, _>(get_location_for_room_alias)
        .add_raw::<get_user_for_user_id::v3::Request, _, _, _>(get_user_for_user_id)
}

/// `GET /_matrix/client/v3/thirdparty/protocols`
async fn get_protocols(node: Arc<Node>, _: RawCall) -> ApiResult<Json<Value>> {
    Ok(Json(query::protocols(&node.appservices).await.into()))
}

/// `GET /_matrix/client/v3/thirdparty/protocol/{protocol}`
async fn get_protocol(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let found = query::protocol(&node.appservices, call.segment(0)?).await;
    found.map(Json).ok_or_else(|| ApiError::not_found("No application service here knows this protocol"))
}

/// What identifies somebody or something there: the query, without what is between the client and us.
fn fields(call: &RawCall) -> Vec<(String, String)> {
    let ours = ["access_token", "user_id", "device_id", "org.matrix.msc3202.device_id"];
    call.query.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned().collect()
}

async fn by_protocol(node: &Node, kind: &str, call: &RawCall) -> ApiResult<Json<Value>> {
    let found = query::lookup(&node.appservices, kind, Some(call.segment(0)?), &fields(call)).await;
    if found.is_empty() { Err(ApiError::not_found("Nothing was found there")) } else { Ok(Json(found.into())) }
}

/// `GET /_matrix/client/v3/thirdparty/location/{protocol}`
async fn get_location_for_protocol(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    by_protocol(&node, "location", &call).await
}

/// `GET /_matrix/client/v3/thirdparty/user/{protocol}`
async fn get_user_for_protocol(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    by_protocol(&node, "user", &call).await
}

async fn backwards(node: &Node, kind: &str, parameter: &str, call: &RawCall) -> ApiResult<Json<Value>> {
    let value = call.parameter(parameter).ok_or_else(|| ApiError::missing_param(format!("`{parameter}` is missing")))?;
    let asked = [(parameter.to_owned(), value.to_owned())];
    let found = query::lookup(&node.appservices, kind, None, &asked).await;
    if found.is_empty() { Err(ApiError::not_found("Nothing was found there")) } else { Ok(Json(found.into())) }
}

/// `GET /_matrix/client/v3/thirdparty/location`
async fn get_location_for_room_alias(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    backwards(&node, "location", "alias", &call).await
}

/// `GET /_matrix/client/v3/thirdparty/user`
async fn get_user_for_user_id(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    backwards(&node, "user", "userid", &call).await
}
