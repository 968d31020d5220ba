//! Questions about single things: a profile, an alias (Server-Server API, "Querying for information").

use std::sync::Arc;

use axum::Json;
use ruma::{
    RoomAliasId, UserId,
    api::federation::query::{get_profile_information::v1 as get_profile_information, get_room_information::v1 as get_room_information},
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    call::Origin,
    may,
};
use crate::homeserver::{
    Node,
    appservice::query,
    store::{self, StoreError, servers},
    users::limits::Kind,
};

/// Servers that are named with an alias: enough to join through.
const SERVERS: usize = 50;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_profile_information::Request, _, _, _>(get_profile_information)
        .add_raw::<get_room_information::Request, _, _, _>(get_room_information)
}

/// `GET /_matrix/federation/v1/query/profile`
async fn get_profile_information(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    may(&node, Kind::People, &call.who)?;
    let user_id = call.parameter("user_id").ok_or_else(|| ApiError::missing_param("`user_id` is missing"))?;
    let user_id = UserId::parse(user_id).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    // Somebody of another server asks first for the user of a bridge that nobody here has met.
    query::user(&node, &user_id).await?;
    let found = node.store.read(move |db| match store::accounts::active(db, &user_id)? {
        Some(user) => store::profiles::all(db, user).map(Some),
        None => Ok::<_, StoreError>(None),
    });
    let mut profile = found.await?.ok_or_else(|| ApiError::not_found("There is no such user here"))?;
    if let Some(field) = call.parameter("field") {
        profile.retain(|name, _| name == field);
    }
    Ok(Json(profile.into()))
}

/// `GET /_matrix/federation/v1/query/directory`
async fn get_room_information(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    may(&node, Kind::People, &call.who)?;
    let alias = call.parameter("room_alias").ok_or_else(|| ApiError::missing_param("`room_alias` is missing"))?;
    let alias = RoomAliasId::parse(alias).map_err(|_| ApiError::invalid_param("Not a room alias"))?;
    query::alias(&node, &alias).await?;
    let ours = node.config.server_name.clone();
    let found = node.store.read(move |db| {
        let Some((room, _)) = store::aliases::get(db, &alias)? else { return Ok(None) };
        let mut known = servers::in_room(db, room)?;
        known.retain(|server| *server != ours);
        known.insert(0, ours);
        known.truncate(SERVERS);
        Ok::<_, StoreError>(Some((store::rooms::by_nid(db, room)?.room_id, known)))
    });
    let (room_id, known) = found.await?.ok_or_else(|| ApiError::not_found("There is no such alias here"))?;
    Ok(Json(json!({ "room_id": room_id, "servers": known })))
}
