//! Work that goes on by itself while its owner waits for something else.
//!
//! A future that its owner polls stands still whenever the owner awaits anything else, with whatever it holds: a place in the
//! queue for a database connection, for instance. An owner that then waits for such a connection waits for ever.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::base::Tasks;

/// The outcome of a task of one's own. Dropping it ends the task.
pub(super) struct Aside<T> {
    outcome: oneshot::Receiver<T>,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Aside<T> {
    /// Starts the work.
    pub(super) fn start(tasks: &Tasks, name: &'static str, work: impl Future<Output = T> + Send + 'static) -> Self {
        let (tell, outcome) = oneshot::channel();
        let task = tasks.spawn(name, async move {
            // Nobody listens any more: it was dropped in the moment of its end.
            let _ = tell.send(work.await);
        });
        Self { outcome, task }
    }
}

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Future for Aside<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.outcome).poll(context) {
            Poll::Ready(Ok(outcome)) => Poll::Ready(outcome),
            // The task panicked, and its owner is about to be stopped.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

    use std::sync::Arc;

    use super::*;
    use crate::base::Shutdown;

    #[tokio::test]
    async fn it_goes_on_while_its_owner_waits_and_ends_with_it() {
        let tasks = Tasks::new(Shutdown::new());
        let connection = Arc::new(tokio::sync::Mutex::new(()));
        let held = connection.clone().lock_owned().await;
        let work = Aside::start(&tasks, "work", {
            let connection = connection.clone();
            async move { drop(connection.lock().await) }
        });
        drop(held);
        // The owner does not look at the work, which stands before it in the queue.
        tokio::time::timeout(std::time::Duration::from_secs(10), connection.lock()).await.map(drop).unwrap();
        work.await;
        let held = connection.clone().lock_owned().await;
        let dropped = Aside::start(&tasks, "dropped", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(dropped);
        tokio::time::timeout(std::time::Duration::from_secs(10), connection.lock()).await.map(drop).unwrap();
    }
}
