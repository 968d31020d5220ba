//! Login tokens (`m.login.token`): each signs its user in on one more device, once and soon.

use std::sync::Arc;

use super::{Accounts, expiring::Expiring, tokens};
use crate::{
    base::Clock,
    homeserver::{store::tokens::TokenHash, types::UserNid},
};

/// How long a token is good (Client-Server API, `POST /login/get_token`).
pub const LIFETIME_MS: u64 = 120_000;
/// Tokens at one time.
const TOKENS: usize = 256;

/// The tokens that have not been used.
#[derive(Debug)]
pub(super) struct LoginTokens(Expiring<TokenHash, UserNid>);

impl LoginTokens {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Expiring::new(clock, TOKENS, LIFETIME_MS))
    }

    /// Ends a user's tokens.
    pub(super) fn forget(&self, user: UserNid) {
        self.0.retain(|of| *of != user);
    }
}

impl Accounts {
    /// Makes a token that signs this user in. A restart ends it.
    #[must_use]
    pub fn login_token(&self, user: UserNid) -> String {
        let token = self.new_token("hrl");
        self.login_tokens.0.put(tokens::hash(&token), user);
        token
    }

    /// The user whom this token signs in. It is used up.
    #[must_use]
    pub fn use_login_token(&self, token: &str) -> Option<UserNid> {
        self.login_tokens.0.take(&tokens::hash(token))
    }
}
