//! Live timelines of the rooms that are open, or were a moment ago.
//!
//! Each has a keeper task. Evicted timelines give their memory back.

use std::sync::{Arc, atomic::AtomicU64};

use matrix_sdk_ui::timeline::Timeline as SdkTimeline;
use ruma::{OwnedEventId, OwnedRoomId};
use tokio::sync::{mpsc, watch};

use super::{
    context::{Context, Shown},
    keeper::keep,
    opening::OPEN_TIMEOUT,
};

/// Rooms whose timelines stay live, the shown one included.
const KEPT_ROOMS: usize = 3;

/// Names one timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) room_id: OwnedRoomId,
    pub(super) thread_root: Option<OwnedEventId>,
}

struct Open {
    key: Key,
    ready: watch::Receiver<Option<Arc<SdkTimeline>>>,
    older: mpsc::Sender<u16>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The open timelines, most recently shown last.
pub(super) struct Timelines {
    context: Context,
    uniques: Arc<AtomicU64>,
    rooms: Vec<Open>,
    thread: Option<Open>,
}

impl Timelines {
    pub(super) fn new(context: Context) -> Self {
        Self { context, uniques: Arc::new(AtomicU64::new(1)), rooms: Vec::new(), thread: None }
    }

    /// Shows a room, or none.
    pub(super) fn open_room(&mut self, room_id: Option<OwnedRoomId>) {
        if self.context.shown.borrow().room == room_id {
            return;
        }
        self.thread = None;
        self.context.shown.send_replace(Shown { room: room_id.clone(), thread: None });
        self.context.outlet.thread.send_replace(None);
        let Some(room_id) = room_id else {
            self.context.outlet.timeline.send_replace(None);
            return;
        };
        let open = match self.rooms.iter().position(|open| open.key.room_id == room_id && !open.task.is_finished()) {
            Some(at) => self.rooms.remove(at),
            None => {
                self.rooms.retain(|open| open.key.room_id != room_id);
                self.start(Key { room_id, thread_root: None })
            }
        };
        self.rooms.push(open);
        while self.rooms.len() > KEPT_ROOMS {
            self.rooms.remove(0);
        }
    }

    /// Shows a thread of the shown room, or none.
    pub(super) fn open_thread(&mut self, thread_root: Option<OwnedEventId>) {
        let room = self.context.shown.borrow().room.clone();
        let thread = thread_root.zip(room);
        self.context.shown.send_modify(|shown| shown.thread = thread.as_ref().map(|(root, _)| root.clone()));
        self.thread = None;
        self.context.outlet.thread.send_replace(None);
        if let Some((root, room_id)) = thread {
            self.thread = Some(self.start(Key { room_id, thread_root: Some(root) }));
        }
    }

    /// Rooms with a live timeline.
    pub(super) fn room_ids(&self) -> Vec<OwnedRoomId> {
        self.rooms.iter().map(|open| open.key.room_id.clone()).collect()
    }

    /// Asks for older replies of the shown thread.
    pub(super) fn load_older_in_thread(&self, count: u16) {
        if let Some(thread) = &self.thread {
            // As below.
            let _ = thread.older.try_send(count);
        }
    }

    /// Asks for older history of the shown room.
    pub(super) fn load_older(&self, count: u16) {
        let shown = self.context.shown.borrow().room.clone();
        let open = self.rooms.iter().rev().find(|open| Some(&open.key.room_id) == shown.as_ref());
        if let Some(open) = open {
            // Full means that requests are waiting already: one more would change nothing.
            let _ = open.older.try_send(count);
        }
    }

    /// The SDK timelines of a room that are open, thread first. They may still be opening.
    pub(super) fn handles(&self, room_id: &OwnedRoomId) -> Handles {
        let all = self.thread.iter().chain(self.rooms.iter());
        Handles(all.filter(|open| open.key.room_id == *room_id).map(|open| open.ready.clone()).collect())
    }

    fn start(&self, key: Key) -> Open {
        let (ready_tx, ready) = watch::channel(None);
        let (older, older_rx) = mpsc::channel(2);
        let keeper = keep(self.context.clone(), key.clone(), self.uniques.clone(), ready_tx, older_rx);
        let task = self.context.tasks.spawn("timeline", keeper);
        Open { key, ready, older, task }
    }
}

/// Open timelines of one room, for commands that need the SDK's own.
#[derive(Debug, Clone, Default)]
pub(super) struct Handles(Vec<watch::Receiver<Option<Arc<SdkTimeline>>>>);

impl Handles {
    /// The timelines, waiting for those that are opening.
    pub(super) async fn ready(mut self) -> Vec<Arc<SdkTimeline>> {
        let mut timelines = Vec::new();
        for receiver in &mut self.0 {
            if let Ok(Ok(timeline)) = tokio::time::timeout(OPEN_TIMEOUT, receiver.wait_for(Option::is_some)).await {
                timelines.extend(timeline.clone());
            }
        }
        timelines
    }
}
