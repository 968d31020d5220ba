//! Previews of links (Client-Server API, "Content repository").

use std::{io::Cursor, sync::Arc};

use axum::Json;
use bytes::Bytes;
use http::{Method, StatusCode};
use image::ImageReader;
use ruma::api::auth_scheme::AccessToken;
use serde_json::{Map, Value, json};
use url::Url;

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    media::{
        Description,
        preview::{self, Image, PreviewError},
    },
    store::previews,
    types::Requester,
    users::limits::{Key, Kind},
};

/// How long a preview is good.
const FRESH_MS: i64 = 60 * 60 * 1000;
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
    let now_ms = i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX);
    let key = url.to_string();
    if let Some(json) = node.store.read(move |db| previews::get(db, &key, now_ms - FRESH_MS)).await? {
        return Ok(Json(serde_json::from_str(&json).map_err(ApiError::internal)?));
    }
    // A few at a time: each may take half a minute and some megabytes.
    let _place = node.previewing.acquire().await.map_err(ApiError::internal)?;
    let page = preview::fetch(&node.outbound, &url).await.map_err(|error| match error {
        PreviewError::Outbound(crate::homeserver::outbound::OutboundError::Refused(why)) => ApiError::forbidden(why),
        error => ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", format!("There is no preview: {error}")),
    })?;
    let mut told: Map<String, Value> = page.fields.into_iter().map(|(name, text)| (name, text.into())).collect();
    if let Some(image) = page.image {
        put_image(&node, &call.who, image, &mut told).await?;
    }
    let told = Value::Object(told);
    let (key, json) = (url.to_string(), told.to_string());
    node.store.write(move |tx| previews::put(tx, &key, &json, now_ms)).await?;
    Ok(Json(told))
}

/// Stores the picture as the user's media, so that clients have it from here.
async fn put_image(node: &Node, who: &Requester, image: Image, told: &mut Map<String, Value>) -> ApiResult<()> {
    let bytes = Bytes::from(image.bytes);
    let measured = bytes.clone();
    let size =
        tokio::task::spawn_blocking(move || ImageReader::new(Cursor::new(measured)).with_guessed_format().ok()?.into_dimensions().ok());
    // A picture that is none is not shown.
    let Ok(Some((width, height))) = size.await else { return Ok(()) };
    let length = bytes.len();
    let description = Description { content_type: Some(image.content_type.clone()), filename: None };
    let mut stream = std::pin::pin!(futures_util::stream::iter([Ok(bytes)]));
    let media_id = node.media.upload(who.user, description, stream.as_mut()).await?;
    told.insert("og:image".into(), format!("mxc://{}/{media_id}", node.config.server_name).into());
    told.insert("og:image:type".into(), image.content_type.into());
    told.insert("og:image:width".into(), json!(width));
    told.insert("og:image:height".into(), json!(height));
    told.insert("matrix:image:size".into(), json!(length));
    Ok(())
}
