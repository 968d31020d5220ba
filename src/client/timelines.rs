//! Live timelines of the rooms that are open, or were a moment ago.
//!
//! Each has a keeper task that mirrors the SDK's items as view items and publishes snapshots while its timeline is the one
//! shown. Unchanged items keep their `Arc`; changed ones get a higher revision. Evicted timelines give their memory back.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eyeball_im::{Vector, VectorDiff};
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use matrix_sdk::Room;
use matrix_sdk_ui::timeline::{
    RoomExt, Timeline as SdkTimeline, TimelineDetails, TimelineFocus, TimelineItem, TimelineReadReceiptTracking,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use tokio::sync::{mpsc, watch};

use super::{
    context::{Context, Shown, within},
    convert::{self, Names},
    words::{Trouble, one_line},
};
use crate::client::{
    update::Update,
    view::{Item, Pagination, Timeline},
};

/// Rooms whose timelines stay live, the shown one included.
const KEPT_ROOMS: usize = 3;
/// A room that opens with fewer messages than this fetches older ones by itself.
const FIRST_SCREEN: usize = 30;
/// Longest wait for older history.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(60);
/// Replied-to events fetched at the same time.
const REPLY_FETCHES: usize = 4;
/// Longest wait for a timeline to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

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

    /// Asks for older history of the shown room, or of the shown thread where one is open and wanted.
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

type Changes = BoxStream<'static, Vec<VectorDiff<Arc<TimelineItem>>>>;

/// How often a timeline that came out wrong is built again.
const BUILDS: usize = 5;

/// Builds a timeline. The SDK takes events twice when a sync brings them just while it is built, which happens with a room that
/// we have just made or joined; such a timeline is thrown away.
async fn open(room: &Room, key: &Key) -> Result<(Arc<SdkTimeline>, Vector<Arc<TimelineItem>>, Changes), matrix_sdk_ui::timeline::Error> {
    let mut attempt = 1;
    loop {
        let focus = match &key.thread_root {
            Some(root) => TimelineFocus::Thread { root_event_id: root.clone() },
            None => TimelineFocus::Live { hide_threaded_events: false },
        };
        let tracking =
            if key.thread_root.is_some() { TimelineReadReceiptTracking::Disabled } else { TimelineReadReceiptTracking::MessageLikeEvents };
        let timeline = Arc::new(room.timeline_builder().with_focus(focus).track_read_marker_and_receipts(tracking).build().await?);
        let (items, changes) = timeline.subscribe().await;
        let mut seen = HashSet::new();
        let twice = items.iter().filter_map(|item| item.as_event()?.event_id()).any(|event_id| !seen.insert(event_id));
        if !twice || attempt == BUILDS {
            return Ok((timeline, items, changes.boxed()));
        }
        tracing::debug!(room_id = %key.room_id, attempt, "a timeline held events twice; building it again");
        attempt += 1;
    }
}

/// Builds a timeline and keeps its snapshots until evicted or shut down.
async fn keep(
    context: Context,
    key: Key,
    uniques: Arc<AtomicU64>,
    ready: watch::Sender<Option<Arc<SdkTimeline>>>,
    older: mpsc::Receiver<u16>,
) {
    let Some(room) = context.client.get_room(&key.room_id) else {
        closed(&context, &key, "there is no such room any more").await;
        return;
    };
    let built = tokio::time::timeout(OPEN_TIMEOUT, open(&room, &key)).await;
    let (timeline, items, changes) = match built {
        Ok(Ok(built)) => built,
        Ok(Err(error)) => {
            tracing::warn!(room_id = %key.room_id, %error, "a timeline could not be opened");
            closed(&context, &key, &timeline_trouble(&error).to_string()).await;
            return;
        }
        Err(_) => {
            closed(&context, &key, "it takes too long to open").await;
            return;
        }
    };
    ready.send_replace(Some(timeline.clone()));
    let mut keeper = Keeper {
        mirror: Mirror::new(context.me.clone(), uniques),
        names: Names::default(),
        back: Pagination::Idle,
        paging: None,
        replies: VecDeque::new(),
        asked: HashSet::new(),
        fetching: FuturesUnordered::new(),
        context,
        key,
        room,
        timeline,
    };
    keeper.apply(vec![VectorDiff::Reset { values: items }]).await;
    keeper.publish();
    if keeper.mirror.messages() < FIRST_SCREEN {
        keeper.load_older(u16::try_from(FIRST_SCREEN).unwrap_or(u16::MAX));
    }
    keeper.follow(changes, older).await;
}

async fn closed(context: &Context, key: &Key, reason: &str) {
    let shown = context.shown.borrow().clone();
    if key.thread_root.is_some() {
        context.tell(Update::Notice { text: format!("The thread cannot be shown: {reason}.") }).await;
    } else if shown.room.as_ref() == Some(&key.room_id) {
        context.tell(Update::RoomClosed(key.room_id.clone(), reason.to_owned())).await;
    }
}

/// Reads a timeline error.
pub(super) fn timeline_trouble(error: &matrix_sdk_ui::timeline::Error) -> Trouble {
    use matrix_sdk::{event_cache::EventCacheError, paginators::PaginatorError};
    use matrix_sdk_ui::timeline::{Error, PaginationError};
    let cache = match error {
        Error::EventCacheError(error) | Error::PaginationError(PaginationError::EventCache(error)) => Some(error),
        _ => None,
    };
    match cache {
        Some(EventCacheError::PaginationError(error) | EventCacheError::InitialPaginationError(PaginatorError::SdkError(error))) => {
            Trouble::of(error)
        }
        Some(EventCacheError::Storage(error)) => Trouble::of_store(error),
        _ => match error {
            Error::RedactError(matrix_sdk_ui::timeline::RedactError::HttpError(error)) => Trouble::of_http(error),
            Error::ReplyError(matrix_sdk::room::reply::ReplyError::Fetch(error)) => Trouble::of(error),
            other => Trouble::Other(one_line(&other.to_string(), 160)),
        },
    }
}

/// Waits until sync has told of the room. A room that we have just made or joined is open before that, and history fetched
/// then would come a second time with the sync.
async fn told_of(room: &Room) {
    let mut changes = room.subscribe_info();
    while room.create_content().is_none() {
        if changes.next().await.is_none() {
            return;
        }
    }
}

struct Keeper {
    context: Context,
    key: Key,
    room: Room,
    timeline: Arc<SdkTimeline>,
    mirror: Mirror,
    names: Names,
    back: Pagination,
    paging: Option<BoxFuture<'static, Result<bool, Trouble>>>,
    /// Items whose replied-to event is not loaded.
    replies: VecDeque<OwnedEventId>,
    asked: HashSet<OwnedEventId>,
    fetching: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Keeper {
    async fn follow(&mut self, changes: impl Stream<Item = Vec<VectorDiff<Arc<TimelineItem>>>>, mut older: mpsc::Receiver<u16>) {
        tokio::pin!(changes);
        let mut typing = self.context.typing.subscribe();
        let mut shown = self.context.shown.subscribe();
        let shutdown = self.context.tasks.shutdown().clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                diffs = changes.next() => {
                    let Some(mut diffs) = diffs else { return };
                    // Bursts become one snapshot.
                    while let Some(Some(more)) = changes.next().now_or_never() {
                        diffs.extend(more);
                    }
                    self.apply(diffs).await;
                }
                count = older.recv() => match count {
                    Some(count) => self.load_older(count),
                    None => return,
                },
                result = async { match self.paging.as_mut() { Some(paging) => paging.await, None => std::future::pending().await } } => {
                    self.paging = None;
                    self.back = match result {
                        Ok(true) => Pagination::AtStart,
                        Ok(false) => Pagination::Idle,
                        Err(trouble) => Pagination::Failed { reason: trouble.to_string() },
                    };
                    // Items that came with the answer belong in the same snapshot.
                    while let Some(Some(diffs)) = changes.next().now_or_never() {
                        self.apply(diffs).await;
                    }
                }
                Some(()) = self.fetching.next(), if !self.fetching.is_empty() => { self.fetch_replies(); continue; }
                changed = typing.changed() => if changed.is_err() { return },
                changed = shown.changed() => if changed.is_err() { return },
            }
            self.publish();
        }
    }

    fn load_older(&mut self, count: u16) {
        if self.paging.is_some() || self.back == Pagination::AtStart {
            return;
        }
        let timeline = self.timeline.clone();
        let room = self.room.clone();
        self.back = Pagination::Loading;
        self.paging = Some(
            async move {
                let page = async {
                    told_of(&room).await;
                    timeline.paginate_backwards(count).await.map_err(|error| timeline_trouble(&error))
                };
                within(HISTORY_TIMEOUT, page).await
            }
            .boxed(),
        );
        self.publish();
    }

    async fn apply(&mut self, diffs: Vec<VectorDiff<Arc<TimelineItem>>>) {
        for diff in &diffs {
            for item in values(diff) {
                if let Some(user) = convert::renamed(item) {
                    self.names.forget(user);
                }
            }
        }
        let mut people: HashSet<OwnedUserId> = HashSet::new();
        for item in diffs.iter().flat_map(values) {
            people.extend(convert::people_of(item).into_iter().filter(|user| !self.names.knows(user)).map(ToOwned::to_owned));
            self.want_reply(item);
        }
        for user in people {
            let member = self.room.get_member_no_sync(&user).await.ok().flatten();
            let (name, ambiguous) = member.as_ref().map_or((None, false), |member| (member.display_name(), member.name_ambiguous()));
            self.names.set(user, name, ambiguous);
        }
        for diff in diffs {
            self.mirror.apply(diff, &self.names);
        }
        self.fetch_replies();
    }

    fn want_reply(&mut self, item: &TimelineItem) {
        let Some(event) = item.as_event() else { return };
        let missing = event.content().in_reply_to().is_some_and(|reply| matches!(reply.event, TimelineDetails::Unavailable));
        if let Some(event_id) = event.event_id().filter(|_| missing)
            && self.asked.insert(event_id.to_owned())
        {
            self.replies.push_back(event_id.to_owned());
        }
    }

    fn fetch_replies(&mut self) {
        while self.fetching.len() < REPLY_FETCHES {
            // The newest first: they are on the screen.
            let Some(event_id) = self.replies.pop_back() else { return };
            let timeline = self.timeline.clone();
            self.fetching.push(
                async move {
                    let fetched = tokio::time::timeout(HISTORY_TIMEOUT, timeline.fetch_details_for_event(&event_id)).await;
                    if let Ok(Err(error)) = fetched {
                        tracing::debug!(%event_id, %error, "a replied-to event was not loaded");
                    }
                }
                .boxed(),
            );
        }
    }

    fn publish(&self) {
        let outlet = if self.key.thread_root.is_some() { &self.context.outlet.thread } else { &self.context.outlet.timeline };
        let typing = self.context.typing.borrow().get(&self.key.room_id).cloned().unwrap_or_default();
        let snapshot = Timeline {
            room_id: self.key.room_id.clone(),
            thread_root: self.key.thread_root.clone(),
            items: self.mirror.snapshot(),
            back: self.back.clone(),
            typing,
        };
        outlet.send_if_modified(|slot| {
            // Asked under the slot's lock: whoever is shown next publishes after us.
            let shown = self.context.shown.borrow();
            if shown.room.as_ref() != Some(&self.key.room_id) || (self.key.thread_root.is_some() && shown.thread != self.key.thread_root) {
                return false;
            }
            let same = slot.as_ref().is_some_and(|before| {
                before.room_id == snapshot.room_id
                    && before.thread_root == snapshot.thread_root
                    && before.back == snapshot.back
                    && before.typing == snapshot.typing
                    && before.items.len() == snapshot.items.len()
                    && before.items.iter().zip(snapshot.items.iter()).all(|(before, now)| Arc::ptr_eq(before, now))
            });
            if !same {
                *slot = Some(snapshot);
            }
            !same
        });
    }
}

fn values(diff: &VectorDiff<Arc<TimelineItem>>) -> Box<dyn Iterator<Item = &Arc<TimelineItem>> + Send + '_> {
    match diff {
        VectorDiff::Append { values } | VectorDiff::Reset { values } => Box::new(values.iter()),
        VectorDiff::PushFront { value }
        | VectorDiff::PushBack { value }
        | VectorDiff::Insert { value, .. }
        | VectorDiff::Set { value, .. } => Box::new(std::iter::once(value)),
        VectorDiff::Clear | VectorDiff::PopFront | VectorDiff::PopBack | VectorDiff::Remove { .. } | VectorDiff::Truncate { .. } => {
            Box::new(std::iter::empty())
        }
    }
}

/// The SDK's items as view items, in the same order.
struct Mirror {
    me: OwnedUserId,
    uniques: Arc<AtomicU64>,
    /// The SDK's names of items, as numbers that no other timeline uses.
    ids: HashMap<String, u64>,
    /// The last form of each item, so that its revision grows and equal forms stay one `Arc`.
    last: HashMap<u64, Arc<Item>>,
    items: Vec<Arc<Item>>,
}

impl Mirror {
    fn new(me: OwnedUserId, uniques: Arc<AtomicU64>) -> Self {
        Self { me, uniques, ids: HashMap::new(), last: HashMap::new(), items: Vec::new() }
    }

    fn convert(&mut self, item: &TimelineItem, names: &Names) -> Arc<Item> {
        let id = &item.unique_id().0;
        let unique = match self.ids.get(id) {
            Some(unique) => *unique,
            None => {
                let unique = self.uniques.fetch_add(1, Ordering::Relaxed);
                self.ids.insert(id.clone(), unique);
                unique
            }
        };
        let now = convert::item(item, unique, &self.me, names);
        self.keep(now)
    }

    /// The old form where nothing changed, else the new one with the next revision.
    fn keep(&mut self, mut now: Item) -> Arc<Item> {
        if let Some(before) = self.last.get(&now.unique) {
            now.revision = before.revision;
            if **before == now {
                return before.clone();
            }
            now.revision = before.revision.wrapping_add(1);
        }
        let now = Arc::new(now);
        self.last.insert(now.unique, now.clone());
        now
    }

    fn apply(&mut self, diff: VectorDiff<Arc<TimelineItem>>, names: &Names) {
        match diff {
            VectorDiff::Append { values } => {
                for value in &values {
                    let item = self.convert(value, names);
                    self.items.push(item);
                }
            }
            VectorDiff::Clear => self.items.clear(),
            VectorDiff::PushFront { value } => self.insert(0, &value, names),
            VectorDiff::PushBack { value } => self.insert(self.items.len(), &value, names),
            VectorDiff::PopFront => self.remove(0),
            VectorDiff::PopBack => {
                self.items.pop();
            }
            VectorDiff::Insert { index, value } => self.insert(index, &value, names),
            VectorDiff::Set { index, value } => {
                let item = self.convert(&value, names);
                match self.items.get_mut(index) {
                    Some(slot) => *slot = item,
                    None => tracing::error!(index, "a timeline change lies outside the timeline"),
                }
            }
            VectorDiff::Remove { index } => self.remove(index),
            VectorDiff::Truncate { length } => self.items.truncate(length),
            VectorDiff::Reset { values } => {
                self.items.clear();
                for value in &values {
                    let item = self.convert(value, names);
                    self.items.push(item);
                }
            }
        }
        self.forget();
    }

    fn insert(&mut self, index: usize, value: &TimelineItem, names: &Names) {
        let item = self.convert(value, names);
        self.items.insert(index.min(self.items.len()), item);
    }

    fn remove(&mut self, index: usize) {
        if index < self.items.len() {
            self.items.remove(index);
        }
    }

    /// Drops what is remembered of items that went long ago.
    fn forget(&mut self) {
        if self.last.len() > self.items.len().saturating_mul(2).saturating_add(200) {
            let here: HashSet<u64> = self.items.iter().map(|item| item.unique).collect();
            self.last.retain(|unique, _| here.contains(unique));
            self.ids.retain(|_, unique| here.contains(unique));
        }
    }

    fn messages(&self) -> usize {
        self.items.iter().filter(|item| item.id.is_some()).count()
    }

    fn snapshot(&self) -> Arc<[Arc<Item>]> {
        self.items.as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;
    use crate::client::view::{ItemKind, SendState};

    fn divider(unique: u64, timestamp_ms: u64) -> Item {
        Item {
            unique,
            revision: 0,
            id: None,
            sender: None,
            sender_name: String::new(),
            timestamp_ms,
            is_own: false,
            send_state: SendState::Sent,
            read_by: Vec::new(),
            kind: ItemKind::ReadMarker,
        }
    }

    #[test]
    fn an_equal_item_stays_the_same_arc_and_a_changed_one_gets_a_higher_revision() {
        let mut mirror = Mirror::new(owned_user_id!("@a:x"), Arc::new(AtomicU64::new(1)));
        let first = mirror.keep(divider(1, 10));
        let again = mirror.keep(divider(1, 10));
        assert!(Arc::ptr_eq(&first, &again));
        let changed = mirror.keep(divider(1, 11));
        assert_eq!(changed.revision, 1);
        let back = mirror.keep(divider(1, 10));
        assert_eq!(back.revision, 2, "going back to an earlier form is a change, too");
    }
}
