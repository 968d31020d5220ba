//! Receipts, read markers and typing.

use std::{sync::Arc, time::Duration};

use axum::Json;
use ruma::{
    RoomId,
    api::client::{
        read_marker::set_read_marker, receipt::create_receipt, receipt::create_receipt::v3::ReceiptType, typing::create_typing_event,
    },
    events::receipt::ReceiptThread,
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{Call, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    account_data::own,
    not_suspended,
};
use crate::homeserver::{
    Node,
    push::reading::{self, Kind, ReadError},
    sync::typing::{self, TypingError},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<create_receipt::v3::Request, _, _>(create_receipt)
        .add::<set_read_marker::v3::Request, _, _>(set_read_marker)
        .add_raw::<create_typing_event::v3::Request, _, _, _>(create_typing_event)
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotInRoom => Self::forbidden(error.to_string()),
            ReadError::NoSuchEvent => Self::not_found(error.to_string()),
            ReadError::WrongThread => Self::invalid_param(error.to_string()),
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<TypingError> for ApiError {
    fn from(error: TypingError) -> Self {
        match error {
            TypingError::NotInRoom => Self::forbidden(error.to_string()),
            TypingError::Store(error) => error.into(),
        }
    }
}

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
async fn create_receipt(node: Arc<Node>, call: Call<create_receipt::v3::Request>) -> ApiResult<create_receipt::v3::Response> {
    let (request, who, now_ms) = (call.request, call.who, node.clock.now_ms());
    let kind = match request.receipt_type {
        ReceiptType::Read => Some(Kind::Public),
        ReceiptType::ReadPrivate => Some(Kind::Private),
        ReceiptType::FullyRead if request.thread == ReceiptThread::Unthreaded => None,
        ReceiptType::FullyRead => return Err(ApiError::invalid_param("m.fully_read has no threads")),
        _ => return Err(ApiError::invalid_param("Unknown receipt type")),
    };
    if request.thread.as_str().is_some_and(|thread| thread.is_empty() || thread.len() > 255) {
        return Err(ApiError::invalid_param("`thread_id` is empty or too long"));
    }
    let moved = node.store.write(move |tx| match kind {
        Some(kind) => reading::receipt(tx, &who, &request.room_id, &request.event_id, kind, &request.thread, now_ms),
        None => reading::fully_read(tx, &who, &request.room_id, &request.event_id),
    });
    moved.await?;
    Ok(create_receipt::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
async fn set_read_marker(node: Arc<Node>, call: Call<set_read_marker::v3::Request>) -> ApiResult<set_read_marker::v3::Response> {
    let (request, who, now_ms) = (call.request, call.who, node.clock.now_ms());
    let moved = node.store.write(move |tx| {
        let room = &request.room_id;
        if let Some(event) = &request.fully_read {
            reading::fully_read(tx, &who, room, event)?;
        }
        for (event, kind) in [(&request.read_receipt, Kind::Public), (&request.private_read_receipt, Kind::Private)] {
            if let Some(event) = event {
                reading::receipt(tx, &who, room, event, kind, &ReceiptThread::Unthreaded, now_ms)?;
            }
        }
        Ok::<_, ReadError>(())
    });
    moved.await?;
    Ok(set_read_marker::v3::Response::new())
}

/// How long typing lasts where the client does not say.
const TYPING_MS: u64 = 30_000;

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
async fn create_typing_event(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    // ruma insists on `timeout`, which the specification does not.
    let part = |index: usize| call.path.get(index).map(String::as_str).unwrap_or_default();
    own(&call.who, part(1))?;
    let room_id = RoomId::parse(part(0)).map_err(|_| ApiError::invalid_param("Not a room ID"))?;
    let body = call.object()?;
    let time = match (body.get("typing").and_then(Value::as_bool), body.get("timeout").map(Value::as_u64)) {
        (None, _) => return Err(ApiError::missing_param("`typing` is missing")),
        (Some(false), _) => None,
        (Some(true), None) => Some(TYPING_MS),
        (Some(true), Some(Some(ms))) => Some(ms),
        (Some(true), Some(None)) => return Err(ApiError::invalid_param("`timeout` is not a number of milliseconds")),
    };
    if time.is_some() {
        not_suspended(&node, &call.who).await?;
    }
    typing::set(&node, &call.who, &room_id, time.map(Duration::from_millis)).await?;
    Ok(Json(json!({})))
}
