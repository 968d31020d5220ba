//! Work on the queue of one room: the checks in order, a batch at a time.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::time::{Duration, Instant, timeout_at};

use super::{
    Dropped, Ingest, acl_allows, check1_format, check2_signatures, check3_hash,
    place::{self, Before, Placed, Route},
    queue,
    remote::{Ask, Signatures},
};
use crate::homeserver::{
    events::{Ctx, EventError, Result, resolution},
    rooms::wire::{self, Purpose},
    store::{
        StoreError, Tx, events, graph,
        inbound::{self, Staged},
        remote_joins, rooms, servers,
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId},
};

/// Events of one server in a room that are worked on together.
const BATCH: usize = 50;
/// The same where several servers' events wait.
const SHARED_BATCH: usize = 20;
/// Servers whose events of one room are worked on at a time.
const AT_ONCE: usize = 8;
/// How many of them may be outside of the room.
const OUTSIDE_AT_ONCE: usize = 1;
/// Events of a batch whose own servers are asked for what others have changed, and how long that may take.
const MOST_UNSPOILED: usize = 10;
const FOR_UNSPOILED: Duration = Duration::from_secs(15);
/// How often is looked for what is due while others are waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// An event that could not be decided about so often is given up; with these waits that is after about a day.
const MOST_ATTEMPTS: u32 = 12;
/// Wait after the first failed attempt; it doubles with each.
const FIRST_WAIT_MS: u64 = 30_000;
/// How long a batch may wait for other servers, keys included; later attempts may take this much longer each, up to
/// [`MOST_PATIENCE`] times.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// The same for a server that is not in the room. It does not grow.
const OUTSIDE_PATIENCE: Duration = Duration::from_secs(30);
/// How often [`PATIENCE`] grows.
const MOST_PATIENCE: u32 = 4;
/// After so many attempts an event is worked on by itself: whatever is wrong with it is then nobody else's trouble.
const ALONE: u32 = 6;
/// Attempts to merge states outside of the writer while local events keep changing them.
const MERGES: usize = 4;

/// What is known after an attempt to give events their places.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What became of each.
    pub placed: HashMap<OwnedEventId, Placed>,
    /// Those that follow events without a place, and which.
    pub missing: BTreeMap<OwnedEventId, Vec<OwnedEventId>>,
}

/// What became of the events that one server sent. Those in neither list were dropped.
#[derive(Debug)]
struct Outcome {
    /// In the room, or refused for good.
    settled: Vec<OwnedEventId>,
    /// Nobody can tell yet.
    undecided: Vec<OwnedEventId>,
}

/// What checks 2 and 3 say of events.
struct Looked {
    sound: Vec<Pdu>,
    /// What redaction leaves of those whose content is not what was hashed.
    spoiled: Vec<Pdu>,
    /// Nobody can judge these yet.
    unknown: Vec<OwnedEventId>,
}

/// How far a job of the writer came with a list of events.
enum Stop {
    End,
    /// These states have to be merged before the event at this index goes on.
    Merge {
        at: usize,
        groups: Vec<StateGroupId>,
        after: Option<StateGroupId>,
    },
}

/// What one server sent of a room, as far as it is worked on together.
struct Piece {
    origin: OwnedServerName,
    /// True for a server that is not in the room, as far as we know.
    outside: bool,
    staged: Vec<Staged>,
}

impl Ingest {
    /// Works on everything that waits of a room, on each server's events by themselves: nobody waits for what others take their
    /// time over. The caller has claimed the room.
    pub(super) async fn work(&self, room_id: &RoomId) -> Result<()> {
        let mut arrived = self.arrived.subscribe();
        let mut running = FuturesUnordered::new();
        let mut busy: HashMap<OwnedServerName, bool> = HashMap::new();
        loop {
            // What comes from here on is looked at in the next round.
            arrived.borrow_and_update();
            let Some((room, pieces)) = self.look(room_id, &busy).await? else { return Ok(()) };
            let Some(room) = room else {
                // We have left meanwhile, or did not get in.
                let all: Vec<Staged> = pieces.into_iter().flat_map(|piece| piece.staged).collect();
                if all.is_empty() {
                    return Ok(());
                }
                let decided = all.iter().map(|event| event.nid).collect();
                self.strike(all, &decided).await?;
                continue;
            };
            for piece in pieces {
                busy.insert(piece.origin.clone(), piece.outside);
                running.push(self.piece(room.clone(), piece));
            }
            if running.is_empty() {
                return Ok(());
            }
            // Cancel-safe: a set of futures keeps what it has, and the next look sees all that has come.
            tokio::select! {
                Some((origin, done)) = running.next() => {
                    busy.remove(&origin);
                    done?;
                    self.draw_together(&room).await?;
                }
                _ = arrived.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// What may be worked on now, beside the servers that are busy already. `None` while the room is being joined; no room where
    /// we are not in it.
    async fn look(&self, room_id: &RoomId, busy: &HashMap<OwnedServerName, bool>) -> Result<Option<(Option<RoomHandle>, Vec<Piece>)>> {
        let (id, now_ms, us) = (room_id.to_owned(), self.clock.now_ms(), self.server_name.clone());
        let busy = busy.clone();
        self.store
            .read(move |db| {
                let room = rooms::by_id(db, &id)?;
                let here = match &room {
                    Some(room) => servers::is_in_room(db, room.nid, &us)?,
                    None => false,
                };
                if !here && remote_joins::version_of(db, &id)?.is_some() {
                    return Ok::<_, EventError>(None);
                }
                let room = room.filter(|_| here);
                let mut outside = busy.values().filter(|outside| **outside).count();
                let mut pieces = Vec::new();
                let origins: Vec<OwnedServerName> =
                    inbound::origins(db, &id, now_ms)?.into_iter().filter(|origin| !busy.contains_key(origin)).collect();
                let most = if origins.len() + busy.len() > 1 { SHARED_BATCH } else { BATCH };
                for origin in origins {
                    if pieces.len() + busy.len() >= AT_ONCE {
                        break;
                    }
                    let is_outside = match &room {
                        Some(room) => !servers::is_in_room(db, room.nid, &origin)?,
                        None => false,
                    };
                    if is_outside && outside >= OUTSIDE_AT_ONCE {
                        continue;
                    }
                    outside += usize::from(is_outside);
                    let staged = inbound::of_origin(db, &id, &origin, now_ms, most)?;
                    pieces.push(Piece { origin, outside: is_outside, staged });
                }
                Ok(Some((room, pieces)))
            })
            .await
    }

    async fn piece(&self, room: RoomHandle, piece: Piece) -> (OwnedServerName, Result<()>) {
        let origin = piece.origin.clone();
        (origin, self.try_piece(&room, piece).await)
    }

    async fn try_piece(&self, room: &RoomHandle, piece: Piece) -> Result<()> {
        let Piece { origin, outside, staged } = piece;
        let (handle, staged_, from) = (room.clone(), apart(staged), origin.clone());
        // What was let in while we joined, or before the room's list changed, is asked about again.
        let asked = self.store.read(move |db| {
            let mut welcome = Vec::with_capacity(staged_.len());
            let allowed = acl_allows(db, &handle, &from)?;
            for event in staged_ {
                let is_welcome = allowed && (!outside || queue::brought_by_outsider(&event.json, &handle, &from));
                welcome.push((event, is_welcome));
            }
            Ok::<_, EventError>(welcome)
        });
        let (welcome, refused): (Vec<_>, Vec<_>) = asked.await?.into_iter().partition(|(_, is_welcome)| *is_welcome);
        let singly = |events: Vec<(Staged, bool)>| events.into_iter().map(|(event, _)| event).collect::<Vec<Staged>>();
        let (welcome, refused) = (singly(welcome), singly(refused));
        if !refused.is_empty() {
            tracing::info!(room_id = %room.room_id, %origin, events = refused.len(), "events dropped: their server may not take part");
            let decided = refused.iter().map(|event| event.nid).collect();
            self.strike(refused, &decided).await?;
        }
        let staged = self.begin(welcome, self.clock.now_ms()).await?;
        let decided = self.batch_or_singly(room, (&origin, outside), &staged).await?;
        self.strike(staged, &decided).await
    }

    /// Counts the attempt before it is made: what makes the process end must not be the first thing that the next one does.
    /// Returns those that are left to work on.
    async fn begin(&self, staged: Vec<Staged>, now_ms: u64) -> Result<Vec<Staged>> {
        self.store
            .write(move |tx| {
                let mut begun = Vec::with_capacity(staged.len());
                for event in staged {
                    if graph::has_place(&tx.reader(), &event.event_id)? {
                        // Another server's copy was better.
                        inbound::done(tx, event.nid)?;
                    } else if event.attempts > MOST_ATTEMPTS {
                        give_up(tx, &event)?;
                    } else {
                        inbound::later(tx, event.nid, now_ms + (FIRST_WAIT_MS << event.attempts.min(12)))?;
                        begun.push(event);
                    }
                }
                Ok::<_, EventError>(begun)
            })
            .await
    }

    /// Takes what has been decided about out of the queue; the rest waits, or is given up.
    async fn strike(&self, staged: Vec<Staged>, decided: &HashSet<i64>) -> Result<()> {
        let (done, left): (Vec<Staged>, Vec<Staged>) = staged.into_iter().partition(|event| decided.contains(&event.nid));
        self.store
            .write(move |tx| {
                for event in done {
                    inbound::done(tx, event.nid)?;
                }
                for event in left.iter().filter(|event| event.attempts >= MOST_ATTEMPTS) {
                    give_up(tx, event)?;
                }
                Ok::<_, EventError>(())
            })
            .await
    }

    /// One batch; where something in it is beyond us, each event by itself, so that the others go on. Returns what has been
    /// decided about, by its number in the queue.
    async fn batch_or_singly(&self, room: &RoomHandle, from: (&ServerName, bool), staged: &[Staged]) -> Result<HashSet<i64>> {
        match self.batch(room, from, staged).await {
            Err(error) if !is_fatal(&error) => tracing::error!(%error, room_id = %room.room_id, "received events are worked on singly"),
            outcome => return outcome,
        }
        let mut decided = HashSet::new();
        for event in staged {
            match self.batch(room, from, std::slice::from_ref(event)).await {
                Ok(done) => decided.extend(done),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, room_id = %room.room_id, event_id = %event.event_id, "a received event waits: a fault of ours");
                }
            }
        }
        Ok(decided)
    }

    /// One batch; returns what has been decided about. A copy of the same event that another server has sent decides for itself:
    /// either may be spoiled.
    async fn batch(&self, room: &RoomHandle, (origin, outside): (&ServerName, bool), staged: &[Staged]) -> Result<HashSet<i64>> {
        let tried = staged.iter().map(|event| event.attempts).max().unwrap_or(0);
        let patience = if outside { OUTSIDE_PATIENCE } else { PATIENCE * (tried.min(MOST_PATIENCE) + 1) };
        let mut events = Vec::with_capacity(staged.len());
        for event in staged {
            match check1_format::check(&event.json, room, Purpose::Live) {
                Ok(pdu) => events.push(pdu),
                Err(Dropped(why)) => tracing::debug!(event_id = %event.event_id, %why, "event dropped"),
            }
        }
        let outcome = self.of_origin(room, origin, events, Instant::now() + patience).await?;
        let (settled, undecided): (HashSet<OwnedEventId>, HashSet<OwnedEventId>) =
            (outcome.settled.into_iter().collect(), outcome.undecided.into_iter().collect());
        let waits = |event: &&Staged| undecided.contains(&event.event_id) && !settled.contains(&event.event_id);
        Ok(staged.iter().filter(|event| !waits(event)).map(|event| event.nid).collect())
    }

    /// The events that one server sent. What takes longer than until the deadline because of others waits.
    async fn of_origin(&self, room: &RoomHandle, origin: &ServerName, events: Vec<Pdu>, deadline: Instant) -> Result<Outcome> {
        let all: Vec<OwnedEventId> = events.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let Ok(looked) = timeout_at(deadline, self.look_closely(room, events)).await else {
            tracing::info!(room_id = %room.room_id, %origin, "events wait: keys take too long");
            return Ok(Outcome { settled: Vec::new(), undecided: all });
        };
        let Looked { mut sound, spoiled, unknown: mut undecided } = looked;
        sound.extend(self.unspoiled(room, origin, spoiled, deadline).await);
        let order: Vec<OwnedEventId> = {
            let by_id: HashMap<OwnedEventId, &Pdu> = sound.iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
            wire::topological(&by_id, Pdu::prev_events)
        };
        let Ok(kept) = timeout_at(deadline, self.keep(room, origin, sound)).await else {
            tracing::info!(room_id = %room.room_id, %origin, "events wait: what authorises them takes too long");
            undecided.extend(order);
            return Ok(Outcome { settled: Vec::new(), undecided });
        };
        let kept = kept?;
        let (order, lacking): (Vec<OwnedEventId>, Vec<OwnedEventId>) = order.into_iter().partition(|id| kept.contains(id));
        undecided.extend(lacking);
        let waiting = self.place_or_fetch(room, origin, order.clone(), deadline).await?;
        let settled = order.into_iter().filter(|id| !waiting.contains(id)).collect();
        undecided.extend(waiting);
        Ok(Outcome { settled, undecided })
    }

    /// Checks 2 and 3. Returns what goes on, and the IDs of what nobody can judge yet; the rest is dropped.
    pub(super) async fn sound(&self, room: &RoomHandle, events: Vec<Pdu>) -> (Vec<Pdu>, Vec<OwnedEventId>) {
        let Looked { mut sound, spoiled, unknown } = self.look_closely(room, events).await;
        sound.extend(spoiled);
        (sound, unknown)
    }

    /// The same, with what goes on as redaction leaves it told apart.
    async fn look_closely(&self, room: &RoomHandle, events: Vec<Pdu>) -> Looked {
        let answers = check2_signatures::check(&*self.remote, &events, &room.rules, Ask::Servers).await;
        let mut looked = Looked { sound: Vec::with_capacity(events.len()), spoiled: Vec::new(), unknown: Vec::new() };
        for (pdu, answer) in events.into_iter().zip(answers) {
            let event_id = pdu.event_id().to_owned();
            match answer {
                Signatures::Valid { content_intact } => match check3_hash::check(pdu, content_intact, &room.rules) {
                    Ok(pdu) if content_intact => looked.sound.push(pdu),
                    Ok(pdu) => looked.spoiled.push(pdu),
                    Err(Dropped(why)) => tracing::info!(room_id = %room.room_id, %event_id, %why, "event dropped"),
                },
                Signatures::Invalid(why) => tracing::info!(room_id = %room.room_id, %event_id, %why, "event dropped: signatures"),
                Signatures::Unknown(why) => {
                    tracing::info!(room_id = %room.room_id, %event_id, %why, "event waits for keys");
                    looked.unknown.push(event_id);
                }
            }
        }
        looked
    }

    /// Events whose content is not what was hashed. Where another server than that of the sender has brought them, it may have
    /// changed them on the way: their own server is asked once, before they are blank for us for good.
    async fn unspoiled(&self, room: &RoomHandle, origin: &ServerName, spoiled: Vec<Pdu>, deadline: Instant) -> Vec<Pdu> {
        let until = deadline.min(Instant::now() + FOR_UNSPOILED);
        let mut events = Vec::with_capacity(spoiled.len());
        for (number, redacted) in spoiled.into_iter().enumerate() {
            let server = redacted.sender().server_name().to_owned();
            if number >= MOST_UNSPOILED || server == origin || server == self.server_name {
                events.push(redacted);
                continue;
            }
            let asked = timeout_at(until, async {
                let json = self.remote.event(&server, &redacted.event_id().to_owned()).await.ok()?;
                let pdu = check1_format::check(json.get(), room, Purpose::Live).ok()?;
                let same = pdu.event_id() == redacted.event_id();
                if same { self.look_closely(room, vec![pdu]).await.sound.pop() } else { None }
            });
            events.push(asked.await.ok().flatten().unwrap_or(redacted));
        }
        events
    }

    /// Gives outliers their places, fetching what is missing before them, as far as that can be had until the deadline. Returns
    /// those that have to wait.
    pub(super) async fn place_or_fetch(
        &self,
        room: &RoomHandle,
        origin: &ServerName,
        order: Vec<OwnedEventId>,
        deadline: Instant,
    ) -> Result<Vec<OwnedEventId>> {
        let progress = self.place(room, order.clone(), BTreeMap::new()).await?;
        if progress.missing.is_empty() {
            return Ok(Vec::new());
        }
        let given = match timeout_at(deadline, self.close_gap(room, origin, &progress.missing, deadline)).await {
            Ok(given) => given?,
            // What came until then is here without a place, and the next attempt goes through it.
            Err(_) => {
                tracing::info!(room_id = %room.room_id, server = %origin, "a gap takes too long");
                BTreeMap::new()
            }
        };
        let left: Vec<OwnedEventId> = order.into_iter().filter(|id| !progress.placed.contains_key(id)).collect();
        let progress = self.place(room, left, given).await?;
        Ok(progress.missing.into_keys().collect())
    }

    /// Gives outliers their places, in the given order, as far as everything that they follow has one. States are merged outside
    /// of the writer, so that one room's forks hold nobody else up.
    pub(super) async fn place(
        &self,
        room: &RoomHandle,
        order: Vec<OwnedEventId>,
        given: BTreeMap<OwnedEventId, StateGroupId>,
    ) -> Result<Progress> {
        let mut progress = Progress::default();
        let (mut from, mut merges, mut after) = (0, 0, None);
        loop {
            let (handle, ctx, order_, given_) = (room.clone(), self.ctx(), order.clone(), given.clone());
            let resolve = merges >= MERGES;
            let (done, missing, stop) = self
                .store
                .write(move |tx| {
                    let (mut done, mut missing) = (Vec::new(), Vec::new());
                    let mut after = after;
                    for (at, id) in order_.iter().enumerate().skip(from) {
                        let Some(event) = graph::find(&tx.reader(), id)? else { continue };
                        let made = after.take();
                        match step(tx, &ctx, &handle, event.nid, &given_, made, resolve)? {
                            Step::Placed(placed) => done.push((id.clone(), placed)),
                            Step::Missing(ids) => missing.push((id.clone(), ids)),
                            Step::Merge(groups, after) => return Ok::<_, EventError>((done, missing, Stop::Merge { at, groups, after })),
                        }
                    }
                    Ok((done, missing, Stop::End))
                })
                .await?;
            if !done.is_empty() {
                merges = 0;
            }
            progress.placed.extend(done);
            progress.missing.extend(missing);
            match stop {
                Stop::End => return Ok(progress),
                Stop::Merge { at, groups, after: made } => {
                    self.merge(room, groups).await?;
                    (from, after) = (at, made);
                    merges += 1;
                }
            }
        }
    }

    /// Resolves states and remembers the outcome.
    pub(super) async fn merge(&self, room: &RoomHandle, groups: Vec<StateGroupId>) -> Result<()> {
        let (handle, states) = (room.clone(), groups.clone());
        let outcome = self.store.read(move |db| resolution::resolve(db, &handle, &states)).await?;
        let handle = room.clone();
        self.store.write(move |tx| resolution::keep(tx, &handle, &groups, outcome).map(drop)).await
    }
}

/// Those of these events that are worked on together: one that has been tried too often comes by itself.
fn apart(mut staged: Vec<Staged>) -> Vec<Staged> {
    if let Some(at) = staged.iter().position(|event| event.attempts >= ALONE) {
        staged.truncate(at.max(1));
    }
    staged
}

fn give_up(tx: &Tx<'_>, event: &Staged) -> Result<()> {
    tracing::warn!(room_id = %event.room_id, event_id = %event.event_id, origin = %event.origin,
        "an event that nobody could explain is given up");
    Ok(inbound::done(tx, event.nid)?)
}

/// True when the store itself fails: nothing can be done about any event then.
fn is_fatal(error: &EventError) -> bool {
    matches!(error, EventError::Store(error) if !matches!(error, StoreError::Data(_)))
}

/// What became of one event in a job of the writer.
enum Step {
    Placed(Placed),
    Missing(Vec<OwnedEventId>),
    Merge(Vec<StateGroupId>, Option<StateGroupId>),
}

fn step(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    nid: EventNid,
    given: &BTreeMap<OwnedEventId, StateGroupId>,
    after: Option<StateGroupId>,
    resolve: bool,
) -> Result<Step> {
    let stored = events::by_nid(&tx.reader(), nid)?;
    if stored.pos.is_some() {
        return Ok(Step::Placed(Placed::Already));
    }
    let before = match place::state_before(tx, room, &stored.pdu(&room.rules)?, given)? {
        Before::Known(group) => group,
        Before::NeedsMerge(groups) if resolve => resolution::merged(tx, room, &groups)?,
        Before::NeedsMerge(groups) => return Ok(Step::Merge(groups, None)),
        Before::Missing(ids) => return Ok(Step::Missing(ids)),
    };
    Ok(match place::live(tx, ctx, room, nid, Route { before, after, resolve })? {
        Placed::NeedsMerge { groups, after } => Step::Merge(groups, Some(after)),
        placed => Step::Placed(placed),
    })
}
