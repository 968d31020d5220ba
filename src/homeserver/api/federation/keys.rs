//! Publishing keys.

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::{CanonicalJsonObject, api::auth_scheme::NoAuthentication};

use crate::homeserver::{
    Node,
    api::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    // The second form, with a key's ID, is gone from the specification, but servers still ask for it.
    let paths = ["/_matrix/key/v2/server", "/_matrix/key/v2/server/{keyId}"];
    routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &paths, get_server_key)
}

/// `GET /_matrix/key/v2/server`
async fn get_server_key(node: Arc<Node>, _: RawCall<()>) -> ApiResult<Json<CanonicalJsonObject>> {
    node.federation.keys.published().map(Json).map_err(ApiError::internal)
}
