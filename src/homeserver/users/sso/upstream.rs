//! What is asked of a provider: where its endpoints are, which keys it has, what a code stands for.
//!
//! OpenID Connect Discovery 1.0; OpenID Connect Core 1.0, 3.1.3 and 5.3; RFC 7517. Every answer is bounded in size and time, and
//! every address is checked by the outbound guard.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use url::{Url, form_urlencoded};

use super::{
    SsoError,
    id_token::{Expected, IdTokenError, Keys},
    provider::Provider,
};
use crate::{
    base::Secret,
    homeserver::outbound::{Answer, Outbound},
};

/// Largest answer.
const ANSWER_BYTES: usize = 256 * 1024;
/// How long metadata and keys are good.
const FRESH_MS: u64 = 60 * 60 * 1000;
/// Keys are not asked for more often because a token names an unknown one.
const AGAIN_MS: u64 = 60 * 1000;

/// Sign-ins that ask one provider something at one time.
pub(super) const ASKING: usize = 16;
/// How long a provider may take over a sign-in.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where a provider's endpoints are.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization: Url,
    token: Url,
    jwks: Url,
    userinfo: Option<Url>,
    /// The secret goes into the form instead of a header.
    posts_secret: bool,
    /// Every answer names its issuer (RFC 9207).
    pub(super) names_itself: bool,
}

#[derive(Debug, Default)]
struct Cache {
    metadata: Option<(Arc<Metadata>, u64)>,
    keys: Option<(Arc<Keys>, u64)>,
}

/// A provider with what is known of it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) provider: Provider,
    cache: Mutex<Cache>,
    /// Of its own: one provider that hangs does not keep people from the others.
    places: Semaphore,
}

/// A code that has come back.
pub(super) struct Redeem<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) nonce: &'a str,
    /// The person has to have shown who they are since then, in milliseconds since 1970.
    pub(super) since_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// What a code stood for.
pub(super) struct Redeemed {
    pub(super) subject: String,
    pub(super) claims: Map<String, Value>,
    pub(super) access_token: Option<Secret>,
}

fn unavailable(what: &str, why: impl std::fmt::Display) -> SsoError {
    SsoError::Unavailable(format!("{what}: {why}"))
}

/// The JSON of a good answer. What else is in the body stays out of the error: it may hold tokens.
fn read<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, SsoError> {
    if answer.status != 200 {
        return Err(unavailable(what, format!("status {}", answer.status)));
    }
    serde_json::from_slice(&answer.body).map_err(|_| unavailable(what, "the answer is not the JSON that it should be"))
}

/// `Authorization` with a secret in it.
fn authorization(text: String) -> Result<HeaderValue, SsoError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| unavailable("authorization", "it has characters that no header has"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Upstream {
    pub(super) fn new(provider: Provider) -> Self {
        Self { provider, cache: Mutex::default(), places: Semaphore::new(ASKING) }
    }

    /// Asks the provider something, if there is a place.
    pub(super) async fn asking<T>(&self, asked: impl Future<Output = Result<T, SsoError>>) -> Result<T, SsoError> {
        let _place = self.places.try_acquire().map_err(|_| SsoError::Busy)?;
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(unavailable("the provider", "it takes too long")))
    }

    fn cache<T>(&self, work: impl FnOnce(&mut Cache) -> T) -> T {
        work(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Plain HTTP is for addresses that the owner has allowed by name.
    fn secure(outbound: &Outbound, url: &Url) -> Result<(), SsoError> {
        let good = url.scheme() == "https" || (url.scheme() == "http" && outbound.is_allowed_by_name(url));
        if good { Ok(()) } else { Err(unavailable("the provider's addresses", format!("{} is not https", url.as_str()))) }
    }

    /// Where the endpoints are (OpenID Connect Discovery 1.0, 4).
    pub(super) async fn metadata(&self, outbound: &Outbound, now_ms: u64) -> Result<Arc<Metadata>, SsoError> {
        let known = self.cache(|cache| cache.metadata.clone());
        if let Some((metadata, since_ms)) = known
            && now_ms.saturating_sub(since_ms) < FRESH_MS
        {
            return Ok(metadata);
        }
        let what = "discovery";
        let place = format!("{}/.well-known/openid-configuration", self.provider.issuer.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|error| unavailable(what, error))?;
        Self::secure(outbound, &place)?;
        let answer = outbound.get_json(&place, None, ANSWER_BYTES).await.map_err(|error| unavailable(what, error))?;
        let found: Document = read(what, &answer)?;
        if found.issuer != self.provider.issuer {
            return Err(unavailable(what, format!("it calls itself {}, not {}", found.issuer, self.provider.issuer)));
        }
        for url in [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri].into_iter().chain(&found.userinfo_endpoint) {
            Self::secure(outbound, url)?;
        }
        // What is not said means `client_secret_basic`.
        let methods = found.token_endpoint_auth_methods_supported.unwrap_or_default();
        let has = |method: &str| methods.iter().any(|known| known == method);
        let metadata = Arc::new(Metadata {
            authorization: found.authorization_endpoint,
            token: found.token_endpoint,
            jwks: found.jwks_uri,
            userinfo: found.userinfo_endpoint,
            posts_secret: has("client_secret_post") && !has("client_secret_basic"),
            names_itself: found.authorization_response_iss_parameter_supported,
        });
        self.cache(|cache| cache.metadata = Some((Arc::clone(&metadata), now_ms)));
        Ok(metadata)
    }

    /// Asks for the keys, unless those that are known are younger than this.
    async fn keys(&self, outbound: &Outbound, metadata: &Metadata, now_ms: u64, fresh_ms: u64) -> Result<Arc<Keys>, SsoError> {
        let known = self.cache(|cache| cache.keys.clone());
        if let Some((keys, since_ms)) = known
            && now_ms.saturating_sub(since_ms) < fresh_ms
        {
            return Ok(keys);
        }
        let what = "keys";
        let answer = outbound.get_json(&metadata.jwks, None, ANSWER_BYTES).await.map_err(|error| unavailable(what, error))?;
        let good = Some(answer).filter(|answer| answer.status == 200).and_then(|answer| Keys::read(&answer.body));
        let keys = Arc::new(good.ok_or_else(|| unavailable(what, "the answer is no set of keys"))?);
        self.cache(|cache| cache.keys = Some((Arc::clone(&keys), now_ms)));
        Ok(keys)
    }

    /// The form for the token endpoint and its `Authorization` (OpenID Connect Core 1.0, 3.1.3.1; RFC 6749, 2.3.1; RFC 7636, 4.5).
    fn token_request(&self, metadata: &Metadata, redeem: &Redeem<'_>) -> Result<(String, Option<HeaderValue>), SsoError> {
        let provider = &self.provider;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code").append_pair("code", redeem.code);
        form.append_pair("redirect_uri", redeem.redirect_uri).append_pair("code_verifier", redeem.verifier);
        let mut header = None;
        match &provider.client_secret {
            Some(secret) if !metadata.posts_secret => {
                // Both parts are encoded like a form's.
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = zeroize::Zeroizing::new(format!("{}:{}", encoded(&provider.client_id), encoded(secret.expose())));
                header = Some(authorization(format!("Basic {}", STANDARD.encode(pair.as_bytes())))?);
            }
            Some(secret) => {
                form.append_pair("client_id", &provider.client_id).append_pair("client_secret", secret.expose());
            }
            None => {
                form.append_pair("client_id", &provider.client_id);
            }
        }
        Ok((form.finish(), header))
    }

    /// Exchanges a code for an ID token, and checks that (OpenID Connect Core 1.0, 3.1.3).
    pub(super) async fn redeem(&self, outbound: &Outbound, now_ms: u64, redeem: Redeem<'_>) -> Result<Redeemed, SsoError> {
        let metadata = self.metadata(outbound, now_ms).await?;
        let (provider, what) = (&self.provider, "the token endpoint");
        let (form, header) = self.token_request(&metadata, &redeem)?;
        let answer = outbound.post_form(&metadata.token, form, header, ANSWER_BYTES).await;
        let answer = answer.map_err(|error| unavailable(what, error))?;
        // RFC 6749, 5.2: a code that is too old, used up or made up. That is nothing to report to the owner.
        if answer.status == 400
            && serde_json::from_slice::<Value>(&answer.body)
                .is_ok_and(|error| error.get("error").is_some_and(|error| error == "invalid_grant"))
        {
            return Err(SsoError::Expired);
        }
        let tokens: Tokens = read(what, &answer)?;
        let expected =
            Expected { issuer: &provider.issuer, client_id: &provider.client_id, nonce: redeem.nonce, since_ms: redeem.since_ms, now_ms };
        let keys = self.keys(outbound, &metadata, now_ms, FRESH_MS).await?;
        let (subject, claims) = match keys.check(&tokens.id_token, expected) {
            // A provider changes its keys without telling.
            Err(IdTokenError::UnknownKey) => self.keys(outbound, &metadata, now_ms, AGAIN_MS).await?.check(&tokens.id_token, expected)?,
            other => other?,
        };
        Ok(Redeemed { subject, claims, access_token: tokens.access_token.map(Secret::new) })
    }

    /// Claims that are not in the ID token (OpenID Connect Core 1.0, 5.3). None, if the provider has no such endpoint.
    pub(super) async fn userinfo(
        &self,
        outbound: &Outbound,
        now_ms: u64,
        subject: &str,
        token: &Secret,
    ) -> Result<Map<String, Value>, SsoError> {
        let metadata = self.metadata(outbound, now_ms).await?;
        let Some(place) = &metadata.userinfo else { return Ok(Map::new()) };
        let what = "userinfo";
        let header = authorization(format!("Bearer {}", token.expose()))?;
        let answer = outbound.get_json(place, Some(header), ANSWER_BYTES).await.map_err(|error| unavailable(what, error))?;
        let claims: Map<String, Value> = read(what, &answer)?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(unavailable(what, "it speaks of somebody else"));
        }
        Ok(claims)
    }
}
