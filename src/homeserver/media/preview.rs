//! What a page says of itself: Open Graph and its title. Fetching goes through [`Outbound`], which reaches public addresses only.

use std::collections::BTreeMap;

use url::Url;

use crate::homeserver::outbound::{Answer, Excess, Outbound, OutboundError};

/// How much of a page is read: what describes it stands at its beginning.
const PAGE_BYTES: usize = 512 * 1024;
/// Largest picture.
const IMAGE_BYTES: usize = 5 * 1024 * 1024;
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Fields that are kept, and the longest text of one.
const FIELDS: usize = 32;
const TEXT_CHARS: usize = 1000;
/// How much of a text is looked at for that: white space and entities take place that the result does not.
const TEXT_BYTES: usize = 8 * 1024;
/// Longest name of an entity that is known.
const ENTITY_BYTES: usize = 8;

/// Picture types that clients show and that cannot carry script.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// Could not be fetched, or must not be.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The page's own error.
    #[error("the page answered {0}")]
    Status(u16),
    /// Round and round.
    #[error("too many redirects")]
    Redirects,
    /// Neither a page nor a picture.
    #[error("there is nothing to show of this kind of file")]
    Type,
}

/// A picture.
#[derive(Debug)]
pub struct Image {
    /// One of a few types.
    pub content_type: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// `og:` fields without the picture.
    pub fields: BTreeMap<String, String>,
    /// The picture.
    pub image: Option<Image>,
}

/// Looks at a page and fetches its picture. A picture that cannot be had is left out.
///
/// # Errors
///
/// [`PreviewError`].
pub async fn fetch(outbound: &Outbound, url: &Url) -> Result<Page, PreviewError> {
    let (answer, url) = follow(outbound, url, "text/html,image/*;q=0.9", PAGE_BYTES, Excess::Cut).await?;
    let kind = content_type(&answer);
    if IMAGES.contains(&kind.as_str()) {
        // Read again: the first time it may have been cut.
        return Ok(Page { fields: BTreeMap::new(), image: Some(image(outbound, &url).await?) });
    }
    if kind != "text/html" && kind != "application/xhtml+xml" {
        return Err(PreviewError::Type);
    }
    // A page may be half a megabyte: not on a thread that others wait for.
    let described = tokio::task::spawn_blocking(move || describe(&String::from_utf8_lossy(&answer.body)));
    let mut fields = described.await.map_err(|_| PreviewError::Type)?;
    let picture = fields.remove("og:image").and_then(|link| url.join(&link).ok());
    fields.retain(|name, _| !name.starts_with("og:image"));
    let image = match picture {
        None => None,
        Some(link) => match image(outbound, &link).await {
            Ok(image) => Some(image),
            Err(error) => {
                tracing::debug!(%error, "the picture of a preview is left out");
                None
            }
        },
    };
    Ok(Page { fields, image })
}

async fn image(outbound: &Outbound, url: &Url) -> Result<Image, PreviewError> {
    let (answer, _) = follow(outbound, url, "image/*", IMAGE_BYTES, Excess::Refuse).await?;
    let content_type = content_type(&answer);
    if IMAGES.contains(&content_type.as_str()) { Ok(Image { content_type, bytes: answer.body }) } else { Err(PreviewError::Type) }
}

/// Follows redirects. Each step is checked like the first.
async fn follow(outbound: &Outbound, url: &Url, accept: &str, limit: usize, excess: Excess) -> Result<(Answer, Url), PreviewError> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS {
        let answer = outbound.get(&url, accept, limit, excess).await?;
        match (answer.status, &answer.location) {
            (200..=299, _) => return Ok((answer, url)),
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                url = url.join(location).map_err(|_| OutboundError::Refused("the page redirects to nowhere"))?;
            }
            (status, _) => return Err(PreviewError::Status(status)),
        }
    }
    Err(PreviewError::Redirects)
}

fn content_type(answer: &Answer) -> String {
    let text = answer.content_type.as_deref().unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The `og:` fields of a page, with title and description from elsewhere where it has none.
#[must_use]
pub fn describe(html: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut fallback: BTreeMap<&str, String> = BTreeMap::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        rest = after;
        if starts_with_word(rest, "meta") {
            let Some((tag, after)) = rest.split_once('>') else { break };
            rest = after;
            let (name, content) = (attribute(tag, "property").or_else(|| attribute(tag, "name")), attribute(tag, "content"));
            let (Some(name), Some(content)) = (name, content) else { continue };
            let (name, content) = (name.to_ascii_lowercase(), clean(&content));
            if name.starts_with("og:") && name.len() < 64 && !content.is_empty() && fields.len() < FIELDS {
                fields.entry(name).or_insert(content);
            } else if name == "description" && !content.is_empty() {
                fallback.entry("og:description").or_insert(content);
            }
        } else if starts_with_word(rest, "title") && !fallback.contains_key("og:title") {
            let Some((_, after)) = rest.split_once('>') else { break };
            // Each byte is looked at once, however many titles are opened before one ends.
            rest = after;
            let title = clean(after.split('<').next().unwrap_or_default());
            if !title.is_empty() {
                fallback.insert("og:title", title);
            }
        } else if starts_with_word(rest, "body") {
            // What describes the page stands before it.
            break;
        }
    }
    for (name, text) in fallback {
        fields.entry(name.to_owned()).or_insert(text);
    }
    fields
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        && text.get(word.len()..).and_then(|rest| rest.chars().next()).is_none_or(|c| c.is_ascii_whitespace() || c == '>' || c == '/')
}

/// The value of an attribute of a tag.
fn attribute(tag: &str, wanted: &str) -> Option<String> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'' || c == '/').find(|part| !part.is_empty())?;
        let after = after.trim_start();
        let (value, next) = match after.chars().next()? {
            quote @ ('"' | '\'') => after.get(1..)?.split_once(quote)?,
            _ => after.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((after, "")),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

/// Entities as characters, white space as single blanks, nothing too long.
fn clean(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default();
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = after.bytes().take(ENTITY_BYTES + 1).position(|byte| byte == b';');
        let name = end.and_then(|end| Some((after.get(..end)?, after.get(end + 1..)?)));
        match name.and_then(|(name, next)| Some((entity(name)?, next))) {
            Some((c, next)) => {
                out.push(c);
                rest = next;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    let words: Vec<&str> = out.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(TEXT_CHARS).collect()
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_described_by_its_own_words() {
        let html = r#"<!doctype html><html><head><TITLE>Fall&shy;back &amp; more</TITLE>
            <meta charset=utf-8><meta property="og:title" content="The   title &#8212; &quot;quoted&quot;">
            <meta content='A > B' property='og:description'><meta name="og:site_name" content=Site />
            <meta property="og:image" content="/a.png"><meta property="og:title" content="second"></head>
            <body><meta property="og:type" content="late"></body>"#;
        let fields = describe(html);
        let get = |name: &str| fields.get(name).map(String::as_str);
        assert_eq!(get("og:title"), Some("The title — \"quoted\""));
        assert_eq!(get("og:site_name"), Some("Site"));
        assert_eq!(get("og:image"), Some("/a.png"));
        assert_eq!(get("og:type"), None);
    }

    #[test]
    fn a_page_without_open_graph_has_its_title_and_description() {
        let fields = describe("<title>\n Hello &lt;you&gt; </title><meta name=description content=\"Words\">");
        assert_eq!(fields.get("og:title").map(String::as_str), Some("Hello <you>"));
        assert_eq!(fields.get("og:description").map(String::as_str), Some("Words"));
    }

    #[test]
    fn malformed_pages_end() {
        for html in
            ["<", "<meta", "<meta content=", "<meta property=\"og:title", "<title", "<title>", "&", "&#x110000;", "<meta =x>", "<meta a='"]
        {
            let _ = describe(html);
        }
        assert!(describe(&"<meta property=og:x content=y>".repeat(10_000)).len() <= FIELDS);
    }

    /// Each took minutes when a byte could be looked at as often as there are bytes before it.
    #[test]
    fn a_hostile_page_costs_no_more_than_its_length() {
        let title = |html: &str| describe(html).remove("og:title");
        assert_eq!(title(&format!("<title>{}", "&".repeat(PAGE_BYTES))).map(|title| title.len()), Some(TEXT_CHARS));
        assert_eq!(title(&format!("{}><title>late</title>", "<title ".repeat(PAGE_BYTES / 7))).as_deref(), Some("late"));
        assert_eq!(title(&"<title <title".repeat(PAGE_BYTES / 13)), None);
        let meta = format!("<meta property=og:title content='{}'>", "&x".repeat(PAGE_BYTES / 2));
        assert_eq!(title(&meta).map(|title| title.chars().count()), Some(TEXT_CHARS));
        assert_eq!(title("<title>&#x1F600;&amp;&toolongname;&eacute</title>").as_deref(), Some("\u{1f600}&&toolongname;&eacute"));
    }
}
