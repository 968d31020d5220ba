//! How many messages wait in the send queue and how many failed, all rooms together.

use std::collections::HashMap;

use matrix_sdk::send_queue::{LocalEchoContent, RoomSendQueueUpdate, SendQueueUpdate};
use ruma::OwnedTransactionId;
use tokio::sync::broadcast;

use super::{context::Context, words};

/// What waits: true for those that failed for good and want a decision.
#[derive(Debug, Default, PartialEq, Eq)]
struct Waiting(HashMap<OwnedTransactionId, bool>);

impl Waiting {
    fn apply(&mut self, update: RoomSendQueueUpdate) {
        match update {
            RoomSendQueueUpdate::NewLocalEvent(echo) => {
                if matches!(echo.content, LocalEchoContent::Event { .. }) {
                    self.0.insert(echo.transaction_id, false);
                }
            }
            RoomSendQueueUpdate::CancelledLocalEvent { transaction_id } | RoomSendQueueUpdate::SentEvent { transaction_id, .. } => {
                self.0.remove(&transaction_id);
            }
            RoomSendQueueUpdate::SendError { transaction_id, is_recoverable, .. } => self.mark(&transaction_id, !is_recoverable),
            RoomSendQueueUpdate::RetryEvent { transaction_id } => self.mark(&transaction_id, false),
            RoomSendQueueUpdate::ReplacedLocalEvent { .. } | RoomSendQueueUpdate::MediaUpload { .. } => {}
        }
    }

    fn mark(&mut self, transaction_id: &OwnedTransactionId, failed: bool) {
        if let Some(state) = self.0.get_mut(transaction_id) {
            *state = failed;
        }
    }

    fn counts(&self) -> (u32, u32) {
        let failed = self.0.values().filter(|failed| **failed).count();
        let queued = self.0.len() - failed;
        (u32::try_from(queued).unwrap_or(u32::MAX), u32::try_from(failed).unwrap_or(u32::MAX))
    }
}

/// Runs until shutdown.
pub(super) async fn run(context: Context) {
    let mut updates = context.client.send_queue().subscribe();
    unwedge_expired(&context).await;
    let mut waiting = load(&context).await;
    loop {
        let (queued, failed) = waiting.counts();
        context.session(|view| {
            view.queued = queued;
            view.failed = failed;
        });
        tokio::select! {
            update = updates.recv() => match update {
                Ok(SendQueueUpdate { update, .. }) => waiting.apply(update),
                Err(broadcast::error::RecvError::Lagged(_)) => waiting = load(&context).await,
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = context.tasks.shutdown().wait() => return,
        }
    }
}

/// Messages that were refused because the session had ended wait for a decision, as if their content were at fault. The
/// client has been started anew since, maybe with a session that was renewed: they are tried again.
async fn unwedge_expired(context: &Context) {
    let Ok(echoes) = context.client.send_queue().local_echoes().await else { return };
    for echo in echoes.into_values().flatten() {
        if let LocalEchoContent::Event { send_error: Some(error), send_handle, .. } = echo.content
            && words::is_expired(&error)
            && let Err(error) = send_handle.unwedge().await
        {
            tracing::warn!(%error, "a message that waits could not be tried again");
        }
    }
}

async fn load(context: &Context) -> Waiting {
    let echoes = match context.client.send_queue().local_echoes().await {
        Ok(echoes) => echoes,
        Err(error) => {
            tracing::warn!(%error, "the send queue could not be read");
            return Waiting::default();
        }
    };
    let mut waiting = Waiting::default();
    for echo in echoes.into_values().flatten() {
        if let LocalEchoContent::Event { send_error, .. } = &echo.content {
            waiting.0.insert(echo.transaction_id.clone(), send_error.is_some());
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_until_it_is_sent_or_dropped() {
        let mut waiting = Waiting::default();
        let id: OwnedTransactionId = "a".into();
        waiting.0.insert(id.clone(), false);
        assert_eq!(waiting.counts(), (1, 0));
        waiting.mark(&id, true);
        assert_eq!(waiting.counts(), (0, 1));
        waiting.apply(RoomSendQueueUpdate::RetryEvent { transaction_id: id.clone() });
        assert_eq!(waiting.counts(), (1, 0));
        waiting.apply(RoomSendQueueUpdate::CancelledLocalEvent { transaction_id: id });
        assert_eq!(waiting.counts(), (0, 0));
    }
}
