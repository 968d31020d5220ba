//! Device management.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::{
    OwnedDeviceId,
    api::client::device::{delete_device, delete_devices, get_device, get_devices, update_device},
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    login, uia,
};
use crate::homeserver::{
    Node,
    store::{self, devices::Device},
    users::uia::Stage,
};

/// Devices that one request may delete.
const AT_ONCE: usize = 10_000;
/// Longest ID and name of a device that an application service makes.
const NAME_BYTES: usize = 255;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_devices::v3::Request, _, _, _>(get_devices)
        .add_raw::<get_device::v3::Request, _, _, _>(get_device)
        .add_raw::<update_device::v3::Request, _, _, _>(update_device)
        .add_raw::<delete_device::v3::Request, _, _, _>(delete_device)
        .add_raw::<delete_devices::v3::Request, _, _, _>(delete_devices)
}

fn shown(device: Device) -> Value {
    let mut object = json!({ "device_id": device.device_id });
    let mut add = |field: &str, value: Option<Value>| {
        if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
            object.insert(field.into(), value);
        }
    };
    add("display_name", device.display_name.map(Value::from));
    add("last_seen_ts", device.last_seen_ms.map(Value::from));
    add("last_seen_ip", device.last_seen_ip.map(Value::from));
    object
}

fn no_such_device() -> ApiError {
    ApiError::not_found("There is no such device")
}

/// `GET /_matrix/client/v3/devices`
async fn get_devices(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let devices = node.store.read(move |db| store::devices::list(db, call.who.user)).await?;
    Ok(Json(json!({ "devices": devices.into_iter().map(shown).collect::<Vec<_>>() })))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
async fn get_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let device_id = OwnedDeviceId::from(call.segment(0)?);
    let device = node.store.read(move |db| store::devices::get(db, call.who.user, &device_id)).await?;
    device.map(|device| Json(shown(device))).ok_or_else(no_such_device)
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`; an application service makes devices of its users so.
async fn update_device(node: Arc<Node>, call: RawCall) -> ApiResult<(StatusCode, Json<Value>)> {
    let device_id = OwnedDeviceId::from(call.segment(0)?);
    let body = call.object()?;
    if call.who.application.is_some() {
        let name = login::optional_text(&body, "display_name")?;
        if device_id.as_str().is_empty()
            || device_id.as_str().len() > NAME_BYTES
            || name.as_ref().is_some_and(|name| name.len() > NAME_BYTES)
        {
            return Err(ApiError::invalid_param("The device's ID or name is empty or too long"));
        }
        let new = node.accounts.put_device(call.who.user, device_id, name).await?;
        return Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(json!({}))));
    }
    // A request without a name changes nothing, but still says whether there is such a device.
    let known = match login::optional_text(&body, "display_name")? {
        Some(name) => node.accounts.rename_device(call.who.user, &device_id, Some(name)).await?,
        None => node.store.read(move |db| store::devices::get(db, call.who.user, &device_id)).await?.is_some(),
    };
    if known { Ok((StatusCode::OK, Json(json!({})))) } else { Err(no_such_device()) }
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
async fn delete_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let device_id = call.segment(0)?.to_owned();
    // An application service needs no password of its users: they have none.
    if call.who.application.is_none() {
        uia::no_oauth(&node, &call.who).await?;
        let endpoint = format!("devices/{device_id}");
        uia::authenticate(&node, &endpoint, Some(&call.who), call.object()?, &[&[Stage::Password]]).await?;
    }
    node.accounts.delete_devices(call.who.user, vec![device_id.into()]).await?;
    Ok(Json(json!({})))
}

/// `POST /_matrix/client/v3/delete_devices`
async fn delete_devices(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = if call.who.application.is_some() {
        call.object()?
    } else {
        uia::no_oauth(&node, &call.who).await?;
        uia::authenticate(&node, "delete_devices", Some(&call.who), call.object()?, &[&[Stage::Password]]).await?.body
    };
    let devices = body.get("devices").ok_or_else(|| ApiError::missing_param("`devices` is missing"))?;
    let devices: Vec<OwnedDeviceId> = serde_json::from_value(devices.clone()).map_err(|e| ApiError::bad_json(format!("`devices`: {e}")))?;
    if devices.len() > AT_ONCE {
        return Err(ApiError::too_large("Too many devices in one request"));
    }
    node.accounts.delete_devices(call.who.user, devices).await?;
    Ok(Json(json!({})))
}
