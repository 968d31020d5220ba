//! Memberships that reach across servers: ours in rooms of others, theirs in rooms of ours.
//!
//! `resident` answers for rooms that we are in; `join`, `knock`, `leave` and `invite` ask those who are. Where a room is at
//! hand, everything is done here and goes out as any other event: nobody is asked.

mod accept;
mod answer;
mod answered;
mod ask;
mod find;
mod invite;
mod invited;
mod join;
mod knock;
mod leave;
mod resident;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ruma::{OwnedRoomId, RoomId, RoomVersionId};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::{
    accept::{Given, Joined, accept},
    answer::lists_of,
    find::alias,
    invite::{Invite, invite},
    invited::{Invitation, invited, withdrawn},
    join::{Join, join, resume},
    knock::knock,
    leave::leave,
    resident::{Asked, propose},
};
use super::request::RequestError;
use crate::homeserver::{events::EventError, store::StoreError};

/// A membership that is agreed on between servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the room.
    Join,
    /// Out of it, or no longer invited or knocking.
    Leave,
    /// Asking to be let in.
    Knock,
}

impl Kind {
    /// The `membership` of the event.
    #[must_use]
    pub fn membership(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Knock => "knock",
        }
    }
}

/// Why a membership did not change.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// The room's rules, this node's rules, or the store.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What another server asks of us breaks the specification.
    #[error("{0}")]
    Invalid(String),
    /// What another server answers us breaks the specification.
    #[error("{0}")]
    Nonsense(String),
    /// The server of the user who asks does not know the room's version.
    #[error("room version {0} is not among those that your server supports")]
    Incompatible(RoomVersionId),
    /// Nobody here can tell whether the user may join.
    #[error("{0}")]
    UnableToAuthorise(String),
    /// Something is missing that the specification wants.
    #[error("{0}")]
    Missing(String),
    /// Another server says no, in its own words.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its error code.
        errcode: String,
        /// Its message.
        message: String,
    },
    /// No server that could help was reached.
    #[error("{0}")]
    Unreachable(String),
}

impl From<StoreError> for MembershipError {
    fn from(error: StoreError) -> Self {
        Self::Event(error.into())
    }
}

impl MembershipError {
    fn forbidden(why: impl Into<String>) -> Self {
        Self::Event(EventError::Forbidden(why.into()))
    }

    fn not_found(why: impl Into<String>) -> Self {
        Self::Event(EventError::NotFound(why.into()))
    }

    fn internal(why: impl std::fmt::Display) -> Self {
        Self::Event(EventError::Internal(why.to_string()))
    }

    /// How much it says about the room, as opposed to about the server: of several answers the user is told the best.
    fn rank(&self) -> u8 {
        match self {
            Self::Refused { status: 403, .. } => 5,
            Self::Event(EventError::UnsupportedRoomVersion(_)) => 4,
            Self::Refused { status: 400, .. } | Self::UnableToAuthorise(_) => 3,
            Self::Refused { .. } => 2,
            Self::Invalid(_) | Self::Nonsense(_) => 1,
            _ => 0,
        }
    }
}

impl From<RequestError> for MembershipError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Remote { status: status @ 400..=499, errcode, message, .. } if !errcode.is_empty() => {
                Self::Refused { status, errcode, message }
            }
            RequestError::Blocked(_) => Self::forbidden(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// Result of membership functions.
pub type Result<T, E = MembershipError> = std::result::Result<T, E>;

/// Answers to joins that are in memory at a time: the state of one room may be hundreds of megabytes.
const ANSWERS: usize = 2;

/// Joins that are under way: one at a time for each room, so that its state is fetched and stored once.
#[derive(Debug)]
pub struct Joining {
    rooms: Mutex<HashMap<OwnedRoomId, Weak<tokio::sync::Mutex<()>>>>,
    answers: Semaphore,
}

impl Default for Joining {
    fn default() -> Self {
        Self { rooms: Mutex::default(), answers: Semaphore::new(ANSWERS) }
    }
}

impl Joining {
    /// A place for one answer, held until the room has been taken over. Whoever comes later waits: nobody who holds one waits
    /// for a place or for a room's turn.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.answers.acquire().await.ok()
    }

    fn turn(&self, room_id: &RoomId) -> Arc<tokio::sync::Mutex<()>> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = rooms.get(room_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        rooms.insert(room_id.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn few_answers_to_joins_are_in_memory_at_a_time() {
        let joining = Joining::default();
        let held = (joining.place().await, joining.place().await);
        assert!(held.0.is_some() && held.1.is_some());
        assert!(joining.place().now_or_never().is_none(), "the third waits");
        drop(held.0);
        assert!(joining.place().now_or_never().flatten().is_some(), "until one is done");
    }
}
