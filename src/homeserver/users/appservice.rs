//! Accounts of application services: theirs, and those that they make and act as.

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use super::{AccountError, Accounts, SignInError, accounts::first_profile, cross_signing, new_user_id};
use crate::homeserver::{
    appservice::Service,
    store::{self, StoreError, Tx},
    types::{Requester, UserNid},
};

/// Why a service may not do something as a user.
#[derive(Debug, thiserror::Error)]
pub enum AssertError {
    /// The user is none of its.
    #[error("this user is not in the namespaces of the application service")]
    NotYours,
    /// The user has not been made, or is gone.
    #[error("the application service has not registered this user")]
    NotRegistered,
    /// The account is locked.
    #[error("this account has been locked")]
    Locked,
    /// The user has no such device.
    #[error("this user has no such device")]
    UnknownDevice,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Accounts {
    /// Makes the own users of the services, and their places in the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub(in crate::homeserver) async fn register_services(&self) -> Result<(), StoreError> {
        let services: Vec<(String, OwnedUserId)> =
            self.services.all().iter().map(|service| (service.id.clone(), service.sender.clone())).collect();
        let now_ms = self.now_ms();
        self.store
            .write(move |tx| {
                for (id, sender) in &services {
                    make(tx, sender, id, now_ms)?;
                }
                let ids: Vec<String> = services.into_iter().map(|(id, _)| id).collect();
                store::appservices::register(tx, &ids, now_ms)
            })
            .await
    }

    /// Makes an account without a password for a service.
    ///
    /// # Errors
    ///
    /// [`AccountError::Reserved`] for a name outside its namespaces or in another one's.
    pub async fn create_for(&self, service: &Service, localpart: &str) -> Result<(OwnedUserId, UserNid), AccountError> {
        let user_id = new_user_id(localpart, &self.server_name)?;
        if !service.may_act_as(&user_id) || self.services.user_is_reserved(&user_id, Some(&service.id)) {
            return Err(AccountError::Reserved);
        }
        let (wanted, id, now_ms) = (user_id.clone(), service.id.clone(), self.now_ms());
        let user = self.store.write(move |tx| make(tx, &wanted, &id, now_ms)?.ok_or(AccountError::InUse)).await?;
        Ok((user_id, user))
    }

    /// Who a service is that acts as a user, or as itself, with a device or with none.
    ///
    /// # Errors
    ///
    /// [`AssertError`].
    pub async fn assert(&self, service: &Service, user_id: Option<&UserId>, device: Option<&DeviceId>) -> Result<Requester, AssertError> {
        let user_id = user_id.unwrap_or(&service.sender).to_owned();
        if !service.may_act_as(&user_id) {
            return Err(AssertError::NotYours);
        }
        let (wanted, device) = (user_id.clone(), device.map(ToOwned::to_owned));
        let asked = device.clone();
        let found = self.store.read(move |db| {
            let account = store::accounts::get(db, &wanted)?;
            let known = match (&account, &asked) {
                (Some(account), Some(device)) => store::devices::get(db, account.user, device)?.is_some(),
                _ => true,
            };
            Ok::<_, StoreError>((account, known))
        });
        let (account, known) = found.await?;
        let account = account.filter(|account| !account.deactivated).ok_or(AssertError::NotRegistered)?;
        if account.locked {
            return Err(AssertError::Locked);
        }
        if !known {
            return Err(AssertError::UnknownDevice);
        }
        Ok(Requester {
            user_id,
            user: account.user,
            device_id: device.unwrap_or_else(|| OwnedDeviceId::from("")),
            admin: account.admin,
            application: Some(service.id.as_str().into()),
        })
    }

    /// Makes a device without tokens, or renames it. True when it is new.
    ///
    /// # Errors
    ///
    /// [`SignInError::DeviceIsKey`].
    pub async fn put_device(&self, user: UserNid, device: OwnedDeviceId, name: Option<String>) -> Result<bool, SignInError> {
        let now_ms = self.now_ms();
        self.store
            .write(move |tx| {
                let new = store::devices::get(&tx.reader(), user, &device)?.is_none();
                if new && cross_signing::is_key(&tx.reader(), user, &device)? {
                    return Err(SignInError::DeviceIsKey);
                }
                store::devices::ensure(tx, user, &device, name.as_deref(), now_ms, None)?;
                if let (false, Some(name)) = (new, name) {
                    store::devices::rename(tx, user, &device, Some(&name))?;
                }
                Ok(new)
            })
            .await
    }
}

/// Makes an account that nobody signs in to with a password; `None` when there is one.
fn make(tx: &Tx<'_>, user_id: &UserId, service: &str, now_ms: i64) -> Result<Option<UserNid>, StoreError> {
    let made = store::accounts::create(tx, user_id, None, false, now_ms)?;
    if let Some(user) = made {
        first_profile(tx, user, user_id.localpart())?;
        store::appservices::set_maker(tx, user, service)?;
    }
    Ok(made)
}
