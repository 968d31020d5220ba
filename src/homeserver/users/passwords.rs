//! Password hashing: argon2id, off the runtime, few at a time.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{Output, Salt, SaltString},
};
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

/// Room that is asked for, at least. The C library gives blocks of 32 MiB and more back to the system as soon as they are
/// freed, and keeps smaller ones for every thread that ever hashed; what is not written to costs nothing.
const WHOLE_BYTES: usize = 33 << 20;

/// Second recommended option of RFC 9106 scaled to what OWASP asks of a login: 19 MiB, two passes.
fn params() -> Result<Params, HashError> {
    Params::new(19 * 1024, 2, 1, None).map_err(HashError::new)
}

/// argon2id of a password.
fn digest(password: &[u8], salt: &[u8], params: Params, length: usize) -> Result<Output, HashError> {
    let blocks = params.block_count();
    let mut memory = Vec::with_capacity(blocks.max(WHOLE_BYTES / Block::SIZE));
    memory.resize(blocks, Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Output::init_with(length, |out| Ok(argon2.hash_password_into_with_memory(password, salt, out, &mut memory)?)).map_err(HashError::new)
}

/// True when the hash, in its text form, is of this password.
fn fits(password: &[u8], text: &str) -> Result<bool, HashError> {
    let parsed = PasswordHash::new(text).map_err(HashError::new)?;
    let (Some(salt), Some(wanted)) = (parsed.salt, parsed.hash) else { return Err(HashError::new("the hash is incomplete")) };
    if parsed.algorithm != Algorithm::Argon2id.ident() {
        return Err(HashError::new("the hash is of another kind"));
    }
    let mut bytes = [0_u8; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut bytes).map_err(HashError::new)?;
    let params = Params::try_from(&parsed).map_err(HashError::new)?;
    // Compares in constant time.
    Ok(digest(password, salt, params, wanted.len())? == wanted)
}

impl Passwords {
    /// Hashes a new password to a PHC string.
    pub(super) async fn hash(&self, password: &str, randomness: &dyn Randomness) -> Result<String, HashError> {
        let mut salt = [0_u8; 16];
        randomness.fill(&mut salt);
        let password = Zeroizing::new(password.to_owned());
        self.off_the_runtime(move || {
            let hash = digest(password.as_bytes(), &salt, params()?, Params::DEFAULT_OUTPUT_LEN)?;
            let salt = SaltString::encode_b64(&salt).map_err(HashError::new)?;
            let whole = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: (&params()?).try_into().map_err(HashError::new)?,
                salt: Some(salt.as_salt()),
                hash: Some(hash),
            };
            Ok(whole.to_string())
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
            Ok(fits(password.as_bytes(), text)? && known)
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

    #[test]
    fn hashes_are_what_others_make_of_the_same_input() -> Result<(), HashError> {
        use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
        let reference = Argon2::new(Algorithm::Argon2id, Version::V0x13, params()?);
        let salt = SaltString::encode_b64(b"sixteen bytes ok").map_err(HashError::new)?;
        let theirs = reference.hash_password(b"correct horse", &salt).map_err(HashError::new)?.to_string();
        assert!(fits(b"correct horse", &theirs)?);
        assert!(!fits(b"battery staple", &theirs)?);
        let ours = digest(b"correct horse", b"sixteen bytes ok", params()?, 32)?;
        let parsed = PasswordHash::new(&theirs).map_err(HashError::new)?;
        assert_eq!(parsed.hash, Some(ours));
        assert!(reference.verify_password(b"correct horse", &parsed).is_ok());
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
