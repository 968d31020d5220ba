//! Check 7: where the room has a policy server, it has let the event through (Server-Server API, "Policy Servers"). What it has
//! not is soft-failed.
//!
//! The policy server's public key stands in the room's `m.room.policy`, so its signature is checked without asking anybody.

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, serde::Base64, signatures::verify_json};
use serde::Deserialize;

use crate::homeserver::{
    events::{EventError, Result},
    rooms::{auth::Verdict, format, redact::prune},
    store::{Reader, events, servers, state},
    types::{Pdu, RoomHandle},
};

/// The key ID of every policy server's signatures.
const KEY_ID: &str = "ed25519:policy_server";

#[derive(Deserialize)]
struct Content {
    via: String,
    public_keys: PublicKeys,
}

#[derive(Deserialize)]
struct PublicKeys {
    ed25519: String,
}

/// Checks an event against the room's policy server, if it has one.
///
/// # Errors
///
/// Store errors.
pub fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Verdict> {
    if pdu.kind().to_string() == "m.room.policy" && pdu.state_key() == Some("") {
        return Ok(Verdict::Accepted);
    }
    let Some(nid) = state::current(db, room.nid, "m.room.policy", "")? else { return Ok(Verdict::Accepted) };
    let content = format::content(&events::by_nid(db, nid)?.json).map_err(|e| EventError::Internal(e.to_string()))?;
    // A policy that names no server and no key is none.
    let Ok(Content { via, public_keys }) = serde_json::from_str::<Content>(content.get()) else { return Ok(Verdict::Accepted) };
    let Ok(server) = ServerName::parse(&via) else { return Ok(Verdict::Accepted) };
    if !servers::is_in_room(db, room.nid, &server)? {
        return Ok(Verdict::Accepted);
    }
    Ok(match signed(pdu, room, &server, &public_keys.ed25519) {
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
