//! Receipts and typing as events.

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use serde::Serialize;
use serde_json::json;

use super::{Raw, raw};
use crate::homeserver::store::{Result, receipts::Receipt};

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
