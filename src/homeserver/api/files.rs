//! What is said of files, to clients and to other servers alike.

use ruma::http_headers::{ContentDisposition, ContentDispositionType};

use super::error::{ApiError, ApiResult};
use crate::homeserver::media::{Method, Thumbnail};

/// Types that may be shown in place (Client-Server API, "Serving inline content"); everything else is to be saved.
const INLINE: &[&str] = &[
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// `Content-Disposition` of a file.
pub(super) fn disposition(content_type: &str, filename: Option<String>) -> String {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let disposition = if INLINE.contains(&essence.as_str()) { ContentDispositionType::Inline } else { ContentDispositionType::Attachment };
    ContentDisposition::new(disposition).with_filename(filename).to_string()
}

/// The thumbnail that a query asks for.
pub(super) fn thumbnail_of<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> ApiResult<Thumbnail> {
    let side = |name: &str| match parameter(name).map(str::parse::<u32>) {
        Some(Ok(0)) => Err(ApiError::invalid_param(format!("`{name}` is zero"))),
        Some(Ok(pixels)) => Ok(pixels),
        Some(Err(_)) => Err(ApiError::invalid_param(format!("`{name}` is not a number"))),
        None => Err(ApiError::missing_param(format!("`{name}` is missing"))),
    };
    let method = match parameter("method") {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(ApiError::invalid_param("`method` is neither `scale` nor `crop`")),
    };
    let animated = match parameter("animated") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid_param("`animated` is neither `true` nor `false`")),
    };
    Ok(Thumbnail { width: side("width")?, height: side("height")?, method, animated })
}
