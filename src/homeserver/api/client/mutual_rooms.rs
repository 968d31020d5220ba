//! Rooms that two users have in common (Client-Server API, "Mutual Rooms"; MSC2666).

use std::{collections::BTreeSet, sync::Arc};

use axum::Json;
use http::Method;
use ruma::{UserId, api::auth_scheme::AccessToken};
use serde_json::{Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    store::{StoreError, members, users},
    users::limits::{Key, Kind},
};

/// Rooms of one page.
const PAGE: usize = 100;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw_at::<AccessToken, _, _, _>(
        &Method::GET,
        &["/_matrix/client/v1/mutual_rooms", "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"],
        get_mutual_rooms,
    )
}

/// `GET /_matrix/client/v1/mutual_rooms`
async fn get_mutual_rooms(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    node.limits.check(Kind::Search, Key::User(call.who.user)).map_err(ApiError::limit_exceeded)?;
    let mut asked = call.query.iter().filter(|(name, _)| name == "user_id").map(|(_, value)| value.as_str());
    let other = asked.next().ok_or_else(|| ApiError::missing_param("`user_id` is missing"))?;
    if asked.next().is_some() {
        return Err(ApiError::invalid_param("`user_id` is there twice"));
    }
    let other = UserId::parse(other).map_err(|_| ApiError::invalid_param("`user_id` is not a user ID"))?;
    if other == call.who.user_id {
        return Err(ApiError::invalid_param("One has all rooms in common with oneself"));
    }
    // The page begins after this room. The stable form calls it `from`, the unstable one `batch_token`.
    let from = call.parameter("from").or_else(|| call.parameter("batch_token")).map(ToOwned::to_owned);
    if from.as_ref().is_some_and(|from| !from.starts_with('!')) {
        return Err(ApiError::invalid_param("This is not a token of this server"));
    }
    let user = call.who.user;
    let common = node.store.read(move |db| {
        let Some(other) = users::find(db, &other)? else { return Ok(BTreeSet::new()) };
        let own: BTreeSet<_> = members::joined_rooms(db, user)?.into_iter().collect();
        let theirs: BTreeSet<_> = members::joined_rooms(db, other)?.into_iter().collect();
        Ok::<_, StoreError>(own.intersection(&theirs).map(ToString::to_string).collect::<BTreeSet<_>>())
    });
    let common = common.await?;
    let mut page: Vec<&String> = common.iter().filter(|room| from.as_ref().is_none_or(|from| *room > from)).take(PAGE + 1).collect();
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    let mut answer = json!({ "joined": page, "count": common.len() });
    if let (true, Some(last), Some(answer)) = (more, page.last(), answer.as_object_mut()) {
        answer.insert("next_batch".into(), last.as_str().into());
        answer.insert("next_batch_token".into(), last.as_str().into());
    }
    Ok(Json(answer))
}
