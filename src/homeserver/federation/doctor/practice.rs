//! The doctor's tools, for a process in which no node runs.

use std::{path::PathBuf, sync::Arc};

use ruma::{OwnedServerName, ServerName};

use super::{Doctor, Outcome, Report};
use crate::{
    base::{Clock, Randomness, Tasks},
    homeserver::{
        StartError,
        config::{self, Network},
        federation::{Ways, client::Client, connect::Connector, discovery::Discovery, health::Health},
        key::SigningKey,
    },
};

/// Where the node is that the doctor belongs to.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its name.
    pub name: OwnedServerName,
    /// Its data directory. Only the signing key is read.
    pub dir: PathBuf,
}

/// Tools, and who we are if we are anybody.
#[derive(Debug)]
pub struct Practice {
    connector: Connector,
    discovery: Discovery,
    client: Client,
    key_id: Option<String>,
    clock: Arc<dyn Clock>,
}

impl Practice {
    /// With the settings of a node. Blocks for a moment: reads the signing key.
    ///
    /// # Errors
    ///
    /// [`StartError::SigningKey`] and [`StartError::Io`], when there is a key that cannot be read.
    pub fn open(
        settings: &config::Federation,
        networks: Vec<Network>,
        own: Option<Own>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        tasks: Tasks,
    ) -> Result<Self, StartError> {
        let Ways { connector, discovery, servers } = Ways::new(settings, networks, &clock, &randomness);
        let key = own.as_ref().map(|own| SigningKey::load(&own.dir)).transpose()?.flatten().map(Arc::new);
        let key_id = key.as_ref().map(|key| key.id());
        let health = Arc::new(Health::new(Arc::clone(&clock), randomness));
        let client = match (own, key) {
            (Some(own), Some(key)) => Client::new(own.name, key, connector.clone(), discovery.clone(), health, tasks, servers),
            _ => Client::disabled(),
        };
        Ok(Self { connector, discovery, client, key_id, clock })
    }

    fn doctor(&self) -> Doctor<'_> {
        Doctor { discovery: &self.discovery, connector: &self.connector, client: &self.client, clock: self.clock.as_ref() }
    }

    /// Looks at our own node from here, and has `via` look at it from where it is.
    pub async fn examine_own(&self, name: &ServerName, via: &ServerName) -> Report {
        let mut report = self.doctor().examine(name, self.key_id.as_deref()).await;
        if self.client.is_enabled() && via != name {
            self.doctor().round_trip(via, &mut report).await;
        }
        report
    }

    /// Looks at another server, and has it look at us, when we are somebody.
    pub async fn examine_other(&self, other: &ServerName) -> Report {
        let mut report = self.doctor().examine(other, None).await;
        if self.client.is_enabled() && report.outcome() != Outcome::Bad {
            self.doctor().round_trip(other, &mut report).await;
        }
        report
    }
}
