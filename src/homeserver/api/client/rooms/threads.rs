//! Thread subscriptions (MSC4306) and their history (MSC4308).

use std::sync::Arc;

use axum::Json;
use http::{Method, StatusCode};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, api::auth_scheme::AccessToken};
use serde_json::{Map, Value, json};

use super::{
    super::{
        super::{
            call::{RawCall, Routes},
            error::{ApiError, ApiResult},
        },
        login,
    },
    timeline::{seen, token},
};
use crate::homeserver::{
    Node,
    events::{
        self, EventError,
        visibility::{History, enter},
    },
    push,
    store::{
        Reader, StoreError, Tx, events as stored,
        threads::{self, Subscription},
    },
    sync::thread_changes,
    types::{Requester, RoomHandle, StreamPos},
};

const SUBSCRIPTION: &[&str] = &["/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{root}/subscription"];
const SUBSCRIPTIONS: &[&str] = &["/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"];

/// Changes on one page, where the client does not say and at most.
const PAGE: usize = 100;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, SUBSCRIPTION, get_subscription)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, SUBSCRIPTION, subscribe)
        .add_raw_at::<AccessToken, _, _, _>(&Method::DELETE, SUBSCRIPTION, unsubscribe)
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, SUBSCRIPTIONS, get_subscriptions)
}

/// A thread that somebody names.
#[derive(Debug)]
struct Named {
    room_id: OwnedRoomId,
    root: OwnedEventId,
}

impl Named {
    fn read(call: &RawCall) -> ApiResult<Self> {
        let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))?;
        let root = EventId::parse(call.segment(1)?).map_err(|_| ApiError::invalid_param("This is not an event ID"))?;
        Ok(Self { room_id, root })
    }

    /// The room, if the user may see the thread's root there. A thread that has no answers yet can be followed.
    fn find(&self, db: &Reader<'_>, who: &Requester) -> Result<RoomHandle, EventError> {
        let hidden = |error| match error {
            EventError::Forbidden(_) | EventError::NotFound(_) => EventError::NotFound("There is no such thread here".into()),
            other => other,
        };
        let room = events::room(db, &self.room_id).map_err(hidden)?;
        enter(db, &room, who.user).map_err(hidden)?;
        let history = History::new(db, &room, who.user, &who.user_id)?;
        seen(db, &room, &history, &self.root).map_err(hidden)?;
        Ok(room)
    }
}

/// Why a subscription stays as it is.
enum Refused {
    Event(EventError),
    NotInThread,
    Conflicting,
}

impl From<EventError> for Refused {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Event(error.into())
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Event(error) => error.into(),
            Refused::NotInThread => {
                Self::new(StatusCode::BAD_REQUEST, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "The event is not in this thread")
            }
            Refused::Conflicting => Self::new(
                StatusCode::CONFLICT,
                "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION",
                "The user stopped following the thread after this event",
            ),
        }
    }
}

/// `GET /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
async fn get_subscription(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let named = Named::read(&call)?;
    let found = node.store.read(move |db| {
        let room = named.find(db, &call.who)?;
        Ok::<_, EventError>(threads::get(db, call.who.user, room.nid, &named.root)?.filter(|subscription| subscription.subscribed))
    });
    let found = found.await?.ok_or_else(|| ApiError::not_found("You do not follow this thread"))?;
    Ok(Json(json!({ "automatic": found.automatic })))
}

/// `PUT /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
async fn subscribe(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let named = Named::read(&call)?;
    let cause = login::optional_text(&call.object()?, "automatic")?;
    let cause = cause.map(OwnedEventId::try_from).transpose().map_err(|_| ApiError::invalid_param("`automatic` is not an event ID"))?;
    let done = node.store.write(move |tx| -> Result<(), Refused> {
        let room = named.find(&tx.reader(), &call.who)?;
        let known = threads::get(&tx.reader(), call.who.user, room.nid, &named.root)?;
        let mut subscription = Subscription { subscribed: true, automatic: cause.is_some(), unsubscribed: None };
        if let Some(cause) = cause {
            let Some(event) = stored::by_id(&tx.reader(), &cause)?.filter(|event| event.room == room.nid) else {
                return Err(Refused::NotInThread);
            };
            if push::thread_of_event(&tx.reader(), &cause)? != named.root.as_str() {
                return Err(Refused::NotInThread);
            }
            // What the user knew of when they turned away must not bring them back.
            let turned_away = known.as_ref().and_then(|known| known.unsubscribed);
            if turned_away.is_some_and(|at| event.pos.is_none_or(|pos| pos <= at)) {
                return Err(Refused::Conflicting);
            }
        }
        match known {
            // A decision of the user's own outweighs one of a client.
            Some(known) if known.subscribed && (!known.automatic || subscription.automatic) => return Ok(()),
            Some(known) => subscription.unsubscribed = known.unsubscribed,
            None => {}
        }
        store(tx, &call.who, &room, &named.root, &subscription)
    });
    done.await?;
    Ok(Json(json!({})))
}

/// `DELETE /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
async fn unsubscribe(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let named = Named::read(&call)?;
    let done = node.store.write(move |tx| -> Result<(), Refused> {
        let room = named.find(&tx.reader(), &call.who)?;
        let gone = Subscription { subscribed: false, automatic: false, unsubscribed: Some(tx.position()) };
        if threads::is_subscribed(&tx.reader(), call.who.user, room.nid, &named.root)? {
            store(tx, &call.who, &room, &named.root, &gone)?;
        }
        Ok(())
    });
    done.await?;
    Ok(Json(json!({})))
}

fn store(tx: &mut Tx<'_>, who: &Requester, room: &RoomHandle, root: &EventId, subscription: &Subscription) -> Result<(), Refused> {
    let first = !threads::in_use(&tx.reader(), who.user)?;
    threads::set(tx, who.user, room.nid, root, subscription)?;
    if first {
        // From here on the rules for followed threads are among the user's rules: clients have to hear of it.
        let rules = push::rules(&tx.reader(), who.user, &who.user_id)?;
        push::set_rules(tx, who.user, rules)?;
    }
    Ok(())
}

/// `GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions`
async fn get_subscriptions(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    match call.parameter("dir") {
        Some("b") => {}
        Some(_) => return Err(ApiError::invalid_param("`dir` can only be `b`")),
        None => return Err(ApiError::missing_param("`dir` is missing")),
    }
    let limit = match call.parameter("limit") {
        None => PAGE,
        Some(limit) => {
            let limit = limit.parse::<usize>().ok().filter(|limit| *limit > 0);
            limit.ok_or_else(|| ApiError::invalid_param("`limit` is not a positive number"))?.min(PAGE)
        }
    };
    let (from, to) = (token(call.parameter("from"))?, token(call.parameter("to"))?);
    let (after, up_to) = (to.map_or(StreamPos(0), |to| to.0), from.map_or(StreamPos(i64::MAX), |from| from.0));
    let user = call.who.user;
    let (told, more) = node.store.read(move |db| thread_changes(db, user, after, up_to, limit)).await?;
    let mut answer: Map<String, Value> = told;
    answer.extend(more.map(|end| ("end".to_owned(), end.into())));
    Ok(Json(answer.into()))
}
