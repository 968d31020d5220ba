//! Events that relate to an event, and threads.

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, UInt,
    api::{
        Direction, IncomingRequest, Metadata,
        client::{
            relations::{
                get_relating_events::v1 as get_relating_events, get_relating_events_with_rel_type::v1 as with_rel_type,
                get_relating_events_with_rel_type_and_event_type::v1 as with_rel_type_and_event_type,
            },
            threads::get_threads::v1::{self as get_threads, IncludeThreads},
        },
        error::FromHttpRequestError,
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use super::{
    super::super::{
        call::{Call, Routes},
        error::ApiResult,
    },
    look,
    timeline::{bounded, seen, token},
};
use crate::homeserver::{
    Node,
    events::{
        self,
        view::{View, Viewer, ignored},
        visibility::{Access, History, enter},
    },
    store::{
        events::{self as stored, Order},
        relations::{self, Query},
    },
    types::{Requester, StreamPos, Token},
};

/// Largest page.
const MAX_LIMIT: usize = 500;
/// Page size for those who do not say.
const DEFAULT_LIMIT: usize = 20;
/// How far `recurse` follows relations of relations.
const RECURSION: u32 = 3;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_relating_events::Request, _, _>(get_relating_events)
        .add::<with_rel_type::Request, _, _>(get_relating_events_with_rel_type)
        .add::<with_rel_type_and_event_type::Request, _, _>(get_relating_events_with_rel_type_and_event_type)
        .add::<ThreadsRequest, _, _>(get_threads)
}

/// What the three forms of the endpoint have in common.
struct Asked {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    rel_type: Option<String>,
    kind: Option<String>,
    from: Option<String>,
    to: Option<String>,
    dir: Direction,
    limit: Option<UInt>,
    recurse: bool,
}

struct Found {
    chunk: Vec<Box<RawValue>>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    recursion_depth: Option<UInt>,
}

async fn relating(node: &Arc<Node>, who: Requester, asked: Asked) -> ApiResult<Found> {
    let viewer = Viewer::of(&who, node.clock.now_ms());
    let (from, to) = (token(asked.from.as_deref())?, token(asked.to.as_deref())?);
    look(node, move |db| {
        let room = events::room(db, &asked.room_id)?;
        enter(db, &room, who.user)?;
        let history = History::new(db, &room, who.user, &who.user_id)?;
        seen(db, &room, &history, &asked.event_id)?;
        let (first, last) = (StreamPos(i64::MIN), StreamPos(i64::MAX));
        let (from, to) = (from.map(|token| token.0), to.map(|token| token.0));
        let (after, up_to, order) = match asked.dir {
            Direction::Forward => (from.unwrap_or(first), to.unwrap_or(last), Order::Forwards),
            Direction::Backward => (to.unwrap_or(first), from.unwrap_or(last), Order::Backwards),
        };
        let limit = asked.limit.map_or(DEFAULT_LIMIT, |limit| bounded(limit, MAX_LIMIT)).max(1);
        let query = Query {
            room: room.nid,
            parent: &asked.event_id,
            rel_type: asked.rel_type.as_deref(),
            kind: asked.kind.as_deref(),
            depth: if asked.recurse { RECURSION } else { 1 },
            after,
            up_to,
            order,
            limit: limit + 1,
        };
        let view = View::new(db, &room, &viewer)?;
        let children = relations::list(db, &query)?;
        let (mut chunk, mut reached) = (Vec::new(), None);
        for child in children.iter().take(limit) {
            let event = stored::by_nid(db, *child)?;
            reached = event.pos;
            if history.shows(&event)? {
                chunk.push(view.event(&event)?);
            }
        }
        let next = reached.filter(|_| children.len() > limit).map(|pos| match order {
            Order::Forwards => Token(pos),
            Order::Backwards => Token(StreamPos(pos.0 - 1)),
        });
        Ok(Found {
            chunk,
            next_batch: next.map(|token| token.to_string()),
            prev_batch: asked.from,
            recursion_depth: asked.recurse.then(|| UInt::from(RECURSION)),
        })
    })
    .await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
async fn get_relating_events(node: Arc<Node>, call: Call<get_relating_events::Request>) -> ApiResult<get_relating_events::Response> {
    let request = call.request;
    let asked = Asked {
        room_id: request.room_id,
        event_id: request.event_id,
        rel_type: None,
        kind: None,
        from: request.from,
        to: request.to,
        dir: request.dir,
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = relating(&node, call.who, asked).await?;
    let mut response = get_relating_events::Response::new(found.chunk.into_iter().map(Raw::from_json).collect());
    (response.next_batch, response.prev_batch, response.recursion_depth) = (found.next_batch, found.prev_batch, found.recursion_depth);
    Ok(response)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
async fn get_relating_events_with_rel_type(node: Arc<Node>, call: Call<with_rel_type::Request>) -> ApiResult<with_rel_type::Response> {
    let request = call.request;
    let asked = Asked {
        room_id: request.room_id,
        event_id: request.event_id,
        rel_type: Some(request.rel_type.to_string()),
        kind: None,
        from: request.from,
        to: request.to,
        dir: request.dir,
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = relating(&node, call.who, asked).await?;
    let mut response = with_rel_type::Response::new(found.chunk.into_iter().map(Raw::from_json).collect());
    (response.next_batch, response.prev_batch, response.recursion_depth) = (found.next_batch, found.prev_batch, found.recursion_depth);
    Ok(response)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
async fn get_relating_events_with_rel_type_and_event_type(
    node: Arc<Node>,
    call: Call<with_rel_type_and_event_type::Request>,
) -> ApiResult<with_rel_type_and_event_type::Response> {
    let request = call.request;
    let asked = Asked {
        room_id: request.room_id,
        event_id: request.event_id,
        rel_type: Some(request.rel_type.to_string()),
        kind: Some(request.event_type.to_string()),
        from: request.from,
        to: request.to,
        dir: request.dir,
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = relating(&node, call.who, asked).await?;
    let mut response = with_rel_type_and_event_type::Response::new(found.chunk.into_iter().map(Raw::from_json).collect());
    (response.next_batch, response.prev_batch, response.recursion_depth) = (found.next_batch, found.prev_batch, found.recursion_depth);
    Ok(response)
}

/// A request for threads. `include` is optional in the specification and required by ruma.
struct ThreadsRequest(get_threads::Request);

impl Metadata for ThreadsRequest {
    const METHOD: http::Method = get_threads::Request::METHOD;
    const RATE_LIMITED: bool = get_threads::Request::RATE_LIMITED;
    type Authentication = <get_threads::Request as Metadata>::Authentication;
    type PathBuilder = <get_threads::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = get_threads::Request::PATH_BUILDER;
}

impl IncomingRequest for ThreadsRequest {
    type EndpointError = <get_threads::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = get_threads::Response;

    fn try_from_http_request<B: AsRef<[u8]>, S: AsRef<str>>(
        mut request: http::Request<B>,
        path_args: &[S],
    ) -> Result<Self, FromHttpRequestError> {
        let query = request.uri().query().unwrap_or_default();
        if !query.split('&').any(|pair| pair.starts_with("include=")) {
            let uri = format!("{}?include=all&{query}", request.uri().path());
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
            }
        }
        get_threads::Request::try_from_http_request(request, path_args).map(Self)
    }
}

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
async fn get_threads(node: Arc<Node>, call: Call<ThreadsRequest>) -> ApiResult<get_threads::Response> {
    let (ThreadsRequest(request), who) = (call.request, call.who);
    let viewer = Viewer::of(&who, node.clock.now_ms());
    let from = token(request.from.as_deref())?;
    if !matches!(request.include, IncludeThreads::All | IncludeThreads::Participated) {
        return Err(events::EventError::InvalidParam("`include` is neither `all` nor `participated`".into()).into());
    }
    look(&node, move |db| {
        let room = events::room(db, &request.room_id)?;
        // After they went, nothing counts: not even as a place in the list.
        let until = match enter(db, &room, who.user)? {
            Access::Former { at, .. } => at,
            Access::Member | Access::World => StreamPos(i64::MAX),
        };
        let history = History::new(db, &room, who.user, &who.user_id)?;
        let view = View::new(db, &room, &viewer)?;
        let limit = request.limit.map_or(DEFAULT_LIMIT, |limit| bounded(limit, MAX_LIMIT)).max(1);
        let participant = (request.include == IncludeThreads::Participated).then_some(who.user);
        let before = from.map_or(StreamPos(i64::MAX), |token| token.0);
        let roots = relations::threads(db, room.nid, participant, (before, until), &ignored(db, who.user)?, limit + 1)?;
        let mut response = get_threads::Response::new(Vec::new());
        for (root, newest) in roots.iter().take(limit) {
            let event = stored::by_nid(db, *root)?;
            if history.shows(&event)? {
                response.chunk.push(Raw::from_json(view.event(&event)?));
            }
            response.next_batch = (roots.len() > limit).then(|| Token(*newest).to_string());
        }
        Ok(response)
    })
    .await
}
