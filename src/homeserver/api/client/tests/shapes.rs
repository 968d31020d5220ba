//! Fields within fields, and parameters of queries: values of every other type, and values that are too long, too large, negative
//! or empty. (`tests/it/node/types.rs` does the fields on top of a body, over a socket.)

use serde_json::{Value, json};

use crate::homeserver::api::testing::{Client, TestNode};

/// A request with every field that is documented below those on top, and what it is answered. What is in braces is filled in.
///
/// Where a field starts with `~`, its value is the user's own: any JSON will do, and nothing in it is looked at.
const BODIES: &str = r##"
200 POST createRoom {"invite":["{bob}"],"initial_state":[{"type":"m.x","state_key":"k","~content":{}}]}
200 POST createRoom {"initial_state":[{"type":"m.room.topic","content":{}}],"power_level_content_override":{"users":{"{bob}":10},"events":{"m.x":5},"ban":50,"kick":50,"invite":0,"redact":50,"state_default":50,"events_default":0,"users_default":0,"notifications":{"room":50}}}
200 POST keys/device_signing/upload {"master_key":{"user_id":"{ann}","usage":["master"],"keys":{"ed25519:{key}":"{key}"},"signatures":{"{ann}":{"ed25519:A":"AAAA"}}}}
401 POST delete_devices {"devices":["B"]}
200 POST user/{ann}/filter {"event_fields":["content.body"],"presence":{"limit":1,"not_senders":["{bob}"],"not_types":["m.x"],"senders":["{ann}"],"types":["m.y"]},"account_data":{"limit":1,"not_senders":["{bob}"],"not_types":["m.x"],"senders":["{ann}"],"types":["m.y"]}}
200 POST user/{ann}/filter {"room":{"not_rooms":["!x:home.test"],"rooms":["{room}"],"include_leave":true,"ephemeral":{FILTER},"state":{FILTER},"timeline":{FILTER},"account_data":{FILTER}}}
200 PUT room_keys/keys?version=1 {"rooms":{"{room}":{"sessions":{"s":{"first_message_index":1,"forwarded_count":0,"is_verified":false,"~session_data":{"x":1}}}}}}
200 PUT room_keys/keys/{room}?version=1 {"sessions":{"s":{"first_message_index":1,"forwarded_count":0,"is_verified":false,"~session_data":{"x":1}}}}
200 POST keys/upload {"device_keys":{"user_id":"{ann}","device_id":"A","algorithms":["m.olm.v1.curve25519-aes-sha2"],"keys":{"ed25519:A":"AAAA"},"signatures":{"{ann}":{"ed25519:A":"AAAA"}}}}
200 POST keys/upload {"one_time_keys":{"signed_curve25519:AAAA":{"key":"AAAA","signatures":{"{ann}":{"ed25519:A":"AAAA"}}}},"fallback_keys":{"signed_curve25519:AAAB":{"key":"AAAA","fallback":true,"signatures":{"{ann}":{"ed25519:A":"AAAA"}}}}}
200 POST keys/query {"device_keys":{"{ann}":["A"]}}
200 POST keys/claim {"one_time_keys":{"{bob}":{"B":"signed_curve25519"}}}
200 POST publicRooms {"filter":{"generic_search_term":"x","room_types":["m.space"]}}
403 POST login {"type":"m.login.password","identifier":{"type":"m.id.user","user":"ann"},"password":"wrong"}
200 POST pushers/set {"pushkey":"p","kind":"http","app_id":"a","app_display_name":"A","device_display_name":"D","lang":"en","data":{"url":"https://push.example.org/_matrix/push/v1/notify","format":"event_id_only"}}
200 PUT pushrules/global/override/x {"actions":["notify",{"set_tweak":"sound","~value":"default"}],"conditions":[{"kind":"event_match","key":"type","pattern":"m.x"},{"kind":"room_member_count","is":"2"},{"kind":"event_property_is","key":"content.x","value":7},{"kind":"event_property_contains","key":"content.x","value":"y"},{"kind":"sender_notification_permission","key":"room"}]}
200 PUT pushrules/global/override/x/actions {"actions":["notify",{"set_tweak":"highlight","~value":true}]}
200 POST search {"search_categories":{"room_events":{"search_term":"x","keys":["content.body"],"filter":{FILTER},"order_by":"recent","event_context":{"before_limit":1,"after_limit":1,"include_profile":true},"include_state":true,"groupings":{"group_by":[{"key":"room_id"}]}}}}
200 PUT sendToDevice/m.x/{txn} {"messages":{"{ann}":{"A":{}}}}
200 PUT user/{ann}/account_data/m.ignored_user_list {"ignored_users":{"{bob}":{}}}
200 PUT rooms/{room}/state/m.room.power_levels/ {"users":{"{bob}":10},"events":{"m.x":5},"ban":50,"kick":50,"invite":0,"redact":50,"state_default":50,"events_default":0,"users_default":0,"notifications":{"room":50}}
200 PUT rooms/{room}/state/m.room.canonical_alias/ {"alias":"#taken:home.test","alt_aliases":["#taken:home.test"]}
200 POST unstable:org.matrix.simplified_msc3575/sync {"conn_id":"c","txn_id":"t","lists":{"l":{"ranges":[[0,1]],"required_state":[["m.room.name",""]],"timeline_limit":1,"filters":{"is_dm":true,"is_encrypted":false,"is_invite":false,"room_types":["m.space"],"not_room_types":["m.x"],"spaces":["{room}"],"tags":["m.x"],"not_tags":["m.y"]}}},"room_subscriptions":{"{room}":{"required_state":[["m.room.name",""]],"timeline_limit":1}},"extensions":{EXTENSIONS}}
200 POST v4:sync {"conn_id":"d","lists":{"l":{"range":[0,1],"required_state":{"include":[{"type":"m.room.name","state_key":""}],"exclude":[{"type":"m.x","state_key":"k"}],"lazy_members":true},"timeline_limit":1,"filters":{"is_dm":true,"is_encrypted":false,"is_invited":false,"room_types":["m.space"],"not_room_types":["m.x"]}}},"room_subscriptions":{"{room}":{"required_state":{"include":[]},"timeline_limit":1}},"extensions":{EXTENSIONS}}
"##;

const FILTER: &str = r##""limit":1,"not_senders":["{bob}"],"not_types":["m.x"],"senders":["{ann}"],"types":["m.y"],"unread_thread_notifications":true,"lazy_load_members":true,"include_redundant_members":true,"not_rooms":["!x:home.test"],"rooms":["{room}"],"contains_url":false"##;

const EXTENSIONS: &str = r##""to_device":{"enabled":true,"limit":1,"since":"0"},"e2ee":{"enabled":true},"account_data":{"enabled":true,"lists":["l"],"rooms":["{room}"]},"receipts":{"enabled":true,"lists":["l"],"rooms":["{room}"]},"typing":{"enabled":true,"lists":["l"],"rooms":["{room}"]}"##;

/// Every documented parameter: `n` number, `b` true or false, `e` one of some words, `c` a place that a page before it named, `s` text.
const QUERIES: &str = "
GET media:v1/download/home.test/{file} timeout_ms:n
GET media:v1/download/home.test/{file}/x timeout_ms:n
GET media:v1/thumbnail/home.test/{file} width:n* height:n* method:e timeout_ms:n animated:b
GET media:v1/preview_url url:s* ts:n
GET media:v3/download/home.test/{file} timeout_ms:n allow_remote:b allow_redirect:b
GET media:v3/download/home.test/{file}/x timeout_ms:n allow_remote:b allow_redirect:b
GET media:v3/thumbnail/home.test/{file} width:n* height:n* method:e timeout_ms:n animated:b allow_remote:b allow_redirect:b
GET media:v3/preview_url url:s* ts:n
POST media:v3/upload filename:s
GET rooms/{room}/context/{event} limit:n filter:j
POST join/{room} via:s server_name:s
POST knock/{room} via:s server_name:s
GET room_keys/keys version:c*
GET room_keys/keys/{room} version:c*
GET room_keys/keys/{room}/s version:c*
PUT room_keys/keys version:c*
PUT room_keys/keys/{room} version:c*
PUT room_keys/keys/{room}/s version:c*
DELETE room_keys/keys version:c*
DELETE room_keys/keys/{room} version:c*
DELETE room_keys/keys/{room}/s version:c*
GET keys/changes from:c* to:c*
GET publicRooms limit:n since:c server:s
POST publicRooms server:s
GET rooms/{room}/messages from:c to:c dir:e* limit:n filter:j
GET v1:mutual_rooms user_id:i* from:c
GET notifications from:c limit:n only:s
PUT pushrules/global/override/y before:s after:s
POST register kind:e
GET register/available username:i*
GET v1:register/m.login.registration_token/validity token:s*
GET v1:rooms/{room}/relations/{event} from:c to:c limit:n dir:e recurse:b
GET v1:rooms/{room}/relations/{event}/m.thread from:c to:c limit:n dir:e recurse:b
GET v1:rooms/{room}/relations/{event}/m.thread/m.x from:c to:c limit:n dir:e recurse:b
GET v1:rooms/{room}/timestamp_to_event ts:n* dir:e*
GET v1:room_summary/{room} via:s
GET rooms/{room}/state/m.room.name/ format:e
GET rooms/{room}/members at:c membership:s not_membership:s
POST search next_batch:c
GET v1:rooms/{room}/hierarchy suggested_only:b limit:n max_depth:n from:c
GET v1:rooms/{room}/threads include:e limit:n from:c
GET sync filter:c since:c full_state:b set_presence:e timeout:n use_state_after:b
GET thirdparty/location/x fields:s
GET thirdparty/user/x fields:s
GET thirdparty/location alias:i*
GET thirdparty/user userid:i*
POST unstable:org.matrix.simplified_msc3575/sync pos:c timeout:n set_presence:e
PUT rooms/{room}/send/m.room.message/q ts:s org.matrix.msc4140.delay:n
PUT rooms/{room}/state/m.x/q ts:s org.matrix.msc4140.delay:n
";

/// What people have by now, as far as they can see it.
const SEEN: &[&str] = &[
    "account/whoami",
    "devices",
    "joined_rooms",
    "profile/{ann}",
    "pushers",
    "pushrules/",
    "room_keys/version",
    "room_keys/keys?version=1",
    "rooms/{room}/state",
    "rooms/{room}/messages?dir=b&limit=5",
    "user/{ann}/account_data/m.ignored_user_list",
    "user/{ann}/filter/2",
];

struct Home {
    test: TestNode,
    ann: Client,
    known: Vec<(&'static str, String)>,
}

impl Home {
    async fn new() -> Self {
        let test = TestNode::with(|config| config.rate_limits = false).await;
        let (ann, bob) = (test.client("ann", "A").await, test.client("bob", "B").await);
        let (_, made) = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "room_alias_name": "taken", "room_version": "12" })).await;
        let room = made["room_id"].as_str().unwrap().to_owned();
        let said = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/0");
        let (_, sent) = test.put(&ann, &said, json!({ "msgtype": "m.text", "body": "x" })).await;
        let version = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {} });
        assert_eq!(test.post(&ann, "/_matrix/client/v3/room_keys/version", version).await.0, 200);
        let picture = crate::homeserver::media::samples::png(9, 9);
        let known = vec![
            ("{FILTER}", format!("{{{FILTER}}}")),
            ("{EXTENSIONS}", format!("{{{EXTENSIONS}}}")),
            ("{room}", room),
            ("{event}", sent["event_id"].as_str().unwrap().to_owned()),
            ("{ann}", ann.user_id.clone()),
            ("{bob}", bob.user_id.clone()),
            ("{key}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            ("{file}", super::media::upload(&test, &ann, &picture, "image/png", "x").await),
        ];
        Self { test, ann, known }
    }

    fn fill(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn path(&self, text: &str, number: usize) -> String {
        let text = self.fill(text).replace("{txn}", &number.to_string());
        match text.split_once(':') {
            Some(("v1", rest)) => format!("/_matrix/client/v1/{rest}"),
            Some(("v4", rest)) => format!("/_matrix/client/v4/{rest}"),
            Some(("unstable", rest)) => format!("/_matrix/client/unstable/{rest}"),
            Some(("media", rest)) => match rest.strip_prefix("v1") {
                Some(rest) => format!("/_matrix/client/v1/media{rest}"),
                None => format!("/_matrix/media/{rest}"),
            },
            _ => format!("/_matrix/client/v3/{text}"),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.test.call(method, path, Some(&self.ann.token), body).await;
        (status.as_u16(), answer)
    }

    async fn seen(&self) -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        for path in SEEN {
            let path = self.path(path, 0);
            let mut answer = self.ask("GET", &path, Value::Null).await;
            // Signing keys of a page that change with each request.
            if let Some(object) = answer.1.as_object_mut() {
                object.retain(|name, _| !matches!(name.as_str(), "start" | "end"));
            }
            seen.push((path, json!([answer.0, answer.1])));
        }
        seen
    }
}

/// One step into a value.
#[derive(Debug, Clone)]
enum Step {
    Field(String),
    Place(usize),
}

fn at<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Field(name) => &mut value[name.as_str()],
        Step::Place(place) => &mut value[*place],
    })
}

/// The ways to all values below the fields on top; into what is the user's own there is none.
fn ways(value: &Value, way: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    if way.len() > 1 {
        found.push(way.clone());
    }
    match value {
        Value::Object(object) => {
            for (name, value) in object.iter().filter(|(name, _)| !name.starts_with('~')) {
                way.push(Step::Field(name.clone()));
                ways(value, way, found);
                way.pop();
            }
        }
        Value::Array(list) => {
            for (place, value) in list.iter().enumerate() {
                way.push(Step::Place(place));
                ways(value, way, found);
                way.pop();
            }
        }
        _ => {}
    }
}

/// The body without the marks.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(name, value)| (name.trim_start_matches('~').to_owned(), plain(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(plain).collect(),
        other => other,
    }
}

const fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Of another type than the example's, and taken all the same.
fn may_be(path: &str, way: &str, value: &Value) -> bool {
    match path {
        // A key is an object or, without signature, a string.
        "keys/upload" => way.matches("Field").count() == 2 && way.contains("fallback_keys") && value.is_string(),
        // Actions that a server does not know are kept for clients that do; a condition's value is of any scalar type.
        _ if path.starts_with("pushrules/") => {
            (way.contains("actions") && (value.is_string() || value.is_object()))
                || (way.contains("value") && !value.is_array() && !value.is_object())
        }
        // What is in account data is the client's own.
        _ if path.contains("/account_data/") => way.contains("@bob"),
        // Read as the object's fields in order; nothing follows from it.
        "search" | "v4:sync" => *value == json!([[]]) && (way.ends_with(r#"("groupings")]"#) || way.ends_with(r#"("required_state")]"#)),
        _ => false,
    }
}

/// Is this an error as it should be?
fn is_refused((status, answer): &(u16, Value)) -> bool {
    (400..500).contains(status) && (answer["errcode"].as_str().is_some_and(|code| code.starts_with("M_")) || answer["flows"].is_array())
}

#[tokio::test]
async fn a_field_within_a_field_is_of_its_type_or_refused() {
    let home = Home::new().await;
    let (mut faults, mut asked) = (Vec::new(), 0);
    for line in BODIES.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        let [Some(status), Some(method), Some(path), Some(body)] = [words.next(), words.next(), words.next(), words.next()] else {
            panic!("malformed: {line}")
        };
        let marked: Value = serde_json::from_str(&home.fill(body)).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut found = Vec::new();
        ways(&marked, &mut Vec::new(), &mut found);
        let before = home.seen().await;
        let mut changed = false;
        for way in found {
            let mut good = marked.clone();
            let was = kind(at(&mut good, &way));
            let wrong = [json!(true), json!(7), json!("x"), json!([[]]), json!({ "x": [] })].into_iter().filter(|value| kind(value) != was);
            let odd = match was {
                2 => vec![json!(-1), json!(1.5), json!(9_007_199_254_740_992_u64), json!(u64::MAX), json!(1e300)],
                3 => vec![json!(""), json!("x".repeat(70_000)), json!("\u{0}\u{202e}")],
                _ => Vec::new(),
            };
            let values = wrong.map(|value| (value, true)).chain(odd.into_iter().chain([Value::Null]).map(|value| (value, false)));
            for (value, must) in values {
                asked += 1;
                let mut body = marked.clone();
                *at(&mut body, &way) = value.clone();
                let answer = home.ask(method, &home.path(path, asked), plain(body)).await;
                changed |= answer.0 == 200;
                let taken = answer.0 == 200 && (!must || may_be(path, &format!("{way:?}"), &value));
                if !(is_refused(&answer) || taken) {
                    let shown: String = value.to_string().chars().take(40).collect();
                    faults.push(format!("{method} {path} {way:?}={shown}: {} {}", answer.0, answer.1));
                }
            }
        }
        // What may be taken may change something; what is refused does not.
        if !changed {
            let after = home.seen().await;
            if before != after {
                faults.push(format!("after {line}: {before:?} {after:?}"));
            }
        }
        asked += 1;
        let answer = home.ask(method, &home.path(path, asked), plain(marked)).await;
        if answer.0.to_string() != status {
            faults.push(format!("{line}: {} {}", answer.0, answer.1));
        }
    }
    assert!(asked > 2000, "{asked}");
    assert!(faults.is_empty(), "{} of {asked}: {faults:#?}", faults.len());
}

/// Values for a parameter, and whether they have to be refused.
fn values(kind: char) -> Vec<(String, bool)> {
    let of = |texts: &[&str], must| texts.iter().map(|text| ((*text).to_owned(), must)).collect::<Vec<_>>();
    let always = [
        (String::new(), false),
        ("x".repeat(5000), matches!(kind, 'n' | 'b' | 'e' | 'c' | 'j' | 'i')),
        ("%00".into(), false),
        ("%ff%fe".into(), matches!(kind, 'n' | 'b' | 'e')),
    ];
    let more = match kind {
        'n' => [of(&["x", "1.5", "1e3", "%D9%A3", "true"], true), of(&["-1", "99999999999999999999999", "9223372036854775807"], false)]
            .concat(),
        'b' => of(&["x", "7", "TRUE", "null"], true),
        'e' => of(&["other", "7", "true"], true),
        'c' => of(&["nonsense", "-1", "s1", "99999999999999999999999"], false),
        'j' => of(&["%7B", "%5B%5D", "%7B%22limit%22:%22x%22%7D", "%7B%22types%22:7%7D"], true),
        _ => of(&["-1", "..%2F..", "%7B%7D"], false),
    };
    more.into_iter().chain(always).collect()
}

/// Good values for parameters that have to be there.
fn good(name: &str) -> &'static str {
    match name {
        "dir" => "b",
        "url" => "http://127.0.0.1:1/",
        "user_id" | "userid" => "@bob:home.test",
        "alias" => "%23x:home.test",
        _ => "1",
    }
}

#[tokio::test]
async fn a_parameter_is_of_its_type_or_refused() {
    let home = Home::new().await;
    let (mut faults, mut asked) = (Vec::new(), 0);
    for line in QUERIES.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let parameters: Vec<(&str, char, bool)> = words
            .map(|word| word.rsplit_once(':').unwrap())
            .map(|(name, kind)| (name, kind.chars().next().unwrap(), kind.ends_with('*')))
            .collect();
        for (name, kind, _) in &parameters {
            for (value, must) in values(*kind) {
                asked += 1;
                let others = parameters.iter().filter(|(other, _, required)| *required && other != name);
                let query: String = others.map(|(other, ..)| format!("{other}={}&", good(other))).collect();
                let path = format!("{}?{query}{name}={value}", home.path(path, asked));
                let body = if method == "GET" || method == "DELETE" { Value::Null } else { json!({ "username": "new", "x": 1 }) };
                let before = home.seen().await;
                let answer = home.ask(method, &path, body).await;
                let fine = is_refused(&answer) || (!must && (answer.0 < 300 || answer.0 == 502));
                if !fine {
                    let shown: String = path.chars().take(160).collect();
                    faults.push(format!("{method} {shown}: {} {}", answer.0, answer.1.to_string().chars().take(200).collect::<String>()));
                }
                if answer.0 >= 400 {
                    assert_eq!(before, home.seen().await, "after {method} {path}");
                }
            }
        }
    }
    assert!(asked > 800, "{asked}");
    assert!(faults.is_empty(), "{} of {asked}: {faults:#?}", faults.len());
}
