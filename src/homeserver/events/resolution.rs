//! The state of forks: which events take part in a resolution, and what comes out.
//!
//! Works on integer ids and on what the states do not share; JSON is read of the events in dispute and of those that decide.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, events::StateEventType, state_res::auth_types_for_event};

use super::{EventError, Result};
use crate::homeserver::{
    rooms::resolve::{self, Dispute, StateMap},
    store::{
        Reader, Tx, events, graph,
        state::{self, Changes},
    },
    types::{EventNid, Pdu, RoomHandle, StateGroupId, StateKeyNid},
};

type Pair = (StateEventType, String);
/// Events that were looked up by their ID.
type Known = HashMap<OwnedEventId, Option<(EventNid, Arc<Pdu>)>>;

/// What resolving states gave: the changes that make `base`, one of them, into the outcome.
#[derive(Debug, Clone)]
pub struct Outcome {
    base: StateGroupId,
    changes: Changes,
}

/// Groups in ascending order, each once: what identifies a resolution.
#[must_use]
pub fn distinct(groups: impl IntoIterator<Item = StateGroupId>) -> Vec<StateGroupId> {
    groups.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The outcome of merging these states, when nothing has to be resolved for it.
///
/// # Errors
///
/// Store errors.
pub fn known(db: &Reader<'_>, groups: &[StateGroupId]) -> Result<Option<StateGroupId>> {
    match groups {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => Ok(state::merge(db, several)?),
    }
}

/// The state that these states make together.
///
/// # Errors
///
/// [`EventError`].
pub fn merged(tx: &Tx<'_>, room: &RoomHandle, groups: &[StateGroupId]) -> Result<StateGroupId> {
    if groups.is_empty() {
        return Ok(state::root_group(tx, room.nid, [])?);
    }
    match known(&tx.reader(), groups)? {
        Some(group) => Ok(group),
        None => keep(tx, room, groups, resolve(&tx.reader(), room, groups)?),
    }
}

/// Stores the outcome of a resolution.
///
/// # Errors
///
/// Store errors.
pub fn keep(tx: &Tx<'_>, room: &RoomHandle, groups: &[StateGroupId], outcome: Outcome) -> Result<StateGroupId> {
    let group = if outcome.changes.is_empty() { outcome.base } else { state::next_group(tx, room.nid, outcome.base, outcome.changes)? };
    state::add_merge(tx, groups, group)?;
    Ok(group)
}

/// Resolves these states. `groups` as [`distinct`] gives them.
///
/// # Errors
///
/// [`EventError`].
pub fn resolve(db: &Reader<'_>, room: &RoomHandle, groups: &[StateGroupId]) -> Result<Outcome> {
    let base = groups.last().copied().ok_or_else(|| EventError::Internal("no states to resolve".into()))?;
    let conflicted = state::divergence(db, groups)?;
    if conflicted.is_empty() {
        return Ok(Outcome { base, changes: Changes::new() });
    }
    let resolution = Resolution { db, room, base, conflicted, events: RefCell::default(), failure: RefCell::default() };
    let outcome = resolution.run(groups.len());
    // A store error inside a look-up shows as an event that is missing: it is the cause, so it goes first.
    if let Some(error) = resolution.failure.take() {
        return Err(error);
    }
    Ok(Outcome { base, changes: outcome? })
}

struct Resolution<'a, 'db> {
    db: &'a Reader<'db>,
    room: &'a RoomHandle,
    base: StateGroupId,
    conflicted: BTreeMap<StateKeyNid, Vec<Option<EventNid>>>,
    events: RefCell<Known>,
    failure: RefCell<Option<EventError>>,
}

impl Resolution<'_, '_> {
    fn run(&self, states: usize) -> Result<Changes> {
        let sets: Vec<BTreeSet<EventNid>> =
            (0..states).map(|n| self.conflicted.values().filter_map(|values| values.get(n).copied().flatten()).collect()).collect();
        let all: BTreeSet<EventNid> = sets.iter().flatten().copied().collect();
        let difference = self.not_shared(graph::auth_difference(self.db, &sets)?)?;
        let newer = self.room.rules.state_res.v2_rules().is_some_and(|rules| rules.consider_conflicted_state_subgraph);
        let subgraph = if newer { graph::between(self.db, &all)? } else { BTreeSet::new() };

        let mut taking_part = BTreeMap::new();
        for nid in all.iter().chain(&difference).chain(&subgraph) {
            if !taking_part.contains_key(nid) {
                taking_part.insert(*nid, self.load(*nid)?);
            }
        }
        let agreed = self.agreed(taking_part.values())?;
        let ids = |nids: &BTreeSet<EventNid>| -> BTreeSet<OwnedEventId> {
            nids.iter().filter_map(|nid| taking_part.get(nid)).map(|pdu| pdu.event_id().to_owned()).collect()
        };
        let states = (0..states).map(|n| self.state(n, &agreed, &taking_part)).collect::<Result<Vec<_>>>()?;
        let dispute = Dispute { states, auth_difference: ids(&difference), subgraph: ids(&subgraph) };
        let outcome = resolve::resolve(&self.room.rules, &dispute, |id| self.fetch(id))
            .map_err(|why| EventError::Internal(format!("resolving the state of {}: {why}", self.room.room_id)))?;
        self.changes(outcome, &agreed)
    }

    /// Leaves out what authorises a state event that all agree on: that is in every auth chain.
    fn not_shared(&self, difference: BTreeSet<EventNid>) -> Result<BTreeSet<EventNid>> {
        let mut apart = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for event in difference {
            match graph::leads_to(self.db, event, |follower| self.is_agreed(follower))? {
                Some(false) => drop(apart.insert(event)),
                Some(true) => {}
                None => drop(unknown.insert(event)),
            }
        }
        if !unknown.is_empty() {
            let mut shared = state::of_group(self.db, self.base).map_err(EventError::from)?;
            shared.retain(|key, _| !self.conflicted.contains_key(key));
            let reached = graph::reached(self.db, shared.into_values(), &unknown)?;
            apart.extend(unknown.difference(&reached));
        }
        Ok(apart)
    }

    /// True for a state event that every state has.
    fn is_agreed(&self, event: EventNid) -> Result<bool, crate::homeserver::store::StoreError> {
        match events::state_key_of(self.db, event)? {
            Some(key) if !self.conflicted.contains_key(&key) => Ok(state::key_of_group(self.db, self.base, key)? == Some(event)),
            _ => Ok(false),
        }
    }

    /// The events that all states agree on, of the keys that checks of these events may look at or that the events themselves set.
    fn agreed<'e>(&self, events: impl Iterator<Item = &'e Arc<Pdu>>) -> Result<BTreeMap<Pair, Option<Arc<Pdu>>>> {
        let mut pairs: BTreeSet<Pair> = resolve::always_needed().into_iter().collect();
        for pdu in events {
            if let Some(state_key) = pdu.state_key() {
                pairs.insert((pdu.kind().to_string().into(), state_key.to_owned()));
            }
            // What makes no sense for its type is refused by the resolution itself.
            let rules = &self.room.rules.authorization;
            pairs.extend(auth_types_for_event(pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content(), rules).unwrap_or_default());
        }
        let mut agreed = BTreeMap::new();
        for pair in pairs {
            let key = state::find_key(self.db, &pair.0.to_string(), &pair.1)?;
            let Some(key) = key.filter(|key| !self.conflicted.contains_key(key)) else { continue };
            let event = state::key_of_group(self.db, self.base, key)?.map(|nid| self.load(nid)).transpose()?;
            agreed.insert(pair, event);
        }
        Ok(agreed)
    }

    fn state(&self, n: usize, agreed: &BTreeMap<Pair, Option<Arc<Pdu>>>, known: &BTreeMap<EventNid, Arc<Pdu>>) -> Result<StateMap> {
        let mut map: StateMap = agreed.iter().filter_map(|(pair, pdu)| Some((pair.clone(), pdu.as_ref()?.event_id().to_owned()))).collect();
        for (key, values) in &self.conflicted {
            if let Some(pdu) = values.get(n).copied().flatten().and_then(|nid| known.get(&nid)) {
                let (kind, state_key) = state::key(self.db, *key)?;
                map.insert((kind.into(), state_key), pdu.event_id().to_owned());
            }
        }
        Ok(map)
    }

    /// What changes in `base`.
    fn changes(&self, outcome: StateMap, agreed: &BTreeMap<Pair, Option<Arc<Pdu>>>) -> Result<Changes> {
        let position = |values: &Vec<Option<EventNid>>| values.last().copied().flatten();
        // Whatever was in dispute and does not come out is gone.
        let mut changes: Changes =
            self.conflicted.iter().filter(|(_, values)| position(values).is_some()).map(|(key, _)| (*key, None)).collect();
        for (pair, event_id) in outcome {
            if matches!(agreed.get(&pair), Some(Some(_))) {
                continue;
            }
            let Some(nid) = self.nid_of(&event_id) else { continue };
            let Some(key) = events::state_key_of(self.db, nid)? else { continue };
            if self.conflicted.get(&key).and_then(position) == Some(nid) {
                changes.remove(&key);
            } else {
                changes.insert(key, Some(nid));
            }
        }
        Ok(changes)
    }

    fn load(&self, nid: EventNid) -> Result<Arc<Pdu>> {
        let event = events::by_nid(self.db, nid)?;
        let pdu = Arc::new(event.pdu(&self.room.rules)?);
        self.events.borrow_mut().insert(event.event_id, Some((nid, Arc::clone(&pdu))));
        Ok(pdu)
    }

    fn nid_of(&self, event_id: &EventId) -> Option<EventNid> {
        self.events.borrow().get(event_id).and_then(|found| found.as_ref().map(|(nid, _)| *nid))
    }

    fn fetch(&self, event_id: &EventId) -> Option<Arc<Pdu>> {
        if let Some(found) = self.events.borrow().get(event_id) {
            return found.as_ref().map(|(_, pdu)| Arc::clone(pdu));
        }
        let found = events::by_id(self.db, event_id).map_err(EventError::from).and_then(|event| {
            let Some(event) = event.filter(|event| event.room == self.room.nid) else { return Ok(None) };
            Ok(Some((event.nid, Arc::new(event.pdu(&self.room.rules)?))))
        });
        match found {
            Ok(found) => {
                let pdu = found.as_ref().map(|(_, pdu)| Arc::clone(pdu));
                self.events.borrow_mut().insert(event_id.to_owned(), found);
                pdu
            }
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }
}
