//! A sign-in that is under way, without a place on the server: strangers can begin as many as they like.
//!
//! What belongs to it is in a cookie of the browser that began it, and the `state` vouches for that. The nonce and the PKCE verifier
//! follow from the state and a key that only this process has.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::LIFETIME_MS;
use crate::{
    base::{Clock, Randomness, Secret},
    homeserver::{
        store::tokens::TokenHash,
        users::{expiring::Expiring, tokens},
    },
};

/// Longest page of ours that somebody is taken back to. With it, the cookie fits into the 4,096 bytes that browsers keep.
pub const HERE_BYTES: usize = 2800;
/// Characters of a sign-in's ID.
const ID_CHARS: usize = 32;
/// Characters of the ID that name the cookie.
const NAME_CHARS: usize = 8;
/// States that have come back and are remembered. A forgotten one could come a second time only from a browser that has kept a
/// cookie which we told it to drop, and with a code that the provider takes once.
const SPENT: usize = 4096;

/// Where somebody is going, and from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trip<'a> {
    /// The provider's ID.
    pub(super) provider: &'a str,
    /// Where the provider sends the browser back to.
    pub(super) redirect_uri: &'a str,
    /// The browser's cookie.
    pub(super) cookie: &'a str,
    /// The page of ours that they came from: path and query.
    pub(super) here: &'a str,
    /// The provider has to ask anew who they are.
    pub(super) fresh: bool,
}

/// A cookie that a browser keeps while it is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What tells it from those of other sign-ins; a part of its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a sign-in has from its beginning.
pub(super) struct Begun {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: Secret,
    pub(super) ticket: Ticket,
}

/// What a ticket says. Believed only together with the state.
pub(super) struct Stub {
    pub(super) here: String,
    pub(super) fresh: bool,
    expires_ms: u64,
}

/// What a state that has come back stands for.
pub(super) struct Back {
    pub(super) nonce: String,
    pub(super) verifier: Secret,
    /// When it began, in milliseconds since 1970.
    pub(super) since_ms: u64,
}

/// Why a state is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTrip {
    /// Unknown, used or too old.
    Expired,
    /// Begun in another browser.
    OtherBrowser,
}

/// Makes and checks them.
pub(super) struct Trips {
    key: [u8; 32],
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    spent: Expiring<TokenHash, ()>,
}

impl std::fmt::Debug for Trips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trips")
    }
}

/// The name of the ticket that belongs to a state.
#[must_use]
pub fn ticket_name(state: &str) -> Option<&str> {
    state.get(..NAME_CHARS).filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl Stub {
    /// Reads a ticket's value.
    pub(super) fn read(value: &str) -> Option<Self> {
        let (expires_ms, rest) = value.split_once('.')?;
        let (fresh, here) = rest.split_once('.')?;
        let here = URL_SAFE_NO_PAD.decode(here).ok().filter(|here| here.len() <= HERE_BYTES)?;
        Some(Self { here: String::from_utf8(here).ok()?, fresh: fresh == "1", expires_ms: expires_ms.parse().ok()? })
    }
}

/// When a ticket ends, in milliseconds since 1970; `None` for what is no ticket.
#[must_use]
pub fn ticket_expires_ms(value: &str) -> Option<u64> {
    value.split_once('.')?.0.parse().ok()
}

impl Trips {
    pub(super) fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        let mut key = [0; 32];
        randomness.fill(&mut key);
        Self { key, spent: Expiring::new(Arc::clone(&clock), SPENT, LIFETIME_MS), clock, randomness }
    }

    /// A value of one kind that nobody else can make. No part can run into the next.
    fn mac(&self, kind: &str, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [kind].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    fn derived(&self, kind: &str, id: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(kind, &[id]).finalize().into_bytes())
    }

    fn seal(&self, id: &str, expires_ms: u64, trip: Trip<'_>) -> Hmac<Sha256> {
        let (expires, fresh) = (expires_ms.to_string(), if trip.fresh { "1" } else { "0" });
        self.mac("state", &[id, &expires, trip.provider, trip.redirect_uri, trip.cookie, trip.here, fresh])
    }

    /// Begins one.
    pub(super) fn begin(&self, trip: Trip<'_>) -> Begun {
        let id = self.randomness.alphanumeric(ID_CHARS);
        let expires_ms = self.clock.now_ms() + LIFETIME_MS;
        let seal = URL_SAFE_NO_PAD.encode(self.seal(&id, expires_ms, trip).finalize().into_bytes());
        let value = format!("{expires_ms}.{}.{}", u8::from(trip.fresh), URL_SAFE_NO_PAD.encode(trip.here));
        Begun {
            ticket: Ticket { name: ticket_name(&id).unwrap_or_default().to_owned(), value },
            nonce: self.derived("nonce", &id),
            verifier: Secret::new(self.derived("verifier", &id)),
            state: format!("{id}{seal}"),
        }
    }

    /// Ends one. Whoever shows a state uses it up.
    pub(super) fn end(&self, state: &str, stub: Option<&Stub>, trip: Trip<'_>) -> Result<Back, NoTrip> {
        let (id, seal) = state.split_at_checked(ID_CHARS).ok_or(NoTrip::Expired)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok().filter(|seal| seal.len() == 32).ok_or(NoTrip::Expired)?;
        if !self.spent.put_new(tokens::hash(state), ()) {
            return Err(NoTrip::Expired);
        }
        // Otherwise somebody could be signed in, in their own browser, as somebody else.
        let stub = stub.ok_or(NoTrip::OtherBrowser)?;
        self.seal(id, stub.expires_ms, trip).verify_slice(&seal).map_err(|_| NoTrip::OtherBrowser)?;
        if stub.expires_ms <= self.clock.now_ms() {
            return Err(NoTrip::Expired);
        }
        let since_ms = stub.expires_ms.saturating_sub(LIFETIME_MS);
        Ok(Back { nonce: self.derived("nonce", id), verifier: Secret::new(self.derived("verifier", id)), since_ms })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;
    use crate::base::{ManualClock, random::SeededRandomness};

    const TRIP: Trip<'_> = Trip { provider: "work", redirect_uri: "https://a.test/cb/work", cookie: "c", here: "/here?a=b", fresh: false };

    fn trips(seed: u64, clock: &ManualClock) -> Trips {
        Trips::new(Arc::new(clock.clone()), Arc::new(SeededRandomness::new(seed)))
    }

    #[test]
    fn a_trip_ends_where_it_began_and_once() {
        let clock = ManualClock::at(7);
        let trips = trips(1, &clock);
        let begun = trips.begin(TRIP);
        assert!((43..=128).contains(&begun.verifier.expose().len()), "RFC 7636, 4.1");
        assert_eq!(ticket_name(&begun.state), Some(begun.ticket.name.as_str()));
        assert_eq!(ticket_expires_ms(&begun.ticket.value), Some(7 + LIFETIME_MS));
        let stub = Stub::read(&begun.ticket.value).unwrap();
        assert_eq!((stub.here.as_str(), stub.fresh), (TRIP.here, false));
        let back = trips.end(&begun.state, Some(&stub), TRIP).unwrap();
        assert_eq!((&back.nonce, back.verifier.expose(), back.since_ms), (&begun.nonce, begun.verifier.expose(), 7));
        assert_eq!(trips.end(&begun.state, Some(&stub), TRIP).err(), Some(NoTrip::Expired));
        let other = trips.begin(TRIP);
        assert!(other.nonce != begun.nonce && other.verifier.expose() != begun.verifier.expose() && other.ticket.name != begun.ticket.name);
    }

    #[test]
    fn nothing_about_a_trip_can_be_changed_on_the_way() {
        let clock = ManualClock::at(7);
        let trips = trips(1, &clock);
        for (what, changed) in [
            ("provider", Trip { provider: "play", ..TRIP }),
            ("redirect URI", Trip { redirect_uri: "https://a.test/cb/play", ..TRIP }),
            ("browser", Trip { cookie: "d", ..TRIP }),
            ("page", Trip { here: "/here?a=c", ..TRIP }),
            ("kind", Trip { fresh: true, ..TRIP }),
        ] {
            let begun = trips.begin(TRIP);
            let stub = Stub::read(&begun.ticket.value).unwrap();
            assert_eq!(trips.end(&begun.state, Some(&stub), changed).err(), Some(NoTrip::OtherBrowser), "{what}");
        }
        let (one, two) = (trips.begin(TRIP), trips.begin(TRIP));
        let (_, seal) = two.state.split_at(ID_CHARS);
        let mixed = format!("{}{seal}", one.state.get(..ID_CHARS).unwrap());
        let stub = Stub::read(&one.ticket.value).unwrap();
        assert_eq!(trips.end(&mixed, Some(&stub), TRIP).err(), Some(NoTrip::OtherBrowser));
        // A longer life.
        let longer = Stub { expires_ms: stub.expires_ms + 1, ..Stub::read(&one.ticket.value).unwrap() };
        assert_eq!(trips.end(&one.state, Some(&longer), TRIP).err(), Some(NoTrip::OtherBrowser));
        // Another process.
        let begun = trips.begin(TRIP);
        let stub = Stub::read(&begun.ticket.value).unwrap();
        let restarted = Trips::new(Arc::new(clock), Arc::new(SeededRandomness::new(2)));
        assert_eq!(restarted.end(&begun.state, Some(&stub), TRIP).err(), Some(NoTrip::OtherBrowser));
    }

    #[test]
    fn a_trip_takes_minutes_and_what_is_no_state_is_none() {
        let clock = ManualClock::at(7);
        let trips = trips(1, &clock);
        let begun = trips.begin(TRIP);
        let stub = Stub::read(&begun.ticket.value).unwrap();
        clock.advance(LIFETIME_MS);
        assert_eq!(trips.end(&begun.state, Some(&stub), TRIP).err(), Some(NoTrip::Expired));
        for wrong in ["", "x", &"x".repeat(ID_CHARS), &"é".repeat(ID_CHARS), &"x".repeat(10_000)] {
            assert_eq!(trips.end(wrong, None, TRIP).err(), Some(NoTrip::Expired), "{wrong}");
        }
        for wrong in
            ["", ".", "..", "1.0", "x.0.aGVyZQ", "1.0.=", "1.0._w", &format!("1.0.{}", URL_SAFE_NO_PAD.encode("x".repeat(HERE_BYTES + 1)))]
        {
            assert!(Stub::read(wrong).is_none(), "{wrong}");
        }
    }
}
