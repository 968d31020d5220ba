//! OAuth 2.0 (Client-Server API, "OAuth 2.0 API"): the endpoints, and the pages on which users sign in and look after their
//! account.
//!
//! They lie below `/_homeroom`, which a proxy has to pass on like `/_matrix`. All of it answers only those to whom the node has
//! a URL: see `base_url.rs`.

mod account;
mod account_forms;
mod authorize;
mod endpoints;
mod fallback;
mod link;
pub(in crate::homeserver::api) mod page;
mod providers;
mod sign_in;
mod sso;
mod visit;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::Method;
use serde_json::json;

use self::visit::{Visit, page, route, shown};
use super::super::call::Routes;
use crate::homeserver::{Registration, users::oauth::client::GRANTS};

const AUTHORIZE: &str = "/_homeroom/oauth/authorize";
const TOKEN: &str = "/_homeroom/oauth/token";
const REVOKE: &str = "/_homeroom/oauth/revoke";
const REGISTER: &str = "/_homeroom/oauth/register";
const DEVICE: &str = "/_homeroom/oauth/device";
/// Short: people type it.
const LINK: &str = "/_homeroom/link";
/// From one of our pages to a provider.
const SSO_START: &str = "/_homeroom/sso/start";
/// The redirect URI that a provider knows, but for the provider's ID at the end: none of them can pass on what another gave.
const SSO_CALLBACK: &str = "/_homeroom/sso/callback";
/// For people whom a provider knows, and we do not yet.
const SSO_ACCOUNT: &str = "/_homeroom/sso/account";
/// The account management URI.
pub(super) const ACCOUNT: &str = "/_homeroom/account";

pub(super) fn add(routes: Routes) -> Routes {
    let metadata = ["/_matrix/client/v1/auth_metadata", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata"];
    let routes = route(routes, &[Method::GET], &metadata, auth_metadata);
    let routes = route(routes, &[Method::POST], &[REGISTER], endpoints::register);
    let routes = route(routes, &[Method::POST], &[TOKEN], endpoints::token);
    let routes = route(routes, &[Method::POST], &[REVOKE], endpoints::revoke);
    let routes = route(routes, &[Method::POST], &[DEVICE], endpoints::device);
    let routes = page(routes, &[AUTHORIZE], authorize::authorize);
    let routes = page(routes, &[LINK], link::link);
    let routes = page(routes, &[ACCOUNT], account::account);
    let routes = page(routes, &["/_matrix/client/r0/login/sso/redirect", "/_matrix/client/v3/login/sso/redirect"], sso::sso);
    let chosen = ["/_matrix/client/r0/login/sso/redirect/{idpId}", "/_matrix/client/v3/login/sso/redirect/{idpId}"];
    let routes = route(routes, &[Method::GET], &chosen, |visit| shown(sso::chosen(visit)));
    let routes = route(routes, &[Method::GET], &[SSO_START], providers::start);
    let routes = route(routes, &[Method::GET], &[&format!("{SSO_CALLBACK}/{{idpId}}")], |visit| shown(providers::callback(visit)));
    let routes = page(routes, &[SSO_ACCOUNT], providers::new_account);
    let fallback = ["/_matrix/client/r0/auth/{type}/fallback/web", "/_matrix/client/v3/auth/{type}/fallback/web"];
    page(routes, &fallback, fallback::fallback)
}

/// `GET /_matrix/client/v1/auth_metadata` (RFC 8414; the unstable path is MSC2965's).
async fn auth_metadata(visit: Visit) -> Response {
    let mut metadata = json!({
        "issuer": authorize::issuer(&visit),
        "authorization_endpoint": visit.url(AUTHORIZE),
        "token_endpoint": visit.url(TOKEN),
        "revocation_endpoint": visit.url(REVOKE),
        "registration_endpoint": visit.url(REGISTER),
        "device_authorization_endpoint": visit.url(DEVICE),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": GRANTS,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
        "account_management_uri": visit.url(ACCOUNT),
        "account_management_actions_supported": account::advertised(),
    });
    if visit.node.config.registration != Registration::Closed
        && let Some(object) = metadata.as_object_mut()
    {
        object.insert("prompt_values_supported".into(), json!(["create"]));
    }
    Json(metadata).into_response()
}
