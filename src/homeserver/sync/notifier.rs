//! Wakes those who wait for news, user by user.
//!
//! A waiter subscribes *before* it reads the store: whatever is committed after that changes the watched position, so no
//! wake-up is lost however writes and reads interleave.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::homeserver::{
    store::{Commit, Observer},
    types::{StreamPos, UserNid},
};

/// The change notifier. Clones share it.
#[derive(Debug, Clone)]
pub struct Notifier {
    users: Arc<Mutex<HashMap<UserNid, watch::Sender<StreamPos>>>>,
    /// The newest commit that had news for anybody.
    any: Arc<watch::Sender<StreamPos>>,
    /// Users with news, until the one task that asks for them takes them.
    touched: Arc<Mutex<BTreeSet<UserNid>>>,
    /// Told when a commit has something for other servers.
    outgoing: Arc<tokio::sync::Notify>,
    /// Something that is not in the store happened, such as typing.
    live: Arc<watch::Sender<()>>,
}

impl Default for Notifier {
    fn default() -> Self {
        let (any, live) = (Arc::new(watch::Sender::new(StreamPos(0))), Arc::new(watch::Sender::new(())));
        Self { users: Arc::default(), any, touched: Arc::default(), outgoing: Arc::default(), live }
    }
}

impl Notifier {
    /// What the store calls after each commit.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let this = self.clone();
        Observer(Arc::new(move |commit| this.publish(commit)))
    }

    /// Watches the position of the newest commit that had news for this user. Subscribe first, read the store second.
    #[must_use]
    pub fn subscribe(&self, user: UserNid) -> watch::Receiver<StreamPos> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.entry(user).or_insert_with(|| watch::Sender::new(StreamPos(0))).subscribe()
    }

    /// Watches the position of the newest commit that had news for anybody.
    #[must_use]
    pub fn subscribe_to_all(&self) -> watch::Receiver<StreamPos> {
        self.any.subscribe()
    }

    /// The users who had news since the last call. For one task, which watches [`Self::subscribe_to_all`] and asks after each
    /// change: what is added meanwhile changes the watch again.
    #[must_use]
    pub fn take_touched(&self) -> BTreeSet<UserNid> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Watches what is not in the store, of anybody.
    #[must_use]
    pub fn subscribe_to_live(&self) -> watch::Receiver<()> {
        self.live.subscribe()
    }

    /// Wakes a user's waiters for something that is not in the store, such as typing.
    pub fn nudge(&self, user: UserNid) {
        self.live.send_replace(());
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = users.get(&user) {
            sender.send_modify(|_| {});
        }
    }

    /// Told when something new waits to be sent to other servers. One task waits: a permit is kept for it while it works.
    #[must_use]
    pub fn outgoing(&self) -> &tokio::sync::Notify {
        &self.outgoing
    }

    fn publish(&self, commit: &Commit) {
        if commit.outgoing {
            self.outgoing.notify_one();
        }
        if commit.users.is_empty() {
            return;
        }
        // No more than there are local users.
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(&commit.users);
        self.any.send_replace(commit.position);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        for user in &commit.users {
            if let Some(sender) = users.get(user) {
                sender.send_replace(commit.position);
            }
        }
        // Users whom nobody waits for cost nothing.
        users.retain(|_, sender| sender.receiver_count() > 0);
    }
}
