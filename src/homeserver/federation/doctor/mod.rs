//! Can a server be reached, and can it reach us? Each step of it, said in plain words, and what to do about what fails.
//!
//! Works on the same parts as federation itself, so that what it finds is what federation meets.

pub mod certificate;
pub mod practice;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::Method;
use ruma::{CanonicalJsonObject, ServerName};
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    client::Client,
    connect::{ConnectError, Connector},
    discovery::{Discovery, DiscoveryError, Route, Step},
    key_ring::answer,
    request::{Limits, RequestError},
    well_known::Delegation,
};
use crate::base::Clock;

/// A certificate that ends sooner than this is worth a warning, in days.
const SOON_DAYS: i64 = 14;
/// A clock that is this far off is worth a warning, in seconds.
const CLOCK_WARNING_S: i64 = 30;
/// A clock that is this far off makes certificates and keys fail, in seconds.
const CLOCK_FAULT_S: i64 = 5 * 60;
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 256 * 1024;

/// What a server has shown that answers a signed request.
const BELIEVED: &str = "believes who we are: it has fetched our keys and answered a signed request";

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Good,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Bad,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `acme`, `name`, `well-known`, `dns`, `tls`, `clock`, `keys`, `version`, `round-trip`.
    pub what: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What was found out about one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The server.
    pub server: String,
    /// The steps, in the order in which they were taken. One that fails ends it, where the next ones need it.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(server: &ServerName) -> Self {
        Self { server: server.to_string(), checks: Vec::new() }
    }

    fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.checks.push(Check { what, outcome: Outcome::Good, found: found.into(), mend: None });
    }

    fn warn(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.checks.push(Check { what, outcome: Outcome::Warning, found: found.into(), mend: Some(mend.into()) });
    }

    fn bad(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.checks.push(Check { what, outcome: Outcome::Bad, found: found.into(), mend: Some(mend.into()) });
    }

    /// The worst of the steps.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);
        match () {
            () if any(Outcome::Bad) => Outcome::Bad,
            () if any(Outcome::Warning) => Outcome::Warning,
            () => Outcome::Good,
        }
    }
}

/// What the doctor works with.
#[derive(Debug)]
pub struct Doctor<'a> {
    /// Finds servers.
    pub discovery: &'a Discovery,
    /// Connects to them.
    pub connector: &'a Connector,
    /// Asks them. Signs in our name, when there is a name.
    pub client: &'a Client,
    /// Our time.
    pub clock: &'a dyn Clock,
}

impl Doctor<'_> {
    /// Looks at a server, ours or another's. With `key_id`, the key that it should show: ours.
    pub async fn examine(&self, server: &ServerName, key_id: Option<&str>) -> Report {
        let mut report = Report::new(server);
        let Some(route) = self.find(server, &mut report).await else { return report };
        if self.connect(&route, &mut report).await && self.keys(server, &route, key_id, &mut report).await {
            self.version(&route, &mut report).await;
        }
        report
    }

    /// Whether another server answers a signed request of ours, for which it has to reach us to fetch our key.
    pub async fn round_trip(&self, other: &ServerName, report: &mut Report) {
        let path = format!("/_matrix/federation/v1/query/profile?user_id=%40homeroom-doctor%3A{}", urlencoded(other.as_str()));
        let limits = Limits::ORDINARY.within(Duration::from_secs(60)).insisting().bytes(ANSWER_BYTES);
        let told = self.client.raw(other, Method::GET, &path, None, limits).await;
        match told {
            // Whether there is such a user does not matter: who answers that has believed who asks.
            Ok(_) => report.good("round-trip", format!("{other} {BELIEVED}")),
            Err(error) if error.is_unrecognized() => report.warn(
                "round-trip",
                format!("{other} does not know the signed question that was asked"),
                "name another server with --via",
            ),
            Err(RequestError::Remote { status, errcode, .. }) if status != 401 && status < 500 && !errcode.is_empty() => {
                report.good("round-trip", format!("{other} {BELIEVED} ({errcode})"));
            }
            Err(RequestError::Remote { status: 401, message, .. }) => report.bad(
                "round-trip",
                format!("{other} does not believe who we are: {message}"),
                "it could not fetch this node's keys: see whether the node can be reached from outside under its name (port, firewall, \
                 certificate), and whether the clock is right",
            ),
            Err(error) => {
                report.bad("round-trip", format!("{other} did not answer a signed request: {error}"), "try again, or name another server")
            }
        }
    }

    async fn find(&self, server: &ServerName, report: &mut Report) -> Option<Route> {
        let route = match self.discovery.route(server).await {
            Ok(route) => route,
            Err(error @ DiscoveryError::InvalidName(_)) => {
                report.bad(
                    "name",
                    format!("`{server}` is no server name: {error}"),
                    "a server name is a host, with a port or without, and no address of a web page",
                );
                return None;
            }
            Err(error) => {
                report.bad("name", error.to_string(), "an SRV record with the target `.` says so; remove it if there is a server");
                return None;
            }
        };
        match &route.found.well_known {
            None => {}
            Some(Delegation::To(place)) => {
                report.good("well-known", format!("https://{server}/.well-known/matrix/server says that the server is at {place}"));
            }
            Some(Delegation::None(why)) => {
                report.good(
                    "well-known",
                    format!("https://{server}/.well-known/matrix/server says nothing ({why}), so the server is where its name says"),
                );
            }
        }
        let places = route.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match route.found.step {
            Step::Address => report.good("name", format!("the name is an address: {places}")),
            Step::Port => report.good("name", format!("the name has its port: {places}")),
            Step::Srv => report.good("name", format!("an SRV record of _matrix-fed._tcp leads to {places}")),
            Step::OldSrv => report.warn(
                "name",
                format!("an SRV record of _matrix._tcp leads to {places}"),
                "that kind of record is deprecated: add one of _matrix-fed._tcp",
            ),
            Step::Default => report.good("name", format!("no port is named anywhere, so it is the usual one: {places}")),
        }
        Some(route)
    }

    async fn connect(&self, route: &Route, report: &mut Report) -> bool {
        match self.connector.addresses(route).await {
            Ok(addresses) => {
                let all = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
                report.good("dns", format!("addresses: {all}"));
            }
            Err(error) => {
                report.bad("dns", error.to_string(), advice(&error));
                return false;
            }
        }
        match self.connector.connect(route).await {
            Ok(stream) => {
                let at = stream.address().map(|address| address.to_string()).unwrap_or_default();
                self.certificate(&at, route, stream.certificates().first().and_then(certificate::validity), report);
                true
            }
            Err(error) => {
                let what = if matches!(error, ConnectError::Tls { .. } | ConnectError::ExtraCa { .. }) { "tls" } else { "port" };
                report.bad(what, error.to_string(), advice(&error));
                false
            }
        }
    }

    fn certificate(&self, at: &str, route: &Route, validity: Option<(OffsetDateTime, OffsetDateTime)>, report: &mut Report) {
        let name = route.certificate.to_str();
        let Some((_, until)) = validity else {
            report.good("tls", format!("{at} has a certificate for {name} that is trusted"));
            return;
        };
        let now = i64::try_from(self.clock.now_ms() / 1000).unwrap_or(i64::MAX);
        let days = (until.unix_timestamp() - now) / (24 * 60 * 60);
        let found = format!("{at} has a certificate for {name} that is trusted and valid until {} ({days} days)", until.date());
        if days < SOON_DAYS {
            report.warn("tls", found, "renew it in time: without a valid certificate no other server talks to this one");
        } else {
            report.good("tls", found);
        }
    }

    /// Keys, and what the answer says about clocks.
    async fn keys(&self, server: &ServerName, route: &Route, key_id: Option<&str>, report: &mut Report) -> bool {
        let told = match self.get(route, "/_matrix/key/v2/server").await {
            Ok(told) => told,
            Err(why) => {
                let mend =
                    "something answers there, but no Matrix server: see what the proxy does with /_matrix/key and /_matrix/federation";
                report.bad("keys", format!("the server does not say its keys: {why}"), mend);
                return false;
            }
        };
        self.compare_clocks(told.date, report);
        let checked = serde_json::from_slice::<CanonicalJsonObject>(&told.body)
            .map_err(|_| answer::BadAnswer("it is no canonical JSON"))
            .and_then(|object| answer::check(server, object));
        let answer = match checked {
            Ok(answer) => answer,
            Err(why) => {
                let mend = "a server there has another name: see server_name in its settings, and whether the proxy leads to the right one";
                report.bad("keys", format!("the answer with its keys does not count: {why}"), mend);
                return false;
            }
        };
        let current: Vec<&str> = answer.keys.iter().filter(|(_, key)| key.current).map(|(id, _)| id.as_str()).collect();
        if let Some(expected) = key_id.filter(|key_id| !current.contains(key_id)) {
            let mend = "another server answers under this node's name, or the node's signing.key was lost: restore it from a backup";
            report.bad("keys", format!("the key in use is {}, this node has {expected}", current.join(", ")), mend);
            return false;
        }
        if answer.valid_until_ms < self.clock.now_ms() {
            report.bad("keys", "its keys have run out", "the server's clock is wrong, or its answer comes from an old cache");
            return false;
        }
        report.good("keys", format!("it shows its keys, signed: {}", current.join(", ")));
        true
    }

    fn compare_clocks(&self, date: Option<OffsetDateTime>, report: &mut Report) {
        let Some(theirs) = date else { return };
        let ours = i64::try_from(self.clock.now_ms() / 1000).unwrap_or(i64::MAX);
        let apart = (theirs.unix_timestamp() - ours).abs();
        let found = format!("its clock and this machine's are {apart} seconds apart");
        let mend = "set the clocks by NTP: keys and certificates are valid by the clock";
        match apart {
            CLOCK_FAULT_S.. => report.bad("clock", found, mend),
            CLOCK_WARNING_S.. => report.warn("clock", found, mend),
            _ => report.good("clock", "its clock and this machine's agree"),
        }
    }

    async fn version(&self, route: &Route, report: &mut Report) {
        let told = self.get(route, "/_matrix/federation/v1/version").await;
        let version = told.ok().and_then(|told| serde_json::from_slice::<serde_json::Value>(&told.body).ok());
        let part = |name: &str| {
            let text = version.as_ref()?.get("server")?.get(name)?.as_str()?;
            Some(super::request::harmless(text, 60))
        };
        match part("name") {
            Some(name) => report.good("version", format!("it runs {name} {}", part("version").unwrap_or_default())),
            None => report.warn("version", "it does not say what it runs", "see what the proxy does with /_matrix/federation"),
        }
    }

    /// An unsigned question, on a connection of its own: nothing is remembered of it.
    async fn get(&self, route: &Route, path: &str) -> Result<Told, String> {
        let answer = super::once::get(self.connector, route, path, ANSWER_BYTES);
        let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "it took too long".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("it answers {}", answer.status));
        }
        let date = answer.headers.get(http::header::DATE).and_then(|value| value.to_str().ok()).and_then(super::once::http_date);
        Ok(Told { body: answer.body, date: date.map(time::PrimitiveDateTime::assume_utc) })
    }
}

struct Told {
    body: bytes::Bytes,
    date: Option<OffsetDateTime>,
}

fn advice(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Dns(super::dns::DnsError::NoRecords(_)) => "add an A or AAAA record for the name, or see whether it is spelt right",
        ConnectError::Dns(_) => "the name servers do not answer: see the network and /etc/resolv.conf",
        ConnectError::Private(_) => {
            "servers on the internet cannot reach it there; for a federation within a network, set node.allow_private_networks"
        }
        ConnectError::Unreachable { .. } => {
            "see whether the server runs and listens there (node.listen_tls), and whether firewall and router let the port through"
        }
        ConnectError::Tls { .. } => {
            "see whether the certificate is for this name, has not run out, and comes with its whole chain from an authority that others trust"
        }
        ConnectError::ExtraCa { .. } => "see node.extra_ca",
        ConnectError::Nowhere => "the records lead nowhere",
    }
}

fn urlencoded(text: &str) -> String {
    text.replace(':', "%3A").replace('[', "%5B").replace(']', "%5D")
}
