//! Asking application services: whether a user or an alias exists, what third-party networks know, whether they are there.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Method;
use ruma::{RoomAliasId, UserId};
use serde_json::{Map, Value};

use super::{
    AppServices, Service,
    http::{Answer, HttpError, Question},
};
use crate::homeserver::{Node, store, store::aliases};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts at a service that does not answer in time.
const ATTEMPTS: usize = 3;

/// Why a question stays open.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A service did not answer, however often it was asked.
    #[error("an application service did not answer in time")]
    Timeout,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Gives a user's application service the chance to make a user of this node that somebody asks for and that does not exist.
///
/// # Errors
///
/// [`QueryError`]. That there is no such user is no error.
pub async fn user(node: &Node, user_id: &UserId) -> Result<(), QueryError> {
    let ours = user_id.server_name() == node.config.server_name;
    let Some(service) = node.appservices.all().iter().find(|service| ours && service.has_user(user_id)) else { return Ok(()) };
    let wanted = user_id.to_owned();
    if node.store.read(move |db| store::accounts::get(db, &wanted)).await?.is_some() {
        return Ok(());
    }
    exists(&node.appservices, service, "users", user_id.as_str()).await
}

/// The same for an alias.
///
/// # Errors
///
/// [`QueryError`].
pub async fn alias(node: &Node, alias: &RoomAliasId) -> Result<(), QueryError> {
    let ours = alias.server_name() == node.config.server_name;
    let Some(service) = node.appservices.all().iter().find(|service| ours && service.has_alias(alias)) else { return Ok(()) };
    let wanted = alias.to_owned();
    if node.store.read(move |db| aliases::get(db, &wanted)).await?.is_some() {
        return Ok(());
    }
    exists(&node.appservices, service, "rooms", alias.as_str()).await
}

async fn exists(services: &AppServices, service: &Service, kind: &str, name: &str) -> Result<(), QueryError> {
    let question = Question {
        method: Method::GET,
        path: &["_matrix", "app", "v1", kind, name],
        old_path: Some(&[kind, name]),
        query: &[],
        body: None,
        timeout: TIMEOUT,
    };
    for _ in 0..ATTEMPTS {
        match services.http.ask(service, &question).await {
            // Whatever it says: what it made is there now, and what it did not make is not.
            Ok(_) | Err(HttpError::NoUrl) => return Ok(()),
            Err(HttpError::Timeout) => {}
            Err(HttpError::Failed(error)) => {
                tracing::warn!(error, service = service.id, "an application service could not be asked");
                return Ok(());
            }
        }
    }
    Err(QueryError::Timeout)
}

/// Asks a service whether it is there.
///
/// # Errors
///
/// [`HttpError`].
pub async fn ping(services: &AppServices, service: &Service, transaction_id: Option<&str>) -> Result<Answer, HttpError> {
    let mut body = Map::new();
    body.extend(transaction_id.map(|id| ("transaction_id".to_owned(), id.into())));
    let body = Value::Object(body).to_string();
    let question = Question {
        method: Method::POST,
        path: &["_matrix", "app", "v1", "ping"],
        old_path: None,
        query: &[],
        body: Some(&body),
        timeout: Duration::from_secs(30),
    };
    services.http.ask(service, &question).await
}

/// What services say that is JSON; who fails is left out.
async fn collect(services: &AppServices, asked: Vec<(&Arc<Service>, Vec<&str>)>, query: &[(String, String)]) -> Vec<(String, Value)> {
    let one = |(service, what): (&Arc<Service>, Vec<&str>)| {
        let service = Arc::clone(service);
        let path: Vec<String> = ["_matrix", "app", "v1", "thirdparty"].into_iter().chain(what.iter().copied()).map(str::to_owned).collect();
        let old: Vec<String> = ["_matrix", "app", "unstable", "thirdparty"].into_iter().chain(what).map(str::to_owned).collect();
        async move {
            let (path, old): (Vec<&str>, Vec<&str>) = (path.iter().map(String::as_str).collect(), old.iter().map(String::as_str).collect());
            let question = Question { method: Method::GET, path: &path, old_path: Some(&old), query, body: None, timeout: TIMEOUT };
            match services.http.ask(&service, &question).await {
                Ok(answer) if answer.is_success() => Some((service.id.clone(), serde_json::from_slice(&answer.body).ok()?)),
                Ok(_) | Err(HttpError::NoUrl) => None,
                Err(error) => {
                    tracing::warn!(%error, service = service.id, "an application service could not be asked");
                    None
                }
            }
        }
    };
    join_all(asked.into_iter().map(one)).await.into_iter().flatten().collect()
}

/// A protocol, as the services that have it describe it; `None` when none does.
pub async fn protocol(services: &AppServices, name: &str) -> Option<Value> {
    let have = services.all().iter().filter(|service| service.protocols.iter().any(|known| known == name));
    let told = collect(services, have.map(|service| (service, vec!["protocol", name])).collect(), &[]).await;
    let mut merged: Option<Map<String, Value>> = None;
    let mut instances = Vec::new();
    for (service, told) in told {
        let Value::Object(mut told) = told else { continue };
        if let Some(Value::Array(own)) = told.remove("instances") {
            for mut instance in own {
                if let Some(object) = instance.as_object_mut() {
                    // Names one network among all services: clients ask for its directory by it.
                    let network = object.get("network_id").and_then(Value::as_str).unwrap_or_default();
                    let id = format!("{service}|{network}");
                    object.insert("instance_id".into(), id.into());
                }
                instances.push(instance);
            }
        }
        merged.get_or_insert(told);
    }
    let mut merged = merged?;
    merged.insert("instances".into(), instances.into());
    Some(merged.into())
}

/// All protocols.
pub async fn protocols(services: &AppServices) -> Map<String, Value> {
    let mut names: Vec<&str> = services.all().iter().flat_map(|service| service.protocols.iter().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let told = join_all(names.iter().map(|name| protocol(services, name))).await;
    names.into_iter().zip(told).filter_map(|(name, told)| Some((name.to_owned(), told?))).collect()
}

/// Users or locations (`kind`) of one protocol, or of all.
pub async fn lookup(services: &AppServices, kind: &str, protocol: Option<&str>, query: &[(String, String)]) -> Vec<Value> {
    let has = |service: &&Arc<Service>| match protocol {
        Some(name) => service.protocols.iter().any(|known| known == name),
        None => !service.protocols.is_empty(),
    };
    let asked = services.all().iter().filter(has).map(|service| (service, [kind].into_iter().chain(protocol).collect())).collect();
    let told = collect(services, asked, query).await;
    told.into_iter().filter_map(|(_, told)| if let Value::Array(found) = told { Some(found) } else { None }).flatten().collect()
}
