//! What a profile is: its node, its account, and where its secrets are, in `profile.json` in the data directory.
//!
//! The file names the account; what opens it (session, store key) is one secret, written in one piece, so that a crash
//! leaves either the old sign-in or the new one.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    exit::{Exit, Failure},
};
use crate::{
    base::{FileLock, Randomness, SystemRandomness, private},
    config::{
        Dirs,
        secrets::{Place, Secrets},
    },
};

/// Format of `profile.json`. A newer one is refused instead of being misread.
const VERSION: u32 = 1;

/// A profile's own node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Its server name.
    pub server_name: String,
}

/// What `profile.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Tells the profile from others of its name in the keyring.
    id: String,
    secrets: Place,
    /// The profile's own node, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<Home>,
    /// Who is signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

/// A profile that has been read, and its directories.
#[derive(Debug, Clone)]
pub struct Profile {
    dirs: Dirs,
    keyring: bool,
    record: Option<Record>,
    /// Why the secrets are not in the keyring, until somebody has told the person.
    note: Option<String>,
}

impl Profile {
    /// Reads the profile; a new one is empty until something is saved.
    ///
    /// # Errors
    /// When the file is damaged, newer than this program, or cannot be read.
    pub fn load(context: &Context) -> Result<Self, Failure> {
        let mut profile = Self { dirs: context.dirs.clone(), keyring: context.config().client.keyring, record: None, note: None };
        profile.reload()?;
        Ok(profile)
    }

    /// Reads the file again: another process may have changed it.
    ///
    /// # Errors
    /// As `load`.
    pub fn reload(&mut self) -> Result<(), Failure> {
        let path = self.path();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.record = None;
                return Ok(());
            }
            Err(error) => return Err(Failure::file(&path, &error)),
        };
        let damaged = |error| Failure::new(Exit::Failure, format!("{} is damaged ({error}); restore it from a backup", path.display()));
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        if value.get("version").and_then(serde_json::Value::as_u64).is_some_and(|version| version > u64::from(VERSION)) {
            return Err(Failure::new(Exit::Failure, format!("{} was written by a newer homeroom", path.display())));
        }
        self.record = Some(serde_json::from_value(value).map_err(damaged)?);
        Ok(())
    }

    /// Who is signed in.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.record.as_ref().and_then(|record| record.user_id.as_deref())
    }

    /// The profile's own node.
    #[must_use]
    pub fn home(&self) -> Option<&Home> {
        self.record.as_ref().and_then(|record| record.home.as_ref())
    }

    /// Where stores of signed-in accounts are: one directory below this for each sign-in.
    #[must_use]
    pub fn stores(&self) -> PathBuf {
        self.dirs.data.join("client")
    }

    /// The directories.
    #[must_use]
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The secrets of the profile; `None` while it has none.
    #[must_use]
    pub fn secrets(&self) -> Option<Secrets> {
        let record = self.record.as_ref()?;
        Some(Secrets::open(record.secrets, self.dirs.data.join("secrets"), record.id.clone()))
    }

    /// The secrets, deciding where they go if that has not been decided.
    ///
    /// # Errors
    /// When the decision cannot be written.
    pub async fn secrets_or_new(&mut self) -> Result<Secrets, Failure> {
        self.record_or_new().await?;
        self.secrets().ok_or_else(|| Failure::new(Exit::Failure, "the profile was not saved"))
    }

    /// Where the secrets went just now, if that is worth telling. Told once.
    pub fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// True when the secrets are in the system's keyring, which may want to be unlocked first.
    #[must_use]
    pub fn in_keyring(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.secrets == Place::Keyring)
    }

    /// Remembers the node.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn set_home(&mut self, home: Home) -> Result<(), Failure> {
        self.change(|record| record.home = Some(home)).await
    }

    /// Remembers who is signed in.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn set_user(&mut self, user_id: Option<String>) -> Result<(), Failure> {
        self.change(|record| record.user_id = user_id).await
    }

    async fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        // `homeroom serve` and the screen may both have the profile open: what the other wrote stays.
        self.reload()?;
        let mut record = self.record_or_new().await?;
        let before = record.clone();
        change(&mut record);
        if record != before {
            self.save(&record)?;
        }
        self.record = Some(record);
        Ok(())
    }

    async fn record_or_new(&mut self) -> Result<Record, Failure> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        let id = SystemRandomness.alphanumeric(16);
        let (secrets, note) = Secrets::choose(self.keyring, self.dirs.data.join("secrets"), id.clone()).await;
        if let Some(note) = &note {
            tracing::info!("{note}");
        }
        self.note = note;
        let record = Record { version: VERSION, id, secrets: secrets.place(), home: None, user_id: None };
        self.save(&record)?;
        self.record = Some(record.clone());
        Ok(record)
    }

    fn save(&self, record: &Record) -> Result<(), Failure> {
        let path = self.path();
        let mut text = serde_json::to_vec_pretty(record).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        text.push(b'\n');
        private::write(&path, &text).map_err(|error| Failure::file(&path, &error))
    }

    fn path(&self) -> PathBuf {
        self.dirs.data.join("profile.json")
    }
}

/// Held by the one process that has the profile's account open. Ends with the process.
#[derive(Debug)]
pub struct ClientLock(#[expect(dead_code, reason = "held for its lock")] FileLock);

/// How often a busy lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

impl ClientLock {
    /// Takes the account for this process; `what` tells others what has it ("the screen", "homeroom tail").
    ///
    /// # Errors
    /// `Busy` with who has it.
    pub fn take(dirs: &Dirs, what: &str) -> Result<Self, Failure> {
        let path = dirs.state.join("client.lock");
        let failed = |error: &io::Error| Failure::file(&path, error);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(|error| failed(&error))?;
        let mut lock = match FileLock::take(file) {
            Ok(lock) => lock,
            Err((TryLockError::WouldBlock, mut file)) => {
                let mut holder = String::new();
                let read = (&mut file).take(200).read_to_string(&mut holder);
                let holder = if read.is_ok() && !holder.is_empty() { holder } else { "another homeroom".to_owned() };
                let message = format!("{holder} has this profile open; close it, or use another profile with --profile");
                return Err(Failure::new(Exit::Busy, message));
            }
            Err((TryLockError::Error(error), _)) => return Err(failed(&error)),
        };
        let line = format!("{what} (process {})", std::process::id());
        let file = lock.file();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes())).map_err(|error| failed(&error))?;
        Ok(Self(lock))
    }

    /// As `take`, trying again for a while: one-shot commands take turns.
    ///
    /// # Errors
    /// As `take`, once `patience` is over.
    pub async fn wait(dirs: &Dirs, what: &str, patience: Duration) -> Result<Self, Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match Self::take(dirs, what) {
                Err(failure) if failure.exit == Exit::Busy && tokio::time::Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;
    use crate::base::Secret;

    fn profile(dir: &std::path::Path) -> Profile {
        let sub = |name: &str| dir.join(name);
        let dirs = Dirs { config: sub("config"), data: sub("data"), state: sub("state"), cache: sub("cache") };
        dirs.create().unwrap();
        Profile { dirs, keyring: false, record: None, note: None }
    }

    #[tokio::test]
    async fn a_profile_is_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = profile(dir.path());
        let mut second = first.clone();
        first.set_home(Home { server_name: "home.internal".into() }).await.unwrap();
        second.set_user(Some("@ann:home.internal".into())).await.unwrap();
        first.reload().unwrap();
        assert_eq!(first.home().unwrap().server_name, "home.internal");
        assert_eq!(first.user_id(), Some("@ann:home.internal"));
        first.secrets().unwrap().set("x", &Secret::new("y".into())).await.unwrap();
        assert_eq!(first.secrets_or_new().await.unwrap().get("x").await.unwrap().unwrap().expose(), "y");
    }

    #[tokio::test]
    async fn a_damaged_or_newer_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = profile(dir.path());
        for text in ["{", "{\"version\": 99}", "{\"version\": 1}"] {
            std::fs::write(profile.path(), text).unwrap();
            assert!(profile.reload().unwrap_err().message.contains("profile.json"));
            assert!(profile.set_user(None).await.is_err());
            assert_eq!(std::fs::read_to_string(profile.path()).unwrap(), text);
        }
    }

    #[test]
    fn the_second_to_open_an_account_hears_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = profile(dir.path()).dirs;
        let held = ClientLock::take(&dirs, "the screen").unwrap();
        let failure = ClientLock::take(&dirs, "homeroom send").unwrap_err();
        assert_eq!(failure.exit, Exit::Busy);
        assert!(failure.message.starts_with(&format!("the screen (process {})", std::process::id())), "{failure}");
        drop(held);
        assert!(ClientLock::take(&dirs, "homeroom send").is_ok());
    }
}
