//! From a route to an encrypted connection: addresses are checked, tried in turn, and the certificate has to be the right one.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    discovery::{Route, Target},
    dns::{Dns, DnsError},
};
use crate::homeserver::outbound::Guard;

/// How long one address may take to accept a connection.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// A name was not resolved.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// All of its addresses are ones that this node does not connect to.
    #[error("the server is at an address that is not of the public internet ({0})")]
    Private(SocketAddr),
    /// Nobody answered.
    #[error("no connection to {address}: {why}")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system says.
        why: String,
    },
    /// The handshake failed; mostly the certificate.
    #[error("TLS with {address}: {why}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        why: String,
    },
    /// The file with further certificate authorities cannot be used.
    #[error("{path}: {why}")]
    ExtraCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The places that were given are no places.
    #[error("the server offers no place to connect to")]
    Nowhere,
}

/// Opens connections to other servers.
#[derive(Debug, Clone)]
pub struct Connector {
    dns: Arc<dyn Dns>,
    guard: Guard,
    extra_ca: Option<PathBuf>,
    /// Made at the first connection: reading the system's authorities takes a while.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Connector {
    /// Resolves with `dns` and connects where `guard` allows it. `extra_ca` is a PEM file of authorities that are trusted
    /// beside the system's.
    #[must_use]
    pub fn new(dns: Arc<dyn Dns>, guard: Guard, extra_ca: Option<PathBuf>) -> Self {
        Self { dns, guard, extra_ca, tls: Arc::default() }
    }

    /// The resolver.
    #[must_use]
    pub fn dns(&self) -> &Arc<dyn Dns> {
        &self.dns
    }

    /// The addresses of a route that may be connected to, the best first.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Dns`], [`ConnectError::Private`], [`ConnectError::Nowhere`].
    pub async fn addresses(&self, route: &Route) -> Result<Vec<SocketAddr>, ConnectError> {
        let mut allowed = Vec::new();
        let mut failure = ConnectError::Nowhere;
        for target in &route.targets {
            let found: Vec<SocketAddr> = match target {
                Target::Address(address) => vec![*address],
                Target::Name { host, port } => match self.dns.addresses(host).await {
                    Ok(found) => found.into_iter().map(|address| (address, *port).into()).collect(),
                    Err(error) => {
                        failure = error.into();
                        continue;
                    }
                },
            };
            for address in found {
                if self.guard.allows(address.ip()) {
                    allowed.push(address);
                } else {
                    failure = ConnectError::Private(address);
                }
            }
        }
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() { Err(failure) } else { Ok(allowed) }
    }

    /// Connects to the first address of a route that answers, and shakes hands.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn connect(&self, route: &Route) -> Result<Stream, ConnectError> {
        let tls = self.tls().await?;
        let mut failure = ConnectError::Nowhere;
        for address in self.addresses(route).await? {
            let unreachable = |why: String| ConnectError::Unreachable { address, why };
            let tcp = match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => tcp,
                Ok(Err(error)) => {
                    failure = unreachable(error.to_string());
                    continue;
                }
                Err(_) => {
                    failure = unreachable("it did not answer in time".to_owned());
                    continue;
                }
            };
            tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
            let connector = TlsConnector::from(Arc::clone(&tls));
            let handshake = connector.connect(route.certificate.clone(), tcp);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => return Ok(Stream(TokioIo::new(stream))),
                // The next address may be another machine.
                Ok(Err(error)) => failure = ConnectError::Tls { address, why: error.to_string() },
                Err(_) => failure = ConnectError::Tls { address, why: "the handshake took too long".to_owned() },
            }
        }
        Err(failure)
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        if let Some(made) = self.tls.get() {
            return Ok(Arc::clone(made));
        }
        let extra_ca = self.extra_ca.clone();
        let made = tokio::task::spawn_blocking(move || client_config(extra_ca.as_deref()));
        let made = made.await.map_err(|_| ConnectError::Nowhere)??;
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(made))))
    }
}

/// Trusts the system's authorities and those in the file.
fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate authority of the system could not be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = extra_ca {
        for certificate in read_certificates(path)? {
            let wrong = |error: rustls::Error| ConnectError::ExtraCa { path: path.to_owned(), why: error.to_string() };
            roots.add(certificate).map_err(wrong)?;
        }
    }
    if roots.is_empty() {
        tracing::error!("this machine has no certificate authorities: install ca-certificates, or no other server can be reached");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates in a PEM file; at least one.
///
/// # Errors
///
/// [`ConnectError::ExtraCa`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let wrong = |why: String| ConnectError::ExtraCa { path: path.to_owned(), why };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// An encrypted connection, as hyper wants it.
#[derive(Debug)]
pub struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Stream {
    /// The certificates that the server showed, its own first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.0.inner().get_ref().1.peer_certificates().unwrap_or_default()
    }

    /// Where the other end is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.inner().get_ref().0.peer_addr().ok()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }
}
