//! What other servers read of rooms: events, states, histories.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId, UInt,
    api::{
        Direction,
        federation::{
            authorization::get_event_authorization::v1 as get_event_authorization,
            backfill::get_backfill::v1 as get_backfill,
            event::{
                get_event::v1 as get_event, get_event_by_timestamp::v1 as get_event_by_timestamp,
                get_missing_events::v1 as get_missing_events, get_room_state::v1 as get_room_state,
                get_room_state_ids::v1 as get_room_state_ids,
            },
        },
    },
};
use serde_json::value::RawValue;

use super::{call::Origin, may};
use crate::homeserver::{
    Node,
    api::{
        call::{Call, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    events::EventError,
    federation::{
        membership::lists_of,
        reading::{self, Whole},
    },
    store::{Reader, events::Order},
    types::EventNid,
    users::limits::Kind,
};

/// Events of an answer when nobody says how many.
const DEFAULT_LIMIT: usize = 10;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_event::Request, _, _>(get_event)
        .add_raw::<get_event_authorization::Request, _, _, _>(get_event_authorization)
        .add_raw::<get_room_state::Request, _, _, _>(get_room_state)
        .add::<get_room_state_ids::Request, _, _>(get_room_state_ids)
        .add::<get_backfill::Request, _, _>(get_backfill)
        .add::<get_missing_events::Request, _, _>(get_missing_events)
        .add::<get_event_by_timestamp::Request, _, _>(get_event_by_timestamp)
}

fn raw(json: String) -> ApiResult<Box<RawValue>> {
    RawValue::from_string(json).map_err(ApiError::internal)
}

fn all(json: Vec<String>) -> ApiResult<Vec<Box<RawValue>>> {
    json.into_iter().map(raw).collect()
}

fn limit(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(DEFAULT_LIMIT)
}

fn now(node: &Node) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(node.clock.now_ms()).unwrap_or_default())
}

/// `GET /_matrix/federation/v1/event/{eventId}`
async fn get_event(node: Arc<Node>, call: Call<get_event::Request, Origin>) -> ApiResult<get_event::Response> {
    let json = node.store.read(move |db| reading::event(db, &call.who, &call.request.event_id)).await?;
    Ok(get_event::Response::new(node.config.server_name.clone(), now(&node), raw(json)?))
}

/// Works out a long answer, a piece at a time: between them others can read, and few are worked on at a time.
async fn worked_out<F>(node: &Node, origin: &Origin, begin: F) -> ApiResult<(Vec<EventNid>, Vec<EventNid>)>
where
    F: FnOnce(&Reader<'_>) -> Result<Whole, EventError> + Send + 'static,
{
    may(node, Kind::Whole, origin)?;
    let _place = node.federation.wholes.acquire().await.map_err(ApiError::internal)?;
    let mut whole = node.store.read(begin).await?;
    loop {
        let stepped = node.store.read(move |db| {
            let more = whole.step(db)?;
            Ok::<_, EventError>((whole, more))
        });
        match stepped.await? {
            (on, true) => whole = on,
            (complete, false) => return Ok(complete.chain()),
        }
    }
}

/// Sends lists of events while they are read.
fn streamed(node: &Node, lists: Vec<(&'static str, Vec<EventNid>)>) -> Response {
    let ends = |text: &'static str| stream::once(async move { Ok(Bytes::from_static(text.as_bytes())) });
    let body = ends("{").chain(lists_of(node.store.clone(), lists)).chain(ends("}"));
    let body = body.inspect_err(|error| tracing::warn!(%error, "an answer to another server breaks off"));
    ([(http::header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
async fn get_event_authorization(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Response> {
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
    let event_id = EventId::parse(call.segment(1)?).map_err(|_| ApiError::invalid_param("This is not an event ID"))?;
    let who = call.who.clone();
    let (_, chain) = worked_out(&node, &call.who, move |db| reading::whole_auth(db, &who, &room_id, &event_id)).await?;
    Ok(streamed(&node, vec![("auth_chain", chain)]))
}

/// `GET /_matrix/federation/v1/state/{roomId}`
async fn get_room_state(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Response> {
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
    let event_id = call.parameter("event_id").ok_or_else(|| ApiError::missing_param("event_id is missing"))?;
    let event_id = EventId::parse(event_id).map_err(|_| ApiError::invalid_param("This is not an event ID"))?;
    let who = call.who.clone();
    let (state, chain) = worked_out(&node, &call.who, move |db| reading::whole_state(db, &who, &room_id, &event_id)).await?;
    Ok(streamed(&node, vec![("auth_chain", chain), ("pdus", state)]))
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
async fn get_room_state_ids(node: Arc<Node>, call: Call<get_room_state_ids::Request, Origin>) -> ApiResult<get_room_state_ids::Response> {
    let (request, who) = (call.request, call.who.clone());
    let whole = worked_out(&node, &call.who, move |db| reading::whole_state(db, &who, &request.room_id, &request.event_id));
    let (state, chain) = whole.await?;
    let (chain, state) = node.store.read(move |db| Ok::<_, EventError>((reading::ids(db, &chain)?, reading::ids(db, &state)?))).await?;
    Ok(get_room_state_ids::Response::new(chain, state))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
async fn get_backfill(node: Arc<Node>, call: Call<get_backfill::Request, Origin>) -> ApiResult<get_backfill::Response> {
    let (request, who) = (call.request, call.who);
    let found = node.store.read(move |db| reading::backfill(db, &who, &request.room_id, &request.v, limit(request.limit))).await?;
    Ok(get_backfill::Response::new(node.config.server_name.clone(), now(&node), all(found)?))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
async fn get_missing_events(node: Arc<Node>, call: Call<get_missing_events::Request, Origin>) -> ApiResult<get_missing_events::Response> {
    let (request, who) = (call.request, call.who);
    let found = node.store.read(move |db| {
        let asked = reading::Missing {
            earliest: &request.earliest_events,
            latest: &request.latest_events,
            limit: limit(request.limit),
            min_depth: i64::from(request.min_depth),
        };
        reading::missing_events(db, &who, &request.room_id, &asked)
    });
    Ok(get_missing_events::Response::new(all(found.await?)?))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
async fn get_event_by_timestamp(
    node: Arc<Node>,
    call: Call<get_event_by_timestamp::Request, Origin>,
) -> ApiResult<get_event_by_timestamp::Response> {
    let (request, who) = (call.request, call.who);
    let order = if request.dir == Direction::Forward { Order::Forwards } else { Order::Backwards };
    let (event_id, ts) =
        node.store.read(move |db| reading::timestamp_to_event(db, &who, &request.room_id, i64::from(request.ts.0), order)).await?;
    let ts = MilliSecondsSinceUnixEpoch(UInt::try_from(ts).unwrap_or_default());
    Ok(get_event_by_timestamp::Response::new(event_id, ts))
}
