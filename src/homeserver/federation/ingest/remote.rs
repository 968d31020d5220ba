//! What receiving events asks of other servers: a trait, so that tests can be the other servers.

use std::fmt::Debug;

use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, ServerName, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;

/// What the signatures on an event say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatures {
    /// Every server that has to has signed it.
    Valid {
        /// The content is what was signed; otherwise only what redaction leaves is.
        content_intact: bool,
    },
    /// A signature is missing or wrong.
    Invalid(String),
    /// A key could not be had: nobody can tell yet.
    Unknown(String),
}

/// Why another server gave no answer that could be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(pub String);

/// Result of asking another server.
pub type Result<T> = std::result::Result<T, RemoteError>;

/// JSON of events as another server gave it: nothing in it has been checked.
pub type Untrusted = Vec<Box<RawValue>>;

/// A state by IDs, as another server tells it.
#[derive(Debug, Clone, Default)]
pub struct StateIds {
    /// The state events.
    pub state: Vec<OwnedEventId>,
    /// The events that authorise them.
    pub auth_chain: Vec<OwnedEventId>,
}

/// Whose keys may be asked for to check a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Servers are asked for keys that are not at hand.
    Servers,
    /// What is not at hand is unknown.
    Nobody,
}

/// Other servers. Every call is bounded in time and size by whoever implements it.
#[async_trait::async_trait]
pub trait Remote: Debug + Send + Sync {
    /// Checks the signatures of events, in the order in which they are given.
    async fn signatures(&self, events: Vec<CanonicalJsonObject>, rules: &RoomVersionRules, ask: Ask) -> Vec<Signatures>;

    /// `GET /_matrix/federation/v1/event/{eventId}`
    async fn event(&self, server: &ServerName, event_id: &OwnedEventId) -> Result<Box<RawValue>>;

    /// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
    async fn missing_events(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        earliest: Vec<OwnedEventId>,
        latest: Vec<OwnedEventId>,
        limit: u32,
        min_depth: i64,
    ) -> Result<Untrusted>;

    /// `GET /_matrix/federation/v1/state_ids/{roomId}`: the state before an event.
    async fn state_ids(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<StateIds>;

    /// `GET /_matrix/federation/v1/state/{roomId}`: the state before an event, and what authorises it, as events.
    async fn state(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<Untrusted>;

    /// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
    async fn event_auth(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<Untrusted>;

    /// `GET /_matrix/federation/v1/backfill/{roomId}`
    async fn backfill(&self, server: &ServerName, room_id: &RoomId, from: Vec<OwnedEventId>, limit: u32) -> Result<Untrusted>;
}
