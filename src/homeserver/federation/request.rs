//! A request to another server: how it is signed, how long it may take, what its answer may be, and what can go wrong.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        auth_scheme::{AuthScheme, NoAuthentication},
        federation::authentication::{ServerSignatures, ServerSignaturesInput},
    },
    signatures::Ed25519KeyPair,
};
use serde::Deserialize;

use super::{connect::ConnectError, discovery::DiscoveryError};

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the first step to the last byte of the answer.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body_bytes: usize,
    /// Ask although the server has failed lately: somebody waits for the answer.
    pub insist: bool,
}

impl Limits {
    /// An ordinary request.
    pub const ORDINARY: Self = Self { time: Duration::from_secs(30), body_bytes: 8 << 20, insist: false };

    /// The same, for somebody who waits: back-off does not stop it.
    #[must_use]
    pub const fn insisting(mut self) -> Self {
        self.insist = true;
        self
    }

    /// The same with another size.
    #[must_use]
    pub const fn bytes(mut self, body_bytes: usize) -> Self {
        self.body_bytes = body_bytes;
        self
    }

    /// The same with another time.
    #[must_use]
    pub const fn within(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

/// Why there is no answer, or no good one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// This node does not federate.
    #[error("this node does not talk to other servers")]
    Disabled,
    /// The other server is this node.
    #[error("this is the node's own name")]
    OwnName,
    /// The owner wants to have nothing to do with it.
    #[error("the owner of this node does not let it talk to {0}")]
    Blocked(OwnedServerName),
    /// It has failed lately and is left alone.
    #[error("the server did not answer lately and is left alone for a while")]
    BackingOff {
        /// Until then, in milliseconds since the Unix epoch.
        retry_at_ms: u64,
    },
    /// It was not found.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It took too long.
    #[error("the server took too long to answer")]
    TimedOut,
    /// The connection broke, or what came is no HTTP.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The answer is larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what was asked for.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
    /// The other server refuses.
    #[error("the server answers {status} {errcode}: {message}")]
    Remote {
        /// HTTP status.
        status: u16,
        /// Matrix error code; empty when the answer is none of a Matrix server.
        errcode: String,
        /// What it says, made harmless for a log and a screen.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The request cannot be put on the wire: a fault of ours.
    #[error("the request could not be made: {0}")]
    Ours(String),
}

impl RequestError {
    /// The Matrix error code of a refusal.
    #[must_use]
    pub fn errcode(&self) -> Option<&str> {
        match self {
            Self::Remote { errcode, .. } => Some(errcode),
            _ => None,
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Remote { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// True when the other server does not know the endpoint, so that an older one may be tried.
    #[must_use]
    pub fn is_unrecognized(&self) -> bool {
        matches!(self, Self::Remote { status: 404 | 405, errcode, .. } if errcode == "M_UNRECOGNIZED" || errcode.is_empty())
    }

    /// True when the server is not well, as opposed to not willing: it is left alone for a while after that.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Discovery(_) | Self::Connect(_) | Self::TimedOut | Self::Broken(_) => true,
            Self::Remote { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Remote { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Longest text of a remote error that is kept, in characters.
const MAX_MESSAGE: usize = 300;
/// Longest error code that is kept, in characters.
const MAX_ERRCODE: usize = 100;

#[derive(Default, Deserialize)]
struct ErrorBody {
    errcode: Option<String>,
    error: Option<String>,
    retry_after_ms: Option<u64>,
}

/// What an answer with an error status says.
pub(super) fn refusal(status: StatusCode, headers: &http::HeaderMap, body: &[u8]) -> RequestError {
    let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let seconds =
        headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    RequestError::Remote {
        status: status.as_u16(),
        errcode: harmless(&body.errcode.unwrap_or_default(), MAX_ERRCODE),
        message: harmless(&body.error.unwrap_or_default(), MAX_MESSAGE),
        retry_after: seconds.or_else(|| body.retry_after_ms.map(Duration::from_millis)),
    }
}

/// Text of a stranger without what moves a cursor, and not too long.
pub(super) fn harmless(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

/// How a request is signed, as ruma's type of it says.
pub trait Signing: AuthScheme {
    /// What ruma needs for that.
    fn input<'a>(origin: &ServerName, destination: &ServerName, key: &'a Ed25519KeyPair) -> Self::Input<'a>;
}

impl Signing for ServerSignatures {
    fn input<'a>(origin: &ServerName, destination: &ServerName, key: &'a Ed25519KeyPair) -> Self::Input<'a> {
        ServerSignaturesInput::new(origin.to_owned(), destination.to_owned(), key)
    }
}

impl Signing for NoAuthentication {
    fn input<'a>(_: &ServerName, _: &ServerName, _: &'a Ed25519KeyPair) -> Self::Input<'a> {}
}

/// A body that is read piece by piece, bounded in size and time.
#[derive(Debug)]
pub struct Body {
    pub(super) incoming: hyper::body::Incoming,
    pub(super) left_bytes: usize,
    pub(super) limit_bytes: usize,
    pub(super) deadline: tokio::time::Instant,
    /// A place among the requests to this server, held until the body has been read.
    pub(super) _place: tokio::sync::OwnedSemaphorePermit,
}

impl Body {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`RequestError::TooLarge`], [`RequestError::TimedOut`], [`RequestError::Broken`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        use http_body_util::BodyExt as _;
        loop {
            let frame = tokio::time::timeout_at(self.deadline, self.incoming.frame()).await.map_err(|_| RequestError::TimedOut)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| RequestError::Broken(error.to_string()))?;
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.left_bytes = self.left_bytes.checked_sub(data.len()).ok_or(RequestError::TooLarge(self.limit_bytes))?;
            return Ok(Some(data));
        }
    }

    /// The answer may take until then, whatever was said when it was asked for.
    pub fn extend(&mut self, deadline: tokio::time::Instant) {
        self.deadline = deadline;
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// As [`Self::chunk`].
    pub async fn collect(mut self) -> Result<Bytes, RequestError> {
        let mut whole = bytes::BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> RequestError {
        refusal(StatusCode::from_u16(status).unwrap_or_default(), &http::HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn a_refusal_keeps_what_the_server_says_but_nothing_that_moves_a_cursor() {
        let error = told(403, r#"{"errcode":"M_FORBIDDEN","error":"no\u001b[2J\nway"}"#);
        assert_eq!((error.status(), error.errcode()), (Some(403), Some("M_FORBIDDEN")));
        assert!(error.to_string().ends_with("no[2Jway"), "{error}");
        assert!(!error.is_outage());
        let long = told(400, &format!(r#"{{"errcode":"M_X","error":"{}"}}"#, "x".repeat(10_000)));
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn outages_are_told_from_refusals() {
        assert!(told(502, "<html>").is_outage());
        assert!(told(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#).is_outage());
        assert_eq!(told(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#).retry_after(), Some(Duration::from_millis(1500)));
        assert!(!told(404, "<html>").is_outage());
        assert!(told(404, r#"{"errcode":"M_UNRECOGNIZED"}"#).is_unrecognized());
        assert!(told(404, "<html>").is_unrecognized());
        assert!(!told(404, r#"{"errcode":"M_NOT_FOUND"}"#).is_unrecognized());
        assert!(RequestError::TimedOut.is_outage());
        assert!(!RequestError::TooLarge(1).is_outage());
    }
}
