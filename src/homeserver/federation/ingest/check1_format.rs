//! Check 1: the event is one of its room's version, and of this room. What is not is dropped.

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
    let pdu = wire::read(raw, &room.rules, purpose).map_err(|why| Dropped(why.0))?;
    if !wire::belongs(&pdu, &room.room_id, &room.rules) {
        return Err(Dropped(format!("{} is not of the room {}", pdu.event_id(), room.room_id)));
    }
    Ok(pdu)
}
