//! Application services: bridges and bots that act for many users of this node (Application Service API).
//!
//! The owner registers them by files. What they are interested in is queued in the transaction that stores it and carried to
//! them in order, each transaction until it is taken. Knows nothing of our own HTTP side.

pub mod http;
mod interest;
pub mod query;
pub mod registration;
pub mod sender;
mod transaction;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedUserId, RoomAliasId, ServerName, UserId};

pub use self::{interest::on_event, registration::Registration};
use super::{
    store::{self, Reader, users},
    types::UserNid,
};

/// Users whose services are remembered.
const REMEMBERED: usize = 100_000;

/// An application service.
#[derive(Debug)]
pub struct Service {
    registration: Registration,
    /// Its own user.
    pub sender: OwnedUserId,
    /// It was heard of: what could not be delivered is tried again at once.
    heard_of: tokio::sync::Notify,
}

impl std::ops::Deref for Service {
    type Target = Registration;

    fn deref(&self) -> &Registration {
        &self.registration
    }
}

impl Service {
    /// It made a request: it can be reached, most likely.
    pub fn is_heard_of(&self) {
        self.heard_of.notify_one();
    }

    /// True for the users that it may act as: its own, and those in its namespaces.
    #[must_use]
    pub fn may_act_as(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.sender.server_name() && (self.sender == user_id || self.has_user(user_id))
    }
}

/// The application services of a node.
#[derive(Debug)]
pub struct AppServices {
    services: Vec<Arc<Service>>,
    http: http::Http,
    /// Which of them a user belongs to, by their places.
    of_users: Mutex<HashMap<UserNid, Arc<[usize]>>>,
}

impl AppServices {
    /// The registered ones.
    ///
    /// # Errors
    ///
    /// What is wrong with the registrations taken together, for the owner.
    pub fn new(registrations: Vec<Registration>, server: &ServerName) -> Result<Self, String> {
        let (mut ids, mut tokens) = (HashSet::new(), HashSet::new());
        let mut services = Vec::with_capacity(registrations.len());
        for registration in registrations {
            if !ids.insert(registration.id.clone()) {
                return Err(format!("two application services have the ID {}", registration.id));
            }
            if !tokens.insert(registration.as_token.expose().to_owned()) {
                return Err(format!("the application service {} has the as_token of another", registration.id));
            }
            let sender = registration.sender(server)?;
            services.push(Arc::new(Service { registration, sender, heard_of: tokio::sync::Notify::new() }));
        }
        Ok(Self { services, http: http::Http::new()?, of_users: Mutex::default() })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The one that this token stands for.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| same(service.as_token.expose(), token))
    }

    /// The one of this ID.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.id == id)
    }

    /// True for a user ID that belongs to a service other than `by`, and to nobody else.
    #[must_use]
    pub fn user_is_reserved(&self, user_id: &UserId, by: Option<&str>) -> bool {
        self.others(by).any(|service| service.sender == user_id || service.has_user_alone(user_id))
    }

    /// True for an alias that belongs to a service other than `by`, and to nobody else.
    #[must_use]
    pub fn alias_is_reserved(&self, alias: &RoomAliasId, by: Option<&str>) -> bool {
        self.others(by).any(|service| service.has_alias_alone(alias))
    }

    fn others<'a>(&'a self, by: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Service>> {
        self.services.iter().filter(move |service| by != Some(service.id.as_str()))
    }

    /// The services that these users belong to, by their places.
    fn of_users(&self, db: &Reader<'_>, local: &[UserNid]) -> store::Result<BTreeSet<usize>> {
        let mut found = BTreeSet::new();
        for user in local {
            let known = self.of_users.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
            let services = match known {
                Some(known) => known,
                None => {
                    let user_id = users::user_id(db, *user)?;
                    let places = self.services.iter().enumerate().filter(|(_, service)| service.may_act_as(&user_id));
                    let places: Arc<[usize]> = places.map(|(place, _)| place).collect();
                    let mut cache = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
                    if cache.len() >= REMEMBERED {
                        cache.clear();
                    }
                    cache.insert(*user, Arc::clone(&places));
                    places
                }
            };
            found.extend(services.iter().copied());
        }
        Ok(found)
    }
}

/// Compares in a time that does not tell how much of it was right.
fn same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(one.len() ^ other.len(), |sum, (a, b)| sum | usize::from(a ^ b));
    differences == 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use ruma::{room_alias_id, server_name, user_id};

    use super::*;

    fn registration(id: &str, token: &str, prefix: &str, exclusive: bool) -> Registration {
        Registration::read(&format!(
            "{{id: {id}, url: null, as_token: {token}, hs_token: h, sender_localpart: {prefix}bot, namespaces: {{
               users: [{{regex: '@{prefix}.*', exclusive: {exclusive}}}], aliases: [{{regex: '#{prefix}.*', exclusive: {exclusive}}}]}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn an_exclusive_namespace_is_closed_to_others_and_a_shared_one_open() {
        let both = vec![registration("one", "t1", "_one_", true), registration("two", "t2", "_two_", false)];
        let services = AppServices::new(both, server_name!("home.test")).unwrap();
        let (one, two) = (user_id!("@_one_x:home.test"), user_id!("@_two_x:home.test"));
        assert!(services.user_is_reserved(one, None) && services.user_is_reserved(one, Some("two")));
        assert!(!services.user_is_reserved(one, Some("one")) && !services.user_is_reserved(two, None));
        assert!(services.user_is_reserved(user_id!("@_two_bot:home.test"), None), "its own user is nobody else's");
        assert!(services.alias_is_reserved(room_alias_id!("#_one_x:home.test"), None));
        assert!(!services.alias_is_reserved(room_alias_id!("#_two_x:home.test"), None));
        assert!(services.by_token("t2").unwrap().may_act_as(two) && services.by_token("t").is_none());
        assert!(!services.by_token("t1").unwrap().may_act_as(user_id!("@_one_x:elsewhere.test")));
    }

    #[test]
    fn ids_and_tokens_are_unique() {
        let twice = |a, b| AppServices::new(vec![a, b], server_name!("home.test"));
        assert!(twice(registration("one", "t1", "a", true), registration("one", "t2", "b", true)).is_err());
        assert!(twice(registration("one", "t1", "a", true), registration("two", "t1", "b", true)).is_err());
    }
}
