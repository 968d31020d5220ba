//! Single sign-on for clients that know no OAuth (Client-Server API, "OAuth 2.0 aware clients", "Client login via SSO"): our own
//! sign-in page, the ways to the owner's providers, and a login token for the way back.

use axum::response::Response;
use http::{Method, StatusCode};
use url::Url;

use super::{
    page::{Page, button, esc, problem, redirect},
    providers::{self, Reason},
    sign_in,
    visit::Visit,
};
use crate::homeserver::{
    api::error::{ApiError, ApiResult},
    types::UserNid,
};

/// Longest redirect URL.
const URL_BYTES: usize = 2048;

/// A place to which a token may be sent: https, this computer, or an app.
fn target(visit: &Visit) -> Option<(Url, String)> {
    let text = visit.parameter("redirectUrl").filter(|text| text.len() <= URL_BYTES)?;
    let url = Url::parse(text).ok()?;
    let shown = match url.scheme() {
        "https" => format!("the site {}", url.host_str()?),
        "http" => {
            let own = matches!(url.host_str()?, "localhost" | "127.0.0.1" | "[::1]");
            own.then(|| "a program on this computer".to_owned())?
        }
        // What a browser itself understands is no app.
        "javascript" | "data" | "vbscript" | "file" | "blob" | "about" | "view-source" | "ws" | "wss" | "ftp" | "filesystem" | "intent" => {
            return None;
        }
        scheme => format!("the app on this device that opens {scheme}:"),
    };
    (url.username().is_empty() && url.password().is_none()).then_some((url, shown))
}

/// Where the token goes, or why nowhere.
fn checked_target(visit: &Visit) -> ApiResult<(Url, String)> {
    if visit.parameter("redirectUrl").is_none() {
        return Err(ApiError::missing_param("`redirectUrl` is missing"));
    }
    target(visit).ok_or_else(|| ApiError::invalid_param("The app that sent you here wants its answer at a place to which none can be sent"))
}

/// The way back to the app, with a token.
fn onwards(visit: &Visit, mut url: Url, user: UserNid) -> Response {
    url.query_pairs_mut().append_pair("loginToken", &visit.node.accounts.login_token(user));
    redirect(url.as_str())
}

/// `GET /_matrix/client/v3/login/sso/redirect/{idpId}`: one provider, and nobody goes there, nor does an app get a token, before a
/// person has seen which app it is.
pub(super) async fn chosen(visit: Visit) -> ApiResult<Response> {
    let (url, shown) = checked_target(&visit)?;
    let path = visit.here.split('?').next().unwrap_or_default();
    let id = path.rsplit('/').next().unwrap_or_default();
    let provider = visit.node.sso.provider(id).ok_or_else(|| ApiError::not_found("This server knows no such provider"))?;
    let error = match sign_in::take_proof(&visit) {
        Some(proof) => match sign_in::proven(&visit, proof).await? {
            Ok((_, user)) => return Ok(onwards(&visit, url, user)),
            Err(why) => Some(why),
        },
        None => None,
    };
    let cookie = visit.cookie_or_new();
    let ways = providers::ways(&visit, &cookie, Reason::SignIn, std::iter::once(provider));
    let body =
        format!("{}{}{ways}<p class=\"soft\">If you did not expect this, close the page.</p>", problem(error.as_deref()), told(&shown));
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Ok(visit.answer(Page::new(&format!("Sign in to {}", visit.node.config.server_name), body).status(status), &cookie))
}

fn told(shown: &str) -> String {
    format!("<p>This signs you in to <strong>{}</strong>, which will be able to read and send messages as you.</p>", esc(shown))
}

/// `GET` and `POST /_matrix/client/v3/login/sso/redirect`
pub(super) async fn sso(visit: Visit) -> ApiResult<Response> {
    let (url, shown) = checked_target(&visit)?;
    let registers = visit.parameter("action") == Some("register") && sign_in::can_register(&visit);
    if visit.method != Method::POST {
        let Some(proof) = sign_in::take_proof(&visit) else { return Ok(show(&visit, &url, &shown, registers, None)) };
        return Ok(match sign_in::proven(&visit, proof).await? {
            Ok((_, user)) => onwards(&visit, url, user),
            Err(why) => show(&visit, &url, &shown, registers, Some(&why)),
        });
    }
    if let Some(refused) = visit.refused_form() {
        return Ok(refused);
    }
    if visit.field("act") != "allow" {
        let _ = sign_in::take_proof(&visit);
        return Ok(Page::message(StatusCode::OK, "Refused", "Nobody was signed in. You can close this page.").into_response());
    }
    let checked = if registers { sign_in::register(&visit).await? } else { sign_in::check(&visit).await? };
    match checked {
        Ok((_, user)) => Ok(onwards(&visit, url, user)),
        Err(why) => Ok(show(&visit, &url, &shown, registers, Some(&why))),
    }
}

fn show(visit: &Visit, url: &Url, shown: &str, registers: bool, error: Option<&str>) -> Response {
    let server_name = visit.node.config.server_name.as_str();
    let cookie = visit.cookie_or_new();
    let (title, inputs) = if registers {
        (format!("Create an account on {server_name}"), sign_in::new_account_inputs(visit))
    } else {
        (format!("Sign in to {server_name}"), sign_in::who_inputs(visit, visit.field("user")))
    };
    let form = inputs + button("allow", "Go on", "").as_str() + button("refuse", "Refuse", "quiet").as_str();
    let body =
        problem(error) + told(shown).as_str() + visit.form_html(&cookie, &form).as_str() + providers::all_ways(visit, &cookie).as_str();
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    visit.answer(Page::new(&title, body).status(status).leads_to(url.as_str()), &cookie)
}
