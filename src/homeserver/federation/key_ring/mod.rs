//! The keys of other servers: fetched, checked, kept, and used to check requests and events.
//!
//! Which key counts for what (Server-Server API, "Retrieving server keys"): a request is signed with a key in use; an event of
//! room version 5 or later counts if it was sent while its key was valid, which is no later than seven days after we asked.

pub(crate) mod answer;
mod events;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::Method;
use ruma::{CanonicalJsonObject, OwnedServerName, ServerName};

pub(super) use self::answer::base64;
pub use self::{
    answer::{Answer, BadAnswer, Key, is_key_id},
    events::{EventKeys, SignatureFault},
};
use super::{
    client::Client,
    request::{Limits, RequestError},
};
use crate::{base::Clock, homeserver::key::SigningKey};

/// Servers whose keys are in memory.
const SERVERS: usize = 4096;
/// Largest answer with keys, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// A server is not asked again before this time has passed since the last answer, so that nobody can make us ask it by
/// naming keys that do not exist.
const FIRST_PAUSE_MS: u64 = 3_000;
/// The pause grows with every answer that did not bring what was missing.
const LONGEST_PAUSE_MS: u64 = 15 * 60 * 1000;

/// How long other servers may believe what we publish before they ask again.
const PUBLISHED_VALIDITY_MS: u64 = 24 * 60 * 60 * 1000;

/// Why a key is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyFault {
    /// The server was asked, and the answer counts for nothing.
    #[error("the keys of {server} cannot be used: {why}")]
    Bad {
        /// Whose.
        server: OwnedServerName,
        /// Why.
        why: BadAnswer,
    },
    /// The server could not be asked.
    #[error("the keys of {server} could not be fetched: {why}")]
    Unreachable {
        /// Whose.
        server: OwnedServerName,
        /// Why.
        why: RequestError,
    },
    /// The server has no such key that counts at that time.
    #[error("{server} has no key {key_id} that was valid then")]
    Unknown {
        /// Whose.
        server: OwnedServerName,
        /// Which.
        key_id: String,
    },
}

/// A key that is wanted, and the time at which it has to count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// Whose.
    pub server: OwnedServerName,
    /// Its ID, `ed25519:…`.
    pub key_id: String,
    /// What for.
    pub purpose: Purpose,
}

/// What a key is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A request made now.
    Request,
    /// An event sent then, in milliseconds since the Unix epoch, in a room of version 5 or later.
    Event(u64),
    /// An event in a room of an older version, where the time does not matter.
    OldEvent,
}

/// The keys of one server, and when they were fetched.
#[derive(Debug, Clone)]
struct Known {
    keys: BTreeMap<String, Key>,
    fetched_ms: u64,
    /// Not before then is the server asked again.
    pause_until_ms: u64,
    /// Answers in a row that did not bring what was missing.
    fruitless: u32,
}

impl Known {
    fn usable(&self, key_id: &str, purpose: Purpose, now_ms: u64) -> Option<&Key> {
        let key = self.keys.get(key_id)?;
        let usable = match purpose {
            Purpose::OldEvent => true,
            // A little time for clocks that do not agree is not given: the server is asked again when its answer has run out.
            Purpose::Request => key.current && key.valid_until_ms.min(self.fetched_ms + answer::MAX_VALIDITY_MS) >= now_ms,
            Purpose::Event(sent_ms) if key.current => sent_ms <= key.valid_until_ms.min(self.fetched_ms + answer::MAX_VALIDITY_MS),
            Purpose::Event(sent_ms) => sent_ms <= key.valid_until_ms,
        };
        usable.then_some(key)
    }
}

type Fetch = Shared<BoxFuture<'static, Result<(), KeyFault>>>;

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<OwnedServerName, Known>,
    /// Fetches under way: who needs the same server's keys waits for the same answer.
    under_way: HashMap<OwnedServerName, Fetch>,
}

/// The ring. Clones share it.
#[derive(Debug, Clone)]
pub struct KeyRing {
    name: OwnedServerName,
    own: Arc<SigningKey>,
    client: Client,
    clock: Arc<dyn Clock>,
    memory: Arc<Mutex<Memory>>,
}

impl KeyRing {
    /// An empty ring of the server `name`, whose own key is `own`.
    #[must_use]
    pub fn new(name: OwnedServerName, own: Arc<SigningKey>, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { name, own, client, clock, memory: Arc::default() }
    }

    /// A key for a purpose; the server is asked when it is not known.
    ///
    /// # Errors
    ///
    /// [`KeyFault`].
    pub async fn key(&self, want: &Want) -> Result<Vec<u8>, KeyFault> {
        if want.server == self.name {
            return self.own_key(&want.key_id).ok_or_else(|| unknown(want));
        }
        if let Some(key) = self.usable(want) {
            return Ok(key);
        }
        if !is_key_id(&want.key_id) || !self.may_ask(&want.server) {
            return Err(unknown(want));
        }
        self.fetch(&want.server).await?;
        self.usable(want).ok_or_else(|| {
            self.note_fruitless(&want.server);
            unknown(want)
        })
    }

    /// The keys of this node, signed, as other servers ask for them (`GET /_matrix/key/v2/server`).
    ///
    /// # Errors
    ///
    /// When they cannot be signed, which is a fault of ours.
    pub fn published(&self) -> Result<CanonicalJsonObject, String> {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        let valid_until_ms = self.clock.now_ms() + PUBLISHED_VALIDITY_MS;
        let keys = serde_json::json!({
            "server_name": self.name,
            "verify_keys": { self.own.id(): { "key": STANDARD_NO_PAD.encode(self.own.public_key()) } },
            "old_verify_keys": {},
            "valid_until_ts": valid_until_ms,
        });
        let mut object = serde_json::from_value(keys).map_err(|error| error.to_string())?;
        self.own.sign_json(self.name.as_str(), &mut object)?;
        Ok(object)
    }

    /// Checks the signature of a request: `object` is what was signed, without the signature.
    ///
    /// # Errors
    ///
    /// [`KeyFault`] when there is no key, [`SignatureFault::Wrong`] when the signature is not of it.
    pub async fn verify_request(
        &self,
        origin: &ServerName,
        key_id: &str,
        signature: &[u8],
        object: &CanonicalJsonObject,
    ) -> Result<(), SignatureFault> {
        let want = Want { server: origin.to_owned(), key_id: key_id.to_owned(), purpose: Purpose::Request };
        let key = self.key(&want).await?;
        events::verify(&key, signature, object)
    }

    /// Makes a server's key known, as if it had been fetched.
    #[cfg(test)]
    pub(crate) fn learn(&self, server: &ServerName, answer: CanonicalJsonObject) -> Result<(), BadAnswer> {
        answer::check(server, answer).map(|answer| self.keep(server, &answer))
    }

    fn own_key(&self, key_id: &str) -> Option<Vec<u8>> {
        (self.own.id() == key_id).then(|| self.own.public_key().to_vec())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory, u64) -> T) -> T {
        let now_ms = self.clock.now_ms();
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    fn usable(&self, want: &Want) -> Option<Vec<u8>> {
        self.with(|memory, now_ms| {
            let key = memory.known.get(&want.server)?.usable(&want.key_id, want.purpose, now_ms)?;
            Some(key.public.clone())
        })
    }

    fn may_ask(&self, server: &ServerName) -> bool {
        self.with(|memory, now_ms| memory.known.get(server).is_none_or(|known| known.pause_until_ms <= now_ms))
    }

    fn note_fruitless(&self, server: &ServerName) {
        self.with(|memory, now_ms| {
            if let Some(known) = memory.known.get_mut(server) {
                known.fruitless = known.fruitless.saturating_add(1);
                let pause = FIRST_PAUSE_MS.saturating_mul(1 << known.fruitless.min(20)).min(LONGEST_PAUSE_MS);
                known.pause_until_ms = now_ms + pause;
            }
        });
    }

    /// Asks a server for its keys, once however many want them.
    async fn fetch(&self, server: &ServerName) -> Result<(), KeyFault> {
        let fetch = self.with(|memory, _| {
            if let Some(fetch) = memory.under_way.get(server) {
                return fetch.clone();
            }
            let (ring, wanted) = (self.clone(), server.to_owned());
            let fetch = async move { ring.ask(&wanted).await }.boxed().shared();
            memory.under_way.insert(server.to_owned(), fetch.clone());
            fetch
        });
        let outcome = fetch.clone().await;
        self.with(|memory, _| {
            if memory.under_way.get(server).is_some_and(|other| other.ptr_eq(&fetch)) {
                memory.under_way.remove(server);
            }
        });
        outcome
    }

    async fn ask(&self, server: &ServerName) -> Result<(), KeyFault> {
        let unreachable = |why| KeyFault::Unreachable { server: server.to_owned(), why };
        let limits = Limits::ORDINARY.bytes(ANSWER_BYTES);
        let body = self.client.raw(server, Method::GET, "/_matrix/key/v2/server", None, limits).await.map_err(unreachable)?;
        let object = serde_json::from_slice(&body).map_err(|_| BadAnswer("it is no canonical JSON"));
        let answer = object.and_then(|object| answer::check(server, object));
        let answer = answer.map_err(|why| KeyFault::Bad { server: server.to_owned(), why })?;
        self.keep(server, &answer);
        Ok(())
    }

    fn keep(&self, server: &ServerName, answer: &Answer) {
        self.with(|memory, now_ms| {
            if memory.known.len() >= SERVERS && !memory.known.contains_key(server) {
                forget_some(&mut memory.known);
            }
            let before = memory.known.remove(server);
            let fruitless = before.as_ref().map_or(0, |known| known.fruitless);
            let mut keys = answer.keys.clone();
            // A key that is no longer listed stays good for the events of its time.
            for (id, key) in before.map(|known| known.keys).unwrap_or_default() {
                keys.entry(id).or_insert(Key { current: false, ..key });
            }
            let known = Known { keys, fetched_ms: now_ms, pause_until_ms: now_ms + FIRST_PAUSE_MS, fruitless };
            memory.known.insert(server.to_owned(), known);
        });
    }
}

fn unknown(want: &Want) -> KeyFault {
    KeyFault::Unknown { server: want.server.clone(), key_id: want.key_id.clone() }
}

/// Makes room: what was fetched longest ago, a quarter at once.
fn forget_some(known: &mut HashMap<OwnedServerName, Known>) {
    let mut by_age: Vec<(u64, OwnedServerName)> = known.iter().map(|(server, known)| (known.fetched_ms, server.clone())).collect();
    by_age.sort_unstable();
    for (_, server) in by_age.into_iter().take(SERVERS / 4) {
        known.remove(&server);
    }
}
