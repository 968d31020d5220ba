//! What the last sync brought, until the cache of events has it.
//!
//! The SDK keeps the position of a sync before its event cache, in a task of its own, has written the messages of that sync.
//! A client that ends in between goes on after them when it starts again: they are missing, and no gap says so. So an end in
//! order waits for the cache; and where there was none (a marker beside the store tells), the next start does not go on from
//! that position: what came last comes again, and the cache knows what it has.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matrix_sdk::{Client, sync::RoomUpdates};
use ruma::{OwnedEventId, OwnedRoomId};
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

use crate::base::{Shutdown, Tasks};

/// How long the end waits for the cache.
const PATIENCE: Duration = Duration::from_secs(3);
/// Stands beside the store while a client has it open, and afterwards where that client did not end in order.
const MARKER: &str = "unfinished";
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The newest event of every room that one sync brought something of.
type Newest = Vec<(OwnedRoomId, OwnedEventId)>;

/// Follows what syncs bring.
#[derive(Debug)]
pub(super) struct Cached {
    newest: Arc<Mutex<Newest>>,
    /// Apart from the client's others: it ends after the sync, so that nothing of it is missed.
    tasks: Tasks,
    marker: PathBuf,
    torn: bool,
}

impl Cached {
    /// Starts following, before the first sync. `dir` is the store's.
    pub(super) async fn follow(client: &Client, dir: &Path) -> Self {
        let marker = dir.join(MARKER);
        let torn = tokio::fs::try_exists(&marker).await.unwrap_or(false);
        if torn {
            tracing::info!("the client did not end in order last time: what came last is asked for again");
        }
        if let Err(error) = tokio::fs::write(&marker, b"").await {
            tracing::warn!(%error, "an end that is not in order would not be noticed");
        }
        let (newest, tasks) = (Arc::default(), Tasks::new(Shutdown::new()));
        tasks.spawn("cached", follow(client.subscribe_to_all_room_updates(), Arc::clone(&newest), tasks.shutdown().clone()));
        Self { newest, tasks, marker, torn }
    }

    /// Messages of the last sync may be missing.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// When nothing syncs any more: waits until the cache has what came last, a few seconds at most, and closes it, so that
    /// everything in it is on disk.
    pub(super) async fn finish(self, client: &Client) {
        self.tasks.shutdown().trigger();
        let mut whole = self.tasks.finish(PATIENCE).await;
        if !whole {
            tracing::warn!("what came last was not followed to its end");
        }
        let newest = std::mem::take(&mut *self.newest.lock().unwrap_or_else(PoisonError::into_inner));
        if tokio::time::timeout(PATIENCE, has_all(client, newest)).await.is_err() {
            tracing::warn!("what came last is not all in the cache of events; it is asked for again at the next start");
            whole = false;
        }
        if let Err(error) = client.event_cache_store().close().await {
            tracing::warn!(%error, "the cache of events could not be closed; what was cached last may be fetched again");
            whole = false;
        }
        if whole && let Err(error) = tokio::fs::remove_file(&self.marker).await {
            tracing::debug!(%error, "the next start will ask again for what came last");
        }
    }
}

async fn follow(mut updates: Receiver<RoomUpdates>, newest: Arc<Mutex<Newest>>, stop: Shutdown) {
    // The cache takes them in order, so that what came last says that it has the others as well.
    let keep = |updates: &RoomUpdates| *newest.lock().unwrap_or_else(PoisonError::into_inner) = of(updates);
    loop {
        tokio::select! {
            received = updates.recv() => match received {
                Ok(received) => keep(&received),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = stop.wait() => break,
        }
    }
    loop {
        match updates.try_recv() {
            Ok(received) => keep(&received),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

fn of(updates: &RoomUpdates) -> Newest {
    let joined = updates.joined.iter().map(|(room_id, update)| (room_id, &update.timeline));
    let left = updates.left.iter().map(|(room_id, update)| (room_id, &update.timeline));
    let newest = joined.chain(left).filter_map(|(room_id, timeline)| {
        let event_id = timeline.events.iter().rev().find_map(|event| event.event_id())?;
        Some((room_id.clone(), event_id))
    });
    newest.collect()
}

async fn has_all(client: &Client, newest: Newest) {
    for (room_id, event_id) in newest {
        let Some(room) = client.get_room(&room_id) else { continue };
        let Ok((cache, _tasks)) = room.event_cache().await else { continue };
        while !matches!(cache.find_event(&event_id).await, Ok(Some(_)) | Err(_)) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
