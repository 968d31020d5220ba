//! Telling clients what is new.
//!
//! One set of questions about rooms, users and devices, answered from one snapshot of the store, with two codecs over it:
//! [`v3`] (`GET /sync`) and [`sliding`] (simplified sliding sync). Whoever waits subscribes to the [`Notifier`] before it
//! reads. Knows nothing of HTTP.

mod devices;
mod ephemeral;
mod format;
pub mod live;
mod notifier;
pub mod presence;
mod rooms;
pub mod sliding;
mod threads;
mod timeline;
mod token;
pub mod typing;
pub mod v3;
mod viewer;
mod visibility;
mod wait;

use serde_json::value::RawValue;

use super::{
    Node,
    store::{Reader, StoreError, devices as devices_of, sync_user},
    types::{Requester, StreamPos},
};

pub(super) use self::live::Moment;
pub use self::{
    live::{Live, Presence, Told},
    notifier::Notifier,
    sliding::Connections,
    threads::thread_changes,
    token::SyncToken,
};

/// JSON as it goes to the client.
type Raw = Box<RawValue>;

/// Makes JSON of something that cannot fail to be JSON.
fn raw(value: &impl serde::Serialize) -> Result<Raw, StoreError> {
    serde_json::value::to_raw_value(value).map_err(|e| StoreError::Data(e.to_string()))
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The device was signed out while it waited.
    #[error("the device has been signed out")]
    SignedOut,
    /// Sliding sync: the position is not known (any more), and the client has to begin anew.
    #[error("unknown position")]
    UnknownPos,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tokens are checked when a request comes; a device that waits may be signed out meanwhile, and then hears nothing more.
fn check_signed_in(db: &Reader<'_>, who: &Requester) -> Result<(), SyncError> {
    // An application service needs no device.
    if who.application.is_some() && who.device_id.as_str().is_empty() {
        return Ok(());
    }
    match devices_of::get(db, who.user, &who.device_id)? {
        Some(_) => Ok(()),
        None => Err(SyncError::SignedOut),
    }
}

/// Deletes the messages up to a position that a device says it has.
async fn acknowledge(node: &Node, who: &Requester, up_to: StreamPos) -> Result<(), StoreError> {
    let (user, device) = (who.user, who.device_id.clone());
    let known = device.clone();
    if node.store.read(move |db| sync_user::has_to_device(db, user, &known, up_to)).await? {
        node.store.write(move |tx| sync_user::acknowledge_to_device(tx, user, &device, up_to)).await?;
    }
    Ok(())
}

/// What the sync engine keeps in memory.
#[derive(Debug)]
pub struct Sync {
    /// Typing and presence.
    pub live: Live,
    /// Sliding-sync connections.
    pub connections: Connections,
}

impl Sync {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(now_ms: u64, randomness: &dyn crate::base::Randomness) -> Self {
        Self { live: Live::new(now_ms), connections: Connections::new(randomness) }
    }
}
