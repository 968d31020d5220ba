//! End-to-end encryption: keys of devices and users.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
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
    federation::devices::{self, Answers, Claimed, Claims, Failures, Wanted},
    store::{self, Reader, StoreError},
    sync::SyncToken,
    types::UserNid,
    users::{
        cross_signing::{self, SigningKeys},
        keys::{self, Upload},
        remote_keys::Fetched,
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

/// How long other servers have to answer when the client does not say, and at most.
const ANSWER: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

fn time(body: &Map<String, Value>) -> ApiResult<Duration> {
    Ok(optional::<u64>(body, "timeout")?.map_or(ANSWER, Duration::from_millis).min(LONGEST_ANSWER))
}

/// A server that was not asked because this node asks none.
fn unreachable() -> Value {
    json!({ "errcode": "M_UNKNOWN", "error": "This server does not talk to other servers" })
}

/// `POST /_matrix/client/v3/keys/query`
async fn get_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let wanted: Wanted = required(&body, "device_keys")?;
    if wanted.len() > AT_ONCE {
        return Err(ApiError::too_large("Too many users in one query"));
    }
    let (local, remote): (Wanted, Wanted) = wanted.into_iter().partition(|(user_id, _)| user_id.server_name() == node.config.server_name);
    let mut learnt = Answers::default();
    if node.federation.is_enabled() && !remote.is_empty() {
        learnt = devices::refresh(&node, &remote, time(&body)?).await?;
    } else {
        learnt.failures = remote.keys().map(|user_id| (user_id.server_name().to_owned(), unreachable())).collect();
    }
    let asker = call.who.user;
    let answer = node.store.read(move |db| {
        let mut answer = KeyAnswer { failures: learnt.failures, ..KeyAnswer::default() };
        for (user_id, devices) in &local {
            if let Some(user) = store::accounts::active(db, user_id)? {
                answer.add(db, asker, user, user_id, devices)?;
            }
        }
        for (user_id, devices) in &remote {
            if let Some(stranger) = learnt.strangers.remove(user_id) {
                answer.add_stranger(user_id, stranger, devices);
            } else if let Some(user) = store::users::find(db, user_id)?
                && (store::remote_devices::get(db, user)?.is_some())
            {
                answer.add(db, asker, user, user_id, devices)?;
            }
        }
        Ok::<_, StoreError>(answer)
    });
    Ok(Json(json!(answer.await?)))
}

#[derive(Debug, Default, serde::Serialize)]
struct KeyAnswer {
    device_keys: BTreeMap<OwnedUserId, BTreeMap<String, Value>>,
    master_keys: BTreeMap<OwnedUserId, Value>,
    self_signing_keys: BTreeMap<OwnedUserId, Value>,
    user_signing_keys: BTreeMap<OwnedUserId, Value>,
    failures: Failures,
}

impl KeyAnswer {
    /// Adds what is stored of a user, as the asker may see it.
    fn add(
        &mut self,
        db: &Reader<'_>,
        asker: UserNid,
        user: UserNid,
        user_id: &OwnedUserId,
        devices: &[OwnedDeviceId],
    ) -> Result<(), StoreError> {
        self.device_keys.insert(user_id.clone(), keys::device_keys_for(db, Some(asker), user, devices)?);
        let key = |usage: &str| keys::cross_signing_key_for(db, Some(asker), user, usage);
        self.master_keys.extend(key("master")?.map(|key| (user_id.clone(), key)));
        self.self_signing_keys.extend(key("self_signing")?.map(|key| (user_id.clone(), key)));
        // Whom somebody trusts is their own affair: the user-signing key goes to its owner only.
        if user == asker {
            self.user_signing_keys.extend(key("user_signing")?.map(|key| (user_id.clone(), key)));
        }
        Ok(())
    }

    /// Adds what another server has just answered about somebody with whom no room is shared.
    fn add_stranger(&mut self, user_id: &OwnedUserId, mut fetched: Fetched, devices: &[OwnedDeviceId]) {
        fetched.devices.retain(|device_id, _| devices.is_empty() || devices.iter().any(|wanted| wanted == device_id));
        self.device_keys.insert(user_id.clone(), fetched.devices);
        self.master_keys.extend(fetched.master.map(|key| (user_id.clone(), key)));
        self.self_signing_keys.extend(fetched.self_signing.map(|key| (user_id.clone(), key)));
    }
}

/// `POST /_matrix/client/v3/keys/claim`
async fn claim_keys(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let wanted: Claims = required(&body, "one_time_keys")?;
    if wanted.values().map(BTreeMap::len).sum::<usize>() > AT_ONCE {
        return Err(ApiError::too_large("Too many keys in one claim"));
    }
    let (local, remote): (Claims, Claims) = wanted.into_iter().partition(|(user_id, _)| user_id.server_name() == node.config.server_name);
    let of_ours = node.store.write(move |tx| {
        let mut claimed = Claimed::new();
        for (user_id, devices) in local {
            let Some(user) = store::accounts::active(&tx.reader(), &user_id)? else { continue };
            for (device_id, algorithm) in devices {
                if let Some((id, key)) = keys::claim(tx, user, &device_id, &algorithm)? {
                    claimed.entry(user_id.clone()).or_default().insert(device_id, json!({ id: key }));
                }
            }
        }
        Ok::<_, StoreError>(claimed)
    });
    let mut claimed = of_ours.await?;
    let failures = if node.federation.is_enabled() && !remote.is_empty() {
        let (of_others, failures) = devices::claim(&node, remote, time(&body)?).await;
        claimed.extend(of_others);
        failures
    } else {
        remote.keys().map(|user_id| (user_id.server_name().to_owned(), unreachable())).collect()
    };
    Ok(Json(json!({ "one_time_keys": claimed, "failures": failures })))
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
