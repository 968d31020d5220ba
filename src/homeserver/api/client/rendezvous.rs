//! Rendezvous sessions for signing in by QR code: the 2024 form of MSC4108 with ETags, and MSC4388.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ruma::api::auth_scheme::{AccessTokenOptional, NoAuthentication};
use serde_json::{Map, Value, json};

use super::super::{
    call::{RawCall, Routes, address, read_body},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    listen::Peer,
    types::Requester,
    users::{
        limits::{Key, Kind},
        rendezvous::{DATA_BYTES, Payload, Protocol, RendezvousError},
    },
};

const ETAG: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const SEQUENCE: [&str; 1] = ["/_matrix/client/unstable/io.element.msc4388/rendezvous"];
const SESSION: [&str; 1] = ["/_matrix/client/unstable/io.element.msc4388/rendezvous/{id}"];

pub(super) fn add(routes: Routes) -> Routes {
    let node = Arc::clone(routes.node());
    let session = format!("{ETAG}/{{id}}");
    routes
        .route(&Method::POST, ETAG, post(create).with_state(Arc::clone(&node)))
        .route(&Method::GET, &session, get(read).with_state(Arc::clone(&node)))
        .route(&Method::PUT, &session, put(write).with_state(Arc::clone(&node)))
        .route(&Method::DELETE, &session, delete(close).with_state(node))
        .add_raw_at::<AccessTokenOptional, _, _, _>(&Method::GET, &SEQUENCE, discover)
        .add_raw_at::<AccessTokenOptional, _, _, _>(&Method::POST, &SEQUENCE, create_session)
        .add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &SESSION, get_session)
        .add_raw_at::<NoAuthentication, _, _, _>(&Method::PUT, &SESSION, update_session)
        .add_raw_at::<NoAuthentication, _, _, _>(&Method::DELETE, &SESSION, delete_session)
}

fn refused(error: RendezvousError, concurrent_write: (StatusCode, &str)) -> ApiError {
    match error {
        RendezvousError::Unknown => ApiError::not_found("There is no such rendezvous session"),
        RendezvousError::ConcurrentWrite => ApiError::new(concurrent_write.0, concurrent_write.1, error.to_string()),
        RendezvousError::TooLarge => ApiError::too_large(error.to_string()),
        RendezvousError::Full => ApiError::limit_exceeded(std::time::Duration::from_secs(60)),
    }
}

fn by_etag(error: RendezvousError) -> ApiError {
    refused(error, (StatusCode::PRECONDITION_FAILED, "M_CONCURRENT_WRITE"))
}

fn by_sequence(error: RendezvousError) -> ApiError {
    refused(error, (StatusCode::CONFLICT, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"))
}

fn limit(node: &Node, kind: Kind, address: Option<std::net::IpAddr>) -> ApiResult<()> {
    match address {
        Some(address) => node.limits.check(kind, Key::Address(address)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

/// A time as HTTP has it (RFC 9110, 5.6.7).
fn http_date(ms: u64) -> Option<HeaderValue> {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(ms / 1000).ok()?).ok()?;
    let form = time::macros::format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    HeaderValue::from_str(&time.format(form).ok()?).ok()
}

/// An answer with the headers of the 2024 form, which scripts of any origin may read.
fn with_headers(mut response: Response, payload: &Payload) -> Response {
    let headers = response.headers_mut();
    let etag = HeaderValue::from_str(&format!("\"{}\"", payload.token)).ok();
    let pairs = [
        (header::ETAG, etag),
        (header::EXPIRES, http_date(payload.expires_ms)),
        (header::LAST_MODIFIED, http_date(payload.modified_ms)),
        (header::CACHE_CONTROL, Some(HeaderValue::from_static("no-store"))),
        (header::PRAGMA, Some(HeaderValue::from_static("no-cache"))),
        (header::X_CONTENT_TYPE_OPTIONS, Some(HeaderValue::from_static("nosniff"))),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, Some(HeaderValue::from_static("ETag, Location, X-Max-Bytes"))),
    ];
    for (name, value) in pairs {
        headers.extend(value.map(|value| (name, value)));
    }
    headers.insert("x-max-bytes", HeaderValue::from(DATA_BYTES));
    response
}

/// The tag in `If-Match` or `If-None-Match`.
fn tag(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    Some(value.strip_prefix("W/").unwrap_or(value).trim_matches('"').to_owned())
}

/// What is left there is text: nobody is served a page or a script from this host.
fn content_type(headers: &HeaderMap) -> ApiResult<Option<String>> {
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default()) {
        None => Ok(None),
        Some(kind) if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain")) => {
            Ok(Some("text/plain".into()))
        }
        Some(_) => Err(ApiError::invalid_param("The content type has to be text/plain")),
    }
}

/// `POST /_matrix/client/unstable/org.matrix.msc4108/rendezvous`
async fn create(State(node): State<Arc<Node>>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    limit(&node, Kind::Rendezvous, address(&parts))?;
    let kind = content_type(&parts.headers)?;
    let data = read_body(body, DATA_BYTES).await?;
    // Where nobody has said what we are called, we are what the client has called us.
    let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.0);
    let base = node.base.for_request(peer, parts.version, &parts.headers).map(ToOwned::to_owned);
    let base = base.or_else(|| parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(|host| format!("http://{host}")));
    let base = base.ok_or_else(|| ApiError::invalid_param("The request has no Host"))?;
    let (id, payload) = node.rendezvous.open(Protocol::Etag, data, kind).map_err(by_etag)?;
    let url = format!("{base}{ETAG}/{id}");
    let mut response = (StatusCode::CREATED, Json(json!({ "url": url }))).into_response();
    response.headers_mut().extend(HeaderValue::from_str(&url).ok().map(|url| (header::LOCATION, url)));
    Ok(with_headers(response, &payload))
}

/// `GET /_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}`
async fn read(State(node): State<Arc<Node>>, Path(id): Path<String>, request: Request) -> ApiResult<Response> {
    let (parts, _) = request.into_parts();
    limit(&node, Kind::Lookup, address(&parts))?;
    no_navigation(&parts.headers)?;
    let payload = node.rendezvous.read(Protocol::Etag, &id).map_err(by_etag)?;
    if tag(&parts.headers, &header::IF_NONE_MATCH).is_some_and(|tag| tag == payload.token) {
        return Ok(with_headers(StatusCode::NOT_MODIFIED.into_response(), &payload));
    }
    let mut response = Body::from(payload.data.clone()).into_response();
    let kind = payload.content_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
    response.headers_mut().insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("text/plain")));
    Ok(with_headers(response, &payload))
}

/// `PUT /_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}`
async fn write(State(node): State<Arc<Node>>, Path(id): Path<String>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    limit(&node, Kind::Lookup, address(&parts))?;
    let tag = tag(&parts.headers, &header::IF_MATCH).ok_or_else(|| ApiError::missing_param("`If-Match` is missing"))?;
    let kind = content_type(&parts.headers)?;
    let data = read_body(body, DATA_BYTES).await?;
    let payload = node.rendezvous.write(Protocol::Etag, &id, &tag, data, kind).map_err(by_etag)?;
    Ok(with_headers(StatusCode::ACCEPTED.into_response(), &payload))
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}`
async fn close(State(node): State<Arc<Node>>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    node.rendezvous.close(Protocol::Etag, &id).map_err(by_etag)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A browser that was sent here by a link shows nobody what strangers have left (MSC4388, "Unsafe content").
fn no_navigation(headers: &HeaderMap) -> ApiResult<()> {
    let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if navigates { Err(ApiError::forbidden("This is for programs")) } else { Ok(()) }
}

/// `GET /_matrix/client/unstable/io.element.msc4388/rendezvous`: anybody may open a session, as a device that is not signed in
/// has to.
async fn discover(_: Arc<Node>, _: RawCall<Option<Requester>>) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "create_available": true })))
}

fn data(body: &Map<String, Value>) -> ApiResult<bytes::Bytes> {
    match body.get("data") {
        Some(Value::String(data)) => Ok(data.clone().into()),
        Some(_) => Err(ApiError::bad_json("`data` is not a string")),
        None => Err(ApiError::missing_param("`data` is missing")),
    }
}

fn left_ms(node: &Node, payload: &Payload) -> u64 {
    payload.expires_ms.saturating_sub(node.clock.now_ms())
}

/// `POST /_matrix/client/unstable/io.element.msc4388/rendezvous`
async fn create_session(node: Arc<Node>, call: RawCall<Option<Requester>>) -> ApiResult<Json<Value>> {
    limit(&node, Kind::Rendezvous, call.address)?;
    let (id, payload) = node.rendezvous.open(Protocol::Sequence, data(&call.object()?)?, None).map_err(by_sequence)?;
    Ok(Json(json!({ "id": id, "sequence_token": payload.token, "expires_in_ms": left_ms(&node, &payload) })))
}

/// `GET /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
async fn get_session(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    limit(&node, Kind::Lookup, call.address)?;
    let payload = node.rendezvous.read(Protocol::Sequence, call.segment(0)?).map_err(by_sequence)?;
    let data = String::from_utf8_lossy(&payload.data).into_owned();
    Ok(Json(json!({ "data": data, "sequence_token": payload.token, "expires_in_ms": left_ms(&node, &payload) })))
}

/// `PUT /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
async fn update_session(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    limit(&node, Kind::Lookup, call.address)?;
    let body = call.object()?;
    let token = body.get("sequence_token").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`sequence_token` is missing"))?;
    let payload = node.rendezvous.write(Protocol::Sequence, call.segment(0)?, token, data(&body)?, None).map_err(by_sequence)?;
    Ok(Json(json!({ "sequence_token": payload.token })))
}

/// `DELETE /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
async fn delete_session(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    limit(&node, Kind::Lookup, call.address)?;
    node.rendezvous.close(Protocol::Sequence, call.segment(0)?).map_err(by_sequence)?;
    Ok(Json(json!({})))
}
