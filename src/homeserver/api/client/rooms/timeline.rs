//! Reading a room's timeline: pages, single events, their surroundings, events by time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::{
        Direction,
        client::{
            context::get_context::v3 as get_context,
            filter::{LazyLoadOptions, RoomEventFilter},
            message::get_message_events::v3 as get_message_events,
            room::{get_event_by_timestamp::v1 as get_event_by_timestamp, get_room_event::v3 as get_room_event},
        },
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use super::{
    super::super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    look,
};
use crate::homeserver::{
    Node,
    events::{
        self, EventError, snapshot,
        view::{View, Viewer},
        visibility::{Access, History, enter},
    },
    rooms::filter::{Facts, passes},
    store::{
        Reader,
        events::{self as stored, Order, StoredEvent},
        state, users,
    },
    types::{EventNid, Requester, RoomHandle, StreamPos, Token},
};

/// Largest page.
const MAX_LIMIT: usize = 1000;
/// Events that one request looks at, however few of them pass the filter: the page then ends early, with a token to go on.
const MAX_SCANNED: usize = 4000;
/// Events read at once.
const BATCH: usize = 200;
/// How often one request asks other servers for history.
const MAX_ASKED: usize = 3;
/// How long a client waits for them.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_message_events::Request, _, _>(get_message_events)
        .add::<get_room_event::Request, _, _>(get_room_event)
        .add::<get_context::Request, _, _>(get_context)
        .add::<get_event_by_timestamp::Request, _, _>(get_event_by_timestamp)
}

pub(super) fn token(text: Option<&str>) -> ApiResult<Option<Token>> {
    text.map(str::parse).transpose().map_err(|_| ApiError::invalid_param("This is not a pagination token of this server"))
}

pub(super) fn bounded(limit: UInt, most: usize) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(most).min(most)
}

/// One page of what somebody may see of a timeline.
struct Page {
    events: Vec<StoredEvent>,
    /// Where to go on; `None` when there is nothing further.
    next: Option<Token>,
    /// How far it was read.
    reached: StreamPos,
}

/// A stretch of a timeline to be read.
struct Stretch<'a> {
    from: StreamPos,
    /// Stop here.
    to: Option<StreamPos>,
    order: Order,
    filter: &'a RoomEventFilter,
    limit: usize,
}

impl Stretch<'_> {
    fn read(&self, db: &Reader<'_>, room: &RoomHandle, history: &History<'_, '_>) -> Result<Page, EventError> {
        let mut page = Page { events: Vec::new(), next: None, reached: self.from };
        let (mut at, mut scanned) = (self.from, 0);
        loop {
            let batch = match self.order {
                Order::Backwards => stored::range(db, room.nid, self.to.unwrap_or(StreamPos(i64::MIN)), at, self.order, BATCH)?,
                Order::Forwards => stored::range(db, room.nid, at, self.to.unwrap_or(StreamPos(i64::MAX)), self.order, BATCH)?,
            };
            let exhausted = batch.len() < BATCH;
            for event in batch {
                let Some(pos) = event.pos else { continue };
                if page.events.len() == self.limit || scanned == MAX_SCANNED {
                    page.next = Some(Token(at));
                    return Ok(page);
                }
                scanned += 1;
                at = if self.order == Order::Backwards { StreamPos(pos.0 - 1) } else { pos };
                page.reached = at;
                if filtered(db, self.filter, &event)? && history.shows(&event)? {
                    page.events.push(event);
                }
            }
            if exhausted {
                return Ok(page);
            }
        }
    }
}

fn filtered(db: &Reader<'_>, filter: &RoomEventFilter, event: &StoredEvent) -> Result<bool, EventError> {
    if filter.types.is_none()
        && filter.senders.is_none()
        && filter.url_filter.is_none()
        && filter.not_types.is_empty()
        && filter.not_senders.is_empty()
    {
        return Ok(true);
    }
    let sender = users::user_id(db, event.sender)?;
    Ok(passes(filter, Facts { kind: &event.kind, sender: sender.as_str(), json: &event.json }))
}

/// True when the filter leaves this room out altogether.
fn leaves_out(filter: &RoomEventFilter, room: &RoomHandle) -> bool {
    filter.not_rooms.contains(&room.room_id) || filter.rooms.as_ref().is_some_and(|rooms| !rooms.contains(&room.room_id))
}

/// The membership events of the senders of these events, as of the newest of them.
fn senders(db: &Reader<'_>, events: &[&StoredEvent]) -> Result<Vec<EventNid>, EventError> {
    let Some(newest) = events.iter().max_by_key(|event| event.pos) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for sender in events.iter().map(|event| event.sender).collect::<BTreeSet<_>>() {
        let sender = users::user_id(db, sender)?;
        if let Some(key) = state::find_key(db, "m.room.member", sender.as_str())?
            && let Some(nid) = snapshot::key_after(db, newest, key)?
        {
            found.push(nid);
        }
    }
    Ok(found)
}

fn raw<T>(events: impl IntoIterator<Item = Result<Box<RawValue>, EventError>>) -> Result<Vec<Raw<T>>, EventError> {
    events.into_iter().map(|event| event.map(Raw::from_json)).collect()
}

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
///
/// Where what we have of the room's history ends, other servers are asked for more of it.
async fn get_message_events(node: Arc<Node>, call: Call<get_message_events::Request>) -> ApiResult<get_message_events::Response> {
    let (request, who) = (Arc::new(call.request), Arc::new(call.who));
    let ends = (token(request.from.as_deref())?, token(request.to.as_deref())?);
    let now_ms = node.clock.now_ms();
    let mut asked = 0;
    loop {
        let (request_, who_) = (Arc::clone(&request), Arc::clone(&who));
        let read = look(&node, move |db| messages(db, &request_, ends, &who_, now_ms)).await?;
        let Some(reached) = read.short_at.filter(|_| node.federation.is_enabled()) else { return Ok(read.response) };
        let earlier = node.federation.inbound.has_earlier(&read.room, reached).await?;
        if earlier && asked < MAX_ASKED && earlier_came(&node, &read.room, reached).await? {
            asked += 1;
            continue;
        }
        let mut response = read.response;
        if earlier {
            // Nobody answers now, which does not make it the room's beginning.
            response.end.get_or_insert_with(|| Token(read.reached).to_string());
        }
        return Ok(response);
    }
}

/// Fetches history from other servers, for a client that waits. True when some came.
async fn earlier_came(node: &Node, room: &RoomHandle, pos: StreamPos) -> ApiResult<bool> {
    match tokio::time::timeout(PATIENCE, node.federation.inbound.backfill(room, pos)).await {
        Ok(came) => Ok(came? > 0),
        Err(_) => Ok(false),
    }
}

/// A page, and what it says about the room's history.
struct Messages {
    response: get_message_events::Response,
    room: RoomHandle,
    /// How far it goes.
    reached: StreamPos,
    /// Events at or before this place were wanted and there were too few.
    short_at: Option<StreamPos>,
}

fn messages(
    db: &Reader<'_>,
    request: &get_message_events::Request,
    (from, to): (Option<Token>, Option<Token>),
    who: &Requester,
    now_ms: u64,
) -> Result<Messages, EventError> {
    let viewer = Viewer::of(who, now_ms);
    let room = events::room(db, &request.room_id)?;
    let access = enter(db, &room, viewer.user)?;
    let order = if request.dir == Direction::Forward { Order::Forwards } else { Order::Backwards };
    let start = match (from, order) {
        (Some(token), _) => token.0,
        (None, Order::Forwards) => StreamPos(i64::MIN),
        (None, Order::Backwards) => stored::newest_pos(db, room.nid)?.unwrap_or(StreamPos(0)),
    };
    let limit = bounded(request.limit, MAX_LIMIT).min(request.filter.limit.map_or(MAX_LIMIT, |limit| bounded(limit, MAX_LIMIT)));
    let start = match (access, order) {
        // Nothing after they went can be seen: no need to walk through it.
        (Access::Former { at, .. }, Order::Backwards) => start.min(at),
        _ => start,
    };
    let stretch = Stretch { from: start, to: to.map(|token| token.0), order, filter: &request.filter, limit: limit.max(1) };
    let history = History::new(db, &room, who.user, &who.user_id)?;
    let page = if leaves_out(&request.filter, &room) {
        Page { events: Vec::new(), next: None, reached: start }
    } else {
        stretch.read(db, &room, &history)?
    };
    let view = View::new(db, &room, &viewer)?;
    let mut response = get_message_events::Response::new();
    response.start = Token(start).to_string();
    response.end = page.next.map(|token| token.to_string());
    response.chunk = raw(page.events.iter().map(|event| view.event(event)))?;
    if matches!(request.filter.lazy_load_options, LazyLoadOptions::Enabled { .. }) {
        let members = senders(db, &page.events.iter().collect::<Vec<_>>())?;
        response.state = raw(members.into_iter().map(|nid| view.state(nid)))?;
    }
    // Who looks in from outside moves no other server to anything.
    let asks = order == Order::Backwards && page.next.is_none() && access == Access::Member && !leaves_out(&request.filter, &room);
    Ok(Messages { response, reached: page.reached, short_at: asks.then_some(start), room })
}

/// An event of a room that somebody may see; to them, what they may not see does not exist.
pub(super) fn seen(
    db: &Reader<'_>,
    room: &RoomHandle,
    history: &History<'_, '_>,
    event_id: &ruma::EventId,
) -> Result<StoredEvent, EventError> {
    let event = stored::by_id(db, event_id)?.filter(|event| event.room == room.nid);
    match event {
        Some(event) if history.shows(&event)? => Ok(event),
        _ => Err(EventError::NotFound("There is no such event in this room, or you may not see it".into())),
    }
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
async fn get_room_event(node: Arc<Node>, call: Call<get_room_event::Request>) -> ApiResult<get_room_event::Response> {
    let (request, who) = (call.request, call.who);
    let viewer = Viewer::of(&who, node.clock.now_ms());
    let event = look(&node, move |db| {
        let hidden = |_| EventError::NotFound("There is no such event, or you may not see it".into());
        let room = events::room(db, &request.room_id).map_err(hidden)?;
        let history = History::new(db, &room, who.user, &who.user_id)?;
        let event = seen(db, &room, &history, &request.event_id)?;
        View::new(db, &room, &viewer)?.event(&event)
    });
    Ok(get_room_event::Response::new(Raw::from_json(event.await?)))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
async fn get_context(node: Arc<Node>, call: Call<get_context::Request>) -> ApiResult<get_context::Response> {
    let (request, who) = (Arc::new(call.request), Arc::new(call.who));
    let now_ms = node.clock.now_ms();
    let (request_, who_) = (Arc::clone(&request), Arc::clone(&who));
    let read = look(&node, move |db| context(db, &request_, &who_, now_ms)).await?;
    let Some((room, reached)) = read.short_at.filter(|_| node.federation.is_enabled()) else { return Ok(read.response) };
    if node.federation.inbound.has_earlier(&room, reached).await? && earlier_came(&node, &room, reached).await? {
        return Ok(look(&node, move |db| context(db, &request, &who, now_ms)).await?.response);
    }
    Ok(read.response)
}

/// An event's surroundings, and whether there was less before it than was wanted.
struct Context {
    response: get_context::Response,
    short_at: Option<(RoomHandle, StreamPos)>,
}

fn context(db: &Reader<'_>, request: &get_context::Request, who: &Requester, now_ms: u64) -> Result<Context, EventError> {
    let viewer = Viewer::of(who, now_ms);
    let room = events::room(db, &request.room_id)?;
    let access = enter(db, &room, viewer.user)?;
    let history = History::new(db, &room, who.user, &who.user_id)?;
    let event = seen(db, &room, &history, &request.event_id)?;
    let pos = event.pos.unwrap_or(StreamPos(0));
    let limit = bounded(request.limit, MAX_LIMIT);
    let side = |order: Order, from: StreamPos, limit: usize| -> Result<(Vec<StoredEvent>, Token), EventError> {
        let page = Stretch { from, to: None, order, filter: &request.filter, limit }.read(db, &room, &history)?;
        let reached = page.events.last().and_then(|event| event.pos).map_or(from, |pos| match order {
            Order::Backwards => StreamPos(pos.0 - 1),
            Order::Forwards => pos,
        });
        Ok((page.events, page.next.unwrap_or(Token(reached))))
    };
    let (before, start) = side(Order::Backwards, StreamPos(pos.0 - 1), limit / 2)?;
    let (after, end) = side(Order::Forwards, pos, limit - limit / 2)?;
    let view = View::new(db, &room, &viewer)?;
    let all: Vec<&StoredEvent> = before.iter().chain([&event]).chain(&after).collect();
    let state = match request.filter.lazy_load_options {
        LazyLoadOptions::Enabled { .. } => lazy_state(db, &all)?,
        LazyLoadOptions::Disabled => snapshot::after(db, after.last().unwrap_or(&event))?.into_values().collect(),
    };
    let mut response = get_context::Response::new();
    response.start = Some(start.to_string());
    response.end = Some(end.to_string());
    response.events_before = raw(before.iter().map(|event| view.event(event)))?;
    response.events_after = raw(after.iter().map(|event| view.event(event)))?;
    response.event = Some(Raw::from_json(view.event(&event)?));
    response.state = raw(state.into_iter().map(|nid| view.state(nid)))?;
    let short = access == Access::Member && before.len() < limit / 2;
    drop(view);
    Ok(Context { response, short_at: short.then_some((room, pos)) })
}

/// The state after the newest of these events, with the members among their senders only.
fn lazy_state(db: &Reader<'_>, shown: &[&StoredEvent]) -> Result<Vec<EventNid>, EventError> {
    let Some(newest) = shown.iter().max_by_key(|event| event.pos) else { return Ok(Vec::new()) };
    let mut found = senders(db, shown)?;
    for (key, nid) in snapshot::after(db, newest)? {
        if state::key(db, key)?.0 != "m.room.member" {
            found.push(nid);
        }
    }
    Ok(found)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
async fn get_event_by_timestamp(
    node: Arc<Node>,
    call: Call<get_event_by_timestamp::Request>,
) -> ApiResult<get_event_by_timestamp::Response> {
    let (request, who) = (call.request, call.who);
    look(&node, move |db| {
        let room = events::room(db, &request.room_id)?;
        enter(db, &room, who.user)?;
        let history = History::new(db, &room, who.user, &who.user_id)?;
        let order = if request.dir == Direction::Forward { Order::Forwards } else { Order::Backwards };
        for event in stored::closest(db, room.nid, i64::from(request.ts.0), order, BATCH)? {
            if history.shows(&event)? {
                let ts = UInt::try_from(event.origin_server_ts).unwrap_or_default();
                return Ok(get_event_by_timestamp::Response::new(event.event_id, MilliSecondsSinceUnixEpoch(ts)));
            }
        }
        Err(EventError::NotFound("There is no event on that side of that time".into()))
    })
    .await
}
