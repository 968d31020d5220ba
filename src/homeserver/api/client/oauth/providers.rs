//! Signing in at a provider, from any of our pages: the way there, the way back, and an account for who has none.
//!
//! A page offers a link that only its browser can have been given; pressing it is the person's yes to what the page says. Who
//! comes back is taken to that page again, which finds the provider's word for who they are. To confirm something takes the word of
//! a provider that has just asked them anew.

use axum::response::Response;
use http::{Method, StatusCode};
use url::form_urlencoded;

use super::{
    page::{Page, button, esc, input, problem, redirect},
    sign_in,
    visit::Visit,
};
use crate::homeserver::{
    api::error::ApiResult,
    types::UserNid,
    users::{
        AccountError,
        limits::Kind,
        oauth::browser::Proof,
        sso::{self, Arrived, Callback, IdTokenError, Identity, Known, Newcomer, Provider, SsoError, Start},
    },
};

/// Sign-ins that a browser may have under way: all of its cookies go with each of its requests.
const TICKETS: usize = 4;

/// What somebody goes to a provider for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// To say who they are.
    SignIn,
    /// To confirm something.
    Confirm,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Confirm => "confirm",
        }
    }
}

/// What a link to a provider is sealed with: nobody else can send a browser there.
fn seal(cookie: &str, provider: &str, reason: Reason, here: &str) -> String {
    format!("{cookie}\n{provider}\n{}\n{here}", reason.name())
}

/// The redirect URI for a provider.
fn redirect_uri(visit: &Visit, provider: &str) -> String {
    visit.url(&format!("{}/{provider}", super::SSO_CALLBACK))
}

/// The ways to these providers from this page, as HTML. None where a provider has vouched already.
pub(super) fn ways<'a>(visit: &Visit, cookie: &str, reason: Reason, providers: impl Iterator<Item = &'a Provider>) -> String {
    if sign_in::proof(visit).is_some_and(|proof| proof.fresh || reason == Reason::SignIn) {
        return String::new();
    }
    let way = |provider: &Provider| {
        let mark = visit.node.accounts.oauth.browsers.mark(&seal(cookie, &provider.id, reason, &visit.here));
        let parts = [("provider", provider.id.as_str()), ("for", reason.name()), ("here", visit.here.as_str()), ("mark", mark.as_str())];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parts).finish();
        let to = format!("{}?{query}", visit.url(super::SSO_START));
        format!("<p><a class=\"way\" href=\"{}\">Continue with {}</a></p>", esc(&to), esc(&provider.name))
    };
    providers.map(way).collect()
}

/// The ways to all providers, to sign in.
pub(super) fn all_ways(visit: &Visit, cookie: &str) -> String {
    ways(visit, cookie, Reason::SignIn, visit.node.sso.providers())
}

/// `GET /_homeroom/sso/start`
pub(super) async fn start(visit: Visit) -> Response {
    let (id, here) = (visit.parameter("provider").unwrap_or_default(), visit.parameter("here").unwrap_or_default());
    let reason = if visit.parameter("for") == Some(Reason::Confirm.name()) { Reason::Confirm } else { Reason::SignIn };
    let cookie = visit.cookie.clone().unwrap_or_default();
    let sealed = seal(&cookie, id, reason, here);
    let marked = visit.node.accounts.oauth.browsers.is_marked(&sealed, visit.parameter("mark").unwrap_or_default());
    if visit.cookie.is_none() || !marked || !here.starts_with('/') {
        let text = "It is too old, or this browser keeps no cookies. Go back to your app and try again.";
        return Page::message(StatusCode::FORBIDDEN, "This link is no longer good", text).into_response();
    }
    if let Err(wait) = sign_in::limit(&visit, Kind::OAuth) {
        return Page::message(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", &wait).into_response();
    }
    let to = redirect_uri(&visit, id);
    let start = Start { provider: id, cookie: &cookie, here, redirect_uri: &to, fresh: reason == Reason::Confirm };
    let (url, ticket) = match visit.node.sso.start(start).await {
        Ok(started) => started,
        Err(error) => return failed(&error),
    };
    let mut response = redirect(url.as_str());
    make_room(&visit, &mut response);
    visit.set_ticket(&mut response, &ticket.name, &ticket.value, sso::LIFETIME_MS / 1000);
    response
}

/// Has the browser drop its oldest tickets, so that there is a place for one more.
fn make_room(visit: &Visit, response: &mut Response) {
    let mut tickets: Vec<(Option<u64>, &str)> = visit.tickets().map(|(name, value)| (sso::ticket_expires_ms(value), name)).collect();
    tickets.sort_unstable();
    let surplus = (tickets.len() + 1).saturating_sub(TICKETS);
    for (_, name) in tickets.iter().take(surplus) {
        visit.set_ticket(response, name, "", 0);
    }
}

/// `GET /_homeroom/sso/callback/{idpId}`, the redirect URI.
pub(super) async fn callback(visit: Visit) -> ApiResult<Response> {
    let path = visit.here.split('?').next().unwrap_or_default();
    let provider = path.rsplit('/').next().unwrap_or_default();
    let state = visit.parameter("state").unwrap_or_default();
    let name = sso::ticket_name(state);
    let ticket = name.and_then(|name| visit.tickets().find(|(known, _)| *known == name));
    let callback = Callback {
        provider,
        redirect_uri: &redirect_uri(&visit, provider),
        ticket: ticket.map(|(_, value)| value),
        state,
        code: visit.parameter("code"),
        error: visit.parameter("error"),
        issuer: visit.parameter("iss"),
    };
    let mut response = match visit.node.sso.finish(callback, visit.cookie.as_deref()).await {
        Ok(arrived) => arrive(&visit, arrived).await?,
        Err(error) => failed(&error),
    };
    if let Some((name, _)) = ticket {
        visit.set_ticket(&mut response, name, "", 0);
    }
    Ok(response)
}

/// Whom a provider has vouched for goes back, or gets an account first.
async fn arrive(visit: &Visit, arrived: Arrived) -> ApiResult<Response> {
    let Arrived { mut identity, here, fresh } = arrived;
    if let Some(known) = visit.node.accounts.known_by_sso(&identity).await? {
        return Ok(back(visit, &identity, known, &here, fresh));
    }
    let localpart = match visit.node.sso.localpart(&mut identity).await {
        Ok(localpart) => localpart,
        Err(error) => return Ok(failed(&error)),
    };
    let Some(provider) = visit.node.sso.provider(&identity.provider) else { return Ok(failed(&SsoError::UnknownProvider)) };
    if let (true, Some(localpart)) = (provider.link_existing, &localpart)
        && let Some(known) = visit.node.accounts.link_by_sso(localpart, &identity).await?
    {
        return Ok(back(visit, &identity, known, &here, fresh));
    }
    if !provider.registration {
        let text = format!("{} knows you, but you have no account on this server, and cannot make one here.", provider.name);
        return Ok(Page::message(StatusCode::FORBIDDEN, "No account", &text).into_response());
    }
    if localpart.is_none() && !provider.choose_localpart {
        let text = format!("{} did not say how you are called. Whoever runs this server has to look at its settings.", provider.name);
        return Ok(Page::message(StatusCode::FORBIDDEN, "No account", &text).into_response());
    }
    let cookie = renewed(visit);
    let key = visit.node.sso.welcome(identity, here, localpart, &cookie);
    let mut response = redirect(&format!("{}?id={key}", visit.url(super::SSO_ACCOUNT)));
    visit.set_cookie(&mut response, &cookie);
    Ok(response)
}

/// A cookie that nobody can have planted, for what a provider has said.
fn renewed(visit: &Visit) -> String {
    visit.node.accounts.oauth.browsers.renew(visit.cookie.as_deref().unwrap_or_default())
}

/// To the page that somebody came from, with the provider's word.
fn back(visit: &Visit, identity: &Identity, known: Known, here: &str, fresh: bool) -> Response {
    let provider = visit.node.sso.provider(&identity.provider).map(|provider| provider.name.clone()).unwrap_or_default();
    let Known { user_id, user } = known;
    let cookie = renewed(visit);
    visit.node.accounts.oauth.browsers.prove(&cookie, here, Proof { user, user_id, provider, fresh });
    let mut response = redirect(&visit.url(here));
    visit.set_cookie(&mut response, &cookie);
    response
}

/// `GET` and `POST /_homeroom/sso/account`: somebody whom a provider knows, and we do not yet.
pub(super) async fn new_account(visit: Visit) -> ApiResult<Response> {
    let cookie = visit.cookie.clone().unwrap_or_default();
    let key = visit.parameter("id").unwrap_or_default();
    let found = visit.node.sso.newcomer(key, &cookie);
    let Some((newcomer, provider)) = found.and_then(|found| visit.node.sso.provider(&found.identity.provider).map(|of| (found, of))) else {
        return Ok(failed(&SsoError::Expired));
    };
    if visit.method != Method::POST {
        return Ok(show(&visit, &cookie, provider, &newcomer, None));
    }
    if let Some(refused) = visit.refused_form() {
        return Ok(refused);
    }
    let refuse = |why: &str| Ok(show(&visit, &cookie, provider, &newcomer, Some(why)));
    if let Err(why) = sign_in::terms_accepted(&visit).and_then(|()| sign_in::limit(&visit, Kind::Registration)) {
        return refuse(&why);
    }
    let chosen = Some(visit.field("user").trim()).filter(|_| provider.choose_localpart);
    let localpart = chosen.or(newcomer.localpart.as_deref()).unwrap_or_default();
    match visit.node.accounts.create_by_sso(localpart, &newcomer.identity).await {
        Ok(known) => {
            visit.node.sso.settled(key);
            Ok(back(&visit, &newcomer.identity, known, &newcomer.here, false))
        }
        Err(AccountError::Store(error)) => Err(error.into()),
        Err(error) => refuse(&sign_in::sentence(&error.to_string())),
    }
}

fn show(visit: &Visit, cookie: &str, provider: &Provider, newcomer: &Newcomer, error: Option<&str>) -> Response {
    let server_name = &visit.node.config.server_name;
    let suggested = newcomer.localpart.as_deref().unwrap_or_default();
    let who = if provider.choose_localpart {
        let value = if visit.method == Method::POST { visit.field("user") } else { suggested };
        input(
            "User name",
            "user",
            value,
            "type=\"text\" autocomplete=\"username\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"255\" required",
        )
    } else {
        format!("<p>You will be <strong>@{}:{}</strong>.</p>", esc(suggested), esc(server_name.as_str()))
    };
    let body = format!(
        "{}<p>{} knows you, and you have no account on <strong>{}</strong> yet.</p>{}",
        problem(error),
        esc(&provider.name),
        esc(server_name.as_str()),
        visit.form_html(cookie, &(who + sign_in::terms_inputs(visit).as_str() + button("create", "Create account", "").as_str()))
    );
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    // Where the form ends, after a page of ours, is what that page leads to.
    let page = Page::new(&format!("Create an account on {server_name}"), body).status(status);
    visit.answer(
        match leads_to(&newcomer.here) {
            Some(uri) => page.leads_to(&uri),
            None => page,
        },
        cookie,
    )
}

/// Where a page of ours sends its visitor on to, with the provider's word.
fn leads_to(here: &str) -> Option<String> {
    let (_, query) = here.split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "redirectUrl").map(|(_, value)| value.into_owned())
}

/// What a person is told, and what the owner can read in the log.
fn failed(error: &SsoError) -> Response {
    let page = |status: StatusCode, title: &str, text: &str| Page::message(status, title, text).into_response();
    match error {
        SsoError::Unavailable(why) => {
            tracing::warn!(why, "a provider of sign-ins does not do what it should");
            page(StatusCode::BAD_GATEWAY, "The provider does not answer", "Nobody was signed in. Try again later.")
        }
        SsoError::Token(IdTokenError::NotFresh) => {
            tracing::warn!("a provider of sign-ins does not ask people anew: see `reauthenticates`");
            page(StatusCode::BAD_GATEWAY, "The provider did not ask you", "Nothing was confirmed. Sign out at the provider, and try again.")
        }
        SsoError::Token(why) => {
            tracing::warn!(%why, "a provider of sign-ins gave a token that is not believed");
            page(StatusCode::BAD_GATEWAY, "This sign-in cannot be trusted", "Nobody was signed in. Go back to your app and try again.")
        }
        SsoError::Denied(what) if what == "access_denied" => {
            page(StatusCode::FORBIDDEN, "Refused", "Nobody was signed in. You can close this page.")
        }
        SsoError::Denied(_) => page(StatusCode::FORBIDDEN, "The provider refused", &sign_in::sentence(&error.to_string())),
        SsoError::TooLong => page(StatusCode::URI_TOO_LONG, "This sign-in cannot be done", &sign_in::sentence(&error.to_string())),
        SsoError::UnknownProvider => page(StatusCode::NOT_FOUND, "No such provider", "This server does not know it."),
        SsoError::Busy => page(StatusCode::SERVICE_UNAVAILABLE, "Too many people are signing in", "Try again in a few minutes."),
        SsoError::Expired | SsoError::OtherBrowser | SsoError::OtherIssuer => {
            let text = format!("{} Nobody was signed in. Go back to your app and try again.", sign_in::sentence(&error.to_string()));
            page(StatusCode::FORBIDDEN, "This sign-in is no longer good", &text)
        }
    }
}

/// The providers of ours that vouch for a user.
pub(super) async fn providers_of(visit: &Visit, user: UserNid) -> ApiResult<Vec<&Provider>> {
    let issuers = visit.node.accounts.sso_issuers(user).await?;
    Ok(visit.node.sso.providers().filter(|provider| issuers.contains(&provider.issuer)).collect())
}
