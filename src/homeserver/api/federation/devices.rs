//! Devices and keys of our users, for other servers (Server-Server API, "Device Management", "End-to-End Encryption").

use std::{collections::BTreeMap, sync::Arc};

use axum::Json;
use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::federation::{
        device::get_devices::v1 as get_devices,
        keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

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
    federation::edus::outgoing::{public_devices, public_signing_keys},
    store::{self, StoreError, remote_devices},
    users::{keys, limits::Kind},
};

/// Users that one query may ask for, and devices that one claim may take keys of.
const AT_ONCE: usize = 10_000;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_devices::Request, _, _, _>(get_devices)
        .add_raw::<get_keys::Request, _, _, _>(get_keys)
        .add_raw::<claim_keys::Request, _, _, _>(claim_keys)
}

fn field<T: DeserializeOwned>(body: &Map<String, Value>, name: &str) -> ApiResult<T> {
    let value = body.get(name).ok_or_else(|| ApiError::missing_param(format!("`{name}` is missing")))?;
    serde_json::from_value(value.clone()).map_err(|e| ApiError::bad_json(format!("`{name}`: {e}")))
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`
async fn get_devices(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    may(&node, Kind::People, &call.who)?;
    let user_id = UserId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a user ID"))?;
    let known = user_id.clone();
    let found = node.store.read(move |db| {
        let Some(user) = store::accounts::active(db, &known)? else { return Ok(None) };
        Ok::<_, StoreError>(Some((public_devices(db, user)?, public_signing_keys(db, user)?, remote_devices::stream_id(db, user)?)))
    });
    let (devices, (master, self_signing), stream_id) = found.await?.ok_or_else(|| ApiError::not_found("There is no such user here"))?;
    let devices = devices.into_iter().map(|(device_id, keys)| json!({ "device_id": device_id, "keys": keys })).collect::<Vec<_>>();
    let mut answer = json!({ "user_id": user_id, "stream_id": stream_id, "devices": devices });
    for (name, key) in [("master_key", master), ("self_signing_key", self_signing)] {
        if let (Some(key), Some(answer)) = (key, answer.as_object_mut()) {
            answer.insert(name.to_owned(), key);
        }
    }
    Ok(Json(answer))
}

/// `POST /_matrix/federation/v1/user/keys/query`
async fn get_keys(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    may(&node, Kind::People, &call.who)?;
    let wanted: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>> = field(&call.object()?, "device_keys")?;
    if wanted.len() > AT_ONCE {
        return Err(ApiError::too_large("Too many users in one query"));
    }
    let answer = node.store.read(move |db| {
        let (mut devices, mut masters, mut self_signings) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (user_id, of_user) in wanted {
            // Accounts are this server's own: nobody else's keys are given out here.
            let Some(user) = store::accounts::active(db, &user_id)? else { continue };
            let mut found = public_devices(db, user)?;
            found.retain(|device_id, _| of_user.is_empty() || of_user.iter().any(|wanted| wanted == device_id));
            let (master, self_signing) = public_signing_keys(db, user)?;
            masters.extend(master.map(|key| (user_id.clone(), key)));
            self_signings.extend(self_signing.map(|key| (user_id.clone(), key)));
            devices.insert(user_id, found);
        }
        Ok::<_, StoreError>(json!({ "device_keys": devices, "master_keys": masters, "self_signing_keys": self_signings }))
    });
    Ok(Json(answer.await?))
}

/// `POST /_matrix/federation/v1/user/keys/claim`
async fn claim_keys(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    may(&node, Kind::Claim, &call.who)?;
    let wanted: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>> = field(&call.object()?, "one_time_keys")?;
    if wanted.values().map(BTreeMap::len).sum::<usize>() > AT_ONCE {
        return Err(ApiError::too_large("Too many keys in one claim"));
    }
    let answer = node.store.write(move |tx| {
        let mut claimed: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Value>> = BTreeMap::new();
        for (user_id, devices) in wanted {
            let Some(user) = store::accounts::active(&tx.reader(), &user_id)? else { continue };
            for (device_id, algorithm) in devices {
                if let Some((id, key)) = keys::claim(tx, user, &device_id, &algorithm)? {
                    claimed.entry(user_id.clone()).or_default().insert(device_id, json!({ id: key }));
                }
            }
        }
        Ok::<_, StoreError>(json!({ "one_time_keys": claimed }))
    });
    Ok(Json(answer.await?))
}
