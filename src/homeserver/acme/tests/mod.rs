#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

mod fake;

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _};

use axum::{Router, routing::get};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::fake::{FakeAuthority, proof_at};
use super::{standing::examine, *};
use crate::{
    base::{ManualClock, Shutdown, SystemRandomness},
    homeserver::{
        CertificateSource, Config, Homeserver, Listeners, TlsListeners, api::error::ApiError, federation::doctor::Outcome, listen,
    },
};

/// September 2026.
const NOW_MS: u64 = 1_790_000_000_000;
const HOUR_MS: u64 = 60 * 60 * 1000;
const YEAR_MS: u64 = 366 * 24 * HOUR_MS;
/// Whoever waits longer than this has waited for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node's side: what it listens on and what it keeps, without the rest of it.
struct Side {
    dir: TempDir,
    clock: ManualClock,
    authority: FakeAuthority,
    challenge: Challenge,
    challenges: Arc<Challenges>,
    tasks: Tasks,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger();
    }
}

impl Side {
    async fn new(challenge: Challenge) -> Self {
        let authority = FakeAuthority::new().await;
        authority.book().offers = Some(challenge);
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: ManualClock::at(NOW_MS),
            authority,
            challenge,
            challenges: Arc::default(),
            tasks: Tasks::new(Shutdown::new()),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            directory: self.authority.directory(),
            email: Some("owner@a.example".to_owned()),
            challenge: self.challenge,
            domains: vec!["a.example".to_owned(), "matrix.a.example".to_owned()],
            extra_ca: Some(self.authority.ca()),
        }
    }

    async fn keeper_with(&self, settings: Settings) -> Keeper {
        let (dir, clock) = (self.dir.path().to_owned(), Arc::new(self.clock.clone()));
        Keeper::open(settings, dir, Arc::clone(&self.challenges), clock).await.polling(Duration::from_millis(1))
    }

    async fn keeper(&self) -> Keeper {
        self.keeper_with(self.settings()).await
    }

    /// Listens, and has the names lead there.
    async fn listen(&self, keeper: &Keeper) -> SocketAddr {
        let challenges = Arc::clone(&self.challenges);
        let proof = move |axum::extract::Path(token): axum::extract::Path<String>| async move {
            challenges.page(&token).ok_or_else(ApiError::unrecognized)
        };
        let router = Router::new().route("/", get(|| async { "fine" })).route("/.well-known/acme-challenge/{token}", get(proof));
        let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        let tls = TlsListeners { addresses: vec![anywhere], certificate: CertificateSource::Acme(self.settings()) };
        let listeners = Listeners { tcp: vec![anywhere], tls: Some(tls), ..Listeners::default() };
        let addresses = listen::start(&listeners, Some(keeper.certificates()), router, &self.tasks).await.unwrap();
        let looks_at = if self.challenge == Challenge::Http01 { addresses.tcp[0] } else { addresses.tls[0] };
        self.authority.book().looks_at = Some(looks_at);
        addresses.tls[0]
    }

    fn asked(&self) -> usize {
        self.authority.book().asked.len()
    }

    /// What the owner is told.
    fn told(&self) -> (Outcome, String) {
        let check = examine(self.dir.path(), &self.settings(), self.clock.now_ms());
        (check.outcome, check.found)
    }

    async fn state(&self) -> State {
        Disk::new(self.dir.path()).state().await
    }

    /// The certificate that is shown; none without one that is good for the name.
    async fn shown(&self, address: SocketAddr, name: &str) -> Option<Vec<u8>> {
        let stream = self.authority.connect(address, name).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?[0].as_ref().to_vec())
    }
}

/// One request over a connection that stays.
async fn ask(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"fine") {
        let mut piece = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "the connection has ended");
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_certificate_is_had_and_renewed_while_connections_go_on() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    assert!(side.shown(address, "a.example").await.is_none(), "there is none yet");
    assert_eq!(side.told().0, Outcome::Bad);
    keeper.round().await;
    let first = side.shown(address, "a.example").await.unwrap();
    assert_eq!(side.shown(address, "matrix.a.example").await.as_ref(), Some(&first));
    assert_eq!(side.authority.book().contact, Some(serde_json::json!(["mailto:owner@a.example"])));
    assert_eq!(side.told().0, Outcome::Good, "{}", side.told().1);
    assert!(proof_at(address, "a.example").await.is_err(), "a proof is shown only while an authority looks");

    let mut staying = side.authority.connect(address, "a.example").await.unwrap();
    assert!(ask(&mut staying).await.starts_with("HTTP/1.1 200"));
    let asked = side.asked();
    side.clock.advance(13 * YEAR_MS);
    keeper.round().await;
    assert_eq!(side.asked(), asked, "two thirds of thirty years are not over");
    side.clock.advance(2 * YEAR_MS);
    keeper.round().await;
    let second = side.shown(address, "a.example").await.unwrap();
    assert_ne!(first, second);
    assert!(ask(&mut staying).await.starts_with("HTTP/1.1 200"), "the connection goes on");
    assert_eq!(side.authority.book().asked.iter().filter(|path| *path == "/account").count(), 2, "the account is found again");
}

#[tokio::test]
async fn what_was_issued_outlives_a_restart_and_is_its_owners_alone() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    keeper.round().await;
    let first = side.shown(address, "a.example").await.unwrap();
    let asked = side.asked();
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    assert_eq!(side.shown(address, "a.example").await, Some(first), "at once, and nobody is asked");
    keeper.round().await;
    assert_eq!(side.asked(), asked);
    let dir = side.dir.path().join("acme");
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    // Another name needs another certificate.
    let mut settings = side.settings();
    settings.domains.push("third.example".to_owned());
    let keeper = side.keeper_with(settings).await;
    let address = side.listen(&keeper).await;
    assert!(side.shown(address, "third.example").await.is_none());
    keeper.round().await;
    assert!(side.shown(address, "third.example").await.is_some());
}

#[tokio::test]
async fn a_page_proves_a_name_as_well() {
    let side = Side::new(Challenge::Http01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    keeper.round().await;
    assert!(side.shown(address, "a.example").await.is_some(), "{}", side.told().1);
    assert!(side.challenges.page("token-0_of-the-authority").is_none(), "it is gone afterwards");
}

#[tokio::test]
async fn nonces_that_are_not_taken_are_replaced_but_not_for_ever() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    side.authority.book().refuse_nonces = 100;
    keeper.round().await;
    assert!(side.told().1.contains("badNonce"), "{}", side.told().1);
    assert_eq!(side.asked(), 4);
    side.clock.advance(FIRST_PAUSE_MS);
    side.authority.book().refuse_nonces = 2;
    keeper.round().await;
    assert!(side.shown(address, "a.example").await.is_some(), "{}", side.told().1);
}

#[tokio::test]
async fn failures_are_waited_out_and_the_old_certificate_stays() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    keeper.round().await;
    let first = side.shown(address, "a.example").await;
    assert!(first.is_some());
    side.authority.book().refuse_orders = Some((403, "rejectedIdentifier", None));
    side.clock.advance(15 * YEAR_MS);
    for pause_ms in [FIRST_PAUSE_MS, HOUR_MS, 2 * HOUR_MS, 4 * HOUR_MS] {
        let asked = side.asked();
        keeper.round().await;
        assert!(side.asked() > asked, "it is due");
        let asked = side.asked();
        side.clock.advance(pause_ms - 1);
        // Not even a restart makes it ask earlier.
        side.keeper().await.round().await;
        keeper.round().await;
        assert_eq!(side.asked(), asked, "{pause_ms}");
        side.clock.advance(1);
    }
    assert_eq!(side.shown(address, "a.example").await, first);
    let (outcome, found) = side.told();
    assert!(outcome == Outcome::Warning && found.contains("issues nothing for this name"), "{found}");
    side.clock.advance(10 * YEAR_MS);
    let (outcome, found) = side.told();
    assert!(outcome == Outcome::Bad && found.contains("ran out"), "{found}");
    side.authority.book().refuse_orders = None;
    side.authority.book().years = Some((2020, 2090));
    keeper.round().await;
    assert_ne!(side.shown(address, "a.example").await, first);
    assert_eq!(side.state().await.failures, 0);
    assert_eq!(side.told().0, Outcome::Good, "{}", side.told().1);
}

#[tokio::test]
async fn an_authority_that_wants_to_be_left_alone_is_left_alone() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    side.authority.book().refuse_orders = Some((429, "rateLimited", Some("172800")));
    keeper.round().await;
    side.authority.book().refuse_orders = None;
    let asked = side.asked();
    side.clock.advance(47 * HOUR_MS);
    keeper.round().await;
    assert_eq!(side.asked(), asked);
    assert!(side.told().1.contains("asked too often"), "{}", side.told().1);
    side.clock.advance(HOUR_MS);
    keeper.round().await;
    assert!(side.shown(address, "a.example").await.is_some());
}

#[tokio::test]
async fn other_settings_are_tried_at_once() {
    let side = Side::new(Challenge::Http01).await;
    let wrong = Settings { challenge: Challenge::TlsAlpn01, ..side.settings() };
    let keeper = side.keeper_with(wrong).await;
    side.listen(&keeper).await;
    keeper.round().await;
    let error = side.state().await.last_error.unwrap();
    assert!(error.contains("does not take tls-alpn-01") && error.contains("http-01"), "{error}");
    let keeper = side.keeper().await;
    let address = side.listen(&keeper).await;
    keeper.round().await;
    assert!(side.shown(address, "a.example").await.is_some(), "{}", side.told().1);
}

#[tokio::test]
async fn a_proof_that_is_not_found_is_told_in_words() {
    for challenge in [Challenge::TlsAlpn01, Challenge::Http01] {
        let side = Side::new(challenge).await;
        let keeper = side.keeper().await;
        side.listen(&keeper).await;
        // Somebody else is at the name's address, and then nobody.
        let other = Side::new(challenge).await;
        let (other_keeper, port) = (other.keeper().await, challenge.port().to_string());
        other.listen(&other_keeper).await;
        let elsewhere = other.authority.book().looks_at;
        side.authority.book().looks_at = elsewhere;
        keeper.round().await;
        let error = side.state().await.last_error.unwrap();
        assert!(error.contains("a.example") && error.contains(&port) && error.contains("at the name's address"), "{error}");
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        side.authority.book().looks_at = Some(closed);
        side.clock.advance(FIRST_PAUSE_MS);
        keeper.round().await;
        let error = side.state().await.last_error.unwrap();
        assert!(error.contains("could not connect"), "{error}");
    }
}

#[tokio::test]
async fn an_authority_that_is_none_is_told_and_one_that_nobody_vouches_for_is_not_asked() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let page = side.keeper_with(Settings { directory: side.authority.directory().replace("directory", "nonce"), ..side.settings() }).await;
    page.round().await;
    assert!(side.state().await.last_error.is_some());
    let stranger = side.keeper_with(Settings { extra_ca: None, ..side.settings() }).await;
    stranger.round().await;
    let error = side.state().await.last_error.unwrap();
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(side.asked(), 0);
}

#[tokio::test]
async fn an_attempt_that_our_own_stop_cuts_off_does_not_count() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let keeper = side.keeper().await;
    side.listen(&keeper).await;
    side.authority.open.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let tasks = Tasks::new(Shutdown::new());
    start(keeper, &tasks);
    let waited = tokio::time::timeout(PATIENCE, async {
        while !side.authority.book().asked.iter().any(|path| path == "/order") {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
    assert_eq!(side.state().await.failures, 1, "until it is known to have succeeded");
    tasks.shutdown().trigger();
    assert!(tasks.finish(PATIENCE).await);
    assert_eq!(side.state().await, State::default());
}

#[tokio::test]
async fn a_node_gets_its_certificate_by_itself() {
    let side = Side::new(Challenge::TlsAlpn01).await;
    let settings = Settings { domains: vec!["a.example".to_owned()], ..side.settings() };
    let config = Config::new("a.example".try_into().unwrap(), side.dir.path().join("node"));
    let tls = TlsListeners { addresses: vec![([127, 0, 0, 1], 0).into()], certificate: CertificateSource::Acme(settings) };
    let listeners = Listeners { tls: Some(tls), ..Listeners::default() };
    // Orders are held back until the authority knows where the name leads.
    side.authority.open.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let start = Homeserver::start(config, listeners, Arc::new(side.clock.clone()), Arc::new(SystemRandomness), Shutdown::new());
    let node = start.await.unwrap();
    let address = node.tls_addresses()[0];
    side.authority.book().looks_at = Some(address);
    side.authority.open.add_permits(10);
    let shown = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(stream) = side.authority.connect(address, "a.example").await {
                break stream;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(shown.await.is_ok());
    node.stop().await;
}
