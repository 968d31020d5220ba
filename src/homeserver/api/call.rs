//! From HTTP to a typed ruma request and back.
//!
//! An endpoint is an async function from the node and a [`Call`] to ruma's response type. [`Routes::add`] registers it under
//! every path that the endpoint has had, reads and bounds the body, authenticates as the endpoint's metadata says, and turns
//! the answer into HTTP.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use bytes::BytesMut;
use http::{Method, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::{
        IncomingRequest, Metadata, OutgoingResponse,
        auth_scheme::{AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, NoAccessToken, NoAuthentication},
        error::{DeserializationError, FromHttpRequestError},
        path_builder::PathBuilder,
    },
};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    endpoints::{Endpoint, State},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{Node, appservice::Service, listen::Peer, types::Requester};

/// Largest request body of an ordinary endpoint. Bulk endpoints (key backup) and media have their own.
pub const BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long a large body may take beyond its first [`BODY_BYTES`].
const LARGE_TIME: Duration = Duration::from_secs(60);
/// When who has a large body and found no place may come again.
const LARGE_PAUSE: Duration = Duration::from_secs(5);

/// What the user of a locked account may still ask for. Whole paths: what a user names themselves may end in anything.
const SIGN_OUT: [&str; 4] =
    ["/_matrix/client/v3/logout", "/_matrix/client/v3/logout/all", "/_matrix/client/r0/logout", "/_matrix/client/r0/logout/all"];

/// A request that has been read, checked and authenticated.
#[derive(Debug)]
pub struct Call<T, W = Requester> {
    /// The typed request.
    pub request: T,
    /// Who asks: [`Requester`], `Option<Requester>` or `()`, as the endpoint's metadata says.
    pub who: W,
    /// The client's address; `None` on the Unix socket.
    pub address: Option<IpAddr>,
    /// The body as it came, for user-interactive authentication and for what ruma drops.
    pub body: bytes::Bytes,
}

/// A request whose JSON the handler reads itself, because ruma's type would change or lose some of it.
#[derive(Debug)]
pub struct RawCall<W = Requester> {
    /// What the path names, in order.
    pub path: Vec<String>,
    /// The query.
    pub query: Vec<(String, String)>,
    /// Who asks.
    pub who: W,
    /// The client's address; `None` on the Unix socket.
    pub address: Option<IpAddr>,
    /// The body as it came.
    pub body: bytes::Bytes,
}

impl<W> RawCall<W> {
    /// The body, which has to be an object. No body is an empty one.
    ///
    /// # Errors
    ///
    /// 400 `M_NOT_JSON`, `M_BAD_JSON`.
    pub fn object(&self) -> ApiResult<Map<String, Value>> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(ApiError::bad_json("The body is not an object")),
            Err(error) => Err(ApiError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("The body is not JSON: {error}"))),
        }
    }

    /// A part of the path.
    ///
    /// # Errors
    ///
    /// 400 when the path has fewer parts, which the route excludes.
    pub fn segment(&self, index: usize) -> ApiResult<&str> {
        self.path.get(index).map(String::as_str).ok_or_else(|| ApiError::invalid_param("The path is incomplete"))
    }

    /// A query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What an authentication scheme of ruma's means for a handler.
pub trait Scheme {
    /// What the handler is given.
    type Who: Send + 'static;
    /// Works it out from the `Authorization` header.
    fn authenticate(node: &Node, parts: &Parts) -> impl Future<Output = ApiResult<Self::Who>> + Send;
    /// Checks what can be checked only once the body is there. The handler is called after that.
    fn confirm(_node: &Node, _parts: &Parts, _body: &bytes::Bytes, _who: &Self::Who) -> impl Future<Output = ApiResult<()>> + Send {
        std::future::ready(Ok(()))
    }
}

impl Scheme for AccessToken {
    type Who = Requester;
    async fn authenticate(node: &Node, parts: &Parts) -> ApiResult<Requester> {
        requester(node, parts, bearer(parts).ok_or_else(ApiError::missing_token)?).await
    }
}

impl Scheme for AccessTokenOptional {
    type Who = Option<Requester>;
    async fn authenticate(node: &Node, parts: &Parts) -> ApiResult<Option<Requester>> {
        match bearer(parts) {
            Some(token) => requester(node, parts, token).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Scheme for AppserviceToken {
    type Who = Arc<Service>;
    async fn authenticate(node: &Node, parts: &Parts) -> ApiResult<Arc<Service>> {
        let token = bearer(parts).ok_or_else(ApiError::missing_token)?;
        if let Some(service) = node.appservices.by_token(token) {
            service.is_heard_of();
            return Ok(Arc::clone(service));
        }
        node.accounts.requester(token, address(parts)).await?;
        Err(ApiError::forbidden("This is for application services"))
    }
}

/// What an endpoint is shown that application services use as well as people.
#[derive(Debug)]
pub enum MaybeService {
    /// No token.
    Nothing,
    /// A token that is no service's.
    Other,
    /// A service.
    Service(Arc<Service>),
}

impl MaybeService {
    /// The service.
    ///
    /// # Errors
    ///
    /// 401 `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`.
    pub fn service(&self) -> ApiResult<&Arc<Service>> {
        match self {
            Self::Nothing => Err(ApiError::missing_token()),
            Self::Other => Err(ApiError::unknown_token(false)),
            Self::Service(service) => Ok(service),
        }
    }
}

impl Scheme for AppserviceTokenOptional {
    type Who = MaybeService;
    async fn authenticate(node: &Node, parts: &Parts) -> ApiResult<MaybeService> {
        Ok(match bearer(parts) {
            None => MaybeService::Nothing,
            Some(token) => match node.appservices.by_token(token) {
                Some(service) => {
                    service.is_heard_of();
                    MaybeService::Service(Arc::clone(service))
                }
                None => MaybeService::Other,
            },
        })
    }
}

impl Scheme for NoAccessToken {
    type Who = ();
    async fn authenticate(_: &Node, _: &Parts) -> ApiResult<()> {
        Ok(())
    }
}

impl Scheme for NoAuthentication {
    type Who = ();
    async fn authenticate(_: &Node, _: &Parts) -> ApiResult<()> {
        Ok(())
    }
}

async fn requester(node: &Node, parts: &Parts, token: &str) -> ApiResult<Requester> {
    if let Some(service) = node.appservices.by_token(token) {
        return asserted(node, service, parts).await;
    }
    // Client-Server API, "Account locking": all that the user of a locked account can do is to sign out.
    let signs_out = SIGN_OUT.contains(&parts.uri.path());
    Ok(node.accounts.requester_who_may_be_locked(token, address(parts), signs_out).await?)
}

/// The user that an application service acts as, and the device (Application Service API, "Identity assertion").
async fn asserted(node: &Node, service: &Service, parts: &Parts) -> ApiResult<Requester> {
    service.is_heard_of();
    let find = |names: &[&str]| {
        let mut pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        pairs.find(|(name, _)| names.contains(&name.as_ref())).map(|(_, value)| value.into_owned())
    };
    let user_id = find(&["user_id"]).map(OwnedUserId::try_from).transpose();
    let user_id = user_id.map_err(|_| ApiError::invalid_param("`user_id` is not a user ID"))?;
    let device = find(&["device_id", "org.matrix.msc3202.device_id"]).map(OwnedDeviceId::from);
    let who = node.accounts.assert(service, user_id.as_deref(), device.as_deref()).await?;
    if !service.rate_limited || who.user_id == service.sender {
        node.limits.set_free(who.user);
    }
    Ok(who)
}

/// The access token: `Authorization: Bearer`, or the query parameter that older clients and application services use. MSC4126
/// deprecates it and MSC4127 takes it out of the version after 1.19; those that `/versions` lists all have it.
#[must_use]
pub fn bearer(parts: &Parts) -> Option<&str> {
    if let Some(header) = parts.headers.get(http::header::AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    // Tokens that we issue need no percent-decoding; any other is unknown all the same.
    parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("access_token="))
}

/// The client's address, as the listener noted it.
#[must_use]
pub fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().and_then(|peer| peer.0).map(|a| a.ip())
}

/// Registers endpoints on a router.
#[derive(Debug)]
pub struct Routes {
    router: Router,
    node: Arc<Node>,
    /// What bodies may be like, for the endpoints added next.
    limit: BodyLimit,
    /// What has been added.
    registered: Vec<(Method, String)>,
}

impl Routes {
    /// No endpoints yet.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { router: Router::new(), node, limit: BodyLimit { bytes: BODY_BYTES, large: None }, registered: Vec::new() }
    }

    /// The endpoints added from here on take bodies of up to this many bytes.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.limit = BodyLimit { bytes, large: None };
        self
    }

    /// The same, with no more than `places` of those larger than [`BODY_BYTES`] in memory at a time: for endpoints where who
    /// asks is known only once the body has been read. Who finds no place is told to come again.
    #[must_use]
    pub fn large_bodies(mut self, bytes: usize, places: usize) -> Self {
        self.limit = BodyLimit { bytes, large: Some(Arc::new(Semaphore::new(places))) };
        self
    }

    /// Adds an endpoint.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "nothing is summed: an endpoint joins the routes")]
    pub fn add<T, H, F>(self, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Scheme,
        T::OutgoingResponse: Send,
        H: Fn(Arc<Node>, Call<T, <T::Authentication as Scheme>::Who>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ApiResult<T::OutgoingResponse>> + Send,
    {
        let paths: Vec<&str> = T::PATH_BUILDER.all_paths().collect();
        self.add_at::<T, H, F>(&paths, handler)
    }

    /// Adds an endpoint under paths that ruma does not list.
    #[must_use]
    pub fn add_at<T, H, F>(mut self, paths: &[&str], handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Scheme,
        T::OutgoingResponse: Send,
        H: Fn(Arc<Node>, Call<T, <T::Authentication as Scheme>::Who>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ApiResult<T::OutgoingResponse>> + Send,
    {
        for path in paths {
            let (node, handler, limit) = (Arc::clone(&self.node), handler.clone(), self.limit.clone());
            let endpoint = move |request: Request| {
                let (node, handler, limit) = (Arc::clone(&node), handler.clone(), limit.clone());
                async move {
                    match run(node, handler, request, limit).await {
                        Ok(response) => response,
                        Err(error) => error.into_response(),
                    }
                }
            };
            self = self.route(&T::METHOD, path, on(filter(&T::METHOD), endpoint));
        }
        self
    }

    /// Adds an endpoint that reads its JSON itself. Paths, method and authentication are those of ruma's request type.
    #[must_use]
    pub fn add_raw<T, H, F, R>(self, handler: H) -> Self
    where
        T: Metadata,
        T::Authentication: Scheme,
        H: Fn(Arc<Node>, RawCall<<T::Authentication as Scheme>::Who>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ApiResult<R>> + Send,
        R: IntoResponse,
    {
        let paths = T::PATH_BUILDER.all_paths().collect::<Vec<_>>();
        self.add_raw_at::<T::Authentication, H, F, R>(&T::METHOD, &paths, handler)
    }

    /// The same for paths that ruma does not have.
    #[must_use]
    pub fn add_raw_at<S, H, F, R>(mut self, method: &Method, paths: &[&str], handler: H) -> Self
    where
        S: Scheme,
        H: Fn(Arc<Node>, RawCall<S::Who>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ApiResult<R>> + Send,
        R: IntoResponse,
    {
        for path in paths {
            let (node, handler, limit) = (Arc::clone(&self.node), handler.clone(), self.limit.clone());
            let endpoint = move |request: Request| {
                let (node, handler, limit) = (Arc::clone(&node), handler.clone(), limit.clone());
                async move {
                    match run_raw::<S, _, _, _>(node, handler, request, limit).await {
                        Ok(response) => response.into_response(),
                        Err(error) => error.into_response(),
                    }
                }
            };
            self = self.route(method, path, on(filter(method), endpoint));
        }
        self
    }

    /// Adds a plain axum handler, for endpoints that stream.
    #[must_use]
    pub fn route(mut self, method: &Method, path: &str, handler: MethodRouter) -> Self {
        self.router = self.router.route(path, handler);
        self.registered.push((method.clone(), path.to_owned()));
        self
    }

    /// Answers the endpoints that the table says are refused.
    #[must_use]
    pub fn refuse(mut self, table: &[Endpoint]) -> Self {
        for endpoint in table.iter().filter(|endpoint| endpoint.routed()) {
            let State::Refused { status, errcode, why } = endpoint.state else { continue };
            let answer = move || async move { ApiError::new(status, errcode, why) };
            for path in [endpoint.path.to_owned(), endpoint.path.replace("/client/v3/", "/client/r0/")] {
                self = self.route(&endpoint.method, &path, on(filter(&endpoint.method), answer));
            }
        }
        self
    }

    /// Method and path of everything that has been added.
    #[must_use]
    pub fn registered(&self) -> &[(Method, String)] {
        &self.registered
    }

    /// The node, for modules that build plain routers.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The finished router.
    pub fn into_router(self) -> Router {
        self.router
    }
}

async fn run<T, H, F>(node: Arc<Node>, handler: H, request: Request, limit: BodyLimit) -> ApiResult<Response>
where
    T: IncomingRequest,
    T::Authentication: Scheme,
    H: Fn(Arc<Node>, Call<T, <T::Authentication as Scheme>::Who>) -> F,
    F: Future<Output = ApiResult<T::OutgoingResponse>>,
{
    let (mut parts, body) = request.into_parts();
    // Authentication first: nobody makes us read a body without a right to send one.
    let who = T::Authentication::authenticate(&node, &parts).await?;
    let arguments = path_arguments(&mut parts).await?;
    let (body, _place) = limit.read(body).await?;
    T::Authentication::confirm(&node, &parts, &body, &who).await?;
    let address = address(&parts);
    let typed = T::try_from_http_request(http::Request::from_parts(parts, as_json(&T::METHOD, &body)), &arguments).map_err(refused)?;
    let response = handler(node, Call { request: typed, who, address, body }).await?;
    let response = response.try_into_http_response::<BytesMut>().map_err(ApiError::internal)?;
    Ok(response.map(|bytes| Body::from(bytes.freeze())))
}

async fn run_raw<S, H, F, R>(node: Arc<Node>, handler: H, request: Request, limit: BodyLimit) -> ApiResult<R>
where
    S: Scheme,
    H: Fn(Arc<Node>, RawCall<S::Who>) -> F,
    F: Future<Output = ApiResult<R>>,
{
    let (mut parts, body) = request.into_parts();
    let who = S::authenticate(&node, &parts).await?;
    let path = path_arguments(&mut parts).await?;
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| ApiError::invalid_param("The query is malformed"))?.0;
    let address = address(&parts);
    let (body, _place) = limit.read(body).await?;
    S::confirm(&node, &parts, &body, &who).await?;
    handler(node, RawCall { path, query, who, address, body }).await
}

/// What the path names, decoded.
async fn path_arguments(parts: &mut Parts) -> ApiResult<Vec<String>> {
    Path::<Vec<(String, String)>>::from_request_parts(parts, &())
        .await
        .map(|Path(pairs)| pairs.into_iter().map(|(_, value)| value).collect())
        .map_err(|_| ApiError::invalid_param("The path is not valid UTF-8"))
}

/// Clients send empty bodies where the specification has an optional object.
fn as_json(method: &Method, body: &bytes::Bytes) -> bytes::Bytes {
    if body.is_empty() && *method != Method::GET { bytes::Bytes::from_static(b"{}") } else { body.clone() }
}

/// What bodies may be like.
#[derive(Debug, Clone)]
struct BodyLimit {
    /// Their size at most.
    bytes: usize,
    /// Places for those larger than [`BODY_BYTES`]; `None`: as many as there are.
    large: Option<Arc<Semaphore>>,
}

impl BodyLimit {
    /// Reads a body, and takes a place for a large one, which is given back when the answer is there.
    async fn read(&self, mut body: Body) -> ApiResult<(bytes::Bytes, Option<OwnedSemaphorePermit>)> {
        let Some(places) = &self.large else { return Ok((read_body(body, self.bytes).await?, None)) };
        let (mut read, mut place) = (BytesMut::new(), None);
        // A place is not kept by sending slowly. Until there is one, a body is like any other.
        let mut deadline = None;
        loop {
            let frame = match deadline {
                None => body.frame().await,
                Some(deadline) => tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| broke_off())?,
            };
            let Some(frame) = frame else { return Ok((read.freeze(), place)) };
            let Ok(data) = frame.map_err(|_| broke_off())?.into_data() else { continue };
            if read.len() + data.len() > self.bytes {
                return Err(ApiError::too_large("The request is too large"));
            }
            if read.len() + data.len() > BODY_BYTES && place.is_none() {
                place = Some(Arc::clone(places).try_acquire_owned().map_err(|_| ApiError::limit_exceeded(LARGE_PAUSE))?);
                deadline = Some(tokio::time::Instant::now() + LARGE_TIME);
            }
            read.extend_from_slice(&data);
        }
    }
}

fn broke_off() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The request broke off")
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
///
/// 413 past the limit, 400 when the client stops in the middle.
pub async fn read_body(body: Body, limit: usize) -> ApiResult<bytes::Bytes> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let limited = std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if limited { ApiError::too_large("The request is too large") } else { broke_off() }
    })
}

/// Says what is wrong with a request that ruma does not accept.
fn refused(error: FromHttpRequestError) -> ApiError {
    match error {
        FromHttpRequestError::Deserialization(DeserializationError::Json(error)) if !error.is_data() => {
            ApiError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("The body is not JSON: {error}"))
        }
        FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => {
            let message = error.to_string();
            if message.starts_with("missing field") { ApiError::missing_param(message) } else { ApiError::bad_json(message) }
        }
        FromHttpRequestError::Deserialization(DeserializationError::Query(error)) => {
            let message = error.to_string();
            if message.starts_with("missing field") { ApiError::missing_param(message) } else { ApiError::invalid_param(message) }
        }
        other => ApiError::invalid_param(other.to_string()),
    }
}

fn filter(method: &Method) -> MethodFilter {
    match *method {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn body(bytes: usize) -> Body {
        let pieces =
            (0..bytes).step_by(1 << 16).map(move |at| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; (bytes - at).min(1 << 16)])));
        Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn large_bodies_have_places_and_others_need_none() {
        let limit = BodyLimit { bytes: BODY_BYTES * 2, large: Some(Arc::new(Semaphore::new(1))) };
        let (small, place) = limit.read(body(BODY_BYTES)).await.unwrap();
        assert_eq!((small.len(), place.is_none()), (BODY_BYTES, true));
        let (large, place) = limit.read(body(BODY_BYTES * 2)).await.unwrap();
        assert_eq!(large.len(), BODY_BYTES * 2);
        let refused = limit.read(body(BODY_BYTES + 1)).await.unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(limit.read(body(BODY_BYTES)).await.is_ok());
        drop(place);
        assert!(limit.read(body(BODY_BYTES + 1)).await.is_ok());
        let too_large = limit.read(body(BODY_BYTES * 2 + 1)).await.unwrap_err();
        assert_eq!(too_large.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
