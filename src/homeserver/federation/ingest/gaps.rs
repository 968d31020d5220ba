//! Gaps: events that follow what we do not have. The events in between are fetched as far as that is reasonable; beyond, the
//! state is asked for, and the history can be read later.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedEventId, ServerName};
use tokio::time::Instant;

use super::Ingest;
use crate::homeserver::{
    events::{EventError, Result},
    rooms::wire,
    store::{Reader, events, graph},
    types::{Pdu, RoomHandle, StateGroupId},
};

/// Events of a gap that are fetched at most.
const MOST: usize = 2000;
/// Questions for events of a gap at most: some servers give 10 or 20 at a time.
const ROUNDS: usize = 120;
/// Events asked for at once.
const LIMIT: u32 = 50;
/// States that are asked for where a gap cannot be closed.
const MOST_STATES: usize = 10;

impl Ingest {
    /// Fetches what these events follow and gives it its place. `missing`: for each event, what it follows that has no place.
    /// Returns the states after what still has none. The caller breaks off at the deadline; half of the time until then is for
    /// single events, so that some is left for a state.
    pub(super) async fn close_gap(
        &self,
        room: &RoomHandle,
        from: &ServerName,
        missing: &BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
        deadline: Instant,
    ) -> Result<BTreeMap<OwnedEventId, StateGroupId>> {
        let now = Instant::now();
        let (found, open) = self.walk_back(room, from, missing, now + deadline.saturating_duration_since(now) / 2).await?;
        tracing::info!(room_id = %room.room_id, server = %from, found = found.len(), open = open.len(), "a gap in a room");
        let order = wire::topological(&found, Pdu::prev_events);
        let here = self.keep(room, from, found.into_values().collect()).await?;
        let servers = self.servers_of(room, Some(from)).await?;
        let mut given = BTreeMap::new();
        for id in open.into_iter().take(MOST_STATES) {
            match self.state_after(room, &servers, &id).await {
                Ok(group) => drop(given.insert(id, group)),
                Err(error @ EventError::Store(_)) => return Err(error),
                Err(error) => tracing::info!(room_id = %room.room_id, event_id = %id, %error, "no state at a gap from anybody"),
            }
        }
        self.place(room, order.into_iter().filter(|id| here.contains(id)).collect(), given.clone()).await?;
        Ok(given)
    }

    /// Walks from these events backwards until everything is known or it is enough. Returns what was found, and what it follows
    /// that has no place.
    async fn walk_back(
        &self,
        room: &RoomHandle,
        from: &ServerName,
        missing: &BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
        until: Instant,
    ) -> Result<(HashMap<OwnedEventId, Pdu>, BTreeSet<OwnedEventId>)> {
        let nid = room.nid;
        // Not the depth of our extremities: after a split of the network the others' branch begins below them.
        let read = move |db: &Reader<'_>| Ok::<_, EventError>((events::extremities(db, nid)?, events::oldest_depth(db, nid)?));
        let (extremities, min_depth) = self.store.read(read).await?;
        let earliest: Vec<OwnedEventId> = extremities.into_iter().take(20).map(|e| e.event_id).collect();
        let mut found: HashMap<OwnedEventId, Pdu> = HashMap::new();
        let mut open: BTreeSet<OwnedEventId> = missing.values().flatten().cloned().collect();
        let mut latest: Vec<OwnedEventId> = missing.keys().take(20).cloned().collect();
        for _ in 0..ROUNDS {
            if open.is_empty() || found.len() >= MOST || Instant::now() >= until {
                break;
            }
            let answer = self.remote.missing_events(from, &room.room_id, earliest.clone(), latest.clone(), LIMIT, min_depth).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::info!(room_id = %room.room_id, server = %from, %error, "missing events are not given");
                    break;
                }
            };
            let fresh = self.read(room, answer, LIMIT as usize).await?;
            let before = found.len();
            self.connect(fresh, &mut found, &mut open).await?;
            if found.len() == before {
                break;
            }
            latest = found.values().filter(|pdu| pdu.prev_events().iter().any(|id| open.contains(id))).take(20).map(id).collect();
        }
        Ok((found, open))
    }

    /// Takes those events that lead on from where we are: what else a server puts into its answer was not asked for.
    async fn connect(&self, fresh: Vec<Pdu>, found: &mut HashMap<OwnedEventId, Pdu>, open: &mut BTreeSet<OwnedEventId>) -> Result<()> {
        let named: Vec<OwnedEventId> = fresh.iter().flat_map(|pdu| pdu.prev_events().to_vec()).collect();
        let placed: BTreeSet<OwnedEventId> = self
            .store
            .read(move |db| {
                let mut placed = BTreeSet::new();
                for id in named {
                    if graph::has_place(db, &id)? {
                        placed.insert(id);
                    }
                }
                Ok::<_, EventError>(placed)
            })
            .await?;
        let mut fresh: HashMap<OwnedEventId, Pdu> = fresh.into_iter().map(|pdu| (id(&pdu), pdu)).collect();
        let mut next: Vec<OwnedEventId> = open.iter().filter(|id| fresh.contains_key(*id)).cloned().collect();
        while let Some(at) = next.pop() {
            let Some(pdu) = fresh.remove(&at) else { continue };
            open.remove(&at);
            for prev in pdu.prev_events() {
                if !placed.contains(prev) && !found.contains_key(prev) {
                    open.insert(prev.clone());
                    next.push(prev.clone());
                }
            }
            found.insert(at, pdu);
        }
        Ok(())
    }
}

fn id(pdu: &Pdu) -> OwnedEventId {
    pdu.event_id().to_owned()
}
