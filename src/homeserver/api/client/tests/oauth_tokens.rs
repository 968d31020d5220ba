//! Tokens of OAuth 2.0: what gets them, what replaces them, what ends them.

use http::{Request, header};
use serde_json::{Value, json};

use super::oauth::{
    ALLOW, BASE, Browser, CHALLENGE, SCOPE, TOKEN, client_id, code, exchange, node, refresh, register, request, signed_in, whoami,
};
use crate::homeserver::{
    api::testing::{PASSWORD, refused},
    store,
};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

#[tokio::test]
async fn a_code_is_good_for_its_client_place_and_verifier_only() {
    let test = node().await;
    let client = client_id(&test).await;
    let (_, other) = register(&test, |body| body["client_name"] = json!("Other")).await;
    for (name, value, error) in [
        ("client_id", other["client_id"].as_str().unwrap(), (400, "invalid_grant")),
        ("redirect_uri", "https://app.example.com/other", (400, "invalid_grant")),
        ("code_verifier", CHALLENGE, (400, "invalid_grant")),
        ("code_verifier", "x", (400, "invalid_grant")),
    ] {
        let code = code(&test, &client).await;
        let answer = exchange(&test, &code, &client, &[(name, value)]).await.error();
        assert_eq!((answer.0, answer.1.as_str()), error, "{name}={value}");
        assert_eq!(exchange(&test, &code, &client, &[]).await.error().1, "invalid_grant", "{name}: a code that was tried is used up");
    }
    for (name, value, error) in [
        ("code_verifier", "", (400, "invalid_request")),
        ("redirect_uri", "", (400, "invalid_request")),
        ("code", "", (400, "invalid_request")),
        ("code", "hrc_made_up", (400, "invalid_grant")),
        ("client_id", "", (400, "invalid_request")),
        ("client_id", "nobody", (401, "invalid_client")),
        ("grant_type", "", (400, "invalid_request")),
        ("grant_type", "password", (400, "unsupported_grant_type")),
        ("grant_type", "implicit", (400, "unsupported_grant_type")),
    ] {
        let answer = exchange(&test, "hrc_x", &client, &[(name, value)]).await.error();
        assert_eq!((answer.0, answer.1.as_str()), error, "{name}={value}");
    }
    let code = code(&test, &client).await;
    test.clock.advance(2 * 60 * 1000);
    assert_eq!(exchange(&test, &code, &client, &[]).await.error().1, "invalid_grant", "two minutes later");
}

#[tokio::test]
async fn a_client_that_calls_its_device_like_a_cross_signing_key_gets_no_tokens() {
    let test = node().await;
    let client = client_id(&test).await;
    let code = code(&test, &client).await;
    let stored = test.node.store.write(|tx| {
        let ann = store::users::find(&tx.reader(), ruma::user_id!("@ann:home.test"))?.unwrap();
        let key = json!({ "user_id": "@ann:home.test", "usage": ["master"], "keys": { "ed25519:OAUTHDEV01": "OAUTHDEV01" } });
        store::keys::put_cross_signing(tx, ann, "master", &key)
    });
    stored.await.unwrap();
    assert_eq!(exchange(&test, &code, &client, &[]).await.error(), (400, "invalid_grant".into()));
}

#[tokio::test]
async fn a_body_that_is_no_form_or_says_things_twice_or_is_too_large_is_refused() {
    let test = node().await;
    let client = client_id(&test).await;
    let mut browser = Browser::default();
    for path in [TOKEN, "/_homeroom/oauth/revoke", "/_homeroom/oauth/device"] {
        let json = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        assert_eq!(browser.send(&test, json, "{\"token\":\"x\"}".into()).await.error().1, "invalid_request", "{path}");
        let twice = [("client_id", client.as_str()), ("client_id", "x"), ("grant_type", "refresh_token"), ("token", "a"), ("token", "b")];
        assert_eq!(browser.post(&test, path, &twice).await.error().1, "invalid_request", "{path}");
        assert_eq!(browser.post(&test, path, &[("token", &"x".repeat(20_000))]).await.status, 413, "{path}");
    }
}

#[tokio::test]
async fn a_code_used_twice_ends_the_session_that_it_made() {
    let test = node().await;
    let client = client_id(&test).await;
    let code = code(&test, &client).await;
    let tokens = exchange(&test, &code, &client, &[]).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(whoami(&test, access).await, 200);
    assert_eq!(exchange(&test, &code, &client, &[]).await.error(), (400, "invalid_grant".into()));
    assert_eq!(whoami(&test, access).await, 401);
    assert_eq!(refresh(&test, tokens["refresh_token"].as_str().unwrap(), &client).await.error().1, "invalid_grant");
}

#[tokio::test]
async fn an_access_token_expires_and_is_refreshed_and_a_lost_answer_can_be_asked_for_again() {
    let test = node().await;
    let client = client_id(&test).await;
    let (ann, first) = signed_in(&test, &client).await;
    test.clock.advance(5 * 60 * 1000);
    let expired = test.call("GET", WHOAMI, Some(&ann.token), Value::Null).await;
    assert_eq!((refused(&expired), &expired.1["soft_logout"]), ((401, "M_UNKNOWN_TOKEN"), &json!(true)));
    let lost = refresh(&test, &first, &client).await.json();
    let second = refresh(&test, &first, &client).await.json();
    assert_eq!(whoami(&test, lost["access_token"].as_str().unwrap()).await, 401, "replaced before it was used");
    assert_eq!(whoami(&test, second["access_token"].as_str().unwrap()).await, 200);
    assert_eq!(second["scope"], SCOPE);
}

#[tokio::test]
async fn a_refresh_token_that_was_replaced_ends_the_session() {
    let test = node().await;
    let client = client_id(&test).await;
    let (_, first) = signed_in(&test, &client).await;
    let second = refresh(&test, &first, &client).await.json();
    let access = second["access_token"].as_str().unwrap();
    assert_eq!(whoami(&test, access).await, 200);
    assert_eq!(refresh(&test, &first, &client).await.error(), (400, "invalid_grant".into()));
    assert_eq!(whoami(&test, access).await, 401, "whoever has the newer one is signed out as well");
    assert_eq!(refresh(&test, second["refresh_token"].as_str().unwrap(), &client).await.error().1, "invalid_grant");
}

#[tokio::test]
async fn refresh_tokens_do_not_cross_clients_or_apis() {
    let test = node().await;
    let client = client_id(&test).await;
    let (_, other) = register(&test, |body| body["client_name"] = json!("Other")).await;
    let (ann, token) = signed_in(&test, &client).await;
    assert_eq!(refresh(&test, &token, other["client_id"].as_str().unwrap()).await.error(), (400, "invalid_grant".into()));
    let legacy = test.call("POST", "/_matrix/client/v3/refresh", None, json!({ "refresh_token": token })).await;
    assert_eq!(refused(&legacy), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(whoami(&test, &ann.token).await, 200, "a wrong client's attempt harms nobody");
    let body = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ann" }, "password": PASSWORD, "refresh_token": true });
    let login = test.call("POST", "/_matrix/client/v3/login", None, body).await.1;
    assert_eq!(refresh(&test, login["refresh_token"].as_str().unwrap(), &client).await.error(), (400, "invalid_grant".into()));
}

#[tokio::test]
async fn revoking_either_token_ends_the_session_and_unknown_ones_are_no_error() {
    let test = node().await;
    let client = client_id(&test).await;
    for (by_access, with_client) in [(true, Some(client.as_str())), (false, None), (true, Some("wrong"))] {
        let (ann, token) = signed_in(&test, &client).await;
        let shown = if by_access { &ann.token } else { &token };
        let mut form = vec![("token", shown.as_str())];
        form.extend(with_client.map(|id| ("client_id", id)));
        assert_eq!(Browser::default().post(&test, "/_homeroom/oauth/revoke", &form).await.status, 200);
        assert_eq!(whoami(&test, &ann.token).await, 401);
        assert_eq!(refresh(&test, &token, &client).await.error().1, "invalid_grant");
    }
    let watcher = test.client("ann", "WATCHER").await;
    assert_eq!(test.get(&watcher, "/_matrix/client/v3/devices").await.1["devices"].as_array().unwrap().len(), 1, "the device is gone");
    for form in [vec![("token", "hra_made_up")], vec![("token", "x"), ("token_type_hint", "refresh_token")]] {
        assert_eq!(Browser::default().post(&test, "/_homeroom/oauth/revoke", &form).await.status, 200);
    }
    for form in [vec![("client_id", "x")], vec![("token", "x"), ("token_type_hint", "magic")]] {
        assert_eq!(Browser::default().post(&test, "/_homeroom/oauth/revoke", &form).await.error(), (400, "invalid_request".into()));
    }
}

#[tokio::test]
async fn a_device_without_a_browser_is_signed_in_from_another_one() {
    let test = node().await;
    let client = client_id(&test).await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let mut device = Browser::default();
    let codes = device.post(&test, "/_homeroom/oauth/device", &[("client_id", &client), ("scope", SCOPE)]).await.json();
    let code = codes["device_code"].as_str().unwrap();
    let user_code = codes["user_code"].as_str().unwrap();
    assert_eq!(codes["verification_uri"], format!("{BASE}/_homeroom/link"));
    assert_eq!(codes["verification_uri_complete"], format!("{BASE}/_homeroom/link?user_code={user_code}"));
    let poll = [("grant_type", grant), ("device_code", code), ("client_id", client.as_str())];
    assert_eq!(device.post(&test, TOKEN, &poll).await.error(), (400, "authorization_pending".into()));
    assert_eq!(device.post(&test, TOKEN, &poll).await.error(), (400, "slow_down".into()));
    let path = format!("/_homeroom/link?user_code={}", user_code.to_lowercase());
    assert_eq!(Browser::default().post(&test, &path, &ALLOW).await.status, 403, "another site's form");
    let wrong = Browser::default().submit(&test, &path, &[("act", "allow"), ("user", "ann"), ("password", "wrong")]).await;
    assert_eq!(wrong.status, 403);
    assert_eq!(Browser::default().submit(&test, &path, &ALLOW).await.status, 200);
    assert_eq!(Browser::default().get(&test, &path).await.status, 404, "a user code is good once");
    test.clock.advance(10_000);
    let tokens = device.post(&test, TOKEN, &poll).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text);
    assert_eq!(whoami(&test, tokens.json()["access_token"].as_str().unwrap()).await, 200);
    test.clock.advance(10_000);
    assert_eq!(device.post(&test, TOKEN, &poll).await.error(), (400, "expired_token".into()));
    let codes = device.post(&test, "/_homeroom/oauth/device", &[("client_id", &client), ("scope", SCOPE)]).await.json();
    let path = format!("/_homeroom/link?user_code={}", codes["user_code"].as_str().unwrap());
    assert_eq!(Browser::default().submit(&test, &path, &[("act", "refuse")]).await.status, 200);
    let poll = [("grant_type", grant), ("device_code", codes["device_code"].as_str().unwrap()), ("client_id", client.as_str())];
    assert_eq!(device.post(&test, TOKEN, &poll).await.error(), (400, "access_denied".into()));
    assert_eq!(device.post(&test, "/_homeroom/oauth/device", &[("client_id", &client), ("scope", "x")]).await.error().1, "invalid_scope");
}

#[tokio::test]
async fn a_locked_or_closed_account_gets_no_tokens_for_what_it_has_allowed() {
    let test = node().await;
    let client = client_id(&test).await;
    let user = test.node.accounts.account(&ruma::owned_user_id!("@ann:home.test")).await.unwrap().unwrap().user;
    let (_, token) = signed_in(&test, &client).await;
    let code = code(&test, &client).await;
    test.node.accounts.set_locked(user, true).await.unwrap();
    assert_eq!(exchange(&test, &code, &client, &[]).await.error().1, "invalid_grant");
    assert_eq!(Browser::default().submit(&test, &request(&client, &[]), &ALLOW).await.status, 403);
    test.node.accounts.set_locked(user, false).await.unwrap();
    assert_eq!(refresh(&test, &token, &client).await.status, 200, "a lock ends no session");
    test.node.accounts.deactivate(user, false).await.unwrap();
    assert_eq!(refresh(&test, &token, &client).await.error().1, "invalid_grant");
}

#[tokio::test]
async fn a_client_that_does_not_ask_for_refreshing_may_refresh_and_is_told() {
    let test = node().await;
    let (_, client) = register(&test, |body| body["grant_types"] = json!(["authorization_code"])).await;
    assert_eq!(client["grant_types"], json!(["authorization_code", "refresh_token"]));
    let client = client["client_id"].as_str().unwrap();
    let (_, token) = signed_in(&test, client).await;
    test.clock.advance(5 * 60 * 1000);
    let tokens = refresh(&test, &token, client).await.json();
    assert_eq!(whoami(&test, tokens["access_token"].as_str().unwrap()).await, 200, "{tokens}");
}

#[tokio::test]
async fn a_new_password_ends_the_codes_that_the_old_one_got() {
    let test = node().await;
    let client = client_id(&test).await;
    let ann = test.client("ann", "ONE").await;
    let code = code(&test, &client).await;
    let who = test.node.accounts.requester(&ann.token, None).await.unwrap();
    test.node.accounts.change_password(&who, "another long password", false).await.unwrap();
    assert_eq!(exchange(&test, &code, &client, &[]).await.error(), (400, "invalid_grant".into()));
}
