//! When a node that has failed is started again: soon, then ever more rarely, and soon again once it has run for a while.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses before the next attempt; the last one repeats.
const PAUSES: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(60)];
/// A node that has run for this long fails for another reason.
const STEADY: Duration = Duration::from_secs(600);

/// The next attempt and what led to it.
#[derive(Debug, Default)]
pub struct Restart {
    failures: usize,
    due: Option<Instant>,
    started: Option<Instant>,
}

impl Restart {
    /// The node runs.
    pub fn started(&mut self, now: Instant) {
        self.due = None;
        self.started = Some(now);
    }

    /// It has failed, or did not start. Tells after which pause it is tried again.
    pub fn failed(&mut self, now: Instant) -> Duration {
        if self.started.take().is_some_and(|started| now.duration_since(started) >= STEADY) {
            self.failures = 0;
        }
        let pause = PAUSES.get(self.failures).or(PAUSES.last()).copied().unwrap_or(STEADY);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause);
        pause
    }

    /// Nothing is to be tried by itself any more.
    pub fn give_up(&mut self) {
        self.due = None;
    }

    /// True while another attempt is to come.
    #[cfg(test)]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.due.is_some()
    }

    /// Resolves when the next attempt is due. Cancel-safe.
    pub async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_has_run_for_a_while() {
        let (mut restart, now) = (Restart::default(), Instant::now());
        assert_eq!(restart.due, None);
        let pauses: Vec<u64> = (0..6).map(|_| restart.failed(now).as_secs()).collect();
        assert_eq!(pauses, [1, 3, 10, 30, 60, 60]);
        assert_eq!(restart.due, Some(now + Duration::from_secs(60)));
        restart.started(now);
        assert_eq!(restart.due, None);
        assert_eq!(restart.failed(now).as_secs(), 60, "it failed at once");
        restart.started(now);
        assert_eq!(restart.failed(now + STEADY).as_secs(), 1);
        restart.give_up();
        assert_eq!(restart.due, None);
    }
}
