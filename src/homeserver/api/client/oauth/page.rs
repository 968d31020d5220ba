//! Our pages: plain HTML that works without scripts, in a text browser and in any colour scheme.
//!
//! Everything from outside goes through [`esc`]. The pages load nothing, are framed by nobody and are kept by no cache.

use std::fmt::Write as _;

use axum::response::{IntoResponse as _, Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// Marks an answer that scripts of other origins must not read.
#[derive(Debug, Clone, Copy)]
pub struct SameOriginOnly;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1b1c1d;--soft:#57606a;--back:#f4f5f7;--card:#fff;--line:#8c959f;--main:#0b57a4;--on-main:#fff;--bad:#a40e26}\
@media (prefers-color-scheme:dark){:root{--text:#eceff1;--soft:#a9b4bf;--back:#14171a;--card:#1f2428;--line:#6b7680;--main:#8cc1ff;--on-main:#06233f;--bad:#ff9a9a}}\
*{box-sizing:border-box}\
body{margin:0;padding:1.5rem 1rem;font:1rem/1.5 system-ui,sans-serif;color:var(--text);background:var(--back)}\
main{max-width:32rem;margin:0 auto;padding:1.5rem;background:var(--card);border:1px solid var(--line);border-radius:.5rem;overflow-wrap:anywhere}\
h1{font-size:1.35rem;line-height:1.25;margin:0 0 1rem}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
label{display:block;margin-top:.9rem;font-weight:600}\
input{width:100%;margin-top:.25rem;padding:.55rem .65rem;font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:.35rem}\
input.code{font-family:ui-monospace,monospace;letter-spacing:.12em;text-transform:uppercase}\
label.check{font-weight:400}label.check input{width:auto;margin:0 .5rem 0 0}\
button{margin:1.1rem .5rem 0 0;padding:.55rem 1.1rem;font:inherit;font-weight:600;color:var(--on-main);background:var(--main);border:1px solid var(--main);border-radius:.35rem;cursor:pointer}\
a.way{display:inline-block;padding:.55rem 1.1rem;font-weight:600;border:1px solid var(--line);border-radius:.35rem;text-decoration:none}\
button.quiet{color:inherit;background:transparent;border-color:var(--line)}button.bad{background:var(--bad);border-color:var(--bad);color:var(--card)}\
a{color:var(--main)}:focus-visible{outline:3px solid var(--main);outline-offset:2px}\
.soft{color:var(--soft)}.note{padding:.6rem .8rem;border-left:4px solid var(--bad)}.good{border-color:var(--main)}\
dl{margin:.5rem 0}dt{font-weight:600}dd{margin:0 0 .5rem}li{margin:.4rem 0}code{font-family:ui-monospace,monospace}";

/// What the pages of user-interactive authentication run when a stage is done (Client-Server API, "Fallback").
const DONE_SCRIPT: &str = "if(window.onAuthDone){window.onAuthDone();}else if(window.opener&&window.opener.postMessage){window.opener.postMessage(\"authDone\",\"*\");}";

/// Text from outside, as HTML text or attribute value.
pub(super) fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where a form may lead beside our own pages, as CSP sources.
    leads_to: Option<String>,
    tells_opener: bool,
}

impl Page {
    /// A page with a heading. `body` is HTML.
    pub(super) fn new(title: &str, body: String) -> Self {
        Self { status: StatusCode::OK, title: title.to_owned(), body, leads_to: None, tells_opener: false }
    }

    /// A page that says one thing.
    pub(super) fn message(status: StatusCode, title: &str, text: &str) -> Self {
        Self { status, ..Self::new(title, format!("<p>{}</p>", esc(text))) }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Lets a form of the page end at this URI: browsers apply `form-action` to redirects as well.
    pub(super) fn leads_to(mut self, uri: &str) -> Self {
        self.leads_to = form_source(uri);
        self
    }

    /// Tells the window that opened the page that the stage is done.
    pub(super) fn tells_opener(mut self) -> Self {
        self.tells_opener = true;
        self
    }

    pub(super) fn into_response(self) -> Response {
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
        let mut policy = format!(
            "default-src 'none'; style-src {}; form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
            hash(STYLE),
            self.leads_to.map(|source| format!(" {source}")).unwrap_or_default()
        );
        let mut script = String::new();
        if self.tells_opener {
            let _ = write!(policy, "; script-src {}", hash(DONE_SCRIPT));
            script = format!("<script>{DONE_SCRIPT}</script>");
        }
        let title = esc(&self.title);
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>\n{}\n</main>{script}</body></html>\n",
            self.body
        );
        let mut response = (self.status, html).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        match HeaderValue::from_str(&policy) {
            Ok(policy) => headers.insert(header::CONTENT_SECURITY_POLICY, policy),
            // A source is made of characters that headers have; without a policy there is no page.
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        guard(&mut response);
        response
    }
}

/// What every answer of the pages carries, redirects included.
pub(super) fn guard(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Our own pages see where a form came from; nobody else does.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response.extensions_mut().insert(SameOriginOnly);
}

/// The CSP source for a redirect URI that has been checked.
fn form_source(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    let source = match url.scheme() {
        // CSP has no form for IPv6 addresses.
        "http" if uri.starts_with("http://[") => "http:".to_owned(),
        "http" | "https" => url.origin().ascii_serialization(),
        scheme => format!("{scheme}:"),
    };
    source.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:/".contains(&byte)).then_some(source)
}

/// 303 to another page.
pub(super) fn redirect(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::from_str(to) {
        Ok(location) => response.headers_mut().insert(header::LOCATION, location),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    guard(&mut response);
    response
}

/// A labelled input.
pub(super) fn input(label: &str, name: &str, value: &str, attributes: &str) -> String {
    // The block and the space are for text browsers, which know no style.
    let (label, value) = (esc(label), esc(value));
    format!("<div><label for=\"{name}\">{label}</label> <input id=\"{name}\" name=\"{name}\" value=\"{value}\" {attributes}></div>")
}

/// The user name.
pub(super) fn user_input(value: &str) -> String {
    input(
        "User name",
        "user",
        value,
        "type=\"text\" autocomplete=\"username\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"255\" required",
    )
}

/// The present password. Never filled in by us.
pub(super) fn password_input() -> String {
    input("Password", "password", "", "type=\"password\" autocomplete=\"current-password\" maxlength=\"1024\" required")
}

/// A new password, twice.
pub(super) fn new_password_inputs() -> String {
    let attributes = "type=\"password\" autocomplete=\"new-password\" maxlength=\"1024\" required";
    input("New password", "new_password", "", attributes) + input("New password again", "again", "", attributes).as_str()
}

/// A field that is not shown.
pub(super) fn hidden(name: &str, value: &str) -> String {
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", esc(value))
}

/// A button that sends its form with `act` set.
pub(super) fn button(act: &str, label: &str, class: &str) -> String {
    let unchecked = if class == "quiet" { " formnovalidate" } else { "" };
    format!(" <button type=\"submit\" name=\"act\" value=\"{act}\" class=\"{class}\"{unchecked}>{}</button>", esc(label))
}

/// What went wrong with the form before.
pub(super) fn problem(text: Option<&str>) -> String {
    text.map(|text| format!("<p class=\"note\" role=\"alert\">{}</p>", esc(text))).unwrap_or_default()
}

/// Good news.
pub(super) fn done(text: &str) -> String {
    format!("<p class=\"note good\" role=\"status\">{}</p>", esc(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_text() {
        assert_eq!(esc("<a href='x' \"&\">"), "&lt;a href=&#39;x&#39; &quot;&amp;&quot;&gt;");
    }

    #[test]
    fn a_form_leads_to_the_origin_or_scheme_of_a_redirect_uri_and_nowhere_else() {
        for (uri, source) in [
            ("https://app.example.com:5173/cb?x=1", Some("https://app.example.com:5173")),
            ("http://127.0.0.1:4000/cb", Some("http://127.0.0.1:4000")),
            ("http://[::1]:4000/cb", Some("http:")),
            ("com.example.app:/cb", Some("com.example.app:")),
            ("not a uri", None),
        ] {
            assert_eq!(form_source(uri).as_deref(), source, "{uri}");
        }
        let response = Page::new("x", String::new()).leads_to("https://a.test/").into_response();
        let policy = response.headers().get(header::CONTENT_SECURITY_POLICY).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(policy.contains("form-action 'self' https://a.test;") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    }
}
