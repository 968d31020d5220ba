//! Syncing.

use std::{sync::Arc, time::Duration};

use axum::Json;
use http::StatusCode;
use ruma::{
    api::client::{filter::FilterDefinition, sync::sync_events::v3 as sync_events},
    presence::PresenceState,
};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    sync::{
        SyncError, presence,
        v3::{self, Params, StateForm},
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    // ruma's response drops an answer that has nothing but knocks in it, and knows no unstable names.
    routes.add_raw::<sync_events::Request, _, _, _>(sync_events)
}

/// `GET /_matrix/client/v3/sync`
async fn sync_events(node: Arc<Node>, call: RawCall) -> ApiResult<Json<v3::Response>> {
    let find = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let flag = |name: &str| match find(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::invalid_param(format!("`{name}` is neither true nor false"))),
    };
    let since = find("since").map(|since| since.parse().map_err(|_| ApiError::invalid_param("Unknown `since`"))).transpose()?;
    let timeout =
        find("timeout").map_or(Ok(0), str::parse).map_err(|_| ApiError::invalid_param("`timeout` is not a number of milliseconds"))?;
    let form = match (flag("use_state_after")?, flag("org.matrix.msc4222.use_state_after")?) {
        (true, _) => StateForm::After,
        (false, true) => StateForm::UnstableAfter,
        (false, false) => StateForm::Before,
    };
    let full_state = flag("full_state")?;
    let filter = match find("filter") {
        None => FilterDefinition::empty(),
        Some(json) if json.starts_with('{') => serde_json::from_str(json).map_err(|e| ApiError::invalid_param(format!("`filter`: {e}")))?,
        Some(id) => v3::stored_filter(&node, &call.who, id).await?.ok_or_else(|| ApiError::invalid_param("No such filter"))?,
    };
    let state = match find("set_presence") {
        None => PresenceState::Online,
        Some(state @ ("online" | "offline" | "unavailable")) => state.into(),
        Some(_) => return Err(ApiError::invalid_param("`set_presence` is none of online, offline, unavailable")),
    };
    let _here = presence::arrive(&node, &call.who, state).await?;
    let params = Params { who: call.who, since, filter, full_state, form, timeout: Duration::from_millis(timeout) };
    Ok(Json(v3::sync(&node, params).await?))
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::SignedOut => Self::unknown_token(false),
            SyncError::UnknownPos => {
                Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_POS", "The position is unknown or has expired: sync without one")
            }
            SyncError::Invalid(why) => Self::invalid_param(why),
            SyncError::Store(error) => error.into(),
        }
    }
}
