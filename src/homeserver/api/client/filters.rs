//! Filtering: filters that clients upload once and name in `/sync`.

use std::sync::Arc;

use axum::Json;
use ruma::api::client::filter::{FilterDefinition, create_filter, get_filter};
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    account_data::own,
};
use crate::homeserver::{Node, store::filters};

/// Largest filter.
const FILTER_BYTES: usize = 64 * 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<create_filter::v3::Request, _, _, _>(create_filter).add_raw::<get_filter::v3::Request, _, _, _>(get_filter)
}

/// `POST /_matrix/client/v3/user/{userId}/filter`
async fn create_filter(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, call.path.first().map(String::as_str).unwrap_or_default())?;
    if call.body.len() > FILTER_BYTES {
        return Err(ApiError::too_large("The filter is too large"));
    }
    let filter = Value::Object(call.object()?);
    if let Err(error) = serde_json::from_value::<FilterDefinition>(filter.clone()) {
        return Err(ApiError::bad_json(error.to_string()));
    }
    let (user, json) = (call.who.user, filter.to_string());
    let id = node.store.write(move |tx| filters::add(tx, user, &json)).await?;
    Ok(Json(json!({ "filter_id": id.to_string() })))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
async fn get_filter(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Box<RawValue>>> {
    own(&call.who, call.path.first().map(String::as_str).unwrap_or_default())?;
    let unknown = || ApiError::not_found("No such filter");
    let id: i64 = call.path.get(1).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
    let user = call.who.user;
    let json = node.store.read(move |db| filters::get(db, user, id)).await?.ok_or_else(unknown)?;
    RawValue::from_string(json).map(Json).map_err(ApiError::internal)
}
