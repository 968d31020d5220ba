//! The authorisation endpoint: a user signs in and decides whether a client may (RFC 6749, 4.1; Client-Server API, "Login flows").
//!
//! Stateless until the user has decided: the request stands in the query, and the form comes back to the same URL. Everything
//! is checked again then. Nobody is sent anywhere before a person has pressed a button (RFC 9700, 4.11.2): anybody can register
//! a client, so a redirect URI that fits is not yet one to trust.

use axum::response::Response;
use http::{Method, StatusCode};
use url::form_urlencoded;

use super::{
    page::{Page, button, esc, hidden, problem, redirect},
    providers, sign_in,
    visit::{Visit, one, required},
};
use crate::homeserver::{
    api::error::ApiResult,
    store,
    types::UserNid,
    users::{
        local_user_id,
        oauth::{Client, ClientMetadata, CodeRequest, OAuthError, Scope, client::AUTHORIZATION_CODE, is_challenge},
    },
};

/// Longest `state`.
const STATE_BYTES: usize = 2048;

/// Where the answer goes.
struct Way {
    redirect_uri: String,
    fragment: bool,
    state: Option<String>,
}

impl Way {
    /// The redirect URI with parameters (RFC 6749, 4.1.2; RFC 9207 for `iss`).
    fn with(&self, issuer: &str, pairs: &[(&str, &str)]) -> String {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(pairs);
        if let Some(state) = &self.state {
            encoded.append_pair("state", state);
        }
        let encoded = encoded.append_pair("iss", issuer).finish();
        let joint = match (self.fragment, self.redirect_uri.contains('?')) {
            (true, _) => '#',
            (false, true) => '&',
            (false, false) => '?',
        };
        format!("{}{joint}{encoded}", self.redirect_uri)
    }
}

/// A request that makes sense.
struct Ask {
    client: Client,
    way: Way,
    scope: Scope,
    challenge: String,
    create: bool,
    login_hint: Option<String>,
}

/// Why there is none.
enum Refusal {
    /// The client cannot be told: it is not known where it is.
    Here(OAuthError),
    /// The client can be told.
    There(Box<Client>, Box<Way>, &'static str, String),
}

async fn read(visit: &Visit) -> Result<Ask, Refusal> {
    let query = &visit.query;
    let client_id = required(query, "client_id").map_err(Refusal::Here)?;
    let client = visit.node.accounts.client(client_id).await.map_err(Refusal::Here)?;
    let redirect_uri = required(query, "redirect_uri").map_err(Refusal::Here)?;
    if !client.metadata.has_redirect_uri(redirect_uri) {
        return Err(Refusal::Here(OAuthError::request("the redirect URI is not one that the client has registered")));
    }
    let mode = one(query, "response_mode").map_err(Refusal::Here)?;
    let state = one(query, "state").map_err(Refusal::Here)?.map(ToOwned::to_owned);
    if state.as_ref().is_some_and(|state| state.len() > STATE_BYTES) {
        return Err(Refusal::Here(OAuthError::request("`state` is too long")));
    }
    let way = Way { redirect_uri: redirect_uri.to_owned(), fragment: mode == Some("fragment"), state };
    match details(visit, &client, mode) {
        Ok((scope, challenge, create, login_hint)) => Ok(Ask { client, way, scope, challenge, create, login_hint }),
        Err((code, why)) => Err(Refusal::There(Box::new(client), Box::new(way), code, why)),
    }
}

type Details = (Scope, String, bool, Option<String>);

fn details(visit: &Visit, client: &Client, mode: Option<&str>) -> Result<Details, (&'static str, String)> {
    let query = &visit.query;
    let refused = |error: OAuthError| (error.code(), error.to_string());
    let get = |name| one(query, name).map_err(refused);
    if !matches!(mode, None | Some("query" | "fragment")) {
        return Err(("invalid_request", "`response_mode` is neither `query` nor `fragment`".into()));
    }
    if get("request")?.is_some() || get("request_uri")?.is_some() {
        return Err(("request_not_supported", "request objects are not supported".into()));
    }
    match get("response_type")? {
        Some("code") => {}
        Some(_) => return Err(("unsupported_response_type", "`response_type` has to be `code`".into())),
        None => return Err(("invalid_request", "`response_type` is missing".into())),
    }
    if !client.metadata.may(AUTHORIZATION_CODE) {
        return Err(("unauthorized_client", "the client is not registered for this grant type".into()));
    }
    // No method is `plain` (RFC 7636, 4.3), which protects nothing.
    if get("code_challenge_method")? != Some("S256") {
        return Err(("invalid_request", "`code_challenge_method` has to be `S256`".into()));
    }
    let challenge = get("code_challenge")?.filter(|challenge| is_challenge(challenge));
    let challenge = challenge.ok_or_else(|| ("invalid_request", "`code_challenge` is missing or is no SHA-256".to_owned()))?.to_owned();
    let scope = Scope::parse(get("scope")?.unwrap_or_default()).map_err(refused)?;
    let prompt: Vec<&str> = get("prompt")?.unwrap_or_default().split(' ').collect();
    if prompt.contains(&"none") {
        return Err(("interaction_required", "every sign-in here needs the user".into()));
    }
    // MSC4198: `mxid:@user:server`.
    let hint = get("login_hint")?.and_then(|hint| hint.strip_prefix("mxid:"));
    let hint = hint.and_then(|hint| local_user_id(hint, &visit.node.config.server_name)).map(|user_id| user_id.localpart().to_owned());
    Ok((scope, challenge, prompt.contains(&"create"), hint))
}

/// `GET` and `POST` of the authorisation endpoint.
pub(super) async fn authorize(visit: Visit) -> ApiResult<Response> {
    let ask = match read(&visit).await {
        Ok(ask) => ask,
        Err(Refusal::Here(OAuthError::Store(error))) => return Err(error.into()),
        Err(Refusal::Here(error)) => return Ok(refused_here(&error)),
        Err(Refusal::There(client, way, code, why)) => return Ok(refused_there(&visit, &client, &way, code, &why)),
    };
    if visit.method != Method::POST {
        return Ok(show(&visit, &ask, None, StatusCode::OK));
    }
    if let Some(refused) = visit.refused_form() {
        return Ok(refused);
    }
    if visit.field("act") != "allow" {
        let _ = sign_in::take_proof(&visit);
        return Ok(redirect(&ask.way.with(&issuer(&visit), &[("error", "access_denied"), ("error_description", "The user has refused")])));
    }
    let registers = ask.create && sign_in::can_register(&visit) && sign_in::proof(&visit).is_none();
    let checked = if registers { sign_in::register(&visit).await? } else { sign_in::check(&visit).await? };
    let (user_id, user) = match checked {
        Ok(found) => found,
        Err(why) => return Ok(show(&visit, &ask, Some(&why), StatusCode::FORBIDDEN)),
    };
    if let Some(warning) = takes_over(&visit, user, &ask.client, &ask.scope).await? {
        return Ok(show(&visit, &ask, Some(&warning), StatusCode::CONFLICT));
    }
    let request = CodeRequest {
        client_id: ask.client.client_id.clone(),
        scope: ask.scope.clone(),
        redirect_uri: ask.way.redirect_uri.clone(),
        challenge: ask.challenge.clone(),
    };
    let code = visit.node.accounts.issue_code(user, request).await?;
    let _ = sign_in::take_proof(&visit);
    tracing::info!(%user_id, client = ask.client.metadata.shown_name(), "a user has allowed a client to sign in");
    Ok(redirect(&ask.way.with(&issuer(&visit), &[("code", &code)])))
}

/// The issuer (RFC 8414, 2).
pub(super) fn issuer(visit: &Visit) -> String {
    format!("{}/", visit.base)
}

/// A client may sign in again on the device that it has. What takes another's needs a second yes.
pub(super) async fn takes_over(visit: &Visit, user: UserNid, client: &Client, scope: &Scope) -> ApiResult<Option<String>> {
    if visit.field("replace") == scope.device_id.as_str() {
        return Ok(None);
    }
    let device_id = scope.device_id.clone();
    let found = visit.node.store.read(move |db| {
        let device = store::devices::get(db, user, &device_id)?;
        Ok::<_, store::StoreError>((device, store::oauth::grant(db, user, &device_id)?))
    });
    let (Some(device), grant) = found.await? else { return Ok(None) };
    if grant.is_some_and(|grant| grant.client_id == client.client_id) {
        return Ok(None);
    }
    let name = device.display_name.unwrap_or_else(|| "without a name".into());
    Ok(Some(format!(
        "You have a session {} ({name}) already, and this app wants to take its place. If you did not expect that, refuse. \
         Otherwise allow it once more.",
        scope.device_id
    )))
}

fn refused_here(error: &OAuthError) -> Response {
    let text = format!("The app that sent you here made a mistake: {error}. Nothing was allowed. Go back to the app and try again.");
    Page::message(StatusCode::BAD_REQUEST, "This sign-in cannot be done", &text).into_response()
}

fn refused_there(visit: &Visit, client: &Client, way: &Way, code: &str, why: &str) -> Response {
    let back = way.with(&issuer(visit), &[("error", code), ("error_description", why)]);
    let body = format!(
        "<p>The app that sent you here made a mistake: {}. Nothing was allowed.</p><p><a href=\"{}\" rel=\"noreferrer\">Back to {}</a></p>",
        esc(why),
        esc(&back),
        esc(client.metadata.shown_name())
    );
    Page::new("This sign-in cannot be done", body).status(StatusCode::BAD_REQUEST).into_response()
}

/// Who asks, as HTML.
pub(super) fn about(metadata: &ClientMetadata, scope: &Scope, server_name: &str) -> String {
    let link = |label: &str, uri: &Option<String>| {
        uri.as_ref().map(|uri| format!("<li><a href=\"{}\" rel=\"noreferrer nofollow\">{label}</a></li>", esc(uri))).unwrap_or_default()
    };
    let links = link("Its terms of service", &metadata.tos_uri) + link("Its privacy policy", &metadata.policy_uri).as_str();
    format!(
        "<p><strong>{}</strong> (of <a href=\"{}\" rel=\"noreferrer nofollow\">{}</a>) wants to sign in to your account on <strong>{}</strong>.</p>\
         <p>It will be able to read and send messages as you, in the session <code>{}</code>. You can end that at any time on your account page.</p>{}",
        esc(metadata.shown_name()),
        esc(&metadata.client_uri),
        esc(&metadata.host()),
        esc(server_name),
        esc(scope.device_id.as_str()),
        if links.is_empty() { String::new() } else { format!("<ul>{links}</ul>") }
    )
}

/// Where the browser goes, for a person.
fn target(uri: &str) -> String {
    match url::Url::parse(uri) {
        Ok(url) if url.scheme() == "https" => format!("the site <strong>{}</strong>", esc(url.host_str().unwrap_or_default())),
        Ok(url) if url.scheme() == "http" => "a program on this computer".to_owned(),
        Ok(url) => format!("the app on this device that opens <code>{}:</code>", esc(url.scheme())),
        Err(_) => String::new(),
    }
}

fn show(visit: &Visit, ask: &Ask, error: Option<&str>, status: StatusCode) -> Response {
    let server_name = visit.node.config.server_name.as_str();
    let cookie = visit.cookie_or_new();
    // Who has come by a provider has an account.
    let registers = ask.create && sign_in::can_register(visit) && sign_in::proof(visit).is_none();
    let (title, inputs, label) = if registers {
        (format!("Create an account on {server_name}"), sign_in::new_account_inputs(visit), "Create account and allow")
    } else {
        let user = if visit.method == Method::POST { visit.field("user") } else { ask.login_hint.as_deref().unwrap_or_default() };
        (format!("Sign in to {server_name}"), sign_in::who_inputs(visit, user), "Allow")
    };
    let again = if status == StatusCode::CONFLICT { hidden("replace", ask.scope.device_id.as_str()) } else { String::new() };
    let form = format!("{again}{inputs}{}{}", button("allow", label, ""), button("refuse", "Refuse", "quiet"));
    let mut body = problem(error) + about(&ask.client.metadata, &ask.scope, server_name).as_str();
    body += format!("<p class=\"soft\">Afterwards you go on to {}.</p>", target(&ask.way.redirect_uri)).as_str();
    if ask.create && !registers {
        body += "<p class=\"note\">Registration is closed on this server: sign in with an account that you have.</p>";
    }
    body += visit.form_html(&cookie, &form).as_str();
    body += providers::all_ways(visit, &cookie).as_str();
    body += switch(visit, registers).as_str();
    visit.answer(Page::new(&title, body).status(status).leads_to(&ask.way.redirect_uri), &cookie)
}

/// From signing in to registering and back.
fn switch(visit: &Visit, registers: bool) -> String {
    if !sign_in::can_register(visit) {
        return String::new();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(visit.query.iter().filter(|(name, _)| name != "prompt"));
    if !registers {
        query.append_pair("prompt", "create");
    }
    let to = format!("{}?{}", visit.url(super::AUTHORIZE), query.finish());
    let text = if registers { "I have an account already" } else { "Create an account" };
    format!("<p><a href=\"{}\">{text}</a></p>", esc(&to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_goes_into_the_query_or_the_fragment_and_keeps_what_is_there() {
        let way = |uri: &str, fragment| Way { redirect_uri: uri.into(), fragment, state: Some("a b&c=d".into()) };
        for (uri, fragment, wanted) in [
            ("https://a.test/cb", false, "https://a.test/cb?code=x%26y&state=a+b%26c%3Dd&iss=i"),
            ("https://a.test/cb?q=1", false, "https://a.test/cb?q=1&code=x%26y&state=a+b%26c%3Dd&iss=i"),
            ("https://a.test/cb?q=1", true, "https://a.test/cb?q=1#code=x%26y&state=a+b%26c%3Dd&iss=i"),
            ("com.example:cb", false, "com.example:cb?code=x%26y&state=a+b%26c%3Dd&iss=i"),
        ] {
            assert_eq!(way(uri, fragment).with("i", &[("code", "x&y")]), wanted);
        }
    }
}
