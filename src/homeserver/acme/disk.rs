//! What is kept in the directory `acme` of the node's data: the account's key, the certificate with its key, and how it stands.
//! All of it is its owner's alone (0700, 0600). Reading and writing happen off the runtime.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AcmeError, Settings, account::AccountKey};
use crate::{base::private, homeserver::tls};

/// How it stands: what went wrong last, and from when on it is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Directory of the authority that issued the certificate.
    pub issued_by: Option<String>,
    /// Attempts that failed, one after the other.
    pub failures: u32,
    /// Nothing is tried before this time, in milliseconds since the Unix epoch.
    pub retry_at_ms: u64,
    /// Why the last attempt failed; nothing while one is under way or when it was cut off.
    pub last_error: Option<String>,
    /// What was asked for, and of whom: with other settings it may well work.
    pub directory: String,
    /// The names.
    pub domains: Vec<String>,
    /// How they were to be proven.
    pub challenge: String,
}

impl State {
    /// Has an attempt with these settings failed, or is it under way?
    pub(super) fn failed_with(&self, settings: &Settings) -> bool {
        self.failures > 0
            && self.directory == settings.directory
            && self.domains == settings.domains
            && self.challenge == settings.challenge.name()
    }

    /// With these settings, and nothing known of how it goes.
    pub(super) fn attempting(&self, settings: &Settings) -> Self {
        Self {
            issued_by: self.issued_by.clone(),
            directory: settings.directory.clone(),
            domains: settings.domains.clone(),
            challenge: settings.challenge.name().to_owned(),
            ..Self::default()
        }
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Disk(PathBuf);

fn failed(path: &Path, error: impl std::fmt::Display) -> AcmeError {
    AcmeError::Own(format!("{}: {error}", path.display()))
}

/// Runs what blocks.
async fn off<T: Send + 'static>(work: impl FnOnce() -> Result<T, AcmeError> + Send + 'static) -> Result<T, AcmeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(AcmeError::Own(error.to_string())))
}

impl Disk {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("acme"))
    }

    /// The file that says how it stands.
    pub(super) fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// How it stands. What cannot be read says nothing, as if it were the first time.
    pub(super) async fn state(&self) -> State {
        let disk = self.clone();
        let read = off(move || Ok(disk.read_state())).await;
        read.unwrap_or_default()
    }

    /// The same; blocks.
    pub(super) fn read_state(&self) -> State {
        let path = self.state_file();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "how the certificate stands cannot be read");
                State::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "how the certificate stands cannot be read");
                }
                State::default()
            }
        }
    }

    pub(super) async fn set_state(&self, state: &State) -> Result<(), AcmeError> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| AcmeError::Own(error.to_string()))?;
        self.write("state.json", text).await
    }

    async fn write(&self, name: &'static str, content: Vec<u8>) -> Result<(), AcmeError> {
        let dir = self.0.clone();
        off(move || {
            let path = dir.join(name);
            private::create_dir(&dir).and_then(|()| private::write(&path, &content)).map_err(|error| failed(&path, error))
        })
        .await
    }

    /// The certificate with its key, if there is one.
    pub(super) async fn certificate(&self) -> Result<Option<CertifiedKey>, AcmeError> {
        let disk = self.clone();
        off(move || disk.read_certificate()).await
    }

    /// The same; blocks.
    pub(super) fn read_certificate(&self) -> Result<Option<CertifiedKey>, AcmeError> {
        let path = self.0.join("certificate.pem");
        match std::fs::read(&path) {
            Ok(pem) => certified(&pem).map(Some).map_err(|error| failed(&path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Key and certificate are one file, so that no crash leaves one without the other.
    pub(super) async fn set_certificate(&self, pem: zeroize::Zeroizing<String>) -> Result<(), AcmeError> {
        self.write("certificate.pem", pem.as_bytes().to_vec()).await
    }

    /// The account's key for this authority; made when there is none.
    pub(super) async fn account(&self, directory: &str) -> Result<AccountKey, AcmeError> {
        let (disk, name) = (self.clone(), account_file(directory));
        off(move || {
            let path = disk.0.join(&name);
            let pem = match std::fs::read(&path) {
                Ok(pem) => zeroize::Zeroizing::new(pem),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let made = rcgen::KeyPair::generate().map_err(|error| failed(&path, error))?;
                    let pem = zeroize::Zeroizing::new(made.serialize_pem().into_bytes());
                    // On disk before the authority hears of it: it knows the account by this key alone.
                    private::create_dir(&disk.0).and_then(|()| private::write(&path, &pem)).map_err(|error| failed(&path, error))?;
                    pem
                }
                Err(error) => return Err(failed(&path, error)),
            };
            AccountKey::from_pem(&pem)
                .ok_or_else(|| failed(&path, "there is no key of an account in it; without the file a new account is made"))
        })
        .await
    }
}

/// Accounts of one authority mean nothing to another.
fn account_file(directory: &str) -> String {
    let digest = Sha256::digest(directory);
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("account-{short}.pem")
}

/// Certificates and their key in one PEM text.
pub(super) fn certified(pem: &[u8]) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    CertifiedKey::from_der(chain, key, &tls::provider()).map_err(|error| error.to_string())
}
