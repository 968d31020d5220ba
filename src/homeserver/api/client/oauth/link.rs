//! The page on which a user signs in another device (RFC 8628, 3.3).

use axum::response::Response;
use http::{Method, StatusCode};

use super::{
    authorize::{about, takes_over},
    page::{Page, button, done, esc, hidden, input, problem},
    providers, sign_in,
    visit::Visit,
};
use crate::homeserver::{
    api::error::ApiResult,
    users::{
        limits::Kind,
        oauth::{Client, OAuthError, device_code::Asked},
    },
};

/// `GET` and `POST` of the verification URI.
pub(super) async fn link(visit: Visit) -> ApiResult<Response> {
    let Some(code) = visit.parameter("user_code").filter(|code| !code.trim().is_empty()).map(ToOwned::to_owned) else {
        return Ok(ask_for_code(&visit, None));
    };
    // User codes are short: nobody gets to try many (RFC 8628, 5.1).
    if let Err(wait) = sign_in::limit(&visit, Kind::UserCode) {
        return Ok(Page::message(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", &wait).into_response());
    }
    let devices = &visit.node.accounts.oauth.devices;
    let Some(asked) = devices.asked(&code) else {
        return Ok(ask_for_code(&visit, Some("This code is not known. It may have been used, or have expired.")));
    };
    let client = match visit.node.accounts.client(&asked.client_id).await {
        Ok(client) => client,
        Err(OAuthError::Store(error)) => return Err(error.into()),
        Err(_) => return Ok(ask_for_code(&visit, Some("The app has to ask for a new code."))),
    };
    if visit.method != Method::POST {
        return Ok(show(&visit, &client, &asked, &code, None, StatusCode::OK));
    }
    if let Some(refused) = visit.refused_form() {
        return Ok(refused);
    }
    if visit.field("act") != "allow" {
        let _ = sign_in::take_proof(&visit);
        devices.decide(&code, None);
        return Ok(Page::message(StatusCode::OK, "Refused", "The device was not signed in. You can close this page.").into_response());
    }
    let (user_id, user) = match sign_in::check(&visit).await? {
        Ok(found) => found,
        Err(why) => return Ok(show(&visit, &client, &asked, &code, Some(&why), StatusCode::FORBIDDEN)),
    };
    if let Some(warning) = takes_over(&visit, user, &client, &asked.scope).await? {
        return Ok(show(&visit, &client, &asked, &code, Some(&warning), StatusCode::CONFLICT));
    }
    if !devices.decide(&code, Some(user)) {
        return Ok(ask_for_code(&visit, Some("This code has expired. Ask the device for a new one.")));
    }
    let _ = sign_in::take_proof(&visit);
    tracing::info!(%user_id, client = client.metadata.shown_name(), "a user has allowed a device to sign in");
    let body = done("The device is being signed in.") + "<p>You can close this page and go back to the device.</p>";
    Ok(Page::new("Allowed", body).into_response())
}

fn ask_for_code(visit: &Visit, error: Option<&str>) -> Response {
    let status = if error.is_some() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let attributes =
        "type=\"text\" class=\"code\" autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"16\" required";
    let body = format!(
        "{}<p>Enter the code that the other device shows.</p><form method=\"get\" action=\"{}\">{}<button type=\"submit\">Go on</button></form>",
        problem(error),
        esc(&visit.url(super::LINK)),
        input("Code", "user_code", "", attributes)
    );
    Page::new("Sign in a device", body).status(status).into_response()
}

fn show(visit: &Visit, client: &Client, asked: &Asked, code: &str, error: Option<&str>, status: StatusCode) -> Response {
    let cookie = visit.cookie_or_new();
    let again = if status == StatusCode::CONFLICT { hidden("replace", asked.scope.device_id.as_str()) } else { String::new() };
    let form = format!(
        "{again}{}{}{}",
        sign_in::who_inputs(visit, visit.field("user")),
        button("allow", "Allow", ""),
        button("refuse", "Refuse", "quiet")
    );
    let body = format!(
        "{}{}<p class=\"note\">Go on only if you have started this yourself, just now, and the device shows the code <code>{}</code>. \
         Whoever sent you this link otherwise wants to get into your account.</p>{}{}",
        problem(error),
        about(&client.metadata, &asked.scope, visit.node.config.server_name.as_str()),
        esc(&code.to_ascii_uppercase()),
        visit.form_html(&cookie, &form),
        providers::all_ways(visit, &cookie)
    );
    visit.answer(Page::new("Sign in a device", body).status(status), &cookie)
}
