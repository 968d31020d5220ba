//! The account pages that change something: profile, password, the renewal of cross-signing keys.

use axum::response::Response;
use http::{Method, StatusCode};

use super::{
    account::{Owner, confirmed, page, status, ways},
    page::{button, done, input, new_password_inputs, problem},
    sign_in::{confirm_inputs, sentence},
    visit::Visit,
};
use crate::homeserver::{
    api::{client::profile::set_displayname, error::ApiResult},
    store,
    types::Requester,
    users::{AccountError, uia::Stage},
};

pub(super) async fn profile(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let (mut told, mut code) = (String::new(), StatusCode::OK);
    if visit.method == Method::POST {
        match set_displayname(&visit.node, owner.user, &owner.user_id, visit.field("displayname").trim()).await {
            Ok(()) => told = done("Your name was changed."),
            Err(error) if error.status().is_server_error() => return Err(error),
            Err(error) => {
                told = problem(error.message());
                code = error.status();
            }
        }
    }
    let user = owner.user;
    let profile = visit.node.store.read(move |db| store::profiles::all(db, user)).await?;
    let name = profile.get("displayname").and_then(|name| name.as_str()).unwrap_or_default();
    let form = input("Name that others see", "displayname", name, "type=\"text\" autocomplete=\"nickname\" maxlength=\"255\"")
        + button("save", "Save", "").as_str();
    let body = told + visit.form_html(&owner.cookie, &form).as_str();
    Ok(visit.answer(page(visit, owner, "Your profile", &body).status(code), &owner.cookie))
}

pub(super) async fn password(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let mut error = None;
    if visit.method == Method::POST {
        match change_password(visit, owner).await? {
            Ok(()) => {
                let body = done("Your password was changed.") + "<p>Sign in to this page again with the new one.</p>";
                return Ok(visit.answer(page(visit, owner, "Password changed", &body), &owner.cookie));
            }
            Err(why) => error = Some(why),
        }
    }
    let check = "<label class=\"check\"><input type=\"checkbox\" name=\"sign_out\" value=\"yes\">End all my sessions</label>";
    let form = format!("{}{}{check}{}", confirm_inputs(visit, owner.user), new_password_inputs(), button("change", "Change password", ""));
    let body = problem(error.as_deref()) + visit.form_html(&owner.cookie, &form).as_str() + ways(visit, owner).await?.as_str();
    Ok(visit.answer(page(visit, owner, "Change your password", &body).status(status(error.as_deref())), &owner.cookie))
}

async fn change_password(visit: &Visit, owner: &Owner) -> ApiResult<Result<(), String>> {
    if let Err(why) = confirmed(visit, owner).await? {
        return Ok(Err(why));
    }
    if visit.field("new_password") != visit.field("again") {
        return Ok(Err("The two new passwords differ.".into()));
    }
    // A browser is no device: none of the account's is spared, if they are to go.
    let who = Requester { user_id: owner.user_id.clone(), user: owner.user, device_id: "".into(), admin: false, application: None };
    match visit.node.accounts.change_password(&who, visit.field("new_password"), visit.field("sign_out") == "yes").await {
        Ok(()) => Ok(Ok(())),
        Err(AccountError::WeakPassword(why)) => Ok(Err(sentence(why))),
        Err(error) => Err(error.into()),
    }
}

/// Confirms that cross-signing keys may be replaced (Client-Server API, "OAuth authentication"). What is confirmed is one
/// upload of one device, not a time in which anybody with a token of the user's could come.
pub(super) async fn reset_keys(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let title = "Renew your identity";
    let session = visit.parameter("session").unwrap_or_default().to_owned();
    let operation = visit.node.uia.operation(&session);
    let device =
        operation.filter(|operation| operation.endpoint == super::super::keys::SIGNING_UPLOAD).and_then(|operation| operation.user);
    let Some((_, device)) = device.filter(|(user, _)| *user == owner.user) else {
        let body = "<p>Start this in your app, on the device that shall have the new keys: it sends you here then. If it just did, too much time has passed; start again there.</p>";
        return Ok(visit.answer(page(visit, owner, title, body).status(StatusCode::NOT_FOUND), &owner.cookie));
    };
    let mut error = None;
    if visit.method == Method::POST {
        match confirmed(visit, owner).await? {
            Ok(()) => {
                let complete = |stage| visit.node.uia.complete(&session, stage, None);
                if complete(Stage::OAuth).and_then(|_| complete(Stage::CrossSigningReset)).is_ok() {
                    let body = done("Go back to your app: it can renew your identity now.");
                    return Ok(visit.answer(page(visit, owner, title, &body), &owner.cookie));
                }
                error = Some("Too much time has passed; start again in your app.".to_owned());
            }
            Err(why) => error = Some(why),
        }
    }
    let form = confirm_inputs(visit, owner.user) + button("reset", "Renew my identity", "bad").as_str();
    let body = format!(
        "{}<p class=\"note\">The session <code>{}</code> wants to replace your cross-signing keys. All your contacts, and your other sessions, have to be verified again. \
         Do this only if you have started it yourself and no other device of yours can help.</p>{}{}",
        problem(error.as_deref()),
        super::page::esc(device.as_str()),
        visit.form_html(&owner.cookie, &form),
        ways(visit, owner).await?
    );
    Ok(visit.answer(page(visit, owner, title, &body).status(status(error.as_deref())), &owner.cookie))
}
