//! The keys of this node: what other servers are told, and how a new one takes the place of the old.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::CanonicalJsonObject;
use serde_json::{Map, json};

use super::{KeyRing, PoisonError, Purpose, Want};
use crate::homeserver::store::{StoreError, server_keys};

/// How long other servers may believe what we publish before they ask again.
const PUBLISHED_VALIDITY_MS: u64 = 24 * 60 * 60 * 1000;

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The key's file could not be written.
    #[error("the new key could not be written: {0}")]
    File(std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock shows a time that cannot be.
    #[error("the clock is wrong")]
    Clock,
}

impl KeyRing {
    /// The keys of this node, signed, as other servers ask for them (`GET /_matrix/key/v2/server`).
    ///
    /// # Errors
    ///
    /// When they cannot be signed, which is a fault of ours.
    pub fn published(&self) -> Result<CanonicalJsonObject, String> {
        let own = &self.0.parts.own;
        let past = self.0.past.read().unwrap_or_else(PoisonError::into_inner).clone();
        let past: Map<_, _> = past
            .into_iter()
            .map(|key| (key.key_id, json!({ "key": STANDARD_NO_PAD.encode(key.public), "expired_ts": key.expired_ms })))
            .collect();
        let keys = json!({
            "server_name": self.0.parts.name,
            "verify_keys": { own.id(): { "key": STANDARD_NO_PAD.encode(own.public_key()) } },
            "old_verify_keys": past,
            "valid_until_ts": self.now_ms() + PUBLISHED_VALIDITY_MS,
        });
        let mut object = serde_json::from_value(keys).map_err(|error| error.to_string())?;
        own.sign_json(self.0.parts.name.as_str(), &mut object)?;
        Ok(object)
    }

    pub(super) fn own_key(&self, want: &Want) -> Option<Vec<u8>> {
        if self.0.parts.own.id() == want.key_id {
            return Some(self.0.parts.own.public_key().to_vec());
        }
        let past = self.0.past.read().unwrap_or_else(PoisonError::into_inner);
        let key = past.iter().find(|key| key.key_id == want.key_id)?;
        let counts = match want.purpose {
            Purpose::Request => false,
            Purpose::OldEvent => true,
            Purpose::Event(sent_ms) => i64::try_from(sent_ms).is_ok_and(|sent_ms| sent_ms <= key.expired_ms),
        };
        counts.then(|| key.public.clone())
    }

    /// Makes a new signing key, which signs everything from now on. The old one is published as past. Its ID.
    ///
    /// # Errors
    ///
    /// [`RotationError`]; the old key stays then.
    pub async fn rotate(&self) -> Result<String, RotationError> {
        let own = &self.0.parts.own;
        let now_ms = i64::try_from(self.now_ms()).map_err(|_| RotationError::Clock)?;
        let retired = server_keys::PastKey { key_id: own.id(), public: own.public_key().to_vec(), expired_ms: now_ms };
        // First the note that the old key is past, then the new key: should we be cut off in between, the old one is found in
        // use at the next start and the note is taken back.
        let noted = retired.clone();
        self.0.parts.store.write(move |tx| server_keys::retire(tx, &noted)).await?;
        let (key, randomness) = (std::sync::Arc::clone(own), std::sync::Arc::clone(&self.0.parts.randomness));
        let written = tokio::task::spawn_blocking(move || key.replace(randomness.as_ref())).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) {
            let key_id = retired.key_id;
            self.0.parts.store.write(move |tx| server_keys::reinstate(tx, &key_id)).await?;
            return Err(RotationError::File(error));
        }
        self.0.past.write().unwrap_or_else(PoisonError::into_inner).insert(0, retired);
        let id = own.id();
        tracing::info!(key_id = id, "a new signing key is in use");
        Ok(id)
    }
}
