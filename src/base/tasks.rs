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
use tokio_util::task::TaskTracker;

use super::Shutdown;

/// Owns tasks. When one panics, the panic is logged and the shutdown signal given, so that the process stops in order
/// instead of running on without a part of itself. Clones share the set.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// An empty set whose tasks stop on this signal.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { tracker: TaskTracker::new(), shutdown, failed: Arc::default() }
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
        let (shutdown, failed) = (self.shutdown.clone(), Arc::clone(&self.failed));
        self.tracker.spawn(async move {
            let inner = tokio::spawn(future);
            let abort = AbortOnDrop(inner.abort_handle());
            if let Err(error) = inner.await
                && error.is_panic()
            {
                tracing::error!(task = name, "a task panicked; stopping");
                failed.store(true, Ordering::SeqCst);
                shutdown.trigger();
            }
            drop(abort);
        })
    }

    /// Waits until every task has ended, at most this long. True when all have.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
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
        tokio::time::timeout(Duration::from_secs(5), shutdown.wait()).await.expect("the signal is given");
        assert!(tasks.finish(Duration::from_secs(5)).await);
        assert!(tasks.has_failed(), "an end that was not asked for can be told from one that was");
    }
}
