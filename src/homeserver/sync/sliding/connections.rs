//! What each connection has been told.
//!
//! A state is never changed once a client may know its position: the next request with that position starts from it, however
//! often it is repeated. Earlier positions are forgotten when a later one comes back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ruma::{OwnedDeviceId, OwnedRoomId, events::room::member::MembershipState};

use super::required::Required;
use crate::{
    base::Randomness,
    homeserver::types::{EventNid, RoomNid, StreamPos, UserNid},
};

/// Connections of one device.
const PER_DEVICE: usize = 8;
/// Connections of all devices.
const IN_ALL: usize = 2000;
/// Positions that a connection can be resumed from: the one that was acknowledged and answers that may not have arrived.
const POSITIONS: usize = 4;

/// Which connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub user: UserNid,
    pub device: OwnedDeviceId,
    pub conn_id: String,
}

/// A room in the user's list of rooms.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub room: RoomNid,
    pub room_id: OwnedRoomId,
    pub membership: MembershipState,
    pub member_event: EventNid,
    /// Sorts the lists: the room's newest event, or the user's membership where the user is not in it.
    pub active: StreamPos,
    /// Told to clients, which sort by it: the newest event of the kinds that count as activity for people.
    pub bump: StreamPos,
    /// The user was in it and was kicked or banned: it stays in the lists until forgotten.
    pub thrown_out: bool,
    pub encrypted: bool,
    pub room_type: Option<String>,
    pub forgotten: bool,
}

/// What a connection was told of a room.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Everything up to here.
    pub pos: StreamPos,
    /// There is more since then: the room was not asked for when it changed.
    pub behind: bool,
    pub membership: MembershipState,
    pub timeline_limit: usize,
    pub required: Arc<Required>,
    pub is_dm: bool,
    /// Members that were sent because the timeline needed them.
    pub members: Arc<BTreeSet<String>>,
}

/// Everything that a connection was told by the time of one answer.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub pos: StreamPos,
    pub serial: u64,
    pub rooms: HashMap<RoomNid, Arc<Told>>,
    pub entries: Arc<HashMap<RoomNid, Arc<Entry>>>,
    pub key_counts: BTreeMap<String, u64>,
    pub fallback_keys: Vec<String>,
    /// Extensions whose first answer has been given.
    pub begun: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Connection {
    states: VecDeque<(u64, Arc<State>)>,
    used: u64,
}

/// The connections of all devices, in memory: a restarted node answers `M_UNKNOWN_POS`, and clients begin anew.
#[derive(Debug)]
pub struct Connections {
    /// Tells positions of this run from those of earlier ones.
    run: String,
    next: AtomicU64,
    open: Mutex<HashMap<Key, Connection>>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(randomness: &dyn Randomness) -> Self {
        Self { run: randomness.alphanumeric(10), next: AtomicU64::new(1), open: Mutex::new(HashMap::new()) }
    }

    fn tick(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The state that a position stands for; `None` when it is not known (any more).
    pub(super) fn resume(&self, key: &Key, pos: &str) -> Option<Arc<State>> {
        let id: u64 = pos.strip_prefix(self.run.as_str())?.strip_prefix('.')?.parse().ok()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = open.get_mut(key)?;
        let state = connection.states.iter().find(|(known, _)| *known == id).map(|(_, state)| Arc::clone(state))?;
        connection.states.retain(|(known, _)| *known >= id);
        connection.used = self.tick();
        Some(state)
    }

    /// Notes what an answer told and returns its position. `after` is the position that the request came with; without one the
    /// connection begins anew.
    pub(super) fn advance(&self, key: Key, after: Option<&str>, state: State) -> String {
        let id = self.tick();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = open.entry(key.clone()).or_insert_with(|| Connection { states: VecDeque::new(), used: id });
        if after.is_none() {
            connection.states.clear();
        }
        connection.states.push_back((id, Arc::new(state)));
        connection.used = id;
        if connection.states.len() > POSITIONS {
            // The first is the one that requests are repeated with; of the answers after it the oldest is the least likely.
            connection.states.remove(1);
        }
        bound(&mut open, &key);
        format!("{}.{id}", self.run)
    }
}

/// Drops the connections that have not been used for longest.
fn bound(open: &mut HashMap<Key, Connection>, newest: &Key) {
    let same_device = |key: &Key| key.user == newest.user && key.device == newest.device;
    if open.keys().filter(|key| same_device(key)).count() > PER_DEVICE {
        drop_oldest(open, same_device);
    }
    if open.len() > IN_ALL {
        drop_oldest(open, |_| true);
    }
}

fn drop_oldest(open: &mut HashMap<Key, Connection>, among: impl Fn(&Key) -> bool) {
    let oldest = open.iter().filter(|(key, _)| among(key)).min_by_key(|(_, c)| c.used).map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        open.remove(&key);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::base::random::SeededRandomness;

    fn state(pos: i64) -> State {
        State {
            pos: StreamPos(pos),
            serial: 0,
            rooms: HashMap::new(),
            entries: Arc::default(),
            key_counts: BTreeMap::new(),
            fallback_keys: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    fn key(conn_id: &str) -> Key {
        Key { user: UserNid(1), device: "D".into(), conn_id: conn_id.to_owned() }
    }

    #[test]
    fn a_position_can_be_repeated_until_a_later_one_is_used() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("a"), None, state(1));
        let lost = connections.advance(key("a"), Some(&first), state(2));
        let second = connections.advance(key("a"), Some(&first), state(3));
        assert_eq!(connections.resume(&key("a"), &first).unwrap().pos, StreamPos(1));
        assert_eq!(connections.resume(&key("a"), &lost).unwrap().pos, StreamPos(2));
        assert_eq!(connections.resume(&key("a"), &second).unwrap().pos, StreamPos(3));
        assert!(connections.resume(&key("a"), &first).is_none(), "the client has gone on");
    }

    #[test]
    fn many_repetitions_keep_the_position_that_they_repeat() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("a"), None, state(1));
        let mut last = String::new();
        for n in 0..20 {
            last = connections.advance(key("a"), Some(&first), state(2 + n));
        }
        assert!(connections.resume(&key("a"), &first).is_some());
        assert!(connections.resume(&key("a"), &last).is_some());
    }

    #[test]
    fn positions_of_other_connections_and_other_runs_are_unknown() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let pos = connections.advance(key("a"), None, state(1));
        assert!(connections.resume(&key("b"), &pos).is_none());
        assert!(Connections::new(&SeededRandomness::new(2)).resume(&key("a"), &pos).is_none());
        assert!(connections.resume(&key("a"), "7").is_none());
    }

    #[test]
    fn a_device_has_a_bounded_number_of_connections() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("0"), None, state(1));
        for n in 1..=PER_DEVICE {
            connections.advance(key(&n.to_string()), None, state(1));
        }
        assert!(connections.resume(&key("0"), &first).is_none());
    }
}
