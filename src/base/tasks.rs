//! Tasks with names and an owner: nothing runs detached.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Shutdown;

/// How long a task may take to come to the place where it can be cut off.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Owns tasks. When one panics, the panic is logged and the shutdown signal given, so that the process stops in order
/// instead of running on without a part of itself. Clones share the set.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
    failed: Arc<AtomicBool>,
    /// Given when the patience with those that are left is at its end.
    aborted: CancellationToken,
}

impl Tasks {
    /// An empty set whose tasks stop on this signal.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { tracker: TaskTracker::new(), shutdown, failed: Arc::default(), aborted: CancellationToken::new() }
    }

    /// The signal that the tasks stop on.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// True once a task has panicked: the shutdown was not asked for.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Starts a task. The task itself watches the shutdown signal where it waits for long.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where tasks start")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (shutdown, failed, aborted) = (self.shutdown.clone(), Arc::clone(&self.failed), self.aborted.clone());
        self.tracker.spawn(async move {
            let mut inner = tokio::spawn(future);
            let abort = AbortOnDrop(inner.abort_handle());
            let ended = tokio::select! {
                biased;
                ended = &mut inner => ended,
                () = aborted.cancelled() => {
                    inner.abort();
                    inner.await
                }
            };
            match ended {
                Err(error) if error.is_panic() => {
                    tracing::error!(task = name, "a task panicked; stopping");
                    failed.store(true, Ordering::SeqCst);
                    shutdown.trigger();
                }
                Err(_) => tracing::info!(task = name, "a task did not end in time and was cut off"),
                Ok(()) => {}
            }
            drop(abort);
        })
    }

    /// Waits until every task has ended, at most this long; then cuts off those that are left, where they wait. True when none
    /// had to be.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.aborted.cancel();
        // One that computes or blocks without ever waiting cannot be cut off, and is not waited for.
        if tokio::time::timeout(CUT_OFF, self.tracker.wait()).await.is_err() {
            tracing::warn!("a task goes on after its end was asked for");
        }
        false
    }
}

/// Takes the inner task along when the outer one is aborted.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_task_gives_the_shutdown_signal() {
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        tasks.spawn("doomed", async { panic!("on purpose") });
        tokio::time::timeout(Duration::from_secs(60), shutdown.wait()).await.expect("the signal is given");
        assert!(tasks.finish(Duration::from_secs(60)).await);
        assert!(tasks.has_failed(), "an end that was not asked for can be told from one that was");
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_in_time_is_cut_off() {
        let tasks = Tasks::new(Shutdown::new());
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("deaf", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(!tasks.finish(Duration::ZERO).await);
        assert!(dropped.await.is_err(), "what it held is given back");
        assert!(!tasks.has_failed());
    }
}
