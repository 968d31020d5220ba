//! Password hashing: argon2id, off the runtime, few at a time.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version, password_hash::SaltString};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::base::Randomness;

/// Each takes 19 MiB and 20 to 50 ms while it runs.
const AT_ONE_TIME: usize = 2;
/// Longest password that is hashed at all.
pub(super) const PASSWORD_BYTES: usize = 1024;

/// A hash that no password has, of the same cost as real ones: an unknown user takes as long as a wrong password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCEh$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashing did not work: our fault or the machine's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("password hashing failed: {0}")]
pub struct HashError(String);

impl HashError {
    fn new(cause: impl std::fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// The password hasher.
#[derive(Debug, Clone)]
pub(super) struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONE_TIME)))
    }
}

/// Second recommended option of RFC 9106 scaled to what OWASP asks of a login: 19 MiB, two passes.
fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(HashError::new)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl Passwords {
    /// Hashes a new password to a PHC string.
    pub(super) async fn hash(&self, password: &str, randomness: &dyn Randomness) -> Result<String, HashError> {
        let mut salt = [0_u8; 16];
        randomness.fill(&mut salt);
        let password = Zeroizing::new(password.to_owned());
        self.off_the_runtime(move || {
            let salt = SaltString::encode_b64(&salt).map_err(HashError::new)?;
            Ok(argon2()?.hash_password(password.as_bytes(), &salt).map_err(HashError::new)?.to_string())
        })
        .await
    }

    /// True when the password is the one that was hashed. Takes the same time for `None`, and is false then.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, HashError> {
        // Nobody has set a longer one, so nothing is given away by being quick.
        if password.len() > PASSWORD_BYTES {
            return Ok(false);
        }
        let password = Zeroizing::new(password.to_owned());
        self.off_the_runtime(move || {
            let known = hash.is_some();
            let text = hash.as_deref().unwrap_or(NOBODY);
            let parsed = PasswordHash::new(text).map_err(HashError::new)?;
            let fits = argon2()?.verify_password(password.as_bytes(), &parsed).is_ok();
            Ok(fits && known)
        })
        .await
    }

    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(HashError::new)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(HashError::new)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandomness;

    #[tokio::test]
    async fn accepts_the_password_and_nothing_else() -> Result<(), HashError> {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse", &SystemRandomness).await?;
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse", Some(hash.clone())).await?);
        assert!(!passwords.verify("correct horse ", Some(hash)).await?);
        assert!(!passwords.verify("correct horse", None).await?);
        Ok(())
    }

    #[tokio::test]
    async fn an_unknown_user_costs_a_whole_hash() -> Result<(), HashError> {
        // Not timed: the stand-in has the same parameters as what `hash` makes, and it parses.
        let parsed = PasswordHash::new(NOBODY).map_err(HashError::new)?;
        let params = Params::try_from(&parsed).map_err(HashError::new)?;
        let own = Passwords::default().hash("x", &SystemRandomness).await?;
        let own = Params::try_from(&PasswordHash::new(&own).map_err(HashError::new)?).map_err(HashError::new)?;
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (own.m_cost(), own.t_cost(), own.p_cost()));
        assert!(parsed.hash.is_some() && parsed.salt.is_some());
        Ok(())
    }
}
