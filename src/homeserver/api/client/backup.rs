//! Server-side key backups.

use std::{collections::BTreeMap, sync::Arc};

use axum::Json;
use http::StatusCode;
use ruma::api::client::backup::{
    add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session, create_backup_version, delete_backup_keys,
    delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version, get_backup_info, get_backup_keys,
    get_backup_keys_for_room, get_backup_keys_for_session, get_latest_backup_info, update_backup_version,
};
use serde_json::{Map, Value, json};

use super::super::{
    call::{BODY_BYTES, RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    store::backup::{Session, Version, Which},
    users::backup::{self, BackupError, Rooms, State},
};

/// Clients upload many sessions at once when they start a backup.
const KEYS_BYTES: usize = 32 * 1024 * 1024;
/// Longest room and session ID.
const ID_BYTES: usize = 255;
/// Largest `auth_data`.
const AUTH_DATA_BYTES: usize = 64 * 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<create_backup_version::v3::Request, _, _, _>(create_backup_version)
        .add_raw::<get_latest_backup_info::v3::Request, _, _, _>(get_latest_backup_info)
        .add_raw::<get_backup_info::v3::Request, _, _, _>(get_backup_info)
        .add_raw::<update_backup_version::v3::Request, _, _, _>(update_backup_version)
        .add_raw::<delete_backup_version::v3::Request, _, _, _>(delete_backup_version)
        .add_raw::<get_backup_keys::v3::Request, _, _, _>(get_backup_keys)
        .add_raw::<get_backup_keys_for_room::v3::Request, _, _, _>(get_backup_keys_for_room)
        .add_raw::<get_backup_keys_for_session::v3::Request, _, _, _>(get_backup_keys_for_session)
        .add_raw::<delete_backup_keys::v3::Request, _, _, _>(delete)
        .add_raw::<delete_backup_keys_for_room::v3::Request, _, _, _>(delete)
        .add_raw::<delete_backup_keys_for_session::v3::Request, _, _, _>(delete)
        .body_limit(KEYS_BYTES)
        .add_raw::<add_backup_keys::v3::Request, _, _, _>(add_backup_keys)
        .add_raw::<add_backup_keys_for_room::v3::Request, _, _, _>(add_backup_keys_for_room)
        .add_raw::<add_backup_keys_for_session::v3::Request, _, _, _>(add_backup_keys_for_session)
        .body_limit(BODY_BYTES)
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::UnknownVersion => Self::not_found("There is no such backup"),
            BackupError::WrongVersion { current } => Self::new(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION", error.to_string())
                .field("current_version", current.to_string()),
            BackupError::AlgorithmChanged => Self::invalid_param(error.to_string()),
            BackupError::Invalid(message) => Self::bad_json(message),
            BackupError::Store(error) => error.into(),
        }
    }
}

/// A version's number. What is no number is no version of ours.
fn number(text: &str) -> ApiResult<i64> {
    text.parse().map_err(|_| BackupError::UnknownVersion.into())
}

fn version_parameter(call: &RawCall) -> ApiResult<i64> {
    number(call.parameter("version").ok_or_else(|| ApiError::missing_param("`version` is missing"))?)
}

fn algorithm(body: &mut Map<String, Value>) -> ApiResult<(String, Value)> {
    let algorithm =
        body.get("algorithm").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`algorithm` is missing"))?.to_owned();
    let auth_data = body.remove("auth_data").ok_or_else(|| ApiError::missing_param("`auth_data` is missing"))?;
    if !auth_data.is_object() || algorithm.len() > ID_BYTES {
        return Err(ApiError::bad_json("`auth_data` is not an object, or `algorithm` is too long"));
    }
    if auth_data.to_string().len() > AUTH_DATA_BYTES {
        return Err(ApiError::too_large("`auth_data` is too large"));
    }
    Ok((algorithm, auth_data))
}

/// `POST /_matrix/client/v3/room_keys/version`
async fn create_backup_version(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (algorithm, auth_data) = algorithm(&mut call.object()?)?;
    let user = call.who.user;
    let version = node.store.write(move |tx| crate::homeserver::store::backup::create(tx, user, &algorithm, &auth_data)).await?;
    Ok(Json(json!({ "version": version.to_string() })))
}

async fn info(node: &Node, call: &RawCall, wanted: Option<i64>) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let (version, count) = node
        .store
        .read(move |db| {
            let version = backup::version(db, user, wanted)?;
            let count = crate::homeserver::store::backup::count(db, user, version.version)?;
            Ok::<_, BackupError>((version, count))
        })
        .await?;
    let Version { version, algorithm, auth_data, etag } = version;
    Ok(Json(json!({
        "version": version.to_string(), "algorithm": algorithm, "auth_data": auth_data, "etag": etag.to_string(), "count": count,
    })))
}

/// `GET /_matrix/client/v3/room_keys/version`
async fn get_latest_backup_info(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    info(&node, &call, None).await
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
async fn get_backup_info(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    info(&node, &call, Some(number(call.segment(0)?)?)).await
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
async fn update_backup_version(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let version = number(call.segment(0)?)?;
    let mut body = call.object()?;
    let in_body = body.get("version").filter(|version| !version.is_null());
    if in_body.is_some_and(|in_body| in_body.as_str() != Some(version.to_string().as_str())) {
        return Err(ApiError::invalid_param("`version` in the body differs from the path"));
    }
    let (algorithm, auth_data) = algorithm(&mut body)?;
    let user = call.who.user;
    node.store.write(move |tx| backup::update(tx, user, version, &algorithm, &auth_data)).await?;
    Ok(Json(json!({})))
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
async fn delete_backup_version(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (user, version) = (call.who.user, number(call.segment(0)?)?);
    let deleted = node.store.write(move |tx| crate::homeserver::store::backup::delete(tx, user, version)).await?;
    if deleted { Ok(Json(json!({}))) } else { Err(BackupError::UnknownVersion.into()) }
}

/// Room and session of the path, as far as it names them.
fn which(call: &RawCall) -> ApiResult<Which> {
    if call.path.iter().any(|part| part.len() > ID_BYTES) {
        return Err(ApiError::invalid_param("An ID is too long"));
    }
    Ok(Which { room_id: call.path.first().cloned(), session_id: call.path.get(1).cloned() })
}

fn shown(session: Session) -> Value {
    json!({
        "first_message_index": session.first_message_index,
        "forwarded_count": session.forwarded_count,
        "is_verified": session.is_verified,
        "session_data": session.session_data,
    })
}

async fn sessions(node: &Node, call: &RawCall) -> ApiResult<Vec<(String, String, Session)>> {
    let (user, version, which) = (call.who.user, version_parameter(call)?, which(call)?);
    let found = node.store.read(move |db| {
        backup::version(db, user, Some(version))?;
        Ok::<_, BackupError>(crate::homeserver::store::backup::sessions(db, user, version, &which)?)
    });
    Ok(found.await?)
}

/// `GET /_matrix/client/v3/room_keys/keys`
async fn get_backup_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let mut rooms: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (room_id, session_id, session) in sessions(&node, &call).await? {
        rooms.entry(room_id).or_default().insert(session_id, shown(session));
    }
    let rooms = rooms.into_iter().map(|(room_id, sessions)| (room_id, json!({ "sessions": sessions }))).collect::<Map<_, _>>();
    Ok(Json(json!({ "rooms": rooms })))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
async fn get_backup_keys_for_room(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let sessions = sessions(&node, &call).await?.into_iter().map(|(_, id, session)| (id, shown(session))).collect::<Map<_, _>>();
    Ok(Json(json!({ "sessions": sessions })))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
async fn get_backup_keys_for_session(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let found = sessions(&node, &call).await?.pop();
    found.map(|(_, _, session)| Json(shown(session))).ok_or_else(|| ApiError::not_found("The backup has no such key"))
}

/// `DELETE /_matrix/client/v3/room_keys/keys`, `…/{roomId}`, `…/{roomId}/{sessionId}`
async fn delete(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let (user, version, which) = (call.who.user, version_parameter(&call)?, which(&call)?);
    Ok(changed(node.store.write(move |tx| backup::delete(tx, user, version, &which)).await?))
}

fn changed(state: State) -> Json<Value> {
    Json(json!({ "etag": state.etag.to_string(), "count": state.count }))
}

async fn put(node: &Node, call: &RawCall, rooms: Rooms) -> ApiResult<Json<Value>> {
    if rooms.iter().any(|(room, sessions)| room.len() > ID_BYTES || sessions.keys().any(|id| id.len() > ID_BYTES)) {
        return Err(ApiError::invalid_param("An ID is too long"));
    }
    let (user, version) = (call.who.user, version_parameter(call)?);
    Ok(changed(node.store.write(move |tx| backup::put(tx, user, version, &rooms)).await?))
}

/// The `sessions` of a room.
fn read_sessions(object: &Value) -> ApiResult<BTreeMap<String, Session>> {
    let sessions = object.get("sessions").and_then(Value::as_object).ok_or_else(|| ApiError::bad_json("`sessions` is not an object"))?;
    sessions.iter().map(|(id, json)| Ok((id.clone(), backup::session(json)?))).collect()
}

/// `PUT /_matrix/client/v3/room_keys/keys`
async fn add_backup_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let rooms = body.get("rooms").and_then(Value::as_object).ok_or_else(|| ApiError::bad_json("`rooms` is not an object"))?;
    let rooms = rooms.iter().map(|(room_id, room)| Ok((room_id.clone(), read_sessions(room)?))).collect::<ApiResult<Rooms>>()?;
    put(&node, &call, rooms).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
async fn add_backup_keys_for_room(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let sessions = read_sessions(&Value::Object(call.object()?))?;
    put(&node, &call, Rooms::from([(call.segment(0)?.to_owned(), sessions)])).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
async fn add_backup_keys_for_session(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let session = backup::session(&Value::Object(call.object()?))?;
    let sessions = BTreeMap::from([(call.segment(1)?.to_owned(), session)]);
    put(&node, &call, Rooms::from([(call.segment(0)?.to_owned(), sessions)])).await
}
