//! A whole state becomes part of the store, and with a join the state of a room: a little at a time, so that the writer has room
//! for everybody else in between.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedEventId, OwnedServerName, ServerName, UserId};
use tokio::time::Instant;

use super::{
    Ingest, check5_state_before,
    import::{ImportError, Imported, Judged, unusable},
    lookup::{self, Lookup},
    place, work,
};
use crate::homeserver::{
    events::{self as write, EventError, Result, current},
    rooms::auth::Verdict,
    store::{
        Reader, StoreError,
        building::{self, Plan},
        events::{self, Json, Placing},
        graph, rooms,
        state::{self, Changes},
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId, StateKeyNid, StreamPos},
};

/// How much one job of the writer does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// Events.
    pub events: usize,
    /// Entries of a state group.
    pub entries: usize,
    /// Keys of the current state, with their members.
    pub keys: usize,
}

impl Default for Steps {
    /// Each takes about a tenth of a second: smaller ones write the same pages of the database more often.
    fn default() -> Self {
        Self { events: 1000, entries: 10_000, keys: 1000 }
    }
}

/// A key of a state, and what it points to.
type Change = (StateKeyNid, Option<EventNid>);

/// How the room's state becomes what the other server says.
struct Course {
    plan: Plan,
    /// In the order in which they are made: members after what they are shown of the room.
    changes: Vec<Change>,
    /// Those that concern users of ours: part of the last step, because with a member of ours we are in the room.
    ours: Vec<Change>,
    size: usize,
}

impl Ingest {
    /// The group of a state that another server told, and that is in the store.
    ///
    /// # Errors
    ///
    /// As [`place::told_state`].
    pub(super) async fn group_told(&self, room: &RoomHandle, told: Vec<OwnedEventId>) -> Result<StateGroupId> {
        let handle = room.clone();
        let plan = self.store.read(move |db| {
            let map = place::told_state(db, &handle, &told)?;
            Ok::<_, EventError>(building::plan(db, rooms::current_group(db, handle.nid)?, &map)?)
        });
        let (group, unfinished) = self.build(room, plan.await?).await?;
        if unfinished {
            self.store.write(move |tx| building::finish(tx, group)).await?;
        }
        Ok(group)
    }

    /// Makes a state group. True: it is to be finished by whoever points to it.
    async fn build(&self, room: &RoomHandle, plan: Plan) -> Result<(StateGroupId, bool), StoreError> {
        let blueprint = match plan {
            Plan::Here(group) => return Ok((group, false)),
            Plan::Make(blueprint) => blueprint,
        };
        let (nid, step) = (room.nid, self.steps.entries);
        let begun = self.store.write(move |tx| {
            let group = building::begin(tx, nid, &blueprint)?;
            let mut entries = blueprint.entries;
            let rest = entries.split_off(entries.len().min(step));
            building::add(tx, group, &entries)?;
            Ok::<_, StoreError>((group, rest))
        });
        let (group, mut entries) = begun.await?;
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(step));
            let some = std::mem::replace(&mut entries, rest);
            self.store.write(move |tx| building::add(tx, group, &some)).await?;
        }
        Ok((group, true))
    }

    /// Stores what was judged, as outliers. Returns how many are rejected.
    pub(super) async fn keep_all(&self, room: &RoomHandle, origin: &OwnedServerName, judged: Vec<Judged>) -> Result<usize> {
        let mut rejected = 0;
        let mut judged = judged.into_iter();
        loop {
            let chunk: Vec<Judged> = judged.by_ref().take(self.steps.events).collect();
            if chunk.is_empty() {
                return Ok(rejected);
            }
            rejected += chunk.iter().filter(|event| event.verdict != Verdict::Accepted).count();
            let (room, origin) = (room.clone(), origin.clone());
            let stored = self.store.write(move |tx| {
                // Within a chunk most events name the same few.
                let mut known: HashMap<OwnedEventId, EventNid> = HashMap::new();
                for Judged { pdu, packed, verdict } in &chunk {
                    if graph::find(&tx.reader(), pdu.event_id())?.is_some() {
                        continue;
                    }
                    let mut auth = Vec::new();
                    for id in pdu.auth_events() {
                        if let Some(nid) = known.get(id) {
                            auth.push(*nid);
                        } else if let Some(event) = graph::find(&tx.reader(), id)?.filter(|event| event.room == room.nid) {
                            known.insert(id.clone(), event.nid);
                            auth.push(event.nid);
                        }
                    }
                    place::insert(tx, &room, pdu, Json::Packed(packed), &origin, &auth, verdict)?;
                }
                Ok::<_, EventError>(())
            });
            stored.await?;
        }
    }

    /// We are in the room already, and needed the other server's word only: the join is an event like any other.
    pub(super) async fn take_in(&self, room: &RoomHandle, origin: &OwnedServerName, join: Pdu) -> Result<Imported, ImportError> {
        let id = join.event_id().to_owned();
        self.keep(room, origin, vec![join]).await?;
        self.place_or_fetch(room, origin, vec![id.clone()], Instant::now() + work::PATIENCE).await?;
        let nid = room.nid;
        let (stored, state_events) =
            self.store.read(move |db| Ok::<_, EventError>((events::by_id(db, &id)?, state::current_all(db, nid)?.len()))).await?;
        match stored.filter(|event| event.accepted()).and_then(|event| event.pos) {
            Some(pos) => Ok(Imported { room: nid, pos, state_events, refused: 0 }),
            None => Err(unusable("the join is not allowed by the room's state")),
        }
    }

    /// The state becomes the room's, and the join its newest event. Nobody here is in the room before the last step, so nobody
    /// sees the steps before it; after a crash the next attempt goes on from what is there.
    pub(super) async fn take_over(
        &self,
        room: &RoomHandle,
        origin: &OwnedServerName,
        state_ids: Vec<OwnedEventId>,
        join: Pdu,
    ) -> Result<Imported, ImportError> {
        let done = async {
            let (join, before) = self.keep_join(room, origin, join).await?;
            if let Some(pos) = before {
                let (nid, state_events) = (room.nid, state_ids.len());
                return Ok(Imported { room: nid, pos, state_events, refused: 0 });
            }
            let (handle, candidate, us) = (room.clone(), join.clone(), self.server_name.clone());
            let course = self.store.read(move |db| {
                let map = place::told_state(db, &handle, &state_ids)?;
                allowed(db, &handle, &candidate, &map)?;
                course(db, &handle, map, &us)
            });
            let Course { plan, changes, ours, size } = course.await?;
            let (before, _) = self.build(room, plan).await?;
            self.change(room, changes).await?;
            self.enter(room, join, before, ours, size).await
        };
        match done.await {
            Ok(imported) => Ok(imported),
            Err(EventError::BadState(why)) => Err(ImportError::Unusable(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the join as an outlier. Returns its place if it has one: it has been taken over before.
    async fn keep_join(&self, room: &RoomHandle, origin: &OwnedServerName, join: Pdu) -> Result<(Pdu, Option<StreamPos>)> {
        let (room, origin) = (room.clone(), origin.clone());
        let kept = self.store.write(move |tx| {
            let nid = match place::outlier(tx, &room, &join, &origin)? {
                place::Kept::Here(nid) => nid,
                place::Kept::Missing(ids) => return Err(EventError::BadState(format!("what authorises the join is not there: {ids:?}"))),
            };
            let stored = events::by_nid(&tx.reader(), nid)?;
            match &stored.rejected {
                Some(why) => Err(EventError::BadState(format!("the join is rejected: {why}"))),
                None => Ok((join, stored.pos)),
            }
        });
        kept.await
    }

    /// Makes these changes to the current state.
    async fn change(&self, room: &RoomHandle, changes: Vec<Change>) -> Result<()> {
        let mut changes = changes;
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(self.steps.keys));
            let some = std::mem::replace(&mut changes, rest);
            let (room, ctx) = (room.clone(), self.ctx());
            let changed = self.store.write(move |tx| {
                // Each piece has a place of its own before the join, so that a timeline that starts with the join starts from all.
                let pos = tx.next_pos();
                for user in current::change(tx, &ctx, &room, some, pos)? {
                    tx.touch(user);
                }
                Ok::<_, EventError>(())
            });
            changed.await?;
        }
        Ok(())
    }

    /// The last step: from here on we are in the room.
    async fn enter(&self, room: &RoomHandle, join: Pdu, before: StateGroupId, ours: Vec<Change>, size: usize) -> Result<Imported> {
        let (room, ctx) = (room.clone(), self.ctx());
        let done = self.store.write(move |tx| {
            let nid = match graph::find(&tx.reader(), join.event_id())? {
                Some(event) => event.nid,
                None => return Err(EventError::Internal("the join has gone".into())),
            };
            let stored = events::by_nid(&tx.reader(), nid)?;
            if let Verdict::Rejected(why) = check5_state_before::check(&tx.reader(), &room, &join, before)? {
                return Err(EventError::BadState(format!("the join is not allowed by the room's state: {why}")));
            }
            building::finish(tx, before)?;
            let pos = tx.next_pos();
            for user in current::change(tx, &ctx, &room, ours, pos)? {
                tx.touch(user);
            }
            graph::set_extremities(tx, room.nid, &[])?;
            rooms::set_current_group(tx, room.nid, before)?;
            let pos = tx.next_pos();
            events::place(tx, room.nid, nid, &join, &Placing { pos, state_before: before, rejected: None, soft_failed: false })?;
            write::settle(tx, &ctx, &room, &join, nid, pos, stored.sender)?;
            Ok(Imported { room: room.nid, pos, state_events: size, refused: 0 })
        });
        done.await
    }
}

/// Does the state let the join in? Asked before anything of it becomes the room's.
fn allowed(db: &Reader<'_>, room: &RoomHandle, join: &Pdu, state: &BTreeMap<StateKeyNid, EventNid>) -> Result<()> {
    let lookup = Lookup::new(db, room);
    let verdict = lookup::judge(&lookup, join, |kind, key| {
        let key = state::find_key(db, kind, key)?;
        Ok(key.and_then(|key| state.get(&key).copied()))
    });
    match verdict? {
        Verdict::Accepted => Ok(()),
        Verdict::Rejected(why) => Err(EventError::BadState(format!("the join is not allowed by the room's state: {why}"))),
    }
}

/// What there is to do. Compared is with the state as it is in the tables, which may be that of an attempt that did not end.
fn course(db: &Reader<'_>, room: &RoomHandle, state: BTreeMap<StateKeyNid, EventNid>, us: &ServerName) -> Result<Course> {
    let plan = building::plan(db, rooms::current_group(db, room.nid)?, &state)?;
    let before: BTreeMap<StateKeyNid, EventNid> = state::current_all(db, room.nid)?.into_iter().collect();
    let changes: Changes = state::difference(&before, &state);
    let (mut ordered, mut members, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for (key, event) in changes {
        let (kind, state_key) = state::key(db, key)?;
        match kind.as_str() {
            "m.room.member" if UserId::parse(&state_key).is_ok_and(|user| user.server_name() == us) => ours.push((key, event)),
            "m.room.member" => members.push((key, event)),
            _ => ordered.push((key, event)),
        }
    }
    ordered.append(&mut members);
    Ok(Course { plan, changes: ordered, ours, size: state.len() })
}
