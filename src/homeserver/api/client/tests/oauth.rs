//! Signing in with OAuth 2.0: metadata, registration, the authorisation endpoint, tokens and their end.

use std::net::SocketAddr;

use axum::body::Body;
use http::{HeaderMap, Request, header};
use serde_json::{Value, json};

use crate::homeserver::{
    Registration,
    api::testing::{Client, PASSWORD, TestNode, refused},
    listen::Peer,
};

pub(super) const BASE: &str = "https://m.home.test";
const AUTHORIZE: &str = "/_homeroom/oauth/authorize";
pub(super) const TOKEN: &str = "/_homeroom/oauth/token";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const CALLBACK: &str = "https://app.example.com/callback";
// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(super) const SCOPE: &str = "urn:matrix:client:api:* urn:matrix:client:device:OAUTHDEV01";

/// What a page or endpoint answers.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Page {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Status and OAuth error.
    pub(super) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        self.text.split_once(&start).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value.to_owned()).unwrap_or_default()
    }

    /// A parameter in the query or fragment of the place that it leads to.
    pub(super) fn leads_with(&self, name: &str) -> Option<String> {
        let (_, rest) = self.header("location").split_once(['?', '#'])?;
        url::form_urlencoded::parse(rest.replace('#', "&").as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A browser with our cookie, and others that it has been given.
#[derive(Debug, Default)]
pub(super) struct Browser {
    pub(super) cookie: Option<String>,
    pub(super) others: std::collections::BTreeMap<String, String>,
}

impl Browser {
    pub(super) async fn send(&mut self, test: &TestNode, request: http::request::Builder, body: String) -> Page {
        let mut request = request.extension(Peer(Some(SocketAddr::from(([127, 0, 0, 9], 5)))));
        let others = self.others.iter().map(|(name, value)| format!("{name}={value}; ")).collect::<String>();
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, format!("{others}other=1; __Host-homeroom={cookie}"));
        }
        let response = test.send(request.body(Body::from(body)).unwrap()).await;
        let (parts, body) = response.into_parts();
        for set in parts.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
            assert!(set.len() <= 4096, "browsers keep no more: {set}");
            let (name, rest) = set.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap_or_default().to_owned();
            if name == "__Host-homeroom" {
                self.cookie = Some(value);
            } else if set.contains("; Max-Age=0;") {
                self.others.remove(name);
            } else {
                self.others.insert(name.to_owned(), value);
            }
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Page { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    pub(super) async fn get(&mut self, test: &TestNode, path: &str) -> Page {
        self.send(test, Request::get(path), String::new()).await
    }

    pub(super) async fn post(&mut self, test: &TestNode, path: &str, form: &[(&str, &str)]) -> Page {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(test, request, encoded(form)).await
    }

    /// Opens a page and sends its form filled in.
    pub(super) async fn submit(&mut self, test: &TestNode, path: &str, form: &[(&str, &str)]) -> Page {
        let page = self.get(test, path).await;
        assert!(page.text.contains("<form method=\"post\""), "{}", page.text);
        let mark = page.hidden("mark");
        let mut form = form.to_vec();
        form.push(("mark", &mark));
        self.post(test, path, &form).await
    }
}

pub(super) async fn node() -> TestNode {
    let test = TestNode::with(|config| config.public_base_url = Some(BASE.into())).await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    test
}

pub(super) async fn register(test: &TestNode, change: impl FnOnce(&mut Value)) -> (u16, Value) {
    let mut body = json!({
        "client_name": "Test & <Client>", "client_uri": "https://example.com/", "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_method": "none", "response_types": ["code"],
    });
    change(&mut body);
    let (status, answer) = test.call("POST", "/_homeroom/oauth/register", None, body).await;
    (status.as_u16(), answer)
}

pub(super) async fn client_id(test: &TestNode) -> String {
    let (status, answer) = register(test, |_| {}).await;
    assert_eq!(status, 201, "{answer}");
    answer["client_id"].as_str().unwrap().to_owned()
}

/// The URL of an authorisation request, with some parameters otherwise or, if empty, left out.
pub(super) fn request(client_id: &str, changes: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", CALLBACK),
        ("scope", SCOPE),
        ("state", "a state&more"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name, value));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    format!("{AUTHORIZE}?{}", encoded(&pairs))
}

pub(super) const ALLOW: [(&str, &str); 3] = [("act", "allow"), ("user", "ann"), ("password", PASSWORD)];

pub(super) async fn code(test: &TestNode, client_id: &str) -> String {
    let page = Browser::default().submit(test, &request(client_id, &[]), &ALLOW).await;
    assert_eq!(page.status, 303, "{}", page.text);
    page.leads_with("code").unwrap()
}

pub(super) async fn exchange(test: &TestNode, code: &str, client_id: &str, changes: &[(&str, &str)]) -> Page {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", client_id),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name, value));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    Browser::default().post(test, TOKEN, &pairs).await
}

pub(super) async fn refresh(test: &TestNode, token: &str, client_id: &str) -> Page {
    Browser::default().post(test, TOKEN, &[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client_id)]).await
}

/// Somebody who has signed in with OAuth, with the refresh token.
pub(super) async fn signed_in(test: &TestNode, client_id: &str) -> (Client, String) {
    let answer = exchange(test, &code(test, client_id).await, client_id, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    (Client { user_id: "@ann:home.test".into(), device_id: "OAUTHDEV01".into(), token: text("access_token") }, text("refresh_token"))
}

pub(super) async fn whoami(test: &TestNode, token: &str) -> u16 {
    test.call("GET", WHOAMI, Some(token), Value::Null).await.0.as_u16()
}

#[tokio::test]
async fn metadata_is_there_where_browsers_reach_the_node_and_nowhere_else() {
    let test = node().await;
    for path in ["/_matrix/client/v1/auth_metadata", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata"] {
        let (status, metadata) = test.call("GET", path, None, Value::Null).await;
        assert_eq!(status, 200);
        assert_eq!(metadata["issuer"], "https://m.home.test/");
        assert_eq!(metadata["authorization_endpoint"], format!("{BASE}{AUTHORIZE}"));
        assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(metadata["prompt_values_supported"], json!(["create"]));
        let parsed: Result<ruma::api::client::discovery::get_authorization_server_metadata::v1::AuthorizationServerMetadata, _> =
            serde_json::from_value(metadata);
        parsed.unwrap().validate_urls().unwrap();
    }
    let closed = TestNode::with(|config| {
        config.public_base_url = Some(BASE.into());
        config.registration = Registration::Closed;
    })
    .await;
    let metadata = closed.call("GET", "/_matrix/client/v1/auth_metadata", None, Value::Null).await.1;
    assert!(metadata.get("prompt_values_supported").is_none());
    let local = TestNode::new().await;
    for path in ["/_matrix/client/v1/auth_metadata", AUTHORIZE, "/_homeroom/account", "/_homeroom/link"] {
        assert_eq!(refused(&local.call("GET", path, None, Value::Null).await), (404, "M_UNRECOGNIZED"), "{path}");
    }
}

#[tokio::test]
async fn a_client_registers_and_the_same_metadata_is_the_same_client() {
    let test = node().await;
    let first = client_id(&test).await;
    assert_eq!(client_id(&test).await, first);
    let (_, other) = register(&test, |body| body["client_name"] = json!("Other")).await;
    assert_ne!(other["client_id"], json!(first));
    assert_eq!(other["redirect_uris"], json!([CALLBACK]));
    let (status, answer) = register(&test, |body| body["redirect_uris"] = json!(["https://evil.com/"])).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_redirect_uri")));
    let (status, answer) = register(&test, |body| body["client_uri"] = json!("nonsense")).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_client_metadata")));
    let answer = test.call("POST", "/_homeroom/oauth/register", None, json!([1])).await;
    assert_eq!((answer.0.as_u16(), answer.1["error"].as_str()), (400, Some("invalid_client_metadata")));
    let answer = test.call("POST", "/_homeroom/oauth/register", None, json!({ "client_name": "x".repeat(20_000) })).await;
    assert_eq!(refused(&answer), (413, "M_TOO_LARGE"));
}

#[tokio::test]
async fn a_user_signs_in_and_the_client_gets_tokens_for_its_device() {
    let test = node().await;
    let client = client_id(&test).await;
    let mut browser = Browser::default();
    let page = browser.get(&test, &request(&client, &[])).await;
    assert_eq!(page.status, 200);
    for wanted in
        ["Test &amp; &lt;Client&gt;", "app.example.com", "OAUTHDEV01", "<label for=\"user\">", "autocomplete=\"current-password\""]
    {
        assert!(page.text.contains(wanted), "{wanted}: {}", page.text);
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self' https://app.example.com;"), "{policy}");
    assert_eq!(
        (page.header("x-frame-options"), page.header("cache-control"), page.header("referrer-policy")),
        ("DENY", "no-store", "same-origin")
    );
    assert!(page.headers.get("access-control-allow-origin").is_none(), "nobody else's script reads it");
    let back = browser.submit(&test, &request(&client, &[]), &ALLOW).await;
    assert_eq!(back.status, 303, "{}", back.text);
    assert!(back.header("location").starts_with("https://app.example.com/callback?code="), "{}", back.header("location"));
    assert_eq!(back.leads_with("state").as_deref(), Some("a state&more"));
    assert_eq!(back.leads_with("iss").as_deref(), Some("https://m.home.test/"));
    let answer = exchange(&test, &back.leads_with("code").unwrap(), &client, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((answer.header("cache-control"), answer.header("access-control-allow-origin")), ("no-store", "*"));
    let tokens = answer.json();
    assert_eq!((&tokens["token_type"], &tokens["scope"], &tokens["expires_in"]), (&json!("Bearer"), &json!(SCOPE), &json!(300)));
    let who = test.call("GET", WHOAMI, tokens["access_token"].as_str(), Value::Null).await;
    assert_eq!(who.1, json!({ "user_id": "@ann:home.test", "device_id": "OAUTHDEV01" }));
    let device = test.call("GET", "/_matrix/client/v3/devices/OAUTHDEV01", tokens["access_token"].as_str(), Value::Null).await;
    assert_eq!(device.1["display_name"], "Test & <Client>");
}

#[tokio::test]
async fn the_fragment_keeps_the_code_from_the_clients_host() {
    let test = node().await;
    let client = client_id(&test).await;
    let page = Browser::default().submit(&test, &request(&client, &[("response_mode", "fragment")]), &ALLOW).await;
    assert!(page.header("location").starts_with("https://app.example.com/callback#code="), "{}", page.header("location"));
}

#[tokio::test]
async fn refusing_tells_the_client_and_a_wrong_password_nothing() {
    let test = node().await;
    let client = client_id(&test).await;
    let page = Browser::default().submit(&test, &request(&client, &[]), &[("act", "refuse")]).await;
    assert_eq!((page.status, page.leads_with("error").as_deref(), page.leads_with("code")), (303, Some("access_denied"), None));
    for (user, password) in [("ann", "wrong"), ("nobody", PASSWORD), ("", "")] {
        let page =
            Browser::default().submit(&test, &request(&client, &[]), &[("act", "allow"), ("user", user), ("password", password)]).await;
        assert_eq!((page.status, page.header("location")), (403, ""));
        assert!(page.text.contains("role=\"alert\"") && !page.text.contains(PASSWORD));
    }
}

#[tokio::test]
async fn nobody_is_sent_to_a_place_that_the_client_has_not_registered() {
    let test = node().await;
    let client = client_id(&test).await;
    for (name, value) in [
        ("redirect_uri", "https://evil.com/"),
        ("redirect_uri", "https://app.example.com/callback/../evil"),
        ("redirect_uri", "https://app.example.com/callback?x=y"),
        ("redirect_uri", "https://app.example.com.evil.com/callback"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", ""),
        ("client_id", "nobody"),
        ("client_id", ""),
    ] {
        let url = request(&client, &[(name, value)]);
        for page in [Browser::default().get(&test, &url).await, Browser::default().post(&test, &url, &ALLOW).await] {
            assert_eq!((page.status, page.header("location")), (400, ""), "{name}={value}");
            assert!(!page.text.contains("href=\"https://evil") && !page.text.contains("javascript:"), "{name}={value}");
        }
    }
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.com", request(&client, &[]));
    assert_eq!(Browser::default().get(&test, &twice).await.status, 400);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_not_answered_without_a_person() {
    let test = node().await;
    let client = client_id(&test).await;
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "", "invalid_request"),
        ("response_mode", "form_post", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("scope", "", "invalid_scope"),
        ("scope", "urn:matrix:client:api:*", "invalid_scope"),
        ("prompt", "none", "interaction_required"),
        ("request", "x", "request_not_supported"),
        ("request_uri", "https://example.com/", "request_not_supported"),
    ] {
        let page = Browser::default().get(&test, &request(&client, &[(name, value)])).await;
        assert_eq!((page.status, page.header("location")), (400, ""), "{name}={value}");
        let link = format!("href=\"https://app.example.com/callback?error={error}&amp;");
        assert!(page.text.contains(&link) && !page.text.contains("<form"), "{name}={value}: {}", page.text);
    }
    let (_, device_only) = register(&test, |body| body["grant_types"] = json!(["urn:ietf:params:oauth:grant-type:device_code"])).await;
    let page = Browser::default().get(&test, &request(device_only["client_id"].as_str().unwrap(), &[])).await;
    assert!(page.text.contains("error=unauthorized_client"), "{}", page.text);
}

#[tokio::test]
async fn a_form_that_another_site_sends_does_nothing() {
    let test = node().await;
    let client = client_id(&test).await;
    let url = request(&client, &[]);
    // No cookie; a cookie without the mark; another browser's mark.
    assert_eq!(Browser::default().post(&test, &url, &ALLOW).await.status, 403);
    let mut browser = Browser::default();
    browser.get(&test, &url).await;
    assert_eq!(browser.post(&test, &url, &ALLOW).await.status, 403);
    let mark = Browser::default().get(&test, &url).await.hidden("mark");
    let mut form = ALLOW.to_vec();
    form.push(("mark", &mark));
    assert_eq!(browser.post(&test, &url, &form).await.status, 403);
    let own = browser.get(&test, &url).await.hidden("mark");
    let form = encoded(&[("act", "allow"), ("user", "ann"), ("password", PASSWORD), ("mark", &own)]);
    for (name, value) in
        [("origin", "https://evil.com"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
    {
        let request = Request::post(&url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").header(name, value);
        assert_eq!(browser.send(&test, request, form.clone()).await.status, 403, "{name}: {value}");
    }
    let request = Request::post(&url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = request.header("origin", BASE).header("sec-fetch-site", "same-origin");
    assert_eq!(browser.send(&test, request, form).await.status, 303);
}

#[tokio::test]
async fn taking_over_a_session_needs_a_second_yes() {
    let test = node().await;
    let client = client_id(&test).await;
    let legacy = test.client("ann", "OAUTHDEV01").await;
    let mut browser = Browser::default();
    let url = request(&client, &[]);
    let page = browser.submit(&test, &url, &ALLOW).await;
    assert_eq!((page.status, page.header("location"), page.hidden("replace").as_str()), (409, "", "OAUTHDEV01"));
    assert_eq!(whoami(&test, &legacy.token).await, 200);
    let mark = page.hidden("mark");
    let mut form = ALLOW.to_vec();
    form.extend([("mark", mark.as_str()), ("replace", "OAUTHDEV01")]);
    let code = browser.post(&test, &url, &form).await.leads_with("code").unwrap();
    assert_eq!(exchange(&test, &code, &client, &[]).await.status, 200);
    assert_eq!(whoami(&test, &legacy.token).await, 401, "the one from before is signed out");
    // The same client on its own device, as after a soft logout, is not asked.
    assert_eq!(Browser::default().submit(&test, &url, &ALLOW).await.status, 303);
    // And a legacy login on the device ends what the client had.
    let (ann, token) = signed_in(&test, &client).await;
    test.client("ann", "OAUTHDEV01").await;
    assert_eq!(whoami(&test, &ann.token).await, 401);
    assert_eq!(refresh(&test, &token, &client).await.error().1, "invalid_grant");
}

#[tokio::test]
async fn who_has_no_account_makes_one_on_the_way() {
    let test = node().await;
    let client = client_id(&test).await;
    let url = request(&client, &[("prompt", "create")]);
    let form =
        |name: &'static str, again: &'static str| [("act", "allow"), ("user", name), ("new_password", "a new password"), ("again", again)];
    for (name, again) in [("ben", "another"), ("ann", "a new password"), ("not a name", "a new password")] {
        assert_eq!(Browser::default().submit(&test, &url, &form(name, again)).await.status, 403, "{name}");
    }
    let page = Browser::default().submit(&test, &url, &form("ben", "a new password")).await;
    let tokens = exchange(&test, &page.leads_with("code").unwrap(), &client, &[]).await.json();
    let who = test.call("GET", WHOAMI, tokens["access_token"].as_str(), Value::Null).await.1;
    assert_eq!(who["user_id"], "@ben:home.test");
}

#[tokio::test]
async fn an_account_is_made_only_by_whom_the_owner_lets() {
    for registration in [Registration::Closed, Registration::Token] {
        let test = TestNode::with(|config| {
            config.public_base_url = Some(BASE.into());
            config.registration = registration;
        })
        .await;
        let client = client_id(&test).await;
        let url = request(&client, &[("prompt", "create")]);
        let form = [("act", "allow"), ("user", "ben"), ("new_password", "pw"), ("again", "pw"), ("password", "pw"), ("token", "guess")];
        assert_eq!(Browser::default().submit(&test, &url, &form).await.status, 403);
        assert!(test.node.accounts.check_available("ben").await.is_ok(), "{registration:?}");
        if registration == Registration::Token {
            let token = test.node.accounts.create_registration_token(Some(1), None).await.unwrap();
            let mut form = form.to_vec();
            form.pop();
            form.push(("token", &token));
            assert_eq!(Browser::default().submit(&test, &url, &form).await.status, 303);
        }
    }
}

#[tokio::test]
async fn guessing_passwords_and_user_codes_is_limited() {
    let test = node().await;
    let client = client_id(&test).await;
    let url = request(&client, &[]);
    let mut browser = Browser::default();
    let mut told = String::new();
    for _ in 0..12 {
        told = browser.submit(&test, &url, &[("act", "allow"), ("user", "ann"), ("password", "wrong")]).await.text;
    }
    assert!(told.contains("Too many wrong passwords"), "{told}");
    let mut last = 0;
    for _ in 0..12 {
        last = browser.get(&test, "/_homeroom/link?user_code=BBBBBBBB").await.status;
    }
    assert_eq!(last, 429);
}
