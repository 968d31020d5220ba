//! Redactions take effect: the target's content is gone from the store, not just hidden.

use std::sync::Arc;

use super::{EventError, Result};
use crate::homeserver::{
    rooms::{
        build,
        power::PowerLevels,
        redact::{prune, takes_effect},
    },
    store::{
        Reader, Tx,
        events::{self, StoredEvent},
        members, relations, state, users,
    },
    types::{EventNid, Pdu, RoomHandle},
};

/// The room's power levels as they are now.
pub(super) fn power_levels<'a>(db: &Reader<'_>, room: &'a RoomHandle) -> Result<PowerLevels<'a>> {
    let load = |kind: &str| -> Result<Option<Arc<Pdu>>> {
        let Some(nid) = state::current(db, room.nid, kind, "")? else { return Ok(None) };
        Ok(Some(Arc::new(events::by_nid(db, nid)?.pdu(&room.rules)?)))
    };
    let create = load("m.room.create")?.ok_or_else(|| EventError::Internal(format!("{} has no create event", room.room_id)))?;
    PowerLevels::new(create, load("m.room.power_levels")?, &room.rules.authorization).map_err(EventError::Internal)
}

/// Applies a redaction that has just been stored.
pub(super) fn apply(tx: &Tx<'_>, room: &RoomHandle, redaction: &Pdu, nid: EventNid) -> Result<()> {
    let Some(target_id) = redaction.redacts() else { return Ok(()) };
    let db = tx.reader();
    let Some(target) = events::by_id(&db, target_id)? else {
        return Ok(events::add_pending_redaction(tx, target_id, nid)?);
    };
    let sender = users::user_id(&db, target.sender)?;
    if target.room != room.nid || target.redacted_by.is_some() || target.kind == "m.room.create" {
        return Ok(());
    }
    if !takes_effect(&power_levels(&db, room)?, redaction.sender(), &sender).map_err(EventError::Forbidden)? {
        return Ok(events::add_pending_redaction(tx, target_id, nid)?);
    }
    redact(tx, room, &target, nid)
}

/// Applies the redactions that came before the event that they redact.
pub(super) fn catch_up(tx: &Tx<'_>, room: &RoomHandle, event_id: &ruma::EventId) -> Result<()> {
    for redaction in events::pending_redactions(&tx.reader(), event_id)? {
        let stored = events::by_nid(&tx.reader(), redaction)?;
        if stored.room == room.nid && stored.accepted() {
            apply(tx, room, &stored.pdu(&room.rules)?, redaction)?;
        }
    }
    Ok(())
}

fn redact(tx: &Tx<'_>, room: &RoomHandle, target: &StoredEvent, by: EventNid) -> Result<()> {
    let pdu = target.pdu(&room.rules)?;
    let pruned = prune(pdu.json(), &room.rules.redaction).map_err(EventError::Internal)?;
    events::redact(tx, target.nid, &build::canonical(&pruned)?, by)?;
    relations::remove(tx, target.nid)?;
    if target.kind == "m.room.member" {
        members::clear_profile(tx, target.nid, room.nid)?;
    }
    Ok(())
}
