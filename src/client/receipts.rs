//! Read receipts of rooms that were read without a connection: kept, the newest of each room, and sent when it is back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matrix_sdk::room::Receipts;
use ruma::{EventId, OwnedEventId, OwnedRoomId};

use super::context::{Context, within};
use crate::client::view::Connection;

/// Longest wait for one receipt.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Receipts that wait for a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Late(Arc<Mutex<HashMap<OwnedRoomId, OwnedEventId>>>);

impl Late {
    /// Keeps one until there is a connection.
    pub(super) fn keep(&self, room_id: OwnedRoomId, event_id: OwnedEventId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(room_id, event_id);
    }

    fn take(&self) -> HashMap<OwnedRoomId, OwnedEventId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps one again, unless a newer one came meanwhile.
    fn keep_older(&self, room_id: OwnedRoomId, event_id: OwnedEventId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(room_id).or_insert(event_id);
    }
}

/// The receipts for having read up to this event.
pub(super) fn of(event_id: &EventId) -> Receipts {
    Receipts::new().fully_read_marker(event_id.to_owned()).public_read_receipt(event_id.to_owned())
}

/// Runs until shutdown.
pub(super) async fn run(context: Context, late: Late) {
    let mut session = context.outlet.session.subscribe();
    let shutdown = context.tasks.shutdown().clone();
    loop {
        for connected in [true, false] {
            let reached = session.wait_for(|view| (view.connection == Connection::Online) == connected);
            tokio::select! {
                reached = reached => if reached.is_err() { return },
                () = shutdown.wait() => return,
            }
            if !connected {
                continue;
            }
            for (room_id, event_id) in late.take() {
                let Ok(room) = context.room(&room_id) else { continue };
                tokio::select! {
                    sent = within(TIMEOUT, room.send_multiple_receipts(of(&event_id))) => match sent {
                        Err(trouble) if trouble.is_connection() => late.keep_older(room_id, event_id),
                        Err(trouble) => tracing::debug!(%room_id, %trouble, "a late read receipt was refused"),
                        Ok(()) => {}
                    },
                    () = shutdown.wait() => return,
                }
            }
        }
    }
}
