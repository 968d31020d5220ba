//! Receipts, typing and messages to the device as events.

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use serde::Serialize;
use serde_json::json;

use super::{Raw, raw, viewer::Viewer};
use crate::homeserver::{
    store::{Reader, Result, StoreError, account_data::AccountData, receipts::Receipt, sync_user},
    types::StreamPos,
};

#[derive(Debug, Serialize)]
struct ReceiptData<'a> {
    ts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

/// `m.receipt` for these receipts; `None` for none.
pub(super) fn receipts<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> Result<Option<Raw>> {
    let mut content: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, ReceiptData<'_>>>> = BTreeMap::new();
    for receipt in receipts {
        let thread_id = Some(receipt.thread_id.as_str()).filter(|thread| !thread.is_empty());
        let by_user = content.entry(&receipt.event_id).or_default().entry(&receipt.kind).or_default();
        // One event can have an unthreaded and a threaded receipt of one user, the format has room for one: the first is the
        // more general.
        if by_user.get(receipt.user_id.as_str()).is_none_or(|known| known.thread_id.is_some()) {
            by_user.insert(&receipt.user_id, ReceiptData { ts: receipt.ts_ms, thread_id });
        }
    }
    if content.is_empty() { Ok(None) } else { raw(&json!({ "type": "m.receipt", "content": content })).map(Some) }
}

/// `m.typing`.
pub(super) fn typing(users: &[OwnedUserId]) -> Result<Raw> {
    raw(&json!({ "type": "m.typing", "content": { "user_ids": users } }))
}

/// A message to the device.
#[derive(Debug, Serialize)]
pub(super) struct DeviceMessage {
    sender: String,
    #[serde(rename = "type")]
    kind: String,
    content: Raw,
}

/// The messages that wait for a device after a position, oldest first, and the position of the last of them when there are more.
pub(super) fn to_device(
    db: &Reader<'_>,
    viewer: &Viewer,
    after: StreamPos,
    up_to: StreamPos,
    limit: usize,
) -> Result<(Vec<DeviceMessage>, Option<StreamPos>)> {
    let messages = sync_user::to_device(db, viewer.user, &viewer.device, after, up_to, limit)?;
    let more = messages.last().filter(|_| messages.len() == limit).map(|message| message.pos);
    let messages = messages.into_iter().map(|m| Ok(DeviceMessage { sender: m.sender, kind: m.kind, content: parse(m.content)? }));
    Ok((messages.collect::<Result<_>>()?, more))
}

/// A piece of account data as an event.
pub(super) fn account_data(data: &AccountData) -> Result<Raw> {
    raw(&json!({ "type": data.kind, "content": parse(data.content.clone())? }))
}

/// JSON that was checked when it was stored.
fn parse(json: String) -> Result<Raw> {
    serde_json::value::RawValue::from_string(json).map_err(|e| StoreError::Data(e.to_string()))
}
