//! End-to-end keys: what a device may upload, who gets which, and claiming each one-time key once.
//!
//! The server cannot read what the keys protect. It keeps them consistent: a device's identity keys never change, a
//! one-time key is given out once, and nobody can upload keys in another's name.

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId};
use serde_json::{Map, Value};

use crate::homeserver::{
    store::{self, Reader, StoreError, Tx},
    types::{Requester, UserNid},
};

/// Largest key object, as JSON.
const KEY_BYTES: usize = 16 * 1024;
/// Unclaimed one-time keys that a device may have.
const ONE_TIME_KEYS: u64 = 1000;
/// Longest key ID.
const KEY_ID_BYTES: usize = 255;

/// Why keys were not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not what the specification says such a key looks like, or not the requester's.
    #[error("{0}")]
    Invalid(String),
    /// The identity keys of this device differ from those that it uploaded before.
    #[error("the identity keys of a device cannot be changed; sign in again to get a new device")]
    IdentityChanged,
    /// The same key ID with another key.
    #[error("One time key {id} already exists. Old key: {old}; new key: {new}")]
    AlreadyExists {
        /// Algorithm and ID.
        id: String,
        /// What is stored.
        old: String,
        /// What was uploaded.
        new: String,
    },
    /// More keys than a device needs.
    #[error("a device cannot have more than {ONE_TIME_KEYS} unclaimed one-time keys")]
    TooMany,
    /// A signature that has to be there is missing or wrong.
    #[error("{0}")]
    InvalidSignature(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn invalid(message: impl Into<String>) -> KeyError {
    KeyError::Invalid(message.into())
}

/// What a device uploads.
#[derive(Debug, Default)]
pub struct Upload {
    /// Identity keys.
    pub device_keys: Option<Value>,
    /// `algorithm:id` to key.
    pub one_time_keys: BTreeMap<String, Value>,
    /// `algorithm:id` to key.
    pub fallback_keys: BTreeMap<String, Value>,
}

/// Takes a device's keys, all or none, and says how many one-time keys it has now.
///
/// # Errors
///
/// [`KeyError`]; nothing was stored then.
pub fn upload(tx: &mut Tx<'_>, who: &Requester, keys: &Upload) -> Result<BTreeMap<String, u64>, KeyError> {
    if let Some(device_keys) = &keys.device_keys {
        upload_identity(tx, who, device_keys)?;
    }
    for (id, key) in &keys.one_time_keys {
        let (algorithm, key_id) = split_key_id(id)?;
        check_one_time_key(id, key)?;
        match store::one_time_keys::get(&tx.reader(), who.user, &who.device_id, algorithm, key_id)? {
            None => store::one_time_keys::add(tx, who.user, &who.device_id, algorithm, key_id, key)?,
            Some(old) if old == *key => {}
            Some(old) => return Err(KeyError::AlreadyExists { id: id.clone(), old: old.to_string(), new: key.to_string() }),
        }
    }
    let mut algorithms = Vec::new();
    for (id, key) in &keys.fallback_keys {
        let (algorithm, key_id) = split_key_id(id)?;
        check_one_time_key(id, key)?;
        if algorithms.contains(&algorithm) {
            return Err(invalid(format!("more than one fallback key for {algorithm}")));
        }
        algorithms.push(algorithm);
        store::one_time_keys::set_fallback(tx, who.user, &who.device_id, algorithm, key_id, key)?;
    }
    let counts = store::one_time_keys::counts(&tx.reader(), who.user, &who.device_id)?;
    if counts.values().sum::<u64>() > ONE_TIME_KEYS {
        return Err(KeyError::TooMany);
    }
    if !keys.one_time_keys.is_empty() || !keys.fallback_keys.is_empty() {
        // The device's own counts are part of its sync.
        tx.next_pos();
        tx.touch(who.user);
    }
    Ok(counts)
}

fn upload_identity(tx: &mut Tx<'_>, who: &Requester, device_keys: &Value) -> Result<(), KeyError> {
    check_device_keys(device_keys, who.user_id.as_str(), who.device_id.as_str())?;
    let mut device_keys = device_keys.clone();
    // `unsigned` is what the server adds, not what a client may claim.
    if let Some(object) = device_keys.as_object_mut() {
        object.remove("unsigned");
    }
    let known = store::keys::device(&tx.reader(), who.user, &who.device_id)?;
    if known.as_ref() == Some(&device_keys) {
        return Ok(());
    }
    if known.is_some_and(|known| known.get("keys") != device_keys.get("keys")) {
        return Err(KeyError::IdentityChanged);
    }
    store::keys::put_device(tx, who.user, &who.device_id, &device_keys)?;
    store::device_lists::changed(tx, who.user)?;
    Ok(())
}

/// Checks `device_keys` against Client-Server API, "Key algorithms" and `POST /keys/upload`: others will rely on the form.
pub(super) fn check_device_keys(keys: &Value, user_id: &str, device_id: &str) -> Result<(), KeyError> {
    let object = keys.as_object().ok_or_else(|| invalid("`device_keys` is not an object"))?;
    if keys.to_string().len() > KEY_BYTES {
        return Err(invalid("`device_keys` is too large"));
    }
    if object.get("user_id").and_then(Value::as_str) != Some(user_id) {
        return Err(invalid("`user_id` in `device_keys` is not the user who is signed in"));
    }
    if object.get("device_id").and_then(Value::as_str) != Some(device_id) {
        return Err(invalid("`device_id` in `device_keys` is not the device that is signed in"));
    }
    let algorithms = object.get("algorithms").and_then(Value::as_array).ok_or_else(|| invalid("`algorithms` is not an array"))?;
    if !algorithms.iter().all(Value::is_string) {
        return Err(invalid("`algorithms` holds something other than names"));
    }
    let identity = object.get("keys").and_then(Value::as_object).ok_or_else(|| invalid("`keys` is not an object"))?;
    for (id, key) in identity {
        let (_, of) = split_key_id(id)?;
        if of != device_id {
            return Err(invalid(format!("the key {id} does not name the device {device_id}")));
        }
        if !key.is_string() {
            return Err(invalid(format!("the key {id} is not a string")));
        }
    }
    if !identity.contains_key(&format!("ed25519:{device_id}")) {
        return Err(invalid("`keys` has no ed25519 key"));
    }
    check_signatures_form(object)
}

/// `signatures` maps users to maps from key ID to signature.
pub(super) fn check_signatures_form(object: &Map<String, Value>) -> Result<(), KeyError> {
    let signatures = object.get("signatures").and_then(Value::as_object).ok_or_else(|| invalid("`signatures` is not an object"))?;
    let well_formed = signatures.values().all(|by| by.as_object().is_some_and(|by| by.values().all(Value::is_string)));
    if well_formed { Ok(()) } else { Err(invalid("`signatures` has the wrong form")) }
}

/// `algorithm:id`, both present.
fn split_key_id(id: &str) -> Result<(&str, &str), KeyError> {
    match id.split_once(':') {
        Some((algorithm, key_id)) if !algorithm.is_empty() && !key_id.is_empty() && id.len() <= KEY_ID_BYTES => Ok((algorithm, key_id)),
        _ => Err(invalid(format!("{id:.64?} is not a key ID"))),
    }
}

/// Checks the form of a one-time key.
///
/// # Errors
///
/// [`KeyError::Invalid`].
pub fn check_one_time_key(id: &str, key: &Value) -> Result<(), KeyError> {
    if key.to_string().len() > KEY_BYTES {
        return Err(invalid(format!("the key {id} is too large")));
    }
    let well_formed = match key {
        Value::String(_) => true,
        Value::Object(object) => {
            object.get("key").is_some_and(Value::is_string)
                && (!object.contains_key("signatures") || check_signatures_form(object).is_ok())
                && object.get("fallback").is_none_or(|fallback| fallback.is_boolean() || fallback.is_null())
        }
        _ => false,
    };
    if well_formed { Ok(()) } else { Err(invalid(format!("the key {id} has the wrong form"))) }
}

/// A device's keys as `asker` may see them: with the owner's and the asker's own signatures, and the device's name.
///
/// # Errors
///
/// Database errors.
pub fn device_keys_for(
    db: &Reader<'_>,
    asker: Option<UserNid>,
    owner: UserNid,
    wanted: &[OwnedDeviceId],
) -> Result<BTreeMap<String, Value>, StoreError> {
    let mut found = BTreeMap::new();
    for (device_id, mut keys, name) in store::keys::devices(db, owner)? {
        if !wanted.is_empty() && !wanted.contains(&device_id) {
            continue;
        }
        add_signatures(db, asker, owner, device_id.as_str(), &mut keys)?;
        if let (Some(name), Some(object)) = (name, keys.as_object_mut()) {
            object.insert("unsigned".into(), serde_json::json!({ "device_display_name": name }));
        }
        found.insert(device_id.to_string(), keys);
    }
    Ok(found)
}

/// A cross-signing key as `asker` may see it.
///
/// # Errors
///
/// Database errors.
pub fn cross_signing_key_for(db: &Reader<'_>, asker: Option<UserNid>, owner: UserNid, usage: &str) -> Result<Option<Value>, StoreError> {
    let Some(mut key) = store::keys::cross_signing(db, owner, usage)? else { return Ok(None) };
    if let Some(public) = super::cross_signing::public_key(&key) {
        add_signatures(db, asker, owner, &public, &mut key)?;
    }
    Ok(Some(key))
}

/// Signatures by the owner are everybody's to see; those by others only the signer's: they show whom somebody has verified.
fn add_signatures(db: &Reader<'_>, asker: Option<UserNid>, owner: UserNid, target_key: &str, key: &mut Value) -> Result<(), StoreError> {
    let Some(object) = key.as_object_mut() else { return Ok(()) };
    for signature in store::keys::signatures(db, owner, target_key)? {
        if signature.signer != owner && Some(signature.signer) != asker {
            continue;
        }
        let all = object.entry("signatures").or_insert_with(|| Value::Object(Map::new()));
        let Some(all) = all.as_object_mut() else { continue };
        let by = all.entry(signature.signer_id).or_insert_with(|| Value::Object(Map::new()));
        if let Some(by) = by.as_object_mut() {
            by.insert(signature.signing_key, signature.signature.into());
        }
    }
    Ok(())
}

/// Deletes devices with tokens, keys and waiting messages, and notes the change of the user's device list.
///
/// # Errors
///
/// Database errors.
pub fn delete_devices(tx: &mut Tx<'_>, user: UserNid, devices: &[OwnedDeviceId]) -> Result<(), StoreError> {
    let mut had_keys = false;
    for device_id in devices {
        had_keys |= store::devices::delete(tx, user, device_id)?;
    }
    // A device that waits for news is told at once that it is signed out.
    tx.touch(user);
    if had_keys {
        store::device_lists::changed(tx, user)?;
    }
    Ok(())
}

/// Claims one key of a local user's device.
///
/// # Errors
///
/// Database errors.
pub fn claim(tx: &mut Tx<'_>, user: UserNid, device_id: &DeviceId, algorithm: &str) -> Result<Option<(String, Value)>, StoreError> {
    let found = store::one_time_keys::claim(tx, user, device_id, algorithm)?;
    Ok(found.map(|(key_id, key)| (format!("{algorithm}:{key_id}"), key)))
}
