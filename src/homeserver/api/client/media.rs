//! The content repository.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        auth_scheme::{AccessToken, AccessTokenOptional},
        client::{authenticated_media, media},
    },
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{
    super::{
        call::{RawCall, Routes, Scheme},
        error::{ApiError, ApiResult},
        files::{disposition, thumbnail_of},
    },
    not_suspended,
};
use crate::homeserver::{
    Node,
    federation::media::{self as fetch, FetchError},
    media::{Description, Download, MediaError},
    types::Requester,
    users::limits::{Key, Kind},
};

/// How long a download waits for an upload when the client does not say, and at most.
const WAIT: Duration = Duration::from_secs(20);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Chunks that a download is read in.
const CHUNK_BYTES: usize = 64 * 1024;

/// The configuration before it moved to `/_matrix/client/v1/media/config`.
const LEGACY_CONFIG: &[&str] = &["/_matrix/media/r0/config", "/_matrix/media/v3/config"];

/// What browsers may show in a page of ours, as far as they open one: nothing that runs.
const POLICY: &str =
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';";

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let refused = |status, errcode| Self::new(status, errcode, error.to_string());
        match error {
            MediaError::NotFound => Self::not_found("There is no such file"),
            MediaError::NotYetUploaded => refused(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED"),
            MediaError::NotOwner | MediaError::NoRoom => refused(StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            MediaError::AlreadyUploaded => refused(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA"),
            MediaError::TooManyPending => Self::limit_exceeded(Duration::from_secs(60)),
            MediaError::TooLarge { .. } | MediaError::ImageTooLarge => Self::too_large(error.to_string()),
            MediaError::BrokenOff => refused(StatusCode::BAD_REQUEST, "M_UNKNOWN"),
            MediaError::NoThumbnail => refused(StatusCode::BAD_REQUEST, "M_UNKNOWN"),
            MediaError::DiskFull => crate::homeserver::store::StoreError::DiskFull.into(),
            MediaError::Io(error) => Self::internal(error),
            MediaError::Store(error) => error.into(),
        }
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        match error {
            // What is wrong with another server's file is not what is wrong with the request.
            FetchError::Media(error @ (MediaError::TooLarge { .. } | MediaError::ImageTooLarge)) => {
                Self::new(StatusCode::BAD_GATEWAY, "M_TOO_LARGE", error.to_string())
            }
            FetchError::Media(MediaError::BrokenOff) => {
                Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "The file's server broke off in the middle")
            }
            FetchError::Media(error) => error.into(),
            FetchError::Remote(error) => error.into(),
            FetchError::Malformed(_) | FetchError::Elsewhere(_) => {
                tracing::debug!(%error, "a file of another server could not be fetched");
                Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "The file's server could not be asked")
            }
        }
    }
}

pub(super) fn add(routes: Routes) -> Routes {
    let node = Arc::clone(routes.node());
    let routes = routes
        .add_raw::<media::create_mxc_uri::v1::Request, _, _, _>(create_mxc_uri)
        .add_raw_at::<AccessToken, _, _, _>(&Method::GET, LEGACY_CONFIG, get_media_config)
        .add_raw::<authenticated_media::get_media_config::v1::Request, _, _, _>(get_media_config);
    streams(routes, &node)
}

/// The endpoints whose bodies are files.
fn streams(mut routes: Routes, node: &Arc<Node>) -> Routes {
    const UPLOAD: [&str; 2] = ["/_matrix/media/r0/upload", "/_matrix/media/v3/upload"];
    const FILL: [&str; 2] = ["/_matrix/media/v3/upload/{server}/{id}", "/_matrix/media/unstable/fi.mau.msc2246/upload/{server}/{id}"];
    const AUTHENTICATED: [&str; 2] = ["/_matrix/client/v1/media", "/_matrix/client/unstable/org.matrix.msc3916/media"];
    const LEGACY: [&str; 2] = ["/_matrix/media/r0", "/_matrix/media/v3"];
    for path in UPLOAD {
        let node = Arc::clone(node);
        routes = routes.route(&Method::POST, path, post(move |request| answer(upload(Arc::clone(&node), request))));
    }
    for path in FILL {
        let node = Arc::clone(node);
        routes = routes.route(&Method::PUT, path, put(move |request| answer(fill(Arc::clone(&node), request))));
    }
    for (prefixes, legacy) in [(AUTHENTICATED, false), (LEGACY, true)] {
        for prefix in prefixes {
            for path in ["download/{server}/{id}", "download/{server}/{id}/{name}"] {
                let node = Arc::clone(node);
                let endpoint = get(move |request| answer(download(Arc::clone(&node), request, legacy)));
                routes = routes.route(&Method::GET, &format!("{prefix}/{path}"), endpoint);
            }
            let node = Arc::clone(node);
            let endpoint = get(move |request| answer(thumbnail(Arc::clone(&node), request, legacy)));
            routes = routes.route(&Method::GET, &format!("{prefix}/thumbnail/{{server}}/{{id}}"), endpoint);
        }
    }
    routes
}

async fn answer(work: impl Future<Output = ApiResult<Response>>) -> Response {
    work.await.unwrap_or_else(IntoResponse::into_response)
}

fn content_uri(node: &Node, media_id: &str) -> String {
    format!("mxc://{}/{media_id}", node.config.server_name)
}

async fn may_upload(node: &Node, who: &Requester) -> ApiResult<()> {
    node.limits.check(Kind::Upload, Key::User(who.user)).map_err(ApiError::limit_exceeded)?;
    not_suspended(node, who).await
}

/// `POST /_matrix/media/v1/create`
async fn create_mxc_uri(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    may_upload(&node, &call.who).await?;
    let (media_id, expires_ms) = node.media.reserve(call.who.user).await?;
    Ok(Json(json!({ "content_uri": content_uri(&node, &media_id), "unused_expires_at": expires_ms })))
}

/// `GET /_matrix/client/v1/media/config`
async fn get_media_config(node: Arc<Node>, _: RawCall) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "m.upload.size": node.media.limit() })))
}

/// Where a file is.
enum Place<'a> {
    Here(&'a str),
    There(OwnedServerName, &'a str),
}

/// What the path and the query say.
#[derive(Debug, Default)]
struct Arguments {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

impl Arguments {
    async fn read(parts: &mut Parts) -> ApiResult<Self> {
        let Path(path) = Path::from_request_parts(parts, &()).await.map_err(|_| ApiError::invalid_param("The path is not valid UTF-8"))?;
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|_| ApiError::invalid_param("The query is malformed"))?;
        Ok(Self { path, query })
    }

    fn part(&self, name: &str) -> Option<&str> {
        self.path.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> ApiResult<Option<T>> {
        let parse = |text: &str| text.parse().map_err(|_| ApiError::invalid_param(format!("`{name}` is not a number")));
        self.parameter(name).map(parse).transpose()
    }

    fn flag(&self, name: &str) -> ApiResult<Option<bool>> {
        match self.parameter(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid_param(format!("`{name}` is neither true nor false"))),
        }
    }

    /// Whose file it is.
    fn place(&self, node: &Node) -> ApiResult<Place<'_>> {
        // We never redirect, whether we may or not.
        let (remote, _) = (self.flag("allow_remote")?.unwrap_or(true), self.flag("allow_redirect")?);
        match (self.part("server").map(ServerName::parse), self.part("id")) {
            (Some(Ok(server)), Some(id)) if server == node.config.server_name => Ok(Place::Here(id)),
            // Another server that asks the old way asks for what is ours only.
            (Some(Ok(server)), Some(id)) if remote => Ok(Place::There(server, id)),
            _ => Err(MediaError::NotFound.into()),
        }
    }

    /// The media ID, where it is one of this server's.
    fn media_id(&self, node: &Node) -> ApiResult<&str> {
        match self.place(node)? {
            Place::Here(id) => Ok(id),
            Place::There(..) => Err(MediaError::NotFound.into()),
        }
    }

    fn wait(&self) -> ApiResult<Duration> {
        Ok(self.number("timeout_ms")?.map_or(WAIT, Duration::from_millis).min(LONGEST_WAIT))
    }
}

/// Type, name and announced size of an upload.
fn describe(node: &Node, parts: &Parts, arguments: &Arguments) -> ApiResult<Description> {
    let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let announced = header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > node.media.limit()) {
        return Err(MediaError::TooLarge { limit: node.media.limit() }.into());
    }
    Ok(Description {
        content_type: header(header::CONTENT_TYPE).map(ToOwned::to_owned),
        filename: arguments.parameter("filename").map(|name| name.chars().filter(|c| !c.is_control()).collect()),
    })
}

/// `POST /_matrix/media/v3/upload`
async fn upload(node: Arc<Node>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let who = AccessToken::authenticate(&node, &parts).await?;
    may_upload(&node, &who).await?;
    let Query(query) = Query::try_from_uri(&parts.uri).map_err(|_| ApiError::invalid_param("The query is malformed"))?;
    let description = describe(&node, &parts, &Arguments { path: Vec::new(), query })?;
    let bytes = body.into_data_stream().map(|chunk| chunk.map_err(|_| MediaError::BrokenOff));
    let media_id = node.media.upload(who.user, description, std::pin::pin!(bytes)).await?;
    Ok(Json(json!({ "content_uri": content_uri(&node, &media_id) })).into_response())
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
async fn fill(node: Arc<Node>, request: Request) -> ApiResult<Response> {
    let (mut parts, body) = request.into_parts();
    let who = AccessToken::authenticate(&node, &parts).await?;
    may_upload(&node, &who).await?;
    let arguments = Arguments::read(&mut parts).await?;
    let media_id = arguments.media_id(&node)?;
    let description = describe(&node, &parts, &arguments)?;
    let bytes = body.into_data_stream().map(|chunk| chunk.map_err(|_| MediaError::BrokenOff));
    node.media.fill(media_id, who.user, description, std::pin::pin!(bytes)).await?;
    Ok(Json(json!({})).into_response())
}

/// Who may read: whoever is signed in. The old endpoints answered anybody; since Matrix 1.11 they give strangers only files
/// from before that, of which this server has none.
async fn may_read(node: &Node, parts: &Parts, legacy: bool) -> ApiResult<()> {
    if !legacy {
        AccessToken::authenticate(node, parts).await?;
    } else if AccessTokenOptional::authenticate(node, parts).await?.is_none() {
        return Err(MediaError::NotFound.into());
    }
    Ok(())
}

/// What the owner withholds is not there for anybody.
async fn not_quarantined(node: &Node, arguments: &Arguments) -> ApiResult<()> {
    let (server, id) = (arguments.part("server").unwrap_or_default().to_owned(), arguments.part("id").unwrap_or_default().to_owned());
    let withheld = node.store.read(move |db| crate::homeserver::store::media::is_quarantined(db, &server, &id)).await?;
    if withheld { Err(MediaError::NotFound.into()) } else { Ok(()) }
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`, `…/{fileName}`
async fn download(node: Arc<Node>, request: Request, legacy: bool) -> ApiResult<Response> {
    let (mut parts, _) = request.into_parts();
    may_read(&node, &parts, legacy).await?;
    let arguments = Arguments::read(&mut parts).await?;
    not_quarantined(&node, &arguments).await?;
    let wait = arguments.wait()?;
    let mut found = match arguments.place(&node)? {
        Place::Here(media_id) => node.media.download(media_id, wait).await?,
        Place::There(server, media_id) => fetch::download(&node, &server, media_id, wait).await?,
    };
    if let Some(name) = arguments.part("name") {
        found.filename = Some(name.chars().filter(|c| !c.is_control()).collect());
    }
    serve(found, parts.headers.get(header::RANGE)).await
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
async fn thumbnail(node: Arc<Node>, request: Request, legacy: bool) -> ApiResult<Response> {
    let (mut parts, _) = request.into_parts();
    may_read(&node, &parts, legacy).await?;
    let arguments = Arguments::read(&mut parts).await?;
    not_quarantined(&node, &arguments).await?;
    let wanted = thumbnail_of(|name| arguments.parameter(name))?;
    let wait = arguments.wait()?;
    let found = match arguments.place(&node)? {
        Place::Here(media_id) => node.media.thumbnail(media_id, wanted, wait).await?,
        Place::There(server, media_id) => fetch::thumbnail(&node, &server, media_id, wanted, wait).await?,
    };
    serve(found, None).await
}

/// Sends a file with the headers that keep a browser from running it.
async fn serve(mut found: Download, range: Option<&HeaderValue>) -> ApiResult<Response> {
    let content_type = found.content_type.as_deref().unwrap_or("application/octet-stream");
    let disposition = disposition(content_type, found.filename.clone());
    let octets = HeaderValue::from_static("application/octet-stream");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap_or(octets)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment"))),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ];
    let size = found.size_bytes;
    let (status, first, length) = match range.map(|range| part(range, size)) {
        Some(Some((first, length))) => (StatusCode::PARTIAL_CONTENT, first, length),
        _ => (StatusCode::OK, 0, size),
    };
    if first > 0 {
        found.file.seek(std::io::SeekFrom::Start(first)).await.map_err(ApiError::internal)?;
    }
    let body = Body::from_stream(ReaderStream::with_capacity(found.file.take(length), CHUNK_BYTES));
    let mut response = (status, headers, [(header::CONTENT_LENGTH, HeaderValue::from(length))], body).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {first}-{}/{size}", first + length.saturating_sub(1)))
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// First byte and length of a single range. What is malformed, empty or multiple is ignored, as RFC 9110 allows.
fn part(range: &HeaderValue, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first.trim(), last.trim()) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    (first < end).then(|| (first, end - first))
}
