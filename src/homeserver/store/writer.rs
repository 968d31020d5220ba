//! The writer thread: bounded jobs in, many of them in one durable commit.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Deref,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread::JoinHandle,
};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use super::{Reader, Result, StoreError};
use crate::homeserver::types::{StreamPos, UserNid};

/// Jobs that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 1024;
/// Jobs in one commit at most, which bounds how long the first of them waits.
const BATCH: usize = 256;

/// What a commit changed, for those who wait for news.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Everything up to here is visible to readers.
    pub position: StreamPos,
    /// Local users who have something new to sync.
    pub users: BTreeSet<UserNid>,
    /// Something new waits to be sent to other servers.
    pub outgoing: bool,
}

/// Called on the writer thread after each commit that touched somebody. Must not block.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(&Commit) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The open transaction, as a job sees it. Reads what earlier jobs of the same batch wrote.
#[derive(Debug)]
pub struct Tx<'a> {
    connection: &'a Connection,
    position: &'a mut i64,
    touched: BTreeSet<UserNid>,
    outgoing: bool,
}

impl Tx<'_> {
    /// Takes the next place in the stream of changes.
    pub fn next_pos(&mut self) -> StreamPos {
        *self.position += 1;
        StreamPos(*self.position)
    }

    /// The newest place given out.
    #[must_use]
    pub fn position(&self) -> StreamPos {
        StreamPos(*self.position)
    }

    /// This user has something new to sync once the transaction is on disk.
    pub fn touch(&mut self, user: UserNid) {
        self.touched.insert(user);
    }

    /// Something new waits to be sent to other servers once the transaction is on disk.
    pub fn has_outgoing(&mut self) {
        self.outgoing = true;
    }

    /// The transaction as a reader, for functions that serve both.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader(self.connection)
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Hands a job's result to its caller, after the commit or with the commit's error.
type Deliver = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// A queued job with its caller's address.
trait Queued: Send {
    /// Runs it; true when its writes are to be kept.
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> (bool, Deliver);
    /// Answers without having run it.
    fn refuse(self: Box<Self>, error: StoreError);
}

type Job = Box<dyn Queued>;

struct Typed<T, E, F> {
    work: F,
    answer: oneshot::Sender<Result<T, E>>,
    /// The place in the queue, given back once answered.
    slot: tokio::sync::OwnedSemaphorePermit,
}

impl<T, E, F> Queued for Typed<T, E, F>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
{
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> (bool, Deliver) {
        let Self { work, answer, slot } = *self;
        // A bug in one job must not take the writer, and with it everybody's writes, along. The panic hook has logged it.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|_| Err(E::from(StoreError::Data("a write failed by a fault in homeroom; it was undone".into()))));
        let keep = outcome.is_ok();
        let deliver: Deliver = Box::new(move |failure| {
            drop(slot);
            let outcome = match failure {
                Some(error) => Err(E::from(error)),
                None => outcome,
            };
            // The caller may have gone away; what it asked for is done all the same.
            drop(answer.send(outcome));
        });
        (keep, deliver)
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        drop(self.answer.send(Err(E::from(error))));
    }
}

/// The writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Option<std_mpsc::SyncSender<Job>>>,
    slots: Arc<tokio::sync::Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, observer: Observer) -> Result<Self> {
        let mut position = last_position(&connection)?;
        let (sender, receiver) = std_mpsc::sync_channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-write".into())
            .spawn(move || {
                while let Ok(first) = receiver.recv() {
                    batch(&connection, &mut position, first, &receiver, &observer);
                }
                finish(&connection);
            })
            .map_err(|e| StoreError::Sqlite(e.to_string()))?;
        Ok(Self { queue: Mutex::new(Some(sender)), slots: Arc::new(tokio::sync::Semaphore::new(QUEUE)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) async fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        // The semaphore keeps the queue from ever being full, so that the send below cannot block a runtime thread.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(Typed { work: job, answer, slot });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(StoreError::Closed)?.try_send(job).map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Runs the first job and whatever else is waiting in one transaction, then tells everybody.
fn batch(connection: &Connection, position: &mut i64, first: Job, queue: &std_mpsc::Receiver<Job>, observer: &Observer) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        tracing::error!(%error, "could not begin a transaction");
        first.refuse(error.into());
        return;
    }
    let before = *position;
    let mut deliveries = Vec::new();
    let mut touched = BTreeSet::new();
    let mut outgoing = false;
    let mut failure = None;
    let mut next = Some(first);
    while let Some(job) = next.take() {
        match one(connection, position, job) {
            Ok((deliver, users, sends)) => {
                deliveries.push(deliver);
                touched.extend(users);
                outgoing |= sends;
            }
            Err((deliver, error)) => {
                deliveries.push(deliver);
                failure = Some(error);
            }
        }
        if deliveries.len() < BATCH && failure.is_none() {
            next = queue.try_recv().ok();
        }
    }
    if failure.is_none() {
        failure = commit(connection, *position, before).err();
    }
    if failure.is_some() {
        roll_back(connection);
    }
    if let Some(error) = &failure {
        *position = before;
        tracing::error!(%error, jobs = deliveries.len(), "a commit failed; nothing of it was kept");
    }
    // Answers first: a client that learns of its own event from a sync before it has the answer to its request has to match
    // the two, and some cannot.
    for deliver in deliveries {
        deliver(failure.clone());
    }
    if failure.is_none() && (outgoing || !touched.is_empty()) {
        (observer.0)(&Commit { position: StreamPos(*position), users: touched, outgoing });
    }
}

/// Runs one job inside a savepoint. An error means that the whole transaction is unusable.
fn one(
    connection: &Connection,
    position: &mut i64,
    job: Job,
) -> std::result::Result<(Deliver, BTreeSet<UserNid>, bool), (Deliver, StoreError)> {
    let before = *position;
    let opened = connection.prepare_cached("SAVEPOINT job").and_then(|mut s| s.execute([]));
    let mut tx = Tx { connection, position, touched: BTreeSet::new(), outgoing: false };
    let (keep, deliver) = job.run(&mut tx);
    let (touched, outgoing) = (tx.touched, tx.outgoing);
    let closed = opened.and_then(|_| {
        if keep {
            connection.prepare_cached("RELEASE job")?.execute([]).map(drop)
        } else {
            connection.execute_batch("ROLLBACK TO job; RELEASE job")
        }
    });
    match closed {
        Ok(()) if keep => Ok((deliver, touched, outgoing)),
        Ok(()) => {
            *position = before;
            Ok((deliver, BTreeSet::new(), false))
        }
        Err(error) => Err((deliver, error.into())),
    }
}

fn commit(connection: &Connection, position: i64, before: i64) -> Result<()> {
    if position != before {
        connection
            .prepare_cached("INSERT INTO meta (key, value) VALUES ('position', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1")?
            .execute([position])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn roll_back(connection: &Connection) {
    if connection.is_autocommit() {
        return;
    }
    if let Err(error) = connection.execute_batch("ROLLBACK") {
        tracing::error!(%error, "could not roll back");
    }
}

fn last_position(connection: &Connection) -> Result<i64> {
    Ok(connection.query_row("SELECT value FROM meta WHERE key = 'position'", [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Leaves a small file behind: the log is folded in and statistics are refreshed.
fn finish(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "closing the store without a checkpoint");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::homeserver::store::Store;

    type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

    async fn open(dir: &tempfile::TempDir) -> Result<Store> {
        let path = dir.path().join("node.db");
        tokio::task::spawn_blocking(move || Store::open(&path, Observer(Arc::new(|_| {})))).await.unwrap_or(Err(StoreError::Closed))
    }

    async fn note(store: &Store, key: &'static str) -> Result<()> {
        store.write(move |tx| Ok(tx.execute("INSERT INTO meta (key, value) VALUES (?1, 1)", [key]).map(drop)?)).await
    }

    async fn notes(store: &Store) -> Result<i64> {
        store.read(|db| Ok(db.query_row("SELECT count(*) FROM meta WHERE key LIKE 'note%'", [], |row| row.get(0))?)).await
    }

    #[tokio::test]
    async fn a_failing_job_is_undone_alone() -> TestResult {
        let dir = tempfile::tempdir()?;
        let store = open(&dir).await?;
        let bad = store.write(|tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('note-bad', 1)", [])?;
            tx.next_pos();
            Err::<(), _>(StoreError::Data("on purpose".into()))
        });
        let (good, bad, other) = tokio::join!(note(&store, "note-1"), bad, note(&store, "note-2"));
        good?;
        other?;
        assert!(matches!(bad, Err(StoreError::Data(_))));
        assert_eq!(notes(&store).await?, 2);
        assert_eq!(store.write(|tx| Ok::<_, StoreError>(tx.next_pos())).await?, StreamPos(1));
        Ok(())
    }

    #[tokio::test]
    async fn a_panicking_job_is_undone_and_the_writer_goes_on() -> TestResult {
        let dir = tempfile::tempdir()?;
        let store = open(&dir).await?;
        let bad = store.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO meta (key, value) VALUES ('note-bad', 1)", [])?;
            panic!("on purpose")
        });
        assert!(bad.await.is_err());
        note(&store, "note-1").await?;
        assert_eq!(notes(&store).await?, 1);
        Ok(())
    }

    #[tokio::test]
    async fn positions_go_on_after_a_restart() -> TestResult {
        let dir = tempfile::tempdir()?;
        let store = open(&dir).await?;
        let first = store.write(|tx| Ok::<_, StoreError>(tx.next_pos())).await?;
        let closing = store.clone();
        tokio::task::spawn_blocking(move || closing.close()).await?;
        assert!(matches!(note(&store, "note-1").await, Err(StoreError::Closed)));
        let store = open(&dir).await?;
        let second = store.write(|tx| Ok::<_, StoreError>(tx.next_pos())).await?;
        assert!(second > first);
        Ok(())
    }
}
