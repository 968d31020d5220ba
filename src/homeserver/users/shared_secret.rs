//! Registration by whoever knows a secret of the owner's, as Synapse's `/_synapse/admin/v1/register` has it: scripts and bridges
//! that set up accounts know that form.

use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use super::expiring::Expiring;
use crate::base::{Clock, Randomness, Secret};

/// How long a nonce is good.
const LIFETIME_MS: u64 = 60 * 1000;
/// Nonces at one time.
const NONCES: usize = 256;

/// What a request says, as far as it is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// A nonce of ours, used once.
    pub nonce: &'a str,
    /// Localpart.
    pub username: &'a str,
    /// Password.
    pub password: &'a str,
    /// Shall the account be an administrator's?
    pub admin: bool,
    /// A kind of user, where one was named.
    pub user_type: Option<&'a str>,
}

/// The secret and the nonces that are out.
#[derive(Debug)]
pub struct SharedSecret {
    secret: Secret,
    randomness: Arc<dyn Randomness>,
    nonces: Expiring<String, ()>,
}

impl SharedSecret {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(secret: Secret, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { secret, randomness, nonces: Expiring::new(clock, NONCES, LIFETIME_MS) }
    }

    /// A nonce for one request. `None` when too many are out.
    #[must_use]
    pub fn nonce(&self) -> Option<String> {
        let nonce = self.randomness.alphanumeric(40);
        self.nonces.try_put(nonce.clone(), ()).then_some(nonce)
    }

    /// Uses up a nonce. False for one that is not ours, or not any more.
    #[must_use]
    pub fn use_nonce(&self, nonce: &str) -> bool {
        self.nonces.take(&nonce.to_owned()).is_some()
    }

    /// True when whoever made this MAC knows the secret: HMAC-SHA1 in hex over the fields with NUL between them.
    #[must_use]
    pub fn is_authentic(&self, claim: &Claim<'_>, mac: &str) -> bool {
        let fields = [claim.nonce, claim.username, claim.password, if claim.admin { "admin" } else { "notadmin" }];
        // With a NUL inside a field, one MAC would stand for several requests.
        if fields.iter().chain(&claim.user_type).any(|field| field.contains('\0')) {
            return false;
        }
        let mut wanted = Hmac::<Sha1>::new_from_slice(self.secret.expose().as_bytes()).expect("HMAC takes keys of any length");
        wanted.update(fields.join("\0").as_bytes());
        if let Some(user_type) = claim.user_type {
            wanted.update(b"\0");
            wanted.update(user_type.as_bytes());
        }
        let pairs = mac.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        pairs.collect::<Option<Vec<u8>>>().is_some_and(|bytes| wanted.verify_slice(&bytes).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ManualClock, random::SeededRandomness};

    fn shared() -> (SharedSecret, ManualClock) {
        let clock = ManualClock::at(1);
        let secret = Secret::new("s3cret".to_owned());
        (SharedSecret::new(secret, Arc::new(clock.clone()), Arc::new(SeededRandomness::new(1))), clock)
    }

    #[test]
    fn the_mac_covers_every_field() {
        let (shared, _) = shared();
        let claim = Claim { nonce: "abcd", username: "ann", password: "pw", admin: false, user_type: None };
        // printf 'abcd\0ann\0pw\0notadmin' | openssl sha1 -hmac s3cret
        let mac = "69c1c69c3c548e2dc20e812d39e525a85bb28c75";
        assert!(shared.is_authentic(&claim, mac));
        assert!(shared.is_authentic(&Claim { user_type: Some("bot"), ..claim }, "5ac59dea97e59129369d4af2b8f9d6f8de629020"));
        for other in [
            Claim { nonce: "abce", ..claim },
            Claim { username: "ben", ..claim },
            Claim { password: "pv", ..claim },
            Claim { admin: true, ..claim },
            Claim { user_type: Some("bot"), ..claim },
            Claim { username: "ann\0pw", password: "notadmin", ..claim },
        ] {
            assert!(!shared.is_authentic(&other, mac), "{other:?}");
        }
        assert!(!shared.is_authentic(&claim, "") && !shared.is_authentic(&claim, "zz"));
    }

    #[test]
    fn a_nonce_is_good_once_and_for_a_minute() {
        let (shared, clock) = shared();
        let (first, late) = (shared.nonce().unwrap_or_default(), shared.nonce().unwrap_or_default());
        assert!(shared.use_nonce(&first) && !shared.use_nonce(&first));
        clock.advance(LIFETIME_MS);
        assert!(!shared.use_nonce(&late) && !shared.use_nonce("made up"));
    }
}
