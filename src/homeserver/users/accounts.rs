//! Making, changing and closing accounts.

use ruma::OwnedUserId;

use super::{
    Accounts, InvalidUsername, new_user_id,
    passwords::{HashError, PASSWORD_BYTES},
};
use crate::homeserver::{
    store::{self, StoreError, Tx},
    types::{Requester, UserNid},
};

/// Why an account could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name does not fit the grammar.
    #[error(transparent)]
    InvalidUsername(#[from] InvalidUsername),
    /// Somebody has or had an account of that name.
    #[error("this user name is taken")]
    InUse,
    /// The name belongs to an application service, or not to the one that asks.
    #[error("this user name is reserved")]
    Reserved,
    /// The password cannot be used.
    #[error("{0}")]
    WeakPassword(&'static str),
    /// The registration token is unknown, used up or expired.
    #[error("the registration token is not valid")]
    RegistrationToken,
    /// Hashing failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Accounts {
    /// Makes an account that can sign in with a password.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; nothing is made then.
    pub async fn create(&self, localpart: &str, password: &str, admin: bool) -> Result<OwnedUserId, AccountError> {
        self.create_with(localpart, password, admin, None).await
    }

    /// The same, using up a registration token in the same transaction.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; nothing is made then and the token stays unused.
    pub async fn create_with(
        &self,
        localpart: &str,
        password: &str,
        admin: bool,
        registration_token: Option<String>,
    ) -> Result<OwnedUserId, AccountError> {
        let user_id = new_user_id(localpart, &self.server_name)?;
        self.check_free(&user_id).await?;
        let hash = self.hash_new(password).await?;
        let (wanted, now_ms) = (user_id.clone(), self.now_ms());
        self.store
            .write(move |tx| {
                if let Some(token) = &registration_token
                    && !store::accounts::use_registration_token(tx, token, now_ms)?
                {
                    return Err(AccountError::RegistrationToken);
                }
                let user = store::accounts::create(tx, &wanted, Some(&hash), admin, now_ms)?.ok_or(AccountError::InUse)?;
                first_profile(tx, user, wanted.localpart())?;
                Ok(())
            })
            .await?;
        tracing::info!(%user_id, admin, "account created");
        Ok(user_id)
    }

    /// The user ID that a new account of this name would have.
    ///
    /// # Errors
    ///
    /// [`AccountError::InvalidUsername`], [`AccountError::InUse`].
    pub async fn check_available(&self, localpart: &str) -> Result<OwnedUserId, AccountError> {
        let user_id = new_user_id(localpart, &self.server_name)?;
        self.check_free(&user_id).await?;
        Ok(user_id)
    }

    async fn check_free(&self, user_id: &OwnedUserId) -> Result<(), AccountError> {
        if self.services.user_is_reserved(user_id, None) {
            return Err(AccountError::Reserved);
        }
        let wanted = user_id.clone();
        let taken = self.store.read(move |db| store::accounts::get(db, &wanted)).await?.is_some();
        if taken { Err(AccountError::InUse) } else { Ok(()) }
    }

    /// Says what is wrong with a password before anything is done with it.
    ///
    /// # Errors
    ///
    /// [`AccountError::WeakPassword`].
    pub fn check_password(password: &str) -> Result<(), AccountError> {
        if password.is_empty() {
            return Err(AccountError::WeakPassword("the password is empty"));
        }
        if password.len() > PASSWORD_BYTES {
            return Err(AccountError::WeakPassword("the password is longer than 1024 bytes"));
        }
        Ok(())
    }

    async fn hash_new(&self, password: &str) -> Result<String, AccountError> {
        Self::check_password(password)?;
        Ok(self.passwords.hash(password, self.randomness.as_ref()).await?)
    }

    /// Replaces a password, and signs out the account's other devices (all, where the requester is none of them) if so asked.
    ///
    /// # Errors
    ///
    /// [`AccountError`].
    pub async fn change_password(&self, who: &Requester, password: &str, logout_devices: bool) -> Result<(), AccountError> {
        let hash = self.hash_new(password).await?;
        let (user, own) = (who.user, who.device_id.clone());
        self.store
            .write(move |tx| {
                store::accounts::set_password(tx, user, &hash)?;
                store::oauth::forget_codes(tx, user)?;
                if logout_devices {
                    let others = store::devices::list(&tx.reader(), user)?.into_iter().map(|device| device.device_id);
                    super::keys::delete_devices(tx, user, &others.filter(|device| *device != own).collect::<Vec<_>>())?;
                }
                Ok::<_, AccountError>(())
            })
            .await?;
        self.forget_everywhere(user);
        tracing::info!(user_id = %who.user_id, logout_devices, "password changed");
        Ok(())
    }

    /// Closes an account for good. The user's rooms are left by the caller, after this.
    ///
    /// # Errors
    ///
    /// [`AccountError::Store`].
    pub async fn deactivate(&self, user: UserNid, erase: bool) -> Result<(), AccountError> {
        self.store
            .write(move |tx| {
                let devices = store::devices::list(&tx.reader(), user)?;
                super::keys::delete_devices(tx, user, &devices.into_iter().map(|device| device.device_id).collect::<Vec<_>>())?;
                if erase {
                    store::accounts::set_erased(tx, user)?;
                }
                store::accounts::deactivate(tx, user)
            })
            .await?;
        self.forget_everywhere(user);
        Ok(())
    }

    /// Reads the tokens of a user's devices anew. To be called after a commit that ended some.
    pub fn forget_tokens(&self, user: UserNid) {
        self.tokens.forget(user, None);
    }

    /// Ends what was signed in to an account and is not a device, and reads its tokens anew.
    fn forget_everywhere(&self, user: UserNid) {
        self.tokens.forget(user, None);
        self.login_tokens.forget(user);
        self.oauth.browsers.forget(user);
        self.oauth.devices.forget(user);
    }

    /// Locks or unlocks an account (Client-Server API, "Account locking"). Its tokens stay.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_locked(&self, user: UserNid, locked: bool) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                // Who waits for news is told at once.
                tx.touch(user);
                store::accounts::set_locked(tx, user, locked)
            })
            .await?;
        self.forget_everywhere(user);
        tracing::info!(user = user.0, locked, "account locked or unlocked");
        Ok(())
    }

    /// Suspends an account, or lifts that (Client-Server API, "Account suspension"). Its user reads, signs in and out, verifies
    /// devices, keeps keys, goes and takes back what they said; they send, upload, name and publish nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_suspended(&self, user: UserNid, suspended: bool) -> Result<(), StoreError> {
        self.store.write(move |tx| store::accounts::set_suspended(tx, user, suspended)).await?;
        tracing::info!(user = user.0, suspended, "account suspended or not");
        Ok(())
    }

    /// The account of a user of this server.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn account(&self, user_id: &ruma::UserId) -> Result<Option<store::accounts::Account>, StoreError> {
        let user_id = user_id.to_owned();
        self.store.read(move |db| store::accounts::get(db, &user_id)).await
    }

    /// The user ID of an account.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn user_id(&self, user: UserNid) -> Result<OwnedUserId, StoreError> {
        self.store.read(move |db| store::users::user_id(db, user)).await
    }

    /// Makes a registration token.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn create_registration_token(&self, uses_allowed: Option<u32>, expires_ms: Option<u64>) -> Result<String, StoreError> {
        let (token, now_ms) = (self.randomness.alphanumeric(20), self.now_ms());
        let expires_ms = expires_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let stored = token.clone();
        self.store
            .write(move |tx| store::accounts::put_registration_token(tx, &stored, uses_allowed.map(i64::from), expires_ms, now_ms))
            .await?;
        Ok(token)
    }

    /// True when an account may be registered with this token now.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn registration_token_is_valid(&self, token: &str) -> Result<bool, StoreError> {
        let (token, now_ms) = (token.to_owned(), self.now_ms());
        self.store.read(move |db| store::accounts::registration_token_is_valid(db, &token, now_ms)).await
    }
}

/// A new user is shown under the name that they chose.
pub(super) fn first_profile(tx: &Tx<'_>, user: UserNid, localpart: &str) -> Result<(), StoreError> {
    store::profiles::set(tx, user, "displayname", &serde_json::Value::from(localpart))
}
