//! Resolving server names: where this one is, for those who ask at its domain.

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::api::auth_scheme::NoAuthentication;
use serde_json::{Value, json};

use crate::homeserver::{
    Node,
    api::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &["/.well-known/matrix/server"], get_well_known)
}

/// `GET /.well-known/matrix/server`
async fn get_well_known(node: Arc<Node>, _: RawCall<()>) -> ApiResult<Json<Value>> {
    match &node.config.federation.delegate {
        Some(place) => Ok(Json(json!({ "m.server": place }))),
        None => Err(ApiError::not_found("This server is where its name says")),
    }
}
