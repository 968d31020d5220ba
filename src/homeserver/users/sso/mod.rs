//! Signing in at an OpenID Connect provider of the owner's choice (Client-Server API, "Client login via SSO").
//!
//! The code flow with PKCE. What is under way is in memory, bound to the browser that began it, good once and for minutes.
//! Knows providers, tokens and accounts, and nothing of pages and requests.

mod accounts;
pub(in crate::homeserver) mod id_token;
pub mod provider;
mod upstream;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use url::Url;

use self::upstream::{Redeem, Upstream};
pub use self::{accounts::Known, id_token::IdTokenError, provider::Provider};
use super::{expiring::Expiring, tokens};
use crate::{
    base::{Clock, Randomness, Secret},
    homeserver::{outbound::Outbound, store::tokens::TokenHash},
};

/// How long somebody may take at the provider, and then over the new account.
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Sign-ins that are under way at one time.
const UNDER_WAY: usize = 1024;
/// People who are about to make an account.
const NEWCOMERS: usize = 256;
/// Sign-ins that ask providers something at one time.
const ASKING: usize = 16;
/// Longest display name that is taken over.
const NAME_BYTES: usize = 255;

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    /// There is no such provider.
    #[error("there is no such provider")]
    UnknownProvider,
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

#[derive(Debug)]
struct UnderWay {
    provider: String,
    cookie: TokenHash,
    nonce: String,
    verifier: Secret,
    redirect_uri: String,
    here: String,
}

/// What came back to the redirect URI.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
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
    under_way: Expiring<TokenHash, UnderWay>,
    newcomers: Expiring<TokenHash, Newcomer>,
    asking: Semaphore,
}

impl Sso {
    /// Nobody is on the way yet.
    #[must_use]
    pub fn new(providers: Vec<Provider>, outbound: Outbound, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self {
            upstreams: providers.into_iter().map(Upstream::new).collect(),
            outbound,
            under_way: Expiring::new(Arc::clone(&clock), UNDER_WAY, LIFETIME_MS),
            newcomers: Expiring::new(Arc::clone(&clock), NEWCOMERS, LIFETIME_MS),
            asking: Semaphore::new(ASKING),
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

    /// Sends a browser on its way: where it goes.
    ///
    /// # Errors
    ///
    /// [`SsoError`].
    pub async fn start(&self, id: &str, cookie: &str, here: &str, redirect_uri: &str) -> Result<Url, SsoError> {
        let upstream = self.upstream(id)?;
        let metadata = {
            let _place = self.asking.try_acquire().map_err(|_| SsoError::Busy)?;
            upstream.metadata(&self.outbound, self.clock.now_ms()).await?
        };
        let (state, nonce, verifier) =
            (self.randomness.alphanumeric(32), self.randomness.alphanumeric(32), Secret::new(self.randomness.alphanumeric(64)));
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
        let scope = upstream.provider.scopes.join(" ");
        let mut url = metadata.authorization.clone();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", upstream.provider.client_id.as_str()),
            ("redirect_uri", redirect_uri),
            ("scope", scope.as_str()),
            ("state", state.as_str()),
            ("nonce", nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        let under_way = UnderWay {
            provider: id.to_owned(),
            cookie: tokens::hash(cookie),
            nonce,
            verifier,
            redirect_uri: redirect_uri.to_owned(),
            here: here.to_owned(),
        };
        if self.under_way.try_put(tokens::hash(&state), under_way) { Ok(url) } else { Err(SsoError::Busy) }
    }

    /// Ends the way of a browser that comes back: who its user is.
    ///
    /// # Errors
    ///
    /// [`SsoError`]; the state is used up in any case.
    pub async fn finish(&self, callback: Callback<'_>, cookie: Option<&str>) -> Result<Arrived, SsoError> {
        let under_way = self.under_way.take(&tokens::hash(callback.state)).ok_or(SsoError::Expired)?;
        // Otherwise somebody could be signed in, in their own browser, as somebody else.
        if cookie.map(tokens::hash) != Some(under_way.cookie) {
            return Err(SsoError::OtherBrowser);
        }
        let upstream = self.upstream(&under_way.provider)?;
        let _place = self.asking.try_acquire().map_err(|_| SsoError::Busy)?;
        let now_ms = self.clock.now_ms();
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
        let UnderWay { verifier, redirect_uri, nonce, here, provider, .. } = under_way;
        let redeem = Redeem { code, verifier: verifier.expose(), redirect_uri: &redirect_uri, nonce: &nonce };
        let redeemed = upstream.redeem(&self.outbound, now_ms, redeem).await?;
        let (subject, claims, access_token) = (redeemed.subject, redeemed.claims, redeemed.access_token);
        Ok(Arrived { identity: Identity { provider, issuer: upstream.provider.issuer.clone(), subject, claims, access_token }, here })
    }

    /// The name that the claims give; those of the ID token first, then the rest.
    ///
    /// # Errors
    ///
    /// [`SsoError`].
    pub async fn localpart(&self, identity: &mut Identity) -> Result<Option<String>, SsoError> {
        let upstream = self.upstream(&identity.provider)?;
        if let (None, Some(token)) = (upstream.provider.localpart(&identity.claims), identity.access_token.take()) {
            let _place = self.asking.try_acquire().map_err(|_| SsoError::Busy)?;
            let more = upstream.userinfo(&self.outbound, self.clock.now_ms(), &identity.subject, &token).await?;
            for (name, value) in more {
                identity.claims.entry(name).or_insert(value);
            }
        }
        Ok(upstream.provider.localpart(&identity.claims))
    }

    /// Remembers somebody who is asked whether they want an account. What they show then.
    ///
    /// # Errors
    ///
    /// [`SsoError::Busy`].
    pub fn welcome(&self, mut identity: Identity, here: String, localpart: Option<String>, cookie: &str) -> Result<String, SsoError> {
        // What is kept meanwhile is little.
        identity.claims.retain(|name, _| name == "name");
        identity.access_token = None;
        let key = self.randomness.alphanumeric(32);
        let newcomer = Newcomer { identity, here, localpart, cookie: tokens::hash(cookie) };
        if self.newcomers.try_put(tokens::hash(&key), newcomer) { Ok(key) } else { Err(SsoError::Busy) }
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
