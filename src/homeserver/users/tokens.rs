//! Access tokens: from a token to who it stands for, without a database read when it was seen lately.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ruma::DeviceId;
use sha2::{Digest, Sha256};

use super::Accounts;
use crate::homeserver::{
    store::{self, StoreError, tokens::TokenHash},
    types::{Requester, UserNid},
};

/// Tokens kept in each of the cache's two halves.
const CACHED: usize = 512;
/// A token has 32 characters (190 bits) after its prefix.
const TOKEN_CHARS: usize = 32;
/// How old `last_seen` of a device may be before it is written again: reading a room must not write to disk each time.
const SEEN_EVERY_MS: i64 = 10 * 60 * 1000;

/// Why a token does not let anybody in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// We did not issue it, or it has ended.
    #[error("unknown access token")]
    Unknown,
    /// It was good once: the client may keep its data and get a new one.
    #[error("the access token has expired")]
    Expired,
    /// It will be good again when the account is unlocked.
    #[error("this account has been locked")]
    Locked,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the store keeps of a token.
#[must_use]
pub(super) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

#[derive(Debug, Clone)]
struct Cached {
    requester: Requester,
    expires_ms: Option<i64>,
    last_seen_ms: i64,
    locked: bool,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<TokenHash, Cached>,
    old: HashMap<TokenHash, Cached>,
    /// Changes with every invalidation: what was read from the store before one is not put in after it.
    epoch: u64,
}

/// Tokens that were used lately. When the young half is full it becomes the old one, and the old one is forgotten.
#[derive(Debug, Default)]
pub(super) struct TokenCache(Mutex<Halves>);

impl TokenCache {
    fn with<T>(&self, work: impl FnOnce(&mut Halves) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, hash: &TokenHash) -> Result<Cached, u64> {
        self.with(|halves| {
            if let Some(found) = halves.young.get(hash) {
                return Ok(found.clone());
            }
            let Some(found) = halves.old.remove(hash) else { return Err(halves.epoch) };
            halves.put(*hash, found.clone());
            Ok(found)
        })
    }

    fn put(&self, hash: TokenHash, token: Cached, epoch: u64) {
        self.with(|halves| {
            if halves.epoch == epoch {
                halves.put(hash, token);
            }
        });
    }

    /// Forgets a user's tokens, or those of one device. To be called after the commit that ended them.
    pub(super) fn forget(&self, user: UserNid, device_id: Option<&DeviceId>) {
        self.with(|halves| {
            halves.epoch += 1;
            let stays = |_: &TokenHash, cached: &mut Cached| {
                cached.requester.user != user || device_id.is_some_and(|device| cached.requester.device_id != device)
            };
            halves.young.retain(stays);
            halves.old.retain(stays);
        });
    }
}

impl Halves {
    fn put(&mut self, hash: TokenHash, token: Cached) {
        if self.young.len() >= CACHED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, token);
    }
}

impl Accounts {
    /// Who this access token stands for.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn requester(&self, token: &str, address: Option<std::net::IpAddr>) -> Result<Requester, TokenError> {
        self.requester_who_may_be_locked(token, address, false).await
    }

    /// The same for what users of locked accounts may do as well, which is to sign out.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn requester_who_may_be_locked(
        &self,
        token: &str,
        address: Option<std::net::IpAddr>,
        let_locked_in: bool,
    ) -> Result<Requester, TokenError> {
        // Tokens are never empty; a client's bug must not reach the store.
        if token.is_empty() {
            return Err(TokenError::Unknown);
        }
        let (hash, now_ms) = (hash(token), self.now_ms());
        let cached = match self.tokens.get(&hash) {
            Ok(cached) => cached,
            Err(epoch) => {
                let cached = self.look_up(hash, now_ms).await?;
                self.tokens.put(hash, cached.clone(), epoch);
                cached
            }
        };
        if cached.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            return Err(TokenError::Expired);
        }
        if cached.locked && !let_locked_in {
            return Err(TokenError::Locked);
        }
        if now_ms - cached.last_seen_ms >= SEEN_EVERY_MS {
            self.note_seen(hash, cached.clone(), now_ms, address).await?;
        }
        Ok(cached.requester)
    }

    async fn look_up(&self, hash: TokenHash, now_ms: i64) -> Result<Cached, TokenError> {
        let found = self.store.read(move |db| store::tokens::access(db, &hash)).await?.ok_or(TokenError::Unknown)?;
        let expired = found.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        if let Some(superseded) = found.supersedes.filter(|_| !expired) {
            // First use: the client has got the answer to its refresh, so the tokens from before end now.
            let (user, device_id) = (found.requester.user, found.requester.device_id.clone());
            self.store.write(move |tx| store::tokens::settle(tx, user, &device_id, &superseded, now_ms)).await?;
            self.tokens.forget(user, Some(&found.requester.device_id));
        }
        let last_seen_ms = found.last_seen_ms.unwrap_or(0);
        Ok(Cached { requester: found.requester, expires_ms: found.expires_ms, last_seen_ms, locked: found.locked })
    }

    async fn note_seen(&self, hash: TokenHash, cached: Cached, now_ms: i64, address: Option<std::net::IpAddr>) -> Result<(), TokenError> {
        let epoch = self.tokens.with(|halves| halves.epoch);
        let (user, device_id) = (cached.requester.user, cached.requester.device_id.clone());
        self.tokens.put(hash, Cached { last_seen_ms: now_ms, ..cached }, epoch);
        let ip = address.map(|ip| ip.to_string());
        let written = self.store.write(move |tx| store::devices::seen(tx, user, &device_id, now_ms, ip.as_deref())).await;
        match written {
            // Reading goes on when the disk is full.
            Err(StoreError::DiskFull) => Ok(()),
            other => other.map_err(TokenError::from),
        }
    }

    /// A new token with a prefix that says what it is, for those who find one in a log or a repository.
    pub(super) fn new_token(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.randomness.alphanumeric(TOKEN_CHARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(user: i64, device: &str) -> Cached {
        let user_id = ruma::owned_user_id!("@ann:home.test");
        let requester = Requester { user_id, user: UserNid(user), device_id: device.into(), admin: false, application: None };
        Cached { requester, expires_ms: None, last_seen_ms: 0, locked: false }
    }

    #[test]
    fn what_was_read_before_an_invalidation_is_not_kept_after_it() {
        let cache = TokenCache::default();
        let Err(epoch) = cache.get(&[1; 32]) else { panic!("the cache is empty") };
        cache.forget(UserNid(1), None);
        cache.put([1; 32], cached(1, "ONE"), epoch);
        assert!(cache.get(&[1; 32]).is_err());
    }

    #[test]
    fn forgetting_a_device_leaves_the_others() {
        let cache = TokenCache::default();
        let epoch = cache.with(|halves| halves.epoch);
        cache.put([1; 32], cached(1, "ONE"), epoch);
        cache.put([2; 32], cached(1, "TWO"), epoch);
        cache.put([3; 32], cached(2, "ONE"), epoch);
        cache.forget(UserNid(1), Some("ONE".into()));
        assert_eq!([1, 2, 3].map(|n| cache.get(&[n; 32]).is_ok()), [false, true, true]);
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let cache = TokenCache::default();
        let epoch = cache.with(|halves| halves.epoch);
        for n in 0..10_000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            cache.put(hash, cached(1, "ONE"), epoch);
            assert!(cache.get(&[0; 32]).is_ok(), "used all the time");
        }
        assert!(cache.with(|halves| halves.young.len() + halves.old.len()) <= 2 * CACHED);
    }
}
