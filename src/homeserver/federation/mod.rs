//! Other servers: who they are, where they are, and what they are told.
//!
//! A node that does not federate has this too, but nothing in it does anything: no connection, no task, no key is fetched.

pub mod client;
pub mod connect;
pub mod devices;
pub mod discovery;
pub mod dns;
pub mod doctor;
pub mod edus;
mod flight;
pub mod health;
pub mod ingest;
pub mod key_ring;
pub mod lookup;
pub mod media;
pub mod membership;
pub mod multipart;
pub mod names;
pub(super) mod once;
mod policy;
pub mod reading;
pub mod request;
pub mod sender;
pub mod spaces;
#[cfg(test)]
pub(crate) mod testing;
pub mod well_known;
pub mod x_matrix;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::{
    client::Client,
    connect::Connector,
    discovery::Discovery,
    dns::{Dns, SystemDns},
    health::Health,
    ingest::{Ingest, asking::Asking},
    key_ring::KeyRing,
    well_known::WellKnown,
};
use super::{
    config::{self, Config, Network},
    events::{Ctx, policy::Asker},
    key::SigningKey,
    outbound::Guard,
    rooms::acl::Acl,
    store::{Store, StoreError, server_keys},
};
use crate::base::{Clock, Randomness, Tasks};

/// Long answers to other servers that are worked out at a time: of the store's few readers, one is for everybody else.
const WHOLES_AT_ONCE: usize = 2;

/// The ways to other servers: how they are found, and how they are connected to.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) connector: Connector,
    pub(super) discovery: Discovery,
    /// Those that there is anything to do with.
    pub(super) servers: Acl,
}

impl Ways {
    /// As the settings say; `networks` are those that may be connected to although they are not public.
    pub(super) fn new(
        settings: &config::Federation,
        networks: Vec<Network>,
        clock: &Arc<dyn Clock>,
        randomness: &Arc<dyn Randomness>,
    ) -> Self {
        let guard = if settings.allow_private_networks { Guard::everything() } else { Guard::new(networks) };
        let dns: Arc<dyn Dns> = Arc::new(SystemDns::default());
        let connector = Connector::new(Arc::clone(&dns), guard, settings.extra_ca.clone());
        let well_known = WellKnown::new(connector.clone(), Arc::clone(clock), Arc::clone(randomness));
        let servers = Acl::of_owner(&settings.allow_servers, &settings.block_servers);
        Self { connector, discovery: Discovery::new(dns, well_known, Arc::clone(randomness)), servers }
    }
}

/// What federation is given of the node.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    pub(super) key: &'a Arc<SigningKey>,
    pub(super) store: &'a Store,
    pub(super) ctx: &'a Ctx,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) randomness: &'a Arc<dyn Randomness>,
    pub(super) tasks: &'a Tasks,
}

/// What the node has for talking to other servers.
#[derive(Debug)]
pub struct Federation {
    /// Asks other servers.
    pub client: Client,
    /// Their keys, and ours for them.
    pub keys: KeyRing,
    /// Who of them is well.
    pub health: Arc<Health>,
    /// Takes events of other servers, and fetches them.
    pub inbound: Arc<Ingest>,
    /// What EDUs need to remember.
    pub edus: edus::State,
    /// What they say of rooms that nobody of ours is in.
    pub spaces: spaces::Answers,
    /// Places for working out long answers to them.
    pub wholes: Semaphore,
    /// Carries what waits for other servers.
    pub sender: sender::Sender,
    /// Joins under way.
    pub joining: membership::Joining,
    /// Asks policy servers.
    pub policy: Arc<dyn Asker>,
}

impl Federation {
    /// As the settings say. Connects to nobody yet.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(super) async fn open(given: Given<'_>) -> Result<Self, StoreError> {
        let Given { config, key, store, ctx, clock, randomness, tasks } = given;
        let health = Arc::new(Health::new(Arc::clone(clock), Arc::clone(randomness)));
        let client = if config.federation.enabled {
            let Ways { connector, discovery, servers } = Ways::new(&config.federation, config.outbound_networks.clone(), clock, randomness);
            Client::new(config.server_name.clone(), Arc::clone(key), connector, discovery, Arc::clone(&health), tasks.clone(), servers)
        } else {
            Client::disabled()
        };
        let keys = KeyRing::new(key_ring::Parts {
            name: config.server_name.clone(),
            own: Arc::clone(key),
            past: past_keys(store, key).await?,
            notaries: config.federation.notaries.clone(),
            client: client.clone(),
            store: store.clone(),
            clock: Arc::clone(clock),
            randomness: Arc::clone(randomness),
        });
        let asking = Arc::new(Asking::new(client.clone(), keys.clone()));
        let inbound = Arc::new(Ingest::new(store.clone(), asking, ctx.clone(), Arc::clone(clock)));
        let policy = Arc::new(client.clone());
        Ok(Self {
            client,
            keys,
            health,
            inbound,
            edus: edus::State::default(),
            spaces: spaces::Answers::default(),
            wholes: Semaphore::new(WHOLES_AT_ONCE),
            sender: sender::Sender::default(),
            joining: membership::Joining::default(),
            policy,
        })
    }

    /// True when this node talks to other servers.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.client.is_enabled()
    }
}

/// Keys that this node had before. One that is in use was not replaced after all: the node was cut off before that.
async fn past_keys(store: &Store, key: &SigningKey) -> Result<Vec<server_keys::PastKey>, StoreError> {
    let mut past = store.read(server_keys::past).await?;
    let current = key.id();
    if past.iter().any(|key| key.key_id == current) {
        past.retain(|key| key.key_id != current);
        store.write(move |tx| server_keys::reinstate(tx, &current)).await?;
    }
    Ok(past)
}
