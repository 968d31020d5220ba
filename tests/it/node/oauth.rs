//! OAuth 2.0 over HTTP: the whole way of a browser, of a device, and of a real client.

use matrix_sdk::{
    Client,
    authentication::oauth::registration::{ApplicationType, ClientMetadata, Localized, OAuthGrantType},
    config::RequestConfig,
    ruma::serde::Raw,
};
use serde_json::{Value, json};
use url::Url;

use crate::support::{
    LocalNode,
    http::{Answer, Http, encoded},
};

const CALLBACK: &str = "http://127.0.0.1:4711/callback";
// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCOPE: &str = "urn:matrix:client:api:* urn:matrix:client:device:BROWSERDEV";

/// A browser without scripts, with one cookie.
struct Browser {
    http: Http,
    host: String,
    cookie: String,
}

fn form(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

impl Browser {
    fn new(node: &LocalNode) -> Self {
        Self { http: node.http(), host: node.url().trim_start_matches("http://").to_owned(), cookie: String::new() }
    }

    #[track_caller]
    fn send(&mut self, method: &str, url: &str, body: &str) -> Answer {
        let path = url.strip_prefix(&format!("http://{}", self.host)).unwrap_or(url).to_owned();
        let mut headers = vec![("Host", self.host.as_str())];
        if !self.cookie.is_empty() {
            headers.push(("Cookie", &self.cookie));
        }
        let answer = self.http.request_with(method, &path, &headers, "application/x-www-form-urlencoded", body.as_bytes()).unwrap();
        if let Some((cookie, _)) = answer.header("set-cookie").split_once(';') {
            self.cookie = cookie.to_owned();
        }
        answer
    }

    #[track_caller]
    fn get(&mut self, url: &str) -> Answer {
        self.send("GET", url, "")
    }

    #[track_caller]
    fn post(&mut self, url: &str, pairs: &[(&str, &str)]) -> Answer {
        self.send("POST", url, &form(pairs))
    }

    /// Opens a page and sends its form.
    #[track_caller]
    fn submit(&mut self, url: &str, pairs: &[(&str, &str)]) -> Answer {
        let page = self.get(url);
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let mark = text.split_once("name=\"mark\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
        let mut pairs = pairs.to_vec();
        pairs.push(("mark", &mark));
        self.post(url, &pairs)
    }

    fn metadata(&mut self) -> Value {
        self.get("/_matrix/client/v1/auth_metadata").ok()
    }

    fn register(&mut self) -> String {
        let body = json!({
            "client_name": "Tester", "client_uri": "https://example.com/", "application_type": "native",
            "redirect_uris": ["http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        let host = self.host.clone();
        let body = body.to_string();
        let answer =
            self.http.request_with("POST", "/_homeroom/oauth/register", &[("Host", &host)], "application/json", body.as_bytes()).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["client_id"].as_str().unwrap().to_owned()
    }
}

fn parameter(url: &str, name: &str) -> String {
    Url::parse(url).unwrap().query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn authorization(metadata: &Value, client: &str) -> String {
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("scope", SCOPE),
        ("state", "xyz"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    format!("{}?{query}", text(metadata, "authorization_endpoint"))
}

#[test]
fn a_browser_signs_a_program_on_this_computer_in_and_theft_is_noticed() {
    let node = LocalNode::start();
    let ann = node.person("ann");
    let mut browser = Browser::new(&node);
    let metadata = browser.metadata();
    assert_eq!(text(&metadata, "issuer"), format!("{}/", node.url()));
    let client = browser.register();
    let url = authorization(&metadata, &client);
    let sign_in = [("act", "allow"), ("user", "ann"), ("password", ann.password.as_str())];
    assert_eq!(browser.submit(&url, &[("act", "allow"), ("user", "ann"), ("password", "wrong")]).status, 403);
    let back = browser.submit(&url, &sign_in);
    assert_eq!(back.status, 303, "{}", back.text());
    let place = back.header("location").to_owned();
    assert!(place.starts_with(&format!("{CALLBACK}?")), "the port is the program's own: {place}");
    assert_eq!(parameter(&place, "state"), "xyz");
    let code = parameter(&place, "code");
    let token = text(&metadata, "token_endpoint");
    let exchange = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("client_id", client.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = browser.post(&token, &exchange).ok();
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let mut program = node.http();
    program.token = Some(access);
    assert_eq!(text(&program.get("/_matrix/client/v3/account/whoami").ok(), "device_id"), "BROWSERDEV");
    let renew = |browser: &mut Browser, shown: &str| {
        browser.post(&token, &[("grant_type", "refresh_token"), ("refresh_token", shown), ("client_id", &client)])
    };
    let second = renew(&mut browser, &refresh).ok();
    program.token = Some(text(&second, "access_token"));
    program.get("/_matrix/client/v3/account/whoami").ok();
    // The first refresh token again: somebody else has it.
    assert_eq!(text(&renew(&mut browser, &refresh).json(), "error"), "invalid_grant");
    assert_eq!(program.get("/_matrix/client/v3/account/whoami").errcode(), "M_UNKNOWN_TOKEN");
    assert_eq!(text(&browser.post(&token, &exchange).json(), "error"), "invalid_grant", "nor is the code good again");
}

#[test]
fn a_device_is_signed_in_from_a_browser_elsewhere_and_out_by_its_owner() {
    let node = LocalNode::start();
    let ann = node.person("ann");
    let mut browser = Browser::new(&node);
    let metadata = browser.metadata();
    let client = browser.register();
    let codes = browser.post(&text(&metadata, "device_authorization_endpoint"), &[("client_id", &client), ("scope", SCOPE)]).ok();
    let device_code = text(&codes, "device_code");
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code.as_str()),
        ("client_id", client.as_str()),
    ];
    let page = browser.get(&text(&codes, "verification_uri"));
    assert!(page.text().contains("name=\"user_code\""), "{}", page.text());
    let allowed =
        browser.submit(&text(&codes, "verification_uri_complete"), &[("act", "allow"), ("user", "ann"), ("password", &ann.password)]);
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    let tokens = browser.post(&text(&metadata, "token_endpoint"), &poll).ok();
    let mut device = node.http();
    device.token = Some(text(&tokens, "access_token"));
    assert_eq!(text(&device.get("/_matrix/client/v3/account/whoami").ok(), "user_id"), ann.user_id);
    // Signed out on the account page.
    let account = text(&metadata, "account_management_uri");
    let mut owner = Browser::new(&node);
    assert_eq!(owner.submit(&account, &[("user", "ann"), ("password", &ann.password)]).status, 303);
    let end = format!("{account}?action=org.matrix.device_delete&device_id=BROWSERDEV");
    assert_eq!(owner.submit(&end, &[("password", &ann.password)]).status, 200);
    assert_eq!(device.get("/_matrix/client/v3/account/whoami").errcode(), "M_UNKNOWN_TOKEN");
    let refresh = text(&tokens, "refresh_token");
    let renew = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("client_id", client.as_str())];
    assert_eq!(text(&browser.post(&text(&metadata, "token_endpoint"), &renew).json(), "error"), "invalid_grant");
}

#[test]
fn whoever_comes_by_another_name_or_through_a_proxy_is_not_sent_to_this_computer() {
    let node = LocalNode::start();
    let host = node.url().trim_start_matches("http://").to_owned();
    let mut http = node.http();
    for headers in [vec![("Host", "home.test")], vec![("Host", host.as_str()), ("X-Forwarded-For", "192.0.2.7")]] {
        for path in ["/_matrix/client/v1/auth_metadata", "/_homeroom/account", "/_homeroom/oauth/authorize?client_id=x"] {
            let answer = http.request_with("GET", path, &headers, "", b"").unwrap();
            assert_eq!((answer.status, answer.errcode().as_str()), (404, "M_UNRECOGNIZED"), "{headers:?} {path}");
        }
        let flows = http.request_with("GET", "/_matrix/client/v3/login", &headers, "", b"").unwrap().text();
        assert!(!flows.contains("m.login.sso"), "{flows}");
    }
}

#[test]
fn matrix_sdk_signs_in_refreshes_and_is_signed_out() {
    let node = LocalNode::start();
    let ann = node.person("ann");
    let browser = std::sync::Mutex::new(Browser::new(&node));
    node.runtime().block_on(async {
        let client = Client::builder()
            .homeserver_url(node.url())
            .request_config(RequestConfig::new().disable_retry())
            .handle_refresh_tokens()
            .build()
            .await
            .unwrap();
        let callback = Url::parse("http://127.0.0.1/callback").unwrap();
        let metadata = ClientMetadata::new(
            ApplicationType::Native,
            vec![OAuthGrantType::AuthorizationCode { redirect_uris: vec![callback] }, OAuthGrantType::DeviceCode],
            Localized::new(Url::parse("https://example.com/").unwrap(), []),
        );
        let oauth = client.oauth();
        let data = Raw::new(&metadata).unwrap().into();
        let asked = oauth.login(Url::parse(CALLBACK).unwrap(), None, Some(data), None).build().await.unwrap();
        let sign_in = [("act", "allow"), ("user", "ann"), ("password", ann.password.as_str())];
        let back = tokio::task::block_in_place(|| browser.lock().unwrap().submit(asked.url.as_str(), &sign_in));
        let place = Url::parse(back.header("location")).unwrap();
        oauth.finish_login(place.into()).await.unwrap();
        assert_eq!(client.user_id().unwrap().as_str(), ann.user_id);
        assert_eq!(client.whoami().await.unwrap().device_id.as_deref(), client.device_id());
        let before = client.session_tokens().unwrap();
        oauth.refresh_access_token().await.unwrap();
        assert_ne!(client.session_tokens().unwrap().access_token, before.access_token);
        client.whoami().await.unwrap();
        let url = oauth.server_metadata().await.unwrap().account_management_uri.map(|url| url.to_string());
        assert_eq!(url, Some(format!("{}/_homeroom/account", node.url())));
        // The SDK revokes over https only, so the test does it in its place.
        let token = client.session_tokens().unwrap().access_token;
        let revoked = tokio::task::block_in_place(|| browser.lock().unwrap().post("/_homeroom/oauth/revoke", &[("token", &token)]));
        assert_eq!(revoked.status, 200);
        assert!(client.whoami().await.is_err());
    });
}
