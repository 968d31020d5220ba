//! Rate limits: how often somebody may do something, kept in memory.
//!
//! Each key has one number, the time until which its allowance is spent (the generic cell rate algorithm): a token bucket
//! without a timer.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::OwnedServerName;

use crate::{base::Clock, homeserver::types::UserNid};

/// Keys of each kind remembered at most. An entry is a few dozen bytes.
const KEYS: usize = 4 * 1024;
/// How many of them make room at once.
const EVICTED: usize = KEYS / 8;

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
    /// Profiles of other servers' users, from one address.
    Profile,
    /// Events sent by one user.
    Send,
    /// Media uploads by one user.
    Upload,
    /// Joins and knocks of one user.
    Join,
    /// Invites by one user.
    Invite,
    /// Actions on delayed events, which need no token, from one address.
    DelayedEvent,
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
    /// Servers whose keys one address asks for.
    KeyQuery,
    /// Requests of one other server.
    Federation,
    /// Questions of one other server about our users: profiles, devices, keys, aliases.
    People,
    /// Questions of one other server whose answers are long: whole states, auth chains, spaces.
    Whole,
    /// Claims of one-time keys by one other server: each takes keys away from our users.
    Claim,
}

impl Kind {
    /// How many at once, and after how many milliseconds one more.
    const fn allowance(self) -> (u64, u64) {
        match self {
            Self::LoginAddress => (30, 2_000),
            Self::LoginAccount => (10, 15_000),
            Self::Registration => (10, 60_000),
            Self::Lookup => (30, 1_000),
            Self::Profile => (200, 100),
            Self::Send => (200, 50),
            Self::Upload => (60, 1_000),
            Self::Join => (60, 2_000),
            Self::Invite => (100, 1_000),
            Self::DelayedEvent => (100, 200),
            Self::Report => (20, 30_000),
            Self::Search => (60, 500),
            Self::OAuth => (20, 10_000),
            Self::UserCode => (10, 10_000),
            Self::Rendezvous => (10, 10_000),
            Self::KeyQuery => (300, 500),
            Self::Federation => (500, 20),
            Self::People => (300, 100),
            Self::Whole | Self::Claim => (60, 1_000),
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
    /// Another server.
    Server(OwnedServerName),
}

type Spent = HashMap<Key, u64>;

impl Key {
    /// Whoever has an IPv6 address has the 2^64 others of its network, and whoever has a name has it with every port and in every
    /// spelling.
    fn normal(self) -> Self {
        let address = match self {
            Self::Address(address) => address,
            Self::Server(name) => {
                let host = ruma::ServerName::parse(name.host().to_ascii_lowercase());
                return Self::Server(host.unwrap_or(name));
            }
            other => return other,
        };
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Makes room for new keys. Only a flood fills a table with live entries: then those go that end soonest, so that whoever has
/// spent an allowance cannot have it forgotten by flooding.
fn make_room(spent: &mut Spent, now_ms: u64) {
    spent.retain(|_, until| *until > now_ms);
    if spent.len() < KEYS {
        return;
    }
    let mut ends: Vec<u64> = spent.values().copied().collect();
    let (_, &mut last, _) = ends.select_nth_unstable(EVICTED);
    let mut left = EVICTED;
    spent.retain(|_, until| {
        let goes = *until <= last && left > 0;
        left -= usize::from(goes);
        !goes
    });
}

/// The limits of a node.
#[derive(Debug)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    enabled: bool,
    /// A table for each kind: a flood of one leaves the others alone.
    spent_until: Mutex<HashMap<Kind, Spent>>,
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
        let key = key.normal();
        let mut tables = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = tables.entry(kind).or_default();
        if spent.len() >= KEYS && !spent.contains_key(&key) {
            make_room(spent, now_ms);
        }
        let until = spent.entry(key).or_insert(now_ms);
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
        let mut tables = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = tables.get_mut(&kind).and_then(|spent| spent.get_mut(&key.normal())) {
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
        let tables = limits.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(tables.values().map(HashMap::len).sum::<usize>() <= KEYS);
    }

    #[test]
    fn a_flood_gives_nobody_a_spent_allowance_back() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), true);
        while limits.check(Kind::LoginAccount, key()).is_ok() {}
        for n in 0..20_000 {
            assert_eq!(limits.check(Kind::LoginAccount, Key::Account(format!("{n}"))), Ok(()));
            assert_eq!(limits.check(Kind::Lookup, Key::Account(format!("{n}"))), Ok(()));
        }
        assert!(limits.check(Kind::LoginAccount, key()).is_err());
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_client() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), true);
        let from = |text: &str| Key::Address(text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let allowed = (0..1000).take_while(|n| limits.check(Kind::Registration, from(&format!("2001:db8::{n:x}"))).is_ok()).count();
        assert_eq!(allowed, 10);
        assert_eq!(limits.check(Kind::Registration, from("2001:db8:0:1::1")), Ok(()), "the neighbours");
        let allowed = (0..1000).take_while(|_| limits.check(Kind::Registration, from("::ffff:192.0.2.1")).is_ok()).count();
        assert_eq!(allowed, 10);
        assert!(limits.check(Kind::Registration, from("192.0.2.1")).is_err(), "the same in another notation");
        assert_eq!(limits.check(Kind::Registration, from("192.0.2.2")), Ok(()));
    }

    #[test]
    fn every_port_and_spelling_of_a_servers_name_is_one_server() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), true);
        let from = |name: &str| ruma::ServerName::parse(name).map(Key::Server);
        let (Ok(evil), Ok(port), Ok(spelling), Ok(other)) =
            (from("evil.test"), from("evil.test:1"), from("Evil.test:2"), from("other.test"))
        else {
            panic!("these are names")
        };
        while limits.check(Kind::Claim, evil.clone()).is_ok() {}
        assert!(limits.check(Kind::Claim, port).is_err() && limits.check(Kind::Claim, spelling).is_err());
        assert!(limits.check(Kind::Claim, other).is_ok());
    }

    #[test]
    fn switched_off_it_allows_everything() {
        let limits = Limits::new(Arc::new(ManualClock::at(5)), false);
        assert!((0..1000).all(|_| limits.check(Kind::Registration, key()).is_ok()));
    }
}
