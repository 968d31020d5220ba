//! Keys: what this node publishes of its own, and what it vouches for of others.

use std::{collections::BTreeMap, sync::Arc};

use axum::Json;
use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, api::auth_scheme::NoAuthentication};
use serde::Deserialize;

use crate::homeserver::{
    Node,
    api::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    federation::{
        key_ring::{KeyFault, MAX_QUERIED, Query},
        names,
    },
    users::limits::{Key, Kind},
};

pub(super) fn add(routes: Routes) -> Routes {
    // The forms with a key's ID are gone from the specification, but servers still ask for them.
    let own = ["/_matrix/key/v2/server", "/_matrix/key/v2/server/{keyId}"];
    let of_one = ["/_matrix/key/v2/query/{serverName}", "/_matrix/key/v2/query/{serverName}/{keyId}"];
    let routes = routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &own, get_server_key);
    let routes = routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::GET, &of_one, perspectives_key_query);
    routes.add_raw_at::<NoAuthentication, _, _, _>(&Method::POST, &["/_matrix/key/v2/query"], bulk_perspectives_key_query)
}

/// `GET /_matrix/key/v2/server`
async fn get_server_key(node: Arc<Node>, _: RawCall<()>) -> ApiResult<Json<CanonicalJsonObject>> {
    node.federation.keys.published().map(Json).map_err(ApiError::internal)
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn perspectives_key_query(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<CanonicalJsonObject>> {
    let server = server(call.segment(0)?)?;
    let minimum_valid_until_ms = match call.parameter("minimum_valid_until_ts") {
        Some(text) => text.parse().map_err(|_| ApiError::invalid_param("minimum_valid_until_ts is no number"))?,
        None => node.clock.now_ms(),
    };
    answer(&node, &call, vec![Query { server, minimum_valid_until_ms }]).await
}

#[derive(Deserialize)]
struct Body {
    server_keys: BTreeMap<String, BTreeMap<String, Criteria>>,
}

#[derive(Deserialize)]
struct Criteria {
    minimum_valid_until_ts: Option<u64>,
}

/// `POST /_matrix/key/v2/query`
async fn bulk_perspectives_key_query(node: Arc<Node>, call: RawCall<()>) -> ApiResult<Json<CanonicalJsonObject>> {
    let body: Body = serde_json::from_value(call.object()?.into()).map_err(|error| ApiError::bad_json(error.to_string()))?;
    if body.server_keys.len() > MAX_QUERIED {
        return Err(ApiError::invalid_param(format!("This server answers for {MAX_QUERIED} servers at a time")));
    }
    let now_ms = node.clock.now_ms();
    let mut queries = Vec::with_capacity(body.server_keys.len());
    for (name, keys) in body.server_keys {
        // One that is no server has no keys; the others have.
        let Ok(server) = server(&name) else { continue };
        let wanted = keys.values().filter_map(|criteria| criteria.minimum_valid_until_ts).max();
        queries.push(Query { server, minimum_valid_until_ms: wanted.unwrap_or(now_ms) });
    }
    answer(&node, &call, queries).await
}

fn server(name: &str) -> ApiResult<OwnedServerName> {
    names::parse(name).map_err(|_| ApiError::invalid_param("Not a server name"))
}

async fn answer(node: &Node, call: &RawCall<()>, queries: Vec<Query>) -> ApiResult<Json<CanonicalJsonObject>> {
    // Whoever asks makes us ask others: each of them counts.
    if let Some(address) = call.address {
        for _ in &queries {
            node.limits.check(Kind::KeyQuery, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
        }
    }
    let keys = node.federation.keys.vouch(queries).await.map_err(|fault| match fault {
        KeyFault::Store(error) => error.into(),
        other => ApiError::internal(other),
    })?;
    let keys = keys.into_iter().map(CanonicalJsonValue::Object).collect();
    Ok(Json(CanonicalJsonObject::from([("server_keys".to_owned(), CanonicalJsonValue::Array(keys))])))
}
