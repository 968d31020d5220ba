//! Device codes: a user signs a device in from a browser on another one (RFC 8628).
//!
//! In memory: after a restart a device asks for a new code.

use std::sync::Arc;

use super::{OAuthError, Scope};
use crate::{
    base::{Clock, Randomness},
    homeserver::{
        store::tokens::TokenHash,
        types::UserNid,
        users::{expiring::Expiring, tokens},
    },
};

/// How long a user has.
pub const LIFETIME_MS: u64 = 15 * 60 * 1000;
/// How long a device waits between two questions.
pub const INTERVAL_MS: u64 = 5_000;
/// What it is let off, because clocks and networks are not exact.
const SLACK_MS: u64 = 1_000;
/// Codes at one time.
const CODES: usize = 256;
/// Letters of a user code (RFC 8628, 6.1): no vowels, so no words. 34 bits for eight of them.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// What a device asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The client.
    pub client_id: String,
    /// The scope.
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy)]
enum Decision {
    Pending,
    Allowed(UserNid),
    Denied,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    decision: Decision,
    interval_ms: u64,
    polled_ms: Option<u64>,
}

/// What a device is given to show and to ask with.
#[derive(Debug, Clone)]
pub struct NewCodes {
    /// The device's own secret.
    pub device_code: String,
    /// What the user types.
    pub user_code: String,
}

/// The codes that wait.
#[derive(Debug)]
pub struct DeviceCodes {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    waiting: Expiring<TokenHash, Waiting>,
    by_user_code: Expiring<String, TokenHash>,
}

/// A user code in the form in which it is kept: nobody has to type the dash or the right case.
fn plain(user_code: &str) -> String {
    user_code.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>().to_ascii_uppercase()
}

impl DeviceCodes {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self {
            waiting: Expiring::new(Arc::clone(&clock), CODES, LIFETIME_MS),
            by_user_code: Expiring::new(Arc::clone(&clock), CODES, LIFETIME_MS),
            clock,
            randomness,
        }
    }

    fn user_code(&self) -> String {
        let mut code = String::new();
        while code.len() < 8 {
            let mut bytes = [0_u8; 16];
            self.randomness.fill(&mut bytes);
            // 240 is the largest multiple of 20 below 256.
            let letters = bytes.iter().filter(|byte| **byte < 240).filter_map(|byte| ALPHABET.get(usize::from(byte % 20)));
            code.extend(letters.take(8 - code.len()).map(|letter| char::from(*letter)));
        }
        code
    }

    /// Starts waiting for a user.
    ///
    /// # Errors
    ///
    /// [`OAuthError::Full`].
    pub fn start(&self, asked: Asked) -> Result<NewCodes, OAuthError> {
        let device_code = self.randomness.alphanumeric(43);
        let hash = tokens::hash(&device_code);
        let user_code = self.user_code();
        if self.by_user_code.look(&user_code, |_, _| ()).is_some() {
            return Err(OAuthError::Full);
        }
        let waiting = Waiting { asked, decision: Decision::Pending, interval_ms: INTERVAL_MS, polled_ms: None };
        if !self.waiting.try_put(hash, waiting) || !self.by_user_code.try_put(user_code.clone(), hash) {
            self.waiting.take(&hash);
            return Err(OAuthError::Full);
        }
        let shown = user_code.split_at_checked(4).map_or_else(|| user_code.clone(), |(a, b)| format!("{a}-{b}"));
        Ok(NewCodes { device_code, user_code: shown })
    }

    /// What the device with this user code asks for, if nobody has decided about it.
    #[must_use]
    pub fn asked(&self, user_code: &str) -> Option<Asked> {
        let hash = self.by_user_code.look(&plain(user_code), |hash, _| *hash)?;
        self.waiting.look(&hash, |waiting, _| waiting.asked.clone())
    }

    /// Decides: `Some` user allows it, `None` refuses. False when there is nothing (any more) to decide. A user code is good once.
    pub fn decide(&self, user_code: &str, user: Option<UserNid>) -> bool {
        let Some(hash) = self.by_user_code.take(&plain(user_code)) else { return false };
        let decision = user.map_or(Decision::Denied, Decision::Allowed);
        self.waiting.look(&hash, |waiting, _| waiting.decision = decision).is_some()
    }

    /// Ends what a user has allowed and no device has fetched yet: it was allowed with a password that is no longer good.
    pub fn forget(&self, user: UserNid) {
        self.waiting.retain(|waiting| !matches!(waiting.decision, Decision::Allowed(by) if by == user));
    }

    /// The device asks. Once it has its answer the code is used up.
    ///
    /// # Errors
    ///
    /// [`OAuthError::AuthorizationPending`], [`OAuthError::SlowDown`], [`OAuthError::AccessDenied`],
    /// [`OAuthError::ExpiredToken`], and [`OAuthError::InvalidGrant`] for another client's code.
    pub fn poll(&self, device_code: &str, client_id: &str) -> Result<(UserNid, Asked), OAuthError> {
        let (hash, now_ms) = (tokens::hash(device_code), self.clock.now_ms());
        let decision = self.waiting.look(&hash, |waiting, _| {
            if waiting.asked.client_id != client_id {
                return Err(OAuthError::InvalidGrant("the device code was given to another client"));
            }
            let too_soon = waiting.polled_ms.is_some_and(|polled_ms| now_ms < polled_ms + waiting.interval_ms - SLACK_MS);
            waiting.polled_ms = Some(now_ms);
            if too_soon {
                // RFC 8628, 3.5: the interval is five seconds longer from now on.
                waiting.interval_ms = (waiting.interval_ms + 5_000).min(60_000);
                return Err(OAuthError::SlowDown);
            }
            Ok(waiting.decision)
        });
        match decision.ok_or(OAuthError::ExpiredToken)?? {
            Decision::Pending => Err(OAuthError::AuthorizationPending),
            Decision::Denied => {
                self.waiting.take(&hash);
                Err(OAuthError::AccessDenied)
            }
            // Taken out first: of two questions at once only one is answered.
            Decision::Allowed(user) => self.waiting.take(&hash).map(|waiting| (user, waiting.asked)).ok_or(OAuthError::ExpiredToken),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

    use super::*;
    use crate::base::{ManualClock, random::SeededRandomness};

    fn codes() -> (DeviceCodes, ManualClock) {
        let clock = ManualClock::at(1_000_000);
        (DeviceCodes::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(1))), clock)
    }

    fn asked() -> Asked {
        Asked { client_id: "c".into(), scope: Scope::parse("urn:matrix:client:api:* urn:matrix:client:device:D").unwrap() }
    }

    #[test]
    fn a_device_waits_until_its_user_has_decided_and_is_answered_once() {
        let (codes, clock) = codes();
        let new = codes.start(asked()).unwrap();
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::AuthorizationPending)));
        clock.advance(INTERVAL_MS);
        assert!(codes.decide(&new.user_code.to_ascii_lowercase().replace('-', " "), Some(UserNid(7))));
        assert!(!codes.decide(&new.user_code, None), "a user code is good once");
        assert!(codes.asked(&new.user_code).is_none());
        assert_eq!(codes.poll(&new.device_code, "c").unwrap().0, UserNid(7));
        clock.advance(INTERVAL_MS);
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::ExpiredToken)));
    }

    #[test]
    fn asking_too_often_slows_down_and_another_client_gets_nothing() {
        let (codes, clock) = codes();
        let new = codes.start(asked()).unwrap();
        assert!(matches!(codes.poll(&new.device_code, "other"), Err(OAuthError::InvalidGrant(_))));
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::AuthorizationPending)));
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::SlowDown)));
        clock.advance(INTERVAL_MS);
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::SlowDown)), "the interval has grown");
        clock.advance(20_000);
        assert!(matches!(codes.poll(&new.device_code, "c"), Err(OAuthError::AuthorizationPending)));
    }

    #[test]
    fn a_refusal_is_told_and_a_code_expires() {
        let (codes, clock) = codes();
        let (refused, late) = (codes.start(asked()).unwrap(), codes.start(asked()).unwrap());
        assert!(codes.decide(&refused.user_code, None));
        assert!(matches!(codes.poll(&refused.device_code, "c"), Err(OAuthError::AccessDenied)));
        clock.advance(LIFETIME_MS);
        assert!(!codes.decide(&late.user_code, Some(UserNid(1))));
        assert!(matches!(codes.poll(&late.device_code, "c"), Err(OAuthError::ExpiredToken)));
    }

    #[test]
    fn what_a_user_has_allowed_can_be_ended_before_it_is_fetched() {
        let (codes, _) = codes();
        let (anns, bens) = (codes.start(asked()).unwrap(), codes.start(asked()).unwrap());
        assert!(codes.decide(&anns.user_code, Some(UserNid(1))) && codes.decide(&bens.user_code, Some(UserNid(2))));
        codes.forget(UserNid(1));
        assert!(matches!(codes.poll(&anns.device_code, "c"), Err(OAuthError::ExpiredToken)));
        assert_eq!(codes.poll(&bens.device_code, "c").unwrap().0, UserNid(2));
    }

    #[test]
    fn strangers_cannot_push_out_each_others_codes() {
        let (codes, _) = codes();
        let first = codes.start(asked()).unwrap();
        for _ in 1..CODES {
            codes.start(asked()).unwrap();
        }
        assert!(matches!(codes.start(asked()), Err(OAuthError::Full)));
        assert!(codes.asked(&first.user_code).is_some());
    }
}
