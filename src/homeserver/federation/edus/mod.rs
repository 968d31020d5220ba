//! What servers tell each other beside events: typing, receipts, presence, messages to devices, device lists, signing keys.
//!
//! A server speaks for its own users only, and we listen only where one of ours shares a room with them. Whatever does not
//! pass is dropped: an EDU has no answer. Server-Server API, "EDUs" and the sections that define each type.

mod devices;
mod direct;
mod live;
pub mod outgoing;
mod presence;
mod receipts;
mod typing;

use std::sync::Arc;

use ruma::{OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::homeserver::{
    Node,
    rooms::{acl::Acl, format},
    store::{Reader, StoreError, events, state},
    types::RoomHandle,
};

/// What EDUs need to remember.
#[derive(Debug, Default)]
pub struct State {
    waiting: receipts::Waiting,
}

impl State {
    /// Receipts that wait for their events.
    #[cfg(test)]
    pub(crate) fn waiting_receipts(&self) -> usize {
        self.waiting.len()
    }
}

/// Longest user, room, event and device ID, and event type (Appendices, "Common Identifier Format").
const ID_BYTES: usize = 255;

/// Starts what tells other servers of ours. It ends with the node.
pub fn start(node: &Arc<Node>) {
    outgoing::start(node);
    live::start(node);
}

/// Why an EDU, or a part of one, was not taken.
#[derive(Debug, thiserror::Error)]
pub enum EduError {
    /// Not what its type has to look like. The remote server's fault.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It speaks of somebody else's user.
    #[error("{0} does not belong to the server that speaks for it")]
    Forged(String),
    /// The room does not let that server speak.
    #[error("the room's access control list shuts the server out")]
    ShutOut,
    /// The store failed: our fault, and worth another try.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<serde_json::Error> for EduError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Result of one EDU.
type Result<T, E = EduError> = std::result::Result<T, E>;

#[derive(Deserialize)]
struct Edu<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// Takes one EDU of a transaction. What is durable is on disk when this returns; what does not pass is logged and dropped.
///
/// # Errors
///
/// Store errors: the transaction has to come again.
pub async fn receive(node: &Arc<Node>, origin: &ServerName, edu: &RawValue) -> Result<(), StoreError> {
    let edu: Edu<'_> = match serde_json::from_str(edu.get()) {
        Ok(edu) => edu,
        Err(error) => {
            tracing::debug!(%origin, %error, "an EDU is none");
            return Ok(());
        }
    };
    let content = edu.content;
    let taken = match edu.edu_type.as_str() {
        "m.typing" => typing::receive(node, origin, content).await,
        "m.receipt" => receipts::receive(node, origin, content).await,
        "m.presence" => presence::receive(node, origin, content).await,
        "m.direct_to_device" => direct::receive(node, origin, content).await,
        "m.device_list_update" => devices::list_update(node, origin, content).await,
        "m.signing_key_update" => devices::signing_key_update(node, origin, content).await,
        // Types that nobody has specified are nobody's business (Server-Server API, "EDUs").
        _ => Ok(()),
    };
    match taken {
        Ok(()) => Ok(()),
        Err(EduError::Store(error)) => Err(error),
        Err(error) => {
            tracing::debug!(%origin, edu_type = edu.edu_type, %error, "an EDU was dropped");
            Ok(())
        }
    }
}

/// A user of the server that speaks.
fn owned(origin: &ServerName, user_id: &str) -> Result<OwnedUserId> {
    let parsed = UserId::parse(user_id).map_err(|e| EduError::Malformed(format!("user ID: {e}")))?;
    if parsed.as_str().len() > ID_BYTES {
        return Err(EduError::Malformed("a user ID is too long".into()));
    }
    if parsed.server_name() == origin { Ok(parsed) } else { Err(EduError::Forged(parsed.to_string())) }
}

/// May the server speak in the room? (Server-Server API, "Server Access Control Lists (ACLs)")
fn may_speak(db: &Reader<'_>, room: &RoomHandle, origin: &ServerName) -> Result<()> {
    let Some(nid) = state::current(db, room.nid, "m.room.server_acl", "")? else { return Ok(()) };
    let content = format::content(&events::by_nid(db, nid)?.json).map_err(|e| StoreError::Data(e.to_string()))?;
    if Acl::new(content.get()).allows(origin) { Ok(()) } else { Err(EduError::ShutOut) }
}
