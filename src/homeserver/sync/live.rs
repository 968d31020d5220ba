//! What is true only for the moment and kept only in memory: who is typing, who is online.
//!
//! Every change takes a serial number, which is part of sync tokens. Serials start at the node's start time in milliseconds, so
//! that a token from an earlier run is older than everything of this one.

mod idle;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, ServerName, presence::PresenceState};
use tokio::{sync::watch, time::Instant};

use crate::homeserver::types::{RoomNid, UserNid};

/// Longest time for which a client may say that its user is typing.
pub const LONGEST_TYPING: Duration = Duration::from_secs(120);
/// A user whose clients have not synced for this long is offline.
pub const GRACE: Duration = Duration::from_secs(40);
/// Another server's user of whom nothing was heard for this long is offline; servers repeat themselves more often.
pub const SILENCE: Duration = Duration::from_secs(30 * 60);
/// People who may be seen typing in one room.
const TYPISTS: usize = 100;
/// Users of other servers whose presence is remembered.
const REMOTE: usize = 10_000;

/// A user's presence.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Who.
    pub user_id: OwnedUserId,
    /// Online, unavailable, offline.
    pub state: PresenceState,
    /// What the user says about it.
    pub status_msg: Option<String>,
    /// When the user last did something.
    pub last_active_ms: u64,
    /// When this changed.
    pub serial: u64,
    /// Clients that are syncing at this moment.
    here: usize,
    /// When the last of them went.
    gone: Instant,
    /// A task waits for the user to be away for long enough.
    watched: bool,
    /// Another server's user: what their server says holds until it has been silent for too long.
    remote: bool,
    /// When the user last did something.
    active: Instant,
    /// Unavailable because they have done nothing for a while, not because a client says so.
    idle: bool,
    /// A task waits for the user to have done nothing for a while.
    idle_watched: bool,
}

#[derive(Debug, Default)]
struct RoomTyping {
    serial: u64,
    /// A task waits for the next one's time to be over.
    watched: bool,
    users: BTreeMap<OwnedUserId, Instant>,
}

#[derive(Debug)]
struct Inner {
    serial: u64,
    typing: HashMap<RoomNid, RoomTyping>,
    /// Shared with the moments that are being told, copied when it changes meanwhile.
    presence: Arc<HashMap<UserNid, Presence>>,
    /// A task waits for other servers to have been silent for too long.
    silence_watched: bool,
}

/// Typing and presence.
#[derive(Debug)]
pub struct Live {
    inner: Mutex<Inner>,
    /// The newest serial, for those who pass on what changes.
    changes: watch::Sender<u64>,
}

/// All of it at one moment.
#[derive(Debug, Clone, Default)]
pub(in crate::homeserver) struct Moment {
    /// Everything up to here is in it.
    pub serial: u64,
    /// Who types in rooms where somebody did lately, and when that changed.
    pub typing: HashMap<RoomNid, (u64, Vec<OwnedUserId>)>,
    /// Presence of users.
    pub presence: Arc<HashMap<UserNid, Presence>>,
}

/// What follows from somebody's typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetTyping {
    /// Others have to be told.
    pub changed: bool,
    /// The caller has to start watching the time.
    pub watch: bool,
}

/// What another server says of its user.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Who.
    pub user: UserNid,
    /// The same, on the wire.
    pub user_id: OwnedUserId,
    /// How they are.
    pub state: PresenceState,
    /// What they say about it.
    pub status_msg: Option<String>,
    /// When they last did something.
    pub last_active_ms: u64,
}

/// What follows from what another server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetPresence {
    /// Others have to be told.
    pub changed: bool,
    /// The caller has to start watching the time.
    pub watch: bool,
}

/// What other servers are told of this server's users.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Who types where.
    pub typing: BTreeSet<(RoomNid, OwnedUserId)>,
    /// How they are.
    pub presence: BTreeMap<UserNid, Presence>,
}

/// What follows from time going by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Others have to be told.
    pub changed: bool,
    /// When to look again; `None` when nobody types any more.
    pub next: Option<Instant>,
}

impl Live {
    /// Nobody is there.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { serial: now_ms, typing: HashMap::new(), presence: Arc::default(), silence_watched: false }),
            changes: watch::Sender::new(now_ms),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let before = inner.serial;
        let answer = f(&mut inner);
        if inner.serial != before {
            self.changes.send_replace(inner.serial);
        }
        answer
    }

    /// Watches for changes of any kind.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Everything at this moment.
    pub(in crate::homeserver) fn moment(&self) -> Moment {
        self.with(|inner| Moment {
            serial: inner.serial,
            typing: inner.typing.iter().map(|(room, t)| (*room, (t.serial, t.users.keys().cloned().collect()))).collect(),
            presence: Arc::clone(&inner.presence),
        })
    }

    /// Somebody types, until a time or until told otherwise.
    pub fn set_typing(&self, room: RoomNid, user: &OwnedUserId, until: Option<Instant>) -> SetTyping {
        self.with(|inner| {
            let typing = inner.typing.entry(room).or_default();
            let changed = match until {
                Some(_) if typing.users.len() >= TYPISTS && !typing.users.contains_key(user) => false,
                Some(until) => typing.users.insert(user.clone(), until).is_none(),
                None => typing.users.remove(user).is_some(),
            };
            let watch = !typing.users.is_empty() && !std::mem::replace(&mut typing.watched, true);
            if changed {
                inner.serial += 1;
                typing.serial = inner.serial;
            }
            SetTyping { changed, watch }
        })
    }

    /// Takes out whoever's time is over.
    pub fn expire_typing(&self, room: RoomNid, now: Instant) -> Expired {
        self.with(|inner| {
            let Some(typing) = inner.typing.get_mut(&room) else { return Expired { changed: false, next: None } };
            let before = typing.users.len();
            typing.users.retain(|_, until| *until > now);
            let changed = typing.users.len() != before;
            if changed {
                inner.serial += 1;
                typing.serial = inner.serial;
            }
            let next = typing.users.values().min().copied();
            typing.watched = next.is_some();
            Expired { changed, next }
        })
    }

    /// A user's presence.
    #[must_use]
    pub fn presence(&self, user: UserNid) -> Option<Presence> {
        self.with(|inner| inner.presence.get(&user).cloned())
    }

    /// Sets a user's presence. True when others have to be told.
    pub fn set_presence(
        &self,
        user: UserNid,
        user_id: &OwnedUserId,
        state: PresenceState,
        status_msg: Option<String>,
        now_ms: u64,
    ) -> bool {
        self.with(|inner| {
            let presence = inner.presence_of(user, user_id, now_ms);
            let other_message = std::mem::replace(&mut presence.status_msg, status_msg.clone()) != status_msg;
            if state == PresenceState::Online {
                (presence.active, presence.last_active_ms) = (Instant::now(), now_ms);
            }
            presence.idle = false;
            inner.turn(user, state, now_ms, other_message)
        })
    }

    /// A client of the user begins to sync. True when others have to be told.
    pub fn arrive(&self, user: UserNid, user_id: &OwnedUserId, state: PresenceState, now_ms: u64) -> bool {
        self.with(|inner| {
            let presence = inner.presence_of(user, user_id, now_ms);
            presence.here += 1;
            // Whoever syncs as offline does not want to change what others see. Whoever is idle has to do more than sync.
            let stays = state == PresenceState::Offline || (state == PresenceState::Online && presence.idle);
            !stays && inner.turn(user, state, now_ms, false)
        })
    }

    /// A client of the user has its answer. True when the caller has to wait for the user to be gone.
    pub fn depart(&self, user: UserNid, now: Instant) -> bool {
        self.with(|inner| {
            let Some(presence) = Arc::make_mut(&mut inner.presence).get_mut(&user) else { return false };
            presence.here = presence.here.saturating_sub(1);
            presence.gone = now;
            presence.here == 0 && presence.state != PresenceState::Offline && !std::mem::replace(&mut presence.watched, true)
        })
    }

    /// When to look again whether the user has gone; `Err` when there is no more to watch, with whether others have to be told.
    pub fn check_gone(&self, user: UserNid, now: Instant) -> Result<Instant, bool> {
        self.with(|inner| {
            let Some(presence) = Arc::make_mut(&mut inner.presence).get_mut(&user) else { return Err(false) };
            let due = presence.gone + GRACE;
            if presence.here == 0 && due > now {
                return Ok(due);
            }
            presence.watched = false;
            if presence.here > 0 {
                return Err(false);
            }
            let last_active_ms = presence.last_active_ms;
            Err(inner.turn(user, PresenceState::Offline, last_active_ms, false))
        })
    }

    /// Another server says how its user is.
    pub fn hear_presence(&self, heard: &Heard, now: Instant) -> SetPresence {
        self.with(|inner| {
            if !inner.presence.contains_key(&heard.user) && !inner.make_room() {
                return SetPresence { changed: false, watch: false };
            }
            let presence = inner.presence_of(heard.user, &heard.user_id, heard.last_active_ms);
            (presence.remote, presence.gone) = (true, now);
            let other_message = std::mem::replace(&mut presence.status_msg, heard.status_msg.clone()) != heard.status_msg;
            presence.last_active_ms = heard.last_active_ms;
            let changed = inner.turn(heard.user, heard.state.clone(), heard.last_active_ms, other_message);
            let watch = heard.state != PresenceState::Offline && !std::mem::replace(&mut inner.silence_watched, true);
            SetPresence { changed, watch }
        })
    }

    /// Takes those for offline whose servers have been silent for too long. Returns them, and when to look again.
    pub fn expire_silent(&self, now: Instant) -> (Vec<UserNid>, Option<Instant>) {
        self.with(|inner| {
            let there = |presence: &&Presence| presence.remote && presence.state != PresenceState::Offline;
            let silent: Vec<(UserNid, u64)> = (inner.presence.iter())
                .filter(|(_, presence)| there(presence) && presence.gone + SILENCE <= now)
                .map(|(user, presence)| (*user, presence.last_active_ms))
                .collect();
            for (user, last_active_ms) in &silent {
                inner.turn(*user, PresenceState::Offline, *last_active_ms, false);
            }
            let next = inner.presence.values().filter(there).map(|presence| presence.gone + SILENCE).min();
            inner.silence_watched = next.is_some();
            (silent.into_iter().map(|(user, _)| user).collect(), next)
        })
    }

    /// Who of this server's users types where, and how they are: what other servers are told.
    #[must_use]
    pub fn of_server(&self, server: &ServerName) -> Told {
        let moment = self.moment();
        let ours = |user: &OwnedUserId| user.server_name() == server;
        Told {
            typing: (moment.typing.iter())
                .flat_map(|(room, (_, users))| users.iter().filter(|user| ours(user)).map(|user| (*room, user.clone())))
                .collect(),
            presence: moment
                .presence
                .iter()
                .filter(|(_, known)| ours(&known.user_id))
                .map(|(user, known)| (*user, known.clone()))
                .collect(),
        }
    }
}

impl Inner {
    /// Makes room for one more of another server's users, if need be by forgetting one who is away.
    fn make_room(&mut self) -> bool {
        if self.presence.values().filter(|presence| presence.remote).count() < REMOTE {
            return true;
        }
        let away = self.presence.iter().find(|(_, presence)| presence.remote && presence.state == PresenceState::Offline);
        let Some(away) = away.map(|(user, _)| *user) else { return false };
        Arc::make_mut(&mut self.presence).remove(&away).is_some()
    }

    fn presence_of(&mut self, user: UserNid, user_id: &OwnedUserId, now_ms: u64) -> &mut Presence {
        Arc::make_mut(&mut self.presence).entry(user).or_insert_with(|| Presence {
            user_id: user_id.clone(),
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ms: now_ms,
            serial: 0,
            here: 0,
            gone: Instant::now(),
            watched: false,
            remote: false,
            active: Instant::now(),
            idle: false,
            idle_watched: false,
        })
    }

    fn turn(&mut self, user: UserNid, state: PresenceState, now_ms: u64, more: bool) -> bool {
        let Some(presence) = Arc::make_mut(&mut self.presence).get_mut(&user) else { return false };
        let turned = std::mem::replace(&mut presence.state, state.clone()) != state;
        if turned {
            presence.idle = false;
            // Coming is doing something; staying is not.
            if state == PresenceState::Online {
                (presence.active, presence.last_active_ms) = (Instant::now(), now_ms);
            }
        }
        let changed = turned || more;
        if changed {
            self.serial += 1;
            presence.serial = self.serial;
        }
        changed
    }
}
