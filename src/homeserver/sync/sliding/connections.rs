//! What each connection has been told.
//!
//! A state is never changed once a client may know its position: the next request with that position starts from it, however
//! often it is repeated. Earlier positions are forgotten when a later one comes back. Connections are written to the store a
//! while after they changed, and when the node stops: a restarted node goes on with them. What a crash takes is answered with
//! `M_UNKNOWN_POS`, and the client begins anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ruma::{OwnedDeviceId, OwnedRoomId, events::room::member::MembershipState};

use super::{Form, required::Required, saved};
use crate::{
    base::Randomness,
    homeserver::{
        Node,
        store::{self, Store, StoreError, sliding},
        types::{EventNid, RoomNid, StreamPos, Token, UserNid},
    },
};

/// Connections of one device.
const PER_DEVICE: usize = sliding::PER_DEVICE;
/// Connections of all devices.
const IN_ALL: usize = 2000;
/// Positions that a connection can be resumed from: the one that was acknowledged and answers that may not have arrived.
const POSITIONS: usize = 4;
/// How long after a change a connection is written. Several answers of that time are one write.
const SAVE_AFTER: Duration = Duration::from_secs(20);

/// Which connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub user: UserNid,
    pub device: OwnedDeviceId,
    pub form: Form,
    pub conn_id: String,
}

impl Key {
    fn row(&self) -> sliding::Key {
        let form = match self.form {
            Form::Unstable => "unstable",
            Form::V4 => "v4",
        };
        sliding::Key { user: self.user, device: self.device.clone(), form, conn_id: self.conn_id.clone() }
    }
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

impl Told {
    /// True when nothing but its state may have changed since it was told.
    pub fn is_still(&self, entry: &Entry, is_dm: bool) -> bool {
        self.membership == entry.membership && self.is_dm == is_dm && !self.behind
    }
}

/// Everything that a connection was told by the time of one answer.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub pos: StreamPos,
    pub serial: u64,
    pub rooms: HashMap<RoomNid, Arc<Told>>,
    /// `None` for a connection from before a restart.
    pub entries: Option<Arc<HashMap<RoomNid, Arc<Entry>>>>,
    pub key_counts: BTreeMap<String, u64>,
    pub fallback_keys: Vec<String>,
    /// Extensions whose first answer has been given.
    pub begun: BTreeSet<&'static str>,
}

/// A connection's positions, oldest first.
pub(super) type States = VecDeque<(String, Arc<State>)>;

#[derive(Debug)]
struct Connection {
    states: States,
    used: u64,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Key, Connection>,
    /// Changed since they were written.
    unsaved: HashSet<Key>,
}

/// The connections of all devices.
#[derive(Debug)]
pub struct Connections {
    /// Tells positions of this run from those of earlier ones.
    run: String,
    next: AtomicU64,
    inner: Mutex<Inner>,
    changed: tokio::sync::Notify,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(randomness: &dyn Randomness) -> Self {
        Self { run: randomness.alphanumeric(10), next: AtomicU64::new(1), inner: Mutex::default(), changed: tokio::sync::Notify::new() }
    }

    fn tick(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state that a position stands for, as far as memory knows; `Err` when it does not have the connection at all.
    fn resume(&self, key: &Key, pos: &str) -> Result<Option<Arc<State>>, ()> {
        let used = self.tick();
        self.with(|inner| {
            let connection = inner.open.get_mut(key).ok_or(())?;
            let Some(at) = connection.states.iter().position(|(known, _)| known == pos) else { return Ok(None) };
            connection.states.drain(..at);
            connection.used = used;
            Ok(connection.states.front().map(|(_, state)| Arc::clone(state)))
        })
    }

    /// The state that a position stands for; `None` when it is not known (any more).
    pub(super) async fn find(&self, store: &Store, key: &Key, pos: &str) -> store::Result<Option<Arc<State>>> {
        if let Ok(known) = self.resume(key, pos) {
            return Ok(known);
        }
        let row = key.row();
        let saved = store.read(move |db| sliding::get(db, &row)).await?;
        let Some(states) = saved.and_then(|saved| saved::decode(&saved)) else { return Ok(None) };
        let used = self.tick();
        self.with(|inner| {
            // Another request may have been faster, or begun anew.
            inner.open.entry(key.clone()).or_insert(Connection { states, used });
            bound(inner, key);
        });
        Ok(self.resume(key, pos).ok().flatten())
    }

    /// Notes what an answer told and returns its position. `after` is the position that the request came with; without one the
    /// connection begins anew.
    pub(super) fn advance(&self, key: Key, after: Option<&str>, state: State) -> String {
        let id = self.tick();
        // It begins like a pagination token, and is one where a room's history is asked for.
        let pos = format!("{}_{}.{id}", Token(state.pos), self.run);
        self.with(|inner| {
            let connection = inner.open.entry(key.clone()).or_insert_with(|| Connection { states: VecDeque::new(), used: id });
            if after.is_none() {
                connection.states.clear();
            }
            connection.states.push_back((pos.clone(), Arc::new(state)));
            connection.used = id;
            if connection.states.len() > POSITIONS {
                // The first is the one that requests are repeated with; of the answers after it the oldest is the least likely.
                connection.states.remove(1);
            }
            bound(inner, &key);
            inner.unsaved.insert(key);
        });
        self.changed.notify_one();
        pos
    }

    /// Writes the connections that changed since they were written.
    ///
    /// # Errors
    ///
    /// Store errors; what was not written is tried again the next time.
    pub async fn save(&self, store: &Store, now_ms: u64) -> store::Result<()> {
        let unsaved = self.with(|inner| {
            let keys = std::mem::take(&mut inner.unsaved);
            let states = |key: &Key| inner.open.get(key).map(|connection| connection.states.clone());
            keys.into_iter().filter_map(|key| states(&key).map(|states| (key, states))).collect::<Vec<_>>()
        });
        if unsaved.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = unsaved.iter().map(|(key, _)| key.clone()).collect();
        let encode = || unsaved.into_iter().map(|(key, states)| (key.row(), saved::encode(&states))).collect::<Vec<_>>();
        let rows = tokio::task::spawn_blocking(encode).await.map_err(|error| StoreError::Data(error.to_string()))?;
        let written = store.write(move |tx| sliding::put(tx, &rows, now_ms)).await;
        if written.is_err() {
            self.with(|inner| inner.unsaved.extend(keys));
        }
        written
    }
}

/// Starts the task that writes connections. It ends with the node, which writes them once more when nothing changes them.
pub fn start(node: &Arc<Node>) {
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-sliding-connections", async move {
        let shutdown = node.tasks.shutdown().clone();
        loop {
            // Cancel-safe: both only wait.
            tokio::select! {
                () = shutdown.wait() => return,
                () = node.sync.connections.changed.notified() => {}
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(SAVE_AFTER) => {}
            }
            if let Err(error) = node.sync.connections.save(&node.store, node.clock.now_ms()).await {
                tracing::warn!(%error, "sliding-sync connections were not written");
            }
        }
    });
}

/// Drops the connections that have not been used for longest.
fn bound(inner: &mut Inner, newest: &Key) {
    let open = &mut inner.open;
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
            entries: Some(Arc::default()),
            key_counts: BTreeMap::new(),
            fallback_keys: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    fn key(conn_id: &str) -> Key {
        Key { user: UserNid(1), device: "D".into(), form: Form::Unstable, conn_id: conn_id.to_owned() }
    }

    #[test]
    fn a_position_can_be_repeated_until_a_later_one_is_used() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("a"), None, state(1));
        let lost = connections.advance(key("a"), Some(&first), state(2));
        let second = connections.advance(key("a"), Some(&first), state(3));
        assert_eq!(connections.resume(&key("a"), &first).unwrap().unwrap().pos, StreamPos(1));
        assert_eq!(connections.resume(&key("a"), &lost).unwrap().unwrap().pos, StreamPos(2));
        assert_eq!(connections.resume(&key("a"), &second).unwrap().unwrap().pos, StreamPos(3));
        assert!(connections.resume(&key("a"), &first).unwrap().is_none(), "the client has gone on");
    }

    #[test]
    fn many_repetitions_keep_the_position_that_they_repeat() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("a"), None, state(1));
        let mut last = String::new();
        for n in 0..20 {
            last = connections.advance(key("a"), Some(&first), state(2 + n));
        }
        assert!(connections.resume(&key("a"), &first).unwrap().is_some());
        assert!(connections.resume(&key("a"), &last).unwrap().is_some());
    }

    #[test]
    fn positions_of_other_connections_and_other_runs_are_unknown() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let pos = connections.advance(key("a"), None, state(1));
        assert!(connections.resume(&key("b"), &pos).is_err());
        assert!(Connections::new(&SeededRandomness::new(2)).resume(&key("a"), &pos).is_err());
        assert!(connections.resume(&key("a"), "7").unwrap().is_none());
    }

    #[test]
    fn a_device_has_a_bounded_number_of_connections() {
        let connections = Connections::new(&SeededRandomness::new(1));
        let first = connections.advance(key("0"), None, state(1));
        for n in 1..=PER_DEVICE {
            connections.advance(key(&n.to_string()), None, state(1));
        }
        assert!(connections.resume(&key("0"), &first).is_err());
    }
}
