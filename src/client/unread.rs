//! How much of a room is unread: what the SDK counts in the events that it has, what the server counts, and what has been
//! read here a moment ago.
//!
//! The SDK's counts are right where it has the event that was read last, also in encrypted rooms, of which the server sees
//! little. After a long absence it has the newest few events only; then the server knows better (`unread_notifications`
//! in `/sync`, which servers with sliding sync may leave at 0).

use std::collections::HashMap;

use matrix_sdk::Room;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};

/// Unread messages of a room that notify, and those that mention us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) unread: u64,
    pub(super) mentions: u64,
}

impl Counts {
    /// As the SDK counts.
    pub(super) fn here(room: &Room) -> Self {
        Self { unread: room.num_unread_notifications(), mentions: room.num_unread_mentions() }
    }

    fn server(room: &Room) -> Self {
        let counts = room.unread_notification_counts();
        Self { unread: counts.notification_count, mentions: counts.highlight_count }
    }

    fn max(self, other: Self) -> Self {
        Self { unread: self.unread.max(other.unread), mentions: self.mentions.max(other.mentions) }
    }

    fn less(self, other: Self) -> Self {
        Self { unread: self.unread.saturating_sub(other.unread), mentions: self.mentions.saturating_sub(other.mentions) }
    }

    fn is_below(self, other: Self) -> bool {
        self.unread < other.unread || self.mentions < other.mentions
    }
}

/// Reading that the server, and through it the SDK, has not heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    up_to: OwnedEventId,
    /// The SDK's counts then: all of that has been read.
    before: Counts,
}

/// What is known of the unread of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    here: Counts,
    server: Counts,
    /// The SDK has the event that was read last, so that its counts begin where they should.
    exact: bool,
}

fn shown(known: Known, reading: Option<&Reading>) -> Counts {
    match reading {
        Some(reading) => known.here.less(reading.before),
        None if known.exact => known.here,
        None => known.here.max(known.server),
    }
}

/// The unread counts of rooms, as they are shown.
#[derive(Debug, Default)]
pub(super) struct Unread {
    readings: HashMap<OwnedRoomId, Reading>,
    shown: HashMap<OwnedRoomId, Counts>,
}

impl Unread {
    /// The counts of a room as they were counted last.
    pub(super) fn get(&self, room: &Room) -> Counts {
        self.shown.get(room.room_id()).copied().unwrap_or_else(|| Counts::here(room))
    }

    /// Remembers that the room has been read here up to this event.
    pub(super) fn read_here(&mut self, room: &Room, up_to: OwnedEventId) {
        self.readings.insert(room.room_id().to_owned(), Reading { up_to, before: Counts::here(room) });
    }

    /// Forgets a room.
    pub(super) fn forget(&mut self, room_id: &RoomId) {
        self.readings.remove(room_id);
        self.shown.remove(room_id);
    }

    /// Counts anew.
    pub(super) async fn count(&mut self, room: &Room) {
        let (here, server) = (Counts::here(room), Counts::server(room));
        let active = room.read_receipts().latest_active.map(|receipt| receipt.event_id);
        let room_id = room.room_id();
        if let Some(reading) = self.readings.get(room_id) {
            // The SDK has heard of it, or of more; or it has let go of the event, and counts from elsewhere.
            let over = active.as_ref() == Some(&reading.up_to) || here.is_below(reading.before) || !has_loaded(room, &reading.up_to).await;
            if over {
                self.readings.remove(room_id);
            }
        }
        let exact = match &active {
            // Nothing to decide.
            _ if here.max(server) == here => true,
            Some(active) => has_loaded(room, active).await,
            None => false,
        };
        let counts = shown(Known { here, server, exact }, self.readings.get(room_id));
        self.shown.insert(room_id.to_owned(), counts);
    }
}

/// True when the event is among those that the SDK counts.
async fn has_loaded(room: &Room, event_id: &EventId) -> bool {
    let found = async {
        let (cache, _keep) = room.event_cache().await?;
        cache.rfind_map_event_in_memory_by(|event| (event.event_id().as_deref() == Some(event_id)).then_some(())).await
    };
    match found.await {
        Ok(found) => found.is_some(),
        Err(error) => {
            tracing::debug!(room_id = %room.room_id(), %error, "cached events could not be looked at");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    fn counts(unread: u64, mentions: u64) -> Counts {
        Counts { unread, mentions }
    }

    #[test]
    fn the_servers_count_is_for_what_is_not_loaded() {
        let known = |exact| Known { here: counts(5, 0), server: counts(40, 3), exact };
        assert_eq!(shown(known(false), None), counts(40, 3));
        assert_eq!(shown(known(true), None), counts(5, 0), "the server may be behind");
        let silent = Known { here: counts(5, 1), server: counts(0, 0), exact: false };
        assert_eq!(shown(silent, None), counts(5, 1), "some servers do not count");
    }

    #[test]
    fn what_was_read_here_counts_no_more_and_what_comes_then_does() {
        let reading = Reading { up_to: owned_event_id!("$1"), before: counts(5, 1) };
        let known = |here| Known { here, server: counts(40, 3), exact: false };
        assert_eq!(shown(known(counts(5, 1)), Some(&reading)), counts(0, 0));
        assert_eq!(shown(known(counts(7, 2)), Some(&reading)), counts(2, 1));
    }
}
