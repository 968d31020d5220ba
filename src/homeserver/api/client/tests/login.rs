//! Signing in and out.

use serde_json::{Value, json};

use crate::homeserver::api::testing::{PASSWORD, TestNode, refused};

const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn password_login(user: &str, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": user }, "password": password })
}

#[tokio::test]
async fn signs_in_by_localpart_user_id_legacy_field_and_any_case() {
    let test = TestNode::new().await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    for body in [
        password_login("ann", PASSWORD),
        password_login("ANN", PASSWORD),
        password_login("@ann:home.test", PASSWORD),
        json!({ "type": "m.login.password", "user": "ann", "password": PASSWORD }),
    ] {
        let (status, answer) = test.call("POST", LOGIN, None, body).await;
        assert_eq!((status.as_u16(), &answer["user_id"]), (200, &json!("@ann:home.test")));
        let who = test.call("GET", WHOAMI, answer["access_token"].as_str(), Value::Null).await;
        assert_eq!(who.1, json!({ "user_id": "@ann:home.test", "device_id": answer["device_id"] }));
    }
}

#[tokio::test]
async fn refuses_wrong_passwords_unknown_users_and_other_servers_users_alike() {
    let test = TestNode::new().await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    let mut answers = Vec::new();
    for (user, password) in [("ann", "wrong"), ("ann", ""), ("nobody", PASSWORD), ("@ann:other.test", PASSWORD), ("", PASSWORD)] {
        answers.push(test.call("POST", LOGIN, None, password_login(user, password)).await);
    }
    assert!(answers.iter().all(|answer| refused(answer) == (403, "M_FORBIDDEN") && answer.1 == answers[0].1), "{answers:?}");
}

#[tokio::test]
async fn a_malformed_login_is_refused_and_stops_nothing() {
    let test = TestNode::new().await;
    assert_eq!(refused(&test.call("POST", LOGIN, None, json!({})).await), (400, "M_MISSING_PARAM"));
    assert_eq!(refused(&test.call("POST", LOGIN, None, json!([])).await), (400, "M_BAD_JSON"));
    assert_eq!(refused(&test.call("POST", LOGIN, None, json!({ "type": "m.login.magic" })).await), (400, "M_UNKNOWN"));
    assert_eq!(
        refused(&test.call("POST", LOGIN, None, json!({ "type": "m.login.password", "user": "ann" })).await),
        (400, "M_MISSING_PARAM")
    );
    let mut odd = password_login("ann", PASSWORD);
    odd["identifier"]["type"] = json!("m.id.magic");
    assert_eq!(refused(&test.call("POST", LOGIN, None, odd).await), (400, "M_UNKNOWN"));
}

#[tokio::test]
async fn requests_without_a_good_token_are_refused_also_with_an_empty_one() {
    let test = TestNode::new().await;
    assert_eq!(refused(&test.call("GET", WHOAMI, None, Value::Null).await), (401, "M_MISSING_TOKEN"));
    for token in ["", "nonsense"] {
        let answer = test.call("GET", WHOAMI, Some(token), Value::Null).await;
        assert_eq!(answer.0, 401, "{answer:?}");
        assert!(["M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"].contains(&refused(&answer).1));
    }
    assert_eq!(refused(&test.call("GET", &format!("{WHOAMI}?access_token="), None, Value::Null).await).0, 401);
}

#[tokio::test]
async fn logging_out_ends_one_device_and_logging_out_everywhere_all() {
    let test = TestNode::new().await;
    let (one, two, three) = (test.client("ann", "ONE").await, test.client("ann", "TWO").await, test.client("ann", "THREE").await);
    assert_eq!(test.post(&one, "/_matrix/client/v3/logout", Value::Null).await.0, 200);
    assert_eq!(refused(&test.get(&one, WHOAMI).await), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(test.get(&one, WHOAMI).await.1["soft_logout"], json!(false));
    assert_eq!(test.get(&two, WHOAMI).await.0, 200);
    assert_eq!(test.post(&two, "/_matrix/client/v3/logout/all", json!({})).await.0, 200);
    assert_eq!(test.get(&two, WHOAMI).await.0, 401);
    assert_eq!(test.get(&three, WHOAMI).await.0, 401);
}

#[tokio::test]
async fn signing_in_again_on_a_device_ends_its_old_token() {
    let test = TestNode::new().await;
    let old = test.client("ann", "ONE").await;
    assert_eq!(test.get(&old, WHOAMI).await.0, 200);
    let new = test.client("ann", "ONE").await;
    assert_eq!(test.get(&old, WHOAMI).await.0, 401);
    assert_eq!(test.get(&new, WHOAMI).await.0, 200);
}

#[tokio::test]
async fn wrong_passwords_run_into_the_limit_and_good_ones_do_not() {
    let test = TestNode::new().await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    let mut last = (http::StatusCode::OK, Value::Null);
    for _ in 0..11 {
        last = test.call("POST", LOGIN, None, password_login("ann", "wrong")).await;
    }
    assert_eq!(refused(&last), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(last.1["retry_after_ms"], json!(15_000));
    test.clock.advance(15_000);
    for _ in 0..3 {
        assert_eq!(test.call("POST", LOGIN, None, password_login("ann", PASSWORD)).await.0, 200);
    }
}

#[tokio::test]
async fn a_refreshed_token_replaces_the_old_one_when_it_is_first_used() {
    let test = TestNode::new().await;
    test.node.accounts.create("ann", PASSWORD, false).await.unwrap();
    let mut body = password_login("ann", PASSWORD);
    body["refresh_token"] = json!(true);
    let (_, first) = test.call("POST", LOGIN, None, body).await;
    assert_eq!(first["expires_in_ms"], json!(3_600_000));
    let whoami = async |token: &Value| test.call("GET", WHOAMI, token.as_str(), Value::Null).await;
    let refresh = async |token: &Value| test.call("POST", "/_matrix/client/v3/refresh", None, json!({ "refresh_token": token })).await;
    assert_eq!(whoami(&first["access_token"]).await.0, 200);
    let (status, lost) = refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200);
    // The answer got lost: the client asks again with the same token, and goes on with what it gets then.
    let (status, second) = refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_eq!(refused(&whoami(&lost["access_token"]).await), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(whoami(&first["access_token"]).await.0, 200);
    assert_eq!(whoami(&second["access_token"]).await.0, 200);
    assert_eq!(whoami(&first["access_token"]).await.0, 401);
    assert_eq!(refused(&refresh(&first["refresh_token"]).await), (401, "M_UNKNOWN_TOKEN"));
    test.clock.advance(3_600_000);
    let expired = whoami(&second["access_token"]).await;
    assert_eq!((refused(&expired), &expired.1["soft_logout"]), ((401, "M_UNKNOWN_TOKEN"), &json!(true)));
    let (status, third) = refresh(&second["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_eq!(whoami(&third["access_token"]).await.0, 200);
}

#[tokio::test]
async fn who_is_signed_in_is_known_without_asking_the_store_again() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    assert_eq!(test.get(&ann, WHOAMI).await.0, 200);
    let store = test.node.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    assert_eq!(test.get(&ann, WHOAMI).await.0, 200);
}
