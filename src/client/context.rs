//! What the tasks of one running client share. Holds no state of its own beyond channels.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matrix_sdk::{Client, Room};
use matrix_sdk_ui::room_list_service::RoomListService;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use tokio::sync::{Notify, broadcast, watch};

use super::words::Trouble;
use crate::{
    base::Tasks,
    client::{
        update::{Outlet, Update},
        view::SessionView,
    },
};

/// People typing, per room, as display names.
pub(super) type Typing = Arc<HashMap<OwnedRoomId, Arc<[String]>>>;

/// Which timelines the screen shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) room: Option<OwnedRoomId>,
    pub(super) thread: Option<OwnedEventId>,
}

/// Shared by the tasks of one client. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) me: OwnedUserId,
    pub(super) outlet: Outlet,
    pub(super) tasks: Tasks,
    pub(super) typing: Arc<watch::Sender<Typing>>,
    pub(super) shown: Arc<watch::Sender<Shown>>,
    /// There while the server is synced with by sliding sync.
    pub(super) room_list: Arc<watch::Sender<Option<Arc<RoomListService>>>>,
    /// Asks the sync loop to try the connection now.
    pub(super) poke: Arc<Notify>,
    /// A room has been read here up to an event. Who misses one hears of it through the server.
    pub(super) read_here: broadcast::Sender<(OwnedRoomId, OwnedEventId)>,
    /// When this client started, in milliseconds since the Unix epoch.
    pub(super) started_ms: u64,
}

impl Context {
    pub(super) fn new(client: Client, me: OwnedUserId, outlet: Outlet, tasks: Tasks, started_ms: u64) -> Self {
        Self {
            client,
            me,
            outlet,
            tasks,
            typing: Arc::new(watch::Sender::new(Typing::default())),
            shown: Arc::new(watch::Sender::new(Shown::default())),
            room_list: Arc::new(watch::Sender::new(None)),
            poke: Arc::new(Notify::new()),
            read_here: broadcast::Sender::new(64),
            started_ms,
        }
    }

    /// A room that we know.
    pub(super) fn room(&self, room_id: &RoomId) -> Result<Room, Trouble> {
        self.client.get_room(room_id).ok_or_else(|| Trouble::Other("there is no such room".to_owned()))
    }

    /// Changes the session view; watchers wake only when something did change.
    pub(super) fn session(&self, change: impl FnOnce(&mut SessionView)) {
        self.outlet.session.send_if_modified(|view| {
            let before = view.clone();
            change(view);
            *view != before
        });
    }

    /// Tells the screen something. Waits while the screen is behind; gives up when it is gone or we stop.
    pub(super) async fn tell(&self, update: Update) {
        tokio::select! {
            sent = self.outlet.updates.send(update) => {
                if sent.is_err() {
                    tracing::debug!("the screen is gone; an update was dropped");
                }
            }
            () = self.tasks.shutdown().wait() => {}
        }
    }
}

/// A remote wait with an end.
pub(super) async fn within<T, E: Into<Trouble>>(limit: Duration, work: impl IntoFuture<Output = Result<T, E>>) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, work.into_future()).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Trouble::Timeout),
    }
}
