//! Previews of links (Client-Server API, "Content repository").

use std::{io::Cursor, sync::Arc, time::Duration};

use axum::Json;
use bytes::Bytes;
use http::{Method, StatusCode};
use image::ImageReader;
use ruma::api::auth_scheme::AccessToken;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    not_suspended,
};
use crate::homeserver::{
    Node,
    media::{
        Description,
        preview::{self, Image, PreviewError},
    },
    store::previews::{self, PictureHash},
    types::Requester,
    users::limits::{Key, Kind},
};

/// How long a preview is good.
const FRESH_MS: i64 = 60 * 60 * 1000;
/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(20);
/// How long a page and its picture may take together, with all redirects.
const FETCH: Duration = Duration::from_secs(30);
/// Longest URL.
const URL_BYTES: usize = 4096;

const PATHS: &[&str] = &["/_matrix/client/v1/media/preview_url", "/_matrix/media/v3/preview_url", "/_matrix/media/r0/preview_url"];

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw_at::<AccessToken, _, _, _>(&Method::GET, PATHS, get_media_preview)
}

/// `GET /_matrix/client/v1/media/preview_url`
async fn get_media_preview(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    if !node.config.url_previews {
        return Err(ApiError::unrecognized());
    }
    node.limits.check(Kind::Search, Key::User(call.who.user)).map_err(ApiError::limit_exceeded)?;
    not_suspended(&node, &call.who).await?;
    let text = call.parameter("url").ok_or_else(|| ApiError::missing_param("`url` is missing"))?;
    if text.len() > URL_BYTES {
        return Err(ApiError::invalid_param("`url` is too long"));
    }
    if call.parameter("ts").is_some_and(|ts| ts.parse::<u64>().is_err()) {
        return Err(ApiError::invalid_param("`ts` is not a time in milliseconds"));
    }
    let mut url = Url::parse(text).map_err(|_| ApiError::invalid_param("`url` is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(ApiError::invalid_param("`url` is not a URL of a public page"));
    }
    url.set_fragment(None);
    if let Some(told) = known(&node, &url).await? {
        return Ok(Json(told));
    }
    // A few at a time: each may take half a minute and some megabytes.
    let place = node.previewing.take(call.who.user, WAIT).await;
    let _place = place.ok_or_else(|| ApiError::limit_exceeded(WAIT))?;
    // Whoever was before us may have fetched the same.
    match known(&node, &url).await? {
        Some(told) => Ok(Json(told)),
        None => look(&node, &call.who, &url).await.map(Json),
    }
}

fn now_ms(node: &Node) -> i64 {
    i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX)
}

/// What was fetched lately.
async fn known(node: &Node, url: &Url) -> ApiResult<Option<Value>> {
    let (key, since_ms) = (url.to_string(), now_ms(node) - FRESH_MS);
    let found = node.store.read(move |db| previews::get(db, &key, since_ms)).await?;
    found.map(|json| serde_json::from_str(&json).map_err(ApiError::internal)).transpose()
}

/// Fetches the page and keeps what it says of itself.
async fn look(node: &Node, who: &Requester, url: &Url) -> ApiResult<Value> {
    let none = |why: String| ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", format!("There is no preview: {why}"));
    let fetched = tokio::time::timeout(FETCH, preview::fetch(&node.outbound, url)).await;
    let page = fetched.map_err(|_| none("the page takes too long".into()))?.map_err(|error| match error {
        PreviewError::Outbound(crate::homeserver::outbound::OutboundError::Refused(why)) => ApiError::forbidden(why),
        error => none(error.to_string()),
    })?;
    let mut told: Map<String, Value> = page.fields.into_iter().map(|(name, text)| (name, text.into())).collect();
    let picture = match page.image {
        Some(image) => put_image(node, who, image, &mut told).await?,
        None => None,
    };
    let told = Value::Object(told);
    let (key, json, now_ms) = (url.to_string(), told.to_string(), now_ms(node));
    let unused = node.store.write(move |tx| previews::put(tx, &key, &json, picture.as_ref(), now_ms)).await?;
    for media_id in unused {
        // The preview is there; what is left behind is only a file.
        if let Err(error) = node.media.remove(&media_id).await {
            tracing::warn!(%error, media_id, "the former picture of a preview could not be removed");
        }
    }
    Ok(told)
}

/// Stores the picture as the user's media, so that clients have it from here: once, however many pages show it. Returns its
/// media ID and hash.
async fn put_image(node: &Node, who: &Requester, image: Image, told: &mut Map<String, Value>) -> ApiResult<Option<(String, PictureHash)>> {
    let bytes = Bytes::from(image.bytes);
    let measured = bytes.clone();
    let measure = move || {
        let (width, height) = ImageReader::new(Cursor::new(&measured)).with_guessed_format().ok()?.into_dimensions().ok()?;
        Some((width, height, PictureHash::from(Sha256::digest(&measured))))
    };
    // A picture that is none is not shown.
    let Ok(Some((width, height, hash))) = tokio::task::spawn_blocking(measure).await else { return Ok(None) };
    let length = bytes.len();
    let media_id = match node.store.read(move |db| previews::picture(db, &hash)).await? {
        Some(media_id) => media_id,
        None => {
            node.limits.check(Kind::Upload, Key::User(who.user)).map_err(ApiError::limit_exceeded)?;
            let description = Description { content_type: Some(image.content_type.clone()), filename: None };
            let mut stream = std::pin::pin!(futures_util::stream::iter([Ok(bytes)]));
            node.media.upload(who.user, description, stream.as_mut()).await?
        }
    };
    told.insert("og:image".into(), format!("mxc://{}/{media_id}", node.config.server_name).into());
    told.insert("og:image:type".into(), image.content_type.into());
    told.insert("og:image:width".into(), json!(width));
    told.insert("og:image:height".into(), json!(height));
    told.insert("matrix:image:size".into(), json!(length));
    Ok(Some((media_id, hash)))
}
