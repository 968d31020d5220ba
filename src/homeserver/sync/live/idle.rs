//! Who does something and who is only there (Client-Server API, "Presence": "Last active ago" and "Idle timeout").

use std::{sync::Arc, time::Duration};

use ruma::presence::PresenceState;
use tokio::time::Instant;

use super::{Live, Presence};
use crate::homeserver::types::UserNid;

/// A user who has not done anything for this long is idle, however many clients of theirs are syncing.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// What a user does within this time of something else that they did changes nothing that others are told.
const BUSY: Duration = Duration::from_secs(30);

impl Live {
    /// The user does something, such as sending an event: then they are not idle, nor unavailable. True when others have to be told.
    pub fn act(&self, user: UserNid, now_ms: u64, now: Instant) -> bool {
        self.with(|inner| {
            let news = |presence: &&Presence| {
                let busy = presence.state == PresenceState::Online && presence.active + BUSY > now;
                !presence.remote && presence.state != PresenceState::Offline && !busy
            };
            if inner.presence.get(&user).filter(news).is_none() {
                return false;
            }
            let changed = inner.turn(user, PresenceState::Online, now_ms, false);
            if let Some(presence) = Arc::make_mut(&mut inner.presence).get_mut(&user) {
                (presence.active, presence.last_active_ms) = (now, now_ms);
            }
            changed
        })
    }

    /// The user's profile has changed. True when others have to be told, because they know of the user.
    pub fn renamed(&self, user: UserNid) -> bool {
        self.with(|inner| match inner.presence.get(&user).map(|presence| (presence.state.clone(), presence.last_active_ms)) {
            Some((state, last_active_ms)) => inner.turn(user, state, last_active_ms, true),
            None => false,
        })
    }

    /// True when the caller has to start waiting for the user to be idle.
    pub fn watch_idle(&self, user: UserNid) -> bool {
        self.with(|inner| {
            let online = |presence: &&Presence| !presence.remote && presence.state == PresenceState::Online && !presence.idle_watched;
            if inner.presence.get(&user).filter(online).is_none() {
                return false;
            }
            Arc::make_mut(&mut inner.presence).get_mut(&user).is_some_and(|presence| !std::mem::replace(&mut presence.idle_watched, true))
        })
    }

    /// When to look again whether the user is idle; `Err` when there is no more to watch, with whether others have to be told.
    pub fn check_idle(&self, user: UserNid, now: Instant) -> Result<Instant, bool> {
        self.with(|inner| {
            let Some(presence) = Arc::make_mut(&mut inner.presence).get_mut(&user) else { return Err(false) };
            let (online, due) = (presence.state == PresenceState::Online, presence.active + IDLE);
            if online && due > now {
                return Ok(due);
            }
            presence.idle_watched = false;
            if !online {
                return Err(false);
            }
            let last_active_ms = presence.last_active_ms;
            let changed = inner.turn(user, PresenceState::Unavailable, last_active_ms, false);
            if let Some(presence) = Arc::make_mut(&mut inner.presence).get_mut(&user) {
                presence.idle = true;
            }
            Err(changed)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

    use super::*;

    const ANN: UserNid = UserNid(1);

    fn state(live: &Live) -> PresenceState {
        live.presence(ANN).unwrap().state
    }

    #[test]
    fn whoever_does_nothing_is_idle_until_they_do_something() {
        let (live, id) = (Live::new(0), ruma::user_id!("@ann:home.test").to_owned());
        assert!(!live.watch_idle(ANN) && !live.act(ANN, 1, Instant::now()), "nobody is there");
        assert!(live.arrive(ANN, &id, PresenceState::Online, 5));
        assert!(live.watch_idle(ANN) && !live.watch_idle(ANN), "one task is enough");
        let start = Instant::now();
        let due = live.check_idle(ANN, start).unwrap();
        assert!(due > start);
        assert!(!live.arrive(ANN, &id, PresenceState::Online, 50) && live.presence(ANN).unwrap().last_active_ms == 5, "syncing is no act");
        assert!(!live.act(ANN, 60, start) && live.presence(ANN).unwrap().last_active_ms == 5, "so soon it changes nothing");
        let serial = live.presence(ANN).unwrap().serial;
        assert_eq!(live.check_idle(ANN, due), Err(true));
        assert_eq!((state(&live), live.presence(ANN).unwrap().last_active_ms), (PresenceState::Unavailable, 5));
        assert!(live.presence(ANN).unwrap().serial > serial && !live.watch_idle(ANN));
        assert!(!live.arrive(ANN, &id, PresenceState::Online, 70) && state(&live) == PresenceState::Unavailable, "syncing goes on");
        assert!(live.act(ANN, 80, due));
        assert_eq!((state(&live), live.presence(ANN).unwrap().last_active_ms), (PresenceState::Online, 80));
        assert!(live.watch_idle(ANN));
        assert_eq!(live.check_idle(ANN, due), Ok(due + IDLE));
        assert!(!live.act(ANN, 90, due + BUSY) && live.presence(ANN).unwrap().last_active_ms == 90, "known, and no news");
        assert_eq!(live.check_idle(ANN, due + IDLE), Ok(due + BUSY + IDLE));
    }

    #[test]
    fn what_a_client_says_is_not_idleness() {
        let (live, id, now) = (Live::new(0), ruma::user_id!("@ann:home.test").to_owned(), Instant::now());
        live.arrive(ANN, &id, PresenceState::Online, 5);
        assert!(live.watch_idle(ANN));
        live.set_presence(ANN, &id, PresenceState::Unavailable, None, 6);
        assert_eq!(live.check_idle(ANN, now), Err(false), "nothing to watch");
        assert!(live.arrive(ANN, &id, PresenceState::Online, 7), "another client says otherwise");
        live.set_presence(ANN, &id, PresenceState::Offline, None, 8);
        assert!(!live.act(ANN, 9, now) && state(&live) == PresenceState::Offline, "nobody is shown who does not want to be");
    }
}
