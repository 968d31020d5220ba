//! Simplified sliding sync (MSC4186): the deployed form and the accepted one.

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::api::{auth_scheme::AccessToken, client::sync::sync_events::v5};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    sync::{
        presence,
        sliding::{self, Context, Malformed, Request},
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<v5::Request, _, _, _>(sync_unstable).add_raw_at::<AccessToken, _, _, _>(
        &Method::POST,
        &["/_matrix/client/v4/sync"],
        sync_events,
    )
}

impl From<Malformed> for ApiError {
    fn from(error: Malformed) -> Self {
        let message = error.to_string();
        match error {
            Malformed::Json(_) if message.starts_with("missing field") => Self::missing_param(message),
            Malformed::Json(_) => Self::bad_json(message),
            Malformed::Invalid(_) => Self::invalid_param(message),
        }
    }
}

async fn answer(node: &Arc<Node>, call: RawCall, request: Request) -> ApiResult<sliding::Response> {
    let _here = presence::arrive(node, &call.who, request.presence.clone()).await?;
    Ok(sliding::sync(node, call.who, request).await?)
}

fn context(call: &mut RawCall) -> Context {
    Context { user_id: call.who.user_id.clone(), query: std::mem::take(&mut call.query) }
}

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
async fn sync_unstable(node: Arc<Node>, mut call: RawCall) -> ApiResult<Json<sliding::Response>> {
    let request = sliding::unstable::read(call.object()?, &context(&mut call))?;
    Ok(Json(answer(&node, call, request).await?))
}

/// `POST /_matrix/client/v4/sync`
async fn sync_events(node: Arc<Node>, mut call: RawCall) -> ApiResult<Json<sliding::v4::Response>> {
    let request = sliding::v4::read(call.object()?, &context(&mut call))?;
    Ok(Json(answer(&node, call, request).await?.into()))
}
