//! Keys of other servers' users: what is kept of them, and how changes are applied.
//!
//! Whatever a server says of its users' keys is checked for form before it is kept or passed on: our users' clients rely on
//! the form, and one malformed device must not hide the others. What the keys are worth only the clients can tell.
//! Server-Server API, "Device Management" and "End-to-End Encryption".

use std::collections::BTreeMap;

use ruma::{DeviceId, UserId};
use serde_json::Value;

use super::{
    cross_signing::{self, public_key},
    keys::check_device_keys,
};
use crate::homeserver::{
    store::{self, StoreError, Tx, device_lists, remote_devices},
    types::{StreamPos, UserNid},
};

/// Devices of one user that are kept.
const DEVICES: usize = 1000;
/// Longest device name that is passed on.
const NAME_BYTES: usize = 1000;

/// A user's devices and keys as their server says they are.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The newest change that is in it, where the server says so.
    pub stream_id: Option<i64>,
    /// Device ID to keys.
    pub devices: BTreeMap<String, Value>,
    /// The master key.
    pub master: Option<Value>,
    /// The self-signing key.
    pub self_signing: Option<Value>,
}

impl Fetched {
    /// Takes a device's keys if they have the form that keys have, with the device's name where others are told it.
    pub fn add_device(&mut self, user_id: &UserId, device_id: &str, mut keys: Value, name: Option<&str>) {
        if self.devices.len() >= DEVICES {
            tracing::debug!(%user_id, "a remote user has more devices than are kept");
            return;
        }
        match check(user_id, device_id, &keys) {
            Ok(()) => {
                name_device(&mut keys, name);
                self.devices.insert(device_id.to_owned(), keys);
            }
            Err(why) => tracing::debug!(%user_id, why, "a remote device's keys were dropped"),
        }
    }

    /// Takes a cross-signing key if it has the form that such keys have.
    pub fn add_cross_signing(&mut self, user_id: &UserId, usage: &str, key: Value) {
        match cross_signing::check_form(&key, usage, user_id) {
            Ok(_) if usage == "master" => self.master = Some(key),
            Ok(_) => self.self_signing = Some(key),
            Err(why) => tracing::debug!(%user_id, %why, "a remote cross-signing key was dropped"),
        }
    }
}

fn check(user_id: &UserId, device_id: &str, keys: &Value) -> Result<(), String> {
    if device_id.is_empty() || device_id.len() > 255 {
        return Err("the device ID is empty or too long".into());
    }
    check_device_keys(keys, user_id.as_str(), device_id).map_err(|error| error.to_string())
}

/// What the server adds is `unsigned`: the name, and nothing else.
fn name_device(keys: &mut Value, name: Option<&str>) {
    let Some(object) = keys.as_object_mut() else { return };
    let given = object.remove("unsigned");
    let given = given.as_ref().and_then(|unsigned| unsigned.get("device_display_name")).and_then(Value::as_str);
    if let Some(name) = name.or(given).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES) {
        object.insert("unsigned".into(), serde_json::json!({ "device_display_name": name }));
    }
}

/// Keeps what a server answered. `heard` is how many changes had been heard of when it was asked, at `asked_pos`: one more
/// by now, and the answer may be older than what that change said. Local users are told only if something is different.
///
/// # Errors
///
/// Database errors.
pub fn replace(tx: &mut Tx<'_>, user: UserNid, fetched: &Fetched, asked_pos: StreamPos, heard: i64) -> Result<(), StoreError> {
    let known = remote_devices::get(&tx.reader(), user)?;
    let overtaken = known.is_some_and(|known| known.heard != heard);
    let mut before: BTreeMap<String, Value> =
        store::keys::devices(&tx.reader(), user)?.into_iter().map(|(id, keys, _)| (id.to_string(), keys)).collect();
    let mut changed = false;
    for (device_id, keys) in &fetched.devices {
        if before.remove(device_id).as_ref() != Some(keys) {
            store::keys::put_device(tx, user, <&DeviceId>::from(device_id.as_str()), keys)?;
            changed = true;
        }
    }
    for gone in before.keys() {
        remote_devices::delete_device(tx, user, gone)?;
        changed = true;
    }
    for (usage, key) in [("master", &fetched.master), ("self_signing", &fetched.self_signing)] {
        changed |= put_cross_signing(tx, user, usage, key.as_ref())?;
    }
    remote_devices::fetched(tx, user, fetched.stream_id, (!overtaken).then_some(asked_pos))?;
    // A list that had to be asked for again was told of when that became so; one that was thought current is in clients' memory.
    if changed && known.is_some_and(|known| known.asked_pos.is_some()) {
        device_lists::changed(tx, user)?;
    }
    Ok(())
}

/// Keeps a cross-signing key, or that there is none. True when that is new.
fn put_cross_signing(tx: &mut Tx<'_>, user: UserNid, usage: &str, key: Option<&Value>) -> Result<bool, StoreError> {
    let old = store::keys::cross_signing(&tx.reader(), user, usage)?;
    if old.as_ref() == key {
        return Ok(false);
    }
    // What our users signed was the old key.
    if let Some(public) = old.as_ref().and_then(public_key)
        && key.and_then(public_key).as_ref() != Some(&public)
    {
        store::keys::drop_signatures_on(tx, user, &public)?;
    }
    match key {
        Some(key) => store::keys::put_cross_signing(tx, user, usage, key)?,
        None => store::keys::delete_cross_signing(tx, user, usage)?,
    }
    Ok(true)
}

/// A change of one device, as `m.device_list_update` has it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The device.
    pub device_id: String,
    /// Its name, where others are told it.
    pub name: Option<String>,
    /// The change's place among those of this user.
    pub stream_id: i64,
    /// The changes that it follows.
    pub prev_id: Vec<i64>,
    /// The device is gone.
    pub deleted: bool,
    /// The device's keys.
    pub keys: Option<Value>,
}

/// Applies a change, or notes that the list has to be asked for again because something before it is missing. Clients are
/// told either way.
///
/// # Errors
///
/// Database errors.
pub fn update(tx: &mut Tx<'_>, user: UserNid, user_id: &UserId, change: &Change) -> Result<(), StoreError> {
    if !begin(tx, user)? {
        return Ok(());
    }
    let known = remote_devices::get(&tx.reader(), user)?.and_then(|known| known.stream_id);
    if known == Some(change.stream_id) {
        // Sent twice, or already in the list when we asked for it.
        return Ok(());
    }
    let follows = known.is_some_and(|known| !change.prev_id.is_empty() && change.prev_id.iter().all(|prev| *prev == known));
    let rooms = remote_devices::local_rooms(&tx.reader())?;
    if follows && remote_devices::is_current(&tx.reader(), &rooms, user)? && apply(tx, user, user_id, change)? {
        remote_devices::applied(tx, user, change.stream_id)?;
    } else {
        remote_devices::outdated(tx, user)?;
    }
    device_lists::changed(tx, user)?;
    Ok(())
}

/// Notes that news of a user came. False where none of ours shares a room with them: then it is nobody's business here.
fn begin(tx: &Tx<'_>, user: UserNid) -> Result<bool, StoreError> {
    if device_lists::local_observers(&tx.reader(), user)?.is_empty() {
        remote_devices::outdated(tx, user)?;
        return Ok(false);
    }
    remote_devices::heard(tx, user)?;
    Ok(true)
}

/// False for keys that are none.
fn apply(tx: &Tx<'_>, user: UserNid, user_id: &UserId, change: &Change) -> Result<bool, StoreError> {
    let device_id = <&DeviceId>::from(change.device_id.as_str());
    if change.deleted {
        remote_devices::delete_device(tx, user, &change.device_id)?;
        return Ok(true);
    }
    let old = store::keys::device(&tx.reader(), user, device_id)?;
    let Some(mut keys) = change.keys.clone().or_else(|| old.clone()) else { return Ok(true) };
    if let Err(why) = check(user_id, &change.device_id, &keys) {
        tracing::debug!(%user_id, why, "a change of a remote device was dropped");
        return Ok(false);
    }
    if old.is_none() && store::keys::devices(&tx.reader(), user)?.len() >= DEVICES {
        return Ok(false);
    }
    name_device(&mut keys, change.name.as_deref());
    store::keys::put_device(tx, user, device_id, &keys)?;
    Ok(true)
}

/// Takes new cross-signing keys, as `m.signing_key_update` has them.
///
/// # Errors
///
/// Database errors.
pub fn update_signing_keys(
    tx: &mut Tx<'_>,
    user: UserNid,
    user_id: &UserId,
    master: Option<&Value>,
    self_signing: Option<&Value>,
) -> Result<(), StoreError> {
    if !begin(tx, user)? {
        return Ok(());
    }
    let mut changed = false;
    for (usage, key) in [("master", master), ("self_signing", self_signing)] {
        let Some(key) = key else { continue };
        match cross_signing::check_form(key, usage, user_id) {
            Ok(_) => changed |= put_cross_signing(tx, user, usage, Some(key))?,
            Err(why) => tracing::debug!(%user_id, %why, "a remote cross-signing key was dropped"),
        }
    }
    if changed {
        device_lists::changed(tx, user)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn keys(user: &str, device: &str) -> Value {
        json!({
            "user_id": user,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("ed25519:{device}"): "a2V5" },
            "signatures": { user: { format!("ed25519:{device}"): "c2ln" } },
        })
    }

    /// CVE-2025-61672: keys of the wrong form, once taken, broke whoever was told of them.
    #[test]
    fn malformed_devices_are_dropped_and_the_others_kept() {
        let ben = user_id!("@ben:remote.test");
        let mut fetched = Fetched::default();
        fetched.add_device(ben, "ONE", keys(ben.as_str(), "ONE"), Some("Telephone"));
        for (field, value) in [
            ("user_id", json!("@eve:remote.test")),
            ("device_id", json!("OTHER")),
            ("algorithms", json!("m.olm")),
            ("keys", json!({ "ed25519:TWO": 5 })),
            ("keys", json!([])),
            ("signatures", json!(null)),
            ("signatures", json!({ "@ben:remote.test": 5 })),
        ] {
            let mut bad = keys(ben.as_str(), "TWO");
            if let Some(bad) = bad.as_object_mut() {
                bad.insert(field.into(), value);
            }
            fetched.add_device(ben, "TWO", bad, None);
        }
        fetched.add_device(ben, "", keys(ben.as_str(), ""), None);
        fetched.add_device(ben, "THREE", json!("text"), None);
        assert_eq!(fetched.devices.keys().collect::<Vec<_>>(), ["ONE"]);
        let named = fetched.devices.get("ONE").and_then(|keys| keys.get("unsigned")).cloned();
        assert_eq!(named, Some(json!({ "device_display_name": "Telephone" })));
    }

    #[test]
    fn a_server_adds_a_name_to_a_device_and_nothing_else() {
        let ben = user_id!("@ben:remote.test");
        let mut given = keys(ben.as_str(), "ONE");
        if let Some(given) = given.as_object_mut() {
            given.insert("unsigned".into(), json!({ "device_display_name": "x".repeat(5000), "more": 1 }));
        }
        let mut fetched = Fetched::default();
        fetched.add_device(ben, "ONE", given, None);
        assert_eq!(fetched.devices.get("ONE"), Some(&keys(ben.as_str(), "ONE")));
    }

    #[test]
    fn more_devices_than_anybody_has_are_not_kept() {
        let ben = user_id!("@ben:remote.test");
        let mut fetched = Fetched::default();
        for number in 0..DEVICES + 10 {
            let device = format!("D{number}");
            fetched.add_device(ben, &device, keys(ben.as_str(), &device), None);
        }
        assert_eq!(fetched.devices.len(), DEVICES);
    }
}
