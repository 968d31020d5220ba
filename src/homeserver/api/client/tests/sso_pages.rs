//! What people whose account came from a provider do on our pages in place of giving a password.

use serde_json::{Value, json};

use super::{
    oauth::{Browser, client_id, exchange, request},
    sso::{Fake, onwards, to, visit, way},
};
use crate::homeserver::api::testing::{Client, PASSWORD, TestNode, refused};

const APP: &str = "https://app.example.com/";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

/// Makes an account at the provider, signed in on a device.
async fn client(test: &TestNode, fake: &Fake, name: &str) -> Client {
    let mut browser = Browser::default();
    let new = visit(test, fake, &mut browser, &to(APP), name).await;
    let made = browser.submit(test, &onwards(&new), &[("act", "create")]).await;
    let done = browser.get(test, &onwards(&made)).await;
    let token = done.leads_with("loginToken").unwrap();
    let login = json!({ "type": "m.login.token", "token": token, "device_id": format!("{name}1") });
    let (status, answer) = test.call("POST", "/_matrix/client/v3/login", None, login).await;
    assert_eq!(status, 200, "{answer}");
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Client { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
}

fn fallback(session: &Value) -> String {
    format!("/_matrix/client/v3/auth/m.login.sso/fallback/web?session={}", session.as_str().unwrap())
}

#[tokio::test]
async fn a_provider_stands_in_for_the_password_in_user_interactive_authentication() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let (ann, _) = (client(&test, &fake, "ann").await, client(&test, &fake, "bob").await);
    let body = json!({ "devices": ["other"] });
    let delete = |auth: Value| {
        let mut body = body.clone();
        body["auth"] = auth;
        test.post(&ann, "/_matrix/client/v3/delete_devices", body)
    };
    let (status, asked) = delete(json!({})).await;
    assert_eq!((status.as_u16(), &asked["flows"]), (401, &json!([{ "stages": ["m.login.sso"] }])), "there is no password");
    let session = &asked["session"];
    let again = delete(json!({ "session": session, "type": "m.login.sso" })).await;
    assert_eq!((again.0.as_u16(), &again.1["completed"]), (401, &json!([])), "saying so is not doing so");
    // Somebody else's identity does not count.
    let mut browser = Browser::default();
    let back = visit(&test, &fake, &mut browser, &fallback(session), "bob").await;
    let page = browser.get(&test, &onwards(&back)).await;
    assert!(page.status == 403 && page.text.contains("You are @bob:home.test there"), "{}", page.text);
    assert_eq!(delete(json!({ "session": session })).await.0, 401);
    let back = visit(&test, &fake, &mut browser, &fallback(session), "ann").await;
    let page = browser.get(&test, &onwards(&back)).await;
    assert!(page.status == 200 && page.text.contains("onAuthDone"), "{}", page.text);
    assert_eq!(delete(json!({ "session": session })).await.0, 200);
    assert_eq!(delete(json!({ "session": session })).await.0, 403, "once");
    assert_eq!(browser.get(&test, &fallback(session)).await.status, 404, "the session is over");
}

#[tokio::test]
async fn who_has_a_password_too_may_choose_and_who_has_no_provider_is_not_asked_for_one() {
    let fake = Fake::new().await;
    let test = fake.node("link_existing = true").await;
    let ann = test.client("ann", "A").await;
    let asks = |who: Client| {
        let test = &test;
        async move { test.post(&who, "/_matrix/client/v3/delete_devices", json!({ "devices": ["x"] })).await.1["flows"].clone() }
    };
    assert_eq!(asks(ann.clone()).await, json!([{ "stages": ["m.login.password"] }]));
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await.status, 303);
    assert_eq!(asks(ann).await, json!([{ "stages": ["m.login.password"] }, { "stages": ["m.login.sso"] }]));
}

#[tokio::test]
async fn an_app_is_allowed_to_sign_in_by_who_comes_from_a_provider() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    client(&test, &fake, "ann").await;
    let app = client_id(&test).await;
    let here = request(&app, &[]);
    let mut browser = Browser::default();
    let back = visit(&test, &fake, &mut browser, &here, "ann").await;
    assert_eq!(onwards(&back), here);
    let page = browser.get(&test, &here).await;
    assert!(page.text.contains("says that you are @ann:home.test") && !page.text.contains("name=\"password\""), "{}", page.text);
    assert!(way(&page).is_none() && page.header("location").is_empty(), "nothing is allowed yet");
    let other = Browser::default().submit(&test, &here, &[("act", "allow"), ("user", "ann"), ("password", "")]).await;
    assert_eq!(other.status, 403, "another browser still needs the password");
    let allowed = browser.submit(&test, &here, &[("act", "allow")]).await;
    let answer = exchange(&test, &allowed.leads_with("code").unwrap(), &app, &[]).await.json();
    let who = test.call("GET", WHOAMI, answer["access_token"].as_str(), Value::Null).await;
    assert_eq!(who.1["user_id"], "@ann:home.test");
    assert!(browser.get(&test, &here).await.text.contains("name=\"password\""), "the word is used up");
}

#[tokio::test]
async fn the_account_pages_take_a_providers_word_for_each_thing_that_cannot_be_undone() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let ann = client(&test, &fake, "ann").await;
    let mut browser = Browser::default();
    let account = "/_homeroom/account";
    let back = visit(&test, &fake, &mut browser, account, "ann").await;
    assert_eq!(browser.get(&test, &onwards(&back)).await.status, 303);
    assert!(browser.get(&test, account).await.text.contains("@ann:home.test"));
    let end = format!("{account}?action=org.matrix.device_delete&device_id={}", ann.device_id);
    assert_eq!(browser.submit(&test, &end, &[("act", "end"), ("password", "")]).await.status, 403);
    assert_eq!(test.get(&ann, WHOAMI).await.0, 200);
    assert_eq!(onwards(&visit(&test, &fake, &mut browser, &end, "ann").await), end);
    assert!(browser.submit(&test, &end, &[("act", "end")]).await.text.contains("was signed out"));
    assert_eq!(refused(&test.get(&ann, WHOAMI).await), (401, "M_UNKNOWN_TOKEN"));
    // A password of their own, from then on.
    let change = format!("{account}?action=homeroom.password");
    visit(&test, &fake, &mut browser, &change, "ann").await;
    let form = [("act", "change"), ("new_password", PASSWORD), ("again", PASSWORD)];
    assert!(browser.submit(&test, &change, &form).await.text.contains("was changed"));
    test.client("ann", "LATER").await;
}
