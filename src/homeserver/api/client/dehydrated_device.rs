//! Dehydrated devices (MSC3814): a device that exists only as encrypted data, receives keys, and is read once.

use std::sync::Arc;

use axum::Json;
use http::Method;
use ruma::{OwnedDeviceId, api::auth_scheme::AccessToken};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    keys::{optional, required},
};
use crate::homeserver::{
    Node,
    store::{StoreError, dehydrated, devices, sync_user},
    types::{Requester, StreamPos, Token},
    users::{
        cross_signing,
        keys::{self, KeyError, Upload},
    },
};

/// Largest data of a device.
const DATA_BYTES: usize = 256 * 1024;
/// Longest device ID.
const DEVICE_ID_BYTES: usize = 255;
/// Messages of one page.
const PAGE: usize = 100;

const DEVICE: &[&str] = &["/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"];
const EVENTS: &[&str] = &["/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events"];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, DEVICE, get_dehydrated_device)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, DEVICE, put_dehydrated_device)
        .add_raw_at::<AccessToken, _, _, _>(&Method::DELETE, DEVICE, delete_dehydrated_device)
        .add_raw_at::<AccessToken, _, _, _>(&Method::POST, EVENTS, get_events)
}

fn none() -> ApiError {
    ApiError::not_found("There is no dehydrated device")
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn get_dehydrated_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let (device_id, data) = node.store.read(move |db| dehydrated::get(db, user)).await?.ok_or_else(none)?;
    let data: Value = serde_json::from_str(&data).map_err(ApiError::internal)?;
    Ok(Json(json!({ "device_id": device_id, "device_data": data })))
}

/// Why it was not set.
enum Refused {
    InUse,
    IsKey,
    Key(KeyError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn put_dehydrated_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let device_id: String = required(&body, "device_id")?;
    if device_id.is_empty() || device_id.len() > DEVICE_ID_BYTES {
        return Err(ApiError::invalid_param("`device_id` is empty or too long"));
    }
    let data = Value::Object(required::<Map<String, Value>>(&body, "device_data")?).to_string();
    if data.len() > DATA_BYTES {
        return Err(ApiError::too_large("`device_data` is too large"));
    }
    let name: Option<String> = optional(&body, "initial_device_display_name")?;
    if name.as_ref().is_some_and(|name| name.len() > DEVICE_ID_BYTES) {
        return Err(ApiError::invalid_param("`initial_device_display_name` is too long"));
    }
    let upload = Upload {
        device_keys: Some(required(&body, "device_keys")?),
        one_time_keys: optional(&body, "one_time_keys")?.unwrap_or_default(),
        fallback_keys: optional(&body, "fallback_keys")?.unwrap_or_default(),
    };
    let now_ms = i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX);
    let who = Requester { device_id: OwnedDeviceId::from(device_id.clone()), ..call.who };
    let user = who.user;
    let set = node.store.write(move |tx| {
        let old = dehydrated::get(&tx.reader(), who.user)?.map(|(old, _)| OwnedDeviceId::from(old));
        // A device that somebody is signed in on is no place for this.
        if old.as_ref() != Some(&who.device_id) && devices::get(&tx.reader(), who.user, &who.device_id)?.is_some() {
            return Err(Refused::InUse);
        }
        if cross_signing::is_key(&tx.reader(), who.user, &who.device_id)? {
            return Err(Refused::IsKey);
        }
        if let Some(old) = old {
            keys::delete_devices(tx, who.user, &[old])?;
        }
        devices::ensure(tx, who.user, &who.device_id, name.as_deref(), now_ms, None)?;
        keys::upload(tx, &who, &upload)?;
        dehydrated::put(tx, who.user, who.device_id.as_str(), &data)?;
        Ok(())
    });
    let set = set.await;
    // Somebody may have signed in on the device that was deleted.
    node.accounts.forget_tokens(user);
    match set {
        Ok(()) => Ok(Json(json!({ "device_id": device_id }))),
        Err(Refused::IsKey) => Err(ApiError::invalid_param("The device's ID is one of the user's cross-signing keys")),
        Err(Refused::InUse) => Err(ApiError::invalid_param("There is a device of this ID")),
        Err(Refused::Key(error)) => Err(error.into()),
    }
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
async fn delete_dehydrated_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let gone = node.store.write(move |tx| {
        let Some((device_id, _)) = dehydrated::get(&tx.reader(), user)? else { return Ok(None) };
        keys::delete_devices(tx, user, &[OwnedDeviceId::from(device_id.clone())])?;
        Ok::<_, StoreError>(Some(device_id))
    });
    let gone = gone.await?.ok_or_else(none)?;
    node.accounts.forget_tokens(user);
    Ok(Json(json!({ "device_id": gone })))
}

/// `POST /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events`
///
/// Nothing is acknowledged: who is interrupted begins again, and the messages go when the device does.
async fn get_events(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let from = match optional::<String>(&body, "next_batch")? {
        None => StreamPos(0),
        Some(text) => text.parse::<Token>().map_err(|_| ApiError::invalid_param("`next_batch` is not a token of this server"))?.0,
    };
    let (user, asked) = (call.who.user, call.segment(0)?.to_owned());
    let page = node.store.read(move |db| {
        if dehydrated::get(db, user)?.is_none_or(|(device_id, _)| device_id != asked) {
            return Ok(None);
        }
        let device = OwnedDeviceId::from(asked);
        sync_user::to_device(db, user, &device, from, StreamPos(i64::MAX), PAGE).map(Some)
    });
    let Some(page) = page.await? else { return Err(ApiError::forbidden("This is not the dehydrated device")) };
    let next = page.last().map_or(from, |last| last.pos);
    let mut events = Vec::new();
    for message in page {
        let content: Value = serde_json::from_str(&message.content).map_err(ApiError::internal)?;
        events.push(json!({ "sender": message.sender, "type": message.kind, "content": content }));
    }
    Ok(Json(json!({ "events": events, "next_batch": Token(next).to_string() })))
}
