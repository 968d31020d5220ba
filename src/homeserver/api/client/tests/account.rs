//! Registration, password, devices, profile, directory, closing an account.

use serde_json::{Value, json};

use crate::homeserver::{
    Registration,
    api::testing::{Client, PASSWORD, TestNode, password_stage, refused},
};

const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

async fn register(test: &TestNode, body: Value) -> (http::StatusCode, Value) {
    test.call("POST", REGISTER, None, body).await
}

#[tokio::test]
async fn open_registration_asks_for_the_dummy_stage_and_signs_in() {
    let test = TestNode::new().await;
    let mut body = json!({ "username": "Ann", "password": "pässword", "device_id": "D", "initial_device_display_name": "laptop" });
    let (status, challenge) = register(&test, body.clone()).await;
    assert_eq!(
        (status.as_u16(), &challenge["flows"], &challenge["completed"]),
        (401, &json!([{ "stages": ["m.login.dummy"] }]), &json!([]))
    );
    body["auth"] = json!({ "type": "m.login.dummy", "session": challenge["session"] });
    let (status, answer) = register(&test, body.clone()).await;
    assert_eq!((status.as_u16(), &answer["user_id"], &answer["device_id"]), (200, &json!("@ann:home.test"), &json!("D")));
    assert_eq!(test.call("GET", WHOAMI, answer["access_token"].as_str(), Value::Null).await.0, 200);
    assert_eq!(refused(&register(&test, body).await), (400, "M_USER_IN_USE"));
    let quiet = json!({ "username": "ben", "password": "x", "inhibit_login": true, "auth": { "type": "m.login.dummy" } });
    assert_eq!(register(&test, quiet).await.1, json!({ "user_id": "@ben:home.test", "home_server": "home.test" }));
}

#[tokio::test]
async fn registration_refuses_bad_names_passwords_guests_and_strange_sessions() {
    let test = TestNode::new().await;
    let dummy = json!({ "type": "m.login.dummy" });
    for name in ["ä", "a b", "", "@x:home.test", &"x".repeat(300)] {
        let answer = register(&test, json!({ "username": name, "password": "x", "auth": dummy })).await;
        assert_eq!(refused(&answer), (400, "M_INVALID_USERNAME"), "{name}");
    }
    assert_eq!(refused(&register(&test, json!({ "username": "ann", "password": "", "auth": dummy })).await), (400, "M_WEAK_PASSWORD"));
    assert_eq!(refused(&register(&test, json!({ "username": "ann", "auth": dummy })).await), (400, "M_MISSING_PARAM"));
    assert_eq!(refused(&test.call("POST", &format!("{REGISTER}?kind=guest"), None, json!({})).await), (403, "M_FORBIDDEN"));
    let strange = json!({ "username": "ann", "password": "x", "auth": { "type": "m.login.dummy", "session": "none" } });
    assert_eq!(refused(&register(&test, strange).await), (403, "M_FORBIDDEN"));
    let other = json!({ "username": "ann", "password": "x", "auth": { "type": "m.login.password" } });
    assert_eq!(refused(&register(&test, other).await), (401, "M_UNRECOGNIZED"));
    assert_eq!(refused(&test.call("GET", "/_matrix/client/v3/register/available?username=ann", None, Value::Null).await).0, 200);
}

#[tokio::test]
async fn closed_registration_is_closed_and_a_token_opens_it_as_often_as_it_says() {
    let closed = TestNode::with(|config| config.registration = Registration::Closed).await;
    assert_eq!(refused(&register(&closed, json!({ "username": "ann", "password": "x" })).await), (403, "M_FORBIDDEN"));
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x";
    assert_eq!(refused(&closed.call("GET", validity, None, Value::Null).await), (403, "M_FORBIDDEN"));
    let test = TestNode::with(|config| config.registration = Registration::Token).await;
    let token = test.node.accounts.create_registration_token(Some(1), None).await.unwrap();
    let validity = async |token: &str| {
        let path = format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
        test.call("GET", &path, None, Value::Null).await.1["valid"].clone()
    };
    assert_eq!((validity(&token).await, validity("other").await), (json!(true), json!(false)));
    let with = |name: &str, token: &str| json!({ "username": name, "password": "x", "auth": { "type": "m.login.registration_token", "token": token } });
    assert_eq!(refused(&register(&test, with("ann", "wrong")).await), (401, "M_UNAUTHORIZED"));
    let dummy = json!({ "username": "ann", "password": "x", "auth": { "type": "m.login.dummy" } });
    assert_eq!(register(&test, dummy).await.0, 401);
    assert_eq!(register(&test, with("ann", &token)).await.0, 200);
    assert_eq!(refused(&register(&test, with("ben", &token)).await), (401, "M_UNAUTHORIZED"));
    assert_eq!(validity(&token).await, json!(false));
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_signs_other_devices_out() {
    let test = TestNode::new().await;
    let (one, two) = (test.client("ann", "ONE").await, test.client("ann", "TWO").await);
    let ben = test.client("ben", "BEN").await;
    let path = "/_matrix/client/v3/account/password";
    let mut body = json!({ "new_password": "new" });
    let (status, challenge) = test.post(&one, path, body.clone()).await;
    assert_eq!(status, 401);
    body["auth"] = password_stage(&challenge["session"], "ben", "wrong");
    assert_eq!(refused(&test.post(&one, path, body.clone()).await), (401, "M_FORBIDDEN"));
    // Ben's password is good, but it is not Ann's; and Ben cannot go on with Ann's session.
    body["auth"] = password_stage(&challenge["session"], "ben", PASSWORD);
    let others = test.post(&one, path, body.clone()).await;
    assert_eq!((refused(&others), others.1.get("flows")), ((403, "M_FORBIDDEN"), None), "nothing to try again");
    assert_eq!(refused(&test.post(&ben, path, body.clone()).await), (403, "M_FORBIDDEN"));
    body["auth"] = password_stage(&challenge["session"], "@ann:home.test", PASSWORD);
    assert_eq!(test.post(&one, path, body.clone()).await, (http::StatusCode::OK, json!({})));
    assert_eq!(refused(&test.post(&one, path, body).await), (403, "M_FORBIDDEN"), "a session serves once");
    assert_eq!(test.get(&one, WHOAMI).await.0, 200);
    assert_eq!(test.get(&two, WHOAMI).await.0, 401);
    let login = |password: &str| json!({ "type": "m.login.password", "user": "ann", "password": password });
    assert_eq!(test.call("POST", "/_matrix/client/v3/login", None, login(PASSWORD)).await.0, 403);
    assert_eq!(test.call("POST", "/_matrix/client/v3/login", None, login("new")).await.0, 200);
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let room = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.1["room_id"].clone();
    let room = room.as_str().unwrap().replace('!', "%21").replace(':', "%3A");
    assert_eq!(test.post(&ben, &format!("/_matrix/client/v3/join/{room}"), json!({})).await.0, 200);
    let path = "/_matrix/client/v3/account/deactivate";
    let (_, challenge) = test.post(&ann, path, json!({})).await;
    let auth = password_stage(&challenge["session"], "ann", PASSWORD);
    assert_eq!(test.post(&ann, path, json!({ "auth": auth, "erase": true })).await.1, json!({ "id_server_unbind_result": "no-support" }));
    assert_eq!(test.get(&ann, WHOAMI).await.0, 401);
    let login = json!({ "type": "m.login.password", "user": "ann", "password": PASSWORD });
    assert_eq!(refused(&test.call("POST", "/_matrix/client/v3/login", None, login).await), (403, "M_USER_DEACTIVATED"));
    let empty = json!({ "type": "m.login.password", "user": "ann", "password": "" });
    assert_eq!(refused(&test.call("POST", "/_matrix/client/v3/login", None, empty).await), (403, "M_USER_DEACTIVATED"));
    assert_eq!(test.get(&ben, "/_matrix/client/v3/profile/@ann:home.test").await.0, 404);
    let again = json!({ "username": "ann", "password": "x", "auth": { "type": "m.login.dummy" } });
    assert_eq!(refused(&register(&test, again).await), (400, "M_USER_IN_USE"));
    let (_, joined) = test.get(&ben, &format!("/_matrix/client/v3/rooms/{room}/joined_members")).await;
    assert_eq!(joined["joined"].as_object().unwrap().keys().collect::<Vec<_>>(), ["@ben:home.test"]);
}

#[tokio::test]
async fn devices_are_listed_renamed_and_deleted_with_a_password() {
    let test = TestNode::new().await;
    let (one, two, three) = (test.client("ann", "ONE").await, test.client("ann", "TWO").await, test.client("ann", "THREE").await);
    let ben = test.client("ben", "BEN").await;
    let (_, devices) = test.get(&one, "/_matrix/client/v3/devices").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 3);
    assert_eq!(devices["devices"][0], json!({ "device_id": "ONE", "last_seen_ip": "127.0.0.9", "last_seen_ts": 1_790_000_000_000_u64 }));
    assert_eq!(test.put(&one, "/_matrix/client/v3/devices/TWO", json!({ "display_name": "phone" })).await.0, 200);
    assert_eq!(test.get(&one, "/_matrix/client/v3/devices/TWO").await.1["display_name"], json!("phone"));
    assert_eq!(refused(&test.get(&ben, "/_matrix/client/v3/devices/TWO").await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&test.put(&one, "/_matrix/client/v3/devices/BEN", json!({})).await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&test.put(&one, "/_matrix/client/v3/devices/TWO", json!({ "display_name": 7 })).await), (400, "M_BAD_JSON"));

    let (status, challenge) = test.delete(&one, "/_matrix/client/v3/devices/TWO", Value::Null).await;
    assert_eq!(status, 401);
    let others = json!({ "auth": password_stage(&challenge["session"], "ben", PASSWORD) });
    assert_eq!(refused(&test.delete(&one, "/_matrix/client/v3/devices/TWO", others).await), (403, "M_FORBIDDEN"));
    assert_eq!(test.get(&two, WHOAMI).await.0, 200);
    let auth = json!({ "auth": password_stage(&challenge["session"], "ann", PASSWORD) });
    assert_eq!(refused(&test.delete(&one, "/_matrix/client/v3/devices/THREE", auth.clone()).await), (403, "M_FORBIDDEN"));
    assert_eq!(test.delete(&one, "/_matrix/client/v3/devices/TWO", auth).await.0, 200);
    assert_eq!(test.get(&two, WHOAMI).await.0, 401);
    let many = json!({ "devices": ["THREE", "GONE"] });
    let (_, challenge) = test.post(&one, "/_matrix/client/v3/delete_devices", many).await;
    // The session remembers the body.
    let auth = json!({ "auth": password_stage(&challenge["session"], "ann", PASSWORD) });
    assert_eq!(test.post(&one, "/_matrix/client/v3/delete_devices", auth).await.0, 200);
    assert_eq!(test.get(&three, WHOAMI).await.0, 401);
    assert_eq!(test.get(&one, WHOAMI).await.0, 200);
}

async fn set(test: &TestNode, who: &Client, field: &str, value: Value) -> (http::StatusCode, Value) {
    test.put(who, &format!("/_matrix/client/v3/profile/@ann:home.test/{field}"), json!({ field: value })).await
}

#[tokio::test]
async fn a_profile_is_ones_own_bounded_and_shown_in_rooms() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let room = test.post(&ann, "/_matrix/client/v3/createRoom", json!({})).await.1["room_id"].as_str().unwrap().to_owned();
    assert_eq!(test.get(&ben, "/_matrix/client/v3/profile/@ann:home.test").await.1, json!({ "displayname": "ann" }));
    assert_eq!(set(&test, &ann, "displayname", json!("Ann A.")).await.0, 200);
    assert_eq!(refused(&set(&test, &ben, "displayname", json!("Mallory")).await), (403, "M_FORBIDDEN"));
    let room = room.replace('!', "%21").replace(':', "%3A");
    let (_, member) = test.get(&ann, &format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/@ann:home.test")).await;
    assert_eq!(member, json!({ "membership": "join", "displayname": "Ann A." }));

    assert_eq!(set(&test, &ann, "m.tz", json!("Europe/Berlin")).await.0, 200);
    let unstable = "/_matrix/client/unstable/uk.tcpip.msc4133/profile/@ann:home.test/m.tz";
    assert_eq!(test.get(&ben, unstable).await.1, json!({ "m.tz": "Europe/Berlin" }));
    assert_eq!(refused(&set(&test, &ann, "x.large", json!("x".repeat(70_000))).await), (400, "M_PROFILE_TOO_LARGE"));
    assert_eq!(refused(&set(&test, &ann, &"x".repeat(256), json!(1)).await), (400, "M_KEY_TOO_LARGE"));
    assert_eq!(refused(&set(&test, &ann, "Bad-Name", json!(1)).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&set(&test, &ann, "avatar_url", json!(1)).await), (400, "M_BAD_JSON"));
    let missing = test.put(&ann, "/_matrix/client/v3/profile/@ann:home.test/m.tz", json!({ "other": 1 })).await;
    assert_eq!(refused(&missing), (400, "M_MISSING_PARAM"));
    assert_eq!(test.delete(&ann, unstable, Value::Null).await.0, 200);
    assert_eq!(refused(&test.get(&ben, unstable).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.get(&ben, "/_matrix/client/v3/profile/@ann:home.test").await.1, json!({ "displayname": "Ann A." }));
}

#[tokio::test]
async fn the_directory_finds_people_one_shares_a_room_with_and_where_nobody_registers_all() {
    for (registration, found) in [(Registration::Open, 1), (Registration::Closed, 2)] {
        let test = TestNode::with(|config| config.registration = registration).await;
        let (ann, ben, _) = (test.client("ann", "ONE").await, test.client("bennett", "BEN").await, test.client("benno", "C").await);
        test.share_a_room(&[&ann, &ben]).await;
        let search = async |term: &str| {
            test.post(&ann, "/_matrix/client/v3/user_directory/search", json!({ "search_term": term, "limit": 5 })).await.1
        };
        let answer = search("BEN").await;
        assert_eq!(answer["results"].as_array().unwrap().len(), found, "{answer}");
        assert_eq!(answer["results"][0], json!({ "user_id": "@bennett:home.test", "display_name": "bennett" }));
        assert_eq!(answer["limited"], json!(false));
        assert_eq!(search("zed").await["results"], json!([]));
        assert_eq!(search("ann").await["results"], json!([]), "one does not look for oneself");
    }
}

#[tokio::test]
async fn strangers_are_found_who_are_in_rooms_that_anybody_can_enter_or_look_into() {
    let test = TestNode::with(|config| config.registration = Registration::Open).await;
    let (ann, eve) = (test.client("ann", "A").await, test.client("eve", "E").await);
    let found = async || -> bool {
        let (_, answer) = test.post(&ann, "/_matrix/client/v3/user_directory/search", json!({ "search_term": "eve" })).await;
        answer["results"].as_array().unwrap().iter().any(|person| person["user_id"] == "@eve:home.test")
    };
    let room = test.room(&eve, json!({ "preset": "private_chat" })).await;
    let set = async |kind: &str, content: Value| {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}");
        assert_eq!(test.put(&eve, &path, content).await.0, 200);
    };
    let publish = format!("/_matrix/client/v3/directory/list/room/{room}");
    assert_eq!(test.put(&eve, &publish, json!({ "visibility": "public" })).await.0, 200);
    assert!(!found().await, "that a room is listed opens it to nobody");
    assert_eq!(test.put(&eve, &publish, json!({ "visibility": "private" })).await.0, 200);
    set("m.room.join_rules", json!({ "join_rule": "public" })).await;
    assert!(found().await);
    set("m.room.join_rules", json!({ "join_rule": "knock" })).await;
    assert!(!found().await);
    set("m.room.history_visibility", json!({ "history_visibility": "world_readable" })).await;
    assert!(found().await);
    assert_eq!(test.post(&eve, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.0, 200);
    assert!(!found().await, "who has left is not in it");
}

#[tokio::test]
async fn capabilities_and_well_known_say_what_there_is() {
    let test = TestNode::with(|config| config.public_base_url = Some("https://m.home.test".into())).await;
    let ann = test.client("ann", "ONE").await;
    let (_, answer) = test.get(&ann, "/_matrix/client/v3/capabilities").await;
    assert_eq!(answer["capabilities"]["m.room_versions"]["default"], json!("12"));
    assert_eq!(answer["capabilities"]["m.room_versions"]["available"]["10"], json!("stable"));
    let well_known = test.call("GET", "/.well-known/matrix/client", None, Value::Null).await.1;
    assert_eq!(well_known, json!({ "m.homeserver": { "base_url": "https://m.home.test" } }));
    let local = TestNode::new().await;
    assert_eq!(refused(&local.call("GET", "/.well-known/matrix/client", None, Value::Null).await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&local.call("GET", "/.well-known/matrix/support", None, Value::Null).await), (404, "M_NOT_FOUND"));
    assert_eq!(test.get(&ann, "/_matrix/client/v3/account/3pid").await.1, json!({ "threepids": [] }));
}
