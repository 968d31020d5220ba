//! One certificate, from the order to the chain (RFC 8555, section 7.4).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    AcmeError, Challenge, Settings,
    authority::{Answer, Authority, ProblemBody},
    challenges::Challenges,
    covers,
    disk::{Disk, certified},
};

/// What an attempt works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) settings: &'a Settings,
    pub(super) disk: &'a Disk,
    pub(super) challenges: &'a Challenges,
    pub(super) poll: Duration,
}

/// A certificate that has been issued.
#[derive(Debug)]
pub(super) struct Issued {
    /// Its key, itself, and those that vouch for it.
    pub(super) pem: Zeroizing<String>,
    /// The same, to be shown.
    pub(super) certified: CertifiedKey,
}

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
    #[serde(default)]
    authorizations: Vec<String>,
    finalize: String,
    certificate: Option<String>,
    error: Option<ProblemBody>,
}

#[derive(Debug, Deserialize)]
struct Authorisation {
    identifier: Identifier,
    status: String,
    #[serde(default)]
    challenges: Vec<Offered>,
}

#[derive(Debug, Deserialize)]
struct Identifier {
    value: String,
}

/// A challenge that an authority offers.
#[derive(Debug, Deserialize)]
struct Offered {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    token: Option<String>,
    error: Option<ProblemBody>,
}

/// Asks for a certificate, proves the names, and fetches it.
pub(super) async fn issue(tools: Tools<'_>) -> Result<Issued, AcmeError> {
    let settings = tools.settings;
    let key = tools.disk.account(&settings.directory).await?;
    let mut authority = Authority::open(&settings.directory, key, settings.extra_ca.clone(), tools.poll).await?;
    authority.sign_up(settings.email.as_deref()).await?;
    let ordered = authority.order(&settings.domains).await?;
    let place = ordered.location.clone().ok_or_else(|| AcmeError::Nonsense("the order has no address".to_owned()))?;
    let order: Order = ordered.read()?;
    if order.authorizations.len() > settings.domains.len() {
        return Err(AcmeError::Nonsense("it wants more names proven than were ordered".to_owned()));
    }
    for url in &order.authorizations {
        prove(&mut authority, tools, url).await?;
    }
    let finalize = authority.until(&place, "the order", |answer| ready(answer, "ready")).await?.finalize;
    let key = KeyPair::generate().map_err(|error| AcmeError::Own(error.to_string()))?;
    authority.post(&finalize, Some(&json!({ "csr": BASE64.encode(request(settings, &key)?) }))).await?;
    let done = authority.until(&place, "the certificate", |answer| ready(answer, "valid")).await?;
    let url = done.certificate.ok_or_else(|| AcmeError::Nonsense("the order is done without a certificate".to_owned()))?;
    let chain = authority.get(&url).await?.body;
    let chain = String::from_utf8(chain).map_err(|_| AcmeError::Nonsense("the certificate is not in PEM".to_owned()))?;
    let pem = Zeroizing::new(format!("{}{chain}", *Zeroizing::new(key.serialize_pem())));
    // What cannot be shown must not take the place of what can.
    let certified = certified(pem.as_bytes()).map_err(|error| AcmeError::Nonsense(format!("the certificate cannot be used: {error}")))?;
    if !covers(&certified, &settings.domains) {
        return Err(AcmeError::Nonsense("the certificate is not for the names that were ordered".to_owned()));
    }
    Ok(Issued { pem, certified })
}

/// The order, once it has got this far.
fn ready(answer: &Answer, wanted: &str) -> Result<Option<Order>, AcmeError> {
    let mut order: Order = answer.read()?;
    match order.status.as_str() {
        "invalid" => Err(AcmeError::Refused(order.error.take().unwrap_or_default().told(0, answer.retry_after))),
        status if status == wanted || status == "valid" => Ok(Some(order)),
        _ => Ok(None),
    }
}

/// Proves one name (RFC 8555, section 7.5).
async fn prove(authority: &mut Authority, tools: Tools<'_>, url: &str) -> Result<(), AcmeError> {
    let wanted: Authorisation = authority.get(url).await?.read()?;
    if wanted.status == "valid" {
        return Ok(());
    }
    let domain = wanted.identifier.value;
    if !tools.settings.domains.contains(&domain) {
        return Err(AcmeError::Nonsense("it wants a name proven that was not ordered".to_owned()));
    }
    let challenge = tools.settings.challenge;
    let Some(offered) = wanted.challenges.iter().find(|offered| offered.kind == challenge.name()) else {
        let offered = wanted.challenges.iter().map(|offered| offered.kind.as_str()).collect::<Vec<_>>().join(", ");
        let offered = offered.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(AcmeError::NoSuchChallenge { domain, challenge: challenge.name(), offered });
    };
    let token = offered.token.as_deref().filter(|token| is_token(token));
    let token = token.ok_or_else(|| AcmeError::Nonsense("the challenge has no token".to_owned()))?;
    let authorisation = authority.authorisation(token);
    // Shown until this function is left, however that happens.
    let _shown = match challenge {
        Challenge::Http01 => tools.challenges.show_page(token, &authorisation),
        Challenge::TlsAlpn01 => tools.challenges.show_certificate(&domain, &authorisation)?,
    };
    authority.post(&offered.url, Some(&json!({}))).await?;
    let done = |answer: &Answer| {
        let now: Authorisation = answer.read()?;
        match now.status.as_str() {
            "valid" => Ok(Some(())),
            "pending" => Ok(None),
            _ => {
                let problem = now.challenges.into_iter().filter(|tried| tried.kind == challenge.name()).find_map(|tried| tried.error);
                let problem = problem.unwrap_or_default().told(0, answer.retry_after);
                Err(AcmeError::Unproven { domain: format!("{domain} (port {})", challenge.port()), problem })
            }
        }
    };
    authority.until(url, "the proof of a name", done).await
}

/// RFC 8555, section 8.1: the URL-safe alphabet of Base64. It becomes part of a path.
fn is_token(token: &str) -> bool {
    (1..=255).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// What the certificate is to say, signed with its key (RFC 2986).
fn request(settings: &Settings, key: &KeyPair) -> Result<Vec<u8>, AcmeError> {
    let own = |error: rcgen::Error| AcmeError::Own(format!("the request for a certificate could not be made: {error}"));
    let mut params = CertificateParams::new(settings.domains.clone()).map_err(own)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(own)?.der().to_vec())
}
