//! What is known of one server's keys.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedServerName, ServerName};

use super::{
    Purpose,
    answer::{Answer, Key, MAX_VALIDITY_MS},
};
use crate::homeserver::store::server_keys::{StoredAnswer, StoredKey};

/// A server is not asked again before this time has passed since the last answer, so that nobody can make us ask it by
/// naming keys that do not exist.
const FIRST_PAUSE_MS: u64 = 3_000;
/// The pause grows with every answer that did not bring what was missing.
const LONGEST_PAUSE_MS: u64 = 15 * 60 * 1000;

/// The keys of one server, and when they were fetched.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) fetched_ms: u64,
    /// Not before then is the server asked again.
    pub(super) pause_until_ms: u64,
    /// Answers in a row that did not bring what was missing.
    fruitless: u32,
}

impl Known {
    /// Fetched now. A key that is no longer listed stays good for the events of its time.
    pub(super) fn fetched(mut keys: BTreeMap<String, Key>, now_ms: u64, before: Option<Self>) -> Self {
        let fruitless = before.as_ref().map_or(0, |known| known.fruitless);
        for (id, key) in before.map(|known| known.keys).unwrap_or_default() {
            keys.entry(id).or_insert(Key { current: false, ..key });
        }
        Self { keys, fetched_ms: now_ms, pause_until_ms: now_ms + FIRST_PAUSE_MS, fruitless }
    }

    /// From the store.
    pub(super) fn stored(keys: Vec<StoredKey>, fetched_ms: i64) -> Self {
        let number = |ms: i64| u64::try_from(ms).unwrap_or(0);
        let key =
            |key: StoredKey| (key.key_id, Key { public: key.public, valid_until_ms: number(key.valid_until_ms), current: key.current });
        Self { keys: keys.into_iter().map(key).collect(), fetched_ms: number(fetched_ms), pause_until_ms: 0, fruitless: 0 }
    }

    /// The key, if it counts for that.
    pub(super) fn usable(&self, key_id: &str, purpose: Purpose, now_ms: u64) -> Option<&Key> {
        let key = self.keys.get(key_id)?;
        let at_most_ms = key.valid_until_ms.min(self.fetched_ms.saturating_add(MAX_VALIDITY_MS));
        let usable = match purpose {
            Purpose::OldEvent => true,
            Purpose::Request => key.current && at_most_ms >= now_ms,
            Purpose::Event(sent_ms) => sent_ms <= at_most_ms,
        };
        usable.then_some(key)
    }

    /// A witness knows these as well. What the server itself has said is not changed by it.
    pub(super) fn add(&mut self, keys: BTreeMap<String, Key>) {
        for (id, key) in keys {
            self.keys.entry(id).or_insert(Key { current: false, ..key });
        }
    }

    /// What was missing came.
    pub(super) fn note_found(&mut self) {
        self.fruitless = 0;
    }

    /// The server was asked in vain, or did not answer.
    pub(super) fn note_fruitless(&mut self, now_ms: u64) {
        self.fruitless = self.fruitless.saturating_add(1);
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << self.fruitless.min(20)).min(LONGEST_PAUSE_MS);
        self.pause_until_ms = now_ms + pause;
    }
}

/// Nothing in an answer counts for longer than this from now on, whatever it says: one that is no longer listed then is a key
/// of the past until the time that is noted here, and whoever has a name for a day must not be able to sign for years
/// (Server-Server API, `valid_until_ts`).
pub(super) fn capped(mut answer: Answer, now_ms: u64) -> Answer {
    for key in answer.keys.values_mut() {
        key.valid_until_ms = key.valid_until_ms.min(now_ms.saturating_add(MAX_VALIDITY_MS));
    }
    answer
}

/// The answer as the store has it; `None` when its times are no times.
pub(super) fn to_store(answer: &Answer, now_ms: u64) -> Option<(Vec<StoredKey>, StoredAnswer)> {
    let number = |ms: u64| i64::try_from(ms).ok();
    let mut keys = Vec::with_capacity(answer.keys.len());
    for (key_id, key) in &answer.keys {
        let valid_until_ms = number(key.valid_until_ms)?;
        keys.push(StoredKey { key_id: key_id.clone(), public: key.public.clone(), valid_until_ms, current: key.current });
    }
    let json = serde_json::to_vec(&answer.object).ok()?;
    Some((keys, StoredAnswer { fetched_ms: number(now_ms)?, valid_until_ms: number(answer.valid_until_ms)?, answer: json }))
}

/// Makes room for one more: what was fetched longest ago goes, a quarter at once. The store still has it.
pub(super) fn make_room(known: &mut HashMap<OwnedServerName, Known>, server: &ServerName, limit: usize) {
    if known.len() < limit || known.contains_key(server) {
        return;
    }
    let mut by_age: Vec<(u64, OwnedServerName)> = known.iter().map(|(server, known)| (known.fetched_ms, server.clone())).collect();
    by_age.sort_unstable();
    for (_, server) in by_age.into_iter().take(limit / 4) {
        known.remove(&server);
    }
}
