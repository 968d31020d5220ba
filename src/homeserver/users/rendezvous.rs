//! Places where two devices leave each other messages while one signs the other in by QR code (MSC4108, MSC4388).
//!
//! What is left there is encrypted between the two, and nobody needs an account: so it is small, short-lived and bounded.

use std::sync::Arc;

use super::expiring::Expiring;
use crate::base::{Clock, Randomness};

/// Sessions at one time.
const SESSIONS: usize = 256;
/// How long a session lives (MSC4388 recommends two to five minutes).
const LIFETIME_MS: u64 = 5 * 60 * 1000;
/// Largest message, in bytes.
pub const DATA_BYTES: usize = 4096;

/// Which protocol a session was opened with. The two do not mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The 2024 form of MSC4108: any content, ETags.
    Etag,
    /// MSC4388: a string, sequence tokens.
    Sequence,
}

/// What lies in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The message.
    pub data: bytes::Bytes,
    /// Its content type, where the protocol has one.
    pub content_type: Option<String>,
    /// Changes with every message.
    pub token: String,
    /// When it was left, in milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// When the session ends, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// Why a message was not left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RendezvousError {
    /// It never was, has expired, or was ended.
    #[error("there is no such rendezvous session")]
    Unknown,
    /// Somebody has left a message meanwhile.
    #[error("the session has changed since it was read")]
    ConcurrentWrite,
    /// More than [`DATA_BYTES`].
    #[error("the message is larger than {DATA_BYTES} bytes")]
    TooLarge,
    /// There are as many sessions as there may be.
    #[error("there are too many rendezvous sessions; try again in a few minutes")]
    Full,
}

#[derive(Debug)]
struct Session {
    protocol: Protocol,
    data: bytes::Bytes,
    content_type: Option<String>,
    token: String,
    modified_ms: u64,
}

/// The sessions of a node.
#[derive(Debug)]
pub struct Rendezvous {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    sessions: Expiring<String, Session>,
}

impl Rendezvous {
    /// No sessions yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { sessions: Expiring::new(Arc::clone(&clock), SESSIONS, LIFETIME_MS), clock, randomness }
    }

    /// Opens a session with a first message. Returns its ID.
    ///
    /// # Errors
    ///
    /// [`RendezvousError::TooLarge`], [`RendezvousError::Full`].
    pub fn open(&self, protocol: Protocol, data: bytes::Bytes, content_type: Option<String>) -> Result<(String, Payload), RendezvousError> {
        if data.len() > DATA_BYTES {
            return Err(RendezvousError::TooLarge);
        }
        let id = self.randomness.alphanumeric(24);
        let session = Session { protocol, data, content_type, token: self.randomness.alphanumeric(22), modified_ms: self.clock.now_ms() };
        if !self.sessions.try_put(id.clone(), session) {
            return Err(RendezvousError::Full);
        }
        let payload = self.read(protocol, &id)?;
        Ok((id, payload))
    }

    /// What lies in a session.
    ///
    /// # Errors
    ///
    /// [`RendezvousError::Unknown`].
    pub fn read(&self, protocol: Protocol, id: &str) -> Result<Payload, RendezvousError> {
        let now_ms = self.clock.now_ms();
        let found = self.sessions.look(&id.to_owned(), |session, left_ms| {
            (session.protocol == protocol).then(|| Payload {
                data: session.data.clone(),
                content_type: session.content_type.clone(),
                token: session.token.clone(),
                modified_ms: session.modified_ms,
                expires_ms: now_ms + left_ms,
            })
        });
        found.flatten().ok_or(RendezvousError::Unknown)
    }

    /// Leaves a message in place of the one that `token` stands for.
    ///
    /// # Errors
    ///
    /// [`RendezvousError`]. Leaving the same message again is none where the protocol has it so (MSC4388).
    pub fn write(
        &self,
        protocol: Protocol,
        id: &str,
        token: &str,
        data: bytes::Bytes,
        content_type: Option<String>,
    ) -> Result<Payload, RendezvousError> {
        if data.len() > DATA_BYTES {
            return Err(RendezvousError::TooLarge);
        }
        let (next, now_ms) = (self.randomness.alphanumeric(22), self.clock.now_ms());
        let written = self.sessions.look(&id.to_owned(), |session, _| {
            if session.protocol != protocol {
                return Err(RendezvousError::Unknown);
            }
            if session.token != token {
                let repeated = protocol == Protocol::Sequence && session.data == data;
                return if repeated { Ok(()) } else { Err(RendezvousError::ConcurrentWrite) };
            }
            (session.data, session.content_type, session.token, session.modified_ms) = (data, content_type, next, now_ms);
            Ok(())
        });
        written.ok_or(RendezvousError::Unknown)??;
        self.read(protocol, id)
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`RendezvousError::Unknown`].
    pub fn close(&self, protocol: Protocol, id: &str) -> Result<(), RendezvousError> {
        self.read(protocol, id)?;
        self.sessions.take(&id.to_owned()).map(drop).ok_or(RendezvousError::Unknown)
    }
}
