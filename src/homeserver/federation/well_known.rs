//! Delegation by `/.well-known/matrix/server` (Server-Server API, "Resolving server names", step 3): fetched, checked, cached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, header};
use rustls::pki_types::ServerName as CertificateName;
use serde::Deserialize;
use url::{Host as UrlHost, Url};

use super::{
    connect::Connector,
    discovery::{Found, Route, Step, Target},
    flight::Flights,
    names,
    once::{self, Answer, GetError, http_date},
};
use crate::base::{Clock, Randomness};

/// From the first step to the last byte.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer, in bytes.
const ANSWER_BYTES: usize = 50 * 1024;
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// How long an answer counts that does not say (Server-Server API, step 3).
const DEFAULT_MS: u64 = 24 * HOUR_MS;
/// How long an answer counts at most (same place).
const LONGEST_MS: u64 = 48 * HOUR_MS;
/// How long an answer counts at least: one that forbids caching would have us ask before every request.
const SHORTEST_MS: u64 = 5 * 60 * 1000;
/// How long it is believed at most that there is none (same place).
const LONGEST_FAILURE_MS: u64 = HOUR_MS;
/// How long the first failure that may pass is believed; twice as long with each further one.
const FIRST_FAILURE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// Hosts that are remembered.
const HOSTS: usize = 4096;

/// What a host says about where its Matrix server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegation {
    /// There.
    To(String),
    /// Nothing that counts; why, for people.
    None(String),
}

#[derive(Debug, Clone)]
struct Known {
    delegation: Delegation,
    until_ms: u64,
    /// The last good answer, and until when it may stand in for one that does not come.
    good: Option<(String, u64)>,
    failures: u32,
}

/// How asking ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Answer {
        place: String,
        valid_ms: u64,
    },
    /// The host has none, or none that could be used.
    Refused(String),
    /// It may have one another time.
    Unreachable(String),
}

/// Asks hosts for their delegation. Clones share what is known.
#[derive(Debug, Clone)]
pub struct WellKnown {
    connector: Connector,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    under_way: Flights<String, Delegation>,
    /// The port of HTTPS, which tests cannot have.
    port: u16,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "m.server")]
    server: String,
}

impl WellKnown {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(connector: Connector, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { connector, clock, randomness, known: Arc::default(), under_way: Flights::default(), port: 443 }
    }

    /// The same with HTTPS at another port.
    #[cfg(test)]
    pub(super) fn at_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// What a host says, from the cache as long as that counts.
    pub async fn of(&self, host: &str) -> Delegation {
        if let Some(known) = self.with(|known, now_ms| known.get(host).filter(|known| known.until_ms > now_ms).cloned()) {
            return known.delegation;
        }
        let (this, asked) = (self.clone(), host.to_owned());
        self.under_way
            .run(host.to_owned(), move || {
                async move {
                    let outcome = tokio::time::timeout(TIMEOUT, this.ask(&asked)).await;
                    let outcome = outcome.unwrap_or_else(|_| Asked::Unreachable("it took too long".to_owned()));
                    this.keep(&asked, outcome)
                }
                .boxed()
            })
            .await
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Known>, u64) -> T) -> T {
        let now_ms = self.clock.now_ms();
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    fn keep(&self, host: &str, asked: Asked) -> Delegation {
        let mut bytes = [0; 8];
        self.randomness.fill(&mut bytes);
        // A tenth less or more, so that not everything is asked again at the same moment.
        let jitter = |ms: u64| ms - ms / 10 + u64::from_le_bytes(bytes) % (ms / 5 + 1);
        self.with(|all, now_ms| {
            let before = all.get(host);
            let failures = before.map_or(0, |known| known.failures);
            let good = before.and_then(|known| known.good.clone()).filter(|(_, until_ms)| *until_ms > now_ms);
            let back_off = jitter(FIRST_FAILURE_MS.saturating_mul(1 << failures.min(20))).min(LONGEST_FAILURE_MS);
            let new = match asked {
                Asked::Answer { place, valid_ms } => {
                    let until_ms = now_ms + jitter(valid_ms).min(LONGEST_MS);
                    let good = Some((place.clone(), now_ms + LONGEST_MS));
                    Known { delegation: Delegation::To(place), until_ms, good, failures: 0 }
                }
                Asked::Refused(why) => {
                    let until_ms = now_ms + jitter(LONGEST_FAILURE_MS).min(LONGEST_FAILURE_MS);
                    Known { delegation: Delegation::None(why), until_ms, good: None, failures: 0 }
                }
                // A web server that is down for a while does not move the Matrix server elsewhere.
                Asked::Unreachable(why) => {
                    let delegation = good.as_ref().map_or(Delegation::None(why), |(place, _)| Delegation::To(place.clone()));
                    Known { delegation, until_ms: now_ms + back_off, good, failures: failures.saturating_add(1) }
                }
            };
            if all.len() >= HOSTS && !all.contains_key(host) {
                forget_some(all);
            }
            let delegation = new.delegation.clone();
            all.insert(host.to_owned(), new);
            delegation
        })
    }

    /// Asks a host, and whoever it says to ask instead.
    async fn ask(&self, host: &str) -> Asked {
        let first = format!("https://{host}:{}/.well-known/matrix/server", self.port);
        let Ok(mut url) = Url::parse(&first) else { return Asked::Refused("the host is no part of a URL".to_owned()) };
        for _ in 0..=REDIRECTS {
            match self.get(&url).await {
                Ok(Got::Elsewhere(location)) => match url.join(&location) {
                    Ok(next) if next.scheme() == "https" => url = next,
                    Ok(_) => return Asked::Refused("it leads away from HTTPS".to_owned()),
                    Err(_) => return Asked::Refused("it leads nowhere".to_owned()),
                },
                Ok(Got::Document { body, valid_ms }) => return read(&body, valid_ms),
                Err(asked) => return asked,
            }
        }
        Asked::Refused("it redirects too often".to_owned())
    }

    async fn get(&self, url: &Url) -> Result<Got, Asked> {
        let route = route(url).ok_or_else(|| Asked::Refused("it leads to no host".to_owned()))?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", url.path());
        match once::get(&self.connector, &route, &path, ANSWER_BYTES).await {
            Ok(answer) => read_head(answer),
            Err(GetError::Unreachable(why)) => Err(Asked::Unreachable(why)),
            Err(error) => Err(Asked::Refused(error.to_string())),
        }
    }
}

enum Got {
    Document { body: Bytes, valid_ms: u64 },
    Elsewhere(String),
}

fn read_head(answer: Answer) -> Result<Got, Asked> {
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    match (answer.status, location) {
        (200, _) => Ok(Got::Document { valid_ms: validity(&answer.headers), body: answer.body }),
        (300..400, Some(location)) => Ok(Got::Elsewhere(location.to_owned())),
        (status @ (429 | 500..), _) => Err(Asked::Unreachable(format!("it answers {status}"))),
        (status, _) => Err(Asked::Refused(format!("it answers {status}"))),
    }
}

/// How long an answer counts, as its headers say (RFC 9111, section 4.2.1), within what the specification allows.
fn validity(headers: &HeaderMap) -> u64 {
    let texts = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut said = None;
    for directive in texts.flat_map(|text| text.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return SHORTEST_MS,
            "max-age" => said = value.trim().trim_matches('"').parse::<u64>().ok().map(|s| s.saturating_mul(1000)).or(said),
            _ => {}
        }
    }
    if said.is_none() && headers.contains_key(header::EXPIRES) {
        let at = |name| headers.get(name).and_then(|value| value.to_str().ok()).and_then(http_date);
        // An `Expires` that is no date means "already" (RFC 9111, section 5.3).
        said = Some(match (at(header::EXPIRES), at(header::DATE)) {
            (Some(expires), Some(date)) => u64::try_from((expires - date).whole_milliseconds()).unwrap_or(0),
            _ => 0,
        });
    }
    said.unwrap_or(DEFAULT_MS).clamp(SHORTEST_MS, LONGEST_MS)
}

fn read(body: &[u8], valid_ms: u64) -> Asked {
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        return Asked::Refused("its answer does not have the form {\"m.server\": \"...\"}".to_owned());
    };
    match names::parts(&document.server) {
        Ok(_) => Asked::Answer { place: document.server, valid_ms },
        Err(_) => Asked::Refused("the place that it names is no server name".to_owned()),
    }
}

/// The way to the host of a URL. Its certificate has to be for that host.
fn route(url: &Url) -> Option<Route> {
    let port = url.port_or_known_default()?;
    let explicit = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let (target, certificate) = match url.host()? {
        UrlHost::Domain(host) => (Target::Name { host: host.to_owned(), port }, CertificateName::try_from(host.to_owned()).ok()?),
        UrlHost::Ipv4(address) => (Target::Address((address, port).into()), CertificateName::IpAddress(address.into())),
        UrlHost::Ipv6(address) => (Target::Address((address, port).into()), CertificateName::IpAddress(address.into())),
    };
    Some(Route {
        targets: vec![target],
        host: format!("{}{explicit}", url.host_str()?),
        certificate,
        found: Found { well_known: None, step: Step::Port },
    })
}

/// Makes room: what expires first, a quarter at once.
fn forget_some(known: &mut HashMap<String, Known>) {
    let mut by_end: Vec<(u64, String)> = known.iter().map(|(host, known)| (known.until_ms, host.clone())).collect();
    by_end.sort_unstable();
    for (_, host) in by_end.into_iter().take(HOSTS / 4) {
        known.remove(&host);
    }
}
