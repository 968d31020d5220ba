//! Fetching files of other servers (Server-Server API, "Content Repository"): streamed to disk, kept for a while, served from
//! there.
//!
//! The signed endpoints first; servers that do not know them are asked the old way, by which they give out what is public.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::Method;
use ruma::{ServerName, http_headers::ContentDisposition};

use super::{
    lookup::escape,
    multipart,
    request::{Body, Limits, RequestError},
};
use crate::homeserver::{
    Node,
    media::{self, Description, Download, MediaError, Remote, Thumbnail},
    outbound::OutboundError,
};

/// From the first step to the last byte.
const TIME: Duration = Duration::from_secs(10 * 60);
/// What a message has around a file, at most.
const AROUND_BYTES: usize = 256 * 1024;
/// Longest media ID.
const ID_BYTES: usize = 255;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Their server, or the way to it.
    #[error(transparent)]
    Remote(#[from] RequestError),
    /// Their server sent something else.
    #[error(transparent)]
    Malformed(#[from] multipart::Malformed),
    /// The place that their server named.
    #[error(transparent)]
    Elsewhere(#[from] OutboundError),
    /// Our own repository.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// Media IDs are opaque, of these characters (Client-Server API, "Matrix Content (`mxc://`) URIs").
fn is_media_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// A file of another server's user.
///
/// # Errors
///
/// [`FetchError`].
pub async fn download(node: &Arc<Node>, server: &ServerName, media_id: &str, wait: Duration) -> Result<Download, FetchError> {
    fetch(node, server, media_id, None, wait).await
}

/// A smaller image of such a file: made here where the file is, by their server where it is not.
///
/// # Errors
///
/// [`FetchError`].
pub async fn thumbnail(
    node: &Arc<Node>,
    server: &ServerName,
    media_id: &str,
    wanted: Thumbnail,
    wait: Duration,
) -> Result<Download, FetchError> {
    if let Some(found) = node.media.remote_thumbnail(server.as_str(), media_id, wanted).await? {
        return Ok(found);
    }
    match fetch(node, server, media_id, Some(wanted), wait).await {
        Ok(found) => Ok(found),
        // Their server makes none: we may.
        Err(FetchError::Remote(RequestError::Remote { status: 400 | 413 | 415 | 500..=599, .. })) => {
            fetch(node, server, media_id, None, wait).await?;
            let made = node.media.remote_thumbnail(server.as_str(), media_id, wanted).await?;
            Ok(made.ok_or(MediaError::NoThumbnail)?)
        }
        Err(error) => Err(error),
    }
}

async fn fetch(
    node: &Arc<Node>,
    server: &ServerName,
    media_id: &str,
    thumbnail: Option<Thumbnail>,
    wait: Duration,
) -> Result<Download, FetchError> {
    if !is_media_id(media_id) {
        return Err(MediaError::NotFound.into());
    }
    let variant = thumbnail.map(|wanted| wanted.standard().variant()).unwrap_or_default();
    let remote = Remote { server: server.to_string(), media_id: media_id.to_owned(), variant };
    if let Some(found) = node.media.remote(&remote).await? {
        return Ok(found);
    }
    // One fetches, whoever else wants the same file waits for that one.
    let claim = loop {
        match node.media.claim_remote(&remote) {
            Ok(claim) => break claim,
            Err(mut done) => {
                if tokio::time::timeout(TIME, done.changed()).await.is_err() {
                    return Err(RequestError::TimedOut.into());
                }
            }
        }
    };
    // Whoever had the part before may have fetched it.
    if let Some(found) = node.media.remote(&remote).await? {
        return Ok(found);
    }
    let limit = usize::try_from(node.media.remote_limit()).unwrap_or(usize::MAX);
    let limits = Limits::ORDINARY.within(TIME).bytes(limit.saturating_add(AROUND_BYTES)).insisting();
    let (kind, query) = match thumbnail.map(Thumbnail::standard) {
        None => ("download", String::new()),
        Some(Thumbnail { width, height, method, animated }) => {
            ("thumbnail", format!("&width={width}&height={height}&method={}&animated={animated}", method.as_str()))
        }
    };
    let wait_ms = wait.as_millis();
    let path = format!("/_matrix/federation/v1/media/{kind}/{}?timeout_ms={wait_ms}{query}", escape(media_id));
    let client = &node.federation.client;
    let found = match client.stream(server, Method::GET, &path, None, limits).await {
        Ok(response) => keep_multipart(node, &remote, response).await,
        Err(error) if error.is_unrecognized() => {
            let id = format!("{}/{}", escape(server.as_str()), escape(media_id));
            let path = format!("/_matrix/media/v3/{kind}/{id}?allow_remote=false&timeout_ms={wait_ms}{query}");
            match client.stream(server, Method::GET, &path, None, limits).await {
                Ok(response) => keep_plain(node, &remote, response).await,
                Err(error) => Err(refused(error)),
            }
        }
        Err(error) => Err(refused(error)),
    };
    drop(claim);
    found
}

/// What their server says of a file, in our words.
fn refused(error: RequestError) -> FetchError {
    match &error {
        RequestError::Remote { status: 404, .. } => MediaError::NotFound.into(),
        RequestError::Remote { status: 504, errcode, .. } if errcode == "M_NOT_YET_UPLOADED" => MediaError::NotYetUploaded.into(),
        _ => error.into(),
    }
}

fn header(response: &http::Response<Body>, name: http::header::HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
}

fn describe(content_type: Option<String>, disposition: Option<String>) -> Description {
    let filename = disposition.and_then(|text| ContentDisposition::try_from(text.as_bytes()).ok()).and_then(|parsed| parsed.filename);
    Description {
        content_type: content_type.filter(|text| http::HeaderValue::from_str(text).is_ok()),
        filename: filename.map(|name| name.chars().filter(|c| !c.is_control()).collect()),
    }
}

/// Where a stream broke off.
fn broken(error: &RequestError, limit: u64) -> MediaError {
    match error {
        RequestError::TooLarge(_) => MediaError::TooLarge { limit },
        _ => MediaError::BrokenOff,
    }
}

async fn keep_multipart(node: &Arc<Node>, remote: &Remote, response: http::Response<Body>) -> Result<Download, FetchError> {
    let content_type = header(&response, http::header::CONTENT_TYPE).unwrap_or_default();
    let mut reader = multipart::Reader::new(&multipart::boundary(&content_type)?);
    let mut body = response.into_body();
    let mut first = Bytes::new();
    while reader.head().is_none() {
        let Some(piece) = body.chunk().await? else { return Err(multipart::Malformed("it ends before the file").into()) };
        first = reader.push(&piece)?;
    }
    let head = reader.head().cloned().unwrap_or_default();
    if let Some(location) = head.location {
        return elsewhere(node, remote, &location).await;
    }
    let limit = node.media.remote_limit();
    let file = stream::try_unfold((body, reader, Some(first)), move |(mut body, mut reader, first)| async move {
        if let Some(first) = first {
            return Ok(Some((first, (body, reader, None))));
        }
        if reader.is_complete() {
            return Ok(None);
        }
        let piece = body.chunk().await.map_err(|error| broken(&error, limit))?.ok_or(MediaError::BrokenOff)?;
        let piece = reader.push(&piece).map_err(|_| MediaError::BrokenOff)?;
        Ok(Some((piece, (body, reader, None))))
    });
    keep(node, remote, describe(head.content_type, head.disposition), file).await
}

async fn keep_plain(node: &Arc<Node>, remote: &Remote, response: http::Response<Body>) -> Result<Download, FetchError> {
    let description = describe(header(&response, http::header::CONTENT_TYPE), header(&response, http::header::CONTENT_DISPOSITION));
    let limit = node.media.remote_limit();
    let file = stream::try_unfold(response.into_body(), move |mut body| async move {
        let piece = body.chunk().await.map_err(|error| broken(&error, limit))?;
        Ok(piece.map(|piece| (piece, body)))
    });
    keep(node, remote, description, file).await
}

/// The file is where their server says, such as with a content delivery network.
async fn elsewhere(node: &Arc<Node>, remote: &Remote, location: &str) -> Result<Download, FetchError> {
    let url = url::Url::parse(location).map_err(|_| OutboundError::Refused("the file is at no URL"))?;
    let response = node.outbound.open(&url).await?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let description = describe(header(http::header::CONTENT_TYPE), header(http::header::CONTENT_DISPOSITION));
    let file = stream::try_unfold(response, |mut response| async move {
        let piece = response.chunk().await.map_err(|_| MediaError::BrokenOff)?;
        Ok(piece.map(|piece| (piece, response)))
    });
    keep(node, remote, description, file).await
}

async fn keep(
    node: &Arc<Node>,
    remote: &Remote,
    description: Description,
    file: impl Stream<Item = Result<Bytes, MediaError>> + Send,
) -> Result<Download, FetchError> {
    let file: media::Upload<'_> = std::pin::pin!(file);
    Ok(node.media.keep_remote(remote, description, file).await?)
}
