//! Signing in at an OpenID Connect provider of the owner's choice (Client-Server API, "Client login via SSO").
//!
//! The code flow with PKCE. What is under way is bound to the browser that began it, good once and for minutes, and takes no place
//! here: strangers cannot use up what others need.
//! Knows providers, tokens and accounts, and nothing of pages and requests.

mod accounts;
pub(in crate::homeserver) mod id_token;
pub mod provider;
mod trip;
mod upstream;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use url::Url;

pub use self::{
    accounts::Known,
    id_token::IdTokenError,
    provider::Provider,
    trip::{HERE_BYTES, Ticket, ticket_expires_ms, ticket_name},
};
use self::{
    trip::{NoTrip, Stub, Trip, Trips},
    upstream::{Redeem, Upstream},
};
use super::{expiring::Expiring, tokens};
use crate::{
    base::{Clock, Randomness, Secret},
    homeserver::{outbound::Outbound, store::tokens::TokenHash},
};

/// How long somebody may take at the provider, and then over the new account.
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// People who are about to make an account: each has one place, whom a provider knows.
const NEWCOMERS: usize = 256;
/// Longest display name that is taken over.
const NAME_BYTES: usize = 255;

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    /// There is no such provider.
    #[error("there is no such provider")]
    UnknownProvider,
    /// The page that somebody came from has too long an address.
    #[error("the app that sent you here asks for too much at once")]
    TooLong,
    /// The state is unknown, used or too old.
    #[error("this sign-in has been used, or has taken too long")]
    Expired,
    /// Another browser began it.
    #[error("this sign-in was begun in another browser")]
    OtherBrowser,
    /// The person or the provider said no, in the provider's word for it.
    #[error("the provider said: {0}")]
    Denied(String),
    /// Another provider answered (RFC 9207).
    #[error("another provider has answered")]
    OtherIssuer,
    /// The provider, or the way to it.
    #[error("the provider cannot be asked: {0}")]
    Unavailable(String),
    /// What the provider gave is not believed.
    #[error(transparent)]
    Token(#[from] IdTokenError),
    /// Too many at one time.
    #[error("too many people are signing in")]
    Busy,
}

/// Somebody whom a provider has vouched for.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The provider's ID.
    pub provider: String,
    /// The provider.
    pub issuer: String,
    /// Who, among those that it knows.
    pub subject: String,
    claims: Map<String, Value>,
    access_token: Option<Secret>,
}

/// Somebody who came back from a provider.
#[derive(Debug)]
pub struct Arrived {
    /// Who.
    pub identity: Identity,
    /// The page of ours that they came from: path and query.
    pub here: String,
    /// The provider has asked anew who they are, if it does that at all.
    pub fresh: bool,
}

/// Somebody who may make an account.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Who.
    pub identity: Identity,
    /// The page of ours that they came from.
    pub here: String,
    /// The name that the provider's claims give.
    pub localpart: Option<String>,
    cookie: TokenHash,
}

/// Somebody who wants to go to a provider.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The provider's ID.
    pub provider: &'a str,
    /// The browser's cookie.
    pub cookie: &'a str,
    /// The page of ours that they come from: path and query.
    pub here: &'a str,
    /// Where the provider sends the browser back to: a place for this provider alone (RFC 9700, 4.4.2.2).
    pub redirect_uri: &'a str,
    /// To confirm something: the provider has to ask anew who they are.
    pub fresh: bool,
}

/// What came back to the redirect URI.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// The provider that the redirect URI is for.
    pub provider: &'a str,
    /// The redirect URI.
    pub redirect_uri: &'a str,
    /// The value of the ticket that the browser has for this state.
    pub ticket: Option<&'a str>,
    /// `state`
    pub state: &'a str,
    /// `code`
    pub code: Option<&'a str>,
    /// `error`
    pub error: Option<&'a str>,
    /// `iss`
    pub issuer: Option<&'a str>,
}

/// The providers, and who is on the way to them.
#[derive(Debug)]
pub struct Sso {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    outbound: Outbound,
    upstreams: Vec<Upstream>,
    trips: Trips,
    newcomers: Expiring<TokenHash, Newcomer>,
}

impl Sso {
    /// Nobody is on the way yet.
    #[must_use]
    pub fn new(providers: Vec<Provider>, outbound: Outbound, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self {
            upstreams: providers.into_iter().map(Upstream::new).collect(),
            outbound,
            trips: Trips::new(Arc::clone(&clock), Arc::clone(&randomness)),
            newcomers: Expiring::new(Arc::clone(&clock), NEWCOMERS, LIFETIME_MS),
            clock,
            randomness,
        }
    }

    /// The providers, in the owner's order.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.upstreams.iter().map(|upstream| &upstream.provider)
    }

    /// A provider.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers().find(|provider| provider.id == id)
    }

    fn upstream(&self, id: &str) -> Result<&Upstream, SsoError> {
        self.upstreams.iter().find(|upstream| upstream.provider.id == id).ok_or(SsoError::UnknownProvider)
    }

    /// Sends a browser on its way: where it goes, and what it keeps meanwhile.
    ///
    /// # Errors
    ///
    /// [`SsoError`].
    pub async fn start(&self, start: Start<'_>) -> Result<(Url, Ticket), SsoError> {
        let Start { provider, cookie, here, redirect_uri, fresh } = start;
        let upstream = self.upstream(provider)?;
        if here.len() > HERE_BYTES {
            return Err(SsoError::TooLong);
        }
        let metadata = upstream.asking(upstream.metadata(&self.outbound, self.clock.now_ms())).await?;
        let begun = self.trips.begin(Trip { provider, redirect_uri, cookie, here, fresh });
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(begun.verifier.expose()));
        let scope = upstream.provider.scopes.join(" ");
        let mut url = metadata.authorization.clone();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", upstream.provider.client_id.as_str()),
            ("redirect_uri", redirect_uri),
            ("scope", scope.as_str()),
            ("state", begun.state.as_str()),
            ("nonce", begun.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        if fresh && upstream.provider.reauthenticates {
            // OpenID Connect Core 1.0, 3.1.2.1: whoever sits at somebody else's browser is not taken for them.
            url.query_pairs_mut().extend_pairs([("prompt", "login"), ("max_age", "0")]);
        }
        Ok((url, begun.ticket))
    }

    /// Ends the way of a browser that comes back: who its user is.
    ///
    /// # Errors
    ///
    /// [`SsoError`]; the state is used up in any case.
    pub async fn finish(&self, callback: Callback<'_>, cookie: Option<&str>) -> Result<Arrived, SsoError> {
        let Callback { provider, redirect_uri, .. } = callback;
        let stub = callback.ticket.and_then(Stub::read);
        let (here, fresh) = stub.as_ref().map_or(("", false), |stub| (stub.here.as_str(), stub.fresh));
        let trip = Trip { provider, redirect_uri, cookie: cookie.unwrap_or_default(), here, fresh };
        let back = self.trips.end(callback.state, stub.as_ref(), trip).map_err(|why| match why {
            NoTrip::Expired => SsoError::Expired,
            NoTrip::OtherBrowser => SsoError::OtherBrowser,
        })?;
        let upstream = self.upstream(provider)?;
        let now_ms = self.clock.now_ms();
        let redeemed = upstream.asking(async {
            let metadata = upstream.metadata(&self.outbound, now_ms).await?;
            if callback.issuer.map_or(metadata.names_itself, |issuer| issuer != upstream.provider.issuer) {
                return Err(SsoError::OtherIssuer);
            }
            let code = match (callback.error, callback.code) {
                (None, Some(code)) => code,
                (error, _) => {
                    let shown = error.unwrap_or("nothing").chars().filter(|c| c.is_ascii_alphanumeric() || "_-. ".contains(*c)).take(64);
                    return Err(SsoError::Denied(shown.collect()));
                }
            };
            let since_ms = (fresh && upstream.provider.reauthenticates).then_some(back.since_ms);
            let redeem = Redeem { code, verifier: back.verifier.expose(), redirect_uri, nonce: &back.nonce, since_ms };
            upstream.redeem(&self.outbound, now_ms, redeem).await
        });
        let redeemed = redeemed.await?;
        let (subject, claims, access_token) = (redeemed.subject, redeemed.claims, redeemed.access_token);
        let identity = Identity { provider: provider.to_owned(), issuer: upstream.provider.issuer.clone(), subject, claims, access_token };
        Ok(Arrived { identity, here: here.to_owned(), fresh })
    }

    /// The name that the claims give; those of the ID token first, then the rest.
    ///
    /// # Errors
    ///
    /// [`SsoError`].
    pub async fn localpart(&self, identity: &mut Identity) -> Result<Option<String>, SsoError> {
        let upstream = self.upstream(&identity.provider)?;
        if let (None, Some(token)) = (upstream.provider.localpart(&identity.claims), identity.access_token.take()) {
            let asked = upstream.userinfo(&self.outbound, self.clock.now_ms(), &identity.subject, &token);
            let more = upstream.asking(asked).await?;
            for (name, value) in more {
                identity.claims.entry(name).or_insert(value);
            }
        }
        Ok(upstream.provider.localpart(&identity.claims))
    }

    /// Remembers somebody who is asked whether they want an account. What they show then.
    ///
    /// Whoever comes again takes no second place: one person alone cannot push out the others.
    pub fn welcome(&self, mut identity: Identity, here: String, localpart: Option<String>, cookie: &str) -> String {
        // What is kept meanwhile is little.
        identity.claims.retain(|name, _| name == "name");
        identity.access_token = None;
        let key = self.randomness.alphanumeric(32);
        self.newcomers.retain(|other| (&other.identity.issuer, &other.identity.subject) != (&identity.issuer, &identity.subject));
        self.newcomers.put(tokens::hash(&key), Newcomer { identity, here, localpart, cookie: tokens::hash(cookie) });
        key
    }

    /// Somebody who is about to make an account, in this browser.
    #[must_use]
    pub fn newcomer(&self, key: &str, cookie: &str) -> Option<Newcomer> {
        self.newcomers.look(&tokens::hash(key), |newcomer, _| newcomer.clone()).filter(|newcomer| newcomer.cookie == tokens::hash(cookie))
    }

    /// The account is made.
    pub fn settled(&self, key: &str) {
        self.newcomers.take(&tokens::hash(key));
    }
}

impl Identity {
    /// The name under which the provider shows them.
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        let name = self.claims.get("name").and_then(Value::as_str).map(str::trim);
        name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES)
    }
}
