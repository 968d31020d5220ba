//! Check 5: the event is allowed by the state before it. What is not is rejected, for good.

use super::lookup::{Lookup, judge};
use crate::homeserver::{
    events::Result,
    rooms::auth::Verdict,
    store::{Reader, state},
    types::{Pdu, RoomHandle, StateGroupId},
};

/// Checks an event against a state.
///
/// # Errors
///
/// Store errors.
pub fn check(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu, before: StateGroupId) -> Result<Verdict> {
    let lookup = Lookup::new(db, room);
    judge(&lookup, pdu, |kind, state_key| {
        let Some(key) = state::find_key(db, kind, state_key)? else { return Ok(None) };
        state::key_of_group(db, before, key)
    })
}
