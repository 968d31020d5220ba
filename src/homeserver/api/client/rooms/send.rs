//! Sending events to a room.

use std::{net::IpAddr, sync::Arc};

use ruma::{
    EventId,
    api::client::{message::send_message_event::v3 as send_message_event, state::send_state_event::v3 as send_state_event},
};

use super::{
    super::super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    change,
};
use crate::homeserver::{
    Node,
    events::{self, Draft, EventError, Txn},
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
        .add::<send_message_event::Request, _, _>(send_message_event)
        .add::<send_state_event::Request, _, _>(send_state_event)
        .add_at::<send_state_event::Request, _, _>(&WITHOUT_STATE_KEY, send_state_event)
}

/// Bounds how fast a user fills rooms from the network. Whoever is on the Unix socket owns the machine.
fn may_send(node: &Node, who: &Requester, address: Option<IpAddr>) -> ApiResult<()> {
    match address {
        Some(_) => node.limits.check(Kind::Send, Key::User(who.user)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
async fn send_message_event(node: Arc<Node>, call: Call<send_message_event::Request>) -> ApiResult<send_message_event::Response> {
    may_send(&node, &call.who, call.address)?;
    let request = call.request;
    let kind = request.event_type.to_string();
    let mut draft = Draft::message(call.who.user_id, &kind, events::content_from_json(request.body.json().get())?);
    if kind == "m.room.redaction" {
        // The builder puts it where the room version wants it.
        let named = draft.content.remove("redacts");
        draft.redacts = named.as_ref().and_then(|id| id.as_str()).and_then(|id| EventId::parse(id).ok());
    }
    draft.txn = Some(Txn {
        device_id: call.who.device_id.to_string(),
        scope: format!("send/{}/{kind}", request.room_id),
        txn_id: request.txn_id.to_string(),
    });
    let sent = change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        events::append(tx, ctx, &room, draft)
    });
    Ok(send_message_event::Response::new(sent.await?.event_id))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn send_state_event(node: Arc<Node>, call: Call<send_state_event::Request>) -> ApiResult<send_state_event::Response> {
    may_send(&node, &call.who, call.address)?;
    let request = call.request;
    let kind = request.event_type.to_string();
    if kind == "m.room.create" {
        return Err(EventError::Forbidden("A room has one create event".into()).into());
    }
    let content = events::content_from_json(request.body.json().get())?;
    let draft = Draft::state(call.who.user_id, &kind, &request.state_key, content);
    let sent = change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        events::append(tx, ctx, &room, draft)
    });
    Ok(send_state_event::Response::new(sent.await?.event_id))
}
