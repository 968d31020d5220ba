//! What went wrong, in words for a person.
//!
//! Owns the reading of SDK, HTTP, disk and socket errors. Nothing here holds a token, a key or a message, and no error of
//! the SDK reaches the screen except through these words.

use std::{error::Error as StdError, fmt, io, time::Duration};

use matrix_sdk::{HttpError, QueueWedgeError, RumaApiError};
use ruma::api::error::{Error as ApiError, ErrorBody, ErrorKind, FromHttpResponseError, RetryAfter};

/// Why something failed, told apart as far as a person would act differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server name leads nowhere.
    UnknownHost,
    /// Nothing listens there, or the connection broke.
    Unreachable,
    /// The certificate or the encryption of the connection is not right.
    Tls,
    /// No answer in time.
    Timeout,
    /// The answer is not that of a Matrix server.
    NotMatrix,
    /// The access token is no longer valid.
    Expired {
        /// The session may go on after signing in again.
        soft: bool,
    },
    /// Too many requests.
    RateLimited {
        /// How long to wait, where the server said.
        retry_after: Option<Duration>,
    },
    /// The server does not know this request.
    Unrecognized,
    /// The server refused, with its reason.
    Refused {
        /// HTTP status.
        status: u16,
        /// `M_FORBIDDEN` and the like.
        code: String,
        /// The server's own words.
        message: String,
    },
    /// The disk is full.
    DiskFull,
    /// The local store cannot be read or written.
    Store,
    /// Anything else; the words are fit to be shown.
    Other(String),
}

impl Trouble {
    /// The connection is at fault, so that trying again later may help.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        match self {
            Self::UnknownHost | Self::Unreachable | Self::Tls | Self::Timeout | Self::NotMatrix | Self::RateLimited { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Reads an SDK error.
    #[must_use]
    pub fn of(error: &matrix_sdk::Error) -> Self {
        match error {
            matrix_sdk::Error::Http(http) => Self::of_http(http),
            matrix_sdk::Error::Timeout => Self::Timeout,
            matrix_sdk::Error::StateStore(inner) => Self::of_store(inner.as_ref()),
            matrix_sdk::Error::CryptoStoreError(inner) => Self::of_store(inner.as_ref()),
            matrix_sdk::Error::EventCacheStore(inner) => Self::of_store(inner.as_ref()),
            matrix_sdk::Error::MediaStore(inner) => Self::of_store(inner.as_ref()),
            matrix_sdk::Error::Io(io) => Self::of_io(io),
            matrix_sdk::Error::SendQueueWedgeError(wedged) if is_expired(wedged) => Self::Expired { soft: true },
            matrix_sdk::Error::WrongRoomState(_) => Self::Other("you are not in that room".to_owned()),
            other => Self::of_any(other),
        }
    }

    /// Reads an HTTP error.
    #[must_use]
    pub fn of_http(error: &HttpError) -> Self {
        match error {
            HttpError::Reqwest(error) => Self::of_reqwest(error),
            HttpError::Api(error) => match error.as_ref() {
                FromHttpResponseError::Server(RumaApiError::MatrixError(error)) => Self::of_api(error),
                FromHttpResponseError::Server(_) => Self::Other("the server asks for a further sign-in step".to_owned()),
                _ => Self::NotMatrix,
            },
            HttpError::Cached(error) => Self::of_http(error),
            HttpError::RefreshToken(_) => Self::Expired { soft: true },
            other => Self::of_any(other),
        }
    }

    /// Reads a connection error.
    #[must_use]
    pub fn of_reqwest(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        if error.is_decode() || error.is_body() {
            return Self::Unreachable;
        }
        let mut source: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<io::Error>()
                && io.kind() == io::ErrorKind::TimedOut
            {
                return Self::Timeout;
            }
            let text = inner.to_string().to_lowercase();
            if text.contains("dns error") || text.contains("failed to lookup address") {
                return Self::UnknownHost;
            }
            if text.contains("certificate") || text.contains("tls handshake") || text.contains("invalidcontenttype") {
                return Self::Tls;
            }
            source = inner.source();
        }
        Self::Unreachable
    }

    fn of_api(error: &ApiError) -> Self {
        let status = error.status_code.as_u16();
        match &error.body {
            ErrorBody::Standard(body) => match &body.kind {
                ErrorKind::UnknownToken(data) => Self::Expired { soft: data.soft_logout },
                ErrorKind::LimitExceeded(data) => Self::RateLimited {
                    retry_after: match data.retry_after {
                        Some(RetryAfter::Delay(delay)) => Some(delay),
                        _ => None,
                    },
                },
                ErrorKind::Unrecognized => Self::Unrecognized,
                kind => Self::Refused { status, code: kind.errcode().to_string(), message: one_line(&body.message, 200) },
            },
            _ if status == 429 => Self::RateLimited { retry_after: None },
            _ => Self::NotMatrix,
        }
    }

    /// Reads an error of the local store.
    #[must_use]
    pub fn of_store(error: &(dyn StdError + 'static)) -> Self {
        if is_disk_full(error) { Self::DiskFull } else { Self::Store }
    }

    /// Reads a file error.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::NotFound => Self::Other("there is no such file".to_owned()),
            io::ErrorKind::PermissionDenied => Self::Other("permission denied".to_owned()),
            io::ErrorKind::IsADirectory => Self::Other("that is a directory".to_owned()),
            _ => Self::Other(one_line(&error.to_string(), 160)),
        }
    }

    fn of_any(error: &(dyn StdError + 'static)) -> Self {
        if is_disk_full(error) { Self::DiskFull } else { Self::Other(one_line(&error.to_string(), 160)) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("the server name cannot be found; check its spelling and your network"),
            Self::Unreachable => f.write_str("the server cannot be reached"),
            Self::Tls => f.write_str("the server's certificate is not valid for its name, or it does not speak TLS"),
            Self::Timeout => f.write_str("the server does not answer in time"),
            Self::NotMatrix => f.write_str("the server's answers make no sense; it may not be a Matrix server"),
            Self::Expired { .. } => f.write_str("the server has ended this session; sign in again"),
            Self::RateLimited { retry_after: Some(wait) } => {
                write!(f, "the server asks for patience; try again in {} s", wait.as_secs().max(1))
            }
            Self::RateLimited { retry_after: None } => f.write_str("the server asks for patience; try again in a while"),
            Self::Unrecognized => f.write_str("the server does not support this"),
            Self::Refused { message, code, .. } if message.is_empty() => write!(f, "the server refused ({code})"),
            Self::Refused { message, status, .. } if *status >= 500 => write!(f, "the server has a problem: {message}"),
            Self::Refused { message, .. } => write!(f, "the server refused: {message}"),
            Self::DiskFull => f.write_str("the disk is full; nothing can be saved until there is room"),
            Self::Store => f.write_str("the local store cannot be read or written"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl StdError for Trouble {}

impl From<matrix_sdk::Error> for Trouble {
    fn from(error: matrix_sdk::Error) -> Self {
        Self::of(&error)
    }
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        Self::of_http(&error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::of_io(&error)
    }
}

/// True when the send queue gave a message up because the session had ended (it keeps no more than the error's text).
#[must_use]
pub fn is_expired(wedged: &QueueWedgeError) -> bool {
    matches!(wedged, QueueWedgeError::GenericApiError { msg } if msg.contains("M_UNKNOWN_TOKEN"))
}

/// Looks through the causes for a full disk: `ENOSPC`, or SQLite's `SQLITE_FULL`.
#[must_use]
pub fn is_disk_full(error: &(dyn StdError + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        let text = inner.to_string();
        if text.contains("database or disk is full") || text.contains("No space left on device") {
            return true;
        }
        source = inner.source();
    }
    false
}

/// Text on one line, without control characters, at most this many characters.
#[must_use]
pub fn one_line(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_chars.saturating_mul(4)));
    let mut count = 0;
    let mut space = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = !out.is_empty();
            continue;
        }
        if space {
            out.push(' ');
            count += 1;
            space = false;
        }
        if count >= max_chars {
            out.push('…');
            break;
        }
        out.push(c);
        count += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_folds_breaks_and_cuts_at_the_limit() {
        assert_eq!(one_line("  a\n\n b\tc  ", 80), "a b c");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("\u{1b}[31mred", 80), "[31mred");
    }

    #[test]
    fn a_full_disk_is_recognised_through_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert!(is_disk_full(&Outer(io::Error::from(io::ErrorKind::StorageFull))));
        assert!(!is_disk_full(&Outer(io::Error::from(io::ErrorKind::NotFound))));
    }
}
