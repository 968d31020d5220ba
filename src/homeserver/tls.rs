//! TLS for those who connect to the node: certificate and key from files, read again when they change.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::Instant;

/// The files are looked at no more often than this, and only when somebody connects.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What tells a version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: (i64, i64),
    inode: u64,
    size_bytes: u64,
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self { modified: (file.mtime(), file.mtime_nsec()), inode: file.ino(), size_bytes: file.size() }
    }
}

#[derive(Debug)]
struct Seen {
    versions: Option<(Version, Version)>,
    next_look: Instant,
}

/// The certificate in two files.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<Seen>,
}

impl Files {
    /// Reads both files. Blocks: call it off the runtime.
    pub(super) fn open(certificate: PathBuf, key: PathBuf) -> Result<Arc<Self>, TlsError> {
        let versions = versions(&certificate, &key);
        let current = RwLock::new(Arc::new(read(&certificate, &key)?));
        let seen = Mutex::new(Seen { versions, next_look: Instant::now() + LOOK_AGAIN });
        Ok(Arc::new(Self { certificate, key, current, seen }))
    }

    /// Reads the files again if they have changed. What cannot be used leaves the old certificate in place. Blocks.
    pub(super) fn refresh(&self) {
        let found = versions(&self.certificate, &self.key);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if found.is_none() || found == seen.versions {
                return;
            }
            seen.versions = found;
        }
        match read(&self.certificate, &self.key) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(path = %self.certificate.display(), "the certificate has been read again");
            }
            // A renewal writes one file after the other: the next look finds both.
            Err(error) => {
                tracing::warn!(%error, "the new certificate cannot be used; the old one stays");
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).versions = None;
            }
        }
    }

    /// True when it is time to look at the files again; the caller then does.
    pub(super) fn is_due(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = seen.next_look <= now;
        if due {
            seen.next_look = now + LOOK_AGAIN;
        }
        due
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn versions(certificate: &Path, key: &Path) -> Option<(Version, Version)> {
    Some((Version::of(&std::fs::metadata(certificate).ok()?), Version::of(&std::fs::metadata(key).ok()?)))
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let wrong = |path: &Path, why: String| TlsError { path: path.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    CertifiedKey::from_der(chain, private, &provider())
        .map_err(|error| wrong(key, format!("it does not go with the certificate in {}: {error}", certificate.display())))
}

pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// What connections are accepted with. `further` is spoken with those who speak nothing else.
pub(super) fn server_config(certificates: Arc<dyn ResolvesServerCert>, further: Option<&[u8]>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.alpn_protocols.extend(further.map(<[u8]>::to_vec));
    Arc::new(config)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    /// Writes a certificate for a name, and gives its bytes.
    fn issue(dir: &Path, name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().as_ref().to_vec()
    }

    fn shown(files: &Files) -> Vec<u8> {
        files.current.read().unwrap().cert.first().unwrap().as_ref().to_vec()
    }

    fn open(dir: &Path) -> Result<Arc<Files>, TlsError> {
        Files::open(dir.join("cert.pem"), dir.join("key.pem"))
    }

    #[tokio::test]
    async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = issue(dir.path(), "a.example");
        let files = open(dir.path()).unwrap();
        files.refresh();
        assert_eq!(shown(&files), first);
        let second = issue(dir.path(), "b.example.with.another.length");
        files.refresh();
        assert_eq!(shown(&files), second);
        for (file, text) in [("cert.pem", "no certificate"), ("key.pem", "")] {
            let good = std::fs::read(dir.path().join(file)).unwrap();
            std::fs::write(dir.path().join(file), text).unwrap();
            files.refresh();
            assert_eq!(shown(&files), second, "{file}");
            std::fs::write(dir.path().join(file), good).unwrap();
        }
        std::fs::remove_file(dir.path().join("key.pem")).unwrap();
        files.refresh();
        assert_eq!(shown(&files), second, "gone for a moment");
        let third = issue(dir.path(), "c.example");
        files.refresh();
        assert_eq!(shown(&files), third);
    }

    #[test]
    fn what_cannot_be_used_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_err(), "there is nothing");
        issue(dir.path(), "a.example");
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.path().join("key.pem"), other.serialize_pem()).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(error.why.contains("does not go with"), "{error}");
        std::fs::write(dir.path().join("cert.pem"), other.serialize_pem()).unwrap();
        assert!(open(dir.path()).unwrap_err().why.contains("no certificate"));
    }
}
