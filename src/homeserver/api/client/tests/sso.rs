//! Signing in at an OpenID Connect provider, with one on this machine that does as each test says.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::oauth::{BASE, Browser, Page, encoded};
use crate::{
    base::Secret,
    homeserver::{
        Config,
        api::testing::{PASSWORD, TestNode, refused},
        users::sso::{Provider, id_token::tests::Signer},
    },
};

const LOGIN: &str = "/_matrix/client/v3/login";
pub(super) const CALLBACK: &str = "/_homeroom/sso/callback/work";
const APP: &str = "https://app.example.com/?x=1";

/// A provider on this machine.
pub(super) struct Fake {
    pub(super) server: MockServer,
    signer: Arc<Signer>,
    answers: AtomicU8,
}

impl Fake {
    pub(super) async fn new() -> Self {
        let fake = Self { server: MockServer::start().await, signer: Arc::new(Signer::new("k1")), answers: AtomicU8::new(0) };
        let at = |to: &str| format!("{}{to}", fake.server.uri());
        let document = json!({
            "issuer": fake.server.uri(), "authorization_endpoint": at("/authorize?realm=1"), "token_endpoint": at("/token"),
            "jwks_uri": at("/keys"), "userinfo_endpoint": at("/userinfo"),
        });
        fake.answers("GET", "/.well-known/openid-configuration", 200, document).await;
        fake.answers("GET", "/keys", 200, json!({ "keys": [fake.signer.jwk()] })).await;
        fake
    }

    pub(super) async fn answers(&self, verb: &str, to: &str, status: u16, body: Value) {
        let answer = ResponseTemplate::new(status).set_body_json(body);
        // The one that was put there last counts.
        let priority = 250 - self.answers.fetch_add(1, Ordering::Relaxed);
        Mock::given(method(verb)).and(path(to)).respond_with(answer).with_priority(priority).mount(&self.server).await;
    }

    /// A provider of this file, with more lines in it.
    pub(super) fn provider(&self, more: &str) -> Provider {
        let file = format!("id = \"work\"\nname = \"W & <Co>\"\nissuer = \"{}\"\nclient_id = \"us:1\"\n{more}\n", self.server.uri());
        let mut provider = Provider::read(&file, Path::new("/")).unwrap();
        provider.client_secret = Some(Secret::new("s%cret".into()));
        provider
    }

    pub(super) async fn node(&self, more: &str) -> TestNode {
        self.node_with(more, |_| {}).await
    }

    pub(super) async fn node_with(&self, more: &str, change: impl FnOnce(&mut Config)) -> TestNode {
        let provider = self.provider(more);
        let with = |config: &mut Config| {
            config.public_base_url = Some(BASE.into());
            config.outbound_networks = vec!["127.0.0.0/8".parse().unwrap()];
            config.registration = crate::homeserver::Registration::Closed;
            config.sso = vec![provider];
            change(config);
        };
        TestNode::with(with).await
    }

    /// What the provider says of somebody.
    fn claims(&self, test: &TestNode, subject: &str, nonce: &str) -> Value {
        let now_s = test.clock_ms() / 1000;
        json!({
            "iss": self.server.uri(), "aud": "us:1", "sub": subject, "nonce": nonce, "exp": now_s + 300, "iat": now_s,
            "auth_time": now_s, "preferred_username": subject, "name": format!("{subject} of W"),
        })
    }

    /// Has the token endpoint vouch for somebody.
    pub(super) async fn vouch(&self, test: &TestNode, subject: &str, nonce: &str, change: impl FnOnce(&mut Value)) {
        let mut claims = self.claims(test, subject, nonce);
        change(&mut claims);
        self.answers("POST", "/token", 200, json!({ "id_token": self.signer.sign(&claims), "access_token": "at", "token_type": "Bearer" }))
            .await;
    }
}

/// A page's link to a provider.
pub(super) fn way(page: &Page) -> Option<String> {
    let (_, rest) = page.text.split_once("class=\"way\" href=\"")?;
    let (link, _) = rest.split_once('"')?;
    Some(link.replace("&amp;", "&").strip_prefix(BASE)?.to_owned())
}

/// Where a page of ours leads, as a path.
pub(super) fn onwards(page: &Page) -> String {
    page.header("location").strip_prefix(BASE).unwrap_or_default().to_owned()
}

/// Somebody on the way to the provider.
pub(super) struct Trip {
    pub(super) to: Url,
}

impl Trip {
    /// Opens a page and takes its way to the provider.
    pub(super) async fn from(test: &TestNode, browser: &mut Browser, here: &str) -> Self {
        let page = browser.get(test, here).await;
        let way = way(&page).unwrap_or_else(|| panic!("no way from {here}: {}", page.text));
        let sent = browser.get(test, &way).await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        Self { to: Url::parse(sent.header("location")).unwrap() }
    }

    pub(super) fn get(&self, name: &str) -> String {
        self.to.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    /// The redirect URI with what the provider adds.
    pub(super) fn back(&self, more: &[(&str, &str)]) -> String {
        let state = self.get("state");
        let mut pairs = vec![("state", state.as_str())];
        pairs.extend(more);
        format!("{CALLBACK}?{}", encoded(&pairs))
    }
}

pub(super) fn to(target: &str) -> String {
    format!("/_matrix/client/v3/login/sso/redirect/work?{}", encoded(&[("redirectUrl", target)]))
}

/// Goes from a page to the provider and back, as somebody whom it knows. The page after the callback.
pub(super) async fn visit(test: &TestNode, fake: &Fake, browser: &mut Browser, here: &str, subject: &str) -> Page {
    let trip = Trip::from(test, browser, here).await;
    fake.vouch(test, subject, &trip.get("nonce"), |_| {}).await;
    browser.get(test, &trip.back(&[("code", "c0de")])).await
}

/// Who is signed in by the token in a location.
async fn signed_in(test: &TestNode, location: &str) -> (u16, Value) {
    let token = Url::parse(location).unwrap().query_pairs().find(|(key, _)| key == "loginToken").map(|(_, value)| value.into_owned());
    let (status, answer) = test.call("POST", LOGIN, None, json!({ "type": "m.login.token", "token": token.unwrap() })).await;
    (status.as_u16(), answer)
}

#[tokio::test]
async fn clients_are_told_of_the_providers() {
    let fake = Fake::new().await;
    let test = fake.node("icon = \"mxc://home.test/abc\"\nbrand = \"gitlab\"").await;
    let flows = test.call("GET", LOGIN, None, Value::Null).await.1;
    let flow = flows["flows"].as_array().unwrap().iter().find(|flow| flow["type"] == "m.login.sso").unwrap().clone();
    let told = json!([{ "id": "work", "name": "W & <Co>", "icon": "mxc://home.test/abc", "brand": "gitlab" }]);
    assert_eq!(flow["identity_providers"], told);
}

#[tokio::test]
async fn somebody_new_makes_an_account_and_is_signed_in_then_and_ever_after() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let mut browser = Browser::default();
    let page = browser.get(&test, &to(APP)).await;
    assert!(page.text.contains("the site app.example.com") && page.text.contains("Continue with W &amp; &lt;Co&gt;"), "{}", page.text);
    let new = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
    assert!(onwards(&new).starts_with("/_homeroom/sso/account?id="), "{} {}", new.header("location"), new.text);
    let page = browser.get(&test, &onwards(&new)).await;
    assert!(page.text.contains("@ann:home.test"), "{}", page.text);
    assert!(page.header("content-security-policy").contains("form-action 'self' https://app.example.com;"));
    let made = browser.submit(&test, &onwards(&new), &[("act", "create"), ("user", "root")]).await;
    assert_eq!((made.status, onwards(&made)), (303, to(APP)), "{}", made.text);
    let done = browser.get(&test, &onwards(&made)).await;
    assert!(done.header("location").starts_with("https://app.example.com/?x=1&loginToken=hrl_"), "{}", done.header("location"));
    let (status, answer) = signed_in(&test, done.header("location")).await;
    assert_eq!((status, &answer["user_id"]), (200, &json!("@ann:home.test")), "the name that the provider gave, not that of the form");
    let profile = test.call("GET", "/_matrix/client/v3/profile/@ann:home.test", answer["access_token"].as_str(), Value::Null).await.1;
    assert_eq!(profile["displayname"], "ann of W");
    // The word was good once; from another browser it takes one visit.
    assert!(way(&browser.get(&test, &to(APP)).await).is_some());
    let mut other = Browser::default();
    let back = visit(&test, &fake, &mut other, &to(APP), "ann").await;
    assert_eq!(onwards(&back), to(APP));
    let location = other.get(&test, &onwards(&back)).await.header("location").to_owned();
    assert_eq!(signed_in(&test, &location).await.1["user_id"], "@ann:home.test");
    assert_eq!(signed_in(&test, &location).await.0, 403, "once");
}

#[tokio::test]
async fn the_provider_is_asked_with_pkce_and_the_secret_in_a_header() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true\nscopes = [\"openid\", \"groups\"]").await;
    let mut browser = Browser::default();
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    let start = trip.to.as_str();
    assert!(start.starts_with(&format!("{}/authorize?realm=1&", fake.server.uri())), "{start}");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "us:1"),
        ("redirect_uri", "https://m.home.test/_homeroom/sso/callback/work"),
        ("scope", "openid groups"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(trip.get(name), value);
    }
    assert!(!start.contains("cret"));
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    browser.get(&test, &trip.back(&[("code", "c0de")])).await;
    let asked = fake.server.received_requests().await.unwrap().into_iter().find(|request| request.url.path() == "/token").unwrap();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default();
    assert_eq!((field("grant_type"), field("code"), field("client_secret")), ("authorization_code", "c0de", ""));
    assert_eq!(field("redirect_uri"), "https://m.home.test/_homeroom/sso/callback/work");
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier"))), trip.get("code_challenge"));
    // "us%3A1:s%25cret"
    assert_eq!(asked.headers.get("authorization").unwrap(), "Basic dXMlM0ExOnMlMjVjcmV0");
}

#[tokio::test]
async fn a_state_is_good_once_in_its_own_browser_and_for_minutes() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    other.get(&test, &to(APP)).await;
    let nobody = |page: &Page| page.status == 403 && page.header("location").is_empty();
    for wrong in [CALLBACK.to_owned(), format!("{CALLBACK}?state=x&code=c"), format!("{CALLBACK}?code=c")] {
        assert!(nobody(&browser.get(&test, &wrong).await), "{wrong}");
    }
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    let back = trip.back(&[("code", "c")]);
    assert!(nobody(&other.get(&test, &back).await), "another browser");
    assert!(nobody(&Browser::default().get(&test, &back).await), "a browser without a cookie");
    assert!(nobody(&browser.get(&test, &back).await), "used up by then");
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, 303);
    assert!(nobody(&browser.get(&test, &trip.back(&[("code", "c")])).await), "twice");
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    test.clock.advance(10 * 60 * 1000);
    assert!(nobody(&browser.get(&test, &trip.back(&[("code", "c")])).await), "too late");
}

#[tokio::test]
async fn a_token_for_another_sign_in_client_or_issuer_signs_nobody_in() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    for (claim, value) in [("nonce", "other"), ("aud", "them"), ("iss", "https://evil.example"), ("sub", "")] {
        let mut browser = Browser::default();
        let trip = Trip::from(&test, &mut browser, &to(APP)).await;
        fake.vouch(&test, "ann", &trip.get("nonce"), |claims| claims[claim] = value.into()).await;
        let page = browser.get(&test, &trip.back(&[("code", "c")])).await;
        assert_eq!((page.status, page.header("location")), (502, ""), "{claim}");
        assert!(page.text.contains("cannot be trusted"), "{}", page.text);
    }
    // A token that another key has signed.
    let mut browser = Browser::default();
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    let forged = Signer::new("k1").sign(&fake.claims(&test, "ann", &trip.get("nonce")));
    fake.answers("POST", "/token", 200, json!({ "id_token": forged })).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, 502);
    // RFC 9207: an answer in another provider's name.
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c"), ("iss", "https://evil.example")])).await.status, 403);
}

#[tokio::test]
async fn new_keys_of_the_provider_are_fetched() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await.status, 303);
    let new = Signer::new("k2");
    fake.answers("GET", "/keys", 200, json!({ "keys": [new.jwk()] })).await;
    let fake = Fake { signer: Arc::new(new), ..fake };
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await.status, 502, "not every moment");
    test.clock.advance(60 * 1000);
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await.status, 303);
}

#[tokio::test]
async fn who_says_no_at_the_provider_is_signed_in_nowhere() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let mut browser = Browser::default();
    for (error, told) in [("access_denied", "Refused"), ("server_error<script>", "The provider said: server_errorscript.")] {
        let trip = Trip::from(&test, &mut browser, &to(APP)).await;
        let page = browser.get(&test, &trip.back(&[("error", error), ("code", "c")])).await;
        assert_eq!((page.status, page.header("location")), (403, ""));
        assert!(page.text.contains(told), "{}", page.text);
    }
    let asked = fake.server.received_requests().await.unwrap();
    assert!(!asked.iter().any(|request| request.url.path() == "/token"));
}

#[tokio::test]
async fn a_provider_that_is_down_or_lies_is_told_as_such() {
    let fake = Fake::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let test = fake.node_with("", |config| config.sso[0].issuer = dead).await;
    let mut browser = Browser::default();
    let start = way(&browser.get(&test, &to(APP)).await).unwrap();
    let page = browser.get(&test, &start).await;
    assert!(page.status == 502 && page.text.contains("does not answer"), "{}", page.text);
    // Metadata in another's name, and addresses without TLS that the owner has not allowed.
    for (field, value) in [("issuer", "https://evil.example"), ("token_endpoint", "http://evil.example/token")] {
        let fake = Fake::new().await;
        let at = |to: &str| format!("{}{to}", fake.server.uri());
        let mut document = json!({
            "issuer": fake.server.uri(), "authorization_endpoint": at("/a"), "token_endpoint": at("/token"), "jwks_uri": at("/keys"),
        });
        document[field] = value.into();
        fake.server.reset().await;
        fake.answers("GET", "/.well-known/openid-configuration", 200, document).await;
        let test = fake.node("").await;
        let mut browser = Browser::default();
        let start = way(&browser.get(&test, &to(APP)).await).unwrap();
        assert_eq!(browser.get(&test, &start).await.status, 502, "{field}");
    }
    // The token endpoint fails.
    let test = fake.node("registration = true").await;
    let mut browser = Browser::default();
    // A code that it does not know is not its fault.
    let answers = [(500, json!({}), 502), (400, json!({ "error": "invalid_grant" }), 403), (200, json!({ "access_token": "x" }), 502)];
    for (status, body, told) in answers {
        let trip = Trip::from(&test, &mut browser, &to(APP)).await;
        fake.answers("POST", "/token", status, body).await;
        assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, told, "{status}");
    }
}

#[tokio::test]
async fn a_provider_in_a_network_that_was_not_allowed_is_not_asked() {
    let fake = Fake::new().await;
    let test = fake.node_with("", |config| config.outbound_networks.clear()).await;
    let mut browser = Browser::default();
    let start = way(&browser.get(&test, &to(APP)).await).unwrap();
    assert_eq!(browser.get(&test, &start).await.status, 502);
    assert!(fake.server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn strangers_get_no_account_unless_the_owner_wants_it() {
    let fake = Fake::new().await;
    let test = fake.node("").await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    let page = visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await;
    assert_eq!((page.status, page.header("location")), (403, ""), "a name alone opens nothing");
    assert!(page.text.contains("you have no account on this server"), "{}", page.text);
}

#[tokio::test]
async fn an_account_that_exists_is_given_to_its_namesake_only_if_the_owner_says_so() {
    let fake = Fake::new().await;
    let test = fake.node("link_existing = true").await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    test.node.accounts.create("boss", PASSWORD, true).await.unwrap();
    let mut browser = Browser::default();
    let back = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
    let location = browser.get(&test, &onwards(&back)).await.header("location").to_owned();
    assert_eq!(signed_in(&test, &location).await.1["user_id"], "@ann:home.test");
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "boss").await.status, 403, "an administrator's is not");
    // Somebody else of the provider who calls themselves ann now.
    let mut browser = Browser::default();
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |claims| claims["sub"] = "another".into()).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, 403);
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_given_again() {
    let fake = Fake::new().await;
    for (more, chosen) in [("registration = true", None), ("registration = true\nchoose_localpart = true", Some("ann2"))] {
        let test = fake.node(more).await;
        test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
        let mut browser = Browser::default();
        let new = onwards(&visit(&test, &fake, &mut browser, &to(APP), "ann").await);
        let page = browser.submit(&test, &new, &[("act", "create"), ("user", "ann")]).await;
        assert!(page.status == 403 && page.text.contains("This user name is taken."), "{}", page.text);
        let Some(chosen) = chosen else { continue };
        let made = browser.submit(&test, &new, &[("act", "create"), ("user", chosen)]).await;
        let location = browser.get(&test, &onwards(&made)).await.header("location").to_owned();
        assert_eq!(signed_in(&test, &location).await.1["user_id"], "@ann2:home.test");
        assert_eq!(browser.get(&test, &new).await.status, 403, "one account each");
    }
}

#[tokio::test]
async fn the_terms_have_to_be_accepted_and_the_page_is_one_browsers() {
    let fake = Fake::new().await;
    let terms = crate::homeserver::config::Terms { url: "https://home.test/terms".into(), version: "1".into() };
    let test = fake.node_with("registration = true", |config| config.terms = Some(terms)).await;
    let mut browser = Browser::default();
    let new = onwards(&visit(&test, &fake, &mut browser, &to(APP), "ann").await);
    assert_eq!(Browser::default().get(&test, &new).await.status, 403, "another browser");
    assert_eq!(browser.submit(&test, &new, &[("act", "create")]).await.status, 403);
    assert_eq!(browser.post(&test, &new, &[("act", "create"), ("terms", "yes")]).await.status, 403, "without the form's mark");
    assert_eq!(browser.submit(&test, &new, &[("act", "create"), ("terms", "yes")]).await.status, 303);
}

#[tokio::test]
async fn a_name_is_looked_up_where_the_token_has_none() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true\nlocalpart = \"{nick}\"").await;
    for (sub, status) in [("mallory", 502), ("ann", 303)] {
        fake.answers("GET", "/userinfo", 200, json!({ "sub": sub, "nick": "Annie" })).await;
        let mut browser = Browser::default();
        let new = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
        assert_eq!(new.status, status, "{sub}: {}", new.text);
        if status == 303 {
            assert!(browser.get(&test, &onwards(&new)).await.text.contains("@annie:home.test"));
        }
    }
    let asked = fake.server.received_requests().await.unwrap();
    assert!(asked.iter().any(|request| request.url.path() == "/userinfo" && request.headers.get("authorization").unwrap() == "Bearer at"));
    fake.answers("GET", "/userinfo", 200, json!({ "sub": "ann" })).await;
    let page = visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await;
    assert!(page.status == 403 && page.text.contains("how you are called"), "{}", page.text);
}

#[tokio::test]
async fn nobody_is_sent_to_a_provider_by_a_link_that_their_own_page_did_not_have() {
    let fake = Fake::new().await;
    let test = fake.node("").await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    other.get(&test, &to(APP)).await;
    let start = way(&browser.get(&test, &to(APP)).await).unwrap();
    assert_eq!(other.get(&test, &start).await.status, 403);
    assert_eq!(Browser::default().get(&test, &start).await.status, 403);
    let elsewhere = start.replace("app.example.com", "evil.example.com");
    assert_ne!(elsewhere, start);
    assert_eq!(browser.get(&test, &elsewhere).await.status, 403);
    let (unmarked, _) = start.split_once("&mark=").unwrap();
    assert_eq!(browser.get(&test, unmarked).await.status, 403);
    assert_eq!(browser.get(&test, &start).await.status, 303);
    for target in ["javascript:alert(1)", "http://evil.com/", "https://user@evil.com/", ""] {
        let page = browser.get(&test, &to(target)).await;
        assert!(page.status == 400 && way(&page).is_none(), "{target}");
    }
    let unknown = to(APP).replace("/work?", "/play?");
    assert_eq!(browser.get(&test, &unknown).await.status, 404);
    // Without an ID the page has our own form and every provider.
    let page = browser.get(&test, &to(APP).replace("/work?", "?")).await;
    assert!(page.text.contains("name=\"password\"") && way(&page).is_some(), "{}", page.text);
}

#[tokio::test]
async fn a_locked_or_closed_account_is_not_opened_by_a_provider() {
    let fake = Fake::new().await;
    let test = fake.node("link_existing = true").await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    let mut browser = Browser::default();
    let back = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
    assert_eq!(back.status, 303);
    let user = test.node.accounts.account(ruma::user_id!("@ann:home.test")).await.unwrap().unwrap().user;
    test.node.accounts.set_locked(user, true).await.unwrap();
    let page = browser.get(&test, &onwards(&back)).await;
    assert!(page.header("location").is_empty() && way(&page).is_some(), "locking ends the word that was given");
    let back = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
    let page = browser.get(&test, &onwards(&back)).await;
    assert!(page.status == 403 && page.text.contains("has been locked"), "{}", page.text);
    test.node.accounts.set_locked(user, false).await.unwrap();
    // Whoever was shown out does not come back as somebody new: the provider's word still stands for the closed account.
    test.node.accounts.deactivate(user, false).await.unwrap();
    let back = visit(&test, &fake, &mut browser, &to(APP), "ann").await;
    let page = browser.get(&test, &onwards(&back)).await;
    assert!(page.status == 403 && page.text.contains("has been closed"), "{}", page.text);
    assert_eq!(refused(&test.call("POST", LOGIN, None, json!({ "type": "m.login.token", "token": "x" })).await), (403, "M_FORBIDDEN"));
}
