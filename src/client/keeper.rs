//! The keeper of one open timeline: a task that mirrors the SDK's items as view items and publishes snapshots while its
//! timeline is the one shown. Unchanged items keep their `Arc`; changed ones get a higher revision.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use eyeball_im::{Vector, VectorDiff};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use matrix_sdk::Room;
use matrix_sdk_ui::timeline::{EmbeddedEvent, Timeline as SdkTimeline, TimelineDetails, TimelineItem};
use ruma::{OwnedEventId, OwnedUserId};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    aside::Aside,
    beginning::oldest_shown,
    context::{Context, within},
    convert::{self, Names},
    mirror::{Mirror, values},
    opening::{Changes, find, open_patiently, timeline_trouble, told_of},
    past, thread,
    timelines::Key,
    words::Trouble,
};
use crate::client::{
    update::Update,
    view::{Connection, Item, ItemId, ItemKind, Pagination, Timeline},
};

/// A room that opens with fewer messages than this fetches older ones by itself.
const FIRST_SCREEN: usize = 30;
/// Longest wait for older history.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(60);
/// Replied-to events fetched at the same time.
const REPLY_FETCHES: usize = 4;
/// A page of history that takes longer than this while we are offline is shown without.
const HISTORY_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for messages that the SDK has loaded to come into its timeline.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How often a timeline that came out wrong is built again in one go.
const BUILDS: usize = 5;
/// A timeline that was right for this long may be built again as often as a new one.
const STEADY: Duration = Duration::from_secs(60);

/// Builds a timeline and keeps its snapshots until evicted or shut down; builds it again when it comes out wrong.
pub(super) async fn keep(
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
    let mut pages = 0;
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
            pages,
            paging: None,
            paging_since: Instant::now(),
            arriving: None,
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
        pages = keeper.pages.saturating_add(1);
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
    fetch: Option<Aside<Result<Option<EmbeddedEvent>, Trouble>>>,
}

struct Keeper {
    context: Context,
    key: Key,
    room: Room,
    timeline: Arc<SdkTimeline>,
    mirror: Mirror,
    names: Names,
    back: Pagination,
    /// Pages of history that have come, by this timeline and those before it.
    pages: u32,
    paging: Option<Aside<Result<bool, Trouble>>>,
    paging_since: Instant,
    /// What has yet to come before the beginning is reached, and for how long it is waited for.
    arriving: Option<(ItemId, Instant)>,
    past: Past,
    root: Root,
    /// Items whose replied-to event is not loaded.
    replies: VecDeque<OwnedEventId>,
    asked: HashSet<OwnedEventId>,
    fetching: FuturesUnordered<Aside<()>>,
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
                () = tokio::time::sleep_until(self.arriving.as_ref().map_or_else(Instant::now, |(_, until)| *until)), if self.arriving.is_some() => {
                    tracing::debug!(room_id = %self.key.room_id, "the oldest message is loaded and not shown");
                    self.arriving = None;
                    self.back = Pagination::AtStart;
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
                self.back = Pagination::Idle;
                self.pages = self.pages.saturating_add(1);
                // The SDK holds items back that it has loaded; the beginning is there when its mark is.
                if self.key.thread_root.is_some() {
                    if at_start {
                        self.back = Pagination::AtStart;
                    }
                } else if self.is_whole() {
                    self.reached_start().await;
                }
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
        self.root.fetch = Some(Aside::start(&self.context.tasks, "thread root", fetch));
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
        if self.paging.is_some() || self.arriving.is_some() || self.back == Pagination::AtStart {
            return;
        }
        let timeline = self.timeline.clone();
        let room = self.room.clone();
        self.back = Pagination::Loading;
        self.paging_since = Instant::now();
        self.paging = Some(Aside::start(&self.context.tasks, "history", async move {
            let page = async {
                told_of(&room).await;
                timeline.paginate_backwards(count).await.map_err(|error| timeline_trouble(&error))
            };
            within(HISTORY_TIMEOUT, page).await
        }));
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
        let was_whole = self.is_whole();
        let brings = diffs.iter().any(|diff| values(diff).next().is_some());
        let mut cut = false;
        for diff in diffs {
            cut |= matches!(diff, VectorDiff::Clear | VectorDiff::Reset { .. });
            self.mirror.apply(diff, &self.names);
        }
        // Where a message is being sent, the SDK takes what was before it away piece by piece.
        if cut || (was_whole && !self.is_whole()) {
            self.was_cut();
        }
        if brings && !self.past.items.is_empty() {
            self.overlap();
        }
        match &self.arriving {
            Some((event, _)) if self.mirror.has(event) => {
                self.arriving = None;
                self.back = Pagination::AtStart;
            }
            Some(_) => {}
            None if self.back == Pagination::Idle && self.key.thread_root.is_none() && self.is_whole() => self.reached_start().await,
            None => {}
        }
        self.fetch_replies();
    }

    /// The SDK says that nothing is older. What it has loaded may still be on its way into the timeline.
    async fn reached_start(&mut self) {
        match oldest_shown(&self.room).await.map(ItemId::Event) {
            Some(event) if !self.mirror.has(&event) => {
                self.arriving = Some((event, Instant::now() + ARRIVAL));
                self.back = Pagination::Loading;
            }
            _ => self.back = Pagination::AtStart,
        }
    }

    /// Of the cached history, what the timeline has got by now is not shown a second time.
    fn overlap(&mut self) {
        let here: HashSet<&ItemId> = self.mirror.items().iter().filter_map(|item| item.id.as_ref()).collect();
        self.past.items.retain(|item| item.id.as_ref().is_none_or(|id| !here.contains(id)));
    }

    fn is_whole(&self) -> bool {
        self.mirror.items().first().is_some_and(|item| item.kind == ItemKind::TimelineStart)
    }

    /// After a long absence the SDK lets go of what it had and keeps the newest events alone: the rest can be had again.
    fn was_cut(&mut self) {
        let at_start = self.back == Pagination::AtStart || self.arriving.take().is_some();
        if at_start && !self.is_whole() {
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
            self.fetching.push(Aside::start(&self.context.tasks, "replied-to event", async move {
                let fetched = tokio::time::timeout(HISTORY_TIMEOUT, timeline.fetch_details_for_event(&event_id)).await;
                if let Ok(Err(error)) = fetched {
                    tracing::debug!(%event_id, %error, "a replied-to event was not loaded");
                }
            }));
        }
    }

    fn is_shown(&self) -> bool {
        let shown = self.context.shown.borrow();
        shown.room.as_ref() == Some(&self.key.room_id) && (self.key.thread_root.is_none() || shown.thread == self.key.thread_root)
    }

    fn publish(&self) {
        if !self.is_shown() {
            return;
        }
        let outlet = if self.key.thread_root.is_some() { &self.context.outlet.thread } else { &self.context.outlet.timeline };
        let typing = self.context.typing.borrow().get(&self.key.room_id).cloned().unwrap_or_default();
        let snapshot = Timeline {
            room_id: self.key.room_id.clone(),
            thread_root: self.key.thread_root.clone(),
            items: self.items(),
            back: self.back.clone(),
            pages: self.pages,
            typing,
        };
        outlet.send_if_modified(|slot| {
            // Asked again under the slot's lock: whoever is shown next publishes after us.
            if !self.is_shown() {
                return false;
            }
            let same = slot.as_ref().is_some_and(|before| {
                before.room_id == snapshot.room_id
                    && before.thread_root == snapshot.thread_root
                    && before.back == snapshot.back
                    && before.pages == snapshot.pages
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

/// The outcome of work that may not be there. Cancel-safe: it stays where it is.
async fn pending_or<T>(work: &mut Option<Aside<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
