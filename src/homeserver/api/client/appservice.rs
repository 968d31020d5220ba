//! What is for application services alone: asking whether they can be reached, and the directories of their networks.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::{
    RoomId,
    api::client::appservice::{request_ping, set_room_visibility},
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    login,
};
use crate::homeserver::{
    Node,
    appservice::{Service, http::HttpError, query},
    store::{self, StoreError},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<request_ping::v1::Request, _, _, _>(request_ping)
        .add_raw::<set_room_visibility::v3::Request, _, _, _>(set_room_visibility)
}

/// `POST /_matrix/client/v1/appservice/{appserviceId}/ping`
async fn request_ping(node: Arc<Node>, call: RawCall<Arc<Service>>) -> ApiResult<Json<Value>> {
    if call.segment(0)? != call.who.id {
        return Err(ApiError::forbidden("This is another application service"));
    }
    let body = call.object()?;
    let transaction_id = login::optional_text(&body, "transaction_id")?;
    let begin = std::time::Instant::now();
    let answer = query::ping(&node.appservices, &call.who, transaction_id.as_deref()).await;
    let answer = answer.map_err(|error| match error {
        HttpError::NoUrl => ApiError::new(StatusCode::BAD_REQUEST, "M_URL_NOT_SET", error.to_string()),
        HttpError::Timeout => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT", error.to_string()),
        HttpError::Failed(why) => ApiError::new(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", why),
    })?;
    if !answer.is_success() {
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let error = ApiError::new(StatusCode::BAD_GATEWAY, "M_BAD_STATUS", format!("The application service answered {}", answer.status));
        return Err(error.field("status", answer.status).field("body", said));
    }
    let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({ "duration_ms": took })))
}

/// `PUT /_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}`
async fn set_room_visibility(node: Arc<Node>, call: RawCall<Arc<Service>>) -> ApiResult<Json<Value>> {
    let (network, room_id) = (call.segment(0)?.to_owned(), call.segment(1)?);
    let room_id = RoomId::parse(room_id).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
    let listed = match login::optional_text(&call.object()?, "visibility")?.as_deref() {
        Some("public") => true,
        Some("private") => false,
        Some(_) => return Err(ApiError::invalid_param("`visibility` is neither `public` nor `private`")),
        None => return Err(ApiError::missing_param("`visibility` is missing")),
    };
    let id = call.who.id.clone();
    let known = node.store.write(move |tx| {
        let Some(room) = store::rooms::by_id(&tx.reader(), &room_id)? else { return Ok::<_, StoreError>(false) };
        store::appservices::set_listed(tx, &id, &network, room.nid, listed)?;
        Ok(true)
    });
    if known.await? { Ok(Json(json!({}))) } else { Err(ApiError::not_found("There is no such room")) }
}
