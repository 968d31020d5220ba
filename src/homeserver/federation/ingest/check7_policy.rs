//! Check 7: where the room has a policy server, it has let the event through (Server-Server API, "Policy Servers"). What it has
//! not is soft-failed.
//!
//! The policy server's public key stands in the room's `m.room.policy`, so its signature is checked without asking anybody.

use crate::homeserver::{
    events::{Result, policy},
    rooms::auth::Verdict,
    store::Reader,
    types::{Pdu, RoomHandle},
};

/// Checks an event against the room's policy server, if it has one.
///
/// # Errors
///
/// Store errors.
pub fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Verdict> {
    if policy::is_exempt(pdu) {
        return Ok(Verdict::Accepted);
    }
    let Some(by) = policy::server(db, room)? else { return Ok(Verdict::Accepted) };
    Ok(match policy::is_signed(pdu, room, &by) {
        true => Verdict::Accepted,
        false => Verdict::Rejected(format!("the policy server {} has not let it through", by.name)),
    })
}
