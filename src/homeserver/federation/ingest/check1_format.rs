//! Check 1: the event is one of its room's version, and of this room. What is not is dropped.

use ruma::{RoomId, room_version_rules::RoomVersionRules};

use super::Dropped;
use crate::homeserver::{
    rooms::wire::{self, Purpose},
    types::{Pdu, RoomHandle},
};

/// Reads an event of a room.
///
/// # Errors
///
/// [`Dropped`]: it is malformed, too large, or of another room than it was sent for.
pub fn check(raw: &str, room: &RoomHandle, purpose: Purpose) -> Result<Pdu, Dropped> {
    check_for(raw, &room.room_id, &room.rules, purpose)
}

/// The same for a room that may not be here yet.
///
/// # Errors
///
/// As [`check`].
pub fn check_for(raw: &str, room_id: &RoomId, rules: &RoomVersionRules, purpose: Purpose) -> Result<Pdu, Dropped> {
    let pdu = wire::read(raw, rules, purpose).map_err(|why| Dropped(why.0))?;
    if !wire::belongs(&pdu, room_id, rules) {
        return Err(Dropped(format!("{} is not of the room {room_id}", pdu.event_id())));
    }
    Ok(pdu)
}
