//! Where a server is (Server-Server API, "Resolving server names").

use std::net::SocketAddr;

use ruma::ServerName;
use rustls::pki_types::ServerName as CertificateName;

use super::names::{self, DEFAULT_PORT, Host, InvalidName};

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

/// Where a server is, and by which name it is to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Places, the best first.
    pub targets: Vec<Target>,
    /// The `Host` header.
    pub host: String,
    /// The name that the certificate has to have.
    pub certificate: CertificateName<'static>,
}

/// Why a server was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No server can have this name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Only names with a port and addresses are found so far.
    #[error("the name has no port, and `.well-known` and SRV records are not read yet")]
    Unsupported,
}

/// Finds a server.
///
/// # Errors
///
/// [`DiscoveryError`].
pub async fn route(server: &ServerName) -> Result<Route, DiscoveryError> {
    let parts = names::parts(server.as_str())?;
    match (&parts.host, parts.port) {
        // Step 1: an address.
        (Host::Ip(address), port) => Ok(Route {
            targets: vec![Target::Address((*address, port.unwrap_or(DEFAULT_PORT)).into())],
            host: server.as_str().to_owned(),
            certificate: CertificateName::IpAddress((*address).into()),
        }),
        // Step 2: a name with a port.
        (Host::Dns(host), Some(port)) => Ok(Route {
            targets: vec![Target::Name { host: host.clone(), port }],
            host: format!("{host}:{port}"),
            certificate: CertificateName::try_from(host.clone()).map_err(|_| InvalidName::Malformed)?,
        }),
        (Host::Dns(_), None) => Err(DiscoveryError::Unsupported),
    }
}
