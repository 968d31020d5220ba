//! `m.direct_to_device` (Server-Server API, "Send-to-device messaging").

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{EduError, ID_BYTES, Result, owned};
use crate::homeserver::{
    Node,
    store::{self, StoreError, Tx},
};

/// Messages in one EDU.
const MESSAGES: usize = 10_000;
/// Largest content of one message, as for those of our own users.
const CONTENT_BYTES: usize = 65_536;

type Messages = BTreeMap<String, BTreeMap<String, Box<RawValue>>>;

#[derive(Deserialize)]
struct Direct {
    sender: String,
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    messages: Messages,
}

pub(super) async fn receive(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let direct: Direct = serde_json::from_str(content.get())?;
    let sender = owned(origin, &direct.sender)?;
    // The specification has 32 characters; some servers use their clients' transaction IDs, which may be longer.
    let bounded = |text: &str| !text.is_empty() && text.len() <= ID_BYTES;
    if !bounded(&direct.kind) || !bounded(&direct.message_id) || direct.messages.values().map(BTreeMap::len).sum::<usize>() > MESSAGES {
        return Err(EduError::Malformed("the type, the message ID or the number of messages is out of bounds".into()));
    }
    let (origin, server, now_ms) = (origin.to_owned(), node.config.server_name.clone(), node.clock.now_ms());
    let queued = node.store.write(move |tx| {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        if !store::to_device::receive_once(tx, &origin, &direct.message_id, now_ms)? {
            return Ok(());
        }
        let stranger = !store::servers::share_a_room(&tx.reader(), &server, &origin)?;
        let mut queued = false;
        for (user_id, devices) in &direct.messages {
            let Ok(user_id) = UserId::parse(user_id) else { continue };
            if user_id.server_name() == server {
                queued |= queue(tx, (&sender, stranger), &direct.kind, &user_id, devices)?;
            }
        }
        if !queued {
            store::to_device::forget(tx, &origin, &direct.message_id)?;
        }
        Ok::<_, StoreError>(())
    });
    Ok(queued.await?)
}

/// True when a device was sent something.
fn queue(
    tx: &mut Tx<'_>,
    (sender, stranger): (&UserId, bool),
    kind: &str,
    user_id: &OwnedUserId,
    devices: &BTreeMap<String, Box<RawValue>>,
) -> Result<bool, StoreError> {
    let Some(user) = store::accounts::active(&tx.reader(), user_id)? else { return Ok(false) };
    let known = store::to_device::all_devices(&tx.reader(), user)?;
    let mut queued = false;
    for (device, content) in devices {
        let content = content.get().trim();
        if !content.starts_with('{') || content.len() > CONTENT_BYTES {
            tracing::debug!(%sender, "a message to a device was dropped: it is too large or no object");
            continue;
        }
        for target in known.iter().filter(|known| device == "*" || known.as_str() == device) {
            if store::to_device::queue_remote(tx, user, target, sender, stranger, (kind, content))? {
                queued = true;
            } else {
                tracing::debug!(%sender, "a message to a device was dropped: too much of that server waits for the device");
            }
        }
    }
    Ok(queued)
}
