//! Sending events to a room.

use std::{net::IpAddr, sync::Arc};

use axum::Json;
use http::Method;
use ruma::{
    OwnedRoomId, RoomId, UserId,
    api::{
        auth_scheme::AccessToken,
        client::{message::send_message_event::v3 as send_message_event, state::send_state_event::v3 as send_state_event},
    },
};
use serde_json::{Value, json};

use super::{
    super::{
        super::{
            call::{RawCall, Routes},
            error::{ApiError, ApiResult},
        },
        delayed_events,
    },
    change,
};
use crate::homeserver::{
    Node,
    events::{self, Draft, EventError, Txn},
    federation::membership::{self, Invite},
    sync::presence,
    types::Requester,
    users::limits::{Key, Kind},
};

/// The forms of the state paths without a state key, which is then empty.
const WITHOUT_STATE_KEY: [&str; 4] = [
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<send_message_event::Request, _, _, _>(send_message_event)
        .add_raw::<send_state_event::Request, _, _, _>(send_state_event)
        .add_raw_at::<AccessToken, _, _, _>(&Method::PUT, &WITHOUT_STATE_KEY, send_state_event)
}

/// Bounds how fast a user fills rooms from the network. Whoever is on the Unix socket owns the machine.
fn may_send(node: &Node, who: &Requester, address: Option<IpAddr>) -> ApiResult<()> {
    match address {
        Some(_) => node.limits.check(Kind::Send, Key::User(who.user)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

/// The time that an application service says that something was sent at (Application Service API, "Timestamp massaging").
fn timestamp(call: &RawCall) -> ApiResult<Option<u64>> {
    let Some(ts) = call.parameter("ts").filter(|_| call.who.application.is_some()) else { return Ok(None) };
    let fits = |ms: &u64| ruma::UInt::try_from(*ms).is_ok();
    ts.parse().ok().filter(fits).map(Some).ok_or_else(|| ApiError::invalid_param("`ts` is not a time in milliseconds"))
}

fn room_id(call: &RawCall) -> ApiResult<OwnedRoomId> {
    RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("This is not a room ID"))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
async fn send_message_event(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    may_send(&node, &call.who, call.address)?;
    let room_id = room_id(&call)?;
    let (kind, txn_id) = (call.segment(1)?.to_owned(), call.segment(2)?.to_owned());
    let scope = format!("send/{room_id}/{kind}");
    if let Some(delay_ms) = delayed_events::asked(&node, &call)? {
        return delayed_events::schedule(&node, call, &room_id, (&kind, None), delay_ms, Some((scope, txn_id))).await;
    }
    let mut draft = Draft::from_client(call.who.user_id.clone(), &kind, events::content_from_map(call.object()?)?);
    draft.timestamp_ms = timestamp(&call)?;
    draft.txn = Some(Txn { device_id: call.who.device_id.to_string(), scope, txn_id });
    let user = call.who.user;
    let sent = change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &room_id)?;
        events::append(tx, ctx, &room, draft)
    });
    let sent = sent.await?;
    presence::act(&node, user).await?;
    Ok(Json(json!({ "event_id": sent.event_id })))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn send_state_event(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    may_send(&node, &call.who, call.address)?;
    let room_id = room_id(&call)?;
    let kind = call.segment(1)?.to_owned();
    let state_key = call.segment(2).unwrap_or_default().to_owned();
    if kind == "m.room.create" {
        return Err(EventError::BadJson("A room has one create event".into()).into());
    }
    if let Some(delay_ms) = delayed_events::asked(&node, &call)? {
        return delayed_events::schedule(&node, call, &room_id, (&kind, Some(&state_key)), delay_ms, None).await;
    }
    if kind == "m.room.member"
        && let Some(invite) = invite_elsewhere(&node, &call, &room_id, &state_key)?
    {
        let event_id = membership::invite(&node, invite).await?;
        return Ok(Json(json!({ "event_id": event_id })));
    }
    let mut draft = Draft::state(call.who.user_id.clone(), &kind, &state_key, events::content_from_map(call.object()?)?);
    draft.timestamp_ms = timestamp(&call)?;
    let user = call.who.user;
    let sent = change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &room_id)?;
        events::append(tx, ctx, &room, draft)
    });
    let sent = sent.await?;
    presence::act(&node, user).await?;
    Ok(Json(json!({ "event_id": sent.event_id })))
}

/// The invite of a user of another server, which their server has to be asked about.
fn invite_elsewhere(node: &Node, call: &RawCall, room_id: &RoomId, target: &str) -> ApiResult<Option<Invite>> {
    let mut content = call.object()?;
    let Ok(target) = UserId::parse(target) else { return Ok(None) };
    if target.server_name() == node.config.server_name || content.get("membership").and_then(Value::as_str) != Some("invite") {
        return Ok(None);
    }
    let reason = content.remove("reason").and_then(|reason| reason.as_str().map(ToOwned::to_owned));
    let sender = call.who.user_id.clone();
    Ok(Some(Invite { room_id: room_id.to_owned(), sender, target, reason, extra: content }))
}
