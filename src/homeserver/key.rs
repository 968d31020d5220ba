//! The node's signing key: created once, kept in a 0600 file beside the database.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ruma::{
    CanonicalJsonObject,
    room_version_rules::RedactionRules,
    signatures::{Ed25519KeyPair, hash_and_sign_event, sign_json},
};

use super::StartError;
use crate::base::Randomness;

/// The file in the data directory.
const FILE: &str = "signing.key";

/// Signs events and requests in the node's name.
pub struct SigningKey {
    dir: PathBuf,
    /// Replaced when the owner wants another key.
    current: RwLock<Arc<Ed25519KeyPair>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("version", &self.pair().version()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads `signing.key` (`VERSION` newline, then PKCS#8 DER) in the data directory, or makes one.
    ///
    /// # Errors
    ///
    /// [`StartError::SigningKey`] when the file is there but damaged: making a new key would orphan everything signed so far.
    pub(super) fn load_or_create(dir: &Path, randomness: &dyn Randomness) -> Result<Self, StartError> {
        if let Some(key) = Self::load(dir)? {
            return Ok(key);
        }
        let pair = create(dir, randomness).map_err(|error| StartError::Io { path: dir.join(FILE), error })?;
        Ok(Self { dir: dir.to_owned(), current: RwLock::new(Arc::new(pair)) })
    }

    /// Reads the key, if there is one, and makes none.
    ///
    /// # Errors
    ///
    /// [`StartError::SigningKey`] when the file is there but damaged.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StartError> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let pair = parse(&bytes).ok_or(StartError::SigningKey { path })?;
                Ok(Some(Self { dir: dir.to_owned(), current: RwLock::new(Arc::new(pair)) }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StartError::Io { path, error }),
        }
    }

    /// A new key that is nowhere kept, with this version.
    #[cfg(test)]
    pub(super) fn for_tests(version: &str) -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, version.to_owned()).expect("a generated key can be read");
        Self { dir: PathBuf::new(), current: RwLock::new(Arc::new(pair)) }
    }

    /// Makes another key, which signs from now on. Blocks: call it off the runtime.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old key stays then.
    pub(super) fn replace(&self, randomness: &dyn Randomness) -> std::io::Result<()> {
        let pair = create(&self.dir, randomness)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        Ok(())
    }

    /// The key itself, for ruma's requests to other servers.
    #[must_use]
    pub fn pair(&self) -> Arc<Ed25519KeyPair> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key's ID, for instance `ed25519:a_Xy12ab`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("ed25519:{}", self.pair().version())
    }

    /// The public key's 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.pair().public_key()
    }

    /// Adds content hash and signature to an event.
    ///
    /// # Errors
    ///
    /// When the event is larger than the specification allows or is not an event.
    pub fn sign_event(&self, server: &str, event: &mut CanonicalJsonObject, rules: &RedactionRules) -> Result<(), String> {
        hash_and_sign_event(server, &*self.pair(), event, rules).map_err(|e| e.to_string())
    }

    /// Adds a signature to an object.
    ///
    /// # Errors
    ///
    /// When the object has a malformed `signatures` field.
    pub fn sign_json(&self, server: &str, object: &mut CanonicalJsonObject) -> Result<(), String> {
        sign_json(server, &*self.pair(), object).map_err(|e| e.to_string())
    }
}

fn parse(bytes: &[u8]) -> Option<Ed25519KeyPair> {
    let newline = bytes.iter().position(|b| *b == b'\n')?;
    let (version, der) = bytes.split_at_checked(newline)?;
    let version = std::str::from_utf8(version).ok()?;
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    Ed25519KeyPair::from_der(der.get(1..)?, version.to_owned()).ok()
}

/// Makes a key and puts it into its file.
fn create(dir: &Path, randomness: &dyn Randomness) -> std::io::Result<Ed25519KeyPair> {
    let der = Ed25519KeyPair::generate();
    let version = format!("a_{}", randomness.alphanumeric(6));
    let mut bytes = zeroize::Zeroizing::new(version.clone().into_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&der);
    let pair = Ed25519KeyPair::from_der(&der, version).map_err(std::io::Error::other)?;
    // Written aside and renamed: a crash in between leaves no half key behind.
    let aside = dir.join("signing.key.new");
    let mut file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, dir.join(FILE))?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandomness;

    #[test]
    fn the_key_survives_a_restart_and_is_private() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        let first = SigningKey::load_or_create(dir.path(), &SystemRandomness)?;
        let second = SigningKey::load_or_create(dir.path(), &SystemRandomness)?;
        assert_eq!((first.id(), first.public_key()), (second.id(), second.public_key()));
        let mode = std::fs::metadata(dir.path().join("signing.key"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Ok(())
    }

    #[test]
    fn a_damaged_key_is_refused_rather_than_replaced() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("signing.key"), b"garbage")?;
        assert!(matches!(SigningKey::load_or_create(dir.path(), &SystemRandomness), Err(StartError::SigningKey { .. })));
        assert_eq!(std::fs::read(dir.path().join("signing.key"))?, b"garbage");
        Ok(())
    }
}
