//! A certificate authority: asked over HTTPS, one signed request at a time (RFC 8555, sections 6 and 7).

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::account::{AccountKey, Signer};
use crate::homeserver::federation::once::http_date;

/// Bytes of an answer that are read: a chain of certificates is the largest.
const ANSWER_BYTES: usize = 256 * 1024;
/// How often a request is made again because its nonce was not taken (RFC 8555, section 6.5).
const NONCES: usize = 4;
/// How often is asked whether the authority is done.
const LOOKS: usize = 200;
/// Longest pause between two of these, whatever the authority wishes: the whole attempt has its own limit.
const LONGEST_POLL: Duration = Duration::from_secs(60);
/// Characters of an authority's own words that are kept.
const WORDS: usize = 400;

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcmeError {
    /// Nobody answers.
    #[error("the certificate authority cannot be reached: {0}")]
    Unreachable(String),
    /// The answer is none of this protocol.
    #[error("the certificate authority's answer makes no sense: {0}")]
    Nonsense(String),
    /// The authority says no.
    #[error("{0}")]
    Refused(Problem),
    /// The authority was not shown the proof that it wanted.
    #[error("{domain} could not be proven: {problem}")]
    Unproven {
        /// The name.
        domain: String,
        /// What the authority found.
        problem: Problem,
    },
    /// The authority does not take the proof that is configured.
    #[error("the certificate authority does not take {challenge} for {domain}; it takes {offered} (setting acme.challenge)")]
    NoSuchChallenge {
        /// The name.
        domain: String,
        /// The proof that is configured.
        challenge: &'static str,
        /// Those that it takes.
        offered: String,
    },
    /// It took too long.
    #[error("the certificate authority was not done in time: {0}")]
    TooSlow(&'static str),
    /// Something on our side.
    #[error("{0}")]
    Own(String),
}

impl AcmeError {
    /// How long the authority wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) | Self::Unproven { problem, .. } => problem.retry_after,
            _ => None,
        }
    }
}

/// What an authority says when it does not do what was asked (RFC 7807; RFC 8555, section 6.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status; 0 for what is part of an answer.
    pub status: u16,
    /// The last part of its type, such as `rateLimited`.
    pub kind: String,
    /// The authority's own words, harmless for a screen.
    pub detail: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match self.kind.as_str() {
            "rateLimited" => "the certificate authority has been asked too often and wants to be left alone for a while",
            "connection" => "the certificate authority could not connect to the name's address",
            "dns" => "the certificate authority found no address for the name",
            "unauthorized" | "incorrectResponse" => {
                "the certificate authority did not find the proof: another machine or a proxy answers at the name's address"
            }
            "tls" => "the certificate authority could not speak TLS with what answers at the name's address",
            "caa" => "the name's CAA records do not let this certificate authority issue",
            "rejectedIdentifier" | "unsupportedIdentifier" => "the certificate authority issues nothing for this name",
            "externalAccountRequired" => "the certificate authority wants an account that is made at its web site, which is not supported",
            "userActionRequired" => {
                "the certificate authority wants its owner's account to do something at its web site (its terms may have changed)"
            }
            "accountDoesNotExist" => "the certificate authority does not know the account any more",
            "serverInternal" => "the certificate authority has a fault of its own",
            "" => "the certificate authority refuses",
            kind => return write!(f, "the certificate authority refuses ({kind}): {}", self.detail),
        };
        f.write_str(words)?;
        match (self.detail.is_empty(), self.status) {
            (true, 0) => Ok(()),
            (true, status) => write!(f, " (status {status})"),
            (false, _) => write!(f, " ({})", self.detail),
        }
    }
}

/// A problem as it stands in an answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
}

impl ProblemBody {
    pub(super) fn told(self, status: u16, retry_after: Option<Duration>) -> Problem {
        let harmless = |text: &str, limit: usize| text.chars().filter(|c| !c.is_control()).take(limit).collect();
        let kind = self.kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&self.kind);
        Problem { status, kind: harmless(kind, 60), detail: harmless(&self.detail, WORDS), retry_after }
    }
}

/// Where an authority's resources are (RFC 8555, section 7.1.1).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, AcmeError> {
        serde_json::from_slice(&self.body).map_err(|error| AcmeError::Nonsense(error.to_string()))
    }
}

/// An authority, and who we are to it.
#[derive(Debug)]
pub(super) struct Authority {
    http: reqwest::Client,
    directory: Directory,
    key: AccountKey,
    account: Option<String>,
    nonce: Option<String>,
    poll: Duration,
}

impl Authority {
    /// Reads the directory.
    pub(super) async fn open(url: &str, key: AccountKey, extra_ca: Option<PathBuf>, poll: Duration) -> Result<Self, AcmeError> {
        let made = tokio::task::spawn_blocking(move || client(extra_ca.as_deref()));
        let http = made.await.map_err(|error| AcmeError::Own(error.to_string()))??;
        let (head, body) = send(http.get(url)).await?;
        if !head.status.is_success() {
            return Err(refused(&head, &body));
        }
        let directory =
            serde_json::from_slice(&body).map_err(|_| AcmeError::Nonsense(format!("{url} is no directory of this protocol")))?;
        Ok(Self { http, directory, key, account: None, nonce: nonce(&head.headers), poll })
    }

    /// Finds the account of our key, or makes it (RFC 8555, section 7.3).
    pub(super) async fn sign_up(&mut self, email: Option<&str>) -> Result<(), AcmeError> {
        let wanted = match email {
            Some(email) => json!({ "termsOfServiceAgreed": true, "contact": [format!("mailto:{email}")] }),
            None => json!({ "termsOfServiceAgreed": true }),
        };
        let url = self.directory.new_account.clone();
        let answer = self.post(&url, Some(&wanted)).await?;
        let account = answer.location.ok_or_else(|| AcmeError::Nonsense("the account has no address".to_owned()))?;
        self.account = Some(account);
        Ok(())
    }

    /// Orders a certificate (RFC 8555, section 7.4).
    pub(super) async fn order(&mut self, domains: &[String]) -> Result<Answer, AcmeError> {
        let identifiers: Vec<Value> = domains.iter().map(|domain| json!({ "type": "dns", "value": domain })).collect();
        let url = self.directory.new_order.clone();
        self.post(&url, Some(&json!({ "identifiers": identifiers }))).await
    }

    /// What authorises when this token is shown.
    pub(super) fn authorisation(&self, token: &str) -> String {
        self.key.authorisation(token)
    }

    /// Asks for what is there.
    pub(super) async fn get(&mut self, url: &str) -> Result<Answer, AcmeError> {
        self.post(url, None).await
    }

    /// Makes a signed request. A nonce that is not taken any more is replaced by the one that comes with the refusal.
    pub(super) async fn post(&mut self, url: &str, payload: Option<&Value>) -> Result<Answer, AcmeError> {
        let mut refusal = AcmeError::Nonsense("it takes none of its own nonces".to_owned());
        for _ in 0..NONCES {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.fresh_nonce().await?,
            };
            let signer = self.account.as_deref().map_or(Signer::Key, Signer::Account);
            let body = self.key.sign(signer, &nonce, url, payload)?;
            let request = self.http.post(url).header(header::CONTENT_TYPE, "application/jose+json").body(body);
            let (head, body) = send(request).await?;
            self.nonce = self::nonce(&head.headers);
            if head.status.is_success() {
                let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
                return Ok(Answer { location, retry_after: retry_after(&head.headers), body });
            }
            refusal = refused(&head, &body);
            if !matches!(&refusal, AcmeError::Refused(problem) if problem.kind == "badNonce") {
                break;
            }
        }
        Err(refusal)
    }

    async fn fresh_nonce(&self) -> Result<String, AcmeError> {
        let (head, body) = send(self.http.head(&self.directory.new_nonce)).await?;
        if !head.status.is_success() {
            return Err(refused(&head, &body));
        }
        nonce(&head.headers).ok_or_else(|| AcmeError::Nonsense("it gives no nonce".to_owned()))
    }

    /// Asks again until `done` says what came of it. It is given each answer.
    pub(super) async fn until<T>(
        &mut self,
        url: &str,
        what: &'static str,
        mut done: impl FnMut(&Answer) -> Result<Option<T>, AcmeError>,
    ) -> Result<T, AcmeError> {
        for _ in 0..LOOKS {
            let answer = self.get(url).await?;
            if let Some(outcome) = done(&answer)? {
                return Ok(outcome);
            }
            tokio::time::sleep(answer.retry_after.unwrap_or(self.poll).clamp(self.poll, LONGEST_POLL)).await;
        }
        Err(AcmeError::TooSlow(what))
    }
}

/// Blocks: the system's authorities are read.
fn client(extra_ca: Option<&std::path::Path>) -> Result<reqwest::Client, AcmeError> {
    let own = |error: &dyn std::fmt::Display| AcmeError::Own(format!("TLS cannot be set up: {error}"));
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(15))
        .timeout(Duration::from_secs(60))
        .referer(false)
        // RFC 8555, section 6.1: a client says who it is.
        .user_agent(concat!("homeroom/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = extra_ca {
        let pem = std::fs::read(path).map_err(|error| AcmeError::Own(format!("{}: {error}", path.display())))?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| own(&error))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| own(&error))
}

#[derive(Debug)]
struct Head {
    status: http::StatusCode,
    headers: HeaderMap,
}

async fn send(request: reqwest::RequestBuilder) -> Result<(Head, Vec<u8>), AcmeError> {
    let failed = |error: reqwest::Error| {
        // The last cause says what went wrong; what stands before it is where.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        AcmeError::Unreachable(cause.to_string())
    };
    let mut response = request.send().await.map_err(failed)?;
    let head = Head { status: response.status(), headers: response.headers().clone() };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(AcmeError::Nonsense(format!("it is larger than {ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((head, body))
}

fn nonce(headers: &HeaderMap) -> Option<String> {
    headers.get("replay-nonce")?.to_str().ok().map(ToOwned::to_owned)
}

/// Seconds, or the time at which (RFC 9110, section 10.2.3); the latter counted from the answer's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).map(str::trim);
    let wanted = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (http_date(wanted)?, text(header::DATE).and_then(http_date)?);
    Duration::try_from(then - now).ok()
}

fn refused(head: &Head, body: &[u8]) -> AcmeError {
    let problem: ProblemBody = serde_json::from_slice(body).unwrap_or_default();
    AcmeError::Refused(problem.told(head.status.as_u16(), retry_after(&head.headers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), header::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let seconds = |pairs: &[(&'static str, &'static str)]| retry_after(&headers(pairs)).map(|after| after.as_secs());
        assert_eq!(seconds(&[("retry-after", "120")]), Some(120));
        let date = ("date", "Mon, 21 Sep 2026 14:13:20 GMT");
        assert_eq!(seconds(&[date, ("retry-after", "Mon, 21 Sep 2026 15:13:20 GMT")]), Some(3600));
        assert_eq!(seconds(&[date, ("retry-after", "Mon, 21 Sep 2026 13:13:20 GMT")]), None, "it is over");
        assert_eq!(seconds(&[date, ("retry-after", "soon")]), None);
        assert_eq!(seconds(&[date]), None);
    }

    #[test]
    fn a_problem_is_said_in_words_and_moves_no_cursor() {
        let told = |kind: &str, detail: &str| {
            ProblemBody { kind: format!("urn:ietf:params:acme:error:{kind}"), detail: detail.to_owned() }.told(403, None).to_string()
        };
        assert!(told("dns", "no A \u{1b}[2Jrecord").ends_with("(no A [2Jrecord)"), "{}", told("dns", "no A \u{1b}[2Jrecord"));
        assert!(told("strange", "x").contains("(strange)"));
        assert!(told("rateLimited", &"x".repeat(10_000)).len() < 600);
        assert!(ProblemBody::default().told(502, None).to_string().contains("502"));
    }
}
