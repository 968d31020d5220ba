//! Requests that no client should send. None of them may make the node fail.

use homeroom::homeserver::api::endpoints::{self, Endpoint, State, normal};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::garbage::{body, fill, query};
use crate::support::{
    LocalNode, Person,
    http::{Answer, encoded},
};

/// How long garbage is sent. `HOSTILE_SECONDS` makes it longer.
const SECONDS: u64 = 6;
/// Endpoints that need no token.
const PUBLIC: [&str; 27] = [
    "/_matrix/client/v1/auth_metadata",
    "/_matrix/client/v3/login/sso/redirect",
    "/_matrix/client/v3/login/sso/redirect/{idpId}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{userId}",
    "/_matrix/client/versions",
    "/_matrix/client/v3/login",
    "/_matrix/client/v3/register",
    "/_matrix/client/v3/refresh",
    "/_matrix/client/unstable/org.matrix.msc2918/refresh",
    "/_matrix/client/v3/register/available",
    "/_matrix/client/v1/register/m.login.registration_token/validity",
    "/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
    "/_matrix/client/v3/profile/{userId}",
    "/_matrix/client/v3/profile/{userId}/{keyName}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{userId}/{keyName}",
    "/_matrix/client/v3/directory/room/{roomAlias}",
    "/_matrix/client/v3/directory/list/room/{roomId}",
    "/_matrix/client/v3/publicRooms",
    "/_matrix/media/v3/download/{serverName}/{mediaId}",
    "/_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}",
    "/_matrix/media/v3/thumbnail/{serverName}/{mediaId}",
    "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}",
    "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/{action}",
    "/.well-known/matrix/client",
    "/.well-known/matrix/support",
    "/_matrix/client/v1/room_summary/{roomIdOrAlias}",
    "/_matrix/client/unstable/im.nheko.summary/",
];

fn served() -> Vec<Endpoint> {
    let rows: Vec<Endpoint> = endpoints::table().into_iter().filter(|row| row.state == State::Served).collect();
    assert!(rows.len() > 140);
    rows
}

/// The seed of a run: always the same one, so that a failure is the change's, unless `HOSTILE_SEED` asks for another.
fn seed() -> u64 {
    std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20)
}

#[test]
fn every_endpoint_that_needs_a_token_refuses_who_has_none() {
    let node = LocalNode::start();
    let (mut nobody, mut stranger) = (node.http(), node.http());
    stranger.token = Some("nonsense".to_owned());
    // Ways to sign in have no token yet; what they ask for instead has tests of its own.
    for row in served().into_iter().filter(|row| row.section != "Signing in beyond the stable specification") {
        let path = normal(&row.method, row.path).split_once(' ').unwrap().1.replace("{}", "x");
        let public = PUBLIC.iter().any(|public| *public == row.path || (public.ends_with('/') && row.path.starts_with(public)));
        if public && !(row.method == "PUT" || row.method == "DELETE") {
            continue;
        }
        let method = row.method.as_str();
        let answer = nobody.call(method, &path, &Value::Null);
        assert_eq!((answer.status, answer.errcode().as_str()), (401, "M_MISSING_TOKEN"), "{method} {path}");
        let answer = stranger.call(method, &path, &Value::Null);
        assert_eq!((answer.status, answer.errcode().as_str()), (401, "M_UNKNOWN_TOKEN"), "{method} {path}");
    }
}

/// What each endpoint that takes a body says to a body that is none. Nobody's state may change by it.
#[test]
fn every_endpoint_that_takes_a_body_refuses_broken_json() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let event = ann.say(&room, "hello");
    let mut random = StdRng::seed_from_u64(1);
    for row in served() {
        // These have no body, or a file.
        let bodyless = row.path.contains("/logout")
            || row.path.contains("/media/")
            || row.path.ends_with("/{action}")
            || row.path.ends_with("/forget");
        if row.method == "GET" || row.method == "DELETE" || bodyless {
            continue;
        }
        let path = fill(row.path, &room, &event, &ann, &mut random, 1.0);
        let method = row.method.as_str();
        for body in [&b"{"[..], b"[1]", b"7", b"\xff\xfe", b"{\"a\":\x00}", b"{\"a\":1e999}x"] {
            let answer = ann.http.request(method, &path, "application/json", body).unwrap();
            let known = matches!(answer.errcode().as_str(), "M_NOT_JSON" | "M_BAD_JSON");
            // Whatever else is wrong with the request may be said first, but nothing is done.
            let other = (400..500).contains(&answer.status) && answer.errcode().starts_with("M_");
            let shown = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(known || other, "{method} {path} {}: {} {shown}", String::from_utf8_lossy(body), answer.status);
        }
    }
    assert_eq!(ann.history(&room).last().unwrap()["event_id"], event.as_str(), "nothing has happened in the room");
}

#[test]
fn an_unknown_path_is_unrecognized() {
    let node = LocalNode::start();
    let mut http = node.http();
    for path in
        ["/", "/_matrix", "/_matrix/client", "/_matrix/client/v3/nothing", "/_matrix/federation/v9/x", "/%00", "/_matrix/client/v3/%ff%fe"]
    {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.errcode().as_str()), (404, "M_UNRECOGNIZED"), "{path}");
    }
}

#[test]
fn a_known_path_with_another_method_is_unrecognized() {
    let node = LocalNode::start();
    let answer = node.http().post("/_matrix/client/versions", &json!({}));
    assert_eq!((answer.status, answer.errcode().as_str()), (405, "M_UNRECOGNIZED"));
}

#[test]
fn a_request_without_a_token_or_with_a_wrong_one_is_told_so() {
    let node = LocalNode::start();
    let mut http = node.http();
    let answer = http.get("/_matrix/client/v3/account/whoami");
    assert_eq!((answer.status, answer.errcode().as_str()), (401, "M_MISSING_TOKEN"));
    http.token = Some("nonsense".to_owned());
    let answer = http.get("/_matrix/client/v3/account/whoami");
    assert_eq!((answer.status, answer.errcode().as_str()), (401, "M_UNKNOWN_TOKEN"));
}

#[test]
fn a_body_that_is_not_json_is_told_so() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    for body in ["{", "nonsense", "{\"a\":}", "\u{0}", "[1,2", "\"\\ud800\""] {
        let answer = ann.http.request("POST", "/_matrix/client/v3/createRoom", "application/json", body.as_bytes()).unwrap();
        assert!(matches!(answer.errcode().as_str(), "M_NOT_JSON" | "M_BAD_JSON"), "{body}: {} {}", answer.status, answer.errcode());
        assert_eq!(answer.status, 400, "{body}");
    }
    let answer = ann.http.request("POST", "/_matrix/client/v3/createRoom", "application/json", b"{\"name\":7}").unwrap();
    assert_eq!((answer.status, answer.errcode().as_str()), (400, "M_BAD_JSON"));
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(20 << 20));
    let answer = ann.http.request("POST", "/_matrix/client/v3/createRoom", "application/json", body.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.errcode().as_str()), (413, "M_TOO_LARGE"));
    ann.http.get("/_matrix/client/v3/account/whoami").ok();
}

#[test]
fn an_event_beyond_64_kib_is_refused() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/big", encoded(&room));
    let answer = ann.http.put(&path, &json!({ "msgtype": "m.text", "body": "x".repeat(65_536) }));
    assert_eq!((answer.status, answer.errcode().as_str()), (413, "M_TOO_LARGE"));
    let answer = ann.http.put(&path, &json!({ "msgtype": "m.text", "body": "x".repeat(60_000) }));
    assert_eq!(answer.status, 200, "{}", answer.json());
}

/// Whatever the request: the answer is no failure of the node, and an error has the form that the specification gives.
#[test]
fn garbage_never_makes_the_node_fail() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let bob = node.person("bob");
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let event = ann.say(&room, "hello");
    let owner =
        Person { http: ann.http.another(), user_id: ann.user_id.clone(), device_id: ann.device_id.clone(), password: String::new() };
    let seed = seed();
    println!("HOSTILE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let seconds = std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    // Signing out last: whoever is signed out is refused everything else.
    let (last, mut rows): (Vec<_>, Vec<_>) = served().into_iter().partition(|row| row.path.contains("/logout"));
    rows.extend(last);
    let (mut faults, mut rounds, mut granted) = (Vec::new(), 0, 0);
    while std::time::Instant::now() < until || rounds == 0 {
        rounds += 1;
        // Somebody new each time: what the garbage did to an account must not shield the rest.
        let mut ann = if rounds == 1 { ann.http.another() } else { node.person(&format!("ann{rounds}")).http };
        let waiting = ann.put("/_matrix/client/v3/presence/x/status", &json!({}));
        assert!(waiting.status >= 400);
        for row in &rows {
            let method = row.method.as_str();
            let path = fill(row.path, &room, &event, &owner, &mut random, 0.7);
            let query = if random.random_bool(0.4) { query(&mut random) } else { String::new() };
            let body = if method == "GET" { Vec::new() } else { body(row.path, &room, &event, &bob.user_id, &mut random) };
            let mut http = if random.random_bool(0.95) { ann.another() } else { node.http() };
            let answer = http.request(method, &format!("{path}{query}"), "application/json", &body);
            granted += usize::from(answer.as_ref().is_ok_and(|answer| answer.status == 200));
            if let Some(fault) = fault(&path, &answer) {
                faults.push(format!("{method} {path}{query} {}: {fault}", String::from_utf8_lossy(&body)));
            }
        }
    }
    assert!(granted > rounds * rows.len() / 10, "most of the garbage did not get far: {granted} of {}", rounds * rows.len());
    // Whatever has been done to the account: the node still works.
    let mut carol = node.person("carol");
    let another = carol.create_room(&json!({}));
    carol.say(&another, "still here");
    assert!(faults.is_empty(), "HOSTILE_SEED={seed}: {} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(20)]);
}

fn fault(path: &str, answer: &std::io::Result<Answer>) -> Option<String> {
    match answer {
        Err(error) => Some(format!("no answer: {error}")),
        Ok(answer) if answer.status >= 500 => Some(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
        // Pages are for people, and OAuth has errors of its own.
        Ok(answer) if answer.status >= 400 && answer.header("content-type").starts_with("text/html") => None,
        Ok(answer) if path.starts_with("/_homeroom/oauth/") && answer.status >= 400 && answer.json()["error"].is_string() => None,
        Ok(answer) if answer.status >= 400 && answer.errcode().is_empty() && !answer.json()["flows"].is_array() => {
            Some(format!("{} without an error code", answer.status))
        }
        Ok(_) => None,
    }
}
