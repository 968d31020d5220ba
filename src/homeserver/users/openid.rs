//! OpenID tokens: with one, a user proves to another service who they are (Client-Server API, "OpenID").

use ruma::OwnedUserId;

use super::{Accounts, tokens};
use crate::homeserver::{
    store::{self, StoreError},
    types::UserNid,
};

/// How long a token is good.
const LIFETIME_MS: u64 = 60 * 60 * 1000;

impl Accounts {
    /// Makes a token, good for nothing but to say whose it is. Returns it with its lifetime in milliseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn openid_token(&self, user: UserNid) -> Result<(String, u64), StoreError> {
        let token = self.new_token("hro");
        let (hash, expires_ms) = (tokens::hash(&token), self.now_ms().saturating_add_unsigned(LIFETIME_MS));
        self.store.write(move |tx| store::openid::put(tx, &hash, user, expires_ms)).await?;
        Ok((token, LIFETIME_MS))
    }

    /// Whose token this is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn openid_user(&self, token: &str) -> Result<Option<OwnedUserId>, StoreError> {
        let (hash, now_ms) = (tokens::hash(token), self.now_ms());
        self.store.read(move |db| store::openid::user(db, &hash, now_ms)).await
    }
}
