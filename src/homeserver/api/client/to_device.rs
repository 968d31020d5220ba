//! Send-to-device messaging.

use std::{collections::BTreeMap, sync::Arc};

use axum::Json;
use ruma::{OwnedUserId, api::client::to_device::send_event_to_device};
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    not_suspended,
};
use crate::homeserver::{
    Node,
    federation::edus::outgoing,
    store::{self, StoreError},
    types::Requester,
};

/// Largest content of one message, as the specification bounds events.
const CONTENT_BYTES: usize = 65_536;
/// Messages that one request may send.
const MESSAGES: usize = 10_000;
/// Longest event type, transaction ID and device ID.
const NAME_BYTES: usize = 255;
/// The endpoint's name among transactions.
const SCOPE: &str = "sendToDevice";

type Messages = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<send_event_to_device::v3::Request, _, _, _>(send_event_to_device)
}

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
async fn send_event_to_device(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    #[derive(serde::Deserialize)]
    struct Body {
        messages: Messages,
    }
    let (kind, txn_id) = (call.segment(0)?.to_owned(), call.segment(1)?.to_owned());
    let object: Body = serde_json::from_slice(&call.body).map_err(|e| {
        if e.is_data() {
            ApiError::bad_json(e.to_string())
        } else {
            ApiError::new(http::StatusCode::BAD_REQUEST, "M_NOT_JSON", e.to_string())
        }
    })?;
    check(&kind, &txn_id, &object.messages)?;
    // Devices are verified as ever (Client-Server API, "Account suspension"), and encrypted sessions with others kept alive: without
    // both, messages that may be read could not be.
    if kind != "m.room.encrypted"
        && !kind.starts_with("m.key.verification.")
        && object.messages.keys().any(|user_id| *user_id != call.who.user_id)
    {
        not_suspended(&node, &call.who).await?;
    }
    let (server, who, now_ms) = (node.config.server_name.clone(), call.who, node.clock.now_ms());
    // 32 characters at most (Server-Server API, "Send-to-device messaging"): a number follows.
    let message_id = node.randomness.alphanumeric(24);
    let federates = node.federation.is_enabled();
    node.store
        .write(move |tx| {
            let scope = format!("{SCOPE}/{kind}");
            let key = store::transactions::Key { user: who.user, device_id: who.device_id.as_str(), scope: &scope, txn_id: &txn_id };
            if store::transactions::get(&tx.reader(), key)?.is_some() {
                return Ok(());
            }
            store::transactions::put(tx, key, "", now_ms)?;
            let (local, remote): (Messages, Messages) =
                object.messages.into_iter().partition(|(user_id, _)| user_id.server_name() == server);
            for (user_id, devices) in &local {
                queue(tx, &who, &kind, user_id, devices)?;
            }
            if federates {
                outgoing::to_devices(tx, &who.user_id, &kind, &message_id, &remote)?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(Json(json!({})))
}

fn check(kind: &str, txn_id: &str, messages: &Messages) -> ApiResult<()> {
    if kind.is_empty() || kind.len() > NAME_BYTES || txn_id.is_empty() || txn_id.len() > NAME_BYTES {
        return Err(ApiError::invalid_param("The event type or the transaction ID is empty or too long"));
    }
    if messages.values().map(BTreeMap::len).sum::<usize>() > MESSAGES {
        return Err(ApiError::too_large("Too many messages in one request"));
    }
    for content in messages.values().flat_map(BTreeMap::values) {
        if content.get().len() > CONTENT_BYTES {
            return Err(ApiError::too_large("A message is larger than 65536 bytes"));
        }
        if !content.get().trim_start().starts_with('{') {
            return Err(ApiError::bad_json("The content of a message is not an object"));
        }
    }
    Ok(())
}

fn queue(
    tx: &mut store::Tx<'_>,
    who: &Requester,
    kind: &str,
    user_id: &OwnedUserId,
    devices: &BTreeMap<String, Box<RawValue>>,
) -> Result<(), StoreError> {
    let Some(user) = store::accounts::active(&tx.reader(), user_id)? else { return Ok(()) };
    let known = store::to_device::all_devices(&tx.reader(), user)?;
    for (device, content) in devices {
        for target in known.iter().filter(|known| device == "*" || known.as_str() == device) {
            // A message to all of one's own devices is not for the one that sends it.
            if device == "*" && user == who.user && *target == who.device_id {
                continue;
            }
            store::to_device::queue(tx, user, target, &who.user_id, kind, content.get())?;
        }
    }
    Ok(())
}
