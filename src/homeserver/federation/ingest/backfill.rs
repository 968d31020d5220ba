//! History from before what we know (`GET /_matrix/federation/v1/backfill/{roomId}`): fetched when somebody scrolls there.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedEventId, OwnedServerName};

use super::{
    Ingest,
    place::{self, Before},
};
use crate::homeserver::{
    events::{EventError, Result},
    rooms::wire,
    store::{Tx, events, graph},
    types::{Pdu, RoomHandle, StateGroupId, StreamPos},
};

/// Rooms that history is fetched for at once.
pub(super) const AT_ONCE: usize = 4;
/// Events asked for at once.
const LIMIT: u32 = 100;
/// Events that get their places in one go.
const MOST_PLACED: usize = 400;
/// Servers that are asked before we say that there is no more.
const SERVERS: usize = 4;
/// Ends of what we know that one question names.
const ENDS: usize = 10;

impl Ingest {
    /// True when other servers may have events from before those at or before this place.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub async fn has_earlier(&self, room: &RoomHandle, pos: StreamPos) -> Result<bool> {
        let nid = room.nid;
        Ok(!self.store.read(move |db| graph::backward_extremities(db, nid, pos, 1)).await?.is_empty())
    }

    /// Fetches history that ends at or before this place. Returns how many events came.
    ///
    /// # Errors
    ///
    /// Store errors. That nobody answers is no error: there is then nothing new.
    pub async fn backfill(&self, room: &RoomHandle, pos: StreamPos) -> Result<usize> {
        let Ok(_place) = self.backfills.acquire().await else { return Ok(0) };
        let nid = room.nid;
        let ends = self.store.read(move |db| graph::backward_extremities(db, nid, pos, ENDS)).await?;
        let ends: Vec<OwnedEventId> = ends.into_iter().map(|(id, _)| id).collect();
        if ends.is_empty() {
            return Ok(0);
        }
        for server in self.servers_of(room, None).await?.into_iter().take(SERVERS) {
            let answer = match self.remote.backfill(&server, &room.room_id, ends.clone(), LIMIT).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::info!(room_id = %room.room_id, %server, %error, "no history from this server");
                    continue;
                }
            };
            let came = self.take_history(room, &server, answer, &ends).await?;
            if came > 0 {
                return Ok(came);
            }
        }
        Ok(0)
    }

    async fn take_history(
        &self,
        room: &RoomHandle,
        server: &OwnedServerName,
        answer: super::remote::Untrusted,
        ends: &[OwnedEventId],
    ) -> Result<usize> {
        let fresh = self.read(room, answer, LIMIT as usize).await?;
        let fresh: HashMap<OwnedEventId, Pdu> = fresh.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        let mut edges: HashMap<OwnedEventId, Vec<OwnedEventId>> =
            fresh.iter().map(|(id, pdu)| (id.clone(), pdu.prev_events().to_vec())).collect();
        let mut pool = fresh;
        // Only what leads on from the ends. On the way may be events that we have as outliers, such as state; they get their places
        // like the others.
        let mut connected = std::collections::BTreeSet::new();
        let mut next = ends.to_vec();
        while let Some(id) = next.pop() {
            if connected.len() >= MOST_PLACED {
                break;
            }
            if !pool.contains_key(&id)
                && let Some(pdu) = self.outlier(room, &id).await?
            {
                edges.insert(id.clone(), pdu.prev_events().to_vec());
                pool.insert(id.clone(), pdu);
            }
            if pool.contains_key(&id) && connected.insert(id.clone()) {
                next.extend(edges.get(&id).cloned().unwrap_or_default());
            }
        }
        pool.retain(|id, _| connected.contains(id));
        let order = wire::topological(&pool, Pdu::prev_events);
        let here = self.keep(room, server, pool.values().cloned().collect()).await?;
        let order: Vec<OwnedEventId> = order.into_iter().filter(|id| here.contains(id)).collect();
        let given = self.states_before(room, server, &order, &pool).await?;
        self.place_history(room, order, given).await
    }

    /// An event that is here without a place.
    async fn outlier(&self, room: &RoomHandle, id: &OwnedEventId) -> Result<Option<Pdu>> {
        let (handle, id) = (room.clone(), id.clone());
        self.store
            .read(move |db| {
                let found = events::by_id(db, &id)?.filter(|event| event.pos.is_none() && event.room == handle.nid);
                Ok::<_, EventError>(found.map(|event| event.pdu(&handle.rules)).transpose()?)
            })
            .await
    }

    /// The states before those events that follow what is neither here nor among them.
    async fn states_before(
        &self,
        room: &RoomHandle,
        server: &OwnedServerName,
        order: &[OwnedEventId],
        pool: &HashMap<OwnedEventId, Pdu>,
    ) -> Result<BTreeMap<OwnedEventId, StateGroupId>> {
        let mut given = BTreeMap::new();
        let coming: std::collections::BTreeSet<&OwnedEventId> = order.iter().collect();
        for id in order {
            let outside: Vec<OwnedEventId> =
                pool.get(id).map(Pdu::prev_events).unwrap_or_default().iter().filter(|prev| !coming.contains(prev)).cloned().collect();
            let placed = self.store.read(move |db| {
                for prev in outside {
                    if !graph::has_place(db, &prev)? {
                        return Ok::<_, EventError>(false);
                    }
                }
                Ok(true)
            });
            if placed.await? {
                continue;
            }
            match self.state_told(room, server, id).await {
                Ok(told) => {
                    given.insert(id.clone(), self.group_told(room, told).await?);
                }
                Err(error @ EventError::Store(_)) => return Err(error),
                Err(error) => tracing::info!(room_id = %room.room_id, event_id = %id, %error, "no state for history"),
            }
        }
        Ok(given)
    }

    /// Gives history its places: its positions are one run, the oldest event having the lowest. States are merged outside of the
    /// writer, as for what is new.
    async fn place_history(
        &self,
        room: &RoomHandle,
        order: Vec<OwnedEventId>,
        given: BTreeMap<OwnedEventId, StateGroupId>,
    ) -> Result<usize> {
        // Where a run is placed in several jobs, no other may begin below it meanwhile.
        let _turn = self.history.lock().await;
        let mut run = Run { from: 0, first: None, came: 0 };
        loop {
            let (handle, order_, given_) = (room.clone(), order.clone(), given.clone());
            let (placed, merge) = self.store.write(move |tx| place_run(tx, &handle, &order_, &given_, run)).await?;
            run = placed;
            match merge {
                Some(groups) => self.merge(room, groups).await?,
                None => return Ok(run.came),
            }
        }
    }
}

/// How far a run of history has its places.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The next event.
    from: usize,
    /// The position of the first.
    first: Option<i64>,
    /// Events that have been given a place.
    came: usize,
}

/// Gives the rest of a run its places, as far as no state has to be merged first: then says which.
fn place_run(
    tx: &mut Tx<'_>,
    room: &RoomHandle,
    order: &[OwnedEventId],
    given: &BTreeMap<OwnedEventId, StateGroupId>,
    mut run: Run,
) -> Result<(Run, Option<Vec<StateGroupId>>)> {
    let count = i64::try_from(order.len()).unwrap_or(0);
    let first = match run.first {
        Some(first) => first,
        None => *run.first.insert(events::next_back_pos(tx)?.0 - count + 1),
    };
    for (id, pos) in order.iter().zip(first..).skip(run.from) {
        if let Some(event) = events::by_id(&tx.reader(), id)? {
            let before = match given.get(id) {
                Some(group) => Some(*group),
                None => match place::state_before(tx, room, &event.pdu(&room.rules)?, &BTreeMap::new())? {
                    Before::Known(group) => Some(group),
                    Before::NeedsMerge(groups) => return Ok((run, Some(groups))),
                    Before::Missing(_) => None,
                },
            };
            if let Some(before) = before {
                place::history(tx, room, event.nid, before, StreamPos(pos))?;
                run.came += 1;
            }
        }
        run.from += 1;
    }
    Ok((run, None))
}
