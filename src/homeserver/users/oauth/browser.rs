//! Browsers on the account pages: who has signed in there, and which forms are ours.
//!
//! A form carries a mark made from the browser's cookie and a key that only this process has: another site can make a browser
//! send a form, but knows neither.

use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use ruma::OwnedUserId;
use sha2::Sha256;

use crate::{
    base::{Clock, Randomness},
    homeserver::{
        store::tokens::TokenHash,
        types::UserNid,
        users::{expiring::Expiring, tokens},
    },
};

/// How long a browser stays signed in to the account pages.
pub const LIFETIME_MS: u64 = 60 * 60 * 1000;
/// Browsers signed in at one time.
const BROWSERS: usize = 256;
/// Characters of a cookie.
const COOKIE_CHARS: usize = 32;

/// How long a provider's word is good for the page that it was asked for.
const PROOF_LIFETIME_MS: u64 = 5 * 60 * 1000;
/// Such words at one time.
const PROOFS: usize = 256;

/// A provider's word for who sits in front of a browser, for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Who.
    pub user: UserNid,
    /// Their user ID.
    pub user_id: OwnedUserId,
    /// The provider's name for people.
    pub provider: String,
    /// It has asked anew who they are: good enough to confirm something.
    pub fresh: bool,
}

/// The browsers of a node.
#[derive(Debug)]
pub struct Browsers {
    randomness: Arc<dyn Randomness>,
    key: Key,
    signed_in: Expiring<TokenHash, UserNid>,
    proofs: Expiring<TokenHash, Proof>,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Browsers {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        let mut key = [0; 32];
        randomness.fill(&mut key);
        let proofs = Expiring::new(Arc::clone(&clock), PROOFS, PROOF_LIFETIME_MS);
        Self { randomness, key: Key(key), signed_in: Expiring::new(clock, BROWSERS, LIFETIME_MS), proofs }
    }

    /// A cookie for a browser that has none.
    #[must_use]
    pub fn new_cookie(&self) -> String {
        self.randomness.alphanumeric(COOKIE_CHARS)
    }

    /// True for text that can be a cookie of ours.
    #[must_use]
    pub fn is_cookie(text: &str) -> bool {
        text.len() == COOKIE_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    fn mac(&self, cookie: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("HMAC takes keys of any length");
        mac.update(cookie.as_bytes());
        mac
    }

    /// The mark of this browser's forms.
    #[must_use]
    pub fn mark(&self, cookie: &str) -> String {
        self.mac(cookie).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// True when a form with this mark is one that this browser was given. Takes the same time for every mark.
    #[must_use]
    pub fn is_marked(&self, cookie: &str, mark: &str) -> bool {
        let pairs = mark.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        pairs.collect::<Option<Vec<u8>>>().is_some_and(|bytes| self.mac(cookie).verify_slice(&bytes).is_ok())
    }

    /// Signs a browser in under a new cookie: one that somebody may have planted is good for nothing.
    #[must_use]
    pub fn sign_in(&self, user: UserNid) -> String {
        let cookie = self.new_cookie();
        self.signed_in.put(tokens::hash(&cookie), user);
        cookie
    }

    /// Gives a browser another cookie, and what it had under the old one: a word that is given from now on is not for whoever may
    /// have planted that.
    #[must_use]
    pub fn renew(&self, cookie: &str) -> String {
        self.signed_in.take(&tokens::hash(cookie)).map_or_else(|| self.new_cookie(), |user| self.sign_in(user))
    }

    /// Who has signed in with this browser.
    #[must_use]
    pub fn user(&self, cookie: &str) -> Option<UserNid> {
        self.signed_in.look(&tokens::hash(cookie), |user, _| *user)
    }

    /// Signs a browser out.
    pub fn sign_out(&self, cookie: &str) {
        self.signed_in.take(&tokens::hash(cookie));
    }

    /// Signs a user's browsers out.
    pub fn forget(&self, user: UserNid) {
        self.signed_in.retain(|of| *of != user);
        self.proofs.retain(|of| of.user != user);
    }

    /// Notes a provider's word, for this browser and this page (path and query) only.
    pub fn prove(&self, cookie: &str, here: &str, proof: Proof) {
        self.proofs.put(place(cookie, here), proof);
    }

    /// The word that there is for this page.
    #[must_use]
    pub fn proof(&self, cookie: &str, here: &str) -> Option<Proof> {
        self.proofs.look(&place(cookie, here), |proof, _| proof.clone())
    }

    /// The same; it is used up.
    #[must_use]
    pub fn take_proof(&self, cookie: &str, here: &str) -> Option<Proof> {
        self.proofs.take(&place(cookie, here))
    }
}

/// A page in a browser. No cookie has a line break in it.
fn place(cookie: &str, here: &str) -> TokenHash {
    tokens::hash(&format!("{cookie}\n{here}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ManualClock, random::SeededRandomness};

    #[test]
    fn a_mark_is_good_for_its_browser_and_process_only() {
        let clock = ManualClock::at(1);
        let of = |seed| Browsers::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(seed)));
        let (ours, other) = (of(1), of(2));
        let cookie = ours.new_cookie();
        let mark = ours.mark(&cookie);
        assert!(ours.is_marked(&cookie, &mark));
        assert!(!ours.is_marked(&ours.new_cookie(), &mark));
        assert!(!other.is_marked(&cookie, &mark));
        for wrong in ["", "0", "zz", &mark[2..], &format!("{mark}00")] {
            assert!(!ours.is_marked(&cookie, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_providers_word_is_good_for_one_page_in_one_browser_and_for_minutes() {
        let clock = ManualClock::at(1);
        let browsers = Browsers::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(1)));
        let proof = Proof { user: UserNid(1), user_id: ruma::owned_user_id!("@ann:home.test"), provider: "Work".into(), fresh: true };
        browsers.prove("cookie", "/here?a=b", proof.clone());
        assert_eq!(browsers.proof("cookie", "/here?a=b"), Some(proof.clone()));
        assert_eq!((browsers.proof("cookie", "/here?a=c"), browsers.proof("other", "/here?a=b")), (None, None));
        assert_eq!(browsers.take_proof("cookie", "/here?a=b"), Some(proof.clone()));
        assert_eq!(browsers.proof("cookie", "/here?a=b"), None);
        browsers.prove("cookie", "/", proof.clone());
        browsers.forget(UserNid(1));
        assert_eq!(browsers.proof("cookie", "/"), None);
        browsers.prove("cookie", "/", proof);
        clock.advance(PROOF_LIFETIME_MS);
        assert_eq!(browsers.proof("cookie", "/"), None);
    }

    #[test]
    fn signing_in_changes_the_cookie_and_ends_after_an_hour() {
        let clock = ManualClock::at(1);
        let browsers = Browsers::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(1)));
        let planted = browsers.new_cookie();
        let cookie = browsers.sign_in(UserNid(1));
        assert_eq!((browsers.user(&planted), browsers.user(&cookie)), (None, Some(UserNid(1))));
        clock.advance(LIFETIME_MS);
        assert_eq!(browsers.user(&cookie), None);
        let cookie = browsers.renew(&browsers.sign_in(UserNid(1)));
        assert_eq!(browsers.user(&cookie), Some(UserNid(1)));
        assert_ne!(browsers.renew("planted"), "planted");
        browsers.forget(UserNid(1));
        assert_eq!(browsers.user(&cookie), None);
    }
}
