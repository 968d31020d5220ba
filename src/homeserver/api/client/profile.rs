//! Profiles: what users say about themselves.

use std::sync::Arc;

use axum::Json;
use http::{Method, StatusCode};
use ruma::{
    OwnedUserId, UserId,
    api::{
        auth_scheme::{AccessToken, NoAccessToken},
        client::profile::get_profile,
    },
};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    appservice::query,
    events::{Ctx, rounds},
    federation::lookup,
    store::{self, StoreError},
    sync::presence,
    types::UserNid,
    users::limits::{Key, Kind},
};

/// Largest profile, as canonical JSON (Client-Server API, "Profiles").
const PROFILE_BYTES: usize = 65_536;
/// Longest name of a field.
const FIELD_BYTES: usize = 255;
/// Longest display name and avatar URL: they go into every membership event.
const SHOWN_BYTES: usize = 1000;

/// Paths of one field. The unstable one is MSC4133's.
const FIELD: &[&str] = &[
    "/_matrix/client/r0/profile/{user_id}/{field}",
    "/_matrix/client/v3/profile/{user_id}/{field}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}",
];

/// The whole profile under MSC4133's name.
const UNSTABLE_PROFILE: &[&str] = &["/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}"];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_profile::v3::Request, _, _, _>(get_profile)
        .add_raw_at::<NoAccessToken, _, _, _>(&Method::GET, UNSTABLE_PROFILE, get_profile)
        .add_raw_at::<NoAccessToken, _, _, _>(&Method::GET, FIELD, get_profile_field)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, FIELD, set_profile_field)
        .add_raw_at::<AccessToken, _, _, _>(&Method::DELETE, FIELD, delete_profile_field)
}

/// A user's profile: of ours from the store, of others from their server, and from their rooms where that does not answer.
async fn profile(node: &Node, call: &RawCall<()>, field: Option<&str>) -> ApiResult<Map<String, Value>> {
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    if user_id.server_name() == node.config.server_name {
        query::user(node, &user_id).await?;
        let found = node.store.read(move |db| match store::accounts::active(db, &user_id)? {
            Some(user) => store::profiles::all(db, user).map(Some),
            None => Ok(None),
        });
        return found.await?.ok_or_else(|| ApiError::not_found("There is no such user here"));
    }
    // Anybody may ask, and each question makes us ask another server.
    if let Some(address) = call.address {
        node.limits.check(Kind::Profile, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    match lookup::profile(node, &user_id, field).await {
        Ok(profile) => Ok(profile),
        Err(error) if error.errcode() == Some("M_NOT_FOUND") => Err(ApiError::not_found("There is no such user")),
        Err(error) => match lookup::profile_in_rooms(node, &user_id).await? {
            Some(profile) => Ok(profile),
            None => Err(error.into()),
        },
    }
}

/// `GET /_matrix/client/v3/profile/{userId}`
async fn get_profile(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    Ok(Json(profile(&node, &call, None).await?.into()))
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
async fn get_profile_field(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    let field = call.segment(1)?;
    let value = profile(&node, &call, Some(field)).await?.remove(field);
    match value {
        Some(value) => Ok(Json(json!({ field: value }))),
        None => Err(ApiError::not_found("The profile has no such field")),
    }
}

/// The user whose profile may be changed: one's own.
fn own(call: &RawCall) -> ApiResult<(OwnedUserId, String)> {
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    if user_id != call.who.user_id {
        return Err(ApiError::forbidden("A profile is changed by its user only"));
    }
    let field = call.segment(1)?;
    if field.len() > FIELD_BYTES {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_KEY_TOO_LARGE", "The field's name is longer than 255 bytes"));
    }
    if !is_namespaced_identifier(field) {
        return Err(ApiError::invalid_param("This is no name for a profile field"));
    }
    Ok((user_id, field.to_owned()))
}

/// Appendices, "Common Namespaced Identifier Grammar".
fn is_namespaced_identifier(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
async fn set_profile_field(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, field) = own(&call)?;
    let mut body = call.object()?;
    let value = body.remove(&field).ok_or_else(|| ApiError::missing_param(format!("`{field}` is missing")))?;
    let value = match field.as_str() {
        "displayname" | "avatar_url" => match shown(&field, value)? {
            Some(value) => value,
            None => return change(node, &call, field, None).await,
        },
        _ => value,
    };
    change(node, &call, field, Some(value)).await
}

/// Checks a display name or an avatar. An empty one is none.
fn shown(field: &str, value: Value) -> ApiResult<Option<Value>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) if text.len() > SHOWN_BYTES => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "M_PROFILE_TOO_LARGE", format!("`{field}` is longer than {SHOWN_BYTES} bytes")))
        }
        Value::String(text) => Ok(Some(text.into())),
        _ => Err(ApiError::bad_json(format!("`{field}` is not a string"))),
    }
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
async fn delete_profile_field(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (_, field) = own(&call)?;
    change(node, &call, field, None).await
}

async fn change(node: Arc<Node>, call: &RawCall, field: String, value: Option<Value>) -> ApiResult<Json<Value>> {
    change_of(&node, call.who.user, &call.who.user_id, field, value).await?;
    Ok(Json(json!({})))
}

/// Changes a display name on behalf of its user; an empty one is none.
pub(super) async fn set_displayname(node: &Node, user: UserNid, user_id: &UserId, name: &str) -> ApiResult<()> {
    let value = shown("displayname", name.into())?;
    change_of(node, user, user_id, "displayname".to_owned(), value).await
}

async fn change_of(node: &Node, user: UserNid, user_id: &UserId, field: String, value: Option<Value>) -> ApiResult<()> {
    let shown_in_rooms = matches!(field.as_str(), "displayname" | "avatar_url");
    node.store
        .write(move |tx| {
            if store::accounts::is_suspended(&tx.reader(), user)? {
                return Err(ApiError::user_suspended());
            }
            store_field(tx, user, &field, value.as_ref())
        })
        .await?;
    if shown_in_rooms {
        rounds::show_profile(&node.store, &Ctx::of(node), user, user_id.to_owned()).await?;
        presence::renamed(node, user).await?;
    }
    Ok(())
}

fn store_field(tx: &mut store::Tx<'_>, user: UserNid, field: &str, value: Option<&Value>) -> ApiResult<()> {
    match value {
        Some(value) => store::profiles::set(tx, user, field, value)?,
        None => store::profiles::delete(tx, user, field)?,
    }
    let whole = Value::Object(store::profiles::all(&tx.reader(), user)?);
    if whole.to_string().len() > PROFILE_BYTES {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_PROFILE_TOO_LARGE", "The profile would be larger than 64 KiB"));
    }
    Ok::<_, StoreError>(()).map_err(ApiError::from)
}
