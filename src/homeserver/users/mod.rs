//! Local accounts: passwords, devices, tokens, and what belongs to a user rather than to a room.
//!
//! Knows the store and nothing of HTTP: errors are typed, and the API turns them into answers.

mod accounts;
mod appservice;
pub mod backup;
pub mod cross_signing;
mod expiring;
pub mod keys;
pub mod limits;
pub mod login_tokens;
mod names;
pub mod oauth;
mod openid;
mod passwords;
pub mod remote_keys;
pub mod rendezvous;
mod sessions;
pub mod shared_secret;
pub mod sso;
pub mod tokens;
pub mod uia;

use std::sync::Arc;

use ruma::OwnedServerName;

pub use self::{
    accounts::AccountError,
    appservice::AssertError,
    names::{InvalidUsername, local_user_id, new_user_id},
    sessions::{Credentials, NewDevice, SignInError, SignedIn},
};
use self::{login_tokens::LoginTokens, oauth::OAuth, passwords::Passwords, tokens::TokenCache};
use super::{appservice::AppServices, store::Store};
use crate::base::{Clock, Randomness};

/// The accounts of this node, and who is signed in to them.
#[derive(Debug)]
pub struct Accounts {
    store: Store,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    server_name: OwnedServerName,
    services: Arc<AppServices>,
    passwords: Passwords,
    tokens: TokenCache,
    login_tokens: LoginTokens,
    /// Sign-ins by OAuth that are under way.
    pub oauth: OAuth,
}

impl Accounts {
    /// The accounts in this store.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        server_name: OwnedServerName,
        services: Arc<AppServices>,
    ) -> Self {
        Self {
            passwords: Passwords::default(),
            tokens: TokenCache::default(),
            login_tokens: LoginTokens::new(Arc::clone(&clock)),
            oauth: OAuth::new(&clock, &randomness),
            store,
            clock,
            randomness,
            server_name,
            services,
        }
    }

    /// The store's form of the time.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }
}
