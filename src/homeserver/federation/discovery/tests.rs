#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    super::{
        connect::{ConnectError, Connector},
        testing::{FakeDns, FakeWeb, answer},
    },
    *,
};
use crate::{
    base::{ManualClock, SystemRandomness, random::SeededRandomness},
    homeserver::outbound::Guard,
};

const HOUR_MS: u64 = 60 * 60 * 1000;

struct Net {
    web: FakeWeb,
    dns: Arc<FakeDns>,
    clock: ManualClock,
}

impl Net {
    fn new() -> Self {
        Self { web: FakeWeb::new(), dns: Arc::default(), clock: ManualClock::at(1_790_000_000_000) }
    }

    fn connector(&self, guard: Guard) -> Connector {
        Connector::new(Arc::clone(&self.dns) as _, guard, Some(self.web.ca()))
    }

    /// A discovery for which HTTPS is at this port.
    fn discovery(&self, port: u16) -> Discovery {
        self.guarded(port, Guard::everything())
    }

    fn guarded(&self, port: u16, guard: Guard) -> Discovery {
        let well_known = WellKnown::new(self.connector(guard), Arc::new(self.clock.clone()), Arc::new(SystemRandomness)).at_port(port);
        Discovery::new(Arc::clone(&self.dns) as _, well_known, Arc::new(SeededRandomness::new(7)))
    }

    /// A web server for `a.example` that gives this answer, and how often it was asked.
    async fn says(&self, status: u16, headers: Headers, body: &'static str) -> (u16, Arc<AtomicUsize>) {
        self.dns.address("a.example", "127.0.0.1");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let web = self.web.serve(&["a.example"], move |request| {
            assert_eq!(request.uri().path(), "/.well-known/matrix/server");
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(answer(status, headers, body))
        });
        (web.await.port(), asked)
    }
}

async fn found(discovery: &Discovery, name: &str) -> (Vec<String>, String, String, Step) {
    let route = discovery.route(&ServerName::parse(name).unwrap()).await.unwrap();
    let certificate = route.certificate.to_str().into_owned();
    (route.targets.iter().map(ToString::to_string).collect(), route.host, certificate, route.found.step)
}

fn expected(targets: &[&str], host: &str, certificate: &str, step: Step) -> (Vec<String>, String, String, Step) {
    (targets.iter().map(ToString::to_string).collect(), host.to_owned(), certificate.to_owned(), step)
}

type Headers = &'static [(&'static str, &'static str)];

/// A port where nobody listens.
async fn nobody() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn steps_1_and_2_ask_nobody() {
    let net = Net::new();
    let discovery = net.discovery(1);
    assert_eq!(found(&discovery, "1.2.3.4").await, expected(&["1.2.3.4:8448"], "1.2.3.4", "1.2.3.4", Step::Address));
    assert_eq!(found(&discovery, "1.2.3.4:80").await, expected(&["1.2.3.4:80"], "1.2.3.4:80", "1.2.3.4", Step::Address));
    assert_eq!(found(&discovery, "[2001:4::1]").await, expected(&["[2001:4::1]:8448"], "[2001:4::1]", "2001:4::1", Step::Address));
    assert_eq!(found(&discovery, "A.example:99").await, expected(&["a.example:99"], "a.example:99", "a.example", Step::Port));
    assert_eq!(*net.dns.asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn step_3_delegates_to_an_address_a_port_a_service_or_a_host() {
    for (body, want) in [
        (r#"{"m.server":"1.2.3.4"}"#, expected(&["1.2.3.4:8448"], "1.2.3.4", "1.2.3.4", Step::Address)),
        (r#"{"m.server":"b.example:443"}"#, expected(&["b.example:443"], "b.example:443", "b.example", Step::Port)),
        (r#"{"m.server":"s.example"}"#, expected(&["t.example:44", "u.example:55"], "s.example", "s.example", Step::Srv)),
        (r#"{"m.server":"o.example"}"#, expected(&["t.example:66"], "o.example", "o.example", Step::OldSrv)),
        (r#"{"m.server":"b.example"}"#, expected(&["b.example:8448"], "b.example", "b.example", Step::Default)),
    ] {
        let net = Net::new();
        net.dns.service("_matrix-fed._tcp.s.example", 20, 1, "u.example", 55);
        net.dns.service("_matrix-fed._tcp.s.example", 10, 1, "t.example", 44);
        net.dns.service("_matrix._tcp.o.example", 10, 1, "t.example", 66);
        // Once delegated, the records of the first name mean nothing.
        net.dns.service("_matrix-fed._tcp.a.example", 10, 1, "wrong.example", 1);
        let (port, _) = net.says(200, &[], body).await;
        assert_eq!(found(&net.discovery(port), "a.example").await, want, "{body}");
    }
}

#[tokio::test]
async fn steps_4_to_6_follow_where_there_is_no_delegation() {
    for (service, want) in [
        ("_matrix-fed._tcp.a.example", expected(&["t.example:44"], "a.example", "a.example", Step::Srv)),
        ("_matrix._tcp.a.example", expected(&["t.example:44"], "a.example", "a.example", Step::OldSrv)),
        ("_other._tcp.a.example", expected(&["a.example:8448"], "a.example", "a.example", Step::Default)),
    ] {
        let net = Net::new();
        net.dns.service(service, 10, 1, "t.example", 44);
        let (port, _) = net.says(404, &[], "no such page").await;
        assert_eq!(found(&net.discovery(port), "a.example").await, want, "{service}");
    }
}

#[tokio::test]
async fn what_is_no_delegation_counts_as_none() {
    let large = format!(r#"{{"m.server":"b.example","x":"{}"}}"#, "x".repeat(60_000));
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"m.server":7}"#,
        r#"{"m.server":""}"#,
        r#"{"m.server":"a b"}"#,
        r#"{"m.server":"https://b.example"}"#,
        r#"{"m.server":"b.example/path"}"#,
        r#"{"m.server":"127.1"}"#,
        &*large.leak(),
    ] {
        let net = Net::new();
        let (port, _) = net.says(200, &[], body).await;
        assert_eq!(found(&net.discovery(port), "a.example").await.3, Step::Default, "{body}");
    }
}

#[tokio::test]
async fn a_delegation_is_remembered_as_long_as_it_says_within_limits() {
    let cases: [(Headers, u64, u64); 7] = [
        (&[], 20 * HOUR_MS, 27 * HOUR_MS),
        (&[("Cache-Control", "max-age=3600")], 50 * 60 * 1000, 70 * 60 * 1000),
        (&[("Cache-Control", "public, Max-Age=\"3600\"")], 50 * 60 * 1000, 70 * 60 * 1000),
        (&[("Cache-Control", "max-age=99999999999")], 40 * HOUR_MS, 48 * HOUR_MS + 1),
        (&[("Cache-Control", "no-store")], 4 * 60 * 1000, 6 * 60 * 1000),
        (&[("Date", "Sat, 21 Nov 2026 18:00:00 GMT"), ("Expires", "Sat, 21 Nov 2026 20:00:00 GMT")], 100 * 60 * 1000, 140 * 60 * 1000),
        (&[("Expires", "0")], 4 * 60 * 1000, 6 * 60 * 1000),
    ];
    for (headers, still_ms, gone_ms) in cases {
        let net = Net::new();
        let (port, asked) = net.says(200, headers, r#"{"m.server":"b.example"}"#).await;
        let discovery = net.discovery(port);
        for (wait_ms, times) in [(0, 1), (still_ms, 1), (gone_ms - still_ms, 2)] {
            net.clock.advance(wait_ms);
            assert_eq!(found(&discovery, "a.example").await.1, "b.example");
            assert_eq!(asked.load(Ordering::SeqCst), times, "{headers:?} after {wait_ms}");
        }
    }
}

#[tokio::test]
async fn that_there_is_none_is_remembered_for_an_hour_at_most() {
    let net = Net::new();
    let (port, asked) = net.says(404, &[("Cache-Control", "max-age=999999")], "").await;
    let discovery = net.discovery(port);
    for (wait_ms, times) in [(0, 1), (50 * 60 * 1000, 1), (11 * 60 * 1000, 2)] {
        net.clock.advance(wait_ms);
        found(&discovery, "a.example").await;
        assert_eq!(asked.load(Ordering::SeqCst), times);
    }
}

#[tokio::test]
async fn a_web_server_that_is_down_does_not_move_the_matrix_server() {
    let net = Net::new();
    net.dns.address("a.example", "127.0.0.1");
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let state = Arc::clone(&up);
    let web = net.web.serve(&["a.example"], move |_| {
        let up = state.load(Ordering::SeqCst);
        std::future::ready(if up {
            answer(200, &[("Cache-Control", "max-age=600")], r#"{"m.server":"b.example"}"#)
        } else {
            answer(503, &[], "")
        })
    });
    let discovery = net.discovery(web.await.port());
    assert_eq!(found(&discovery, "a.example").await.1, "b.example");
    up.store(false, Ordering::SeqCst);
    net.clock.advance(HOUR_MS);
    assert_eq!(found(&discovery, "a.example").await.1, "b.example", "the last answer stands in");
    net.clock.advance(48 * HOUR_MS);
    assert_eq!(found(&discovery, "a.example").await.1, "a.example", "but not for ever");
}

#[tokio::test]
async fn redirects_are_followed_to_https_and_not_for_ever() {
    let net = Net::new();
    net.dns.address("b.example", "127.0.0.1");
    net.dns.address("a.example", "127.0.0.1");
    let last = net.web.serve(&["b.example"], |request| {
        assert_eq!(request.headers()["host"].to_str().unwrap().split(':').next(), Some("b.example"));
        std::future::ready(answer(200, &[], r#"{"m.server":"c.example"}"#))
    });
    let elsewhere = format!("https://b.example:{}/x?y=z", last.await.port());
    for (location, host) in [
        (elsewhere, "c.example"),
        ("/.well-known/matrix/server".to_owned(), "a.example"),
        ("http://b.example/x".to_owned(), "a.example"),
        ("file:///etc/passwd".to_owned(), "a.example"),
        ("https://".to_owned(), "a.example"),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let to = location.clone();
        let web = net.web.serve(&["a.example"], move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(answer(302, &[("Location", to.as_str())], ""))
        });
        assert_eq!(found(&net.discovery(web.await.port()), "a.example").await.1, host, "{location}");
        assert!(asked.load(Ordering::SeqCst) <= 6, "{location}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let net = Net::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let inside = net.web.serve(&["127.0.0.1", "inside.example"], move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(answer(200, &[], r#"{"m.server":"c.example"}"#))
    });
    let inside = inside.await;
    net.dns.address("inside.example", "127.0.0.1");
    net.dns.address("a.example", "127.0.0.2");
    for host in ["127.0.0.1", "inside.example", "[::ffff:127.0.0.1]"] {
        let location = format!("https://{host}:{}/", inside.port());
        let redirect = move |_| std::future::ready(answer(307, &[("Location", location.as_str())], ""));
        let web = net.web.serve_at("127.0.0.2", &["a.example"], redirect).await;
        // The host that was asked may be connected to, the one that it leads to may not.
        let discovery = net.guarded(web.port(), Guard::new(vec!["127.0.0.2".parse().unwrap()]));
        assert_eq!(found(&discovery, "a.example").await.1, "a.example", "{host}");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{host}");
        if host != "[::ffff:127.0.0.1]" {
            // With both allowed it is followed, so the guard is what stopped it.
            assert_eq!(found(&net.discovery(web.port()), "a.example").await.1, "c.example", "{host}");
            asked.store(0, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn the_certificate_of_the_web_server_has_to_be_for_the_host() {
    let net = Net::new();
    net.dns.address("a.example", "127.0.0.1");
    let web = net.web.serve(&["b.example"], |_| std::future::ready(answer(200, &[], r#"{"m.server":"evil.example"}"#)));
    assert_eq!(found(&net.discovery(web.await.port()), "a.example").await.1, "a.example");
}

#[tokio::test]
async fn a_name_without_a_web_server_is_found_all_the_same() {
    let net = Net::new();
    net.dns.address("a.example", "127.0.0.1");
    assert_eq!(found(&net.discovery(nobody().await), "a.example").await.3, Step::Default);
    assert_eq!(found(&net.discovery(1), "nowhere.example").await.3, Step::Default);
    // A name server that fails on SRV records is no reason to stop.
    assert_eq!(found(&net.discovery(1), "broken.example").await.3, Step::Default);
}

#[tokio::test]
async fn a_domain_can_say_that_it_has_no_server() {
    let net = Net::new();
    net.dns.service("_matrix-fed._tcp.a.example", 0, 0, "", 0);
    let outcome = net.discovery(1).route(&ServerName::parse("a.example").unwrap()).await;
    assert_eq!(outcome, Err(DiscoveryError::NotOffered("a.example".to_owned())));
}

#[tokio::test]
async fn srv_targets_that_are_no_hosts_are_passed_over() {
    let net = Net::new();
    for (target, port) in [("127.0.0.1", 1), ("a b", 1), ("x.example:1", 1), ("y.example", 0), ("good.example", 5)] {
        net.dns.service("_matrix-fed._tcp.a.example", 0, 0, target, port);
    }
    assert_eq!(found(&net.discovery(1), "a.example").await.0, ["good.example:5"]);
}

#[tokio::test]
async fn every_server_of_one_priority_is_chosen_by_its_weight() {
    let net = Net::new();
    net.dns.service("_matrix-fed._tcp.a.example", 0, 90, "heavy.example", 1);
    net.dns.service("_matrix-fed._tcp.a.example", 0, 10, "light.example", 1);
    net.dns.service("_matrix-fed._tcp.a.example", 1, 99, "last.example", 1);
    let discovery = net.discovery(1);
    let mut heavy = 0;
    for _ in 0..200 {
        let targets = found(&discovery, "a.example").await.0;
        assert_eq!(targets.last().map(String::as_str), Some("last.example:1"));
        heavy += usize::from(targets.first().map(String::as_str) == Some("heavy.example:1"));
    }
    assert!((150..199).contains(&heavy), "{heavy}");
}

#[tokio::test]
async fn many_who_look_for_one_server_ask_once() {
    let net = Net::new();
    let (port, asked) = net.says(200, &[], r#"{"m.server":"b.example"}"#).await;
    let discovery = net.discovery(port);
    let all = futures_util::future::join_all((0..20).map(|_| found(&discovery, "a.example"))).await;
    assert!(all.iter().all(|found| found.1 == "b.example"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_go_to_checked_addresses_only() {
    let net = Net::new();
    net.dns.address("mixed.example", "10.0.0.1");
    net.dns.address("mixed.example", "127.0.0.1");
    net.dns.address("inside.example", "169.254.169.254");
    let connector = net.connector(Guard::new(vec!["127.0.0.1".parse().unwrap()]));
    let route = |name: &str| {
        let parts = names::parts(name).unwrap();
        plain(&parts, name).unwrap().unwrap()
    };
    assert_eq!(connector.addresses(&route("mixed.example:5")).await.unwrap(), ["127.0.0.1:5".parse().unwrap()]);
    for name in ["inside.example:5", "10.0.0.1", "[::1]:5", "[::ffff:10.0.0.1]", "0.0.0.0:1"] {
        let outcome = connector.addresses(&route(name)).await;
        assert!(matches!(outcome, Err(ConnectError::Private(_))), "{name}: {outcome:?}");
    }
}
