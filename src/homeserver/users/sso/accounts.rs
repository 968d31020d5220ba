//! The accounts of people whom a provider vouches for.

use ruma::OwnedUserId;

use super::Identity;
use crate::homeserver::{
    store::{self, StoreError},
    types::UserNid,
    users::{AccountError, Accounts, accounts::first_profile, new_user_id},
};

/// Whose account an identity opens.
#[derive(Debug, Clone)]
pub struct Known {
    /// The user.
    pub user_id: OwnedUserId,
    /// In the store.
    pub user: UserNid,
}

impl Accounts {
    /// The account that belongs to an identity.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn known_by_sso(&self, identity: &Identity) -> Result<Option<Known>, StoreError> {
        let (issuer, subject) = (identity.issuer.clone(), identity.subject.clone());
        let found = self.store.read(move |db| store::sso::user_of(db, &issuer, &subject)).await?;
        Ok(found.map(|(user_id, user)| Known { user_id, user }))
    }

    /// The issuers that vouch for a user.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn sso_issuers(&self, user: UserNid) -> Result<Vec<String>, StoreError> {
        self.store.read(move |db| store::sso::issuers_of(db, user)).await
    }

    /// Gives an account that exists to an identity, because the owner trusts the provider with its people's names. Not an
    /// administrator's: a name at the provider is not to become power here. `None` where there is no such account.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn link_by_sso(&self, localpart: &str, identity: &Identity) -> Result<Option<Known>, StoreError> {
        let Ok(user_id) = new_user_id(localpart, &self.server_name) else { return Ok(None) };
        if self.services.user_is_reserved(&user_id, None) {
            return Ok(None);
        }
        let (issuer, subject, now_ms) = (identity.issuer.clone(), identity.subject.clone(), self.now_ms());
        let linked = self.store.write(move |tx| {
            let account = store::accounts::get(&tx.reader(), &user_id)?.filter(|account| !account.deactivated && !account.admin);
            let Some(account) = account else { return Ok::<_, StoreError>(None) };
            // Somebody else of that provider has it already.
            if store::sso::issuers_of(&tx.reader(), account.user)?.contains(&issuer) {
                return Ok(None);
            }
            store::sso::link(tx, &issuer, &subject, account.user, now_ms)?;
            Ok(Some(Known { user_id, user: account.user }))
        });
        let linked = linked.await?;
        if let Some(Known { user_id, .. }) = &linked {
            tracing::info!(%user_id, provider = identity.provider, "account given to an identity of a provider");
        }
        Ok(linked)
    }

    /// Makes an account without a password for an identity.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; nothing is made then.
    pub async fn create_by_sso(&self, localpart: &str, identity: &Identity) -> Result<Known, AccountError> {
        let user_id = self.check_available(localpart).await?;
        let (issuer, subject, now_ms) = (identity.issuer.clone(), identity.subject.clone(), self.now_ms());
        let (wanted, name) = (user_id.clone(), identity.display_name().unwrap_or(user_id.localpart()).to_owned());
        let made = self.store.write(move |tx| {
            // They may have come twice.
            if store::sso::user_of(&tx.reader(), &issuer, &subject)?.is_some() {
                return Err(AccountError::InUse);
            }
            let user = store::accounts::create(tx, &wanted, None, false, now_ms)?.ok_or(AccountError::InUse)?;
            first_profile(tx, user, &name)?;
            store::sso::link(tx, &issuer, &subject, user, now_ms)?;
            Ok::<_, AccountError>(user)
        });
        let user = made.await?;
        tracing::info!(%user_id, provider = identity.provider, "account created for an identity of a provider");
        Ok(Known { user_id, user })
    }
}
