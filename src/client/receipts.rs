//! Read receipts of rooms that were read without a connection: kept, the newest of each room, also beyond the end of the client,
//! and sent when it is back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matrix_sdk::room::Receipts;
use ruma::{EventId, OwnedEventId, OwnedRoomId};
use tokio::sync::Notify;

use super::context::{Context, within};
use crate::client::view::Connection;

/// Key of the value in the store that keeps them while no client runs.
const KEY: &[u8] = b"homeroom.receipts";
/// Pause before a receipt is tried again that a server could not take.
const PAUSE: Duration = Duration::from_secs(20);
/// Longest wait for one receipt.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Receipts that wait for a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Late(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    receipts: Mutex<HashMap<OwnedRoomId, OwnedEventId>>,
    more: Notify,
}

impl Late {
    /// Keeps one until there is a connection, whenever that is.
    pub(super) async fn keep(&self, context: &Context, room_id: OwnedRoomId, event_id: OwnedEventId) {
        self.kept().insert(room_id, event_id);
        self.save(context).await;
        self.0.more.notify_one();
    }

    async fn save(&self, context: &Context) {
        let kept = self.kept().clone();
        let saved = async {
            let bytes = serde_json::to_vec(&kept)?;
            context.client.state_store().set_custom_value_no_read(KEY, bytes).await
        };
        if let Err(error) = saved.await {
            tracing::warn!(%error, "read receipts that wait could not be saved");
        }
    }

    fn take(&self) -> HashMap<OwnedRoomId, OwnedEventId> {
        std::mem::take(&mut *self.kept())
    }

    /// Keeps one again, unless a newer one came meanwhile.
    fn keep_older(&self, room_id: OwnedRoomId, event_id: OwnedEventId) {
        self.kept().entry(room_id).or_insert(event_id);
        self.0.more.notify_one();
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, OwnedEventId>> {
        self.0.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receipts for having read up to this event.
pub(super) fn of(event_id: &EventId) -> Receipts {
    Receipts::new().fully_read_marker(event_id.to_owned()).public_read_receipt(event_id.to_owned())
}

/// The receipts that had not been sent when the client ended.
async fn load(context: &Context) -> HashMap<OwnedRoomId, OwnedEventId> {
    let stored = context.client.state_store().get_custom_value(KEY).await;
    let kept = stored.map(|bytes| bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default());
    kept.unwrap_or_else(|error| {
        tracing::warn!(%error, "read receipts that wait could not be read");
        HashMap::new()
    })
}

/// Runs until shutdown.
pub(super) async fn run(context: Context, late: Late) {
    let shutdown = context.tasks.shutdown().clone();
    tokio::select! {
        () = send_kept(&context, &late) => {}
        () = shutdown.wait() => {}
    }
}

/// What was read before the client started anew is read: the room list hears of it as soon as it listens.
async fn recall(context: &Context, late: &Late) {
    let stored = load(context).await;
    if stored.is_empty() || context.outlet.rooms.subscribe().wait_for(|list| !list.rows.is_empty()).await.is_err() {
        return;
    }
    for (room_id, event_id) in stored {
        // Nobody listens only while we stop.
        let _ = context.read_here.send((room_id.clone(), event_id.clone()));
        late.keep_older(room_id, event_id);
    }
}

async fn send_kept(context: &Context, late: &Late) {
    let mut session = context.outlet.session.subscribe();
    recall(context, late).await;
    loop {
        late.0.more.notified().await;
        if session.borrow_and_update().connection == Connection::Online {
            // It was kept although there is a connection: the server is in trouble.
            tokio::time::sleep(PAUSE).await;
        }
        if session.wait_for(|view| view.connection == Connection::Online).await.is_err() {
            return;
        }
        for (room_id, event_id) in late.take() {
            let Ok(room) = context.room(&room_id) else { continue };
            match within(TIMEOUT, room.send_multiple_receipts(of(&event_id))).await {
                Err(trouble) if trouble.is_connection() => late.keep_older(room_id, event_id),
                Err(trouble) => tracing::debug!(%room_id, %trouble, "a late read receipt was refused"),
                Ok(()) => {}
            }
        }
        late.save(context).await;
    }
}
