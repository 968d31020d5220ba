//! Client config: account data, global and by room, and room tags.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::{
    OwnedRoomId, UserId,
    api::client::{
        config::{get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data},
        tag::{create_tag, delete_tag, get_tags},
    },
};
use serde_json::{Map, Value, json, value::RawValue};

use super::super::{
    call::{Call, RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node, push,
    store::{Reader, StoreError, Tx, account_data, rooms},
    types::{Requester, RoomNid},
};

/// Largest content of one piece of account data.
const CONTENT_BYTES: usize = 1024 * 1024;
/// Longest type, and longest tag.
const NAME_BYTES: usize = 255;
/// Types that have an interface of their own.
const NOT_DIRECTLY: [&str; 2] = [push::RULES, push::reading::FULLY_READ];
const TAGS: &str = "m.tag";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_global_account_data::v3::Request, _, _, _>(get_global_account_data)
        .add_raw::<set_global_account_data::v3::Request, _, _, _>(set_global_account_data)
        .add_raw::<get_room_account_data::v3::Request, _, _, _>(get_room_account_data)
        .add_raw::<set_room_account_data::v3::Request, _, _, _>(set_room_account_data)
        .add_raw::<get_tags::v3::Request, _, _, _>(get_tags)
        .add_raw::<create_tag::v3::Request, _, _, _>(create_tag)
        .add::<delete_tag::v3::Request, _, _>(delete_tag)
}

/// Everybody has only their own.
pub(super) fn own(who: &Requester, user_id: &str) -> ApiResult<()> {
    let user_id = UserId::parse(user_id).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    if user_id == who.user_id { Ok(()) } else { Err(ApiError::forbidden("This belongs to another user")) }
}

/// The parts of a path, which the router has matched.
fn part(path: &[String], index: usize) -> &str {
    path.get(index).map(String::as_str).unwrap_or_default()
}

fn room_id(path: &[String]) -> ApiResult<OwnedRoomId> {
    OwnedRoomId::try_from(part(path, 1)).map_err(|_| ApiError::invalid_param("Not a room ID"))
}

fn no_room() -> ApiError {
    ApiError::not_found("No such room")
}

/// Runs a query about one room that the node knows.
async fn in_room<T, F>(node: &Node, room_id: OwnedRoomId, query: F) -> ApiResult<T>
where
    T: Send + 'static,
    F: FnOnce(&Reader<'_>, RoomNid) -> Result<T, StoreError> + Send + 'static,
{
    let found = node.store.read(move |db| match rooms::by_id(db, &room_id)? {
        Some(room) => query(db, room.nid).map(Some),
        None => Ok::<_, StoreError>(None),
    });
    found.await?.ok_or_else(no_room)
}

/// Runs a job about one room that the node knows.
async fn change_in_room<F>(node: &Node, room_id: OwnedRoomId, job: F) -> ApiResult<Json<Value>>
where
    F: FnOnce(&mut Tx<'_>, RoomNid) -> Result<(), StoreError> + Send + 'static,
{
    let done = node.store.write(move |tx| match rooms::by_id(&tx.reader(), &room_id)? {
        Some(room) => job(tx, room.nid).map(Some),
        None => Ok::<_, StoreError>(None),
    });
    done.await?.ok_or_else(no_room)?;
    Ok(Json(json!({})))
}

fn content(call: &RawCall, kind: &str) -> ApiResult<String> {
    if NOT_DIRECTLY.contains(&kind) {
        let why = format!("{kind} cannot be set through this interface");
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", why));
    }
    if kind.is_empty() || kind.len() > NAME_BYTES {
        return Err(ApiError::invalid_param("The type is empty or too long"));
    }
    if call.body.len() > CONTENT_BYTES {
        return Err(ApiError::too_large("The content is too large"));
    }
    Ok(Value::Object(call.object()?).to_string())
}

fn found(content: Option<String>) -> ApiResult<Json<Box<RawValue>>> {
    let content = content.ok_or_else(|| ApiError::not_found("No such account data"))?;
    RawValue::from_string(content).map(Json).map_err(ApiError::internal)
}

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
async fn get_global_account_data(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Box<RawValue>>> {
    own(&call.who, part(&call.path, 0))?;
    let (who, kind) = (call.who, part(&call.path, 1).to_owned());
    let content = node.store.read(move |db| {
        if kind == push::RULES {
            return push::content(push::rules(db, who.user, &who.user_id)?).map(Some);
        }
        account_data::get(db, who.user, None, &kind)
    });
    found(content.await?)
}

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
async fn set_global_account_data(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, part(&call.path, 0))?;
    let kind = part(&call.path, 1).to_owned();
    let content = content(&call, &kind)?;
    let user = call.who.user;
    node.store.write(move |tx| account_data::set(tx, user, None, &kind, &content)).await?;
    Ok(Json(json!({})))
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn get_room_account_data(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Box<RawValue>>> {
    own(&call.who, part(&call.path, 0))?;
    let (user, kind) = (call.who.user, part(&call.path, 2).to_owned());
    found(in_room(&node, room_id(&call.path)?, move |db, room| account_data::get(db, user, Some(room), &kind)).await?)
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn set_room_account_data(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, part(&call.path, 0))?;
    let kind = part(&call.path, 2).to_owned();
    let content = content(&call, &kind)?;
    let user = call.who.user;
    change_in_room(&node, room_id(&call.path)?, move |tx, room| account_data::set(tx, user, Some(room), &kind, &content)).await
}

/// The tags in the content of `m.tag`; what clients have stored there may have any form.
fn tags(content: Option<String>) -> Map<String, Value> {
    let content = content.and_then(|content| serde_json::from_str::<Map<String, Value>>(&content).ok());
    match content.and_then(|mut content| content.remove("tags")) {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
async fn get_tags(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, part(&call.path, 0))?;
    let user = call.who.user;
    let content = in_room(&node, room_id(&call.path)?, move |db, room| account_data::get(db, user, Some(room), TAGS)).await?;
    Ok(Json(json!({ "tags": tags(content) })))
}

async fn change_tags(
    node: &Node,
    who: &Requester,
    room_id: OwnedRoomId,
    change: impl FnOnce(&mut Map<String, Value>) + Send + 'static,
) -> ApiResult<Json<Value>> {
    let user = who.user;
    change_in_room(node, room_id, move |tx, room| {
        let mut tags = tags(account_data::get(&tx.reader(), user, Some(room), TAGS)?);
        change(&mut tags);
        account_data::set(tx, user, Some(room), TAGS, &json!({ "tags": tags }).to_string())
    })
    .await
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn create_tag(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    own(&call.who, part(&call.path, 0))?;
    let (tag, info) = (part(&call.path, 2).to_owned(), call.object()?);
    if tag.is_empty() || tag.len() > NAME_BYTES || call.body.len() > CONTENT_BYTES {
        return Err(ApiError::invalid_param("The tag is empty or too long"));
    }
    if info.get("order").is_some_and(|order| !order.as_f64().is_some_and(|order| (0.0..=1.0).contains(&order))) {
        return Err(ApiError::invalid_param("`order` is not a number from 0 to 1"));
    }
    change_tags(&node, &call.who, room_id(&call.path)?, |tags| {
        tags.insert(tag, info.into());
    })
    .await
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn delete_tag(node: Arc<Node>, call: Call<delete_tag::v3::Request>) -> ApiResult<delete_tag::v3::Response> {
    own(&call.who, call.request.user_id.as_str())?;
    let tag = call.request.tag;
    let Json(_) = change_tags(&node, &call.who, call.request.room_id, move |tags| {
        tags.remove(&tag);
    })
    .await?;
    Ok(delete_tag::v3::Response::new())
}
