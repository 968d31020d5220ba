//! The account itself: password, closing it, addresses.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::{
    UserId,
    api::client::account::{change_password, deactivate, delete_3pid, get_3pids, unbind_3pid},
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    login, uia,
};
use crate::homeserver::{
    Node,
    events::{Ctx, rounds},
    types::{Requester, UserNid},
    users::{Accounts, uia::Stage},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<change_password::v3::Request, _, _, _>(change_password)
        .add_raw::<deactivate::v3::Request, _, _, _>(deactivate)
        .add_raw::<get_3pids::v3::Request, _, _, _>(get_3pids)
        .add_raw::<delete_3pid::v3::Request, _, _, _>(delete_3pid)
        .add_raw::<unbind_3pid::v3::Request, _, _, _>(delete_3pid)
}

/// The one way to prove who one is: without e-mail addresses, somebody who is not signed in has none.
fn signed_in(who: Option<Requester>) -> ApiResult<Requester> {
    who.ok_or_else(ApiError::missing_token)
}

/// `POST /_matrix/client/v3/account/password`
async fn change_password(node: Arc<Node>, call: RawCall<Option<Requester>>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let who = signed_in(call.who)?;
    uia::no_oauth(&node, &who).await?;
    if let Some(password) = login::optional_text(&body, "new_password")? {
        Accounts::check_password(&password)?;
    }
    let passed = uia::authenticate(&node, "account/password", Some(&who), body, &[&[Stage::Password]]).await?;
    let password =
        login::optional_text(&passed.body, "new_password")?.ok_or_else(|| ApiError::missing_param("`new_password` is missing"))?;
    let logout_devices = passed.body.get("logout_devices").and_then(Value::as_bool).unwrap_or(true);
    node.accounts.change_password(&who, &password, logout_devices).await?;
    Ok(Json(json!({})))
}

/// `POST /_matrix/client/v3/account/deactivate`
async fn deactivate(node: Arc<Node>, call: RawCall<Option<Requester>>) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let who = signed_in(call.who)?;
    if body.get("erase").is_some_and(|erase| !erase.is_boolean()) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", "`erase` is not a boolean"));
    }
    uia::no_oauth(&node, &who).await?;
    let passed = uia::authenticate(&node, "account/deactivate", Some(&who), body, &[&[Stage::Password]]).await?;
    let erase = passed.body.get("erase").and_then(Value::as_bool).unwrap_or(false);
    close_account(&node, who.user, &who.user_id, erase).await?;
    // There is no identity server to unbind addresses from.
    Ok(Json(json!({ "id_server_unbind_result": "no-support" })))
}

/// Closes an account for good, and leaves its rooms.
pub(super) async fn close_account(node: &Node, user: UserNid, user_id: &UserId, erase: bool) -> ApiResult<()> {
    // Closed first: nobody joins while the rooms are left.
    node.accounts.deactivate(user, erase).await?;
    rounds::leave_all(&node.store, &Ctx::of(node), user, user_id.to_owned()).await?;
    tracing::info!(%user_id, erase, "account deactivated");
    Ok(())
}

/// `GET /_matrix/client/v3/account/3pid`
async fn get_3pids(_: Arc<Node>, _: RawCall) -> ApiResult<Json<Value>> {
    // Addresses cannot be added here, so there are none. ruma leaves an empty list out, which clients stumble over.
    Ok(Json(json!({ "threepids": [] })))
}

/// `POST /_matrix/client/v3/account/3pid/delete` and `POST /_matrix/client/v3/account/3pid/unbind`
async fn delete_3pid(_: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    for field in ["medium", "address"] {
        match body.get(field) {
            Some(Value::String(_)) => {}
            None => return Err(ApiError::missing_param(format!("`{field}` is missing"))),
            Some(_) => return Err(ApiError::bad_json(format!("`{field}` is not a string"))),
        }
    }
    // No account has an address, so none has this one; and no identity server is spoken to.
    Ok(Json(json!({ "id_server_unbind_result": "no-support" })))
}
