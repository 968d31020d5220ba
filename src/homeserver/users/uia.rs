//! User-interactive authentication: sessions that are bound to what they were opened for.
//!
//! Client-Server API, "User-Interactive Authentication API". Sessions live in memory: a restart asks the user again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use ruma::OwnedDeviceId;
use serde_json::{Map, Value};

use crate::{
    base::{Clock, Randomness},
    homeserver::types::UserNid,
};

/// Sessions at one time; the oldest makes room.
const SESSIONS: usize = 512;
/// How long a session lives.
const LIFETIME_MS: u64 = 15 * 60 * 1000;
/// Largest body that is kept with a session of somebody who is signed in.
const BODY_BYTES: usize = 64 * 1024;
/// The same for strangers, who could otherwise fill the memory.
const STRANGERS_BODY_BYTES: usize = 4 * 1024;

/// A stage of authentication that this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `m.login.password`
    Password,
    /// `m.login.sso`: the user confirms at a provider.
    Sso,
    /// `m.login.dummy`
    Dummy,
    /// `m.login.registration_token`
    RegistrationToken,
    /// `m.login.terms`: the user accepts what the owner asks them to.
    Terms,
    /// `m.oauth`: the user confirms on the account pages.
    OAuth,
    /// The same under the name that it had in MSC4312.
    CrossSigningReset,
}

impl Stage {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::Sso => "m.login.sso",
            Self::Dummy => "m.login.dummy",
            Self::RegistrationToken => "m.login.registration_token",
            Self::Terms => "m.login.terms",
            Self::OAuth => "m.oauth",
            Self::CrossSigningReset => "org.matrix.cross_signing_reset",
        }
    }
}

/// What a session is for: nobody can open it for one thing and use it for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The endpoint, with what its path names.
    pub endpoint: String,
    /// Who asks, where somebody is signed in, with their device.
    pub user: Option<(UserNid, OwnedDeviceId)>,
}

impl Operation {
    /// Largest body that a session for this keeps.
    #[must_use]
    pub const fn body_limit_bytes(&self) -> usize {
        if self.user.is_some() { BODY_BYTES } else { STRANGERS_BODY_BYTES }
    }
}

/// Where a session stands.
#[derive(Clone)]
pub struct Progress {
    /// Its ID.
    pub session: String,
    /// Stages that are done.
    pub completed: BTreeSet<Stage>,
    /// The request's body without `auth`.
    pub body: Map<String, Value>,
    /// The registration token that was shown.
    pub registration_token: Option<String>,
}

impl std::fmt::Debug for Progress {
    /// Without the body: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("completed", &self.completed).finish_non_exhaustive()
    }
}

/// Why a session cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UiaError {
    /// It never was, has expired, or has been used.
    #[error("unknown authentication session")]
    UnknownSession,
    /// It was opened for another endpoint, user or body.
    #[error("the request differs from the one that this authentication session was opened for")]
    OtherOperation,
}

#[derive(Debug)]
struct Session {
    operation: Operation,
    progress: Progress,
    expires_ms: u64,
}

/// The sessions of a node.
#[derive(Debug)]
pub struct UiaSessions {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    sessions: Mutex<HashMap<String, Session>>,
}

impl UiaSessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness, sessions: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Session>) -> T) -> T {
        work(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a session.
    #[must_use]
    pub fn open(&self, operation: Operation, body: Map<String, Value>) -> Progress {
        let now_ms = self.clock.now_ms();
        let session = self.randomness.alphanumeric(24);
        let progress = Progress { session: session.clone(), completed: BTreeSet::new(), body, registration_token: None };
        let entry = Session { operation, progress: progress.clone(), expires_ms: now_ms + LIFETIME_MS };
        self.with(|sessions| {
            if sessions.len() >= SESSIONS {
                sessions.retain(|_, session| session.expires_ms > now_ms);
            }
            if sessions.len() >= SESSIONS
                && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.expires_ms).map(|(id, _)| id.clone())
            {
                sessions.remove(&oldest);
            }
            sessions.insert(session, entry);
        });
        progress
    }

    /// Goes on with a session. A request may leave its body out; it may change it only as long as no stage is done.
    ///
    /// # Errors
    ///
    /// [`UiaError`].
    pub fn resume(&self, session: &str, operation: &Operation, body: Map<String, Value>) -> Result<Progress, UiaError> {
        let now_ms = self.clock.now_ms();
        self.with(|sessions| {
            let found = sessions.get_mut(session).filter(|found| found.expires_ms > now_ms).ok_or(UiaError::UnknownSession)?;
            if found.operation != *operation {
                return Err(UiaError::OtherOperation);
            }
            if !body.is_empty() && body != found.progress.body {
                if !found.progress.completed.is_empty() {
                    return Err(UiaError::OtherOperation);
                }
                found.progress.body = body;
            }
            Ok(found.progress.clone())
        })
    }

    /// Notes that a stage is done.
    ///
    /// # Errors
    ///
    /// [`UiaError::UnknownSession`] when it expired meanwhile.
    pub fn complete(&self, session: &str, stage: Stage, registration_token: Option<String>) -> Result<Progress, UiaError> {
        let now_ms = self.clock.now_ms();
        self.with(|sessions| {
            let found = sessions.get_mut(session).filter(|found| found.expires_ms > now_ms).ok_or(UiaError::UnknownSession)?;
            found.progress.completed.insert(stage);
            if registration_token.is_some() {
                found.progress.registration_token = registration_token;
            }
            Ok(found.progress.clone())
        })
    }

    /// What a session is for, for a page that completes one of its stages.
    #[must_use]
    pub fn operation(&self, session: &str) -> Option<Operation> {
        let now_ms = self.clock.now_ms();
        self.with(|sessions| sessions.get(session).filter(|found| found.expires_ms > now_ms).map(|found| found.operation.clone()))
    }

    /// Ends a session: what it was for is done, and it is good for nothing else.
    pub fn close(&self, session: &str) {
        self.with(|sessions| sessions.remove(session));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::{ManualClock, random::SeededRandomness};

    fn sessions() -> (UiaSessions, ManualClock) {
        let clock = ManualClock::at(1);
        (UiaSessions::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(1))), clock)
    }

    fn operation(endpoint: &str, user: i64) -> Operation {
        Operation { endpoint: endpoint.into(), user: Some((UserNid(user), "DEVICE".into())) }
    }

    fn body(text: &str) -> Map<String, Value> {
        json!({ "devices": [text] }).as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_session_serves_only_its_endpoint_and_user() {
        let (sessions, _) = sessions();
        let opened = sessions.open(operation("delete_devices", 1), body("A"));
        assert_eq!(sessions.resume(&opened.session, &operation("password", 1), body("A")).err(), Some(UiaError::OtherOperation));
        assert_eq!(sessions.resume(&opened.session, &operation("delete_devices", 2), body("A")).err(), Some(UiaError::OtherOperation));
        let elsewhere = Operation { user: Some((UserNid(1), "OTHER".into())), ..operation("delete_devices", 1) };
        assert_eq!(sessions.resume(&opened.session, &elsewhere, body("A")).err(), Some(UiaError::OtherOperation));
        assert!(sessions.resume(&opened.session, &operation("delete_devices", 1), body("A")).is_ok());
    }

    #[test]
    fn the_body_is_fixed_once_a_stage_is_done_and_may_be_left_out() -> Result<(), UiaError> {
        let (sessions, _) = sessions();
        let of = operation("delete_devices", 1);
        let opened = sessions.open(of.clone(), body("A"));
        assert_eq!(sessions.resume(&opened.session, &of, body("B"))?.body, body("B"));
        sessions.complete(&opened.session, Stage::Password, None)?;
        assert_eq!(sessions.resume(&opened.session, &of, body("C")).err(), Some(UiaError::OtherOperation));
        assert_eq!(sessions.resume(&opened.session, &of, Map::new())?.body, body("B"));
        Ok(())
    }

    #[test]
    fn sessions_expire_are_bounded_and_end_when_closed() {
        let (sessions, clock) = sessions();
        let of = operation("x", 1);
        let first = sessions.open(of.clone(), Map::new());
        clock.advance(1);
        for _ in 0..SESSIONS {
            let _ = sessions.open(of.clone(), Map::new());
        }
        assert_eq!(sessions.resume(&first.session, &of, Map::new()).err(), Some(UiaError::UnknownSession));
        let last = sessions.open(of.clone(), Map::new());
        sessions.close(&last.session);
        assert!(sessions.resume(&last.session, &of, Map::new()).is_err());
        let late = sessions.open(of.clone(), Map::new());
        clock.advance(LIFETIME_MS);
        assert!(sessions.resume(&late.session, &of, Map::new()).is_err());
        assert_eq!(sessions.complete(&late.session, Stage::Password, None).err(), Some(UiaError::UnknownSession));
    }
}
