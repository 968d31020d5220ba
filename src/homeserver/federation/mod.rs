//! Other servers: who they are, where they are, and what they are told.
//!
//! A node that does not federate has this too, but nothing in it does anything: no connection, no task, no key is fetched.

pub mod client;
pub mod connect;
pub mod discovery;
pub mod dns;
pub mod edus;
pub mod health;
pub mod key_ring;
pub mod names;
pub mod request;
pub mod sender;
pub mod x_matrix;

use std::sync::Arc;

use self::{client::Client, connect::Connector, dns::SystemDns, health::Health, key_ring::KeyRing};
use super::{config::Config, key::SigningKey, outbound::Guard};
use crate::base::{Clock, Randomness, Tasks};

/// What the node has for talking to other servers.
#[derive(Debug)]
pub struct Federation {
    /// Asks other servers.
    pub client: Client,
    /// Their keys, and ours for them.
    pub keys: KeyRing,
    /// Who of them is well.
    pub health: Arc<Health>,
    /// What EDUs need to remember.
    pub edus: edus::State,
}

impl Federation {
    /// As the settings say. Connects to nobody yet.
    #[must_use]
    pub fn new(config: &Config, key: &Arc<SigningKey>, clock: &Arc<dyn Clock>, randomness: &Arc<dyn Randomness>, tasks: &Tasks) -> Self {
        let health = Arc::new(Health::new(Arc::clone(clock), Arc::clone(randomness)));
        let client = if config.federation.enabled {
            let guard = match config.federation.allow_private_networks {
                true => Guard::everything(),
                false => Guard::new(config.outbound_networks.clone()),
            };
            let connector = Connector::new(Arc::new(SystemDns::default()), guard, config.federation.extra_ca.clone());
            Client::new(config.server_name.clone(), Arc::clone(key), connector, Arc::clone(&health), tasks.clone())
        } else {
            Client::disabled()
        };
        let keys = KeyRing::new(config.server_name.clone(), Arc::clone(key), client.clone(), Arc::clone(clock));
        Self { client, keys, health, edus: edus::State::default() }
    }

    /// True when this node talks to other servers.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.client.is_enabled()
    }
}
