//! Several nodes in this process that federate over TLS, with a certificate authority that is made at run time.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use homeroom::{
    base::{Clock, Shutdown, SystemClock, SystemRandomness},
    homeserver::{CertificateSource, Config, Homeserver, Listeners, Node, Registration, TlsListeners},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use ruma::{OwnedServerName, ServerName};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    Person,
    http::{Address, Http},
};

/// A certificate authority for one test.
pub struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "homeroom test authority");
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let dir = tempfile::Builder::new().prefix("hr").tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), own.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// The file to trust.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate for these names and addresses, in files that begin with `stem`. The same stem again replaces them.
    pub fn issue(&self, stem: &str, names: &[&str]) -> Certificate {
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        self.issue_with(stem, params)
    }

    /// The same with everything else that a certificate can say.
    pub fn issue_with(&self, stem: &str, mut params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, stem);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = Certificate { chain: self.dir.path().join(format!("{stem}.pem")), key: self.dir.path().join(format!("{stem}.key")) };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Below the range from which the system takes ports for outgoing connections, so that a stopped node finds its port free.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port where nobody listens.
pub fn free_port() -> u16 {
    // Processes that start together have neighbouring numbers, and must not try the same ports.
    let start = u16::try_from(std::process::id().wrapping_mul(61) % 12_000).unwrap();
    loop {
        let port = 20_000 + (start + NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A federating node in this process. Its name is `localhost:PORT`, where it listens with TLS; clients reach it in the clear.
pub struct FedNode {
    server: Option<Homeserver>,
    runtime: Runtime,
    name: OwnedServerName,
    address: SocketAddr,
    tls: SocketAddr,
    ca: PathBuf,
    certificate: Certificate,
    dir: TempDir,
    clock: Arc<dyn Clock>,
    change: fn(&mut Config),
}

impl FedNode {
    /// Starts a node on a new directory.
    pub fn start(authority: &Authority) -> Self {
        Self::start_with(authority, Arc::new(SystemClock), |_| {})
    }

    /// The same with a clock and with other settings.
    pub fn start_with(authority: &Authority, clock: Arc<dyn Clock>, change: fn(&mut Config)) -> Self {
        Self::start_as("localhost", authority, clock, change)
    }

    /// The same under another name for this machine: what servers may do is counted by host.
    pub fn start_as(host: &str, authority: &Authority, clock: Arc<dyn Clock>, change: fn(&mut Config)) -> Self {
        let port = free_port();
        let certificate = authority.issue(&format!("node{port}"), &["localhost", "127.0.0.1"]);
        let tls = SocketAddr::from(([127, 0, 0, 1], port));
        let mut node = Self {
            server: None,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
            name: ServerName::parse(format!("{host}:{port}")).unwrap(),
            address: tls,
            tls,
            ca: authority.file(),
            certificate,
            dir: tempfile::Builder::new().prefix("hr").tempdir().unwrap(),
            clock,
            change,
        };
        node.start_again();
        node
    }

    /// Starts it where it was stopped: the same name, data and port.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut config = Config::new(self.name.clone(), self.dir.path().to_path_buf());
        config.registration = Registration::Open;
        config.rate_limits = false;
        config.federation.enabled = true;
        config.federation.allow_private_networks = true;
        config.federation.extra_ca = Some(self.ca.clone());
        (self.change)(&mut config);
        let listeners = Listeners {
            socket: None,
            tcp: vec!["127.0.0.1:0".parse().unwrap()],
            tls: Some(TlsListeners {
                addresses: vec![self.tls],
                certificate: CertificateSource::Files { certificate: self.certificate.chain.clone(), key: self.certificate.key.clone() },
            }),
        };
        let start = Homeserver::start(config, listeners, Arc::clone(&self.clock), Arc::new(SystemRandomness), Shutdown::new());
        let server = self.runtime.block_on(start).unwrap();
        self.address = server.addresses()[0];
        self.server = Some(server);
    }

    /// Other settings from the next start on.
    pub fn change(&mut self, change: fn(&mut Config)) {
        self.change = change;
    }

    /// Stops it in order; [`Self::start_again`] goes on.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }

    /// Its server name.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// Where it listens with TLS.
    pub fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// Its certificate's files.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Where clients reach it.
    pub fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    /// A client without an account.
    pub fn http(&self) -> Http {
        Http::new(self.address())
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new account, made by the owner.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person {
        let password = format!("the password of {name}");
        self.wait(self.node().accounts.create(name, &password, false)).unwrap();
        Person::login(self.address(), name, &password)
    }

    /// The node's services.
    pub fn node(&self) -> &Arc<Node> {
        self.server.as_ref().unwrap().node()
    }

    /// Waits for something of the node's.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl Drop for FedNode {
    fn drop(&mut self) {
        self.stop();
    }
}
