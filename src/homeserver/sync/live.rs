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
    /// When a client was last here.
    seen: Instant,
    /// A task watches for the user to go.
    watched: bool,
}

#[derive(Debug, Default)]
struct RoomTyping {
    serial: u64,
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

/// What a client that is here means for its user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Others have to be told.
    pub changed: bool,
    /// The caller has to start watching for the user to go.
    pub watch: bool,
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

    /// Somebody types, until a time or until told otherwise. True when others have to be told.
    pub fn set_typing(&self, room: RoomNid, user: &OwnedUserId, until: Option<Instant>) -> bool {
        self.with(|inner| {
            let typing = inner.typing.entry(room).or_default();
            let changed = match until {
                Some(until) => typing.users.insert(user.clone(), until).is_none(),
                None => typing.users.remove(user).is_some(),
            };
            if changed {
                inner.serial += 1;
                typing.serial = inner.serial;
            }
            changed
        })
    }

    /// Takes out whoever's time is over. True when others have to be told.
    pub fn expire_typing(&self, room: RoomNid, now: Instant) -> bool {
        self.with(|inner| {
            let Some(typing) = inner.typing.get_mut(&room) else { return false };
            let before = typing.users.len();
            typing.users.retain(|_, until| *until > now);
            if typing.users.len() == before {
                return false;
            }
            inner.serial += 1;
            typing.serial = inner.serial;
            true
        })
    }

    /// A user's presence.
    #[must_use]
    pub fn presence(&self, user: UserNid) -> Option<Presence> {
        self.with(|inner| inner.presence.get(&user).cloned())
    }

    /// Sets a user's presence.
    pub fn set_presence(&self, user: UserNid, user_id: &OwnedUserId, state: PresenceState, status_msg: Option<String>, now_ms: u64) -> Seen {
        self.update(user, user_id, state, now_ms, |presence| std::mem::replace(&mut presence.status_msg, status_msg.clone()) != status_msg)
    }

    /// A client of the user is syncing.
    pub fn seen(&self, user: UserNid, user_id: &OwnedUserId, state: PresenceState, now_ms: u64) -> Seen {
        self.update(user, user_id, state, now_ms, |_| false)
    }

    fn update(
        &self,
        user: UserNid,
        user_id: &OwnedUserId,
        state: PresenceState,
        now_ms: u64,
        more: impl FnOnce(&mut Presence) -> bool,
    ) -> Seen {
        self.with(|inner| {
            let presence = inner.presence.entry(user).or_insert_with(|| Presence {
                user_id: user_id.clone(),
                state: PresenceState::Offline,
                status_msg: None,
                last_active_ms: now_ms,
                serial: 0,
                seen: Instant::now(),
                watched: false,
            });
            presence.seen = Instant::now();
            if state == PresenceState::Online {
                presence.last_active_ms = now_ms;
            }
            let watch = state != PresenceState::Offline && !std::mem::replace(&mut presence.watched, true);
            if state == PresenceState::Offline && !watch {
                presence.watched = presence.watched && presence.state != PresenceState::Offline;
            }
            let other_state = std::mem::replace(&mut presence.state, state.clone()) != state;
            let changed = more(presence) || other_state;
            if changed {
                inner.serial += 1;
                presence.serial = inner.serial;
            }
            Seen { changed, watch }
        })
    }

    /// When to look again whether the user has gone; `None` when it is settled, and then whether others have to be told.
    pub fn check_gone(&self, user: UserNid, now: Instant) -> Result<Instant, bool> {
        self.with(|inner| {
            let Some(presence) = inner.presence.get_mut(&user) else { return Err(false) };
            let due = presence.seen + GRACE;
            if due > now {
                return Ok(due);
            }
            presence.watched = false;
            if presence.state == PresenceState::Offline {
                return Err(false);
            }
            presence.state = PresenceState::Offline;
            inner.serial += 1;
            presence.serial = inner.serial;
            Err(true)
        })
    }
}
