//! Signing in at a provider where somebody does not want it to go well: strangers, other providers, whoever plants cookies.

use serde_json::{Value, json};

use super::{
    oauth::{Browser, client_id, encoded, request},
    sso::{Fake, Trip, onwards, to, visit, way},
};
use crate::homeserver::{
    api::testing::TestNode,
    users::sso::{SsoError, Start},
};

const APP: &str = "https://app.example.com/";
const URI: &str = "https://m.home.test/_homeroom/sso/callback/work";

fn begin<'a>(provider: &'a str, cookie: &'a str) -> Start<'a> {
    Start { provider, cookie, here: "/here", redirect_uri: URI, fresh: false }
}

/// Makes an account at the provider.
async fn join(test: &TestNode, fake: &Fake, name: &str) {
    let mut browser = Browser::default();
    let new = visit(test, fake, &mut browser, &to(APP), name).await;
    let made = browser.submit(test, &onwards(&new), &[("act", "create")]).await;
    assert_eq!(made.status, 303, "{}", made.text);
}

#[tokio::test]
async fn strangers_who_begin_and_never_end_keep_nobody_out() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let mut early = Browser::default();
    let trip = Trip::from(&test, &mut early, &to(APP)).await;
    for stranger in 0..5000 {
        test.node.sso.start(begin("work", &stranger.to_string())).await.unwrap();
    }
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    assert_eq!(early.get(&test, &trip.back(&[("code", "c")])).await.status, 303, "who began before them");
    assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "bob").await.status, 303, "who came after them");
}

#[tokio::test]
async fn a_provider_that_hangs_keeps_nobody_from_another() {
    let fake = Fake::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = fake.provider("registration = true");
    slow.id = "slow".into();
    slow.issuer = format!("http://{}", listener.local_addr().unwrap());
    let test = fake.node_with("registration = true", |config| config.sso.push(slow)).await;
    let sso = &test.node.sso;
    let waiting = futures_util::future::join_all((0..16).map(|_| sso.start(begin("slow", "c"))));
    let others = async {
        let mut held = Vec::new();
        while held.len() < 16 {
            held.push(listener.accept().await.unwrap());
        }
        assert!(matches!(sso.start(begin("slow", "c")).await, Err(SsoError::Busy)));
        assert_eq!(visit(&test, &fake, &mut Browser::default(), &to(APP), "ann").await.status, 303);
    };
    tokio::select! {
        ended = waiting => panic!("nobody has answered: {ended:?}"),
        () = others => {}
    }
}

#[tokio::test]
async fn what_one_provider_sent_back_does_not_count_as_anothers() {
    let (fake, evil) = (Fake::new().await, Fake::new().await);
    let mut other = evil.provider("registration = true");
    other.id = "evil".into();
    let test = fake.node_with("registration = true", |config| config.sso.push(other)).await;
    let mut browser = Browser::default();
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    evil.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    let back = trip.back(&[("code", "c")]);
    let page = browser.get(&test, &back.replace("/callback/work", "/callback/evil")).await;
    assert_eq!((page.status, page.header("location")), (403, ""), "{}", page.text);
    for server in [&fake.server, &evil.server] {
        let asked = server.received_requests().await.unwrap();
        assert!(!asked.iter().any(|request| request.url.path() == "/token"), "no code goes to the wrong place");
    }
    assert_eq!(browser.get(&test, &back).await.status, 403, "used up");
    for nowhere in ["/callback", "/callback/", "/callback/none"] {
        assert!(browser.get(&test, &back.replace("/callback/work", nowhere)).await.status >= 403, "{nowhere}");
    }
}

fn fallback(session: &Value) -> String {
    format!("/_matrix/client/v3/auth/m.login.sso/fallback/web?session={}", session.as_str().unwrap())
}

/// Somebody whom the app asks to confirm something: the page for it.
async fn confirmation(test: &TestNode, token: &str) -> String {
    let (_, asked) = test.call("POST", "/_matrix/client/v3/delete_devices", Some(token), json!({ "devices": ["x"] })).await;
    fallback(&asked["session"])
}

async fn token(test: &TestNode, fake: &Fake, name: &str) -> String {
    let mut browser = Browser::default();
    let back = visit(test, fake, &mut browser, &to(APP), name).await;
    let login = browser.get(test, &onwards(&back)).await.leads_with("loginToken").unwrap();
    let answer = test.call("POST", "/_matrix/client/v3/login", None, json!({ "type": "m.login.token", "token": login })).await.1;
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_confirmation_takes_somebody_whom_the_provider_has_just_asked() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    join(&test, &fake, "ann").await;
    let ann = token(&test, &fake, "ann").await;
    let here = confirmation(&test, &ann).await;
    let mut browser = Browser::default();
    let now_s = test.clock_ms() / 1000;
    for (at, good) in [(Some(now_s - 3600), false), (None, false), (Some(now_s), true)] {
        let trip = Trip::from(&test, &mut browser, &here).await;
        assert_eq!((trip.get("prompt"), trip.get("max_age")), ("login".to_owned(), "0".to_owned()));
        fake.vouch(&test, "ann", &trip.get("nonce"), |claims| claims["auth_time"] = at.into()).await;
        let page = browser.get(&test, &trip.back(&[("code", "c")])).await;
        assert_eq!(page.status, if good { 303 } else { 502 }, "{at:?} {}", page.text);
        assert!(good || page.text.contains("did not ask you"), "{}", page.text);
    }
    assert!(browser.get(&test, &here).await.text.contains("onAuthDone"));
    // To sign in, any visit will do, and it is no confirmation.
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    assert_eq!((trip.get("prompt"), trip.get("max_age")), (String::new(), String::new()));
    let here = confirmation(&test, &ann).await;
    let start = way(&browser.get(&test, &here).await).unwrap();
    let weaker = browser.get(&test, &start.replace("for=confirm", "for=sign_in")).await;
    assert_eq!(weaker.status, 403, "the link says what it is for");
}

#[tokio::test]
async fn a_provider_that_cannot_ask_anew_is_taken_at_its_word_where_the_owner_says_so() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true\nreauthenticates = false").await;
    join(&test, &fake, "ann").await;
    let ann = token(&test, &fake, "ann").await;
    let here = confirmation(&test, &ann).await;
    let mut browser = Browser::default();
    let trip = Trip::from(&test, &mut browser, &here).await;
    assert_eq!((trip.get("prompt"), trip.get("max_age")), (String::new(), String::new()));
    fake.vouch(&test, "ann", &trip.get("nonce"), |claims| claims["auth_time"] = Value::Null).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, 303);
    assert!(browser.get(&test, &here).await.text.contains("onAuthDone"));
}

#[tokio::test]
async fn whoever_plants_a_cookie_does_not_get_the_word_for_who_uses_it() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    join(&test, &fake, "ann").await;
    let mut mallory = Browser::default();
    let start = way(&mallory.get(&test, &to(APP)).await).unwrap();
    let mut ann = Browser { cookie: mallory.cookie.clone(), ..Browser::default() };
    let sent = ann.get(&test, &start).await;
    let trip = Trip { to: url::Url::parse(sent.header("location")).unwrap() };
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    let back = ann.get(&test, &trip.back(&[("code", "c")])).await;
    assert_eq!((back.status, onwards(&back)), (303, to(APP)));
    let page = mallory.get(&test, &to(APP)).await;
    assert!(page.header("location").is_empty() && way(&page).is_some(), "{}", page.text);
    assert!(ann.get(&test, &to(APP)).await.leads_with("loginToken").is_some(), "it is there for the one who came back");
}

#[tokio::test]
async fn a_word_that_was_refused_or_is_for_somebody_else_does_not_stay() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    join(&test, &fake, "ann").await;
    join(&test, &fake, "bob").await;
    let here = request(&client_id(&test).await, &[]);
    let mut browser = Browser::default();
    visit(&test, &fake, &mut browser, &here, "ann").await;
    assert!(browser.get(&test, &here).await.text.contains("says that you are @ann:home.test"));
    let refused = browser.submit(&test, &here, &[("act", "refuse")]).await;
    assert_eq!(refused.leads_with("error").as_deref(), Some("access_denied"));
    assert!(browser.get(&test, &here).await.text.contains("name=\"password\""), "it was for this one time");
    // A locked account.
    visit(&test, &fake, &mut browser, &here, "ann").await;
    let ann = test.node.accounts.account(ruma::user_id!("@ann:home.test")).await.unwrap().unwrap().user;
    let page = browser.get(&test, &here).await;
    test.node.accounts.set_locked(ann, true).await.unwrap();
    let form = [("act", "allow"), ("mark", &page.hidden("mark"))];
    assert_eq!(browser.post(&test, &here, &form).await.status, 403);
    test.node.accounts.set_locked(ann, false).await.unwrap();
    assert!(browser.get(&test, &here).await.text.contains("name=\"password\""), "locking ended it");
    // Somebody else's word on a page of one's own.
    let account = "/_homeroom/account";
    visit(&test, &fake, &mut browser, account, "ann").await;
    assert_eq!(browser.get(&test, account).await.status, 303);
    let close = format!("{account}?action=org.matrix.account_deactivate");
    visit(&test, &fake, &mut browser, &close, "bob").await;
    let page = browser.get(&test, &close).await;
    let told = page.text.contains("says that you are @bob:home.test") && page.text.contains("confirms nothing");
    assert!(told && page.text.contains("name=\"password\"") && way(&page).is_some(), "{}", page.text);
    assert!(!browser.get(&test, &close).await.text.contains("@bob"), "told once");
    assert_eq!(browser.submit(&test, &close, &[("act", "close")]).await.status, 403);
    visit(&test, &fake, &mut browser, &close, "ann").await;
    assert!(browser.submit(&test, &close, &[("act", "close")]).await.text.contains("has been closed"));
}

#[tokio::test]
async fn a_browser_keeps_few_sign_ins_and_none_that_is_over() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let mut browser = Browser::default();
    let first = Trip::from(&test, &mut browser, &to(APP)).await;
    for number in 1..=5 {
        test.clock.advance(1000);
        Trip::from(&test, &mut browser, &to(&format!("{APP}?n={number}"))).await;
    }
    assert_eq!(browser.others.len(), 4, "{:?}", browser.others);
    assert!(browser.others.keys().all(|name| name.starts_with("__Host-homeroom-sso-")));
    fake.vouch(&test, "ann", &first.get("nonce"), |_| {}).await;
    assert_eq!(browser.get(&test, &first.back(&[("code", "c")])).await.status, 403, "the oldest made room");
    let trip = Trip::from(&test, &mut browser, &to(APP)).await;
    fake.vouch(&test, "ann", &trip.get("nonce"), |_| {}).await;
    assert_eq!(browser.get(&test, &trip.back(&[("code", "c")])).await.status, 303);
    assert_eq!(browser.others.len(), 3, "it is dropped when it has served");
    // A page whose address no cookie can hold.
    let long = to(&format!("{APP}?{}", "x".repeat(1900)));
    Trip::from(&test, &mut browser, &long).await;
    let path = "/_matrix/client/v3/login/sso/redirect/work";
    let longer = format!("{path}?{}", encoded(&[("redirectUrl", APP), ("x", &"y".repeat(2800))]));
    let start = way(&browser.get(&test, &longer).await).unwrap();
    assert_eq!(browser.get(&test, &start).await.status, 414);
}

#[tokio::test]
async fn a_newcomer_has_one_place_however_often_they_come() {
    let fake = Fake::new().await;
    let test = fake.node("registration = true").await;
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    let first = visit(&test, &fake, &mut ann, &to(APP), "ann").await;
    let of_bob = visit(&test, &fake, &mut bob, &to(APP), "bob").await;
    let again = visit(&test, &fake, &mut ann, &to(APP), "ann").await;
    assert_eq!(ann.get(&test, &onwards(&first)).await.status, 403);
    assert_eq!(ann.get(&test, &onwards(&again)).await.status, 200);
    assert_eq!(bob.get(&test, &onwards(&of_bob)).await.status, 200);
}
