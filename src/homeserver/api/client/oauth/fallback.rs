//! Stages of user-interactive authentication in a browser, for clients that do not know them (Client-Server API, "Fallback").

use axum::response::Response;
use http::{Method, StatusCode};

use super::{
    page::{Page, button, done, input, password_input, problem},
    providers::{self, Reason},
    sign_in,
    visit::Visit,
};
use crate::homeserver::{
    api::error::{ApiError, ApiResult},
    users::{
        limits::Kind,
        uia::{Operation, Stage},
    },
};

/// The stages that have a page.
const STAGES: [Stage; 5] = [Stage::Password, Stage::Sso, Stage::Dummy, Stage::RegistrationToken, Stage::Terms];

/// `GET` and `POST /_matrix/client/v3/auth/{type}/fallback/web`
pub(super) async fn fallback(visit: Visit) -> ApiResult<Response> {
    let path = visit.here.split('?').next().unwrap_or_default();
    let stage = STAGES.into_iter().find(|stage| path.ends_with(&format!("/auth/{}/fallback/web", stage.name())));
    let stage = stage.ok_or_else(|| ApiError::not_found("There is no page for this"))?;
    let session = visit.parameter("session").ok_or_else(|| ApiError::missing_param("`session` is missing"))?.to_owned();
    let operation = visit.node.uia.operation(&session);
    let operation = operation.ok_or_else(|| ApiError::not_found("This authentication has expired. Go back to your app and try again"))?;
    if stage == Stage::Sso {
        return at_provider(&visit, &session, &operation).await;
    }
    if visit.method != Method::POST {
        return Ok(show(&visit, stage, None));
    }
    if let Some(refused) = visit.refused_form() {
        return Ok(refused);
    }
    let token = match check(&visit, stage, &operation).await? {
        Ok(token) => token,
        Err(why) => return Ok(show(&visit, stage, Some(&why))),
    };
    completed(&visit, &session, stage, token)
}

fn completed(visit: &Visit, session: &str, stage: Stage, token: Option<String>) -> ApiResult<Response> {
    visit.node.uia.complete(session, stage, token).map_err(|e| ApiError::forbidden(e.to_string()))?;
    let body = done("That was it.") + "<p>You can close this page and go back to your app.</p>";
    Ok(Page::new("Done", body).tells_opener().into_response())
}

/// The stage `m.login.sso`: the user shows at one of their providers who they are, and comes back here.
async fn at_provider(visit: &Visit, session: &str, operation: &Operation) -> ApiResult<Response> {
    let Some((user, _)) = &operation.user else { return Err(ApiError::not_found("There is no page for this")) };
    let error = match sign_in::take_proof(visit) {
        Some(proof) if !proof.fresh => Some("The provider has to ask you anew.".to_owned()),
        Some(proof) => match sign_in::proven(visit, proof).await? {
            Ok((_, proven)) if proven == *user => return completed(visit, session, Stage::Sso, None),
            Ok((user_id, _)) => Some(format!("You are {user_id} there, and your app is signed in as somebody else.")),
            Err(why) => Some(why),
        },
        None => None,
    };
    let cookie = visit.cookie_or_new();
    let ways = providers::ways(visit, &cookie, Reason::Confirm, providers::providers_of(visit, *user).await?.into_iter());
    let body = format!(
        "{}<p>Your app asks you to confirm what you have started there. If you have started nothing, close this page: somebody else may \
         have.</p>{ways}",
        problem(error.as_deref())
    );
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Ok(visit.answer(Page::new("Confirm who you are", body).status(status), &cookie))
}

/// The registration token, where the stage has one; or what to tell the user.
async fn check(visit: &Visit, stage: Stage, operation: &Operation) -> ApiResult<Result<Option<String>, String>> {
    match stage {
        Stage::RegistrationToken => {
            if let Err(wait) = sign_in::limit(visit, Kind::Lookup) {
                return Ok(Err(wait));
            }
            let token = visit.field("token").trim().to_owned();
            let good = visit.node.accounts.registration_token_is_valid(&token).await?;
            Ok(if good { Ok(Some(token)) } else { Err("The registration token is not valid.".into()) })
        }
        Stage::Terms => Ok(sign_in::terms_accepted(visit).map(|()| None)),
        Stage::Password => {
            let Some((user, _)) = &operation.user else { return Ok(Err("Nobody is signed in.".into())) };
            let user_id = visit.node.accounts.user_id(*user).await?;
            Ok(sign_in::check_user(visit, user_id.as_str()).await?.map(|_| None))
        }
        _ => Ok(Ok(None)),
    }
}

fn show(visit: &Visit, stage: Stage, error: Option<&str>) -> Response {
    let (title, inputs, label) = match stage {
        Stage::Password => ("Confirm with your password", password_input(), "Confirm"),
        Stage::Terms => ("Terms", sign_in::terms_inputs(visit), "Go on"),
        Stage::RegistrationToken => {
            let attributes = "type=\"text\" autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"255\" required";
            ("Registration token", input("Registration token", "token", visit.field("token"), attributes), "Go on")
        }
        _ => ("Confirm", "<p>Your app asks you to confirm what you have started there.</p>".to_owned(), "Confirm"),
    };
    let cookie = visit.cookie_or_new();
    let body = problem(error) + visit.form_html(&cookie, &(inputs + button("go", label, "").as_str())).as_str();
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    visit.answer(Page::new(title, body).status(status), &cookie)
}
