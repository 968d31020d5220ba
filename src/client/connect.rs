//! Opens the SDK client: transport (TLS, or the own node's Unix socket), stores, encryption settings.
//!
//! Everything that tunes the SDK stands here. Knows nothing of what the client is then used for.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_sdk::{
    Client, ClientBuildError, SqliteCryptoStore, SqliteEventCacheStore, SqliteMediaStore, SqliteStateStore, SqliteStoreConfig,
    ThreadingSupport,
    config::RequestConfig,
    cross_process_lock::CrossProcessLockConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    store::StoreConfig,
};
use sha2::{Digest, Sha256};
use url::Url;

use super::{event_store::GatheringStore, session::Endpoint, words::Trouble};
use crate::{
    base::{FileLock, sockets},
    client::command::Secret,
};

/// Where the SDK's SQLite stores live. They are encrypted with a key derived from the passphrase, which must be random
/// (128 bits or more): it is not stretched, so that opening costs no time.
#[derive(Debug, Clone)]
pub struct Store {
    /// The directory, created with mode 0700.
    pub dir: PathBuf,
    /// What encrypts it.
    pub passphrase: Secret,
}

/// Why the store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("another homeroom has this profile open ({0}); close it, or use that one")]
    InUse(PathBuf),
    /// There is no room on the disk.
    #[error("the disk is full, so the local data in {0} cannot be opened; free some space and start again")]
    DiskFull(PathBuf),
    /// It cannot be read: damaged, or encrypted with another key.
    #[error(
        "the local data in {dir} cannot be opened: it is damaged, or belongs to another key ({detail}). \
         Your rooms and messages are safe on the server: sign out, which deletes the local copy, and sign in again"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What the store said.
        detail: String,
    },
    /// It cannot be created or reached.
    #[error("{dir}: {detail}")]
    Unreachable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// Holds the store for this process until dropped.
#[derive(Debug)]
pub(super) struct StoreLock(#[expect(dead_code, reason = "held for its lock")] FileLock);

impl Store {
    /// True when there are databases in the directory.
    #[must_use]
    pub fn exists(&self) -> bool {
        std::fs::read_dir(&self.dir).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "sqlite3")))
        })
    }

    /// Deletes the databases (not the directory, which may hold other things of the profile).
    pub fn delete(&self) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("matrix-sdk-") && name.contains(".sqlite3") {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Takes the store for this process.
    pub(super) fn lock(&self) -> Result<StoreLock, StoreError> {
        let unreachable =
            |error: &std::io::Error| StoreError::Unreachable { dir: self.dir.clone(), detail: Trouble::of_io(error).to_string() };
        create_private_dir(&self.dir).map_err(|error| unreachable(&error))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join("client.lock"))
            .map_err(|error| unreachable(&error))?;
        FileLock::take(file).map(StoreLock).map_err(|(error, _)| match error {
            TryLockError::WouldBlock => StoreError::InUse(self.dir.clone()),
            TryLockError::Error(error) => unreachable(&error),
        })
    }

    fn config(&self) -> SqliteStoreConfig {
        let mut hash = Sha256::new();
        hash.update(b"homeroom client store\0");
        hash.update(self.passphrase.expose().as_bytes());
        let mut key = [0_u8; 32];
        key.copy_from_slice(&hash.finalize());
        SqliteStoreConfig::new(&self.dir).key(Some(&key)).pool_max_size(3).cache_size(500_000).journal_size_limit(4_000_000)
    }

    async fn open(&self) -> Result<StoreConfig, ClientBuildError> {
        let config = self.config();
        // One after another: they share the directory, and the first to fail says why.
        let state = SqliteStateStore::open_with_config(&config).await?;
        let crypto = SqliteCryptoStore::open_with_config(&config).await?;
        let events = SqliteEventCacheStore::open_with_config(&config).await?;
        let media = SqliteMediaStore::open_with_config(&config).await?;
        Ok(StoreConfig::new(CrossProcessLockConfig::SingleProcess)
            .state_store(state)
            .crypto_store(crypto)
            .event_cache_store(GatheringStore::new(events))
            .media_store(media))
    }

    fn error(&self, error: &ClientBuildError) -> StoreError {
        let dir = self.dir.clone();
        if super::words::is_disk_full(error) {
            return StoreError::DiskFull(dir);
        }
        match error {
            ClientBuildError::SqliteStore(inner) => StoreError::Damaged { dir, detail: super::words::one_line(&inner.to_string(), 120) },
            other => StoreError::Unreachable { dir, detail: super::words::one_line(&other.to_string(), 120) },
        }
    }
}

#[cfg(unix)]
fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)
}

/// The HTTP client for an endpoint.
pub(super) fn http(endpoint: &Endpoint) -> Result<reqwest::Client, Trouble> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("homeroom/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        // A connection that died while the machine slept is noticed in half a minute rather than never.
        .tcp_keepalive(Duration::from_secs(20));
    let builder = match endpoint {
        Endpoint::Server { .. } => builder,
        Endpoint::Socket { path, .. } => builder.no_proxy().unix_socket(sockets::find(path).as_path()),
    };
    builder.build().map_err(|error| Trouble::Other(format!("TLS is not usable on this machine: {error}")))
}

fn request_config() -> RequestConfig {
    // Connection failures are reported at once, not retried here: sync and the send queue have their own pace.
    RequestConfig::new().timeout(Duration::from_secs(60)).max_retry_time(Duration::from_secs(10))
}

/// An SDK client that remembers nothing, for signing in and out.
pub(super) async fn open_in_memory(endpoint: &Endpoint, base_url: &Url) -> Result<Client, Trouble> {
    let built = Client::builder()
        .homeserver_url(base_url)
        .respect_login_well_known(false)
        .http_client(http(endpoint)?)
        .request_config(request_config())
        .store_config(StoreConfig::new(CrossProcessLockConfig::SingleProcess))
        .with_encryption_settings(encryption())
        .with_threading_support(ThreadingSupport::Disabled)
        .build()
        .await;
    built.map_err(|error| Trouble::Other(super::words::one_line(&error.to_string(), 120)))
}

/// The SDK client on its store.
pub(super) async fn open(endpoint: &Endpoint, base_url: &Url, store: &Store) -> Result<Client, StoreError> {
    let http = http(endpoint).map_err(|trouble| StoreError::Unreachable { dir: store.dir.clone(), detail: trouble.to_string() })?;
    let stores = store.open().await.map_err(|error| store.error(&error))?;
    let client = Client::builder()
        .homeserver_url(base_url)
        .respect_login_well_known(false)
        .http_client(http)
        .request_config(request_config())
        .store_config(stores)
        // The store is locked for the process by `StoreLock`; the SDK's own leases would wake us twenty times a second.
        .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
        .with_encryption_settings(encryption())
        .with_threading_support(ThreadingSupport::Disabled)
        .build()
        .await
        .map_err(|error| store.error(&error))?;
    Ok(client)
}

fn encryption() -> EncryptionSettings {
    EncryptionSettings {
        // Done by hand at sign-in, where the password is at hand and the outcome can be told.
        auto_enable_cross_signing: false,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_store_is_not_leased_from_second_to_second() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store { dir: dir.path().join("store"), passphrase: Secret::new("0123456789abcdef".to_owned()) };
        let endpoint = Endpoint::Socket { path: dir.path().join("node.sock"), server_name: "home.test".to_owned() };
        let base_url = Url::parse("http://localhost/").expect("a URL");
        let client = open(&endpoint, &base_url, &store).await.expect("a client");
        // A lease is renewed twenty times a second, each time with a write that is waited for.
        assert!(matches!(client.cross_process_lock_config(), CrossProcessLockConfig::SingleProcess));
    }
}
