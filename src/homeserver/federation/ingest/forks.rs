//! Rooms that have forked widely. Each further event looks at every end of the room, so what other servers send could make a room
//! ever dearer; an event of ours that follows many ends and says nothing makes one of them (`org.matrix.dummy_event`, as other
//! servers do it, and as they hide it from clients).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ruma::{OwnedRoomId, OwnedUserId};

use super::Ingest;
use crate::homeserver::{
    events::{self, Draft, EventError, Result},
    rooms::visibility::DUMMY,
    store::{StoreError, graph, members, users},
    types::RoomHandle,
};

/// Ends of a room from which on they are drawn together.
const MANY: usize = 10;
/// From here on at once.
const TOO_MANY: usize = 100;
/// How long a room is left alone before, and as long again by chance: all servers in it see the same ends, and would otherwise all
/// do the same at the same time, which forks the room anew.
const WAIT_MS: u64 = 60_000;
/// How long until it is tried again where nobody here may send such an event.
const VAIN_MS: u64 = 15 * 60_000;
/// Users of ours that are tried as senders.
const MOST_SENDERS: usize = 10;
/// Such events in a row.
const MOST_EVENTS: usize = 8;

/// When rooms with many ends are due. Holds rooms that we are in, and those only as long as their ends are many.
#[derive(Debug, Default)]
pub(super) struct Forks(Mutex<HashMap<OwnedRoomId, Due>>);

#[derive(Debug, Clone, Copy)]
struct Due {
    at_ms: u64,
    in_vain: bool,
}

impl Forks {
    /// Is it time to do something about a room with so many ends?
    fn is_due(&self, room_id: &OwnedRoomId, ends: usize, now_ms: u64, chance_ms: u64) -> bool {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends < MANY {
            rooms.remove(room_id);
            return false;
        }
        let due = rooms.entry(room_id.clone()).or_insert(Due { at_ms: now_ms + WAIT_MS + chance_ms, in_vain: false });
        due.at_ms <= now_ms || (ends >= TOO_MANY && !due.in_vain)
    }

    fn note(&self, room_id: &OwnedRoomId, ends: Option<usize>, now_ms: u64) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ends {
            Some(ends) if ends < MANY => drop(rooms.remove(room_id)),
            Some(_) => drop(rooms.insert(room_id.clone(), Due { at_ms: now_ms + WAIT_MS, in_vain: false })),
            None => drop(rooms.insert(room_id.clone(), Due { at_ms: now_ms + VAIN_MS, in_vain: true })),
        }
    }
}

impl Ingest {
    /// Draws the ends of a room together where there are many, and nobody else has done it for a while.
    pub(super) async fn draw_together(&self, room: &RoomHandle) -> Result<()> {
        let nid = room.nid;
        let ends = self.store.read(move |db| graph::extremity_count(db, nid)).await?;
        let mut chance = [0; 2];
        self.ctx.randomness.fill(&mut chance);
        let chance_ms = u64::from(u16::from_le_bytes(chance)) * WAIT_MS / u64::from(u16::MAX);
        if !self.forks.is_due(&room.room_id, ends, self.clock.now_ms(), chance_ms) {
            return Ok(());
        }
        let senders = self.store.read(move |db| {
            let some = members::local_joined(db, nid)?.into_iter().take(MOST_SENDERS);
            some.map(|user| users::user_id(db, user)).collect::<Result<Vec<_>, StoreError>>()
        });
        let senders = senders.await?;
        let mut left = None;
        for _ in 0..MOST_EVENTS {
            left = self.follow_some(room, &senders).await?;
            if left.is_none_or(|left| left < MANY) {
                break;
            }
        }
        match left {
            Some(left) => tracing::info!(room_id = %room.room_id, ends, left, "a room that had forked widely is drawn together"),
            None => tracing::info!(room_id = %room.room_id, ends, "a room has forked widely, and nobody here may draw it together"),
        }
        self.forks.note(&room.room_id, left, self.clock.now_ms());
        Ok(())
    }

    /// Sends an event that follows as many ends as an event can, by the first of these users who may. Returns how many are left;
    /// `None` when none of them may.
    async fn follow_some(&self, room: &RoomHandle, senders: &[OwnedUserId]) -> Result<Option<usize>> {
        for sender in senders {
            let (room, ctx, sender) = (room.clone(), self.ctx(), sender.clone());
            let sent = self.store.write(move |tx| {
                events::append(tx, &ctx, &room, Draft::message(sender, DUMMY, ruma::CanonicalJsonObject::new()))?;
                Ok::<_, EventError>(graph::extremity_count(&tx.reader(), room.nid)?)
            });
            match sent.await {
                Ok(left) => return Ok(Some(left)),
                Err(error @ (EventError::Store(_) | EventError::Internal(_))) => return Err(error),
                Err(error) => tracing::debug!(%error, "somebody may not draw a room together"),
            }
        }
        Ok(None)
    }
}
