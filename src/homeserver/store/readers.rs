//! Reader threads: each has its own read-only connection and takes queries from one bounded queue.

use std::{
    ops::Deref,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Result, StoreError, connect};

/// Queries that may wait for a reader; further callers wait for a place.
const QUEUE: usize = 1024;

/// A consistent view of the committed state, for the duration of one query job.
#[derive(Debug)]
pub struct Reader<'a>(pub(super) &'a Connection);

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The reader threads.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Mutex<Option<std_mpsc::SyncSender<Job>>>,
    slots: Arc<tokio::sync::Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn start(path: &Path, count: usize) -> Result<Self> {
        let (sender, receiver) = std_mpsc::sync_channel::<Job>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let connection = connect(path, true)?;
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&connection, &receiver))
                .map_err(|e| StoreError::Sqlite(e.to_string()))?;
            threads.push(thread);
        }
        Ok(Self { queue: Mutex::new(Some(sender)), slots: Arc::new(tokio::sync::Semaphore::new(QUEUE)), threads: Mutex::new(threads) })
    }

    pub(super) async fn run<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T, E> + Send + 'static,
    {
        // The semaphore keeps the queue from ever being full, so that the send below cannot block a runtime thread.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _slot = slot;
            // The caller may have gone away: a query without a listener has no effect.
            drop(answer.send(in_snapshot(connection, query)));
        });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(StoreError::Closed)?.try_send(job).map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a store reader panicked");
            }
        }
    }
}

fn serve(connection: &Connection, queue: &Mutex<std_mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job(connection);
    }
}

/// One read transaction around the whole query, so that its statements see one state.
fn in_snapshot<T, E, F>(connection: &Connection, query: F) -> Result<T, E>
where
    E: From<StoreError>,
    F: FnOnce(&Reader<'_>) -> Result<T, E>,
{
    connection.execute_batch("BEGIN").map_err(StoreError::from)?;
    // A bug in one query must not take a reader along. The panic hook has logged it.
    let result = panic::catch_unwind(AssertUnwindSafe(|| query(&Reader(connection))))
        .unwrap_or_else(|_| Err(E::from(StoreError::Data("a query failed by a fault in homeroom".into()))));
    connection.execute_batch("ROLLBACK").map_err(StoreError::from)?;
    result
}
