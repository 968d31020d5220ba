//! Cross-signing: a user's three keys, and the signatures that tie devices and other users to them.
//!
//! Client-Server API, "Cross-signing". Every signature is verified before it is stored: others' clients would drop a wrong
//! one silently, and its uploader would never know.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, DeviceId, SigningKeyAlgorithm, UserId,
    serde::Base64,
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};
use serde_json::{Map, Value};

use super::keys::{KeyError, check_signatures_form};
use crate::homeserver::{
    store::{self, StoreError, Tx},
    types::{Requester, UserNid},
};

/// The usages, in the order in which they are checked.
pub const USAGES: [&str; 3] = ["master", "self_signing", "user_signing"];

/// Cross-signing keys as a client uploads them, each optional.
#[derive(Debug, Default, Clone)]
pub struct SigningKeys {
    /// The master key.
    pub master: Option<Value>,
    /// Signs the user's own devices.
    pub self_signing: Option<Value>,
    /// Signs other users' master keys.
    pub user_signing: Option<Value>,
}

impl SigningKeys {
    fn get(&self, usage: &str) -> Option<&Value> {
        match usage {
            "master" => self.master.as_ref(),
            "self_signing" => self.self_signing.as_ref(),
            _ => self.user_signing.as_ref(),
        }
    }
}

/// Why cross-signing keys were not taken.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// There is no master key, neither in the upload nor from before.
    #[error("there is no master key yet")]
    MissingMaster,
    /// One of the user's devices has that ID already.
    #[error("a key is the same as the ID of one of the user's devices")]
    IsDevice,
    /// As for other keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<StoreError> for SigningError {
    fn from(error: StoreError) -> Self {
        Self::Key(KeyError::Store(error))
    }
}

/// The public key of a cross-signing key object (unpadded base64).
#[must_use]
pub fn public_key(key: &Value) -> Option<String> {
    let keys = key.get("keys")?.as_object()?;
    let (id, value) = keys.iter().next()?;
    let public = id.strip_prefix("ed25519:")?;
    (keys.len() == 1 && value.as_str() == Some(public)).then(|| public.to_owned())
}

pub(super) fn check_form(key: &Value, usage: &str, user_id: &UserId) -> Result<String, KeyError> {
    let wrong = |what: &str| KeyError::Invalid(format!("the {usage} key {what}"));
    let object = key.as_object().ok_or_else(|| wrong("is not an object"))?;
    if key.to_string().len() > 16 * 1024 {
        return Err(wrong("is too large"));
    }
    if object.get("user_id").and_then(Value::as_str) != Some(user_id.as_str()) {
        return Err(wrong("is not the signed-in user's"));
    }
    let usages = object.get("usage").and_then(Value::as_array).ok_or_else(|| wrong("has no usage"))?;
    if !usages.iter().any(|u| u.as_str() == Some(usage)) {
        return Err(wrong("is for another usage"));
    }
    if object.contains_key("signatures") {
        check_signatures_form(object)?;
    }
    let public = public_key(key).ok_or_else(|| wrong("does not hold exactly one ed25519 key under its own name"))?;
    if decode(&public).is_none_or(|bytes| bytes.len() != 32) {
        return Err(wrong("is not 32 bytes of base64"));
    }
    Ok(public)
}

/// Is this one of the user's cross-signing keys? Then it is no ID for a device: signatures on the two could not be told apart
/// (Client-Server API, "Cross-signing").
///
/// # Errors
///
/// Database errors.
pub fn is_key(db: &store::Reader<'_>, user: UserNid, device_id: &DeviceId) -> Result<bool, StoreError> {
    for usage in USAGES {
        if store::keys::cross_signing(db, user, usage)?.as_ref().and_then(public_key).as_deref() == Some(device_id.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    Base64::<ruma::serde::base64::Standard, Vec<u8>>::parse(text).ok().map(Base64::into_inner)
}

/// True when `signed` carries a good signature of `signer` made with `ed25519:{key_name}`, whose public key is given.
fn is_signed_by(signed: &Value, signer: &str, key_name: &str, public: &str) -> bool {
    let verify = || {
        let signature = signed.get("signatures")?.get(signer)?.get(format!("ed25519:{key_name}"))?.as_str()?;
        let object: CanonicalJsonObject = serde_json::from_value(signed.clone()).ok()?;
        let bytes = to_canonical_json_string_for_signing(&object).ok()?;
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, &decode(public)?, &decode(signature)?, bytes.as_bytes()).ok()
    };
    verify().is_some()
}

/// True when the upload brings nothing that is not stored already, or when there is no master key yet: then the client need
/// not authenticate again (Client-Server API, `POST /keys/device_signing/upload`).
///
/// # Errors
///
/// Database errors.
pub fn needs_no_authentication(db: &store::Reader<'_>, user: UserNid, upload: &SigningKeys) -> Result<bool, StoreError> {
    if store::keys::cross_signing(db, user, "master")?.is_none() {
        return Ok(true);
    }
    for usage in USAGES {
        if let Some(new) = upload.get(usage)
            && store::keys::cross_signing(db, user, usage)?.as_ref().map(identity) != Some(identity(new))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What makes two uploads the same key.
fn identity(key: &Value) -> (Option<String>, Option<Value>) {
    (public_key(key), key.get("usage").cloned())
}

/// Stores cross-signing keys, all or none.
///
/// # Errors
///
/// [`SigningError`].
pub fn upload(tx: &mut Tx<'_>, who: &Requester, keys: &SigningKeys) -> Result<(), SigningError> {
    for usage in USAGES {
        if let Some(key) = keys.get(usage) {
            check_form(key, usage, &who.user_id)?;
        }
    }
    let old_master = store::keys::cross_signing(&tx.reader(), who.user, "master")?;
    let master = keys.master.as_ref().or(old_master.as_ref()).and_then(public_key).ok_or(SigningError::MissingMaster)?;
    let mut changed = false;
    for usage in USAGES {
        let old = store::keys::cross_signing(&tx.reader(), who.user, usage)?;
        let new = keys.get(usage);
        if usage != "master"
            && let Some(new) = new
            && !is_signed_by(new, who.user_id.as_str(), &master, &master)
        {
            return Err(KeyError::InvalidSignature(format!("the {usage} key is not signed by the master key")).into());
        }
        match (old, new) {
            (Some(old), Some(new)) if old == *new => {}
            (old, Some(new)) => {
                if let Some(public) = public_key(new)
                    && store::devices::get(&tx.reader(), who.user, public.as_str().into())?.is_some()
                {
                    return Err(SigningError::IsDevice);
                }
                if let Some(old) = old.as_ref().filter(|old| public_key(old) != public_key(new)) {
                    forget(tx, who.user, old)?;
                }
                store::keys::put_cross_signing(tx, who.user, usage, new)?;
                changed = true;
            }
            // A key that the new master key has not signed is of no use to anybody.
            (Some(old), None) if usage != "master" && !is_signed_by(&old, who.user_id.as_str(), &master, &master) => {
                forget(tx, who.user, &old)?;
                store::keys::delete_cross_signing(tx, who.user, usage)?;
                changed = true;
            }
            (_, None) => {}
        }
    }
    if changed {
        store::device_lists::changed(tx, who.user)?;
    }
    Ok(())
}

/// Drops the signatures on and by a key that is replaced.
fn forget(tx: &Tx<'_>, user: UserNid, old: &Value) -> Result<(), StoreError> {
    if let Some(public) = public_key(old) {
        store::keys::drop_signatures_on(tx, user, &public)?;
        store::keys::drop_signatures_by(tx, user, &format!("ed25519:{public}"))?;
    }
    Ok(())
}

/// Why one signature was not taken: errcode and message.
pub type Refusal = (&'static str, String);

/// Keys of one user with new signatures: key ID to signed object.
pub type Signed = BTreeMap<String, Value>;

/// Stores signatures. Returns what was refused, by user and key.
///
/// # Errors
///
/// Database errors.
pub fn upload_signatures(
    tx: &mut Tx<'_>,
    who: &Requester,
    signed: &BTreeMap<String, Signed>,
) -> Result<BTreeMap<String, BTreeMap<String, Refusal>>, StoreError> {
    let mut refused: BTreeMap<String, BTreeMap<String, Refusal>> = BTreeMap::new();
    let mut own_changed = false;
    for (user_id, keys) in signed {
        let target = match UserId::parse(user_id) {
            Ok(id) => store::users::find(&tx.reader(), &id)?,
            Err(_) => None,
        };
        let mut others_changed = false;
        for (key_id, object) in keys {
            let outcome = match target {
                Some(target) => sign_one(tx, who, target, user_id, key_id, object)?,
                None => Err(("M_NOT_FOUND", "There is no such user".to_owned())),
            };
            match outcome {
                Ok(new) if target == Some(who.user) => own_changed |= new,
                Ok(new) => others_changed |= new,
                Err(refusal) => {
                    refused.entry(user_id.clone()).or_default().insert(key_id.clone(), refusal);
                }
            }
        }
        if let Some(target) = target.filter(|_| others_changed) {
            store::device_lists::signed(tx, who.user, target)?;
        }
    }
    if own_changed {
        store::device_lists::changed(tx, who.user)?;
    }
    Ok(refused)
}

/// Takes the signatures on one key. True when there was a new one.
fn sign_one(
    tx: &mut Tx<'_>,
    who: &Requester,
    target: UserNid,
    target_id: &str,
    key_id: &str,
    object: &Value,
) -> Result<Result<bool, Refusal>, StoreError> {
    let not_found = || ("M_NOT_FOUND", "There is no such key".to_owned());
    let own = target == who.user;
    let master = store::keys::cross_signing(&tx.reader(), target, "master")?;
    let is_master = master.as_ref().and_then(public_key).as_deref() == Some(key_id);
    let stored = if is_master {
        master
    } else if own {
        store::keys::device(&tx.reader(), target, key_id.into())?
    } else {
        None
    };
    let Some(stored) = stored else { return Ok(Err(not_found())) };
    if bare(&stored) != bare(object) {
        return Ok(Err(("M_INVALID_SIGNATURE", format!("The key of {target_id} differs from the one on the server"))));
    }
    // Who may have signed: our own devices our master key, our self-signing key our devices, our user-signing key others.
    let signers = match (own, is_master) {
        (true, true) => own_devices(tx, who.user)?,
        (true, false) => signing_key(tx, who.user, "self_signing")?,
        (false, _) => signing_key(tx, who.user, "user_signing")?,
    };
    let (mut found, mut new) = (false, false);
    let ours = object.get("signatures").and_then(|all| all.get(who.user_id.as_str())).and_then(Value::as_object);
    for (signing_key, signature) in ours.into_iter().flatten() {
        let (Some(name), Some(text)) = (signing_key.strip_prefix("ed25519:"), signature.as_str()) else { continue };
        let Some(public) = signers.get(name) else { continue };
        if !is_signed_by(object, who.user_id.as_str(), name, public) {
            return Ok(Err(("M_INVALID_SIGNATURE", "The signature does not fit the key".to_owned())));
        }
        found = true;
        new |= store::keys::put_signature(tx, target, key_id, who.user, signing_key, text)?;
    }
    if found { Ok(Ok(new)) } else { Ok(Err(("M_INVALID_SIGNATURE", "There is no signature by a key that may sign this one".to_owned()))) }
}

/// A key without what may differ between two copies of it.
fn bare(key: &Value) -> Map<String, Value> {
    let mut object = key.as_object().cloned().unwrap_or_default();
    object.remove("signatures");
    object.remove("unsigned");
    object
}

/// Key name to public key.
type Signers = BTreeMap<String, String>;

fn signing_key(tx: &Tx<'_>, user: UserNid, usage: &str) -> Result<Signers, StoreError> {
    let key = store::keys::cross_signing(&tx.reader(), user, usage)?;
    Ok(key.as_ref().and_then(public_key).map(|public| (public.clone(), public)).into_iter().collect())
}

fn own_devices(tx: &Tx<'_>, user: UserNid) -> Result<Signers, StoreError> {
    let devices = store::keys::devices(&tx.reader(), user)?;
    let public = |id: &str, keys: &Value| Some(keys.get("keys")?.get(format!("ed25519:{id}"))?.as_str()?.to_owned());
    Ok(devices.into_iter().filter_map(|(id, keys, _)| public(id.as_str(), &keys).map(|key| (id.to_string(), key))).collect())
}
