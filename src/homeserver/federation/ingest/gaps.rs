//! Gaps: events that follow what we do not have. The events in between are fetched as far as that is reasonable; beyond, the
//! state is asked for, and the history can be read later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
/// Events that one question names as what is to be led to; other servers look at no more than that.
const NAMED: usize = 20;
/// Events that one question names as those that came already.
const MOST_HAD: usize = 280;
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
        let extremities: Vec<OwnedEventId> = extremities.into_iter().take(NAMED).map(|e| e.event_id).collect();
        let mut walk = Walk { min_depth, open: missing.values().flatten().cloned().collect(), ..Walk::default() };
        self.connect(room, &mut walk, Vec::new()).await?;
        // How often each has been asked about, and how many have been without anything new since the last that brought some.
        let mut asked: HashMap<OwnedEventId, usize> = HashMap::new();
        let mut in_vain = 0;
        for _ in 0..ROUNDS {
            if walk.open.is_empty() || walk.found.len() >= MOST || Instant::now() >= until {
                break;
            }
            let mut ends = walk.ends(missing);
            if in_vain >= ends.len() {
                break;
            }
            // Those that were asked about least: of a room that has forked widely, one question names a part.
            ends.sort_by_key(|(id, _)| asked.get(id).copied().unwrap_or(0));
            ends.truncate(NAMED);
            let mut earliest = extremities.clone();
            let had = ends.iter().flat_map(|(_, prev)| prev.iter()).filter(|prev| walk.found.contains_key(*prev));
            // What stands there is neither given again nor gone through: what is before it is asked for by itself.
            earliest.extend(had.take(MOST_HAD).cloned());
            let latest: Vec<OwnedEventId> = ends.into_iter().map(|(id, _)| id).collect();
            for id in &latest {
                *asked.entry(id.clone()).or_default() += 1;
            }
            let count = latest.len();
            let answer = match self.remote.missing_events(from, &room.room_id, earliest, latest, LIMIT, min_depth).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::info!(room_id = %room.room_id, server = %from, %error, "missing events are not given");
                    break;
                }
            };
            let fresh = self.read(room, answer, LIMIT as usize).await?;
            let before = walk.found.len();
            self.connect(room, &mut walk, fresh).await?;
            in_vain = if walk.found.len() == before { in_vain + count } else { 0 };
        }
        Ok((walk.found, walk.open))
    }

    /// Takes those events that lead on from where we are: what else a server puts into its answer was not asked for. On the way
    /// may be events that are here without a place, such as what authorises others; they are gone through like the rest.
    async fn connect(&self, room: &RoomHandle, walk: &mut Walk, fresh: Vec<Pdu>) -> Result<()> {
        let mut pool: HashMap<OwnedEventId, Pdu> = fresh.into_iter().map(|pdu| (id(&pdu), pdu)).collect();
        loop {
            let named = walk.open.iter().chain(pool.values().flat_map(|pdu| pdu.prev_events())).cloned();
            let looked = &mut walk.looked;
            let unseen: Vec<OwnedEventId> = named.filter(|id| looked.insert(id.clone())).collect();
            let (placed, outliers) = self.known(room, unseen, walk.min_depth).await?;
            walk.open.retain(|id| !placed.contains(id));
            walk.placed.extend(placed);
            pool.extend(outliers.into_iter().map(|pdu| (id(&pdu), pdu)));
            if !walk.take(&mut pool) || walk.found.len() >= MOST {
                return Ok(());
            }
        }
    }

    /// Which of these events have a place, and those that are here without one. What is older than all that we know the places
    /// of is left out: the way through what we joined with would end at the room's beginning.
    async fn known(&self, room: &RoomHandle, ids: Vec<OwnedEventId>, min_depth: i64) -> Result<(BTreeSet<OwnedEventId>, Vec<Pdu>)> {
        if ids.is_empty() {
            return Ok((BTreeSet::new(), Vec::new()));
        }
        let handle = room.clone();
        self.store
            .read(move |db| {
                let (mut placed, mut outliers) = (BTreeSet::new(), Vec::new());
                for id in ids {
                    if graph::has_place(db, &id)? {
                        placed.insert(id);
                    } else if let Some(event) = events::by_id(db, &id)?.filter(|e| e.room == handle.nid && e.depth >= min_depth) {
                        outliers.push(event.pdu(&handle.rules)?);
                    }
                }
                Ok::<_, EventError>((placed, outliers))
            })
            .await
    }
}

/// A way back through a room's graph.
#[derive(Debug, Default)]
struct Walk {
    /// What leads on from where it began.
    found: HashMap<OwnedEventId, Pdu>,
    /// What that follows and has no place.
    open: BTreeSet<OwnedEventId>,
    /// What was looked for in the store, and what of it has a place.
    looked: HashSet<OwnedEventId>,
    placed: HashSet<OwnedEventId>,
    min_depth: i64,
}

impl Walk {
    /// The events, those that it began with and those found, that follow something open, each with what it follows.
    fn ends(&self, missing: &BTreeMap<OwnedEventId, Vec<OwnedEventId>>) -> Vec<(OwnedEventId, Vec<OwnedEventId>)> {
        let is_open = |prev: &[OwnedEventId]| prev.iter().any(|id| self.open.contains(id));
        let first = missing.iter().filter(|(_, prev)| is_open(prev)).map(|(id, prev)| (id.clone(), prev.clone()));
        let found = self.found.iter().filter(|(_, pdu)| is_open(pdu.prev_events()));
        first.chain(found.map(|(id, pdu)| (id.clone(), pdu.prev_events().to_vec()))).collect()
    }

    /// Takes what is open out of the pool, and what that leads to. False when there is nothing to take.
    fn take(&mut self, pool: &mut HashMap<OwnedEventId, Pdu>) -> bool {
        let mut next: Vec<OwnedEventId> = self.open.iter().filter(|id| pool.contains_key(*id)).cloned().collect();
        let any = !next.is_empty();
        while let Some(at) = next.pop() {
            let Some(pdu) = pool.remove(&at) else { continue };
            self.open.remove(&at);
            for prev in pdu.prev_events() {
                if !self.placed.contains(prev) && !self.found.contains_key(prev) {
                    self.open.insert(prev.clone());
                    next.push(prev.clone());
                }
            }
            self.found.insert(at, pdu);
        }
        any
    }
}

fn id(pdu: &Pdu) -> OwnedEventId {
    pdu.event_id().to_owned()
}
