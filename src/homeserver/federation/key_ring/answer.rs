//! What a server says its keys are, checked (Server-Server API, "Publishing Keys").

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName, SigningKeyAlgorithm,
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};

use crate::homeserver::federation::names;

/// Keys that one server may have, those of the past included.
const MAX_KEYS: usize = 64;
/// Longest key ID, in bytes.
const MAX_KEY_ID_BYTES: usize = 128;
/// A key counts for so long after it was fetched, whatever the server says (Server-Server API, "Publishing Keys").
pub(super) const MAX_VALIDITY_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Why an answer counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAnswer(pub &'static str);

/// A public key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The 32 bytes of an Ed25519 key.
    pub public: Vec<u8>,
    /// Until when what it signs counts, in milliseconds since the Unix epoch: for a key in use, as the server says; for one of
    /// the past, when it was given up.
    pub valid_until_ms: u64,
    /// True for a key in use, which alone can sign requests.
    pub current: bool,
}

/// An answer that a server's own key has signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Keys by their IDs.
    pub keys: BTreeMap<String, Key>,
    /// When to ask again, as the server says, in milliseconds since the Unix epoch.
    pub valid_until_ms: u64,
    /// As it came, for those who ask us.
    pub object: CanonicalJsonObject,
}

/// Checks an answer about `server`: it has to be about that server and signed by one of the keys that it lists as in use.
///
/// # Errors
///
/// [`BadAnswer`].
pub fn check(server: &ServerName, object: CanonicalJsonObject) -> Result<Answer, BadAnswer> {
    if object.get("server_name").and_then(CanonicalJsonValue::as_str) != Some(server.as_str()) {
        return Err(BadAnswer("it is about another server"));
    }
    let valid_until_ms = milliseconds(object.get("valid_until_ts")).ok_or(BadAnswer("it does not say how long it is valid"))?;
    let mut keys = BTreeMap::new();
    // Keys of the past first: one that is in both lists is in use.
    for (list, current) in [("old_verify_keys", false), ("verify_keys", true)] {
        for (id, key) in listed(&object, list)? {
            let Some(public) = public_key(id, key) else { continue };
            let until_ms = if current { Some(valid_until_ms) } else { milliseconds(key.get("expired_ts")) };
            let Some(until_ms) = until_ms else { continue };
            keys.insert(id.clone(), Key { public, valid_until_ms: until_ms, current });
        }
    }
    if !keys.values().any(|key| key.current) {
        return Err(BadAnswer("it lists no key that could be used"));
    }
    if !signed_by_itself(server, &object, &keys)? {
        return Err(BadAnswer("none of the keys that it lists has signed it"));
    }
    Ok(Answer { keys, valid_until_ms, object })
}

fn milliseconds(value: Option<&CanonicalJsonValue>) -> Option<u64> {
    value.and_then(CanonicalJsonValue::as_integer).and_then(|number| u64::try_from(i64::from(number)).ok())
}

type Listed<'a> = Vec<(&'a String, &'a CanonicalJsonObject)>;

fn listed<'a>(object: &'a CanonicalJsonObject, list: &str) -> Result<Listed<'a>, BadAnswer> {
    let Some(keys) = object.get(list) else { return Ok(Vec::new()) };
    let keys = keys.as_object().ok_or(BadAnswer("its keys are no object"))?;
    if keys.len() > MAX_KEYS {
        return Err(BadAnswer("it lists too many keys"));
    }
    Ok(keys.iter().filter_map(|(id, key)| Some((id, key.as_object()?))).collect())
}

/// The key, when ID and key are of the only kind that there is. Others are passed over: a new kind must not spoil the rest.
fn public_key(id: &str, key: &CanonicalJsonObject) -> Option<Vec<u8>> {
    if !is_key_id(id) {
        return None;
    }
    let text = key.get("key")?.as_str()?;
    base64(text).filter(|bytes| bytes.len() == 32)
}

/// True for the ID of an Ed25519 key (Appendices, "Signing Details": the version is of `[a-zA-Z0-9_]`).
#[must_use]
pub fn is_key_id(id: &str) -> bool {
    id.len() <= MAX_KEY_ID_BYTES
        && id
            .strip_prefix("ed25519:")
            .is_some_and(|version| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// Base64 without padding; some servers pad all the same.
pub(in crate::homeserver::federation) fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// True when a listed key in use has signed. A signature of a listed key that is wrong spoils the answer.
fn signed_by_itself(server: &ServerName, object: &CanonicalJsonObject, keys: &BTreeMap<String, Key>) -> Result<bool, BadAnswer> {
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = signatures.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
    let Some(own) = own else { return Ok(false) };
    let text = to_canonical_json_string_for_signing(object).map_err(|_| BadAnswer("it is not canonical"))?;
    let mut signed = false;
    for (id, signature) in own {
        let Some(key) = keys.get(id) else { continue };
        let signature = signature.as_str().and_then(base64).ok_or(BadAnswer("a signature is malformed"))?;
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, &key.public, &signature, text.as_bytes())
            .map_err(|_| BadAnswer("a signature of its own is wrong"))?;
        signed |= key.current;
    }
    Ok(signed)
}

/// The server that an answer says it is about, when that is a server name.
pub(super) fn subject(object: &CanonicalJsonObject) -> Option<ruma::OwnedServerName> {
    object.get("server_name").and_then(CanonicalJsonValue::as_str).and_then(|name| names::parse(name).ok())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
pub(crate) mod tests {
    use ruma::{
        server_name,
        signatures::{Ed25519KeyPair, sign_json},
    };
    use serde_json::{Value, json};

    use super::*;

    /// A key pair with this version.
    pub(crate) fn pair(version: &str) -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
    }

    pub(crate) fn encoded(pair: &Ed25519KeyPair) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        STANDARD_NO_PAD.encode(pair.public_key())
    }

    pub(crate) fn object(value: Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    /// The answer of a server that has this key.
    pub(crate) fn answer(server: &str, pair: &Ed25519KeyPair, valid_until_ms: u64) -> CanonicalJsonObject {
        let id = format!("ed25519:{}", pair.version());
        let mut answer = object(json!({
            "server_name": server,
            "verify_keys": { id: { "key": encoded(pair) } },
            "valid_until_ts": valid_until_ms,
        }));
        sign_json(server, pair, &mut answer).unwrap();
        answer
    }

    fn why(object: CanonicalJsonObject) -> &'static str {
        check(server_name!("a.example"), object).unwrap_err().0
    }

    #[test]
    fn a_signed_answer_counts() {
        let pair = pair("1");
        let checked = check(server_name!("a.example"), answer("a.example", &pair, 1000)).unwrap();
        let key = checked.keys.get("ed25519:1").unwrap();
        assert_eq!((key.public.as_slice(), key.valid_until_ms, key.current), (pair.public_key().as_slice(), 1000, true));
    }

    #[test]
    fn an_answer_about_somebody_else_does_not() {
        assert_eq!(why(answer("b.example", &pair("1"), 1000)), "it is about another server");
    }

    #[test]
    fn a_forged_answer_does_not() {
        let (own, other) = (pair("1"), pair("1"));
        // Another key's signature under the right ID.
        let mut forged = answer("a.example", &own, 1000);
        forged.remove("signatures");
        sign_json("a.example", &other, &mut forged).unwrap();
        assert_eq!(why(forged), "a signature of its own is wrong");
        // Changed afterwards.
        let mut changed = answer("a.example", &own, 1000);
        changed.insert("valid_until_ts".into(), CanonicalJsonValue::Integer(2000_u32.into()));
        assert_eq!(why(changed), "a signature of its own is wrong");
        // Signed only by a key that is not listed, or by nobody.
        let mut stranger = answer("a.example", &own, 1000);
        stranger.remove("signatures");
        assert_eq!(why(stranger.clone()), "none of the keys that it lists has signed it");
        sign_json("a.example", &pair("2"), &mut stranger).unwrap();
        assert_eq!(why(stranger), "none of the keys that it lists has signed it");
    }

    #[test]
    fn a_key_of_the_past_cannot_vouch_for_the_present() {
        let (old, new) = (pair("old"), pair("new"));
        let mut answer = object(json!({
            "server_name": "a.example",
            "verify_keys": { "ed25519:new": { "key": encoded(&new) } },
            "old_verify_keys": { "ed25519:old": { "key": encoded(&old), "expired_ts": 500 } },
            "valid_until_ts": 1000,
        }));
        sign_json("a.example", &old, &mut answer).unwrap();
        assert_eq!(why(answer.clone()), "none of the keys that it lists has signed it");
        sign_json("a.example", &new, &mut answer).unwrap();
        let checked = check(server_name!("a.example"), answer).unwrap();
        let old = checked.keys.get("ed25519:old").unwrap();
        assert_eq!((old.valid_until_ms, old.current), (500, false));
    }

    #[test]
    fn what_is_malformed_is_passed_over_or_refused_but_never_believed() {
        let pair = pair("1");
        for (field, value) in [
            ("verify_keys", json!({})),
            ("verify_keys", json!([])),
            ("verify_keys", json!({ "ed25519:1": { "key": "short" } })),
            ("verify_keys", json!({ "ed25519:1": "no object" })),
            ("verify_keys", json!({ "ed25519:a b": { "key": encoded(&pair) } })),
            ("verify_keys", json!({ "curve25519:1": { "key": encoded(&pair) } })),
            ("valid_until_ts", json!(-5)),
            ("valid_until_ts", json!("soon")),
            ("server_name", json!(7)),
        ] {
            let mut wrong = answer("a.example", &pair, 1000);
            wrong.insert(field.into(), serde_json::from_value(value.clone()).unwrap());
            assert!(check(server_name!("a.example"), wrong).is_err(), "{field}: {value}");
        }
        let many = (0..=MAX_KEYS).map(|n| (format!("ed25519:{n}"), json!({ "key": encoded(&pair) }))).collect::<serde_json::Map<_, _>>();
        let mut wrong = answer("a.example", &pair, 1000);
        wrong.insert("verify_keys".into(), serde_json::from_value(many.into()).unwrap());
        assert_eq!(why(wrong), "it lists too many keys");
    }
}
