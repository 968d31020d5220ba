//! `m.device_list_update` and `m.signing_key_update` (Server-Server API, "Device Management", "Cross-signing").

use std::sync::Arc;

use ruma::ServerName;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{EduError, ID_BYTES, Result, owned};
use crate::homeserver::{
    Node,
    store::{StoreError, users},
    users::remote_keys::{self, Change},
};

/// Changes that one may follow.
const PREVIOUS: usize = 100;

#[derive(Deserialize)]
struct ListUpdate {
    user_id: String,
    device_id: String,
    device_display_name: Option<String>,
    stream_id: i64,
    #[serde(default)]
    prev_id: Option<Vec<i64>>,
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(default)]
    keys: Option<Value>,
}

pub(super) async fn list_update(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let update: ListUpdate = serde_json::from_str(content.get())?;
    let user_id = owned(origin, &update.user_id)?;
    let prev_id = update.prev_id.unwrap_or_default();
    if update.device_id.is_empty() || update.device_id.len() > ID_BYTES || prev_id.len() > PREVIOUS || update.stream_id < 0 {
        return Err(EduError::Malformed("a device ID, a stream ID or the list of previous ones is out of bounds".into()));
    }
    let change = Change {
        device_id: update.device_id,
        name: update.device_display_name,
        stream_id: update.stream_id,
        prev_id,
        deleted: update.deleted == Some(true),
        keys: update.keys.filter(|keys| !keys.is_null()),
    };
    let applied = node.store.write(move |tx| match users::find(&tx.reader(), &user_id)? {
        Some(user) => remote_keys::update(tx, user, &user_id, &change),
        // Nobody here has ever met them.
        None => Ok::<_, StoreError>(()),
    });
    Ok(applied.await?)
}

#[derive(Deserialize)]
struct SigningKeyUpdate {
    user_id: String,
    #[serde(default)]
    master_key: Option<Value>,
    #[serde(default)]
    self_signing_key: Option<Value>,
}

pub(super) async fn signing_key_update(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let update: SigningKeyUpdate = serde_json::from_str(content.get())?;
    let user_id = owned(origin, &update.user_id)?;
    let applied = node.store.write(move |tx| match users::find(&tx.reader(), &user_id)? {
        Some(user) => remote_keys::update_signing_keys(tx, user, &user_id, update.master_key.as_ref(), update.self_signing_key.as_ref()),
        None => Ok::<_, StoreError>(()),
    });
    Ok(applied.await?)
}
