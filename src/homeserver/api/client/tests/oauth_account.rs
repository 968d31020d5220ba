//! The account pages, and what an OAuth session may do without them.

use serde_json::{Value, json};

use super::{
    keys::{key, signing_key},
    oauth::{ALLOW, Browser, client_id, node, signed_in},
};
use crate::homeserver::api::testing::{Client, PASSWORD, TestNode, password_stage, refused};

const ACCOUNT: &str = "/_homeroom/account";
const SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn at(action: &str) -> String {
    format!("{ACCOUNT}?action={action}")
}

/// A browser that is signed in to ann's pages.
async fn ann(test: &TestNode) -> Browser {
    let mut browser = Browser::default();
    let page = browser.submit(test, ACCOUNT, &ALLOW).await;
    assert_eq!((page.status, page.header("location")), (303, "https://m.home.test/_homeroom/account"));
    browser
}

async fn whoami(test: &TestNode, who: &Client) -> u16 {
    test.get(who, WHOAMI).await.0.as_u16()
}

#[tokio::test]
async fn the_pages_ask_who_comes_and_a_planted_cookie_stays_worthless() {
    let test = node().await;
    for action in ["", "?action=org.matrix.profile", "?action=org.matrix.devices_list", "?action=org.matrix.account_deactivate"] {
        let page = Browser::default().get(&test, &format!("{ACCOUNT}{action}")).await;
        assert!(page.text.contains("name=\"password\"") && !page.text.contains("@ann"), "{}", page.text);
    }
    let planted = Browser { cookie: Some("a".repeat(32)), ..Browser::default() };
    let mut victim = Browser { cookie: planted.cookie.clone(), ..Browser::default() };
    assert_eq!(victim.submit(&test, ACCOUNT, &ALLOW).await.status, 303);
    assert_ne!(victim.cookie, planted.cookie);
    let mut thief = planted;
    assert!(!thief.get(&test, ACCOUNT).await.text.contains("@ann"));
    assert!(victim.get(&test, ACCOUNT).await.text.contains("@ann:home.test"));
    test.clock.advance(60 * 60 * 1000);
    assert!(!victim.get(&test, ACCOUNT).await.text.contains("@ann"), "an hour later");
}

#[tokio::test]
async fn signing_out_of_the_pages_signs_out_of_nothing_else() {
    let test = node().await;
    let phone = test.client("ann", "PHONE").await;
    let mut browser = ann(&test).await;
    assert!(browser.submit(&test, ACCOUNT, &[("act", "sign_out")]).await.text.contains("Signed out"));
    assert!(!browser.get(&test, ACCOUNT).await.text.contains("@ann"));
    assert_eq!(whoami(&test, &phone).await, 200);
}

#[tokio::test]
async fn sessions_are_listed_shown_and_ended_with_the_password_only() {
    let test = node().await;
    let client = client_id(&test).await;
    let (app, _) = signed_in(&test, &client).await;
    let phone = test.client("ann", "PHONE").await;
    let other = test.client("ben", "BEN").await;
    let mut browser = ann(&test).await;
    for name in ["org.matrix.devices_list", "org.matrix.sessions_list"] {
        let list = browser.get(&test, &at(name)).await.text;
        assert!(list.contains("device_id=OAUTHDEV01") && list.contains("device_id=PHONE") && !list.contains("BEN"), "{list}");
        assert!(list.contains("Test &amp; &lt;Client&gt;") && !list.contains("<Client>"), "{list}");
    }
    let view = browser.get(&test, &format!("{}&device_id=OAUTHDEV01", at("org.matrix.device_view"))).await;
    assert!(view.text.contains("example.com") && view.text.contains("127.0.0.9"), "{}", view.text);
    let end = format!("{}&device_id=OAUTHDEV01", at("org.matrix.device_delete"));
    assert_eq!(browser.get(&test, &end).await.status, 200);
    assert_eq!(whoami(&test, &app).await, 200, "a link alone ends nothing");
    assert_eq!(browser.submit(&test, &end, &[("password", "wrong")]).await.status, 403);
    assert_eq!(browser.post(&test, &end, &[("password", PASSWORD)]).await.status, 403, "another site's form");
    assert_eq!(whoami(&test, &app).await, 200);
    assert_eq!(browser.submit(&test, &end, &[("password", PASSWORD)]).await.status, 200);
    assert_eq!((whoami(&test, &app).await, whoami(&test, &phone).await), (401, 200));
    let bens = format!("{}&device_id=BEN", at("org.matrix.device_delete"));
    assert_eq!(browser.get(&test, &bens).await.status, 404);
    assert_eq!(browser.post(&test, &bens, &[("password", PASSWORD)]).await.status, 403);
    assert_eq!(whoami(&test, &other).await, 200);
}

#[tokio::test]
async fn name_and_password_are_changed() {
    let test = node().await;
    let phone = test.client("ann", "PHONE").await;
    let mut browser = ann(&test).await;
    assert_eq!(browser.submit(&test, &at("org.matrix.profile"), &[("displayname", "Ann <b>")]).await.status, 200);
    assert_eq!(test.get(&phone, "/_matrix/client/v3/profile/@ann:home.test/displayname").await.1, json!({ "displayname": "Ann <b>" }));
    assert!(browser.get(&test, &at("org.matrix.profile")).await.text.contains("value=\"Ann &lt;b&gt;\""));
    let change = at("homeroom.password");
    for (password, new, again) in [("wrong", "new one", "new one"), (PASSWORD, "new one", "other"), (PASSWORD, "", "")] {
        let form = [("password", password), ("new_password", new), ("again", again)];
        assert_eq!(browser.submit(&test, &change, &form).await.status, 403, "{password} {new} {again}");
    }
    let form = [("password", PASSWORD), ("new_password", "new one"), ("again", "new one"), ("sign_out", "yes")];
    assert_eq!(browser.submit(&test, &change, &form).await.status, 200);
    assert_eq!(whoami(&test, &phone).await, 401);
    assert!(!browser.get(&test, ACCOUNT).await.text.contains("@ann"), "whoever was signed in with the old one is not any more");
    assert_eq!(Browser::default().submit(&test, ACCOUNT, &ALLOW).await.status, 403);
}

#[tokio::test]
async fn closing_the_account_asks_for_the_password_and_is_final() {
    let test = node().await;
    let phone = test.client("ann", "PHONE").await;
    let mut browser = ann(&test).await;
    let close = at("org.matrix.account_deactivate");
    assert!(browser.get(&test, &close).await.text.contains("cannot be undone"));
    assert_eq!(browser.submit(&test, &close, &[("password", "wrong")]).await.status, 403);
    assert_eq!(whoami(&test, &phone).await, 200);
    assert_eq!(browser.submit(&test, &close, &[("password", PASSWORD), ("erase", "yes")]).await.status, 200);
    assert_eq!(whoami(&test, &phone).await, 401);
    assert_eq!(Browser::default().submit(&test, ACCOUNT, &ALLOW).await.status, 403);
}

#[tokio::test]
async fn an_oauth_session_cannot_use_what_asks_for_a_password() {
    let test = node().await;
    let client = client_id(&test).await;
    let (app, _) = signed_in(&test, &client).await;
    let body = json!({ "auth": password_stage(&Value::Null, "ann", PASSWORD), "new_password": "x", "devices": ["OAUTHDEV01"] });
    for path in ["account/password", "account/deactivate", "delete_devices"] {
        assert_eq!(refused(&test.post(&app, &format!("/_matrix/client/v3/{path}"), body.clone()).await), (403, "M_FORBIDDEN"), "{path}");
    }
    assert_eq!(refused(&test.post(&app, "/_matrix/client/v1/login/get_token", body.clone()).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&test.delete(&app, "/_matrix/client/v3/devices/OAUTHDEV01", body).await), (403, "M_FORBIDDEN"));
    let capabilities = test.get(&app, "/_matrix/client/v3/capabilities").await.1;
    assert_eq!(capabilities["capabilities"]["m.change_password"]["enabled"], false);
    assert_eq!(capabilities["capabilities"]["m.get_login_token"]["enabled"], false);
    assert_eq!(whoami(&test, &app).await, 200);
}

#[tokio::test]
async fn new_cross_signing_keys_are_confirmed_on_the_account_page_for_that_upload_alone() {
    let test = node().await;
    let client = client_id(&test).await;
    let (app, _) = signed_in(&test, &client).await;
    let master = || json!({ "master_key": signing_key("@ann:home.test", "master", &key()) });
    assert_eq!(test.post(&app, SIGNING, master()).await.0, 200, "the first ones need nothing");
    let mut upload = master();
    let (status, challenge) = test.post(&app, SIGNING, upload.clone()).await;
    assert_eq!(status, 401);
    assert_eq!(challenge["flows"], json!([{ "stages": ["m.oauth"] }, { "stages": ["org.matrix.cross_signing_reset"] }]));
    let url = challenge["params"]["m.oauth"]["url"].as_str().unwrap().to_owned();
    assert_eq!(challenge["params"]["org.matrix.cross_signing_reset"]["url"], json!(url));
    let path = url.strip_prefix("https://m.home.test").unwrap();
    upload["auth"] = json!({ "session": challenge["session"] });
    assert_eq!(test.post(&app, SIGNING, upload.clone()).await.0, 401, "not confirmed yet");
    for kind in ["m.oauth", "org.matrix.cross_signing_reset", "m.login.password"] {
        let mut forced = upload.clone();
        forced["auth"] = password_stage(&challenge["session"], "ann", PASSWORD);
        forced["auth"]["type"] = json!(kind);
        assert_eq!(test.post(&app, SIGNING, forced).await.0, 401, "{kind}");
    }
    // Another upload, whose session the user does not confirm.
    let other = test.post(&app, SIGNING, master()).await.1;
    let mut browser = ann(&test).await;
    assert!(browser.get(&test, path).await.text.contains("OAUTHDEV01"));
    assert_eq!(browser.submit(&test, path, &[("password", "wrong")]).await.status, 403);
    assert_eq!(test.post(&app, SIGNING, upload.clone()).await.0, 401);
    assert_eq!(browser.submit(&test, path, &[("password", PASSWORD)]).await.status, 200);
    let mut sneaky = master();
    sneaky["auth"] = json!({ "session": other["session"] });
    assert_eq!(test.post(&app, SIGNING, sneaky.clone()).await.0, 401);
    sneaky["auth"] = upload["auth"].clone();
    assert_eq!(refused(&test.post(&app, SIGNING, sneaky).await), (403, "M_FORBIDDEN"), "other keys than those that were confirmed");
    assert_eq!(test.post(&app, SIGNING, upload).await.0, 200);
    let page = browser.get(&test, &format!("{}&session=none", at("org.matrix.cross_signing_reset"))).await;
    assert_eq!(page.status, 404);
}

#[tokio::test]
async fn nobody_confirms_for_somebody_else() {
    let test = node().await;
    let client = client_id(&test).await;
    let (app, _) = signed_in(&test, &client).await;
    let master = || json!({ "master_key": signing_key("@ann:home.test", "master", &key()) });
    test.post(&app, SIGNING, master()).await;
    let challenge = test.post(&app, SIGNING, master()).await.1;
    let path = challenge["params"]["m.oauth"]["url"].as_str().unwrap().strip_prefix("https://m.home.test").unwrap().to_owned();
    test.client("ben", "BEN").await;
    let mut ben = Browser::default();
    assert_eq!(ben.submit(&test, ACCOUNT, &[("user", "ben"), ("password", PASSWORD)]).await.status, 303);
    assert_eq!(ben.get(&test, &path).await.status, 404);
    assert_eq!(ben.post(&test, &path, &[("password", PASSWORD)]).await.status, 403);
}

#[tokio::test]
async fn a_stage_can_be_done_in_a_browser_by_its_user_alone() {
    let test = node().await;
    let laptop = test.client("ann", "LAPTOP").await;
    test.client("ann", "OLD").await;
    test.client("ben", "BEN").await;
    let mut body = json!({ "devices": ["OLD"] });
    let challenge = test.post(&laptop, "/_matrix/client/v3/delete_devices", body.clone()).await.1;
    let session = challenge["session"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/auth/m.login.password/fallback/web?session={session}");
    body["auth"] = json!({ "session": session });
    assert_eq!(Browser::default().submit(&test, &path, &[("password", "wrong")]).await.status, 403);
    assert_eq!(Browser::default().submit(&test, &path, &[("user", "ben"), ("password", "wrong")]).await.status, 403);
    assert_eq!(test.post(&laptop, "/_matrix/client/v3/delete_devices", body.clone()).await.0, 401);
    let done = Browser::default().submit(&test, &path, &[("password", PASSWORD)]).await;
    assert!(done.status == 200 && done.text.contains("window.onAuthDone"), "{}", done.text);
    assert!(done.header("content-security-policy").contains("script-src 'sha256-"), "{}", done.header("content-security-policy"));
    assert_eq!(test.post(&laptop, "/_matrix/client/v3/delete_devices", body).await.0, 200);
    for path in [
        "/_matrix/client/v3/auth/m.login.password/fallback/web?session=none",
        "/_matrix/client/v3/auth/m.login.magic/fallback/web?session=x",
    ] {
        assert_eq!(Browser::default().get(&test, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_knows_no_oauth_signs_in_on_the_page_and_gets_a_login_token() {
    let test = node().await;
    let flows = test.call("GET", "/_matrix/client/v3/login", None, Value::Null).await.1;
    assert!(flows["flows"].as_array().unwrap().iter().any(|flow| flow["type"] == "m.login.sso" && flow["oauth_aware_preferred"] == true));
    let to = |target: &str| {
        format!("/_matrix/client/v3/login/sso/redirect?redirectUrl={}", super::oauth::encoded(&[("", target)]).trim_start_matches('='))
    };
    let page = Browser::default().submit(&test, &to("https://app.example.com/?x=1#/login"), &ALLOW).await;
    let location = page.header("location");
    assert!(location.starts_with("https://app.example.com/?x=1&loginToken=hrl_") && location.ends_with("#/login"), "{location}");
    let token = location.split(['=', '#']).nth(2).unwrap();
    let login = json!({ "type": "m.login.token", "token": token });
    let (status, answer) = test.call("POST", "/_matrix/client/v3/login", None, login.clone()).await;
    assert_eq!((status.as_u16(), &answer["user_id"]), (200, &json!("@ann:home.test")));
    assert_eq!(refused(&test.call("POST", "/_matrix/client/v3/login", None, login).await), (403, "M_FORBIDDEN"), "once");
    for target in
        ["javascript:alert(1)", "data:text/html,x", "http://evil.com/", "https://user@evil.com/", "file:///etc/passwd", "nonsense", ""]
    {
        let page = Browser::default().get(&test, &to(target)).await;
        assert!(page.status == 400 && !page.text.contains("<form"), "{target}");
        assert_eq!(Browser::default().post(&test, &to(target), &ALLOW).await.header("location"), "", "{target}");
    }
    let refused = Browser::default().submit(&test, &to("https://app.example.com/"), &[("act", "refuse")]).await;
    assert_eq!((refused.status, refused.header("location")), (200, ""));
}
