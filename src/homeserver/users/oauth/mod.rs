//! OAuth 2.0: who may sign in a user of ours, and how (Client-Server API, "OAuth 2.0 API").
//!
//! Knows clients, scopes, codes and tokens, and nothing of pages and requests.

pub mod browser;
pub mod client;
pub mod device_code;
mod grants;
mod redirect;
pub mod scope;

use std::{sync::Arc, time::Duration};

pub use self::{
    client::{Client, ClientMetadata},
    device_code::DeviceCodes,
    grants::{CodeRequest, Exchange, Issued, is_challenge},
    scope::Scope,
};
use crate::{
    base::{Clock, Randomness},
    homeserver::store::StoreError,
};

/// What goes wrong, as the RFCs name it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OAuthError {
    /// A parameter is missing, there twice, or makes no sense (RFC 6749, 5.2).
    #[error("{0}")]
    InvalidRequest(String),
    /// No such client.
    #[error("this client is not registered, or its registration has expired")]
    InvalidClient,
    /// The code or refresh token is unknown, used, expired, or another client's.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// The client has not registered for this.
    #[error("the client is not registered for this grant type")]
    UnauthorizedClient,
    /// We have no such grant.
    #[error("this grant type is not supported")]
    UnsupportedGrantType,
    /// Not a scope that a client can have.
    #[error("{0}")]
    InvalidScope(&'static str),
    /// A redirect URI that a client of this kind may not have (RFC 7591, 3.2.2).
    #[error("{0}")]
    InvalidRedirectUri(String),
    /// Other metadata that we do not accept.
    #[error("{0}")]
    InvalidClientMetadata(String),
    /// The user has not decided yet (RFC 8628, 3.5).
    #[error("the user has not decided yet")]
    AuthorizationPending,
    /// The client asks too often (RFC 8628, 3.5).
    #[error("wait longer before asking again")]
    SlowDown,
    /// The user said no.
    #[error("the user has refused")]
    AccessDenied,
    /// The device code has expired or never was.
    #[error("the device code has expired")]
    ExpiredToken,
    /// Too much of it for now.
    #[error("too many requests")]
    Limited(Duration),
    /// There is no room for more.
    #[error("the server cannot take more of these now")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OAuthError {
    /// A request that makes no sense.
    pub fn request(why: impl Into<String>) -> Self {
        Self::InvalidRequest(why.into())
    }

    /// The value of `error`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidRedirectUri(_) => "invalid_redirect_uri",
            Self::InvalidClientMetadata(_) => "invalid_client_metadata",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::Limited(_) | Self::Full => "temporarily_unavailable",
            Self::Store(_) => "server_error",
        }
    }
}

/// What OAuth keeps in memory.
#[derive(Debug)]
pub struct OAuth {
    /// Device codes that wait for their user.
    pub devices: DeviceCodes,
    /// Browsers that are signed in to the account pages.
    pub browsers: browser::Browsers,
}

impl OAuth {
    /// Nothing yet.
    #[must_use]
    pub fn new(clock: &Arc<dyn Clock>, randomness: &Arc<dyn Randomness>) -> Self {
        Self {
            devices: DeviceCodes::new(Arc::clone(clock), Arc::clone(randomness)),
            browsers: browser::Browsers::new(Arc::clone(clock), Arc::clone(randomness)),
        }
    }
}
