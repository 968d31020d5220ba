//! Signing in and out: from a name and a password to a session that can be saved, and back.
//!
//! Leaves nothing behind when it fails. Does not know where sessions and secrets are kept: the caller saves them.

use std::{path::PathBuf, time::Duration};

use matrix_sdk::{Client, SessionMeta, SessionTokens, authentication::matrix::MatrixSession, config::RequestConfig};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::{
        session::{get_login_types, login},
        uiaa::UserIdentifier,
    },
};
use serde::{Deserialize, Serialize};
use url::Url;

pub use super::connect::{Store, StoreError};
use super::{
    connect,
    discover::{DiscoverError, discover},
    encryption,
    words::Trouble,
};
use crate::{base::Shutdown, client::command::Secret};

/// Longest wait for the answer to a sign-in or sign-out request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a sign-in that was given up is waited for once the password is on its way, so that the device can be signed out.
const LATE: Duration = Duration::from_secs(3);

/// Where a homeserver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A server somewhere, found through `.well-known`. TLS, except for loopback names and explicit `http://` URLs.
    Server {
        /// What the person typed: server name or base URL.
        name_or_url: String,
    },
    /// The own node, over its Unix socket.
    Socket {
        /// The socket.
        path: PathBuf,
        /// The node's server name.
        server_name: String,
    },
}

/// A session as it is saved between runs. Holds the access token: keep it where secrets are kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedSession {
    /// Where the homeserver is.
    pub endpoint: Endpoint,
    /// Base URL that discovery found.
    pub base_url: Url,
    /// The user.
    pub user_id: OwnedUserId,
    /// Our device.
    pub device_id: OwnedDeviceId,
    access_token: String,
}

impl std::fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedSession")
            .field("endpoint", &self.endpoint)
            .field("base_url", &self.base_url.as_str())
            .field("user_id", &self.user_id)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

impl SavedSession {
    pub(super) fn access_token(&self) -> &str {
        &self.access_token
    }

    pub(super) fn to_sdk(&self) -> MatrixSession {
        MatrixSession {
            meta: SessionMeta { user_id: self.user_id.clone(), device_id: self.device_id.clone() },
            tokens: SessionTokens { access_token: self.access_token.clone(), refresh_token: None },
        }
    }
}

/// What signing in gave.
#[derive(Debug)]
pub struct LoginOutcome {
    /// The session, to be saved.
    pub session: SavedSession,
    /// The key that restores encrypted history on another device. New, known to nobody else: keep it and show it.
    /// Absent where the account had recovery already, or the server has no key backup.
    pub recovery_key: Option<Secret>,
    /// Things that did not work and do not stand in the way, in words for a person.
    pub notes: Vec<String>,
}

/// Why signing in failed. `Display` is meant for people.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server does not accept this user name with this password.
    #[error("wrong user name or password")]
    WrongPassword,
    /// The account exists no more.
    #[error("this account has been deactivated")]
    Deactivated,
    /// The server name leads nowhere, or is no server name.
    #[error("there is no server called {0}; check the spelling and your network")]
    UnknownServer(String),
    /// Nothing answers there.
    #[error("{0} cannot be reached; is it running, and are you online?")]
    Unreachable(String),
    /// TLS failed.
    #[error("no safe connection to {0}: its certificate is not valid for that name, or it does not speak TLS")]
    Tls(String),
    /// Something answers, but not a Matrix server.
    #[error("{0} does not answer like a Matrix server")]
    NotMatrix(String),
    /// No answer in time.
    #[error("{0} does not answer in time; try again later")]
    Timeout(String),
    /// Too many attempts.
    #[error("too many attempts; try again in {} s", retry_after.map_or(60, |wait| wait.as_secs().max(1)))]
    RateLimited {
        /// How long to wait.
        retry_after: Option<Duration>,
    },
    /// The server has no password sign-in.
    #[error("this server does not offer sign-in with a password (it offers {})", if .0.is_empty() { "nothing we know".to_owned() } else { .0.join(", ") })]
    Unsupported(Vec<String>),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server has deleted this device, and with it everything that others encrypted for it.
    #[error(
        "the server has deleted this device, so it cannot go on where it was: open homeroom and sign in as a new device there, which \
         keeps drafts and unsent messages, or sign out here (`homeroom logout --force`) and sign in again; your recovery key brings \
         encrypted history back"
    )]
    DeviceGone,
    /// The profile has a session already.
    #[error("{0} holds the data of another sign-in; sign out first, or use another profile")]
    Occupied(PathBuf),
    /// It was given up.
    #[error("signing in was cancelled")]
    Cancelled,
    /// Anything else.
    #[error("signing in failed: {0}")]
    Other(String),
}

impl LoginError {
    fn from_trouble(server: &str, trouble: Trouble) -> Self {
        match trouble {
            Trouble::UnknownHost => Self::UnknownServer(server.to_owned()),
            Trouble::Unreachable => Self::Unreachable(server.to_owned()),
            Trouble::Tls => Self::Tls(server.to_owned()),
            Trouble::Timeout => Self::Timeout(server.to_owned()),
            Trouble::NotMatrix => Self::NotMatrix(server.to_owned()),
            Trouble::RateLimited { retry_after } => Self::RateLimited { retry_after },
            Trouble::Refused { code, .. } if code == "M_USER_DEACTIVATED" => Self::Deactivated,
            Trouble::Refused { status: 403, .. } => Self::WrongPassword,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<DiscoverError> for LoginError {
    fn from(error: DiscoverError) -> Self {
        match error {
            DiscoverError::BadName(name) => Self::UnknownServer(name),
            DiscoverError::Trouble { server, trouble } => Self::from_trouble(&server, trouble),
        }
    }
}

/// Signs in with a password, makes the store, and sets up encryption (cross-signing, key backup, recovery) where the account
/// has none. Nothing is left behind on failure: no store, no device.
pub async fn login(
    endpoint: &Endpoint,
    user: &str,
    password: &Secret,
    store: &Store,
    progress: impl Fn(&str),
) -> Result<LoginOutcome, LoginError> {
    login_with_recovery(endpoint, user, password, None, store, progress).await
}

/// As `login`, for an account whose recovery key is known: this device becomes a trusted one at once, and reads encrypted
/// history from the key backup.
pub async fn login_with_recovery(
    endpoint: &Endpoint,
    user: &str,
    password: &Secret,
    recovery_key: Option<&Secret>,
    store: &Store,
    progress: impl Fn(&str),
) -> Result<LoginOutcome, LoginError> {
    login_unless(&Shutdown::new(), endpoint, user, password, recovery_key, store, progress).await
}

/// As `login_with_recovery`, until the signal. Nothing is left behind then either; once encryption is being set up it is too
/// late: half of that would cost the account its history.
pub async fn login_unless(
    cancel: &Shutdown,
    endpoint: &Endpoint,
    user: &str,
    password: &Secret,
    recovery_key: Option<&Secret>,
    store: &Store,
    progress: impl Fn(&str),
) -> Result<LoginOutcome, LoginError> {
    if store.exists() {
        return Err(LoginError::Occupied(store.dir.clone()));
    }
    let lock = store.lock()?;
    let found = tokio::select! {
        found = find_login(endpoint, &progress) => found?,
        () = cancel.wait() => return Err(LoginError::Cancelled),
    };
    let asked = found.ask(endpoint, user, password, None);
    tokio::pin!(asked);
    let session = tokio::select! {
        session = &mut asked => session?,
        () = cancel.wait() => {
            if let Ok(Ok(session)) = tokio::time::timeout(LATE, asked).await {
                forget_device(&session).await;
            }
            return Err(LoginError::Cancelled);
        }
    };
    progress("Preparing this device");
    let set_up = async {
        let client = connect::open(&session.endpoint, &session.base_url, store).await?;
        let restored = client.restore_session(session.to_sdk()).await;
        restored.map_err(|error| LoginError::Other(Trouble::of(&error).to_string()))?;
        if cancel.is_triggered() { Err(LoginError::Cancelled) } else { Ok::<Client, LoginError>(client) }
    };
    let client = match set_up.await {
        Ok(client) => client,
        Err(error) => {
            forget_device(&session).await;
            if let Err(error) = store.delete() {
                tracing::warn!(%error, "the store of a failed sign-in could not be deleted");
            }
            return Err(error);
        }
    };
    progress("Setting up encryption");
    let encryption = encryption::set_up(&client, user, password, recovery_key).await;
    drop(client);
    drop(lock);
    Ok(LoginOutcome { session, recovery_key: encryption.recovery_key, notes: encryption.notes })
}

async fn forget_device(session: &SavedSession) {
    if let Err(error) = logout(session).await {
        tracing::warn!(%error, "a device could not be signed out after a sign-in that came to nothing");
    }
}

/// Signs in again as the same device after the server ended the session. The store stays as it is.
pub async fn renew(saved: &SavedSession, password: &Secret, progress: impl Fn(&str)) -> Result<SavedSession, LoginError> {
    let renewed = request_login(&saved.endpoint, saved.user_id.as_str(), password, Some(&saved.device_id), &progress).await?;
    progress("Checking this device");
    let server = saved.user_id.server_name().as_str();
    match encryption::device_is_known(&renewed).await {
        Ok(true) => Ok(renewed),
        Ok(false) => {
            // A device of that name without our keys: nobody could write to it.
            if let Err(error) = logout(&renewed).await {
                tracing::warn!(%error, "a device could not be signed out after a failed renewal");
            }
            Err(LoginError::DeviceGone)
        }
        Err(trouble) => Err(LoginError::from_trouble(server, trouble)),
    }
}

/// Ends the session on the server. The caller deletes the store. A session that the server has ended already is fine.
pub async fn logout(saved: &SavedSession) -> Result<(), Trouble> {
    let client = connect::open_in_memory(&saved.endpoint, &saved.base_url).await?;
    client.restore_session(saved.to_sdk()).await?;
    let request = ruma::api::client::session::logout::v3::Request::new();
    let sent = client.send(request).with_request_config(RequestConfig::new().disable_retry().timeout(ANSWER_TIMEOUT));
    match sent.await.map_err(Trouble::from) {
        Ok(_) | Err(Trouble::Expired { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

pub(super) async fn request_login(
    endpoint: &Endpoint,
    user: &str,
    password: &Secret,
    device_id: Option<&OwnedDeviceId>,
    progress: &impl Fn(&str),
) -> Result<SavedSession, LoginError> {
    find_login(endpoint, progress).await?.ask(endpoint, user, password, device_id).await
}

/// A server that signs in with passwords.
struct Found {
    client: Client,
    server: String,
    base_url: Url,
}

/// Finds the server and asks how it signs in.
async fn find_login(endpoint: &Endpoint, progress: &impl Fn(&str)) -> Result<Found, LoginError> {
    let (server, base_url) = match endpoint {
        Endpoint::Server { name_or_url } => {
            progress(&format!("Looking up {name_or_url}"));
            let http = connect::http(endpoint).map_err(|trouble| LoginError::Other(trouble.to_string()))?;
            (name_or_url.clone(), discover(&http, name_or_url).await?.base_url)
        }
        Endpoint::Socket { server_name, .. } => {
            let base_url = Url::parse("http://localhost/").map_err(|error| LoginError::Other(error.to_string()))?;
            (server_name.clone(), base_url)
        }
    };
    let failed = |trouble: Trouble| LoginError::from_trouble(&server, trouble);
    let client = connect::open_in_memory(endpoint, &base_url).await.map_err(failed)?;
    let config = RequestConfig::new().disable_retry().timeout(ANSWER_TIMEOUT);
    progress(&format!("Signing in to {server}"));
    let flows = client.send(get_login_types::v3::Request::new()).with_request_config(config).await;
    let flows = flows.map_err(|error| failed(error.into()))?.flows;
    if !flows.iter().any(|flow| matches!(flow, get_login_types::v3::LoginType::Password(_))) {
        return Err(LoginError::Unsupported(flows.iter().map(|flow| plain_flow(flow.login_type())).collect()));
    }
    Ok(Found { client, server, base_url })
}

impl Found {
    /// Gives it the password.
    async fn ask(
        self,
        endpoint: &Endpoint,
        user: &str,
        password: &Secret,
        device_id: Option<&OwnedDeviceId>,
    ) -> Result<SavedSession, LoginError> {
        let Self { client, server, base_url } = self;
        let identifier = UserIdentifier::Matrix(ruma::api::client::uiaa::MatrixUserIdentifier::new(user.to_owned()));
        let password = login::v3::Password::new(identifier, password.expose().to_owned());
        let mut request = login::v3::Request::new(login::v3::LoginInfo::Password(password));
        request.device_id = device_id.cloned();
        request.initial_device_display_name = Some("homeroom".to_owned());
        let config = RequestConfig::new().disable_retry().timeout(ANSWER_TIMEOUT);
        let answer = client.send(request).with_request_config(config).await;
        let answer = answer.map_err(|error| LoginError::from_trouble(&server, error.into()))?;
        Ok(SavedSession {
            endpoint: endpoint.clone(),
            base_url,
            user_id: answer.user_id,
            device_id: answer.device_id,
            access_token: answer.access_token,
        })
    }
}

fn plain_flow(flow: &str) -> String {
    match flow {
        "m.login.sso" => "sign-in through a web page".to_owned(),
        "m.login.token" => "sign-in with a token".to_owned(),
        other => super::words::one_line(other, 40),
    }
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{method, path},
    };

    use super::*;

    const FLOWS: &str = r#"{"flows":[{"type":"m.login.password"}]}"#;

    async fn server(flows: &str, login: ResponseTemplate) -> MockServer {
        let server = MockServer::start().await;
        let json = |body: &str| ResponseTemplate::new(200).set_body_raw(body.to_owned(), "application/json");
        Mock::given(path("/_matrix/client/versions")).respond_with(json(r#"{"versions":["v1.11"]}"#)).mount(&server).await;
        Mock::given(method("GET")).and(path("/_matrix/client/v3/login")).respond_with(json(flows)).mount(&server).await;
        Mock::given(method("POST")).and(path("/_matrix/client/v3/login")).respond_with(login).mount(&server).await;
        server
    }

    fn refusal(status: u16, body: &str) -> ResponseTemplate {
        ResponseTemplate::new(status).set_body_raw(body.to_owned(), "application/json")
    }

    /// Signs in and says why it failed; the store's directory must hold no database afterwards.
    async fn attempt(server: &MockServer) -> LoginError {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().join("store"), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        let endpoint = Endpoint::Server { name_or_url: server.uri() };
        let outcome = login(&endpoint, "ann", &Secret::new("secret".to_owned()), &store, |_| {}).await;
        assert!(!store.exists(), "a failed sign-in leaves a store behind");
        outcome.expect_err("refused")
    }

    #[tokio::test]
    async fn a_wrong_password_is_called_one() {
        let server = server(FLOWS, refusal(403, r#"{"errcode":"M_FORBIDDEN","error":"Invalid"}"#)).await;
        assert!(matches!(attempt(&server).await, LoginError::WrongPassword));
    }

    #[tokio::test]
    async fn a_deactivated_account_is_called_one() {
        let server = server(FLOWS, refusal(403, r#"{"errcode":"M_USER_DEACTIVATED","error":"Gone"}"#)).await;
        assert!(matches!(attempt(&server).await, LoginError::Deactivated));
    }

    #[tokio::test]
    async fn too_many_attempts_say_how_long_to_wait() {
        let server = server(FLOWS, refusal(429, r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Slow down","retry_after_ms":7000}"#)).await;
        assert_eq!(attempt(&server).await.to_string(), "too many attempts; try again in 7 s");
    }

    #[tokio::test]
    async fn a_server_without_password_sign_in_says_what_it_offers() {
        let server = server(r#"{"flows":[{"type":"m.login.sso"}]}"#, refusal(403, "{}")).await;
        let error = attempt(&server).await;
        assert!(error.to_string().contains("sign-in through a web page"), "{error}");
    }

    #[tokio::test]
    async fn garbage_after_the_password_is_not_a_matrix_server() {
        let server = server(FLOWS, refusal(200, "<html>")).await;
        assert!(matches!(attempt(&server).await, LoginError::NotMatrix(_)));
    }

    #[tokio::test]
    async fn a_sign_in_that_is_given_up_leaves_neither_store_nor_device() {
        let answer = r#"{"user_id":"@ann:x","device_id":"D","access_token":"t"}"#;
        let server = server(FLOWS, refusal(200, answer).set_delay(Duration::from_millis(500))).await;
        Mock::given(path("/_matrix/client/v3/logout")).respond_with(refusal(200, "{}")).expect(1).mount(&server).await;
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().join("store"), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        let endpoint = Endpoint::Server { name_or_url: server.uri() };
        let cancel = Shutdown::new();
        let (secret, posted) = (Secret::new("secret".to_owned()), async {
            let asked = || async { server.received_requests().await.unwrap_or_default().iter().any(|r| r.method.as_str() == "POST") };
            while !asked().await {
                tokio::task::yield_now().await;
            }
            cancel.trigger();
        });
        let (outcome, ()) = tokio::join!(login_unless(&cancel, &endpoint, "ann", &secret, None, &store, |_| {}), posted);
        assert!(matches!(outcome, Err(LoginError::Cancelled)), "{outcome:?}");
        assert!(!store.exists());
    }

    #[tokio::test]
    async fn an_occupied_profile_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().to_owned(), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        std::fs::write(dir.path().join("matrix-sdk-state.sqlite3"), b"something").expect("written");
        let endpoint = Endpoint::Server { name_or_url: "http://127.0.0.1:1".to_owned() };
        let error = login(&endpoint, "ann", &Secret::new("secret".to_owned()), &store, |_| {}).await.expect_err("refused");
        assert!(matches!(error, LoginError::Occupied(_)));
        assert!(store.exists());
    }

    #[tokio::test]
    async fn a_damaged_store_says_how_to_repair_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().to_owned(), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        std::fs::write(dir.path().join("matrix-sdk-state.sqlite3"), vec![0x5a; 8192]).expect("written");
        let endpoint = Endpoint::Server { name_or_url: "http://127.0.0.1:1".to_owned() };
        let url = Url::parse("http://127.0.0.1:1/").expect("a URL");
        let error = connect::open(&endpoint, &url, &store).await.expect_err("damaged");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("sign out"), "{error}");
    }

    #[test]
    fn a_store_opens_in_one_place_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().to_owned(), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        let first = store.lock().expect("free");
        assert!(matches!(store.lock(), Err(StoreError::InUse(_))));
        drop(first);
        store.lock().expect("free again");
    }

    #[test]
    fn a_saved_session_survives_saving_and_hides_its_token() {
        let session = SavedSession {
            endpoint: Endpoint::Socket { path: "/run/x".into(), server_name: "home.local".to_owned() },
            base_url: Url::parse("http://localhost/").expect("a URL"),
            user_id: ruma::owned_user_id!("@ann:home.local"),
            device_id: "DEVICE".into(),
            access_token: "very-secret".to_owned(),
        };
        assert!(!format!("{session:?}").contains("very-secret"));
        let again: SavedSession = serde_json::from_str(&serde_json::to_string(&session).expect("written")).expect("read");
        assert_eq!(again.access_token, "very-secret");
        assert_eq!(again.endpoint, session.endpoint);
    }
}
