//! Which services want to hear of what (Application Service API, "Registration").

use std::collections::BTreeSet;

use ruma::RoomId;

use super::AppServices;
use crate::homeserver::{
    events::hook::NewEvent,
    store::{Reader, Result, Tx, aliases, appservices, members},
    types::{RoomNid, UserNid},
};

impl AppServices {
    /// The services that are interested in a room in which these local users are, by their places.
    pub(super) fn interested(&self, db: &Reader<'_>, room: RoomNid, room_id: &RoomId, local: &[UserNid]) -> Result<BTreeSet<usize>> {
        let mut found = self.of_users(db, local)?;
        let mut room_aliases = None;
        for (place, service) in self.services.iter().enumerate() {
            if found.contains(&place) {
                continue;
            }
            let by_alias = service.wants_aliases() && {
                let known = match &room_aliases {
                    Some(known) => known,
                    None => &*room_aliases.insert(aliases::of_room(db, room)?),
                };
                known.iter().any(|alias| service.has_alias(alias))
            };
            if by_alias || service.has_room(room_id) {
                found.insert(place);
            }
        }
        Ok(found)
    }

    /// True when the service at this place is interested in a room.
    pub(super) fn wants_room(&self, db: &Reader<'_>, place: usize, room: RoomNid, room_id: &RoomId) -> Result<bool> {
        Ok(self.interested(db, room, room_id, &members::local_joined(db, room)?)?.contains(&place))
    }
}

/// Queues a new event for the services that want it, in the transaction that stores it.
///
/// # Errors
///
/// Store errors.
pub fn on_event(tx: &mut Tx<'_>, services: &AppServices, event: &NewEvent<'_>) -> Result<()> {
    if services.services.is_empty() {
        return Ok(());
    }
    let places = services.interested(&tx.reader(), event.room.nid, &event.room.room_id, event.audience)?;
    for service in places.into_iter().filter_map(|place| services.services.get(place)).filter(|service| service.url.is_some()) {
        appservices::queue(tx, &service.id, event.pos, event.nid)?;
        // Also where nobody here is in the room: who carries events waits for commits that concern somebody.
        tx.touch(event.sender);
    }
    Ok(())
}
