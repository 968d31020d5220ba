//! Live timelines of the rooms that are open, or were a moment ago.
//!
//! Each has a keeper task that mirrors the SDK's items as view items and publishes snapshots while its timeline is the one
//! shown. Unchanged items keep their `Arc`; changed ones get a higher revision. Evicted timelines give their memory back.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use eyeball_im::{Vector, VectorDiff};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use matrix_sdk::Room;
use matrix_sdk_ui::timeline::{
    EmbeddedEvent, RoomExt, Timeline as SdkTimeline, TimelineDetails, TimelineFocus, TimelineItem, TimelineReadReceiptTracking,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

use super::{
    context::{Context, Shown, within},
    convert::{self, Names},
    mirror::{Mirror, values},
    past, thread,
    words::{Trouble, one_line},
};
use crate::client::{
    update::Update,
    view::{Connection, Item, ItemId, ItemKind, Pagination, SyncPhase, Timeline},
};

/// Rooms whose timelines stay live, the shown one included.
const KEPT_ROOMS: usize = 3;
/// A room that opens with fewer messages than this fetches older ones by itself.
const FIRST_SCREEN: usize = 30;
/// Longest wait for older history.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(60);
/// Replied-to events fetched at the same time.
const REPLY_FETCHES: usize = 4;
/// A page of history that takes longer than this while we are offline is shown without.
const HISTORY_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for sync to tell of a room.
const TOLD_TIMEOUT: Duration = Duration::from_secs(15);
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

type Changes = BoxStream<'static, Vec<VectorDiff<Arc<TimelineItem>>>>;
type Built = (Arc<SdkTimeline>, Vector<Arc<TimelineItem>>, Changes);

/// How often a timeline that came out wrong is built again in one go.
const BUILDS: usize = 5;
/// A timeline that was right for this long may be built again as often as a new one.
const STEADY: Duration = Duration::from_secs(60);

async fn open(room: &Room, key: &Key) -> Result<Built, matrix_sdk_ui::timeline::Error> {
    let focus = match &key.thread_root {
        Some(root) => TimelineFocus::Thread { root_event_id: root.clone() },
        None => TimelineFocus::Live { hide_threaded_events: false },
    };
    let tracking =
        if key.thread_root.is_some() { TimelineReadReceiptTracking::Disabled } else { TimelineReadReceiptTracking::MessageLikeEvents };
    let timeline = Arc::new(room.timeline_builder().with_focus(focus).track_read_marker_and_receipts(tracking).build().await?);
    let (items, changes) = timeline.subscribe().await;
    Ok((timeline, items, changes.boxed()))
}

/// Opens a timeline. The SDK may have to ask the server whether the room is encrypted: without a connection that is waited for,
/// since the room has not gone away.
async fn open_patiently(context: &Context, room: &Room, key: &Key) -> Result<Built, String> {
    let mut session = context.outlet.session.subscribe();
    loop {
        match tokio::time::timeout(OPEN_TIMEOUT, open(room, key)).await {
            Ok(Ok(built)) => return Ok(built),
            Ok(Err(error)) => {
                tracing::warn!(room_id = %key.room_id, %error, "a timeline could not be opened");
                return Err(timeline_trouble(&error).to_string());
            }
            Err(_) if session.borrow().connection == Connection::Online => return Err("it takes too long to open".to_owned()),
            Err(_) => {
                if session.wait_for(|view| view.connection == Connection::Online).await.is_err() {
                    return Err("homeroom is stopping".to_owned());
                }
            }
        }
    }
}

/// The room, once sync has told of it: on a new device the screen may show a room that the list has not brought yet.
async fn find(context: &Context, room_id: &RoomId) -> Option<Room> {
    let mut updates = context.client.subscribe_to_all_room_updates();
    let mut session = context.outlet.session.subscribe();
    loop {
        let live = session.borrow_and_update().sync == SyncPhase::Live;
        let room = context.client.get_room(room_id);
        if room.is_some() || live {
            return room;
        }
        tokio::select! {
            update = updates.recv() => if matches!(update, Err(broadcast::error::RecvError::Closed)) { return None },
            changed = session.changed() => if changed.is_err() { return None },
        }
    }
}

/// Builds a timeline and keeps its snapshots until evicted or shut down; builds it again when it comes out wrong.
async fn keep(
    context: Context,
    key: Key,
    uniques: Arc<AtomicU64>,
    ready: watch::Sender<Option<Arc<SdkTimeline>>>,
    mut older: mpsc::Receiver<u16>,
) {
    let shutdown = context.tasks.shutdown().clone();
    let room = tokio::select! {
        room = find(&context, &key.room_id) => room,
        () = shutdown.wait() => return,
    };
    let Some(room) = room else {
        closed(&context, &key, "there is no such room any more").await;
        return;
    };
    let mut mirror = Mirror::new(context.me.clone(), uniques);
    let (mut builds, mut since) = (1, Instant::now());
    loop {
        let built = tokio::select! {
            built = open_patiently(&context, &room, &key) => built,
            () = shutdown.wait() => return,
        };
        let (timeline, items, changes) = match built {
            Ok(built) => built,
            Err(reason) => {
                closed(&context, &key, &reason).await;
                return;
            }
        };
        ready.send_replace(Some(timeline.clone()));
        let mut keeper = Keeper {
            mirror,
            names: Names::default(),
            back: Pagination::Idle,
            paging: None,
            paging_since: Instant::now(),
            past: Past::default(),
            root: Root::default(),
            replies: VecDeque::new(),
            asked: HashSet::new(),
            fetching: FuturesUnordered::new(),
            context: context.clone(),
            key: key.clone(),
            room: room.clone(),
            timeline,
            // A timeline that is wrong every time is better than none.
            trusting: builds >= BUILDS,
            suspect: false,
        };
        if keeper.run(items, changes, &mut older).await == Outcome::Ended {
            return;
        }
        builds = if since.elapsed() > STEADY { 1 } else { builds + 1 };
        since = Instant::now();
        tracing::debug!(room_id = %key.room_id, builds, "a timeline held events twice; building it again");
        mirror = keeper.mirror.anew();
    }
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

/// Waits until sync has told of the room, within reason. A room that we have just made or joined is open before that, and
/// history fetched then would come a second time with the sync.
async fn told_of(room: &Room) {
    let mut changes = room.subscribe_info();
    let told = async { while room.create_content().is_none() && changes.next().await.is_some() {} };
    if tokio::time::timeout(TOLD_TIMEOUT, told).await.is_err() {
        tracing::debug!(room_id = %room.room_id(), "sync tells nothing of the room");
    }
}

/// How keeping one SDK timeline ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Evicted, or stopped.
    Ended,
    /// It holds events twice.
    Wrong,
}

/// Cached history out of the SDK timeline's reach.
#[derive(Default)]
struct Past {
    items: Vec<Arc<Item>>,
    /// It has been looked for since the last page of history.
    read: bool,
}

/// The message that a thread begins with, where the SDK has not loaded it.
#[derive(Default)]
struct Root {
    item: Option<Arc<Item>>,
    fetch: Option<BoxFuture<'static, Result<Option<EmbeddedEvent>, Trouble>>>,
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
    paging_since: Instant,
    past: Past,
    root: Root,
    /// Items whose replied-to event is not loaded.
    replies: VecDeque<OwnedEventId>,
    asked: HashSet<OwnedEventId>,
    fetching: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Events have come since it was last asked whether they can be right.
    suspect: bool,
    /// Shows what there is without asking that.
    trusting: bool,
}

impl Keeper {
    async fn run(&mut self, items: Vector<Arc<TimelineItem>>, changes: Changes, older: &mut mpsc::Receiver<u16>) -> Outcome {
        self.apply(vec![VectorDiff::Reset { values: items }]).await;
        if self.is_wrong() {
            return Outcome::Wrong;
        }
        self.want_root();
        self.publish();
        if self.mirror.messages() < FIRST_SCREEN {
            self.load_older(u16::try_from(FIRST_SCREEN).unwrap_or(u16::MAX));
        }
        self.follow(changes, older).await
    }

    fn is_wrong(&mut self) -> bool {
        std::mem::take(&mut self.suspect) && !self.trusting && self.mirror.holds_an_event_twice()
    }

    async fn follow(&mut self, changes: Changes, older: &mut mpsc::Receiver<u16>) -> Outcome {
        tokio::pin!(changes);
        let mut typing = self.context.typing.subscribe();
        let mut shown = self.context.shown.subscribe();
        let mut session = self.context.outlet.session.subscribe();
        let mut around = self.context.outlet.timeline.subscribe();
        let shutdown = self.context.tasks.shutdown().clone();
        let mut online = session.borrow_and_update().connection == Connection::Online;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Outcome::Ended,
                diffs = changes.next() => {
                    let Some(mut diffs) = diffs else { return Outcome::Ended };
                    // Bursts become one snapshot.
                    while let Some(Some(more)) = changes.next().now_or_never() {
                        diffs.extend(more);
                    }
                    self.apply(diffs).await;
                }
                count = older.recv() => match count {
                    Some(count) => self.load_older(count),
                    None => return Outcome::Ended,
                },
                result = pending_or(&mut self.paging) => {
                    self.paging = None;
                    // Items that came with the answer belong in the same snapshot.
                    while let Some(Some(diffs)) = changes.next().now_or_never() {
                        self.apply(diffs).await;
                    }
                    self.paged(result).await;
                }
                () = tokio::time::sleep_until(self.paging_since + HISTORY_PATIENCE), if self.paging.is_some() && !online && !self.past.read => {
                    self.recall().await;
                }
                event = pending_or(&mut self.root.fetch) => {
                    self.root.fetch = None;
                    self.found_root(event);
                }
                Some(()) = self.fetching.next(), if !self.fetching.is_empty() => { self.fetch_replies(); continue; }
                changed = session.changed() => {
                    if changed.is_err() { return Outcome::Ended }
                    let now = session.borrow_and_update().connection == Connection::Online;
                    if now == online { continue }
                    online = now;
                    if online { self.reconnected(); }
                }
                changed = around.changed(), if self.key.thread_root.is_some() => if changed.is_err() { return Outcome::Ended },
                changed = typing.changed() => if changed.is_err() { return Outcome::Ended },
                changed = shown.changed() => if changed.is_err() { return Outcome::Ended },
            }
            if self.is_wrong() {
                return Outcome::Wrong;
            }
            self.publish();
        }
    }

    /// A page of history came, or did not.
    async fn paged(&mut self, result: Result<bool, Trouble>) {
        match result {
            Ok(at_start) => {
                self.past = Past::default();
                // The SDK holds items back that it has loaded; the beginning is there when its mark is.
                let at_start = at_start && (self.key.thread_root.is_some() || self.is_whole());
                self.back = if at_start { Pagination::AtStart } else { Pagination::Idle };
            }
            Err(trouble) => {
                self.back = Pagination::Failed { reason: trouble.to_string() };
                if trouble.is_connection() && !self.past.read {
                    self.recall().await;
                }
            }
        }
    }

    /// What could not be had without a connection is asked for again.
    fn reconnected(&mut self) {
        if matches!(self.back, Pagination::Failed { .. }) {
            self.load_older(u16::try_from(FIRST_SCREEN).unwrap_or(u16::MAX));
        }
        self.want_root();
    }

    /// Takes what is cached of the history that cannot be loaded now.
    async fn recall(&mut self) {
        self.past.read = true;
        if self.key.thread_root.is_some() {
            return;
        }
        match past::read(&self.context.client, &self.key.room_id).await {
            Ok(cached) => {
                let items = past::items(cached, &self.timeline, &mut self.mirror, &self.context.me, &self.names).await;
                self.past.items = items.into_iter().map(|item| self.mirror.keep(item)).collect();
            }
            Err(trouble) => tracing::warn!(room_id = %self.key.room_id, %trouble, "cached history could not be read"),
        }
    }

    /// Fetches the thread's first message where nothing shows it.
    fn want_root(&mut self) {
        let Some(root) = self.key.thread_root.clone() else { return };
        let id = ItemId::Event(root.clone());
        let here = self.mirror.items().iter().any(|item| item.id.as_ref() == Some(&id));
        if here || self.root.item.is_some() || self.root.fetch.is_some() || self.around().iter().any(|item| item.id.as_ref() == Some(&id)) {
            return;
        }
        let (room, timeline) = (self.room.clone(), self.timeline.clone());
        let fetch = async move {
            let event = within(HISTORY_TIMEOUT, room.load_or_fetch_event(&root, None)).await?;
            timeline.make_replied_to(event).await.map_err(|error| timeline_trouble(&error))
        };
        self.root.fetch = Some(fetch.boxed());
    }

    fn found_root(&mut self, event: Result<Option<EmbeddedEvent>, Trouble>) {
        match (event, &self.key.thread_root) {
            (Ok(Some(event)), Some(root)) => {
                let unique = self.mirror.unique(Some(&ItemId::Event(root.clone())));
                let item = convert::embedded(event, unique, &self.context.me, &self.names);
                self.root.item = Some(self.mirror.keep(item));
            }
            (Ok(_), _) => {}
            (Err(trouble), _) => tracing::debug!(room_id = %self.key.room_id, %trouble, "the first message of a thread was not loaded"),
        }
    }

    /// The room's own timeline, as it is shown beside a thread.
    fn around(&self) -> Arc<[Arc<Item>]> {
        let shown = self.context.outlet.timeline.borrow();
        shown.as_ref().filter(|timeline| timeline.room_id == self.key.room_id).map(|timeline| timeline.items.clone()).unwrap_or_default()
    }

    /// What is shown, oldest first.
    fn items(&self) -> Arc<[Arc<Item>]> {
        match &self.key.thread_root {
            Some(root) => thread::merged(root, self.root.item.as_ref(), self.mirror.items(), &self.around()).into(),
            None if self.past.items.is_empty() => self.mirror.items().into(),
            None => self.past.items.iter().chain(self.mirror.items()).cloned().collect(),
        }
    }

    fn load_older(&mut self, count: u16) {
        if self.paging.is_some() || self.back == Pagination::AtStart {
            return;
        }
        let timeline = self.timeline.clone();
        let room = self.room.clone();
        self.back = Pagination::Loading;
        self.paging_since = Instant::now();
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
        // Only what comes new can be there twice.
        self.suspect |= diffs.iter().any(|diff| !matches!(diff, VectorDiff::Set { .. }) && values(diff).next().is_some());
        let cut = diffs.iter().any(|diff| matches!(diff, VectorDiff::Clear | VectorDiff::Reset { .. }));
        for diff in diffs {
            self.mirror.apply(diff, &self.names);
        }
        if cut {
            self.was_cut();
        }
        if self.back == Pagination::Idle && self.is_whole() {
            self.back = Pagination::AtStart;
        }
        self.fetch_replies();
    }

    fn is_whole(&self) -> bool {
        self.mirror.items().first().is_some_and(|item| item.kind == ItemKind::TimelineStart)
    }

    /// After a long absence the SDK lets go of what it had and keeps the newest events alone: the rest can be had again.
    fn was_cut(&mut self) {
        if self.back == Pagination::AtStart && !self.is_whole() {
            self.back = Pagination::Idle;
            if self.mirror.messages() < FIRST_SCREEN {
                self.load_older(u16::try_from(FIRST_SCREEN).unwrap_or(u16::MAX));
            }
        }
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
            items: self.items(),
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

/// The result of a future that may not be there. Cancel-safe: it stays where it is.
async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
