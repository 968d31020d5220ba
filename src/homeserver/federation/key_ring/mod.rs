//! The keys of other servers: fetched, checked, kept, and used to check requests and events.
//!
//! Which key counts for what (Server-Server API, "Retrieving server keys"): a request is signed with a key in use; an event of
//! room version 5 or later counts if it was sent while its key was valid, which is no later than seven days after we asked.
//! A key that is not known is looked for in memory, in the store, at its server, and at the notaries that the owner trusts.

pub(crate) mod answer;
mod events;
mod known;
mod notary;
mod own;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures_util::FutureExt as _;
use http::Method;
use ruma::{OwnedServerName, ServerName};

pub(super) use self::answer::base64;
use self::known::Known;
pub use self::{
    answer::{Answer, BadAnswer, Key, is_key_id},
    events::{EventKeys, SignatureFault, verify_with},
    notary::{MAX_QUERIED, Query},
    own::RotationError,
};
use super::{
    client::Client,
    flight::Flights,
    request::{Limits, RequestError},
};
use crate::{
    base::{Clock, Randomness},
    homeserver::{
        key::SigningKey,
        store::{Reader, Store, StoreError, server_keys},
    },
};

/// Servers whose keys are in memory.
const SERVERS: usize = 4096;
/// Largest answer with the keys of one server, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// How long a server may take to say its keys: whoever waits for them wants to check something that it sent.
const PATIENCE: Duration = Duration::from_secs(15);

/// Requests from one address that are checked at a time while nothing is known of the servers that they name.
const FROM_ONE_ADDRESS: usize = 2;

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
    /// Our store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key that is wanted, and the time at which it has to count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Want {
    /// Whose.
    pub server: OwnedServerName,
    /// Its ID, `ed25519:…`.
    pub key_id: String,
    /// What for.
    pub purpose: Purpose,
}

/// What a key is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A request made now.
    Request,
    /// An event sent then, in milliseconds since the Unix epoch, in a room of version 5 or later.
    Event(u64),
    /// An event in a room of an older version, where the time does not matter.
    OldEvent,
}

/// What the ring is made of.
#[derive(Debug)]
pub struct Parts {
    /// This server.
    pub name: OwnedServerName,
    /// Its key.
    pub own: Arc<SigningKey>,
    /// Keys that it had before.
    pub past: Vec<server_keys::PastKey>,
    /// Servers that are asked for the keys of others.
    pub notaries: Vec<OwnedServerName>,
    /// The way to other servers.
    pub client: Client,
    /// Where keys are kept.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for new keys.
    pub randomness: Arc<dyn Randomness>,
}

/// The ring. Clones share it.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    parts: Parts,
    /// Keys of ours that are past; a rotation adds to them.
    past: RwLock<Vec<server_keys::PastKey>>,
    known: Mutex<HashMap<OwnedServerName, Known>>,
    /// Fetches under way: who needs the same server's keys waits for the same answer.
    under_way: Flights<OwnedServerName, Result<(), KeyFault>>,
    /// Places for fetches that strangers make us do: those who send requests, and those who ask us about others' keys.
    for_strangers: tokio::sync::Semaphore,
    for_askers: tokio::sync::Semaphore,
    /// Requests of strangers that are being checked, by where they come from.
    from: Mutex<HashMap<IpAddr, usize>>,
}

/// A request of a stranger that is being checked.
#[derive(Debug)]
pub struct Checking<'a> {
    ring: &'a Ring,
    from: IpAddr,
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        let mut all = self.ring.from.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.from);
            }
        }
    }
}

impl KeyRing {
    /// The ring of a server.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let past = RwLock::new(std::mem::take(&mut parts.past));
        Self(Arc::new(Ring {
            parts,
            past,
            known: Mutex::default(),
            under_way: Flights::default(),
            for_strangers: tokio::sync::Semaphore::new(notary::FETCHES_FOR_STRANGERS),
            for_askers: tokio::sync::Semaphore::new(notary::FETCHES_FOR_STRANGERS),
            from: Mutex::default(),
        }))
    }

    /// A key for a purpose; the server is asked when it is not known, and after it the notaries.
    ///
    /// # Errors
    ///
    /// [`KeyFault`].
    pub async fn key(&self, want: &Want) -> Result<Vec<u8>, KeyFault> {
        if want.server == self.0.parts.name {
            return self.own_key(want).ok_or_else(|| unknown(want));
        }
        if !is_key_id(&want.key_id) {
            return Err(unknown(want));
        }
        if let Some(key) = self.at_hand(want).await? {
            return Ok(key);
        }
        if !self.may_ask(&want.server) {
            return Err(unknown(want));
        }
        let fetched = self.fetch(&want.server).await;
        if let Some(key) = self.usable(want) {
            self.with(|known, _| known.get_mut(&want.server).map(Known::note_found));
            return Ok(key);
        }
        // A request proves nothing that its own server would not say; only what is past needs a witness.
        if want.purpose != Purpose::Request {
            self.ask_notaries(std::slice::from_ref(want)).await;
            if let Some(key) = self.usable(want) {
                return Ok(key);
            }
        }
        self.note_fruitless(&want.server);
        fetched.and(Err(unknown(want)))
    }

    /// This server.
    fn name(&self) -> &ServerName {
        &self.0.parts.name
    }

    /// True when there are keys of this server at hand, old ones included.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub async fn knows(&self, server: &ServerName) -> Result<bool, KeyFault> {
        let has_keys = |known: &mut HashMap<OwnedServerName, Known>, _| known.get(server).is_some_and(|known| !known.keys.is_empty());
        if self.with(|known, _| !known.contains_key(server)) {
            self.load(server).await?;
        }
        Ok(self.with(has_keys))
    }

    /// Before a request is checked that names a server of which nothing is known: `None` where enough from that address are being
    /// checked already. Whoever names servers that do not answer leaves places to others.
    #[must_use]
    pub fn may_check(&self, from: IpAddr) -> Option<Checking<'_>> {
        let mut all = self.0.from.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(from).or_default();
        if *count >= FROM_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Checking { ring: &self.0, from })
    }

    /// Checks the signature of a request: `text` is what was signed, as canonical JSON without the signature. The keys of a
    /// server of which nothing is known are fetched for few at a time: anybody can name such servers.
    ///
    /// # Errors
    ///
    /// [`KeyFault`] when there is no key, [`SignatureFault::Wrong`] when the signature is not of it.
    pub async fn verify_request(&self, origin: &ServerName, key_id: &str, signature: &[u8], text: &str) -> Result<(), SignatureFault> {
        let _place = match self.knows(origin).await? || !self.may_ask(origin) {
            true => None,
            false => {
                let busy = || KeyFault::Unreachable { server: origin.to_owned(), why: RequestError::TimedOut };
                let place = tokio::time::timeout(PATIENCE, self.0.for_strangers.acquire()).await;
                Some(place.map_err(|_| busy())?.map_err(|_| busy())?)
            }
        };
        let want = Want { server: origin.to_owned(), key_id: key_id.to_owned(), purpose: Purpose::Request };
        let key = self.key(&want).await?;
        events::verify_text(&key, signature, text)
    }

    /// Makes a server's key known, as if it had been fetched.
    #[cfg(test)]
    pub(crate) async fn learn(&self, server: &ServerName, answer: ruma::CanonicalJsonObject) -> Result<(), KeyFault> {
        let answer = answer::check(server, answer).map_err(|why| KeyFault::Bad { server: server.to_owned(), why })?;
        self.keep(server, answer).await
    }

    fn now_ms(&self) -> u64 {
        self.0.parts.clock.now_ms()
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<OwnedServerName, Known>, u64) -> T) -> T {
        let now_ms = self.now_ms();
        work(&mut self.0.known.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    /// From memory.
    fn usable(&self, want: &Want) -> Option<Vec<u8>> {
        self.with(|known, now_ms| known.get(&want.server)?.usable(&want.key_id, want.purpose, now_ms).map(|key| key.public.clone()))
    }

    /// From memory or the store.
    async fn at_hand(&self, want: &Want) -> Result<Option<Vec<u8>>, KeyFault> {
        if self.with(|known, _| !known.contains_key(&want.server)) {
            self.load(&want.server).await?;
        }
        Ok(self.usable(want))
    }

    async fn load(&self, server: &ServerName) -> Result<(), KeyFault> {
        let wanted = server.to_owned();
        let read = move |db: &Reader<'_>| Ok::<_, StoreError>((server_keys::keys(db, &wanted)?, server_keys::answer(db, &wanted)?));
        let (keys, answer) = self.0.parts.store.read(read).await?;
        if let Some(answer) = answer.filter(|_| !keys.is_empty()) {
            let loaded = Known::stored(keys, answer.fetched_ms);
            self.with(|known, _| {
                known::make_room(known, server, SERVERS);
                known.entry(server.to_owned()).or_insert(loaded);
            });
        }
        Ok(())
    }

    fn may_ask(&self, server: &ServerName) -> bool {
        self.with(|known, now_ms| known.get(server).is_none_or(|known| known.pause_until_ms <= now_ms))
    }

    fn note_fruitless(&self, server: &ServerName) {
        self.with(|known, now_ms| {
            known::make_room(known, server, SERVERS);
            known.entry(server.to_owned()).or_default().note_fruitless(now_ms);
        });
    }

    /// Asks a server for its keys, once however many want them.
    async fn fetch(&self, server: &ServerName) -> Result<(), KeyFault> {
        let (ring, wanted) = (self.clone(), server.to_owned());
        let start = move || async move { ring.ask(&wanted).await }.boxed();
        self.0.under_way.run(server.to_owned(), start).await
    }

    async fn ask(&self, server: &ServerName) -> Result<(), KeyFault> {
        let unreachable = |why| KeyFault::Unreachable { server: server.to_owned(), why };
        // That the server has failed lately does not matter: it has just sent what is to be checked. How often it is asked is
        // limited by the pause after each time.
        let limits = Limits::ORDINARY.bytes(ANSWER_BYTES).within(PATIENCE).insisting();
        let body = self.0.parts.client.raw(server, Method::GET, "/_matrix/key/v2/server", None, limits).await.map_err(unreachable)?;
        let object = serde_json::from_slice(&body).map_err(|_| BadAnswer("it is no canonical JSON"));
        let answer = object.and_then(|object| answer::check(server, object));
        let answer = answer.map_err(|why| {
            tracing::info!(peer = %server, %why, "the keys of a server cannot be used");
            KeyFault::Bad { server: server.to_owned(), why }
        })?;
        self.keep(server, answer).await
    }

    /// Keeps an answer, in the store before in memory.
    async fn keep(&self, server: &ServerName, answer: Answer) -> Result<(), KeyFault> {
        let now_ms = self.now_ms();
        let answer = known::capped(answer, now_ms);
        let out_of_range = || KeyFault::Bad { server: server.to_owned(), why: BadAnswer("its times are out of range") };
        let (keys, stored) = known::to_store(&answer, now_ms).ok_or_else(out_of_range)?;
        let wanted = server.to_owned();
        self.0.parts.store.write(move |tx| server_keys::put(tx, &wanted, &keys, &stored)).await?;
        self.with(|known, now_ms| {
            known::make_room(known, server, SERVERS);
            let before = known.remove(server);
            known.insert(server.to_owned(), Known::fetched(answer.keys, now_ms, before));
        });
        Ok(())
    }

    /// Keeps what a notary says that a server has said. That may be long ago: it takes the place of what is known only where
    /// that has run out and is older; otherwise it adds keys that are not known.
    async fn keep_witnessed(&self, server: &ServerName, answer: Answer) -> Result<(), KeyFault> {
        let now_ms = self.now_ms();
        let number = |ms: i64| u64::try_from(ms).unwrap_or(0);
        let Some(stored) = self.stored(server).await? else { return self.keep(server, answer).await };
        let runs_out_ms = number(stored.valid_until_ms).min(number(stored.fetched_ms).saturating_add(answer::MAX_VALIDITY_MS));
        if runs_out_ms < now_ms && number(stored.valid_until_ms) < answer.valid_until_ms {
            return self.keep(server, answer).await;
        }
        let answer = known::capped(answer, now_ms);
        let bad = || KeyFault::Bad { server: server.to_owned(), why: BadAnswer("its times are out of range") };
        let (keys, _) = known::to_store(&answer, now_ms).ok_or_else(bad)?;
        let wanted = server.to_owned();
        self.0.parts.store.write(move |tx| server_keys::add(tx, &wanted, &keys)).await?;
        self.with(|known, _| known.get_mut(server).map(|known| known.add(answer.keys)));
        Ok(())
    }
}

fn unknown(want: &Want) -> KeyFault {
    KeyFault::Unknown { server: want.server.clone(), key_id: want.key_id.clone() }
}
