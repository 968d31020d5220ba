//! Requests that no client should send. None of them may make the node fail.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::support::{
    LocalNode, Person,
    http::{Answer, encoded},
};

/// Method and path of the client-server API's endpoints, one to a line.
const ENDPOINTS: &str = include_str!("endpoints.txt");
const ROUNDS: usize = 12;

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
    let mut random = StdRng::seed_from_u64(20);
    let mut faults = Vec::new();
    for round in 0..ROUNDS {
        for line in ENDPOINTS.lines() {
            let (method, template) = line.split_once(' ').unwrap();
            let path = fill(template, &room, &event, &ann, &mut random);
            let query = if random.random_bool(0.4) { query(&mut random) } else { String::new() };
            let body = if method == "GET" { Vec::new() } else { body(&room, &event, &bob.user_id, &mut random) };
            let mut http = if random.random_bool(0.9) { ann.http.another() } else { node.http() };
            let answer = http.request(method, &format!("{path}{query}"), "application/json", &body);
            if let Some(fault) = fault(&path, &answer) {
                faults.push(format!("round {round}: {method} {path}{query} {}: {fault}", String::from_utf8_lossy(&body)));
            }
        }
    }
    // Whatever has been done to the account: the node still works.
    let mut carol = node.person("carol");
    let another = carol.create_room(&json!({}));
    carol.say(&another, "still here");
    assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(20)]);
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

/// Puts something into each `{parameter}` of a path: often the right thing, often not.
fn fill(template: &str, room: &str, event: &str, ann: &Person, random: &mut StdRng) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        let right = match name {
            "roomId" | "roomIdOrAlias" => room,
            "userId" => &ann.user_id,
            "eventId" => event,
            "deviceId" => &ann.device_id,
            "roomAlias" => "#somewhere:home.test",
            "eventType" | "type" => "m.room.name",
            "kind" => "override",
            "ruleId" => ".m.rule.master",
            "receiptType" => "m.read",
            "serverName" => "home.test",
            "txnId" => "t",
            "version" | "filterId" => "1",
            _ => "name",
        };
        let value = if random.random_bool(0.6) { right.to_owned() } else { odd_text(random) };
        path.push_str(before);
        path.push_str(&encoded(&value));
        rest = after;
    }
    path.push_str(rest);
    path
}

fn odd_text(random: &mut StdRng) -> String {
    let texts = [
        "",
        "0",
        "-1",
        "99999999999999999999",
        "!x:home.test",
        "@x:home.test",
        "$x",
        "#x:home.test",
        "@",
        "a/b",
        "..",
        "\u{0}",
        "ü🦀",
        "'; --",
        "%",
        "m.room.create",
        "{}",
        "null",
    ];
    match random.random_range(0..10) {
        0 => "x".repeat(random.random_range(1..3000)),
        _ => (*texts.choose(random).unwrap()).to_owned(),
    }
}

fn query(random: &mut StdRng) -> String {
    let names = [
        "timeout",
        "since",
        "from",
        "to",
        "dir",
        "limit",
        "filter",
        "set_presence",
        "full_state",
        "width",
        "height",
        "method",
        "ts",
        "membership",
        "at",
        "kind",
        "user_id",
        "server",
        "via",
        "pos",
        "conn_id",
        "version",
        "order",
        "url",
    ];
    let values = ["0", "-1", "18446744073709551616", "b", "f", "x", "{", "{}", "{\"room\":7}", "%00", "", "1", "s1", "1_1", "true"];
    let pairs: Vec<String> = (0..random.random_range(1..4))
        .map(|_| (*names.choose(random).unwrap(), *values.choose(random).unwrap()))
        // Nobody waits for a sync in here.
        .filter(|(name, value)| *name != "timeout" || !value.starts_with('1'))
        .map(|(name, value)| format!("{name}={}", if value == "%00" { value.to_owned() } else { encoded(value) }))
        .collect();
    format!("?{}", pairs.join("&"))
}

fn body(room: &str, event: &str, user: &str, random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..12) {
        0 => Vec::new(),
        1 => b"{".to_vec(),
        2 => b"\xff\xfe{}".to_vec(),
        3 => [b"{\"a\":".repeat(500), b"1".to_vec(), b"}".repeat(500)].concat(),
        4 => json!([room, event]).to_string().into_bytes(),
        5 => b"{\"a\":1e400,\"b\":123456789012345678901234567890}".to_vec(),
        6 => b"{\"a\":\"\\ud800\",\"a\":1}".to_vec(),
        _ => object(room, event, user, random, 0).to_string().into_bytes(),
    }
}

/// An object with keys that endpoints know and values that they may not expect.
fn object(room: &str, event: &str, user: &str, random: &mut StdRng, depth: u8) -> Value {
    let keys = [
        "auth",
        "type",
        "user",
        "user_id",
        "password",
        "identifier",
        "room_id",
        "event_id",
        "body",
        "msgtype",
        "content",
        "membership",
        "reason",
        "typing",
        "timeout",
        "device_keys",
        "one_time_keys",
        "fallback_keys",
        "messages",
        "invite",
        "name",
        "topic",
        "preset",
        "room_version",
        "creation_content",
        "initial_state",
        "power_level_content_override",
        "visibility",
        "tag",
        "order",
        "algorithm",
        "auth_data",
        "rooms",
        "sessions",
        "lists",
        "room_subscriptions",
        "extensions",
        "conn_id",
        "pos",
        "ranges",
        "required_state",
        "timeline_limit",
        "filters",
        "search_term",
        "limit",
        "new_version",
        "m.read",
        "m.fully_read",
        "m.relates_to",
        "rel_type",
        "key",
        "redacts",
        "displayname",
        "avatar_url",
        "status_msg",
        "presence",
        "actions",
        "enabled",
        "conditions",
        "pattern",
        "pusher",
        "kind",
        "app_id",
        "pushkey",
        "master_key",
        "self_signing_key",
        "user_signing_key",
        "signatures",
        "keys",
        "account_data_fields",
        "room",
        "event_fields",
        "event_format",
        "not_rooms",
        "users",
        "users_default",
        "ban",
        "state_default",
        "join_rule",
        "allow",
        "alias",
    ];
    let mut object = serde_json::Map::new();
    for _ in 0..random.random_range(0..8) {
        let value = match random.random_range(0..14) {
            0 => Value::Null,
            1 => json!(random.random_bool(0.5)),
            2 => json!(random.random::<i64>()),
            3 => json!(0.5),
            4 => json!(room),
            5 => json!(event),
            6 => json!(user),
            7 => json!([]),
            8 => json!([user, 7, null]),
            9 | 10 if depth < 4 => self::object(room, event, user, random, depth + 1),
            11 => json!({ user: { "*": [], "ed25519:A": "x" } }),
            _ => json!(odd_text(random)),
        };
        object.insert((*keys.choose(random).unwrap()).to_owned(), value);
    }
    Value::Object(object)
}
