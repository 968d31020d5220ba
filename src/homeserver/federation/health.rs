//! How other servers are doing: who is left alone for a while, and how many requests each is asked at a time.
//!
//! In memory and bounded. The sender keeps what must outlive the process; both ask and tell the same record, so that a server
//! that does not answer one part of the node is not asked by the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::base::{Clock, Randomness};

/// Requests under way to one server.
const AT_ONCE: usize = 12;
/// Servers that are remembered.
const SERVERS: usize = 8192;
/// Wait after the first failure.
const FIRST_WAIT_MS: u64 = 2_000;
/// Longest wait: an hour, as another server may come back at any time and says so when it does.
const LONGEST_WAIT_MS: u64 = 60 * 60 * 1000;
/// Recoveries that a listener may lag behind.
const RECOVERIES: usize = 256;

#[derive(Debug)]
struct Record {
    /// Failures since the last success.
    failures: u32,
    /// Not before then.
    retry_at_ms: u64,
    /// When it was last asked or heard of.
    touched_ms: u64,
    places: Arc<Semaphore>,
}

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Failures since the last success.
    pub failures: u32,
    /// Milliseconds since the Unix epoch before which it is left alone; 0 when it may be asked.
    pub retry_at_ms: u64,
}

/// The record of all servers. Cheap to share.
#[derive(Debug)]
pub struct Health {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    servers: Mutex<HashMap<OwnedServerName, Record>>,
    recovered: broadcast::Sender<OwnedServerName>,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness, servers: Mutex::default(), recovered: broadcast::Sender::new(RECOVERIES) }
    }

    /// What is known of a server.
    #[must_use]
    pub fn of(&self, server: &ServerName) -> Condition {
        let now_ms = self.clock.now_ms();
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(server).map_or(Condition { failures: 0, retry_at_ms: 0 }, |record| Condition {
            failures: record.failures,
            retry_at_ms: if record.retry_at_ms > now_ms { record.retry_at_ms } else { 0 },
        })
    }

    /// It answered.
    pub fn succeeded(&self, server: &ServerName) {
        let recovered = self.with(server, |record, _| {
            record.retry_at_ms = 0;
            std::mem::take(&mut record.failures) > 0
        });
        if recovered {
            tracing::info!(peer = %server, "a server answers again");
            // Nobody may be listening.
            let _ = self.recovered.send(server.to_owned());
        }
    }

    /// It spoke to us, which means that it is up: whoever waits for it need not wait any longer.
    pub fn heard_from(&self, server: &ServerName) {
        let waited = self.with(server, |record, _| {
            record.retry_at_ms = 0;
            record.failures > 0
        });
        if waited {
            let _ = self.recovered.send(server.to_owned());
        }
    }

    /// It did not answer, or not sensibly. `at_least` is how long it asked to be left alone. Returns when to ask again, in
    /// milliseconds since the Unix epoch: exponential with jitter.
    pub fn failed(&self, server: &ServerName, at_least: Option<Duration>) -> u64 {
        let mut bytes = [0; 8];
        self.randomness.fill(&mut bytes);
        let random = u64::from_le_bytes(bytes);
        let at_least_ms = at_least.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).min(LONGEST_WAIT_MS);
        self.with(server, |record, now_ms| {
            // Requests that failed together count once.
            if record.retry_at_ms <= now_ms {
                record.failures = record.failures.saturating_add(1);
                let full = FIRST_WAIT_MS.saturating_mul(1 << record.failures.saturating_sub(1).min(20)).min(LONGEST_WAIT_MS);
                record.retry_at_ms = now_ms + (full / 2 + random % (full / 2 + 1)).max(at_least_ms);
            }
            record.retry_at_ms
        })
    }

    /// Tells of servers that answer again or spoke to us after a failure. A listener that lags misses some.
    #[must_use]
    pub fn recoveries(&self) -> broadcast::Receiver<OwnedServerName> {
        self.recovered.subscribe()
    }

    /// A place among the requests under way to a server; waits for one.
    pub(super) async fn place(&self, server: &ServerName) -> OwnedSemaphorePermit {
        let places = self.with(server, |record, _| Arc::clone(&record.places));
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    fn with<T>(&self, server: &ServerName, work: impl FnOnce(&mut Record, u64) -> T) -> T {
        let now_ms = self.clock.now_ms();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= SERVERS && !servers.contains_key(server) {
            forget_some(&mut servers);
        }
        let record = servers.entry(server.to_owned()).or_insert_with(|| Record {
            failures: 0,
            retry_at_ms: 0,
            touched_ms: now_ms,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        });
        record.touched_ms = now_ms;
        work(record, now_ms)
    }
}

/// Makes room: those that nobody is asking now and that were touched longest ago, a quarter at once.
fn forget_some(servers: &mut HashMap<OwnedServerName, Record>) {
    let mut idle: Vec<(u64, OwnedServerName)> = servers
        .iter()
        .filter(|(_, record)| Arc::strong_count(&record.places) == 1)
        .map(|(server, record)| (record.touched_ms, server.clone()))
        .collect();
    idle.sort_unstable();
    for (_, server) in idle.into_iter().take(SERVERS / 4) {
        servers.remove(&server);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::base::{ManualClock, SystemRandomness};

    fn health() -> (Health, ManualClock) {
        let clock = ManualClock::at(1_000_000);
        (Health::new(Arc::new(clock.clone()), Arc::new(SystemRandomness)), clock)
    }

    #[test]
    fn waits_grow_to_an_hour_and_a_success_ends_them() {
        let (health, clock) = health();
        let server = server_name!("a.example");
        let mut last = 0;
        for round in 1..=20_u32 {
            let wait = health.failed(server, None) - clock.now_ms();
            let full = (FIRST_WAIT_MS << (round - 1).min(20)).min(LONGEST_WAIT_MS);
            assert!((full / 2..=full).contains(&wait), "{round}: {wait}");
            assert_eq!(health.of(server).failures, round);
            last = wait;
            clock.advance(wait);
            assert_eq!(health.of(server).retry_at_ms, 0, "it may be asked again");
        }
        assert!(last >= LONGEST_WAIT_MS / 2);
        health.succeeded(server);
        assert_eq!(health.of(server), Condition { failures: 0, retry_at_ms: 0 });
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let (health, _) = health();
        let server = server_name!("a.example");
        let first = health.failed(server, None);
        assert_eq!(health.failed(server, None), first);
        assert_eq!(health.of(server).failures, 1);
    }

    #[test]
    fn a_server_can_ask_to_be_left_alone_but_not_for_ever() {
        let (health, clock) = health();
        let asked = health.failed(server_name!("a.example"), Some(Duration::from_secs(600))) - clock.now_ms();
        assert_eq!(asked, 600_000);
        let greedy = health.failed(server_name!("b.example"), Some(Duration::MAX)) - clock.now_ms();
        assert_eq!(greedy, LONGEST_WAIT_MS);
    }

    #[test]
    fn a_server_that_speaks_to_us_is_asked_again_at_once() {
        let (health, _) = health();
        let server = server_name!("a.example");
        let mut told = health.recoveries();
        health.heard_from(server);
        assert!(told.try_recv().is_err(), "it was never away");
        health.failed(server, None);
        health.heard_from(server);
        assert_eq!(health.of(server).retry_at_ms, 0);
        assert_eq!(told.try_recv().unwrap(), server);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (health, clock) = health();
        for number in 0..SERVERS + 10 {
            clock.advance(1);
            health.failed(&ServerName::parse(format!("s{number}.example")).unwrap(), None);
        }
        assert!(health.servers.lock().unwrap().len() <= SERVERS);
        let newest = ServerName::parse(format!("s{}.example", SERVERS + 9)).unwrap();
        assert_eq!(health.of(&newest).failures, 1, "the newest are the ones that stay");
    }

    #[tokio::test]
    async fn one_server_is_asked_so_much_at_a_time() {
        let (health, _) = health();
        let server = server_name!("a.example");
        let mut places = Vec::new();
        for _ in 0..AT_ONCE {
            places.push(health.place(server).await);
        }
        assert!(futures_util::FutureExt::now_or_never(health.place(server)).is_none());
        assert!(futures_util::FutureExt::now_or_never(health.place(server_name!("b.example"))).is_some());
        places.pop();
        assert!(futures_util::FutureExt::now_or_never(health.place(server)).is_some());
    }
}
