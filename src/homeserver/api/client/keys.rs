//! End-to-end encryption: keys of devices and users.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::Json;
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::keys::{claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    uia,
};
use crate::homeserver::{
    Node,
    store::{self, StoreError},
    sync::SyncToken,
    users::{
        cross_signing::{self, SigningKeys},
        keys::{self, Upload},
        uia::Stage,
    },
};

/// Users that one query may ask for, and devices that one claim may take keys of.
const AT_ONCE: usize = 10_000;

/// What a session of user-interactive authentication for new cross-signing keys is for.
pub(super) const SIGNING_UPLOAD: &str = "keys/device_signing/upload";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<upload_keys::v3::Request, _, _, _>(upload_keys)
        .add_raw::<get_keys::v3::Request, _, _, _>(get_keys)
        .add_raw::<claim_keys::v3::Request, _, _, _>(claim_keys)
        .add::<get_key_changes::v3::Request, _, _>(get_key_changes)
        .add_raw::<upload_signing_keys::v3::Request, _, _, _>(upload_signing_keys)
        .add_raw::<upload_signatures::v3::Request, _, _, _>(upload_signatures)
}

/// A field of the body in a given form; missing and `null` are the same.
pub(super) fn optional<T: DeserializeOwned>(body: &Map<String, Value>, field: &str) -> ApiResult<Option<T>> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone()).map(Some).map_err(|e| ApiError::bad_json(format!("`{field}`: {e}"))),
    }
}

pub(super) fn required<T: DeserializeOwned>(body: &Map<String, Value>, field: &str) -> ApiResult<T> {
    optional(body, field)?.ok_or_else(|| ApiError::missing_param(format!("`{field}` is missing")))
}

/// `POST /_matrix/client/v3/keys/upload`
async fn upload_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    if call.who.device_id.as_str().is_empty() {
        return Err(ApiError::missing_param("Keys belong to a device: `device_id` is missing in the query"));
    }
    let body = call.object()?;
    let upload = Upload {
        device_keys: optional(&body, "device_keys")?,
        one_time_keys: optional(&body, "one_time_keys")?.unwrap_or_default(),
        fallback_keys: match optional(&body, "fallback_keys")? {
            Some(keys) => keys,
            None => optional(&body, "org.matrix.msc2732.fallback_keys")?.unwrap_or_default(),
        },
    };
    let who = call.who;
    let nothing_new = upload.device_keys.is_none() && upload.one_time_keys.is_empty() && upload.fallback_keys.is_empty();
    let counts = if nothing_new {
        node.store.read(move |db| store::one_time_keys::counts(db, who.user, &who.device_id)).await?
    } else {
        node.store.write(move |tx| keys::upload(tx, &who, &upload)).await?
    };
    Ok(Json(json!({ "one_time_key_counts": counts })))
}

/// `POST /_matrix/client/v3/keys/query`
async fn get_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let wanted: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>> = required(&call.object()?, "device_keys")?;
    if wanted.len() > AT_ONCE {
        return Err(ApiError::too_large("Too many users in one query"));
    }
    let (server, asker) = (node.config.server_name.clone(), call.who.user);
    let answer = node.store.read(move |db| {
        let mut answer = json!({ "device_keys": {}, "master_keys": {}, "self_signing_keys": {}, "user_signing_keys": {}, "failures": {} });
        let mut put = |section: &str, key: &str, value: Value| {
            if let Some(object) = answer.get_mut(section).and_then(Value::as_object_mut) {
                object.insert(key.to_owned(), value);
            }
        };
        for (user_id, devices) in &wanted {
            if user_id.server_name() != server {
                // Other servers' users: there is no federation to ask them over.
                put("failures", user_id.server_name().as_str(), json!({ "errcode": "M_UNKNOWN", "error": "Not reachable" }));
                continue;
            }
            let Some(user) = store::accounts::active(db, user_id)? else { continue };
            put("device_keys", user_id.as_str(), json!(keys::device_keys_for(db, Some(asker), user, devices)?));
            for (usage, section) in
                [("master", "master_keys"), ("self_signing", "self_signing_keys"), ("user_signing", "user_signing_keys")]
            {
                // Whom somebody trusts is their own affair: the user-signing key goes to its owner only.
                if usage == "user_signing" && user != asker {
                    continue;
                }
                if let Some(key) = keys::cross_signing_key_for(db, Some(asker), user, usage)? {
                    put(section, user_id.as_str(), key);
                }
            }
        }
        Ok::<_, StoreError>(answer)
    });
    Ok(Json(answer.await?))
}

/// `POST /_matrix/client/v3/keys/claim`
async fn claim_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let wanted: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>> = required(&call.object()?, "one_time_keys")?;
    if wanted.values().map(BTreeMap::len).sum::<usize>() > AT_ONCE {
        return Err(ApiError::too_large("Too many keys in one claim"));
    }
    let server = node.config.server_name.clone();
    let answer = node.store.write(move |tx| {
        let mut claimed: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Value>> = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for (user_id, devices) in wanted {
            if user_id.server_name() != server {
                failures.insert(user_id.server_name().to_string(), json!({ "errcode": "M_UNKNOWN", "error": "Not reachable" }));
                continue;
            }
            let Some(user) = store::accounts::active(&tx.reader(), &user_id)? else { continue };
            for (device_id, algorithm) in devices {
                if let Some((id, key)) = keys::claim(tx, user, &device_id, &algorithm)? {
                    claimed.entry(user_id.clone()).or_default().insert(device_id, json!({ id: key }));
                }
            }
        }
        Ok::<_, StoreError>(json!({ "one_time_keys": claimed, "failures": failures }))
    });
    Ok(Json(answer.await?))
}

/// `GET /_matrix/client/v3/keys/changes`
async fn get_key_changes(node: Arc<Node>, call: Call<get_key_changes::v3::Request>) -> ApiResult<get_key_changes::v3::Response> {
    let position = |token: &str| token.parse::<SyncToken>().map(|token| token.pos).map_err(|_| ApiError::invalid_param("Not a sync token"));
    let (from, to, user) = (position(&call.request.from)?, position(&call.request.to)?, call.who.user);
    let (changed, left) = node
        .store
        .read(move |db| {
            let mut changed: BTreeSet<OwnedUserId> = store::device_lists::changed_between(db, user, from, to)?.into_iter().collect();
            let (came, left) = store::device_lists::moved_between(db, user, from, to)?;
            changed.extend(came);
            Ok::<_, StoreError>((changed, left))
        })
        .await?;
    Ok(get_key_changes::v3::Response::new(changed.into_iter().collect(), left))
}

/// `POST /_matrix/client/v3/keys/device_signing/upload`
async fn upload_signing_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let signing = |body: &Map<String, Value>| {
        Ok::<_, ApiError>(SigningKeys {
            master: optional(body, "master_key")?,
            self_signing: optional(body, "self_signing_key")?,
            user_signing: optional(body, "user_signing_key")?,
        })
    };
    let upload = signing(&call.object()?)?;
    let (user, asked) = (call.who.user, upload.clone());
    // An application service is trusted with the keys of its users.
    let free =
        call.who.application.is_some() || node.store.read(move |db| cross_signing::needs_no_authentication(db, user, &asked)).await?;
    let upload = if free {
        upload
    } else {
        // Who has signed in by OAuth confirms on the account pages: the client knows no password.
        let flows: &[uia::Flow<'_>] = match node.accounts.grant_of(&call.who).await? {
            Some(_) => &[&[Stage::OAuth], &[Stage::CrossSigningReset]],
            None => &[&[Stage::Password]],
        };
        let passed = uia::authenticate(&node, SIGNING_UPLOAD, Some(&call.who), call.object()?, flows).await?;
        signing(&passed.body)?
    };
    let who = call.who;
    node.store.write(move |tx| cross_signing::upload(tx, &who, &upload)).await?;
    Ok(Json(json!({})))
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
async fn upload_signatures(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let signed: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_value(Value::Object(call.object()?)).map_err(|e| ApiError::bad_json(e.to_string()))?;
    let who = call.who;
    let refused = node.store.write(move |tx| cross_signing::upload_signatures(tx, &who, &signed)).await?;
    let failures: BTreeMap<_, BTreeMap<_, _>> = refused
        .into_iter()
        .map(|(user, keys)| {
            (user, keys.into_iter().map(|(key, (errcode, error))| (key, json!({ "errcode": errcode, "error": error }))).collect())
        })
        .collect();
    Ok(Json(json!({ "failures": failures })))
}
