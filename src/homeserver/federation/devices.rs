//! Asking other servers for their users' devices and keys (Server-Server API, "Device Management", "End-to-End Encryption").
//!
//! All servers are asked at once, each within the time that the client gave. A list that is current is not asked for. Of
//! users with whom a room is shared the answer is kept: their server tells us of every change from then on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use http::Method;
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    lookup::escape,
    request::{Limits, RequestError},
};
use crate::homeserver::{
    Node,
    store::{self, Reader, StoreError, meta, remote_devices},
    types::{StreamPos, UserNid},
    users::{
        keys::check_one_time_key,
        remote_keys::{self, Fetched},
    },
};

/// Servers that are asked at one time.
const SERVERS: usize = 32;
/// Users in one query.
const USERS: usize = 250;
/// Lists of one server that are asked for one by one, with the place in their chain of changes, and not in one query.
const CHAINED: usize = 8;
/// Largest answer.
const ANSWER_BYTES: usize = 16 << 20;

/// Why a server gave no answer, in the form of the `failures` that clients are told.
pub type Failures = BTreeMap<OwnedServerName, Value>;

/// Users and what is wanted of them.
pub type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What was learnt beside what is kept.
#[derive(Debug, Default)]
pub struct Answers {
    /// Keys of users with whom no room is shared.
    pub strangers: BTreeMap<OwnedUserId, Fetched>,
    /// Servers without an answer.
    pub failures: Failures,
}

fn failure(error: &RequestError) -> Value {
    let errcode = error.errcode().filter(|code| !code.is_empty()).unwrap_or("M_UNKNOWN");
    json!({ "errcode": errcode, "error": error.to_string(), "status": error.status().unwrap_or(503) })
}

/// A user whose server has to be asked.
#[derive(Debug, Clone)]
struct Asked {
    user_id: OwnedUserId,
    /// In the store, where a room is shared and the answer is kept.
    shared: Option<UserNid>,
    /// Changes heard of so far.
    heard: i64,
    /// Was known before, so that a place in the chain of changes is worth a question of its own.
    was_known: bool,
}

/// Whom to ask, by server, and where our stream is.
fn plan(db: &Reader<'_>, wanted: &Wanted) -> Result<(HashMap<OwnedServerName, Vec<Asked>>, StreamPos), StoreError> {
    let rooms = remote_devices::local_rooms(db)?;
    let asked_pos = StreamPos(meta::number(db, "position")?.unwrap_or(0));
    let mut servers: HashMap<OwnedServerName, Vec<Asked>> = HashMap::new();
    for user_id in wanted.keys() {
        let mut asked = Asked { user_id: user_id.clone(), shared: None, heard: 0, was_known: false };
        if let Some(user) = store::users::find(db, user_id)?
            && let Some(since) = remote_devices::shared_since(db, &rooms, user)?
        {
            let known = remote_devices::get(db, user)?;
            if known.and_then(|known| known.asked_pos).is_some_and(|asked| since <= asked) {
                continue;
            }
            asked.shared = Some(user);
            asked.heard = known.map_or(0, |known| known.heard);
            asked.was_known = known.is_some();
        }
        servers.entry(user_id.server_name().to_owned()).or_default().push(asked);
    }
    Ok((servers, asked_pos))
}

/// Brings what is kept of these users up to date, as far as their servers answer in time.
///
/// # Errors
///
/// Store errors.
pub async fn refresh(node: &Arc<Node>, wanted: &Wanted, time: Duration) -> Result<Answers, StoreError> {
    let users = wanted.clone();
    let (servers, asked_pos) = node.store.read(move |db| plan(db, &users)).await?;
    let mut answers = Answers::default();
    let asking = servers.into_iter().map(|(server, users)| async move {
        let outcome = ask(node, &server, &users, asked_pos, time).await;
        (server, outcome)
    });
    let mut asking = futures_util::stream::iter(asking).buffer_unordered(SERVERS);
    while let Some((server, outcome)) = asking.next().await {
        let (strangers, failed) = outcome?;
        answers.strangers.extend(strangers);
        if let Some(error) = failed {
            tracing::debug!(peer = %server, %error, "a server does not tell its users' keys");
            answers.failures.insert(server, failure(&error));
        }
    }
    Ok(answers)
}

type Outcome = (Vec<(OwnedUserId, Fetched)>, Option<RequestError>);

/// Asks one server and keeps what is to be kept.
async fn ask(node: &Arc<Node>, server: &ServerName, users: &[Asked], asked_pos: StreamPos, time: Duration) -> Result<Outcome, StoreError> {
    let deadline = tokio::time::Instant::now() + time;
    let left = || Limits::ORDINARY.within(deadline.saturating_duration_since(tokio::time::Instant::now())).bytes(ANSWER_BYTES);
    let (chained, at_once): (Vec<_>, Vec<_>) = users.iter().cloned().partition(|asked| asked.shared.is_some() && asked.was_known);
    let (chained, more) = chained.split_at(chained.len().min(CHAINED));
    let at_once = at_once.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>();
    let (mut fetched, mut failed) = (Vec::new(), None);
    for asked in chained {
        match devices_of(node, server, &asked.user_id, left()).await {
            Ok(list) => fetched.push((asked.clone(), list)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    for chunk in at_once.chunks(USERS) {
        if failed.is_some() {
            break;
        }
        match query(node, server, chunk, left()).await {
            Ok(lists) => fetched.extend(lists),
            Err(error) => failed = Some(error),
        }
    }
    let (kept, strangers): (Vec<_>, Vec<_>) = fetched.into_iter().partition(|(asked, _)| asked.shared.is_some());
    if !kept.is_empty() {
        let stored = node.store.write(move |tx| {
            for (asked, list) in &kept {
                if let Some(user) = asked.shared {
                    remote_keys::replace(tx, user, list, asked_pos, asked.heard)?;
                }
            }
            Ok::<_, StoreError>(())
        });
        stored.await?;
    }
    Ok((strangers.into_iter().map(|(asked, list)| (asked.user_id, list)).collect(), failed))
}

/// `GET /_matrix/federation/v1/user/devices/{userId}`: one list, with its place in the chain of changes.
async fn devices_of(node: &Node, server: &ServerName, user_id: &UserId, limits: Limits) -> Result<Fetched, RequestError> {
    #[derive(Deserialize)]
    struct Answer {
        user_id: String,
        stream_id: Option<i64>,
        #[serde(default)]
        devices: Vec<Value>,
        master_key: Option<Value>,
        self_signing_key: Option<Value>,
    }
    let path = format!("/_matrix/federation/v1/user/devices/{}", escape(user_id.as_str()));
    let body = match node.federation.client.raw(server, Method::GET, &path, None, limits).await {
        Ok(body) => body,
        // Nobody of that name, any more.
        Err(RequestError::Remote { status: 404, ref errcode, .. }) if errcode == "M_NOT_FOUND" => return Ok(Fetched::default()),
        Err(error) => return Err(error),
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| RequestError::Nonsense("no list of devices".into()))?;
    if answer.user_id != user_id.as_str() {
        return Err(RequestError::Nonsense("the devices of somebody else".into()));
    }
    let mut fetched = Fetched { stream_id: answer.stream_id, ..Fetched::default() };
    for device in answer.devices {
        // Devices without keys are listed as well, and mean nothing here.
        let (Some(id), Some(keys)) = (device.get("device_id").and_then(Value::as_str), device.get("keys")) else { continue };
        fetched.add_device(user_id, id, keys.clone(), device.get("device_display_name").and_then(Value::as_str));
    }
    for (usage, key) in [("master", answer.master_key), ("self_signing", answer.self_signing_key)] {
        if let Some(key) = key.filter(|key| !key.is_null()) {
            fetched.add_cross_signing(user_id, usage, key);
        }
    }
    Ok(fetched)
}

/// `POST /_matrix/federation/v1/user/keys/query`: many lists at once.
async fn query(node: &Node, server: &ServerName, users: &[Asked], limits: Limits) -> Result<Vec<(Asked, Fetched)>, RequestError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        device_keys: HashMap<String, HashMap<String, Value>>,
        #[serde(default)]
        master_keys: HashMap<String, Value>,
        #[serde(default)]
        self_signing_keys: HashMap<String, Value>,
    }
    // All devices of each, whatever the client wants of them: what is kept is kept whole.
    let wanted: BTreeMap<&UserId, [&str; 0]> = users.iter().map(|asked| (&*asked.user_id, [])).collect();
    let content = json!({ "device_keys": wanted }).to_string().into_bytes();
    let path = "/_matrix/federation/v1/user/keys/query";
    let body = node.federation.client.raw(server, Method::POST, path, Some(content), limits).await?;
    let mut answer: Answer = serde_json::from_slice(&body).map_err(|_| RequestError::Nonsense("no device keys".into()))?;
    Ok((users.iter())
        .map(|asked| {
            let mut fetched = Fetched::default();
            for (device_id, keys) in answer.device_keys.remove(asked.user_id.as_str()).unwrap_or_default() {
                fetched.add_device(&asked.user_id, &device_id, keys, None);
            }
            for (usage, keys) in [("master", &mut answer.master_keys), ("self_signing", &mut answer.self_signing_keys)] {
                if let Some(key) = keys.remove(asked.user_id.as_str()).filter(|key| !key.is_null()) {
                    fetched.add_cross_signing(&asked.user_id, usage, key);
                }
            }
            (asked.clone(), fetched)
        })
        .collect())
}

/// Devices and the algorithm that is wanted of each.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;
/// Claimed keys by user and device.
pub type Claimed = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Value>>;

/// Claims one-time keys of other servers' users.
pub async fn claim(node: &Arc<Node>, claims: Claims, time: Duration) -> (Claimed, Failures) {
    let mut servers: BTreeMap<OwnedServerName, Claims> = BTreeMap::new();
    for (user_id, devices) in claims {
        servers.entry(user_id.server_name().to_owned()).or_default().insert(user_id, devices);
    }
    let asking = servers.into_iter().map(|(server, claims)| async move {
        let outcome = claim_of(node, &server, &claims, Limits::ORDINARY.within(time).bytes(ANSWER_BYTES)).await;
        (server, outcome)
    });
    let (mut claimed, mut failures) = (Claimed::new(), Failures::new());
    let mut asking = futures_util::stream::iter(asking).buffer_unordered(SERVERS);
    while let Some((server, outcome)) = asking.next().await {
        match outcome {
            Ok(keys) => claimed.extend(keys),
            Err(error) => {
                tracing::debug!(peer = %server, %error, "a server gives out no one-time keys");
                failures.insert(server, failure(&error));
            }
        }
    }
    (claimed, failures)
}

/// `POST /_matrix/federation/v1/user/keys/claim`
async fn claim_of(node: &Node, server: &ServerName, claims: &Claims, limits: Limits) -> Result<Claimed, RequestError> {
    let content = json!({ "one_time_keys": claims }).to_string().into_bytes();
    let path = "/_matrix/federation/v1/user/keys/claim";
    let body = node.federation.client.raw(server, Method::POST, path, Some(content), limits).await?;
    claimed(claims, &body).ok_or_else(|| RequestError::Nonsense("no one-time keys".into()))
}

/// One key for each device that was asked for, of the algorithm that was asked for. Whatever else comes is dropped.
fn claimed(claims: &Claims, body: &[u8]) -> Option<Claimed> {
    #[derive(Deserialize)]
    struct Answer {
        one_time_keys: HashMap<String, HashMap<String, HashMap<String, Value>>>,
    }
    let mut answer: Answer = serde_json::from_slice(body).ok()?;
    let mut claimed = Claimed::new();
    for (user_id, devices) in claims {
        let mut given = answer.one_time_keys.remove(user_id.as_str()).unwrap_or_default();
        for (device_id, algorithm) in devices {
            let keys = given.remove(device_id.as_str()).unwrap_or_default();
            let fits =
                |id: &str, key: &Value| id.split_once(':').is_some_and(|(of, _)| of == algorithm) && check_one_time_key(id, key).is_ok();
            if let Some((id, key)) = keys.into_iter().find(|(id, key)| fits(id, key)) {
                claimed.entry(user_id.clone()).or_default().insert(device_id.clone(), json!({ id: key }));
            }
        }
    }
    Some(claimed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn only_keys_that_were_asked_for_are_taken() {
        let claims: Claims =
            serde_json::from_value(json!({ "@a:far.test": { "ONE": "signed_curve25519", "TWO": "signed_curve25519" } })).unwrap();
        let good = json!({ "key": "a2V5", "signatures": { "@a:far.test": { "ed25519:ONE": "c2ln" } } });
        let body = json!({ "one_time_keys": {
            "@a:far.test": {
                "ONE": { "curve25519:A": "a2V5", "signed_curve25519:B": good },
                "TWO": { "signed_curve25519:C": { "key": 5 } },
                "THREE": { "signed_curve25519:D": good },
            },
            "@b:far.test": { "ONE": { "signed_curve25519:E": good } },
        } });
        let taken = serde_json::to_value(claimed(&claims, body.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(taken, json!({ "@a:far.test": { "ONE": { "signed_curve25519:B": good } } }));
        assert!(claimed(&claims, b"{}").is_none());
    }
}
