#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;

use super::*;
use crate::{
    base::{ManualClock, SystemRandomness},
    homeserver::{
        federation::{
            key_ring::answer::tests::{answer, pair},
            testing::{FakeDns, FakeWeb, answer as reply},
            well_known::WellKnown,
        },
        outbound::Guard,
    },
};

const NOW_MS: u64 = 1_790_000_000_000;

struct Patient {
    web: FakeWeb,
    dns: Arc<FakeDns>,
}

impl Patient {
    fn new() -> Self {
        let patient = Self { web: FakeWeb::new(), dns: Arc::default() };
        patient.dns.address("a.example", "127.0.0.1");
        patient
    }

    async fn examine(&self, name: &str, key_id: Option<&str>, guard: Guard) -> Report {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW_MS));
        let connector = Connector::new(Arc::clone(&self.dns) as _, guard, Some(self.web.ca()));
        // Nobody has HTTPS at port 1: there is no delegation here.
        let well_known = WellKnown::new(connector.clone(), Arc::clone(&clock), Arc::new(SystemRandomness)).at_port(1);
        let discovery = Discovery::new(Arc::clone(&self.dns) as _, well_known, Arc::new(SystemRandomness));
        let doctor = Doctor { discovery: &discovery, connector: &connector, client: &Client::disabled(), clock: clock.as_ref() };
        doctor.examine(&ServerName::parse(name).unwrap(), key_id).await
    }

    /// A server for `a.example` that answers keys and version with these, and with this date.
    async fn serves(&self, keys: impl Fn(&str) -> String + Clone + Send + Sync + 'static, date: &'static str) -> String {
        let name = Arc::new(std::sync::OnceLock::<String>::new());
        let told = Arc::clone(&name);
        let address = self.web.serve(&["a.example"], move |request| {
            let body = match request.uri().path() {
                "/_matrix/key/v2/server" => keys(told.get().unwrap()),
                _ => r#"{"server":{"name":"Test\u001b[2J","version":"1"}}"#.to_owned(),
            };
            std::future::ready(reply(200, &[("Date", date)], body))
        });
        let server = format!("a.example:{}", address.await.port());
        name.set(server.clone()).unwrap();
        server
    }
}

fn seen(report: &Report) -> Vec<(&str, Outcome)> {
    report.checks.iter().map(|check| (check.what, check.outcome)).collect()
}

use Outcome::{Bad, Good, Warning};

#[tokio::test]
async fn a_healthy_server_gets_good_marks() {
    let patient = Patient::new();
    let key = Arc::new(pair("1"));
    let server =
        patient.serves(move |name| serde_json::to_string(&answer(name, &key, NOW_MS + 1000)).unwrap(), "Mon, 21 Sep 2026 14:13:20 GMT");
    let server = server.await;
    let report = patient.examine(&server, Some("ed25519:1"), Guard::everything()).await;
    let all = [("name", Good), ("dns", Good), ("tls", Good), ("clock", Good), ("keys", Good), ("version", Good)];
    assert_eq!(seen(&report), all, "{report:#?}");
    assert_eq!(report.outcome(), Good);
    assert!(report.checks.iter().all(|check| !check.found.contains('\u{1b}')));
}

#[tokio::test]
async fn a_wrong_clock_a_wrong_key_and_old_keys_are_told() {
    let patient = Patient::new();
    let key = Arc::new(pair("1"));
    let (fresh, old) = (Arc::clone(&key), key);
    let fresh =
        patient.serves(move |name| serde_json::to_string(&answer(name, &fresh, NOW_MS + 1000)).unwrap(), "Mon, 21 Sep 2026 14:12:20 GMT");
    let fresh = fresh.await;
    let report = patient.examine(&fresh, None, Guard::everything()).await;
    assert!(seen(&report).contains(&("clock", Warning)), "{report:#?}");
    let report = patient.examine(&fresh, Some("ed25519:other"), Guard::everything()).await;
    assert_eq!(seen(&report).last(), Some(&("keys", Bad)), "{report:#?}");
    let old =
        patient.serves(move |name| serde_json::to_string(&answer(name, &old, NOW_MS - 1000)).unwrap(), "Mon, 21 Sep 2026 12:12:20 GMT");
    let report = patient.examine(&old.await, None, Guard::everything()).await;
    assert!(seen(&report).contains(&("clock", Bad)) && seen(&report).contains(&("keys", Bad)), "{report:#?}");
}

#[tokio::test]
async fn what_answers_but_is_no_matrix_server_is_told() {
    let patient = Patient::new();
    let page = patient.serves(|_| "<html>It works</html>".to_owned(), "Mon, 21 Sep 2026 14:13:20 GMT").await;
    let report = patient.examine(&page, None, Guard::everything()).await;
    assert_eq!(seen(&report).last(), Some(&("keys", Bad)), "{report:#?}");
    let key = Arc::new(pair("1"));
    let other = patient.serves(move |_| serde_json::to_string(&answer("b.example", &key, NOW_MS + 1000)).unwrap(), "");
    let report = patient.examine(&other.await, None, Guard::everything()).await;
    assert!(report.checks.last().unwrap().found.contains("another server"), "{report:#?}");
}

#[tokio::test]
async fn the_step_that_fails_is_named_with_a_way_to_mend_it() {
    let patient = Patient::new();
    patient.dns.address("inside.example", "10.1.2.3");
    let wrong_name = patient.web.serve(&["b.example"], |_| std::future::ready(reply(200, &[], ""))).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let local = || Guard::new(vec!["127.0.0.1".parse().unwrap()]);
    for (name, step) in [
        ("127.1".to_owned(), "name"),
        ("nowhere.example:1".to_owned(), "dns"),
        ("inside.example:1".to_owned(), "dns"),
        (format!("a.example:{}", closed.port()), "port"),
        (format!("a.example:{}", wrong_name.port()), "tls"),
    ] {
        let report = patient.examine(&name, None, local()).await;
        let last = report.checks.last().unwrap();
        assert_eq!((last.what, last.outcome), (step, Bad), "{name}: {report:#?}");
        assert!(last.mend.as_ref().is_some_and(|mend| mend.len() > 10), "{name}");
    }
}
