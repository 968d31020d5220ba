//! Passwords and tokens at rest: in the system's keyring where there is one, otherwise each in a file of mode 0600.
//!
//! Which of the two is decided when a profile is created and remembered by it, so that a keyring that is out of reach later
//! (over SSH, say) is an error with a reason and not an empty answer.

use std::{io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::base::{Secret, private};

/// How long the keyring may take to say whether it is there.
const PROBE: Duration = Duration::from_secs(3);
/// How long it may take to answer: the person may have to unlock it first.
const ANSWER: Duration = Duration::from_secs(60);
const SERVICE: &str = "homeroom";

/// Where a profile's secrets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the system's keyring.
    Keyring,
    /// In files that only the owner can read.
    Files,
}

/// Why a secret cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The keyring does not answer.
    #[error("the system's keyring does not answer; this profile's keys are in it")]
    KeyringTimeout,
    /// The keyring refuses or is not there.
    #[error("the system's keyring cannot be used, and this profile's keys are in it: {0}")]
    Keyring(String),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One profile's secrets.
#[derive(Debug, Clone)]
pub struct Secrets {
    place: Place,
    dir: PathBuf,
    owner: String,
}

impl Secrets {
    /// The secrets of a profile that exists. `owner` tells profiles apart in the keyring; `dir` holds the files.
    #[must_use]
    pub fn open(place: Place, dir: PathBuf, owner: String) -> Self {
        Self { place, dir, owner }
    }

    /// Decides where a new profile's secrets go: the keyring if wanted and there, otherwise files. Where it was wanted and is
    /// not used, the second value says so in words for a person.
    pub async fn choose(want_keyring: bool, dir: PathBuf, owner: String) -> (Self, Option<String>) {
        let why_not = if !want_keyring {
            None
        } else if !bus_may_be_there() {
            Some("this system has no keyring that can be reached".to_owned())
        } else {
            match in_thread(PROBE, || probe(&owner_probe())).await {
                Ok(()) => return (Self { place: Place::Keyring, dir, owner }, None),
                Err(SecretError::KeyringTimeout) => Some("the system's keyring does not answer; it may be locked".to_owned()),
                Err(error) => {
                    tracing::info!(%error, "the keyring is not used");
                    Some("the system's keyring cannot be used".to_owned())
                }
            }
        };
        let note = why_not.map(|why| format!("The keys of this profile are in files that only you can read ({}): {why}.", dir.display()));
        (Self { place: Place::Files, dir, owner }, note)
    }

    /// Where they are.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Reads one; `None` where it was never set.
    ///
    /// # Errors
    /// When the keyring or the file cannot be read.
    pub async fn get(&self, name: &'static str) -> Result<Option<Secret>, SecretError> {
        match self.place {
            Place::Keyring => {
                let user = self.user(name);
                in_thread(ANSWER, move || match keyring::v1::Entry::new(SERVICE, &user)?.get_password() {
                    Ok(text) => Ok(Some(Secret::new(text))),
                    Err(keyring::v1::Error::NoEntry) => Ok(None),
                    Err(error) => Err(error),
                })
                .await
            }
            Place::Files => match std::fs::read_to_string(self.path(name)) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(SecretError::File { path: self.path(name), source }),
            },
        }
    }

    /// Keeps one.
    ///
    /// # Errors
    /// When the keyring or the disk refuses; an older value is then still there.
    pub async fn set(&self, name: &'static str, secret: &Secret) -> Result<(), SecretError> {
        match self.place {
            Place::Keyring => {
                let (user, secret) = (self.user(name), secret.clone());
                in_thread(ANSWER, move || keyring::v1::Entry::new(SERVICE, &user)?.set_password(secret.expose())).await
            }
            Place::Files => {
                let path = self.path(name);
                private::create_dir(&self.dir)
                    .and_then(|()| private::write(&path, secret.expose().as_bytes()))
                    .map_err(|source| SecretError::File { path, source })
            }
        }
    }

    /// Forgets one; it may be gone already.
    ///
    /// # Errors
    /// When the keyring or the disk refuses.
    pub async fn delete(&self, name: &'static str) -> Result<(), SecretError> {
        match self.place {
            Place::Keyring => {
                let user = self.user(name);
                in_thread(ANSWER, move || match keyring::v1::Entry::new(SERVICE, &user)?.delete_credential() {
                    Err(keyring::v1::Error::NoEntry) => Ok(()),
                    other => other,
                })
                .await
            }
            Place::Files => match std::fs::remove_file(self.path(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SecretError::File { path: self.path(name), source }),
                _ => Ok(()),
            },
        }
    }

    fn user(&self, name: &str) -> String {
        format!("{}/{name}", self.owner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The keyring is behind the session bus on every system but macOS; without an address of that bus there is nothing to ask.
fn bus_may_be_there() -> bool {
    let socket = || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| PathBuf::from(dir).join("bus").exists());
    cfg!(target_os = "macos") || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty()) || socket()
}

fn owner_probe() -> String {
    format!("probe-{}", std::process::id())
}

/// Keeps something for a moment: a keyring can answer and still refuse to keep anything.
fn probe(user: &str) -> keyring::v1::Result<()> {
    let entry = keyring::v1::Entry::new(SERVICE, user)?;
    entry.set_password("homeroom looks whether the keyring works")?;
    entry.delete_credential()
}

/// Runs a call that may block for as long as it likes on a thread of its own. When it takes too long, the thread is left
/// behind: it holds nothing, and a runtime's thread that never ends would hold up the exit.
async fn in_thread<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> keyring::v1::Result<T> + Send + 'static,
) -> Result<T, SecretError> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        // Nobody listens once the wait is over.
        let _ = answer.send(call());
    });
    if let Err(error) = thread {
        return Err(SecretError::Keyring(error.to_string()));
    }
    match tokio::time::timeout(limit, answered).await {
        Ok(Ok(result)) => result.map_err(|error| SecretError::Keyring(error.to_string())),
        Ok(Err(_)) => Err(SecretError::Keyring("its library failed".to_owned())),
        Err(_) => Err(SecretError::KeyringTimeout),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn without_a_keyring_secrets_are_in_private_files() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, note) = Secrets::choose(false, dir.path().join("secrets"), "id".to_owned()).await;
        assert_eq!((secrets.place(), note), (Place::Files, None), "nobody asked for a keyring");
        assert!(secrets.get("session").await.unwrap().is_none());
        secrets.set("session", &Secret::new("s3cret".to_owned())).await.unwrap();
        assert_eq!(secrets.get("session").await.unwrap().unwrap().expose(), "s3cret");
        let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("secrets"), mode("secrets/session")), (0o700, 0o600));
        secrets.delete("session").await.unwrap();
        secrets.delete("session").await.unwrap();
        assert!(secrets.get("session").await.unwrap().is_none());
    }
}
