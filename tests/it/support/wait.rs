//! Waiting for what cannot announce itself: the state of another process.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine with a debug build.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        pause(Duration::from_millis(10));
    }
}

/// Lets this much time pass. For measuring and for asking again, never for hoping that something has happened.
pub fn pause(time: Duration) {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let end = Instant::now() + time;
    let mut guard = lock.lock().unwrap();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        guard = never.wait_timeout(guard, left).unwrap().0;
    }
}
