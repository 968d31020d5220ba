//! Asks other servers: signs, finds, connects, bounds, and keeps the record of who answers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Method, Uri, header};
use http_body_util::Full;
use hyper_util::{client::legacy, rt::TokioTimer};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponse as _, OutgoingRequest, auth_scheme::AuthScheme as _, federation::authentication::ServerSignatures,
        path_builder::PathBuilder,
    },
};
use tokio::time::Instant;

use super::{
    connect::{ConnectError, Connector, Stream},
    discovery::{Discovery, DiscoveryError},
    health::Health,
    names,
    request::{Body, Limits, RequestError, Signing, refusal},
};
use crate::{
    base::Tasks,
    homeserver::{key::SigningKey, rooms::acl::Acl},
};

/// How long an idle connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(60);
/// How long connections are used before all are made anew.
const OLD: Duration = Duration::from_secs(10 * 60);
/// Idle connections to one server.
const IDLE_CONNECTIONS: usize = 4;
/// Bytes of an error's body that are read.
const ERROR_BYTES: usize = 64 * 1024;
/// What this node calls itself to other servers.
const USER_AGENT: &str = concat!("homeroom/", env!("CARGO_PKG_VERSION"));

/// The way to other servers. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    name: OwnedServerName,
    key: Arc<SigningKey>,
    http: Mutex<Pool>,
    tasks: Tasks,
    connector: Connector,
    discovery: Discovery,
    health: Arc<Health>,
    /// Those whom the owner lets it talk to.
    servers: Acl,
}

/// Connections to servers, by their names. Where a name leads, and whether it may be gone to, is looked at when one is made, and one
/// that is busy never ends by itself: after a while all are made anew.
#[derive(Debug)]
struct Pool {
    http: legacy::Client<Dial, Full<Bytes>>,
    since: Instant,
}

impl Pool {
    fn new(tasks: &Tasks, connector: &Connector, discovery: &Discovery, since: Instant) -> Self {
        let http = legacy::Client::builder(OnTasks(tasks.clone()))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_headers(64)
            .build(Dial { connector: connector.clone(), discovery: discovery.clone() });
        Self { http, since }
    }
}

impl Inner {
    /// The way to other servers. Requests that are under way go on over the connections that they have.
    fn http(&self, now: Instant) -> legacy::Client<Dial, Full<Bytes>> {
        let mut pool = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(pool.since) >= OLD {
            *pool = Pool::new(&self.tasks, &self.connector, &self.discovery, now);
        }
        pool.http.clone()
    }
}

impl Client {
    /// A client that refuses everything, for a node that does not federate.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Speaks in the name of `name`.
    #[must_use]
    pub fn new(
        name: OwnedServerName,
        key: Arc<SigningKey>,
        connector: Connector,
        discovery: Discovery,
        health: Arc<Health>,
        tasks: Tasks,
        servers: Acl,
    ) -> Self {
        let http = Mutex::new(Pool::new(&tasks, &connector, &discovery, Instant::now()));
        Self(Some(Arc::new(Inner { name, key, http, tasks, connector, discovery, health, servers })))
    }

    /// True when this node talks to other servers.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Does the owner let the node have to do with this server?
    #[must_use]
    pub fn has_to_do_with(&self, server: &ServerName) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.servers.allows(server))
    }

    /// Asks a server, within [`Limits::ORDINARY`].
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn request<R>(&self, destination: &ServerName, request: R) -> Result<R::IncomingResponse, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: Signing,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.request_within(destination, request, Limits::ORDINARY).await
    }

    /// Asks a server.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn request_within<R>(&self, destination: &ServerName, request: R, limits: Limits) -> Result<R::IncomingResponse, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: Signing,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let inner = self.0.as_ref().ok_or(RequestError::Disabled)?;
        // Nothing of the request is held while we wait for the answer, so it need not be `Send`.
        let made = {
            let key = inner.key.pair();
            let input = R::Authentication::input(&inner.name, destination, &key);
            let ours = |error: ruma::api::error::IntoHttpError| RequestError::Ours(error.to_string());
            request.try_into_http_request::<BytesMut>(&base_url(destination), input, ()).map_err(ours)?
        };
        let response = inner.exchange(destination, made.map(BytesMut::freeze), limits).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.inspect_err(|error| inner.note(destination, error))?;
        if !parts.status.is_success() {
            return Err(RequestError::Nonsense(format!("status {}", parts.status.as_u16())));
        }
        R::IncomingResponse::try_from_http_response(http::Response::from_parts(parts, body)).map_err(|error| {
            let text = error.to_string();
            RequestError::Nonsense(super::request::harmless(&text, 200))
        })
    }

    /// Asks a server something that ruma has no type for, or whose answer is to be read piece by piece. `path` has the query;
    /// `content` is JSON. The answer has a status below 400.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn stream(
        &self,
        destination: &ServerName,
        method: Method,
        path: &str,
        content: Option<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Body>, RequestError> {
        let inner = self.0.as_ref().ok_or(RequestError::Disabled)?;
        let ours = |error: &dyn std::error::Error| RequestError::Ours(error.to_string());
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", base_url(destination)));
        if content.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let mut request = request.body(Bytes::from(content.unwrap_or_default())).map_err(|error| ours(&error))?;
        let key = inner.key.pair();
        let input = ServerSignatures::input(&inner.name, destination, &key);
        ServerSignatures::add_authentication(&mut request, input).map_err(|error| ours(&error))?;
        inner.exchange(destination, request, limits).await
    }

    /// The same, with the whole answer.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn raw(
        &self,
        destination: &ServerName,
        method: Method,
        path: &str,
        content: Option<Vec<u8>>,
        limits: Limits,
    ) -> Result<Bytes, RequestError> {
        let body = self.stream(destination, method, path, content, limits).await?.into_body();
        body.collect().await.inspect_err(|error| self.broke_off(destination, error))
    }

    /// An answer that was read piece by piece ended like this: for the record.
    pub fn broke_off(&self, destination: &ServerName, error: &RequestError) {
        if let Some(inner) = &self.0 {
            inner.note(destination, error);
        }
    }
}

fn base_url(destination: &ServerName) -> String {
    format!("https://{destination}")
}

impl Inner {
    /// Sends a request and reads the head of the answer.
    async fn exchange(
        &self,
        destination: &ServerName,
        request: http::Request<Bytes>,
        limits: Limits,
    ) -> Result<http::Response<Body>, RequestError> {
        names::parts(destination.as_str()).map_err(DiscoveryError::from)?;
        if destination == self.name {
            return Err(RequestError::OwnName);
        }
        if !self.servers.allows(destination) {
            return Err(RequestError::Blocked(destination.to_owned()));
        }
        let condition = self.health.of(destination);
        if condition.retry_at_ms > 0 && !limits.insist {
            return Err(RequestError::BackingOff { retry_at_ms: condition.retry_at_ms });
        }
        let deadline = tokio::time::Instant::now() + limits.time;
        let outcome = tokio::time::timeout_at(deadline, self.send(destination, request, limits, deadline)).await;
        let outcome = outcome.unwrap_or(Err(RequestError::TimedOut));
        match &outcome {
            Err(error) => self.note(destination, error),
            Ok(_) => self.health.succeeded(destination),
        }
        outcome
    }

    async fn send(
        &self,
        destination: &ServerName,
        mut request: http::Request<Bytes>,
        limits: Limits,
        deadline: tokio::time::Instant,
    ) -> Result<http::Response<Body>, RequestError> {
        let place = self.health.place(destination).await;
        let route = self.discovery.route(destination).await?;
        let host = header::HeaderValue::from_str(&route.host).map_err(|error| RequestError::Ours(error.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        let response = self.http(Instant::now()).request(request.map(Full::new)).await.map_err(|error| failure(&error))?;
        let refused = response.status().is_client_error() || response.status().is_server_error();
        let limit_bytes = if refused { ERROR_BYTES } else { limits.body_bytes };
        let body = |incoming| Body { incoming, left_bytes: limit_bytes, limit_bytes, deadline, _place: place };
        if refused {
            let (parts, incoming) = response.into_parts();
            let text = match body(incoming).collect().await {
                Ok(text) => text,
                // The status says enough.
                Err(RequestError::TooLarge(_)) => Bytes::new(),
                Err(error) => return Err(error),
            };
            return Err(refusal(parts.status, &parts.headers, &text));
        }
        Ok(response.map(body))
    }

    /// Keeps the record.
    fn note(&self, destination: &ServerName, error: &RequestError) {
        if error.is_outage() {
            let retry_at_ms = self.health.failed(destination, error.retry_after());
            tracing::info!(peer = %destination, %error, retry_at_ms, "a server does not answer");
        } else if matches!(error, RequestError::Remote { .. }) {
            self.health.succeeded(destination);
        }
    }
}

/// What is behind an error of hyper's: mostly one of ours, from the connector.
fn failure(error: &legacy::Error) -> RequestError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(dial) = cause.downcast_ref::<DialError>() {
            return match dial {
                DialError::Discovery(error) => RequestError::Discovery(error.clone()),
                DialError::Connect(error) => RequestError::Connect(error.clone()),
            };
        }
        source = cause.source();
        if source.is_none() {
            return RequestError::Broken(cause.to_string());
        }
    }
    RequestError::Broken(error.to_string())
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Opens a connection for hyper's pool, which knows servers by their Matrix names: the authority of our URLs.
#[derive(Debug, Clone)]
struct Dial {
    connector: Connector,
    discovery: Discovery,
}

impl tower::Service<Uri> for Dial {
    type Response = Stream;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Stream, DialError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { connector, discovery } = self.clone();
        Box::pin(async move {
            let name = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            let server = names::parse(name).map_err(DiscoveryError::from)?;
            let route = discovery.route(&server).await?;
            Ok(connector.connect(&route).await?)
        })
    }
}

/// Connections run as tasks of the node and end with it.
#[derive(Debug, Clone)]
struct OnTasks(Tasks);

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for OnTasks {
    fn execute(&self, connection: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let shutdown = self.0.shutdown().clone();
        self.0.spawn("federation-connection", async move {
            // What is cut off here is asked or sent again after the next start.
            tokio::select! {
                () = connection => {}
                () = shutdown.wait() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        base::{Clock, ManualClock, Randomness, Shutdown, SystemRandomness},
        homeserver::{
            federation::{dns::Dns, testing::FakeDns, well_known::WellKnown},
            outbound::Guard,
        },
    };

    #[tokio::test]
    async fn where_a_name_leads_is_looked_at_again_however_busy_a_server_is() {
        let (clock, randomness): (Arc<dyn Clock>, Arc<dyn Randomness>) = (Arc::new(ManualClock::at(1)), Arc::new(SystemRandomness));
        let dns: Arc<dyn Dns> = Arc::new(FakeDns::default());
        let connector = Connector::new(Arc::clone(&dns), Guard::everything(), None);
        let well_known = WellKnown::new(connector.clone(), Arc::clone(&clock), Arc::clone(&randomness));
        let discovery = Discovery::new(dns, well_known, Arc::clone(&randomness));
        let (health, tasks) = (Arc::new(Health::new(clock, randomness)), Tasks::new(Shutdown::new()));
        let name = ServerName::parse("home.test").unwrap();
        let key = Arc::new(SigningKey::for_tests("t"));
        let client = Client::new(name, key, connector, discovery, health, tasks, Acl::of_owner(&[], &[]));
        let inner = client.0.unwrap();
        let since = || inner.http.lock().unwrap().since;
        let first = since();
        drop(inner.http(first + OLD / 2));
        assert_eq!(since(), first);
        drop(inner.http(first + OLD));
        assert_eq!(since(), first + OLD);
    }
}
