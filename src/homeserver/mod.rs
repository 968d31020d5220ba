//! The node: a personal Matrix homeserver.
//!
//! [`Homeserver::start`] runs it inside the calling process. It knows nothing of terminals and command lines, and several
//! can run in one process. `rooms` is pure; `store` holds all SQL; `events` is the one way by which rooms change.

pub mod acme;
pub mod api;
pub mod appservice;
pub mod base_url;
pub mod config;
pub mod events;
pub mod federation;
mod housekeeping;
mod key;
mod listen;
pub mod media;
mod node;
pub mod outbound;
pub mod push;
pub mod rooms;
pub mod store;
pub mod sync;
mod tls;
pub mod types;
pub mod users;

use std::{
    fs::{File, TryLockError},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedUserId, ServerName};

pub use self::{
    config::Config,
    config::Registration,
    listen::{CertificateSource, Listeners, TlsListeners},
    node::Node,
    users::AccountError,
};
use crate::base::{Clock, FileLock, Randomness, Shutdown, Tasks};

/// How long requests in flight may take after the shutdown signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has this data directory open.
    #[error("another homeroom runs this node already ({0})")]
    InUse(PathBuf),
    /// The data belongs to a node of another name. A server name is part of every ID and cannot change.
    #[error("the data in {path} belongs to the server name {found}, not {wanted}; a server name cannot be changed afterwards")]
    ServerNameChanged {
        /// Data directory.
        path: PathBuf,
        /// Name in the data.
        found: String,
        /// Name asked for.
        wanted: String,
    },
    /// A file or directory could not be used.
    #[error("{path}: {error}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The database could not be opened.
    #[error("{path}: {error}")]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        error: store::StoreError,
    },
    /// The signing key file is damaged.
    #[error("{path} does not hold a signing key; restore it from a backup: other servers know this node by it")]
    SigningKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate or key cannot be used.
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    /// The registrations of application services contradict each other.
    #[error("application services: {0}")]
    AppServices(String),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Address or socket path.
        address: String,
        /// Why.
        error: std::io::Error,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Homeserver {
    node: Arc<Node>,
    tasks: Tasks,
    addresses: listen::Addresses,
    socket: Option<PathBuf>,
    /// Held for as long as the node runs: nobody else opens the data.
    _lock: FileLock,
}

impl Homeserver {
    /// Opens the data directory and listens. Ready to answer when this returns.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub async fn start(
        config: Config,
        listeners: Listeners,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let lock = lock_data_dir(&config.data_dir)?;
        let tasks = Tasks::new(shutdown);
        let node = Arc::new(Node::open(config, clock, randomness, tasks.clone()).await?);
        let keeper = match listeners.tls.as_ref().map(|tls| &tls.certificate) {
            Some(CertificateSource::Acme(settings)) => {
                let (dir, challenges) = (node.config.data_dir.clone(), Arc::clone(&node.challenges));
                Some(acme::Keeper::open(settings.clone(), dir, challenges, Arc::clone(&node.clock)).await)
            }
            _ => None,
        };
        let kept = keeper.as_ref().map(acme::Keeper::certificates);
        // Before anything else runs: an address that is taken is the likeliest reason not to start.
        let addresses = match listen::start(&listeners, kept, api::router(Arc::clone(&node)), &tasks).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tasks.shutdown().trigger();
                end(&node, &tasks).await;
                return Err(error);
            }
        };
        // Only now: an authority looks at our listeners.
        if let Some(keeper) = keeper {
            acme::start(keeper, &tasks);
        }
        node.base.listens_on(&addresses.tcp);
        begin(&node);
        let socket = listeners.socket;
        Ok(Self { node, tasks, addresses, socket, _lock: lock })
    }

    /// The TCP addresses that are listened on, with the ports that the system chose for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses.tcp
    }

    /// The TCP addresses that are listened on with TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.addresses.tls
    }

    /// The Unix socket that is listened on.
    #[must_use]
    pub fn socket(&self) -> Option<&std::path::Path> {
        self.socket.as_deref()
    }

    /// The node's server name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.node.config.server_name
    }

    /// The node's services, for the process that it runs in.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Makes an account that can sign in with a password.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; nothing is made then.
    pub async fn create_account(&self, localpart: &str, password: &str, admin: bool) -> Result<OwnedUserId, AccountError> {
        self.node.accounts.create(localpart, password, admin).await
    }

    /// Resolves when the node has been told to stop, from outside or because a part of it failed.
    pub async fn stopped(&self) {
        self.tasks.shutdown().wait().await;
    }

    /// Stops: no new connections, requests in flight finish or are dropped at a deadline, the store is closed last.
    pub async fn stop(self) {
        end(&self.node, &self.tasks).await;
        if let Some(path) = &self.socket
            && let Err(error) = crate::base::sockets::remove(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "could not remove the socket");
        }
    }
}

/// Starts what runs beside the requests.
fn begin(node: &Arc<Node>) {
    housekeeping::start(node);
    push::sender::start(node);
    federation::sender::start(node);
    federation::membership::resume(node);
    events::delayed::start(node);
    sync::sliding::start(node);
    appservice::sender::start(node);
    if node.federation.is_enabled() {
        node.federation.inbound.start(&node.tasks);
        federation::edus::start(node);
    }
}

/// Ends everything that runs on a node, and closes its store last.
async fn end(node: &Node, tasks: &Tasks) {
    tasks.shutdown().trigger();
    if !tasks.finish(DRAIN).await {
        tracing::warn!("some requests did not finish in time and were dropped");
    }
    if let Err(error) = node.sync.connections.save(&node.store, node.clock.now_ms()).await {
        tracing::warn!(%error, "sliding-sync connections were not written: their clients begin anew");
    }
    let store = node.store.clone();
    if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
        tracing::error!("closing the store failed");
    }
}

/// What does not work at the moment, for the owner: push gateways and application services that take nothing.
///
/// # Errors
///
/// Store errors.
pub async fn troubles(node: &Node) -> store::Result<Vec<serde_json::Value>> {
    /// Entries of the list.
    const MOST: usize = 200;
    let services: Vec<String> = node.appservices.all().iter().map(|service| service.id.clone()).collect();
    node.store
        .read(move |db| {
            let mut found = Vec::new();
            for (user_id, app_id, failures, error) in store::pushers::failing(db, MOST)? {
                found.push(serde_json::json!({ "kind": "pusher", "id": app_id, "user_id": user_id, "failures": failures, "error": error }));
            }
            for id in services {
                if let Some((failures, error)) = store::appservices::troubled(db, &id)? {
                    found.push(serde_json::json!({ "kind": "appservice", "id": id, "failures": failures, "error": error }));
                }
            }
            Ok(found)
        })
        .await
}

/// Creates the data directory (0700) and takes its lock.
fn lock_data_dir(dir: &std::path::Path) -> Result<FileLock, StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let io = |error| StartError::Io { path: dir.to_owned(), error };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let path = dir.join("node.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| StartError::Io { path, error })?;
    FileLock::take(lock).map_err(|(error, _)| match error {
        TryLockError::WouldBlock => StartError::InUse(dir.to_owned()),
        TryLockError::Error(error) => io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SystemClock, SystemRandomness};

    #[tokio::test]
    async fn a_start_that_fails_leaves_nothing_running() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let config = Config::new(ruma::server_name!("home.test").to_owned(), dir.path().to_owned());
        let listeners = Listeners { tcp: vec![taken.local_addr()?], ..Listeners::default() };
        let (clock, randomness) = (Arc::new(SystemClock), Arc::new(SystemRandomness));
        let started = Homeserver::start(config, listeners, clock, randomness, Shutdown::new()).await;
        assert!(matches!(started, Err(StartError::Listen { .. })), "{started:?}");
        assert!(dir.path().join("node.db").exists());
        // The last connection takes it away when it closes.
        assert!(!dir.path().join("node.db-wal").exists(), "the database is still open");
        Ok(())
    }
}
