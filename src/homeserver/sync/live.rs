//! What is true only for the moment and kept only in memory: who is typing, who is online.
//!
//! Every change takes a serial number, which is part of sync tokens. Serials start at the node's start time in milliseconds, so
//! that a token from an earlier run is older than everything of this one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, presence::PresenceState};
use tokio::time::Instant;

use crate::homeserver::types::{RoomNid, UserNid};

/// Longest time for which a client may say that its user is typing.
pub const LONGEST_TYPING: Duration = Duration::from_secs(120);
/// A user whose clients have not synced for this long is offline.
pub const GRACE: Duration = Duration::from_secs(40);

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
    presence: HashMap<UserNid, Presence>,
}

/// Typing and presence.
#[derive(Debug)]
pub struct Live(Mutex<Inner>);

/// All of it at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    /// Everything up to here is in it.
    pub serial: u64,
    /// Who types in rooms where somebody did lately, and when that changed.
    pub typing: HashMap<RoomNid, (u64, Vec<OwnedUserId>)>,
    /// Presence of users of this node.
    pub presence: HashMap<UserNid, Presence>,
}

/// What follows from somebody's typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetTyping {
    /// Others have to be told.
    pub changed: bool,
    /// The caller has to start watching the time.
    pub watch: bool,
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
        Self(Mutex::new(Inner { serial: now_ms, typing: HashMap::new(), presence: HashMap::new() }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything at this moment.
    pub(super) fn moment(&self) -> Moment {
        self.with(|inner| Moment {
            serial: inner.serial,
            typing: inner.typing.iter().map(|(room, t)| (*room, (t.serial, t.users.keys().cloned().collect()))).collect(),
            presence: inner.presence.clone(),
        })
    }

    /// Somebody types, until a time or until told otherwise.
    pub fn set_typing(&self, room: RoomNid, user: &OwnedUserId, until: Option<Instant>) -> SetTyping {
        self.with(|inner| {
            let typing = inner.typing.entry(room).or_default();
            let changed = match until {
                Some(until) => typing.users.insert(user.clone(), until).is_none(),
                None => typing.users.remove(user).is_some(),
            };
            let watch = until.is_some() && !std::mem::replace(&mut typing.watched, true);
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
            inner.turn(user, state, now_ms, other_message)
        })
    }

    /// A client of the user begins to sync. True when others have to be told.
    pub fn arrive(&self, user: UserNid, user_id: &OwnedUserId, state: PresenceState, now_ms: u64) -> bool {
        self.with(|inner| {
            inner.presence_of(user, user_id, now_ms).here += 1;
            // Whoever syncs as offline does not want to change what others see.
            state != PresenceState::Offline && inner.turn(user, state, now_ms, false)
        })
    }

    /// A client of the user has its answer. True when the caller has to wait for the user to be gone.
    pub fn depart(&self, user: UserNid, now: Instant) -> bool {
        self.with(|inner| {
            let Some(presence) = inner.presence.get_mut(&user) else { return false };
            presence.here = presence.here.saturating_sub(1);
            presence.gone = now;
            presence.here == 0 && presence.state != PresenceState::Offline && !std::mem::replace(&mut presence.watched, true)
        })
    }

    /// When to look again whether the user has gone; `Err` when there is no more to watch, with whether others have to be told.
    pub fn check_gone(&self, user: UserNid, now: Instant) -> Result<Instant, bool> {
        self.with(|inner| {
            let Some(presence) = inner.presence.get_mut(&user) else { return Err(false) };
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
}

impl Inner {
    fn presence_of(&mut self, user: UserNid, user_id: &OwnedUserId, now_ms: u64) -> &mut Presence {
        self.presence.entry(user).or_insert_with(|| Presence {
            user_id: user_id.clone(),
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ms: now_ms,
            serial: 0,
            here: 0,
            gone: Instant::now(),
            watched: false,
        })
    }

    fn turn(&mut self, user: UserNid, state: PresenceState, now_ms: u64, more: bool) -> bool {
        let Some(presence) = self.presence.get_mut(&user) else { return false };
        if state == PresenceState::Online {
            presence.last_active_ms = now_ms;
        }
        let changed = std::mem::replace(&mut presence.state, state.clone()) != state || more;
        if changed {
            self.serial += 1;
            presence.serial = self.serial;
        }
        changed
    }
}
