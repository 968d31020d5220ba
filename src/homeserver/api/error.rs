//! Errors as the Matrix specification has them on the wire (Client-Server API, "Standard error response").

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::homeserver::{
    appservice::query::QueryError,
    federation::request::RequestError,
    store::StoreError,
    users::{AccountError, AssertError, SignInError, cross_signing::SigningError, keys::KeyError, tokens::TokenError},
};

/// An error response: status, `errcode`, `error`, and what else the code asks for.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Map<String, Value>,
    retry_after: Option<Duration>,
}

/// Result of an endpoint.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Any error.
    #[must_use]
    pub fn new(status: StatusCode, errcode: &str, message: impl Into<String>) -> Self {
        let mut body = Map::new();
        body.insert("errcode".into(), errcode.into());
        body.insert("error".into(), message.into().into());
        Self { status, body, retry_after: None }
    }

    /// A body of another form, as user-interactive authentication answers it (401).
    #[must_use]
    pub fn with_body(status: StatusCode, body: Map<String, Value>) -> Self {
        Self { status, body, retry_after: None }
    }

    /// Adds a field that the code asks for.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body.insert(name.into(), value.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The `errcode`, where the body has one.
    #[must_use]
    pub fn errcode(&self) -> Option<&str> {
        self.body.get("errcode").and_then(Value::as_str)
    }

    /// The `error` for people, where the body has one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.body.get("error").and_then(Value::as_str)
    }

    /// How long to wait, of [`Self::limit_exceeded`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// 403 `M_FORBIDDEN`.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint here.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request")
    }

    /// 400 `M_BAD_JSON`.
    #[must_use]
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`.
    #[must_use]
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    #[must_use]
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 413 `M_TOO_LARGE`.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 401 `M_MISSING_TOKEN`.
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "Missing access token")
    }

    /// 401 `M_UNKNOWN_TOKEN`. With `soft_logout` the client may keep its data and sign in again.
    #[must_use]
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "Unknown or expired access token").field("soft_logout", soft_logout)
    }

    /// 401 `M_USER_LOCKED`: the client keeps its data until the account is unlocked.
    #[must_use]
    pub fn user_locked() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", "This account has been locked").field("soft_logout", true)
    }

    /// 403 `M_USER_SUSPENDED`.
    #[must_use]
    pub fn user_suspended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_USER_SUSPENDED", "You cannot do this while your account is suspended")
    }

    /// 400 `M_EXCLUSIVE`: the name is in an application service's namespace, or not in the one's that asks.
    #[must_use]
    pub fn exclusive(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message)
    }

    /// 429 `M_LIMIT_EXCEEDED`.
    #[must_use]
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "Too many requests").field("retry_after_ms", ms);
        error.retry_after = Some(retry_after);
        error
    }

    /// 500 `M_UNKNOWN`. The cause goes to the log, never into the answer.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed on our side");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "M_UNKNOWN", "The server's disk is full; nothing was stored")
            }
            StoreError::Closed => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "The server is shutting down"),
            other => Self::internal(other),
        }
    }
}

impl From<RequestError> for ApiError {
    /// What another server, or the way to it, made of a question of ours.
    fn from(error: RequestError) -> Self {
        let unwell = |error: RequestError| {
            tracing::debug!(%error, "another server could not be asked");
            Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", format!("The other server could not be asked: {error}"))
        };
        match error {
            RequestError::Disabled => Self::not_found("This server does not talk to other servers"),
            RequestError::Blocked(_) => Self::forbidden("This server has nothing to do with the other one"),
            RequestError::OwnName => Self::not_found("Not found here"),
            RequestError::TimedOut => Self::new(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", "The other server took too long to answer"),
            RequestError::Remote { status: 404, ref errcode, .. } if errcode == "M_NOT_FOUND" => {
                Self::not_found("The other server knows of no such thing")
            }
            RequestError::Remote { status: 403, .. } => Self::forbidden("The other server refuses"),
            RequestError::Ours(cause) => Self::internal(cause),
            other => unwell(other),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unknown => Self::unknown_token(false),
            TokenError::Expired => Self::unknown_token(true),
            TokenError::Locked => Self::user_locked(),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::InvalidUsername(error) => Self::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", error.to_string()),
            AccountError::InUse => Self::new(StatusCode::BAD_REQUEST, "M_USER_IN_USE", "This user name is taken"),
            AccountError::Reserved => Self::exclusive("This user name is reserved for an application service, or not for this one"),
            AccountError::WeakPassword(why) => Self::new(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", why),
            AccountError::RegistrationToken => Self::forbidden("The registration token is not valid"),
            AccountError::Hash(error) => Self::internal(error),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<AssertError> for ApiError {
    fn from(error: AssertError) -> Self {
        match error {
            AssertError::NotYours | AssertError::NotRegistered => Self::forbidden(error.to_string()),
            AssertError::Locked => Self::user_locked(),
            AssertError::UnknownDevice => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_DEVICE", error.to_string()),
            AssertError::Store(error) => error.into(),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Timeout => Self::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", error.to_string()),
            QueryError::Store(error) => error.into(),
        }
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::WrongPassword => Self::forbidden("Wrong user name or password"),
            SignInError::Deactivated => Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", "This account has been deactivated"),
            SignInError::Locked => Self::user_locked(),
            SignInError::InvalidDevice | SignInError::DeviceIsKey => Self::invalid_param(error.to_string()),
            SignInError::UnknownRefreshToken => Self::unknown_token(false),
            SignInError::Hash(error) => Self::internal(error),
            SignInError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Invalid(_) => Self::bad_json(error.to_string()),
            KeyError::IdentityChanged => Self::invalid_param(error.to_string()),
            KeyError::AlreadyExists { .. } => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", error.to_string()),
            KeyError::TooMany => Self::new(StatusCode::BAD_REQUEST, "M_LIMIT_EXCEEDED", error.to_string()),
            KeyError::InvalidSignature(message) => Self::new(StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE", message),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<SigningError> for ApiError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::MissingMaster => Self::missing_param(error.to_string()),
            SigningError::IsDevice => Self::forbidden(error.to_string()),
            SigningError::Key(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(json!(self.body))).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}
