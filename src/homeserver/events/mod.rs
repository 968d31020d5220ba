//! How rooms change: the one way by which events of ours come into being, and what readers are shown of them.
//!
//! Everything that writes runs inside a job of the store's writer thread, which makes that thread the lock of every room.
//! Knows nothing of HTTP.

mod append;
pub mod create;
pub mod current;
pub mod delayed;
pub mod held;
pub mod hierarchy;
pub mod hook;
pub mod invites;
pub mod lists;
pub mod membership;
pub mod outside;
mod persist;
mod place;
pub mod policy;
mod redaction;
pub mod resolution;
pub mod rounds;
mod sanity;
pub mod snapshot;
mod successor;
pub mod summary;
pub mod upgrade;
pub mod view;
pub mod visibility;

use std::sync::Arc;

use ruma::{CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, UserId};

pub use self::{
    append::append,
    persist::{settle, take_effect},
    place::{Source, place, propose, worthwhile},
};
use super::{
    Node,
    appservice::AppServices,
    key::SigningKey,
    rooms::build::BuildError,
    store::{Reader, StoreError, accounts, rooms},
    types::{EventNid, RoomHandle, StreamPos, UserNid},
};
use crate::base::Randomness;

/// What the write path needs of the node.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Our server name.
    pub server_name: OwnedServerName,
    /// Signs events.
    pub key: Arc<SigningKey>,
    /// When the request came, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// For room IDs of versions before 12.
    pub randomness: Arc<dyn Randomness>,
    /// Those who hear of new events.
    pub appservices: Arc<AppServices>,
    /// What the owner thinks of invites from elsewhere.
    pub caution: Arc<held::Caution>,
    /// What policy servers say of the events that are being made.
    pub approval: policy::Approval,
}

impl Ctx {
    /// As of now.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self {
            server_name: node.config.server_name.clone(),
            key: Arc::clone(&node.key),
            now_ms: node.clock.now_ms(),
            randomness: Arc::clone(&node.randomness),
            appservices: Arc::clone(&node.appservices),
            caution: Arc::clone(&node.caution),
            approval: policy::Approval::by(node.federation.is_enabled().then(|| Arc::clone(&node.federation.policy))),
        }
    }

    /// True for the IDs of our own users.
    #[must_use]
    pub fn is_ours(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name
    }
}

/// Why a room did not change, or may not be seen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EventError {
    /// The authorisation rules or this server's rules say no.
    #[error("{0}")]
    Forbidden(String),
    /// The sender's account is suspended.
    #[error("this account is suspended")]
    Suspended,
    /// No such room, event or user, as far as the asker may know.
    #[error("{0}")]
    NotFound(String),
    /// Larger than events may be.
    #[error("{0}")]
    TooLarge(String),
    /// The content is not what an event can carry.
    #[error("{0}")]
    BadJson(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    InvalidParam(String),
    /// The room or the user is in a state in which this cannot be done.
    #[error("{0}")]
    BadState(String),
    /// An alias that does not point to the room.
    #[error("{0}")]
    BadAlias(String),
    /// The alias is taken.
    #[error("{0}")]
    RoomInUse(String),
    /// What was asked of a new room contradicts itself.
    #[error("{0}")]
    InvalidRoomState(String),
    /// A room version that we do not have.
    #[error("room version {0} is not supported")]
    UnsupportedRoomVersion(String),
    /// The same reaction, again.
    #[error("{0}")]
    DuplicateAnnotation(String),
    /// No user here may let others into a restricted room.
    #[error("{0}")]
    UnableToGrantJoin(String),
    /// The invited user wants no invites.
    #[error("{0}")]
    InviteBlocked(String),
    /// The room's policy server has to be asked first: see [`policy::writing`].
    #[error("the room's policy server has to approve what is sent")]
    NeedsApproval(Box<policy::Unapproved>),
    /// The room's policy server has not let the event through.
    #[error("{0}")]
    NotApproved(policy::Refusal),
    /// The specification gives no code of its own.
    #[error("{0}")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own bug.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<BuildError> for EventError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooLarge(why) => Self::TooLarge(why),
            BuildError::Malformed(why) => Self::BadJson(why),
        }
    }
}

/// Result of event functions.
pub type Result<T, E = EventError> = std::result::Result<T, E>;

/// An event that a local user wants to send.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Who.
    pub sender: OwnedUserId,
    /// Event type.
    pub kind: String,
    /// State key of a state event.
    pub state_key: Option<String>,
    /// Content.
    pub content: CanonicalJsonObject,
    /// What an `m.room.redaction` redacts.
    pub redacts: Option<OwnedEventId>,
    /// The sending device and its transaction ID.
    pub txn: Option<Txn>,
    /// A timestamp other than now, which application services may give.
    pub timestamp_ms: Option<u64>,
}

impl Draft {
    /// A message event.
    #[must_use]
    pub fn message(sender: OwnedUserId, kind: &str, content: CanonicalJsonObject) -> Self {
        Self { sender, kind: kind.into(), state_key: None, content, redacts: None, txn: None, timestamp_ms: None }
    }

    /// A message event as a client gives it. What a redaction names stands in its content then; the builder puts it where the
    /// room version wants it.
    #[must_use]
    pub fn from_client(sender: OwnedUserId, kind: &str, content: CanonicalJsonObject) -> Self {
        let mut draft = Self::message(sender, kind, content);
        if kind == "m.room.redaction" {
            let named = draft.content.remove("redacts");
            draft.redacts = named.as_ref().and_then(|id| id.as_str()).and_then(|id| EventId::parse(id).ok());
        }
        draft
    }

    /// A state event.
    #[must_use]
    pub fn state(sender: OwnedUserId, kind: &str, state_key: &str, content: CanonicalJsonObject) -> Self {
        Self { state_key: Some(state_key.into()), ..Self::message(sender, kind, content) }
    }
}

/// A client's transaction.
#[derive(Debug, Clone)]
pub struct Txn {
    /// The device.
    pub device_id: String,
    /// The endpoint with its path parameters: what makes a retry a retry.
    pub scope: String,
    /// The transaction ID.
    pub txn_id: String,
}

/// An event that has been stored.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Its ID.
    pub event_id: OwnedEventId,
    /// In the store; `None` when a retry was answered from memory.
    pub stored: Option<(EventNid, StreamPos)>,
}

/// JSON from a client as the content of an event.
///
/// # Errors
///
/// [`EventError::BadJson`] for what is no object, and for numbers that canonical JSON does not have.
pub fn content_from_json(json: &str) -> Result<CanonicalJsonObject> {
    let value: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|e| EventError::BadJson(format!("the content is not a JSON object: {e}")))?;
    content_from_map(value)
}

/// A JSON object as the content of an event.
///
/// # Errors
///
/// [`EventError::BadJson`] for numbers that canonical JSON does not have.
pub fn content_from_map(map: serde_json::Map<String, serde_json::Value>) -> Result<CanonicalJsonObject> {
    ruma::canonical_json::try_from_json_map(map).map_err(|e| EventError::BadJson(format!("the content is not canonical JSON: {e}")))
}

/// Lets through who is not suspended.
///
/// # Errors
///
/// [`EventError::Suspended`].
pub fn not_suspended(db: &Reader<'_>, user: UserNid) -> Result<()> {
    if accounts::is_suspended(db, user)? { Err(EventError::Suspended) } else { Ok(()) }
}

/// A room that we know. To those outside it, a room that does not exist and one that they may not enter look the same.
///
/// # Errors
///
/// [`EventError::Forbidden`] for a room that is not here.
pub fn room(db: &Reader<'_>, room_id: &RoomId) -> Result<RoomHandle> {
    rooms::by_id(db, room_id)?.ok_or_else(|| EventError::Forbidden("You are not in this room".into()))
}
