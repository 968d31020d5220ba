//! What programs ask: registration, tokens, revocation, device codes. JSON in RFC 6749's form, readable from any origin.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::visit::{Pairs, Visit, one, required};
use crate::homeserver::users::{
    limits::{Key, Kind},
    oauth::{
        ClientMetadata, Exchange, Issued, OAuthError, Scope,
        client::{AUTHORIZATION_CODE, DEVICE_CODE, GRANTS, REFRESH_TOKEN},
        device_code::{self, Asked},
    },
};

type Answer = Result<(StatusCode, Value), OAuthError>;

/// An answer that no cache keeps.
fn respond(answer: Answer) -> Response {
    let mut wait = None;
    let (status, body) = answer.unwrap_or_else(|error| {
        let status = match &error {
            OAuthError::InvalidClient => StatusCode::UNAUTHORIZED,
            OAuthError::Limited(after) => {
                wait = Some(after.as_secs() + 1);
                StatusCode::TOO_MANY_REQUESTS
            }
            OAuthError::Full => StatusCode::SERVICE_UNAVAILABLE,
            OAuthError::Store(cause) => {
                tracing::error!(%cause, "a request failed on our side");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::BAD_REQUEST,
        };
        let why = if matches!(error, OAuthError::Store(_)) { "internal error".to_owned() } else { error.to_string() };
        (status, json!({ "error": error.code(), "error_description": why }))
    });
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    if let Some(seconds) = wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn limit(visit: &Visit, kind: Kind) -> Result<(), OAuthError> {
    match visit.address {
        Some(address) => visit.node.limits.check(kind, Key::Address(address)).map_err(OAuthError::Limited),
        None => Ok(()),
    }
}

/// The form, which must not be empty: another content type leaves it so.
fn form(visit: &Visit) -> Result<&Pairs, OAuthError> {
    if visit.form.is_empty() {
        return Err(OAuthError::request("the body has to be application/x-www-form-urlencoded"));
    }
    Ok(&visit.form)
}

/// `POST` of the registration endpoint (RFC 7591, 3.1).
pub(super) async fn register(visit: Visit) -> Response {
    respond(register_client(&visit).await)
}

async fn register_client(visit: &Visit) -> Answer {
    limit(visit, Kind::OAuth)?;
    let body: Value =
        serde_json::from_slice(&visit.body).map_err(|e| OAuthError::InvalidClientMetadata(format!("the body is not JSON: {e}")))?;
    let body = body.as_object().ok_or_else(|| OAuthError::InvalidClientMetadata("the body is not an object".into()))?;
    let client = visit.node.accounts.register_client(ClientMetadata::parse(body)?).await?;
    let mut answer = serde_json::to_value(&client.metadata).map_err(|e| OAuthError::InvalidClientMetadata(e.to_string()))?;
    if let Some(object) = answer.as_object_mut() {
        object.insert("client_id".into(), client.client_id.into());
    }
    Ok((StatusCode::CREATED, answer))
}

/// `POST` of the token endpoint (RFC 6749, 3.2).
pub(super) async fn token(visit: Visit) -> Response {
    respond(tokens(&visit).await.map(|issued| {
        let body = json!({
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "expires_in": issued.expires_in_ms / 1000,
            "refresh_token": issued.refresh_token,
            "scope": issued.scope,
        });
        (StatusCode::OK, body)
    }))
}

async fn tokens(visit: &Visit) -> Result<Issued, OAuthError> {
    // Guesses count; what was no guess is given back.
    limit(visit, Kind::LoginAddress)?;
    let issued = granted(visit).await;
    let guess = matches!(issued, Err(OAuthError::InvalidGrant(_) | OAuthError::InvalidClient | OAuthError::ExpiredToken));
    if let (false, Some(address)) = (guess, visit.address) {
        visit.node.limits.refund(Kind::LoginAddress, Key::Address(address));
    }
    issued
}

async fn granted(visit: &Visit) -> Result<Issued, OAuthError> {
    let form = form(visit)?;
    let grant = required(form, "grant_type")?;
    if !GRANTS.contains(&grant) {
        return Err(OAuthError::UnsupportedGrantType);
    }
    let accounts = &visit.node.accounts;
    let client = accounts.client(required(form, "client_id")?).await?;
    match grant {
        AUTHORIZATION_CODE => {
            let shown = Exchange {
                code: required(form, "code")?.to_owned(),
                client_id: client.client_id.clone(),
                redirect_uri: required(form, "redirect_uri")?.to_owned(),
                verifier: required(form, "code_verifier")?.to_owned(),
            };
            accounts.exchange_code(&client, shown, visit.address).await
        }
        REFRESH_TOKEN => accounts.refresh_oauth(&client, required(form, "refresh_token")?).await,
        DEVICE_CODE if !client.metadata.may(DEVICE_CODE) => Err(OAuthError::UnauthorizedClient),
        _ => {
            let (user, asked) = accounts.oauth.devices.poll(required(form, "device_code")?, &client.client_id)?;
            accounts.grant_device(&client, user, asked, visit.address).await
        }
    }
}

/// `POST` of the revocation endpoint (RFC 7009).
pub(super) async fn revoke(visit: Visit) -> Response {
    respond(revoke_token(&visit).await)
}

async fn revoke_token(visit: &Visit) -> Answer {
    let form = form(visit)?;
    limit(visit, Kind::Lookup)?;
    let token = required(form, "token")?;
    if !matches!(one(form, "token_type_hint")?, None | Some("access_token" | "refresh_token")) {
        return Err(OAuthError::request("`token_type_hint` is neither `access_token` nor `refresh_token`"));
    }
    visit.node.accounts.revoke_token(token, one(form, "client_id")?.map(ToOwned::to_owned)).await?;
    Ok((StatusCode::OK, json!({})))
}

/// `POST` of the device authorisation endpoint (RFC 8628, 3.1).
pub(super) async fn device(visit: Visit) -> Response {
    respond(device_codes(&visit).await)
}

async fn device_codes(visit: &Visit) -> Answer {
    let form = form(visit)?;
    limit(visit, Kind::OAuth)?;
    let client = visit.node.accounts.client(required(form, "client_id")?).await?;
    if !client.metadata.may(DEVICE_CODE) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let scope = Scope::parse(one(form, "scope")?.unwrap_or_default())?;
    let codes = visit.node.accounts.oauth.devices.start(Asked { client_id: client.client_id, scope })?;
    let link = visit.url(super::LINK);
    let answer = json!({
        "device_code": codes.device_code,
        "verification_uri_complete": format!("{link}?user_code={}", codes.user_code),
        "user_code": codes.user_code,
        "verification_uri": link,
        "expires_in": device_code::LIFETIME_MS / 1000,
        "interval": device_code::INTERVAL_MS / 1000,
    });
    Ok((StatusCode::OK, answer))
}
