//! Read receipts of rooms that were read without a connection: kept, the newest of each room, and sent when it is back.

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
    /// Keeps one until there is a connection.
    pub(super) fn keep(&self, room_id: OwnedRoomId, event_id: OwnedEventId) {
        self.kept().insert(room_id, event_id);
        self.0.more.notify_one();
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

/// Runs until shutdown.
pub(super) async fn run(context: Context, late: Late) {
    let shutdown = context.tasks.shutdown().clone();
    tokio::select! {
        () = send_kept(&context, &late) => {}
        () = shutdown.wait() => {}
    }
}

async fn send_kept(context: &Context, late: &Late) {
    let mut session = context.outlet.session.subscribe();
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
    }
}
