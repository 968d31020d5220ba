//! Presence: noticing who is there and telling those who share a room with them.

use std::sync::Arc;

use ruma::presence::PresenceState;
use tokio::time::Instant;

pub use super::live::Heard;

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
    watch_for_idleness(node, who.user);
    Ok(here)
}

/// The user does something that others notice.
///
/// # Errors
///
/// Store errors.
pub async fn act(node: &Arc<Node>, user: UserNid) -> Result<(), StoreError> {
    if node.sync.live.act(user, node.clock.now_ms(), Instant::now()) {
        tell(node, user).await?;
        watch_for_idleness(node, user);
    }
    Ok(())
}

/// The user has another name or picture, which presence carries too (Client-Server API, "Events on Change of Profile Information").
///
/// # Errors
///
/// Store errors.
pub async fn renamed(node: &Node, user: UserNid) -> Result<(), StoreError> {
    if node.sync.live.renamed(user) { tell(node, user).await } else { Ok(()) }
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
    watch_for_idleness(node, who.user);
    Ok(())
}

/// Another server says how its user is, whom these local users share a room with. Who may be believed is the caller's business.
pub fn heard(node: &Arc<Node>, heard: &Heard, observers: &[UserNid]) {
    let set = node.sync.live.hear_presence(heard, Instant::now());
    if set.changed {
        for observer in observers {
            node.notifier.nudge(*observer);
        }
    }
    if set.watch {
        node.tasks.spawn("remote-presence", watch_silence(Arc::clone(node)));
    }
}

/// Waits for servers to have been silent for too long, as long as anybody of theirs is there.
async fn watch_silence(node: Arc<Node>) {
    loop {
        let (gone, next) = node.sync.live.expire_silent(Instant::now());
        for user in gone {
            if let Err(error) = tell(&node, user).await {
                tracing::warn!(%error, "could not tell that a remote user went offline");
            }
        }
        let Some(next) = next else { return };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = node.tasks.shutdown().wait() => return,
        }
    }
}

/// Wakes the local users who share a room with this one.
async fn tell(node: &Node, user: UserNid) -> Result<(), StoreError> {
    for other in node.store.read(move |db| device_lists::local_observers(db, user)).await? {
        node.notifier.nudge(other);
    }
    node.notifier.nudge(user);
    Ok(())
}

fn watch_for_idleness(node: &Arc<Node>, user: UserNid) {
    if node.sync.live.watch_idle(user) {
        node.tasks.spawn("idleness", watch_idleness(Arc::clone(node), user));
    }
}

/// Waits until the user has done nothing for a while.
async fn watch_idleness(node: Arc<Node>, user: UserNid) {
    loop {
        match node.sync.live.check_idle(user, Instant::now()) {
            Ok(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = node.tasks.shutdown().wait() => return,
            },
            Err(changed) => {
                if changed && let Err(error) = tell(&node, user).await {
                    tracing::warn!(%error, "could not tell that a user is idle");
                }
                return;
            }
        }
    }
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
