//! Our users' files, for other servers (Server-Server API, "Content Repository").

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use ruma::api::federation::authenticated_media::{get_content::v1 as get_content, get_content_thumbnail::v1 as get_content_thumbnail};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
        files::{disposition, thumbnail_of},
    },
    call::Origin,
};
use crate::homeserver::{
    Node,
    federation::multipart,
    media::{Download, MediaError},
    store,
};

/// How long a download waits for an upload when the other server does not say, and at most.
const WAIT: Duration = Duration::from_secs(20);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Chunks that a file is read in.
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<get_content::Request, _, _, _>(get_content).add_raw::<get_content_thumbnail::Request, _, _, _>(get_content_thumbnail)
}

fn wait(call: &RawCall<Origin>) -> ApiResult<Duration> {
    match call.parameter("timeout_ms").map(str::parse) {
        None => Ok(WAIT),
        Some(Ok(ms)) => Ok(Duration::from_millis(ms).min(LONGEST_WAIT)),
        Some(Err(_)) => Err(ApiError::invalid_param("`timeout_ms` is not a number")),
    }
}

/// What the owner withholds is not there for anybody.
async fn not_quarantined(node: &Node, media_id: &str) -> ApiResult<()> {
    let (server, id) = (node.config.server_name.to_string(), media_id.to_owned());
    let withheld = node.store.read(move |db| store::media::is_quarantined(db, &server, &id)).await?;
    if withheld { Err(MediaError::NotFound.into()) } else { Ok(()) }
}

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
async fn get_content(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Response> {
    not_quarantined(&node, call.segment(0)?).await?;
    let found = node.media.download(call.segment(0)?, wait(&call)?).await?;
    Ok(multipart(&node, found))
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
async fn get_content_thumbnail(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Response> {
    not_quarantined(&node, call.segment(0)?).await?;
    let wanted = thumbnail_of(|name| call.parameter(name))?;
    let found = node.media.thumbnail(call.segment(0)?, wanted, wait(&call)?).await?;
    Ok(multipart(&node, found))
}

/// Streams a file between what goes before and after it.
fn multipart(node: &Node, found: Download) -> Response {
    let boundary = node.randomness.alphanumeric(32);
    let content_type = found.content_type.as_deref().unwrap_or("application/octet-stream");
    let (head, tail) = multipart::around(&boundary, content_type, &disposition(content_type, found.filename.clone()));
    let length = found.size_bytes.saturating_add(head.len() as u64).saturating_add(tail.len() as u64);
    let file = ReaderStream::with_capacity(found.file.take(found.size_bytes), CHUNK_BYTES);
    let body = stream::iter([Ok(head)]).chain(file).chain(stream::iter([Ok(tail)]));
    let content_type = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}"));
    let headers = [
        (header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("multipart/mixed"))),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (headers, Body::from_stream(body)).into_response()
}
