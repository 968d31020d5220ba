//! The one place where other parts of the node look at each new event, inside the transaction that stores it.

use super::{Ctx, Result};
use crate::homeserver::{
    push,
    store::{Tx, delayed},
    types::{EventNid, Pdu, RoomHandle, StreamPos, UserNid},
};

/// A new event, as those who act on it see it.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its room.
    pub room: &'a RoomHandle,
    /// The event.
    pub pdu: &'a Pdu,
    /// In the store.
    pub nid: EventNid,
    /// Its place.
    pub pos: StreamPos,
    /// Its sender.
    pub sender: UserNid,
    /// Local users who are joined to the room once it has been applied, and the local user whom it invites.
    pub audience: &'a [UserNid],
}

/// Wakes those concerned and counts what their push rules say.
pub(super) fn after_append(tx: &mut Tx<'_>, ctx: &Ctx, event: &NewEvent<'_>) -> Result<()> {
    for user in event.audience {
        tx.touch(*user);
    }
    push::on_event(
        tx,
        &push::NewEvent { room: event.room, pdu: event.pdu, nid: event.nid, pos: event.pos, sender: event.sender, now_ms: ctx.now_ms },
    )?;
    if let Some(state_key) = event.pdu.state_key() {
        delayed::superseded(tx, event.room.nid, &event.pdu.kind().to_string(), state_key, event.sender)?;
    }
    Ok(())
}
