//! User-interactive authentication on the wire: 401 bodies and the stages' checks.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    super::error::{ApiError, ApiResult},
    login, oauth,
};
use crate::homeserver::{
    Node,
    types::Requester,
    users::uia::{Operation, Progress, Stage},
};

/// A flow: stages that are enough together.
pub(super) type Flow<'a> = &'a [Stage];

/// Lets a request through once its flow is complete; until then the answer is 401 with what is missing.
///
/// `endpoint` says what the session is for, including what the path names. Returns the request's body without `auth`, which
/// later requests of a session may leave out.
///
/// # Errors
///
/// The 401 answer, or what is wrong with the session.
pub(super) async fn authenticate(
    node: &Node,
    endpoint: &str,
    who: Option<&Requester>,
    mut body: Map<String, Value>,
    flows: &[Flow<'_>],
) -> ApiResult<Progress> {
    let flows = flows_of(node, who, flows).await?;
    let flows = &flows.iter().map(Vec::as_slice).collect::<Vec<_>>();
    let auth = body.remove("auth");
    let operation = Operation { endpoint: endpoint.to_owned(), user: who.map(|who| (who.user, who.device_id.clone())) };
    if serde_json::to_vec(&body).map_or(usize::MAX, |json| json.len()) > operation.body_limit_bytes() {
        return Err(ApiError::too_large("The request is too large"));
    }
    let auth = match auth {
        Some(Value::Object(auth)) if !auth.is_empty() => auth,
        None | Some(Value::Null | Value::Object(_)) => return Err(challenge(node, flows, &node.uia.open(operation, body), None)),
        Some(_) => return Err(ApiError::bad_json("`auth` is not an object")),
    };
    let progress = match auth.get("session").and_then(Value::as_str) {
        Some(session) => node.uia.resume(session, &operation, body).map_err(|e| ApiError::forbidden(e.to_string()))?,
        None => node.uia.open(operation, body),
    };
    let progress = match auth.get("type").and_then(Value::as_str) {
        None => progress,
        Some(kind) => {
            let stage = flows.iter().flat_map(|flow| flow.iter()).find(|stage| stage.name() == kind);
            let stage = *stage
                .ok_or_else(|| challenge(node, flows, &progress, Some(("M_UNRECOGNIZED", "This authentication is not asked for here"))))?;
            let token = check(node, stage, &auth, who, flows, &progress).await?;
            node.uia.complete(&progress.session, stage, token).map_err(|e| ApiError::forbidden(e.to_string()))?
        }
    };
    if flows.iter().any(|flow| flow.iter().all(|stage| progress.completed.contains(stage))) {
        node.uia.close(&progress.session);
        return Ok(progress);
    }
    Err(challenge(node, flows, &progress, None))
}

/// Endpoints that ask for a password cannot be used by clients that signed in by OAuth, and must not learn one (Client-Server
/// API, "OAuth 2.0 API").
///
/// # Errors
///
/// 403 with where the user can do it.
pub(super) async fn no_oauth(node: &Node, who: &Requester) -> ApiResult<()> {
    if node.accounts.grant_of(who).await?.is_none() {
        return Ok(());
    }
    let place = node.base.any().map(|base| format!(" at {base}{}", oauth::ACCOUNT)).unwrap_or_default();
    Err(ApiError::forbidden(format!("This session signed in with OAuth 2.0: its user does this on the account page{place}")))
}

/// The flows for this user: whom a provider vouches for can go there instead of giving a password, and has to where they have none.
async fn flows_of(node: &Node, who: Option<&Requester>, flows: &[Flow<'_>]) -> ApiResult<Vec<Vec<Stage>>> {
    let mut out: Vec<Vec<Stage>> = flows.iter().map(|flow| flow.to_vec()).collect();
    let (Some(who), Some(_), Some(_)) = (who, node.base.any(), node.sso.providers().next()) else { return Ok(out) };
    let issuers = node.accounts.sso_issuers(who.user).await?;
    if !node.sso.providers().any(|provider| issuers.contains(&provider.issuer)) {
        return Ok(out);
    }
    let has_password = node.accounts.account(&who.user_id).await?.is_some_and(|account| account.password_hash.is_some());
    let asks = |flow: &Vec<Stage>| flow.contains(&Stage::Password);
    let instead = |stage: &Stage| if *stage == Stage::Password { Stage::Sso } else { *stage };
    let more: Vec<Vec<Stage>> = out.iter().filter(|flow| asks(flow)).map(|flow| flow.iter().map(instead).collect()).collect();
    out.retain(|flow| has_password || !asks(flow));
    out.extend(more);
    Ok(out)
}

/// Checks one stage. Returns the registration token, where the stage shows one.
async fn check(
    node: &Node,
    stage: Stage,
    auth: &Map<String, Value>,
    who: Option<&Requester>,
    flows: &[Flow<'_>],
    progress: &Progress,
) -> ApiResult<Option<String>> {
    match stage {
        Stage::Dummy | Stage::Terms => Ok(None),
        // What is confirmed on a page is not confirmed here.
        Stage::Sso | Stage::OAuth | Stage::CrossSigningReset => Err(challenge(node, flows, progress, None)),
        Stage::RegistrationToken => {
            let token = auth.get("token").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`token` is missing"))?;
            if node.accounts.registration_token_is_valid(token).await? {
                Ok(Some(token.to_owned()))
            } else {
                Err(challenge(node, flows, progress, Some(("M_UNAUTHORIZED", "The registration token is not valid"))))
            }
        }
        Stage::Password => {
            let refused = || challenge(node, flows, progress, Some(("M_FORBIDDEN", "Wrong user name or password")));
            let credentials =
                login::credentials(auth).map_err(|error| if error.errcode() == Some("M_FORBIDDEN") { refused() } else { error })?;
            match login::check_password(node, &credentials).await {
                // Somebody else's password, however good, does not stand for this user, and never will: there is nothing to try again.
                Ok((_, user)) => match who {
                    Some(who) if who.user == user => Ok(None),
                    Some(_) => Err(ApiError::forbidden("This is the password of another user")),
                    None => Err(refused()),
                },
                Err(error) if error.status() == StatusCode::FORBIDDEN => Err(refused()),
                Err(error) => Err(error),
            }
        }
    }
}

/// The 401 answer.
fn challenge(node: &Node, flows: &[Flow<'_>], progress: &Progress, error: Option<(&str, &str)>) -> ApiError {
    let mut body = Map::new();
    let mut params = Map::new();
    for stage in flows.iter().flat_map(|flow| flow.iter()) {
        if let (Stage::Terms, Some(terms)) = (stage, &node.config.terms) {
            let policy = json!({ "version": terms.version, "en": { "name": "Terms of this server", "url": terms.url } });
            params.insert(stage.name().into(), json!({ "policies": { "terms_of_service": policy } }));
        }
        if let (Stage::OAuth | Stage::CrossSigningReset, Some(base)) = (stage, node.base.any()) {
            // The session goes along, so that what the user confirms is this request and no other.
            let url = format!("{base}{}?action=org.matrix.cross_signing_reset&session={}", oauth::ACCOUNT, progress.session);
            params.insert(stage.name().into(), json!({ "url": url }));
        }
    }
    let flows = flows.iter().map(|flow| json!({ "stages": flow.iter().map(|stage| stage.name()).collect::<Vec<_>>() })).collect::<Vec<_>>();
    body.insert("flows".into(), flows.into());
    body.insert("params".into(), params.into());
    body.insert("session".into(), progress.session.clone().into());
    body.insert("completed".into(), progress.completed.iter().map(|stage| stage.name()).collect::<Vec<_>>().into());
    if let Some((errcode, message)) = error {
        body.insert("errcode".into(), errcode.into());
        body.insert("error".into(), message.into());
    }
    ApiError::with_body(StatusCode::UNAUTHORIZED, body)
}
