//! Presence: noticing who is there and telling those who share a room with them.

use std::sync::Arc;

use ruma::presence::PresenceState;
use tokio::time::Instant;

use crate::homeserver::{
    Node,
    store::{StoreError, device_lists},
    types::{Requester, UserNid},
};

/// A client that is syncing. Dropped when it has its answer.
#[derive(Debug)]
pub struct Here {
    node: Arc<Node>,
    user: UserNid,
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.node.sync.live.depart(self.user, Instant::now()) {
            self.node.tasks.spawn("presence", watch(Arc::clone(&self.node), self.user));
        }
    }
}

/// A client of the user begins to sync and says how the user is.
///
/// # Errors
///
/// Store errors.
pub async fn arrive(node: &Arc<Node>, who: &Requester, state: PresenceState) -> Result<Here, StoreError> {
    let changed = node.sync.live.arrive(who.user, &who.user_id, state, node.clock.now_ms());
    let here = Here { node: Arc::clone(node), user: who.user };
    if changed {
        tell(node, who.user).await?;
    }
    Ok(here)
}

/// The user says how they are.
///
/// # Errors
///
/// Store errors.
pub async fn set(node: &Arc<Node>, who: &Requester, state: PresenceState, status_msg: Option<String>) -> Result<(), StoreError> {
    if node.sync.live.set_presence(who.user, &who.user_id, state, status_msg, node.clock.now_ms()) {
        tell(node, who.user).await?;
    }
    Ok(())
}

/// Wakes the local users who share a room with this one.
async fn tell(node: &Node, user: UserNid) -> Result<(), StoreError> {
    for other in node.store.read(move |db| device_lists::local_observers(db, user)).await? {
        node.notifier.nudge(other);
    }
    node.notifier.nudge(user);
    Ok(())
}

/// Waits until no client of the user has been here for a while.
async fn watch(node: Arc<Node>, user: UserNid) {
    loop {
        match node.sync.live.check_gone(user, Instant::now()) {
            Ok(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = node.tasks.shutdown().wait() => return,
            },
            Err(changed) => {
                if changed && let Err(error) = tell(&node, user).await {
                    tracing::warn!(%error, "could not tell that a user went offline");
                }
                return;
            }
        }
    }
}
