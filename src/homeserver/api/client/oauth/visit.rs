//! A browser's request to one of our pages, or a program's to one of the OAuth endpoints.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, on},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::form_urlencoded;

use super::page::{Page, esc, hidden};
use crate::homeserver::{
    Node,
    api::{
        call::{Routes, address, read_body},
        error::ApiError,
    },
    listen::Peer,
    users::oauth::{OAuthError, browser::Browsers},
};

/// Largest body of a form.
const FORM_BYTES: usize = 16 * 1024;
/// Longest query.
const QUERY_BYTES: usize = 8 * 1024;

/// Names and values of a query or form, as they came.
pub(super) type Pairs = Vec<(String, String)>;

/// The one value of a parameter (RFC 6749, 3.1: none may be there twice; an empty one counts as left out).
pub(super) fn one<'a>(pairs: &'a Pairs, name: &str) -> Result<Option<&'a str>, OAuthError> {
    let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let first = found.next();
    if found.next().is_some() {
        return Err(OAuthError::request(format!("`{name}` is there more than once")));
    }
    Ok(first.filter(|value| !value.is_empty()))
}

/// The one value of a parameter that has to be there.
pub(super) fn required<'a>(pairs: &'a Pairs, name: &str) -> Result<&'a str, OAuthError> {
    one(pairs, name)?.ok_or_else(|| OAuthError::request(format!("`{name}` is missing")))
}

/// A request.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) node: Arc<Node>,
    /// Our base URL, for this visitor.
    pub(super) base: String,
    /// Path and query of this page.
    pub(super) here: String,
    pub(super) method: Method,
    pub(super) query: Pairs,
    pub(super) form: Pairs,
    /// The body, where it is JSON.
    pub(super) body: bytes::Bytes,
    pub(super) address: Option<IpAddr>,
    /// The browser's cookie.
    pub(super) cookie: Option<String>,
    headers: HeaderMap,
}

/// Paths that a browser or program may ask, and what answers.
pub(super) fn route<H, F>(mut routes: Routes, methods: &[Method], paths: &[&str], handler: H) -> Routes
where
    H: Fn(Visit) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send,
{
    for (method, path) in methods.iter().flat_map(|method| paths.iter().map(move |path| (method, path))) {
        let (node, handler) = (Arc::clone(routes.node()), handler.clone());
        let endpoint = move |request: Request| {
            let (node, handler) = (Arc::clone(&node), handler.clone());
            async move {
                match Visit::read(node, request).await {
                    Ok(visit) => handler(visit).await,
                    Err(error) => error.into_response(),
                }
            }
        };
        let filter = if *method == Method::POST { MethodFilter::POST } else { MethodFilter::GET };
        routes = routes.route(method, path, on(filter, endpoint));
    }
    routes
}

/// A page: what its handler fails with is shown to a person.
pub(super) fn page<H, F>(routes: Routes, paths: &[&str], handler: H) -> Routes
where
    H: Fn(Visit) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send,
{
    route(routes, &[Method::GET, Method::POST], paths, move |visit| {
        let handler = handler.clone();
        async move { shown(handler(visit)).await }
    })
}

/// What a handler fails with, as a page.
pub(super) async fn shown(answer: impl Future<Output = Result<Response, ApiError>>) -> Response {
    answer.await.unwrap_or_else(|error| failure(&error))
}

/// What a person is told when something fails.
fn failure(error: &ApiError) -> Response {
    let text = error.message().unwrap_or("Something went wrong.");
    Page::message(error.status(), "This did not work", text).into_response()
}

impl Visit {
    async fn read(node: Arc<Node>, request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let peer: Option<SocketAddr> = parts.extensions.get::<Peer>().and_then(|peer| peer.0);
        let base = node.base.for_request(peer, parts.version, &parts.headers).ok_or_else(ApiError::unrecognized)?.to_owned();
        let here = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let query = parts.uri.query().unwrap_or_default();
        if query.len() > QUERY_BYTES {
            return Err(ApiError::new(StatusCode::URI_TOO_LONG, "M_TOO_LARGE", "The query is too long"));
        }
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let body = read_body(body, FORM_BYTES).await?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form =
            content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        let form = if is_form { form_urlencoded::parse(&body).into_owned().collect() } else { Pairs::new() };
        let name = cookie_name(&base);
        let cookie =
            cookies(&parts.headers).find(|(key, value)| *key == name && Browsers::is_cookie(value)).map(|(_, value)| value.to_owned());
        Ok(Self { address: address(&parts), method: parts.method, headers: parts.headers, node, base, here, query, form, body, cookie })
    }

    /// A request header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The cookies that this browser keeps while it is away, with what tells them apart.
    pub(super) fn tickets(&self) -> impl Iterator<Item = (&str, &str)> {
        let name = cookie_name(&self.base);
        cookies(&self.headers).filter_map(move |(key, value)| Some((key.strip_prefix(name)?.strip_prefix("-sso-")?, value)))
    }

    /// Has the browser keep one, for so many seconds; none at all has it drop one.
    pub(super) fn set_ticket(&self, response: &mut Response, name: &str, value: &str, seconds: u64) {
        let text = format!("{}-sso-{name}={value}; Max-Age={seconds}{}", cookie_name(&self.base), self.attributes());
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }

    fn attributes(&self) -> &'static str {
        if is_secure(&self.base) { "; Path=/; HttpOnly; SameSite=Lax; Secure" } else { "; Path=/; HttpOnly; SameSite=Lax" }
    }

    /// A field of the form.
    pub(super) fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An absolute URL of ours.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The form that a page sends to itself, under whichever name the browser knows us: it has no `action`. `content` is HTML.
    pub(super) fn form_html(&self, cookie: &str, content: &str) -> String {
        let mark = hidden("mark", &self.node.accounts.oauth.browsers.mark(cookie));
        format!("<form method=\"post\">{mark}{content}</form>")
    }

    /// The cookie of this browser, or one that [`Self::answer`] gives it.
    pub(super) fn cookie_or_new(&self) -> String {
        self.cookie.clone().unwrap_or_else(|| self.node.accounts.oauth.browsers.new_cookie())
    }

    /// A page with a form in it, for the browser with this cookie.
    pub(super) fn answer(&self, page: Page, cookie: &str) -> Response {
        let mut response = page.into_response();
        if self.cookie.as_deref() != Some(cookie) {
            self.set_cookie(&mut response, cookie);
        }
        response
    }

    /// Gives the browser a cookie.
    pub(super) fn set_cookie(&self, response: &mut Response, cookie: &str) {
        let text = format!("{}={cookie}{}", cookie_name(&self.base), self.attributes());
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }

    /// Was this form given to this browser by us, and sent from our page? If not, the page that says so.
    pub(super) fn refused_form(&self) -> Option<Response> {
        let refuse = |why: &str| {
            let again = format!("<p>{}</p><p><a href=\"{}\">Try again</a></p>", esc(why), esc(&self.url(&self.here)));
            Some(Page::new("This form is no longer good", again).status(StatusCode::FORBIDDEN).into_response())
        };
        if self.header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return refuse("It was sent by another site.");
        }
        if let Some(origin) = self.header("origin") {
            let own = url::Url::parse(&self.base).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
            let here = self.header("host").map(|host| format!("http://{host}"));
            if origin != own && !(own.starts_with("http:") && here.as_deref() == Some(origin)) {
                return refuse(&format!("It was sent from {origin}, and this server is at {own} (setting node.public_base_url)."));
            }
        }
        let marked = self.cookie.as_deref().is_some_and(|cookie| self.node.accounts.oauth.browsers.is_marked(cookie, self.field("mark")));
        if marked { None } else { refuse("It is too old, or this browser keeps no cookies.") }
    }
}

/// `__Host-` binds a cookie to this host and to https. Plain http has nothing like it: there, whoever can plant a cookie (another
/// site of the same domain, somebody on the way) gets no word that a provider gives, for that is noted under a new one.
fn cookie_name(base: &str) -> &'static str {
    if is_secure(base) { "__Host-homeroom" } else { "homeroom" }
}

fn is_secure(base: &str) -> bool {
    base.starts_with("https:")
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}
