//! Rate limits: how often somebody may do something, kept in memory.
//!
//! Each key has one number, the time until which its allowance is spent (the generic cell rate algorithm): a token bucket
//! without a timer.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{base::Clock, homeserver::types::UserNid};

/// Keys remembered at most. An entry is a few dozen bytes.
const KEYS: usize = 16 * 1024;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Attempts to sign in from one address.
    LoginAddress,
    /// Failed attempts to sign in to one account.
    LoginAccount,
    /// Registrations from one address.
    Registration,
    /// Questions that anybody may ask, from one address: is this name free, is this token good.
    Lookup,
    /// Events sent by one user.
    Send,
    /// Media uploads by one user.
    Upload,
    /// Joins and knocks of one user.
    Join,
    /// Invites by one user.
    Invite,
    /// Reports by one user.
    Report,
    /// Expensive questions of one user: searches, previews, rooms in common.
    Search,
    /// OAuth clients and device codes from one address.
    OAuth,
    /// Attempts to find a device's user code, from one address.
    UserCode,
    /// Rendezvous sessions opened from one address.
    Rendezvous,
}

impl Kind {
    /// How many at once, and after how many milliseconds one more.
    const fn allowance(self) -> (u64, u64) {
        match self {
            Self::LoginAddress => (30, 2_000),
            Self::LoginAccount => (10, 15_000),
            Self::Registration => (10, 60_000),
            Self::Lookup => (30, 1_000),
            Self::Send => (200, 50),
            Self::Upload => (60, 1_000),
            Self::Join => (60, 2_000),
            Self::Invite => (100, 1_000),
            Self::Report => (20, 30_000),
            Self::Search => (60, 500),
            Self::OAuth => (20, 10_000),
            Self::UserCode => (10, 10_000),
            Self::Rendezvous => (10, 10_000),
        }
    }
}

/// Whose allowance it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A client's address.
    Address(IpAddr),
    /// An account's name, whether it exists or not.
    Account(String),
    /// A local user.
    User(UserNid),
}

/// The limits of a node.
#[derive(Debug)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    enabled: bool,
    spent_until: Mutex<HashMap<(Kind, Key), u64>>,
    /// Users of application services that the owner does not limit.
    free: Mutex<HashSet<UserNid>>,
}

impl Limits {
    /// Nobody has done anything yet. With `enabled` false everybody may do everything.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, enabled: bool) -> Self {
        Self { clock, enabled, spent_until: Mutex::default(), free: Mutex::default() }
    }

    /// This user is not limited.
    pub fn set_free(&self, user: UserNid) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).insert(user);
    }

    /// Counts one attempt.
    ///
    /// # Errors
    ///
    /// How long to wait, when the allowance is spent; the attempt does not count then.
    pub fn check(&self, kind: Kind, key: Key) -> Result<(), Duration> {
        let is_free = |user: &UserNid| self.free.lock().unwrap_or_else(PoisonError::into_inner).contains(user);
        if !self.enabled || matches!(&key, Key::User(user) if is_free(user)) {
            return Ok(());
        }
        let (burst, interval_ms) = kind.allowance();
        let now_ms = self.clock.now_ms();
        let mut spent_until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        if spent_until.len() >= KEYS {
            spent_until.retain(|_, until| *until > now_ms);
            // Only a flood fills the table with live entries: then everybody starts anew rather than memory growing.
            if spent_until.len() >= KEYS {
                spent_until.clear();
            }
        }
        let until = spent_until.entry((kind, key)).or_insert(now_ms);
        let next = (*until).max(now_ms) + interval_ms;
        let allowed = now_ms + burst * interval_ms;
        if next > allowed {
            return Err(Duration::from_millis(next - allowed));
        }
        *until = next;
        Ok(())
    }

    /// Takes one attempt back, because it was a good one after all.
    pub fn refund(&self, kind: Kind, key: Key) {
        let (_, interval_ms) = kind.allowance();
        let mut spent_until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = spent_until.get_mut(&(kind, key)) {
            *until = until.saturating_sub(interval_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ManualClock;

    fn key() -> Key {
        Key::Account("ann".into())
    }

    #[test]
    fn allows_a_burst_then_one_per_interval() {
        let clock = ManualClock::at(1_000_000);
        let limits = Limits::new(Arc::new(clock.clone()), true);
        for _ in 0..10 {
            assert_eq!(limits.check(Kind::LoginAccount, key()), Ok(()));
        }
        assert_eq!(limits.check(Kind::LoginAccount, key()), Err(Duration::from_secs(15)));
        assert_eq!(limits.check(Kind::LoginAccount, Key::Account("ben".into())), Ok(()), "others are not concerned");
        clock.advance(14_999);
        assert_eq!(limits.check(Kind::LoginAccount, key()), Err(Duration::from_millis(1)));
        clock.advance(1);
        assert_eq!(limits.check(Kind::LoginAccount, key()), Ok(()));
        assert!(limits.check(Kind::LoginAccount, key()).is_err());
    }

    #[test]
    fn a_refunded_attempt_does_not_count() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), true);
        for _ in 0..1000 {
            assert_eq!(limits.check(Kind::LoginAccount, key()), Ok(()));
            limits.refund(Kind::LoginAccount, key());
        }
    }

    #[test]
    fn a_flood_of_keys_does_not_grow_without_bound() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), true);
        for n in 0..40_000 {
            assert_eq!(limits.check(Kind::LoginAccount, Key::Account(format!("{n}"))), Ok(()));
        }
        assert!(limits.spent_until.lock().unwrap_or_else(PoisonError::into_inner).len() <= KEYS);
    }

    #[test]
    fn switched_off_it_allows_everything() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), false);
        assert!((0..1000).all(|_| limits.check(Kind::Registration, key()).is_ok()));
    }
}
