//! Signing in and out: devices and their tokens.

use std::net::IpAddr;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId};

use super::{Accounts, cross_signing, local_user_id, passwords::HashError, tokens};
use crate::homeserver::{
    store::{
        self, StoreError, Tx,
        tokens::{NewTokens, TokenHash},
    },
    types::{Requester, UserNid},
};

/// How long an access token lives whose client can refresh it.
const REFRESHABLE_MS: i64 = 60 * 60 * 1000;
/// Longest device ID, display name of a device.
const DEVICE_BYTES: usize = 255;

/// Who somebody says that they are.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Localpart or full user ID.
    pub user: String,
    /// The password.
    pub password: zeroize::Zeroizing<String>,
}

/// The device that somebody signs in with.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// Its ID, where the client chose one.
    pub device_id: Option<OwnedDeviceId>,
    /// Its first name.
    pub display_name: Option<String>,
    /// The client can refresh its token.
    pub refresh: bool,
    /// Where it is.
    pub address: Option<IpAddr>,
}

/// What a client is given when it has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Whose account.
    pub user_id: OwnedUserId,
    /// Which device.
    pub device_id: OwnedDeviceId,
    /// Its access token.
    pub access_token: String,
    /// How long that lives, where it does not for ever.
    pub expires_in_ms: Option<u64>,
    /// What gets the next one.
    pub refresh_token: Option<String>,
}

/// Why somebody was not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// No such user here, or not that password: nobody is told which.
    #[error("wrong user name or password")]
    WrongPassword,
    /// The account has been closed.
    #[error("this account has been deactivated")]
    Deactivated,
    /// The account is locked, until an administrator unlocks it.
    #[error("this account has been locked")]
    Locked,
    /// A device ID or name that is empty or too long.
    #[error("the device's ID or name is empty or too long")]
    InvalidDevice,
    /// A device ID that is one of the user's cross-signing keys.
    #[error("the device's ID is one of the user's cross-signing keys")]
    DeviceIsKey,
    /// The refresh token is unknown or was used up.
    #[error("unknown refresh token")]
    UnknownRefreshToken,
    /// Hashing failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Accounts {
    /// The user whose password this is.
    ///
    /// # Errors
    ///
    /// [`SignInError::WrongPassword`], after the same time for users that do not exist.
    pub async fn check_credentials(&self, credentials: &Credentials) -> Result<(OwnedUserId, UserNid), SignInError> {
        let user_id = local_user_id(&credentials.user, &self.server_name);
        let account = match user_id.clone() {
            Some(user_id) => self.store.read(move |db| store::accounts::get(db, &user_id)).await?,
            None => None,
        };
        let deactivated = account.as_ref().is_some_and(|account| account.deactivated);
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let fits = self.passwords.verify(&credentials.password, hash).await?;
        if deactivated {
            return Err(SignInError::Deactivated);
        }
        match (user_id, account) {
            (Some(_), Some(account)) if fits && account.locked => Err(SignInError::Locked),
            (Some(user_id), Some(account)) if fits => Ok((user_id, account.user)),
            _ => Err(SignInError::WrongPassword),
        }
    }

    /// Signs a user in on a device: a new one, or one that exists, whose tokens from before end.
    ///
    /// # Errors
    ///
    /// [`SignInError`].
    pub async fn sign_in(&self, user_id: OwnedUserId, user: UserNid, device: NewDevice) -> Result<SignedIn, SignInError> {
        let NewDevice { device_id, display_name, refresh, address } = device;
        let fits = |text: &str| !text.is_empty() && text.len() <= DEVICE_BYTES;
        if device_id.as_ref().is_some_and(|id| !fits(id.as_str())) || display_name.as_ref().is_some_and(|name| name.len() > DEVICE_BYTES) {
            return Err(SignInError::InvalidDevice);
        }
        let device_id = device_id.unwrap_or_else(|| self.randomness.alphanumeric(10).to_ascii_uppercase().into());
        let (stored, signed_in) = self.make_tokens(user_id, device_id.clone(), refresh, None);
        let now_ms = self.now_ms();
        self.store
            .write(move |tx| {
                // The account may have been closed since the password was checked.
                let user_id = store::users::user_id(&tx.reader(), user)?;
                match store::accounts::get(&tx.reader(), &user_id)? {
                    Some(account) if account.locked => return Err(SignInError::Locked),
                    Some(account) if !account.deactivated => {}
                    _ => return Err(SignInError::Deactivated),
                }
                if cross_signing::is_key(&tx.reader(), user, &device_id)? {
                    return Err(SignInError::DeviceIsKey);
                }
                let ip = address.map(|ip| ip.to_string());
                store::tokens::revoke(tx, user, &device_id)?;
                store::devices::ensure(tx, user, &device_id, display_name.as_deref(), now_ms, ip.as_deref())?;
                Ok(store::tokens::issue(tx, user, &device_id, &stored, now_ms)?)
            })
            .await?;
        self.tokens.forget(user, Some(&signed_in.device_id));
        Ok(signed_in)
    }

    fn make_tokens(
        &self,
        user_id: OwnedUserId,
        device_id: OwnedDeviceId,
        refresh: bool,
        supersedes: Option<TokenHash>,
    ) -> (NewTokens, SignedIn) {
        let access_token = self.new_token("hra");
        let refresh_token = refresh.then(|| self.new_token("hrr"));
        let stored = NewTokens {
            access: tokens::hash(&access_token),
            expires_ms: refresh.then(|| self.now_ms().saturating_add(REFRESHABLE_MS)),
            refresh: refresh_token.as_deref().map(tokens::hash),
            supersedes,
        };
        let expires_in_ms = refresh.then_some(REFRESHABLE_MS.unsigned_abs());
        (stored, SignedIn { user_id, device_id, access_token, expires_in_ms, refresh_token })
    }

    /// New tokens for a refresh token. The old ones stay good until one of the new is used, so that a lost answer locks nobody out.
    ///
    /// # Errors
    ///
    /// [`SignInError::UnknownRefreshToken`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<SignedIn, SignInError> {
        let (used, now_ms) = (tokens::hash(refresh_token), self.now_ms());
        let found = self.store.read(move |db| store::tokens::refresh(db, &used)).await?;
        let (user, device_id, _) = found.ok_or(SignInError::UnknownRefreshToken)?;
        let device_id = OwnedDeviceId::from(device_id);
        let user_id = self.store.read(move |db| store::users::user_id(db, user)).await?;
        let (stored, signed_in) = self.make_tokens(user_id, device_id.clone(), true, Some(used));
        self.store
            .write(move |tx| {
                // Looked at again inside the transaction: two refreshes with one token must not both win.
                let (_, _, supersedes) = store::tokens::refresh(&tx.reader(), &used)?.ok_or(SignInError::UnknownRefreshToken)?;
                // An OAuth session is refreshed by its own client, at the token endpoint.
                if store::oauth::grant(&tx.reader(), user, &device_id)?.is_some() {
                    return Err(SignInError::UnknownRefreshToken);
                }
                Ok::<_, SignInError>(rotate(tx, user, &device_id, &used, supersedes.as_deref(), &stored, now_ms)?)
            })
            .await?;
        self.tokens.forget(user, Some(&signed_in.device_id));
        Ok(signed_in)
    }

    /// Signs the requester's device out and deletes it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn sign_out(&self, who: &Requester) -> Result<(), StoreError> {
        self.delete_devices(who.user, vec![who.device_id.clone()]).await
    }

    /// Signs all devices of the account out and deletes them.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn sign_out_everywhere(&self, user: UserNid) -> Result<(), StoreError> {
        self.store
            .write(move |tx: &mut Tx<'_>| {
                let all = store::devices::list(&tx.reader(), user)?;
                super::keys::delete_devices(tx, user, &all.into_iter().map(|device| device.device_id).collect::<Vec<_>>())
            })
            .await?;
        self.tokens.forget(user, None);
        Ok(())
    }

    /// Deletes devices with everything that was theirs, and tells those who share a room with the user.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_devices(&self, user: UserNid, devices: Vec<OwnedDeviceId>) -> Result<(), StoreError> {
        self.store.write(move |tx: &mut Tx<'_>| super::keys::delete_devices(tx, user, &devices)).await?;
        self.tokens.forget(user, None);
        Ok(())
    }

    /// Renames a device. False when there is none of that ID.
    ///
    /// # Errors
    ///
    /// [`SignInError::InvalidDevice`] for a name that is too long.
    pub async fn rename_device(&self, user: UserNid, device_id: &DeviceId, name: Option<String>) -> Result<bool, SignInError> {
        if name.as_ref().is_some_and(|name| name.len() > DEVICE_BYTES) {
            return Err(SignInError::InvalidDevice);
        }
        let device_id = device_id.to_owned();
        let renamed = self.store.write(move |tx| {
            let renamed = store::devices::rename(tx, user, &device_id, name.as_deref())?;
            // Others see the name next to the device's keys.
            if renamed && store::keys::device(&tx.reader(), user, &device_id)?.is_some() {
                store::device_lists::changed(tx, user)?;
            }
            Ok::<_, StoreError>(renamed)
        });
        Ok(renamed.await?)
    }
}

/// Stores new tokens beside those that they were got with. Tokens that were got with the same before, and never used, end.
pub(super) fn rotate(
    tx: &Tx<'_>,
    user: UserNid,
    device_id: &DeviceId,
    used: &TokenHash,
    supersedes: Option<&[u8]>,
    stored: &NewTokens,
    now_ms: i64,
) -> Result<(), StoreError> {
    if let Some(superseded) = supersedes {
        store::tokens::settle(tx, user, device_id, superseded, now_ms)?;
    }
    store::tokens::forget_unused(tx, user, device_id, used)?;
    store::tokens::issue(tx, user, device_id, stored, now_ms)
}
