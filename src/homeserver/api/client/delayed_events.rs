//! Delayed events: looking at them, and sending, cancelling or restarting them (MSC4140). They are made by `/send` and `/state`.

use std::{net::IpAddr, sync::Arc};

use axum::Json;
use http::{Method, StatusCode};
use ruma::{
    RoomId,
    api::auth_scheme::{AccessToken, NoAccessToken},
};
use serde_json::{Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    events::{
        Ctx, EventError,
        delayed::{self, Action, DelayError, NewDelayed},
        policy,
    },
    store::{
        self, StoreError, rooms,
        transactions::{self, Key as TxnKey},
    },
    users::limits::{Key, Kind},
};

/// Characters of an ID: who knows one may act on the event.
const ID_CHARS: usize = 32;
/// The query parameter that delays.
const DELAY: &str = "org.matrix.msc4140.delay";

const LIST: &[&str] = &["/_matrix/client/unstable/org.matrix.msc4140/delayed_events"];
const UPDATE: &[&str] = &["/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}"];
const ACT: &[&str] = &["/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}"];

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, LIST, get_delayed_events)
        .add_raw_at::<NoAccessToken, _, _, _>(&Method::POST, UPDATE, update_delayed_event)
        .add_raw_at::<NoAccessToken, _, _, _>(&Method::POST, ACT, act_on_delayed_event)
}

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events`
async fn get_delayed_events(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let user = call.who.user;
    let found = node.store.read(move |db| {
        let mut told = Vec::new();
        for event in store::delayed::of_user(db, user)? {
            let content: Value = serde_json::from_str(&event.content).map_err(|e| StoreError::Data(e.to_string()))?;
            let mut one = json!({
                "delay_id": event.delay_id,
                "room_id": rooms::by_nid(db, event.room)?.room_id,
                "type": event.kind,
                "delay": event.delay_ms,
                "running_since": event.since_ms,
                "content": content,
            });
            if let (Some(state_key), Some(one)) = (event.state_key, one.as_object_mut()) {
                one.insert("state_key".into(), state_key.into());
            }
            told.push(one);
        }
        Ok::<_, StoreError>(told)
    });
    Ok(Json(json!({ "delayed_events": found.await? })))
}

/// `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}`
async fn update_delayed_event(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let action = body.get("action").ok_or_else(|| ApiError::missing_param("`action` is missing"))?;
    let action = action.as_str().ok_or_else(|| ApiError::bad_json("`action` is not a string"))?;
    act(&node, call.address, call.segment(0)?, action).await
}

/// `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/{action}`
async fn act_on_delayed_event(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    act(&node, call.address, call.segment(0)?, call.segment(1)?).await
}

/// Knowing the ID is enough: the client that made the event may be gone, and another part of it does this.
async fn act(node: &Arc<Node>, address: Option<IpAddr>, delay_id: &str, action: &str) -> ApiResult<Json<Value>> {
    if let Some(address) = address {
        node.limits.check(Kind::DelayedEvent, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    let action = match action {
        "restart" => Action::Restart,
        "cancel" => Action::Cancel,
        "send" => Action::Send,
        _ => return Err(ApiError::invalid_param("`action` is neither restart nor cancel nor send")),
    };
    let (ctx, delay_id) = (Ctx::of(node), delay_id.to_owned());
    // Strangers who guess do not reach the writer.
    let wanted = delay_id.clone();
    if node.store.read(move |db| store::delayed::get(db, &wanted)).await?.is_none() {
        return Err(ApiError::not_found("There is no such delayed event"));
    }
    policy::writing(&node.store, ctx, move |tx, ctx| delayed::act(tx, ctx, &delay_id, action)).await?;
    Ok(Json(json!({})))
}

/// How long an event is to be delayed, in milliseconds.
pub(super) fn asked(node: &Node, call: &RawCall) -> ApiResult<Option<u64>> {
    let Some(text) = call.parameter(DELAY) else { return Ok(None) };
    let refused = |errcode: &str, message: &str| {
        ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message).field("org.matrix.msc4140.errcode", errcode)
    };
    let most = node.config.max_event_delay_ms;
    if most == 0 {
        return Err(refused("M_MAX_DELAY_UNSUPPORTED", "This server delays no events"));
    }
    let delay_ms: u64 = text.parse().map_err(|_| ApiError::invalid_param("The delay is not a number of milliseconds"))?;
    if delay_ms > most {
        return Err(
            refused("M_MAX_DELAY_EXCEEDED", "The delay is longer than this server allows").field("org.matrix.msc4140.max_delay", most)
        );
    }
    Ok(Some(delay_ms))
}

/// Delays an event instead of sending it. `txn`: the transaction ID of a message event, and the endpoint as the scope of it.
pub(super) async fn schedule(
    node: &Arc<Node>,
    call: RawCall,
    room_id: &RoomId,
    (kind, state_key): (&str, Option<&str>),
    delay_ms: u64,
    txn: Option<(String, String)>,
) -> ApiResult<Json<Value>> {
    let content = Value::Object(call.object()?).to_string();
    let new = NewDelayed {
        delay_id: node.randomness.alphanumeric(ID_CHARS),
        kind: kind.to_owned(),
        state_key: state_key.map(ToOwned::to_owned),
        content,
        txn_id: txn.as_ref().map(|(_, txn_id)| txn_id.clone()),
        delay_ms,
    };
    let (ctx, room_id, who) = (Ctx::of(node), room_id.to_owned(), call.who);
    let delay_id = node.store.write(move |tx| {
        let scope = txn.as_ref().map(|(scope, _)| format!("delay/{scope}"));
        let key = scope.as_ref().zip(txn.as_ref()).map(|(scope, (_, txn_id))| TxnKey {
            user: who.user,
            device_id: who.device_id.as_str(),
            scope,
            txn_id,
        });
        if let Some(key) = key
            && let Some(delay_id) = transactions::get(&tx.reader(), key)?
        {
            return Ok(delay_id);
        }
        let delay_id = delayed::schedule(tx, &ctx, &who, &room_id, new)?;
        if let Some(key) = key {
            transactions::put(tx, key, &delay_id, ctx.now_ms)?;
        }
        Ok::<_, DelayError>(delay_id)
    });
    let delay_id = delay_id.await.map_err(|error| match error {
        DelayError::TooMany => ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", error.to_string())
            .field("org.matrix.msc4140.errcode", "M_MAX_DELAYED_EVENTS_EXCEEDED"),
        DelayError::Event(error) => EventError::into(error),
    })?;
    node.delayed.notify_one();
    Ok(Json(json!({ "delay_id": delay_id })))
}
