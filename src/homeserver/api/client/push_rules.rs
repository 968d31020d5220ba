//! Push notifications: rules.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use ruma::{
    api::client::push::{
        delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled, get_pushrules_all, get_pushrules_global_scope,
        set_pushrule, set_pushrule_actions, set_pushrule_enabled,
    },
    push::{InsertPushRuleError, NewPushRule, RemovePushRuleError, Ruleset},
};
use serde_json::{Value, json};

use super::super::{
    call::{Call, RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{Node, push, store::StoreError, types::Requester};

/// Largest rule set.
const RULES_BYTES: usize = 256 * 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add_raw::<get_pushrules_all::v3::Request, _, _, _>(get_pushrules_all)
        .add_raw::<get_pushrules_global_scope::v3::Request, _, _, _>(get_pushrules_global_scope)
        .add::<get_pushrule::v3::Request, _, _>(get_pushrule)
        .add::<set_pushrule::v3::Request, _, _>(set_pushrule)
        .add::<delete_pushrule::v3::Request, _, _>(delete_pushrule)
        .add::<get_pushrule_actions::v3::Request, _, _>(get_pushrule_actions)
        .add::<set_pushrule_actions::v3::Request, _, _>(set_pushrule_actions)
        .add::<get_pushrule_enabled::v3::Request, _, _>(get_pushrule_enabled)
        .add::<set_pushrule_enabled::v3::Request, _, _>(set_pushrule_enabled)
}

fn unknown() -> ApiError {
    ApiError::not_found("No such push rule")
}

async fn rules(node: &Node, who: &Requester) -> ApiResult<Ruleset> {
    let who = who.clone();
    Ok(node.store.read(move |db| push::rules(db, who.user, &who.user_id)).await?)
}

/// Why rules stay as they are: the caller's answer, or the store's failure.
enum Refused {
    Api(ApiError),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Reads, changes and stores the rules in one job, so that two clients do not undo each other's changes.
async fn change<F>(node: &Node, who: Requester, change: F) -> ApiResult<()>
where
    F: FnOnce(&mut Ruleset) -> ApiResult<()> + Send + 'static,
{
    let done = node.store.write(move |tx| {
        let mut rules = push::rules(&tx.reader(), who.user, &who.user_id)?;
        change(&mut rules).map_err(Refused::Api)?;
        if push::content(rules.clone())?.len() > RULES_BYTES {
            return Err(Refused::Api(ApiError::too_large("There are too many push rules")));
        }
        Ok(push::set_rules(tx, who.user, rules)?)
    });
    done.await.map_err(|refused| match refused {
        Refused::Api(error) => error,
        Refused::Store(error) => error.into(),
    })
}

/// `GET /_matrix/client/v3/pushrules/`
async fn get_pushrules_all(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "global": push::to_json(&rules(&node, &call.who).await?)? })))
}

/// `GET /_matrix/client/v3/pushrules/global/`
async fn get_pushrules_global_scope(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    Ok(Json(push::to_json(&rules(&node, &call.who).await?)?))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn get_pushrule(node: Arc<Node>, call: Call<get_pushrule::v3::Request>) -> ApiResult<get_pushrule::v3::Response> {
    let rules = rules(&node, &call.who).await?;
    let rule = rules.get(call.request.kind, &call.request.rule_id).ok_or_else(unknown)?;
    Ok(get_pushrule::v3::Response::new(rule.into()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn set_pushrule(node: Arc<Node>, call: Call<set_pushrule::v3::Request>) -> ApiResult<set_pushrule::v3::Response> {
    let request = call.request;
    // MSC4306: this kind has the server's rules only.
    if matches!(request.rule, NewPushRule::PostContent(_)) {
        return Err(ApiError::invalid_param("Rules of this kind cannot be made"));
    }
    change(&node, call.who, move |rules| {
        rules.insert(request.rule, request.after.as_deref(), request.before.as_deref()).map_err(|error| match error {
            InsertPushRuleError::UnknownRuleId => {
                ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The rule named by `before` or `after` does not exist")
            }
            other => ApiError::invalid_param(other.to_string()),
        })
    })
    .await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn delete_pushrule(node: Arc<Node>, call: Call<delete_pushrule::v3::Request>) -> ApiResult<delete_pushrule::v3::Response> {
    let request = call.request;
    change(&node, call.who, move |rules| {
        rules.remove(request.kind, &request.rule_id).map_err(|error| match error {
            RemovePushRuleError::NotFound => unknown(),
            other => ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", other.to_string()),
        })
    })
    .await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
async fn get_pushrule_actions(
    node: Arc<Node>,
    call: Call<get_pushrule_actions::v3::Request>,
) -> ApiResult<get_pushrule_actions::v3::Response> {
    let rules = rules(&node, &call.who).await?;
    let rule = rules.get(call.request.kind, &call.request.rule_id).ok_or_else(unknown)?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions().to_vec()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
async fn set_pushrule_actions(
    node: Arc<Node>,
    call: Call<set_pushrule_actions::v3::Request>,
) -> ApiResult<set_pushrule_actions::v3::Response> {
    let request = call.request;
    change(&node, call.who, move |rules| rules.set_actions(request.kind, &request.rule_id, request.actions).map_err(|_| unknown())).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
async fn get_pushrule_enabled(
    node: Arc<Node>,
    call: Call<get_pushrule_enabled::v3::Request>,
) -> ApiResult<get_pushrule_enabled::v3::Response> {
    let rules = rules(&node, &call.who).await?;
    let rule = rules.get(call.request.kind, &call.request.rule_id).ok_or_else(unknown)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
async fn set_pushrule_enabled(
    node: Arc<Node>,
    call: Call<set_pushrule_enabled::v3::Request>,
) -> ApiResult<set_pushrule_enabled::v3::Response> {
    let request = call.request;
    change(&node, call.who, move |rules| rules.set_enabled(request.kind, &request.rule_id, request.enabled).map_err(|_| unknown())).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}
