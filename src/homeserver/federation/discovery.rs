//! Where a server is (Server-Server API, "Resolving server names"). The numbers of the steps are the specification's.

use std::{net::SocketAddr, sync::Arc};

use ruma::ServerName;
use rustls::pki_types::ServerName as CertificateName;

use super::{
    dns::{Dns, DnsError, Service},
    names::{self, DEFAULT_PORT, Host, InvalidName, Parts},
    well_known::{Delegation, WellKnown},
};
use crate::base::Randomness;

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address as it stands in the name.
    Address(SocketAddr),
    /// A host to look up.
    Name {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Where a server is, and by which name it is to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Places, the best first.
    pub targets: Vec<Target>,
    /// The `Host` header.
    pub host: String,
    /// The name that the certificate has to have.
    pub certificate: CertificateName<'static>,
    /// How the places were found.
    pub found: Found,
}

/// How a server was found, for people who look for a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What `.well-known` says, when it was asked.
    pub well_known: Option<Delegation>,
    /// The step that gave the places.
    pub step: Step,
}

/// The step that gave the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// 1 or 3.1: the name is an address.
    Address,
    /// 2 or 3.2: the name has a port.
    Port,
    /// 3.3 or 4: SRV records of `_matrix-fed._tcp`.
    Srv,
    /// 3.4 or 5: SRV records of `_matrix._tcp`, which are deprecated.
    OldSrv,
    /// 3.5 or 6: port 8448.
    Default,
}

impl Found {
    fn without_well_known(step: Step) -> Self {
        Self { well_known: None, step }
    }
}

/// Why a server was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No server can have this name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Its domain says that there is none (RFC 2782, a target of ".").
    #[error("{0} says that it has no Matrix server")]
    NotOffered(String),
}

/// Finds servers. Clones share what is known.
#[derive(Debug, Clone)]
pub struct Discovery {
    dns: Arc<dyn Dns>,
    well_known: WellKnown,
    randomness: Arc<dyn Randomness>,
}

impl Discovery {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(dns: Arc<dyn Dns>, well_known: WellKnown, randomness: Arc<dyn Randomness>) -> Self {
        Self { dns, well_known, randomness }
    }

    /// Finds a server. Addresses are looked up, and judged, only when somebody connects.
    ///
    /// # Errors
    ///
    /// [`DiscoveryError`].
    pub async fn route(&self, server: &ServerName) -> Result<Route, DiscoveryError> {
        let parts = names::parts(server.as_str())?;
        // Steps 1 and 2.
        if let Some(route) = plain(&parts, server.as_str())? {
            return Ok(route);
        }
        let host = parts.host.to_string();
        // Step 3.
        let delegation = self.well_known.of(&host).await;
        let found = match &delegation {
            Delegation::To(place) => {
                let parts = names::parts(place)?;
                match plain(&parts, place)? {
                    Some(route) => Ok(route),
                    None => self.by_records(&parts.host.to_string()).await,
                }
            }
            // Steps 4 to 6.
            Delegation::None(_) => self.by_records(&host).await,
        };
        found.map(|route| Route { found: Found { well_known: Some(delegation), ..route.found }, ..route })
    }

    /// Steps 3.3 to 3.5, or 4 to 6: SRV records, else the usual port. The certificate is for the host, never for a target.
    async fn by_records(&self, host: &str) -> Result<Route, DiscoveryError> {
        for (service, step) in [("_matrix-fed._tcp", Step::Srv), ("_matrix._tcp", Step::OldSrv)] {
            let services = match self.dns.services(&format!("{service}.{host}")).await {
                Ok(services) => services,
                // Some name servers fail on names with underscores. The certificate protects us from the wrong place.
                Err(DnsError::Failed { name, why }) => {
                    tracing::debug!(name, why, "an SRV record could not be looked up");
                    continue;
                }
                Err(DnsError::NoRecords(_)) => continue,
            };
            if services.is_empty() {
                continue;
            }
            let targets: Vec<Target> = self.in_order(services);
            if targets.is_empty() {
                return Err(DiscoveryError::NotOffered(host.to_owned()));
            }
            return Ok(Route { targets, host: host.to_owned(), certificate: certificate(host)?, found: Found::without_well_known(step) });
        }
        Ok(Route {
            targets: vec![Target::Name { host: host.to_owned(), port: DEFAULT_PORT }],
            host: host.to_owned(),
            certificate: certificate(host)?,
            found: Found::without_well_known(Step::Default),
        })
    }

    /// By priority, and by weighted chance within one (RFC 2782, "Usage rules").
    fn in_order(&self, mut services: Vec<Service>) -> Vec<Target> {
        services
            .retain(|service| matches!(names::parts(&service.target), Ok(Parts { host: Host::Dns(_), port: None })) && service.port != 0);
        // Those without weight first, so that they have a small chance.
        services.sort_by_key(|service| (service.priority, service.weight));
        let mut targets = Vec::with_capacity(services.len());
        while let Some(first) = services.first() {
            let priority = first.priority;
            let same: Vec<Service> = services.iter().take_while(|service| service.priority == priority).cloned().collect();
            services.drain(..same.len());
            targets.extend(self.drawn(same));
        }
        targets
    }

    fn drawn(&self, mut services: Vec<Service>) -> Vec<Target> {
        let mut out = Vec::with_capacity(services.len());
        while !services.is_empty() {
            let total: u64 = services.iter().map(|service| u64::from(service.weight)).sum();
            let mut bytes = [0; 8];
            self.randomness.fill(&mut bytes);
            let mut left = u64::from_le_bytes(bytes) % (total + 1);
            let chosen = services.iter().position(|service| {
                let here = left <= u64::from(service.weight);
                left = left.saturating_sub(u64::from(service.weight));
                here
            });
            let service = services.remove(chosen.unwrap_or(0));
            out.push(Target::Name { host: service.target, port: service.port });
        }
        out
    }
}

/// Steps 1 and 2, and 3.1 and 3.2: an address, or a name with a port. `name` is what goes into the `Host` header.
fn plain(parts: &Parts, name: &str) -> Result<Option<Route>, DiscoveryError> {
    Ok(match (&parts.host, parts.port) {
        (Host::Ip(address), port) => Some(Route {
            targets: vec![Target::Address((*address, port.unwrap_or(DEFAULT_PORT)).into())],
            host: name.to_owned(),
            certificate: CertificateName::IpAddress((*address).into()),
            found: Found::without_well_known(Step::Address),
        }),
        (Host::Dns(host), Some(port)) => Some(Route {
            targets: vec![Target::Name { host: host.clone(), port }],
            host: format!("{host}:{port}"),
            certificate: certificate(host)?,
            found: Found::without_well_known(Step::Port),
        }),
        (Host::Dns(_), None) => None,
    })
}

fn certificate(host: &str) -> Result<CertificateName<'static>, InvalidName> {
    CertificateName::try_from(host.to_owned()).map_err(|_| InvalidName::Malformed)
}

#[cfg(test)]
mod tests;
