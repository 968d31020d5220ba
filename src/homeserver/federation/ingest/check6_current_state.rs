//! Check 6: the event is allowed by the room's current state. What is not is soft-failed: it counts for others' states, but is
//! not shown to clients and nothing of ours follows it.

use super::lookup::{Lookup, judge};
use crate::homeserver::{
    events::Result,
    rooms::auth::Verdict,
    store::{Reader, state},
    types::{Pdu, RoomHandle},
};

/// Checks an event against the current state.
///
/// # Errors
///
/// Store errors.
pub fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Verdict> {
    let lookup = Lookup::new(db, room);
    judge(&lookup, pdu, |kind, state_key| state::current(db, room.nid, kind, state_key))
}
