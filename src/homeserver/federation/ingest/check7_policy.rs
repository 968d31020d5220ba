//! Check 7: where the room has a policy server, it has let the event through (Server-Server API, "Policy Servers"). What it has
//! not is soft-failed.
//!
//! The policy server's public key stands in the room's `m.room.policy`, so its signature is checked without asking anybody.

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, serde::Base64, signatures::verify_json};

use crate::homeserver::{
    events::{
        Result,
        policy::{self, PolicyServer},
    },
    rooms::{auth::Verdict, redact::prune},
    store::Reader,
    types::{Pdu, RoomHandle},
};

/// The key ID of every policy server's signatures.
const KEY_ID: &str = "ed25519:policy_server";

/// Checks an event against the room's policy server, if it has one.
///
/// # Errors
///
/// Store errors.
pub fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Verdict> {
    if policy::is_exempt(pdu) {
        return Ok(Verdict::Accepted);
    }
    let Some(PolicyServer { name: server, key }) = policy::server(db, room)? else { return Ok(Verdict::Accepted) };
    Ok(match signed(pdu, room, &server, &key) {
        true => Verdict::Accepted,
        false => Verdict::Rejected(format!("the policy server {server} has not let it through")),
    })
}

/// Has the policy server signed what redaction leaves of the event, with this key?
fn signed(pdu: &Pdu, room: &RoomHandle, server: &ServerName, key: &str) -> bool {
    let signature = pdu.json().get("signatures").and_then(CanonicalJsonValue::as_object).and_then(|all| all.get(server.as_str()));
    let signature = signature.and_then(CanonicalJsonValue::as_object).and_then(|keys| keys.get(KEY_ID));
    let (Some(signature), Ok(key)) = (signature, Base64::parse(key)) else { return false };
    let Ok(mut json) = prune(pdu.json(), &room.rules.redaction) else { return false };
    // Only this one: the server may have signed the event with a key of its own as well.
    let only = CanonicalJsonObject::from([(KEY_ID.to_owned(), signature.clone())]);
    let signatures = CanonicalJsonObject::from([(server.to_string(), CanonicalJsonValue::Object(only))]);
    json.insert("signatures".into(), CanonicalJsonValue::Object(signatures));
    let keys = BTreeMap::from([(server.to_string(), BTreeMap::from([(KEY_ID.to_owned(), key)]))]);
    verify_json(&keys, &json).is_ok()
}
