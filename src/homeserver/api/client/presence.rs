//! Presence.

use std::{sync::Arc, time::Duration};

use ruma::{
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};

use super::{
    super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    account_data::own,
    not_suspended,
};
use crate::homeserver::{
    Node,
    store::{StoreError, device_lists, users},
    sync::presence,
};

/// Longest status message.
const STATUS_BYTES: usize = 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<get_presence::v3::Request, _, _>(get_presence).add::<set_presence::v3::Request, _, _>(set_presence)
}

/// `GET /_matrix/client/v3/presence/{userId}/status`
async fn get_presence(node: Arc<Node>, call: Call<get_presence::v3::Request>) -> ApiResult<get_presence::v3::Response> {
    let (user_id, asker) = (call.request.user_id, call.who.user);
    let found = node.store.read(move |db| {
        let Some(user) = users::find(db, &user_id)? else { return Ok::<_, StoreError>(None) };
        Ok(device_lists::share_a_room(db, asker, user)?.then_some(user))
    });
    let user = found.await?.ok_or_else(|| ApiError::forbidden("You may not see this user's presence"))?;
    let Some(known) = node.sync.live.presence(user) else { return Ok(get_presence::v3::Response::new(PresenceState::Offline)) };
    let mut response = get_presence::v3::Response::new(known.state.clone());
    response.currently_active = (known.state == PresenceState::Online).then_some(true);
    response.last_active_ago = Some(Duration::from_millis(node.clock.now_ms().saturating_sub(known.last_active_ms)));
    response.status_msg = known.status_msg;
    Ok(response)
}

/// `PUT /_matrix/client/v3/presence/{userId}/status`
async fn set_presence(node: Arc<Node>, call: Call<set_presence::v3::Request>) -> ApiResult<set_presence::v3::Response> {
    own(&call.who, call.request.user_id.as_str())?;
    let state = call.request.presence;
    if !matches!(state, PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline) {
        return Err(ApiError::invalid_param("Unknown presence"));
    }
    if call.request.status_msg.as_ref().is_some_and(|message| message.len() > STATUS_BYTES) {
        return Err(ApiError::invalid_param("The status message is too long"));
    }
    if call.request.status_msg.as_ref().is_some_and(|message| !message.is_empty()) {
        not_suspended(&node, &call.who).await?;
    }
    presence::set(&node, &call.who, state, call.request.status_msg.filter(|message| !message.is_empty())).await?;
    Ok(set_presence::v3::Response::new())
}
