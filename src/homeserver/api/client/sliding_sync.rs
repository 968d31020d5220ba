//! Simplified sliding sync (MSC4186, unstable form).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::Json;
use ruma::{
    OwnedRoomId,
    api::client::sync::sync_events::v5::{self, request},
    presence::PresenceState,
};
use serde::Deserialize;

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    sync::{presence, sliding},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<v5::Request, _, _, _>(sync_events)
}

/// The body. ruma's response type lacks fields that clients read, so neither type is used whole.
#[derive(Debug, Default, Deserialize)]
struct Body {
    conn_id: Option<String>,
    txn_id: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, request::List>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, request::RoomSubscription>,
    #[serde(default)]
    extensions: request::Extensions,
}

fn refused(error: serde_json::Error) -> ApiError {
    let message = error.to_string();
    if message.starts_with("missing field") { ApiError::missing_param(message) } else { ApiError::bad_json(message) }
}

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
async fn sync_events(node: Arc<Node>, call: RawCall) -> ApiResult<Json<sliding::Response>> {
    let body: Body = serde_json::from_value(call.object()?.into()).map_err(refused)?;
    let find = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut request = v5::Request::new();
    request.pos = find("pos").map(str::to_owned);
    if let Some(timeout) = find("timeout") {
        let ms = timeout.parse().map_err(|_| ApiError::invalid_param("`timeout` is not a number of milliseconds"))?;
        request.timeout = Some(Duration::from_millis(ms));
    }
    let state = find("set_presence").map_or(PresenceState::Online, PresenceState::from);
    request.conn_id = body.conn_id;
    request.txn_id = body.txn_id;
    request.lists = body.lists;
    request.room_subscriptions = body.room_subscriptions;
    request.extensions = body.extensions;
    let _here = presence::arrive(&node, &call.who, state).await?;
    Ok(Json(sliding::sync(&node, call.who, request).await?))
}
