//! Telling other servers what the store says is new: devices and keys of our users, and what they have read.
//!
//! What other servers are owed is not noted at each place that changes something. It is the difference between what is so and
//! what was told, worked out after each commit from where the last round ended; so a crash, or a round that failed, loses
//! nothing. Server-Server API, "Device Management", "Cross-signing", "Receipts".

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, ServerName};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::homeserver::{
    Node,
    federation::sender::{OutgoingEdu, queue_edu},
    store::{Reader, StoreError, Tx, meta, receipts, remote_devices, servers},
    types::{StreamPos, UserNid},
    users::keys,
};

/// Where the last round over the device lists ended, and over receipts.
const DEVICES_POS: &str = "told_devices_pos";
const RECEIPTS_POS: &str = "told_receipts_pos";
/// Users, and receipts, of one round.
const AT_ONCE: usize = 100;
/// A receipt that did not arrive for so long is of no use to anybody.
const RECEIPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How long to wait after a failure of the store.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Starts the task. It ends with the node.
pub(super) fn start(node: &Arc<Node>) {
    node.tasks.spawn("federation-news", run(Arc::clone(node)));
}

async fn run(node: Arc<Node>) {
    let mut commits = node.notifier.subscribe_to_all();
    loop {
        let wait = match round(&node).await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "other servers could not be told what is new; another try follows");
                Some(AFTER_FAILURE)
            }
        };
        // Cancel-safe: each only waits, and the next round looks at everything since the last.
        tokio::select! {
            () = node.tasks.shutdown().wait() => return,
            _ = commits.changed() => {}
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
        }
    }
}

/// True when there may be more.
async fn round(node: &Arc<Node>) -> Result<bool, StoreError> {
    // Most commits have nothing for others: a look is cheaper than a place in the writer's queue.
    if !node.store.read(is_news).await? {
        return Ok(false);
    }
    let (ours, now_ms) = (node.config.server_name.clone(), node.clock.now_ms());
    node.store.write(move |tx| Ok(devices(tx, &ours)? | read(tx, &ours, now_ms)?)).await
}

fn is_news(db: &Reader<'_>) -> Result<bool, StoreError> {
    let (Some(devices), Some(read)) = (meta::number(db, DEVICES_POS)?, meta::number(db, RECEIPTS_POS)?) else { return Ok(true) };
    Ok(!remote_devices::changed_locals(db, StreamPos(devices), 1)?.is_empty() || !receipts::of_locals(db, StreamPos(read), 1)?.is_empty())
}

/// Where to go on. A node that begins to federate has told nobody anything, and nobody has asked yet.
fn begin(tx: &Tx<'_>, key: &str) -> Result<StreamPos, StoreError> {
    match meta::number(&tx.reader(), key)? {
        Some(pos) => Ok(StreamPos(pos)),
        None => {
            meta::set_number(tx, key, tx.position().0)?;
            Ok(tx.position())
        }
    }
}

fn devices(tx: &mut Tx<'_>, ours: &ServerName) -> Result<bool, StoreError> {
    let after = begin(tx, DEVICES_POS)?;
    let changed = remote_devices::changed_locals(&tx.reader(), after, AT_ONCE)?;
    let Some((last, ..)) = changed.last() else { return Ok(false) };
    meta::set_number(tx, DEVICES_POS, last.0)?;
    for (_, user, user_id) in &changed {
        let to = servers::around_user(&tx.reader(), *user)?.into_iter().filter(|server| server != ours).collect::<Vec<_>>();
        tell_devices(tx, *user, user_id, &to)?;
        tell_signing_keys(tx, *user, user_id, &to)?;
    }
    Ok(changed.len() == AT_ONCE)
}

/// Device keys as other servers see them: with the owner's signatures, without the name, which is the owner's own affair.
///
/// # Errors
///
/// Store errors.
pub fn public_devices(db: &Reader<'_>, user: UserNid) -> Result<BTreeMap<String, Value>, StoreError> {
    let mut devices = keys::device_keys_for(db, None, user, &[])?;
    for keys in devices.values_mut() {
        if let Some(keys) = keys.as_object_mut() {
            keys.remove("unsigned");
        }
    }
    Ok(devices)
}

fn digest(value: &Value) -> Vec<u8> {
    Sha256::digest(value.to_string()).to_vec()
}

fn tell_devices(tx: &mut Tx<'_>, user: UserNid, user_id: &OwnedUserId, to: &[OwnedServerName]) -> Result<(), StoreError> {
    let now = public_devices(&tx.reader(), user)?;
    let told = remote_devices::told(&tx.reader(), user)?;
    for (device_id, keys) in &now {
        let digest = digest(keys);
        if told.get(device_id) != Some(&digest) {
            remote_devices::tell(tx, user, device_id, Some(&digest))?;
            list_update(tx, user, user_id, to, json!({ "device_id": device_id, "keys": keys }))?;
        }
    }
    for device_id in told.keys().filter(|device_id| !device_id.is_empty() && !now.contains_key(*device_id)) {
        remote_devices::tell(tx, user, device_id, None)?;
        list_update(tx, user, user_id, to, json!({ "device_id": device_id, "deleted": true }))?;
    }
    Ok(())
}

/// Queues one link of the chain: whoever misses one notices by the next.
fn list_update(
    tx: &mut Tx<'_>,
    user: UserNid,
    user_id: &OwnedUserId,
    to: &[OwnedServerName],
    mut content: Value,
) -> Result<(), StoreError> {
    let (stream_id, before) = remote_devices::next_stream_id(tx, user)?;
    if let Some(content) = content.as_object_mut() {
        content.insert("user_id".into(), user_id.as_str().into());
        content.insert("stream_id".into(), stream_id.into());
        content.insert("prev_id".into(), if before > 0 { json!([before]) } else { json!([]) });
    }
    let content = content.to_string();
    for server in to {
        queue_edu(tx, server, &OutgoingEdu { kind: "m.device_list_update", content: &content, key: None, expires_ms: None })?;
    }
    Ok(())
}

/// Master and self-signing key as other servers see them.
///
/// # Errors
///
/// Store errors.
pub fn public_signing_keys(db: &Reader<'_>, user: UserNid) -> Result<(Option<Value>, Option<Value>), StoreError> {
    Ok((keys::cross_signing_key_for(db, None, user, "master")?, keys::cross_signing_key_for(db, None, user, "self_signing")?))
}

fn tell_signing_keys(tx: &mut Tx<'_>, user: UserNid, user_id: &OwnedUserId, to: &[OwnedServerName]) -> Result<(), StoreError> {
    let (master, self_signing) = public_signing_keys(&tx.reader(), user)?;
    if master.is_none() && self_signing.is_none() {
        return Ok(());
    }
    let mut content = json!({ "user_id": user_id });
    for (field, key) in [("master_key", master), ("self_signing_key", self_signing)] {
        if let (Some(key), Some(content)) = (key, content.as_object_mut()) {
            content.insert(field.into(), key);
        }
    }
    let digest = digest(&content);
    if remote_devices::told(&tx.reader(), user)?.get("") == Some(&digest) {
        return Ok(());
    }
    remote_devices::tell(tx, user, "", Some(&digest))?;
    let content = content.to_string();
    for server in to {
        let edu = OutgoingEdu { kind: "m.signing_key_update", content: &content, key: Some(user_id.as_str()), expires_ms: None };
        queue_edu(tx, server, &edu)?;
    }
    Ok(())
}

fn read(tx: &mut Tx<'_>, ours: &ServerName, now_ms: u64) -> Result<bool, StoreError> {
    let after = begin(tx, RECEIPTS_POS)?;
    let moved = receipts::of_locals(&tx.reader(), after, AT_ONCE)?;
    let Some(last) = moved.last() else { return Ok(false) };
    meta::set_number(tx, RECEIPTS_POS, last.pos.0)?;
    let mut rooms = BTreeMap::new();
    for receipt in &moved {
        let to = match rooms.entry(receipt.room) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let mut to = servers::in_room(&tx.reader(), receipt.room)?;
                to.retain(|server| server != ours);
                new.insert(to)
            }
        };
        if to.is_empty() {
            continue;
        }
        let mut data = json!({ "ts": receipt.ts_ms });
        if let (false, Some(data)) = (receipt.thread_id.is_empty(), data.as_object_mut()) {
            data.insert("thread_id".into(), receipt.thread_id.as_str().into());
        }
        let content = json!({ &receipt.room_id: { "m.read": { &receipt.user_id: { "event_ids": [&receipt.event_id], "data": data } } } });
        let (content, key) = (content.to_string(), format!("{} {} {}", receipt.room_id, receipt.user_id, receipt.thread_id));
        let edu = OutgoingEdu { kind: "m.receipt", content: &content, key: Some(&key), expires_ms: Some(now_ms + RECEIPT_MS) };
        for server in to.iter() {
            queue_edu(tx, server, &edu)?;
        }
    }
    Ok(moved.len() == AT_ONCE)
}

/// Queues a message to devices of other servers' users, in as few EDUs as keep below a size that every server takes.
///
/// # Errors
///
/// Store errors.
pub fn to_devices(
    tx: &mut Tx<'_>,
    sender: &OwnedUserId,
    kind: &str,
    message_id: &str,
    messages: &BTreeMap<OwnedUserId, BTreeMap<String, Box<serde_json::value::RawValue>>>,
) -> Result<(), StoreError> {
    let mut parcels: BTreeMap<&ServerName, Vec<Parcel<'_>>> = BTreeMap::new();
    for (user_id, devices) in messages {
        let of_server = parcels.entry(user_id.server_name()).or_default();
        for (device, content) in devices {
            let size = content.get().len() + user_id.as_str().len() + device.len() + 16;
            let fits = of_server.last().is_some_and(|parcel| parcel.bytes + size <= PARCEL_BYTES);
            if !fits {
                of_server.push(Parcel::default());
            }
            if let Some(parcel) = of_server.last_mut() {
                parcel.bytes += size;
                parcel.messages.entry(user_id.as_str()).or_default().insert(device.as_str(), content.as_ref());
            }
        }
    }
    let mut number = 0_usize;
    for (server, of_server) in parcels {
        for parcel in of_server {
            number += 1;
            let content = serde_json::to_string(&Direct {
                sender: sender.as_str(),
                kind,
                message_id: &format!("{message_id}{number}"),
                messages: &parcel.messages,
            })
            .map_err(|e| StoreError::Data(e.to_string()))?;
            queue_edu(tx, server, &OutgoingEdu { kind: "m.direct_to_device", content: &content, key: None, expires_ms: None })?;
        }
    }
    Ok(())
}

/// Bytes of messages in one EDU: a transaction of a hundred such stays within what servers accept.
const PARCEL_BYTES: usize = 50_000;

#[derive(Default)]
struct Parcel<'a> {
    bytes: usize,
    messages: BTreeMap<&'a str, BTreeMap<&'a str, &'a serde_json::value::RawValue>>,
}

#[derive(serde::Serialize)]
struct Direct<'a> {
    sender: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    message_id: &'a str,
    messages: &'a BTreeMap<&'a str, BTreeMap<&'a str, &'a serde_json::value::RawValue>>,
}

/// Tells everything that is to be told.
#[cfg(test)]
pub(crate) async fn catch_up(node: &Arc<Node>) {
    while round(node).await.expect("the store works") {}
}
