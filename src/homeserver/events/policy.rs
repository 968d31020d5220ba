//! The policy server of a room (Server-Server API, "Policy Servers"): who has to let events through.
//!
//! Asking it for our own events is not built yet. What it has not signed would be hidden by every server that obeys it, so such
//! an event is refused here, where its sender is told why.

use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;

use super::{EventError, Result};
use crate::homeserver::{
    rooms::format,
    store::{Reader, events, servers, state},
    types::{Pdu, RoomHandle},
};

#[derive(Deserialize)]
struct Content {
    via: String,
    public_keys: PublicKeys,
}

#[derive(Deserialize)]
struct PublicKeys {
    ed25519: String,
}

/// A policy server that is in force.
#[derive(Debug)]
pub struct PolicyServer {
    /// Its name.
    pub name: OwnedServerName,
    /// Its public key, as Base64.
    pub key: String,
}

/// The room's policy server, if it has one.
///
/// # Errors
///
/// Store errors.
pub fn server(db: &Reader<'_>, room: &RoomHandle) -> Result<Option<PolicyServer>> {
    let Some(nid) = state::current(db, room.nid, "m.room.policy", "")? else { return Ok(None) };
    let content = format::content(&events::by_nid(db, nid)?.json).map_err(|e| EventError::Internal(e.to_string()))?;
    // A policy that names no server and no key is none.
    let Ok(Content { via, public_keys }) = serde_json::from_str::<Content>(content.get()) else { return Ok(None) };
    let Ok(name) = ServerName::parse(&via) else { return Ok(None) };
    Ok(servers::is_in_room(db, room.nid, &name)?.then_some(PolicyServer { name, key: public_keys.ed25519 }))
}

/// True for the event that says who the policy server is: it needs nobody's leave.
#[must_use]
pub fn is_exempt(pdu: &Pdu) -> bool {
    pdu.kind().to_string() == "m.room.policy" && pdu.state_key() == Some("")
}

/// Refuses an event of ours that a policy server would have to let through.
pub(super) fn check_own(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<()> {
    // Nobody is kept in a room.
    let leaves = pdu.membership() == Some("leave") && pdu.state_key() == Some(pdu.sender().as_str());
    if leaves || is_exempt(pdu) {
        return Ok(());
    }
    match server(db, room)? {
        None => Ok(()),
        Some(PolicyServer { name, .. }) => Err(EventError::Forbidden(format!(
            "The room's policy server {name} has to approve what is sent, and this server cannot ask it yet: nobody would see it"
        ))),
    }
}
