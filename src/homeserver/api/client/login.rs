//! Login and logout: the legacy authentication API.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    routing::get,
};
use http::{Method, StatusCode};
use ruma::api::client::{
    account::whoami,
    session::{get_login_token, login, logout, logout_all, refresh_token},
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, MaybeService, RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    uia,
};
use crate::homeserver::{
    Config, Node,
    appservice::Service,
    listen::Peer,
    users::{
        Credentials, NewDevice, SignInError, SignedIn,
        limits::{Key, Kind},
        local_user_id, login_tokens,
        uia::Stage,
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    let node = Arc::clone(routes.node());
    routes
        .route(&Method::GET, "/_matrix/client/r0/login", get(get_login_types).with_state(Arc::clone(&node)))
        .route(&Method::GET, "/_matrix/client/v3/login", get(get_login_types).with_state(node))
        .add_raw::<get_login_token::v1::Request, _, _, _>(get_login_token)
        .add_raw::<login::v3::Request, _, _, _>(login)
        .add::<logout::v3::Request, _, _>(logout)
        .add::<logout_all::v3::Request, _, _>(logout_all)
        .add_raw::<refresh_token::v3::Request, _, _, _>(refresh_token)
        .add::<whoami::v3::Request, _, _>(whoami)
}

/// `GET /_matrix/client/v3/login`
///
/// Where browsers reach us, clients that know no OAuth are told to use our page all the same (MSC3824).
async fn get_login_types(State(node): State<Arc<Node>>, request: Request) -> Json<Value> {
    let mut flows = vec![json!({ "type": "m.login.password" }), json!({ "type": "m.login.token", "get_login_token": true })];
    if !node.appservices.all().is_empty() {
        flows.push(json!({ "type": "m.login.application_service" }));
    }
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
    if node.base.for_request(peer, request.version(), request.headers()).is_some() {
        let providers = node.sso.providers().map(|provider| {
            let mut shown = json!({ "id": provider.id, "name": provider.name });
            for (field, value) in [("icon", &provider.icon), ("brand", &provider.brand)] {
                if let (Some(object), Some(value)) = (shown.as_object_mut(), value) {
                    object.insert(field.into(), value.as_str().into());
                }
            }
            shown
        });
        flows.push(json!({
            "type": "m.login.sso",
            "identity_providers": providers.collect::<Vec<_>>(),
            "oauth_aware_preferred": true,
            "org.matrix.msc3824.delegated_oidc_compatibility": true,
        }));
    }
    Json(json!({ "flows": flows }))
}

/// `POST /_matrix/client/v1/login/get_token`
///
/// A session of its own for each: what was confirmed before does not count.
async fn get_login_token(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    uia::no_oauth(&node, &call.who).await?;
    uia::authenticate(&node, "login/get_token", Some(&call.who), call.object()?, &[&[Stage::Password]]).await?;
    let token = node.accounts.login_token(call.who.user);
    Ok(Json(json!({ "login_token": token, "expires_in_ms": login_tokens::LIFETIME_MS })))
}

/// `POST /_matrix/client/v3/login`
async fn login(node: Arc<Node>, call: RawCall<MaybeService>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    match body.get("type").and_then(Value::as_str) {
        Some("m.login.password") => {}
        Some("m.login.token") => return login_by_token(&node, &body, call.address).await,
        Some("m.login.application_service") => return login_by_service(&node, call.who.service()?, &body, call.address).await,
        Some(_) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "This server has no such login")),
        None => return Err(ApiError::missing_param("`type` is missing")),
    }
    let credentials = credentials(&body)?;
    if let Some(address) = call.address {
        node.limits.check(Kind::LoginAddress, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    let device = new_device(&body, call.address)?;
    let (user_id, user) = check_password(&node, &credentials).await?;
    let signed_in = node.accounts.sign_in(user_id, user, device).await?;
    Ok(Json(answer(&node.config, signed_in)))
}

/// `POST /login` with `m.login.token`.
async fn login_by_token(node: &Node, body: &Map<String, Value>, address: Option<std::net::IpAddr>) -> ApiResult<Json<Value>> {
    let token = body.get("token").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`token` is missing"))?;
    if let Some(address) = address {
        node.limits.check(Kind::LoginAddress, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    let device = new_device(body, address)?;
    let user = node.accounts.use_login_token(token).ok_or_else(|| ApiError::forbidden("The login token is unknown, used or too old"))?;
    let user_id = node.accounts.user_id(user).await?;
    let signed_in = node.accounts.sign_in(user_id, user, device).await?;
    Ok(Json(answer(&node.config, signed_in)))
}

/// `POST /login` with `m.login.application_service`: for the users of the service that asks.
async fn login_by_service(
    node: &Node,
    service: &Service,
    body: &Map<String, Value>,
    address: Option<std::net::IpAddr>,
) -> ApiResult<Json<Value>> {
    let device = new_device(body, address)?;
    let name = user_name(body)?;
    let user_id = local_user_id(&name, &node.config.server_name).filter(|user_id| service.may_act_as(user_id));
    let user_id = user_id.ok_or_else(|| ApiError::exclusive("This user is not in the namespaces of the application service"))?;
    let user = node.accounts.assert(service, Some(&user_id), None).await?.user;
    let signed_in = node.accounts.sign_in(user_id, user, device).await?;
    Ok(Json(answer(&node.config, signed_in)))
}

/// Checks a password; wrong ones count against the account's limit.
pub(super) async fn check_password(
    node: &Node,
    credentials: &Credentials,
) -> ApiResult<(ruma::OwnedUserId, crate::homeserver::types::UserNid)> {
    // Every way to write a name is the same account; what is no name at all shares one allowance.
    let account = local_user_id(&credentials.user, &node.config.server_name).map(String::from).unwrap_or_default();
    let account = || Key::Account(account.clone());
    node.limits.check(Kind::LoginAccount, account()).map_err(ApiError::limit_exceeded)?;
    let checked = node.accounts.check_credentials(credentials).await;
    if !matches!(checked, Err(SignInError::WrongPassword)) {
        node.limits.refund(Kind::LoginAccount, account());
    }
    Ok(checked?)
}

/// The user and password in a login or in a password stage: `identifier`, or the deprecated `user`.
pub(super) fn credentials(body: &Map<String, Value>) -> ApiResult<Credentials> {
    let user = user_name(body)?;
    let password = body.get("password").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`password` is missing"))?;
    Ok(Credentials { user, password: password.to_owned().into() })
}

/// The user that a request names: `identifier`, or the deprecated `user`.
fn user_name(body: &Map<String, Value>) -> ApiResult<String> {
    let user = match body.get("identifier") {
        Some(identifier) => match identifier.get("type").and_then(Value::as_str) {
            Some("m.id.user") => identifier.get("user").and_then(Value::as_str),
            Some("m.id.thirdparty" | "m.id.phone") => return Err(ApiError::forbidden("Wrong user name or password")),
            Some(_) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "Unknown type of identifier")),
            None => return Err(ApiError::missing_param("`identifier` has no `type`")),
        },
        None => body.get("user").and_then(Value::as_str),
    };
    user.map(str::to_owned).ok_or_else(|| ApiError::missing_param("There is no user in the request"))
}

/// The device that a login or registration asks for.
pub(super) fn new_device(body: &Map<String, Value>, address: Option<std::net::IpAddr>) -> ApiResult<NewDevice> {
    Ok(NewDevice {
        device_id: optional_text(body, "device_id")?.map(Into::into),
        display_name: optional_text(body, "initial_device_display_name")?,
        refresh: body.get("refresh_token").and_then(Value::as_bool).unwrap_or(false),
        address,
    })
}

/// A field that is a string if it is there.
pub(super) fn optional_text(body: &Map<String, Value>, field: &str) -> ApiResult<Option<String>> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ApiError::bad_json(format!("`{field}` is not a string"))),
    }
}

/// What login and registration answer.
pub(super) fn answer(config: &Config, signed_in: SignedIn) -> Value {
    let mut answer = json!({
        "user_id": signed_in.user_id,
        "device_id": signed_in.device_id,
        "access_token": signed_in.access_token,
        "home_server": config.server_name,
    });
    let mut add = |field: &str, value: Option<Value>| {
        if let (Some(object), Some(value)) = (answer.as_object_mut(), value) {
            object.insert(field.into(), value);
        }
    };
    add("expires_in_ms", signed_in.expires_in_ms.map(Value::from));
    add("refresh_token", signed_in.refresh_token.map(Value::from));
    add("well_known", config.public_base_url.as_ref().map(|url| json!({ "m.homeserver": { "base_url": url } })));
    answer
}

/// `POST /_matrix/client/v3/logout`
async fn logout(node: Arc<Node>, call: Call<logout::v3::Request>) -> ApiResult<logout::v3::Response> {
    node.accounts.sign_out(&call.who).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
async fn logout_all(node: Arc<Node>, call: Call<logout_all::v3::Request>) -> ApiResult<logout_all::v3::Response> {
    node.accounts.sign_out_everywhere(call.who.user).await?;
    Ok(logout_all::v3::Response::new())
}

/// `POST /_matrix/client/v3/refresh`
async fn refresh_token(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let token = body.get("refresh_token").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`refresh_token` is missing"))?;
    if let Some(address) = call.address {
        node.limits.check(Kind::LoginAddress, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
    }
    let signed_in = node.accounts.refresh(token).await?;
    if let Some(address) = call.address {
        node.limits.refund(Kind::LoginAddress, Key::Address(address));
    }
    Ok(Json(json!({
        "access_token": signed_in.access_token,
        "refresh_token": signed_in.refresh_token,
        "expires_in_ms": signed_in.expires_in_ms,
    })))
}

/// `GET /_matrix/client/v3/account/whoami`
async fn whoami(_: Arc<Node>, call: Call<whoami::v3::Request>) -> ApiResult<whoami::v3::Response> {
    let mut response = whoami::v3::Response::new(call.who.user_id, false);
    response.device_id = Some(call.who.device_id).filter(|device| !device.as_str().is_empty());
    Ok(response)
}
