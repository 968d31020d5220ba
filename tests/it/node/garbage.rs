//! Requests that no client should send, made up at random: paths, queries and bodies that are nearly right or not at all.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::support::{Person, http::encoded};

/// Puts something into each `{parameter}` of a path: often the right thing, often not.
pub fn fill(template: &str, room: &str, event: &str, ann: &Person, random: &mut StdRng, right_share: f64) -> String {
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
        let value = if random.random_bool(right_share) { right.to_owned() } else { odd_text(random) };
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

/// A query of names that endpoints know and values that they may not expect.
pub fn query(random: &mut StdRng) -> String {
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

/// A body: none, broken, of strange fields, or what the endpoint expects with one thing changed.
pub fn body(path: &str, room: &str, event: &str, user: &str, random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..20) {
        0 => Vec::new(),
        1 => b"{".to_vec(),
        2 => b"\xff\xfe{}".to_vec(),
        3 => [b"{\"a\":".repeat(500), b"1".to_vec(), b"}".repeat(500)].concat(),
        4 => json!([room, event]).to_string().into_bytes(),
        5 => b"{\"a\":1e400,\"b\":123456789012345678901234567890}".to_vec(),
        6 => b"{\"a\":\"\\ud800\",\"a\":1}".to_vec(),
        7..=11 => object(room, event, user, random, 0).to_string().into_bytes(),
        // What the endpoint expects, with one thing changed.
        _ => {
            let mut body = expected(path, room, event, user);
            let mut places = Vec::new();
            pointers(&body, String::new(), &mut places);
            let place = places.choose(random).cloned().unwrap_or_default();
            if let Some(value) = body.pointer_mut(&place) {
                *value = odd_value(room, event, user, random, 0);
            }
            body.to_string().into_bytes()
        }
    }
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| pointers(value, format!("{at}/{}", escaped(key)), found)),
        Value::Array(array) => array.iter().enumerate().for_each(|(index, value)| pointers(value, format!("{at}/{index}"), found)),
        _ => {}
    }
    found.push(at);
}

/// A body that is right for the endpoint, as far as it is one that reads much.
pub fn expected(path: &str, room: &str, event: &str, user: &str) -> Value {
    let filter = json!({ "types": ["m.*"], "not_types": [], "senders": [user], "rooms": [room], "limit": 5, "contains_url": false,
        "lazy_load_members": true, "include_redundant_members": false, "unread_thread_notifications": true });
    let bodies = [
        (
            "createRoom",
            json!({ "visibility": "private", "room_alias_name": "a", "name": "n", "topic": "t", "invite": [user],
            "invite_3pid": [{ "id_server": "x", "id_access_token": "x", "medium": "email", "address": "x@y" }], "room_version": "11",
            "creation_content": { "m.federate": false, "type": "m.space", "predecessor": { "room_id": room, "event_id": event } },
            "initial_state": [{ "type": "m.room.topic", "state_key": "", "content": { "topic": "x" } },
                { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": room }] } },
                { "type": "m.room.history_visibility", "state_key": "", "content": { "history_visibility": "shared" } },
                { "type": "m.room.server_acl", "state_key": "", "content": { "allow": ["*"], "deny": [], "allow_ip_literals": true } }],
            "preset": "private_chat", "is_direct": true,
            "power_level_content_override": { "users": { user: 50 }, "events": { "m.room.name": 50 }, "ban": 50, "notifications": { "room": 50 } } }),
        ),
        (
            "simplified_msc3575/sync",
            json!({ "conn_id": "c", "txn_id": "t", "lists": { "a": { "ranges": [[0, 10]], "timeline_limit": 3,
            "required_state": [["m.room.member", "$LAZY"], ["*", "*"]], "filters": { "is_dm": false, "spaces": [room], "is_encrypted": true,
            "is_invite": false, "room_types": [null, "m.space"], "not_room_types": [], "tags": ["m.favourite"], "not_tags": [] } } },
            "room_subscriptions": { room: { "timeline_limit": 1, "required_state": [["m.room.create", ""]] } },
            "extensions": { "to_device": { "enabled": true, "since": "1", "limit": 5 }, "e2ee": { "enabled": true },
            "account_data": { "enabled": true, "lists": ["a"], "rooms": [room] }, "receipts": { "enabled": true }, "typing": { "enabled": true } } }),
        ),
        (
            "/filter",
            json!({ "event_fields": ["type"], "event_format": "client", "presence": filter, "account_data": filter,
            "room": { "rooms": [room], "not_rooms": [], "ephemeral": filter, "include_leave": true, "state": filter, "timeline": filter, "account_data": filter } }),
        ),
        (
            "/search",
            json!({ "search_categories": { "room_events": { "search_term": "hello", "keys": ["content.body"], "filter": filter,
            "order_by": "recent", "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true }, "include_state": true,
            "groupings": { "group_by": [{ "key": "room_id" }] } } } }),
        ),
        (
            "publicRooms",
            json!({ "limit": 5, "since": "s1", "filter": { "generic_search_term": "x", "room_types": [null] },
            "include_all_networks": false, "third_party_instance_id": "x" }),
        ),
        ("/actions", json!({ "actions": ["notify", { "set_tweak": "sound", "value": "default" }, { "set_tweak": "highlight" }] })),
        (
            "pushrules/",
            json!({ "actions": ["notify"], "pattern": "x*", "conditions": [{ "kind": "event_match", "key": "content.body", "pattern": "*x" },
            { "kind": "room_member_count", "is": ">2" }, { "kind": "event_property_is", "key": "content.x", "value": 1 },
            { "kind": "sender_notification_permission", "key": "room" }, { "kind": "contains_display_name" }] }),
        ),
        (
            "pushers/set",
            json!({ "app_id": "a", "pushkey": "k", "kind": "http", "app_display_name": "a", "device_display_name": "d", "lang": "en",
            "data": { "url": "https://push.example.org/_matrix/push/v1/notify", "format": "event_id_only" }, "append": true }),
        ),
        (
            "keys/upload",
            json!({ "device_keys": { "user_id": user, "device_id": "D", "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { "ed25519:D": "x" }, "signatures": { user: { "ed25519:D": "x" } } },
            "one_time_keys": { "signed_curve25519:A": { "key": "x", "signatures": { user: { "ed25519:D": "x" } } } },
            "fallback_keys": { "signed_curve25519:A": { "key": "x", "fallback": true } } }),
        ),
        ("keys/query", json!({ "timeout": 10, "device_keys": { user: [] } })),
        ("keys/claim", json!({ "timeout": 10, "one_time_keys": { user: { "D": "signed_curve25519" } } })),
        (
            "device_signing",
            json!({ "master_key": { "user_id": user, "usage": ["master"], "keys": { "ed25519:x": "x" }, "signatures": {} } }),
        ),
        (
            "signatures/upload",
            json!({ user: { "D": { "user_id": user, "device_id": "D", "algorithms": [], "keys": {}, "signatures": { user: { "ed25519:x": "y" } } } } }),
        ),
        (
            "room_keys/version",
            json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": "x", "signatures": {} }, "version": "1" }),
        ),
        (
            "room_keys/keys",
            json!({ "rooms": { room: { "sessions": { "s": { "first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": { "x": "y" } } } } } }),
        ),
        ("sendToDevice", json!({ "messages": { user: { "*": { "x": 1 } } } })),
        ("read_markers", json!({ "m.fully_read": event, "m.read": event, "m.read.private": event })),
        ("/receipt/", json!({ "thread_id": "main" })),
        (
            "/login",
            json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": user }, "password": "x", "device_id": "D", "refresh_token": true }),
        ),
        (
            "/register",
            json!({ "auth": { "type": "m.login.dummy", "session": "x" }, "username": "x", "password": "y", "device_id": "D", "inhibit_login": false }),
        ),
        ("/invite", json!({ "user_id": user, "reason": "x" })),
        ("/upgrade", json!({ "new_version": "11", "additional_creators": [user] })),
        ("/typing/", json!({ "typing": true, "timeout": 1000 })),
        ("/tags/", json!({ "order": 0.5 })),
        ("account_data/", json!({ "global": { "override": [] }, "ignored_users": { user: {} }, "x": [1, 2] })),
        (
            "/state/",
            json!({ "membership": "join", "users": { user: 100 }, "allow": [{ "room_id": room, "type": "x" }], "alias": "#a:b", "alt_aliases": ["#x:y"], "join_rule": "restricted", "algorithm": "x", "via": ["x"] }),
        ),
        (
            "/send/",
            json!({ "msgtype": "m.text", "body": "x", "m.relates_to": { "rel_type": "m.thread", "event_id": event, "is_falling_back": true,
            "m.in_reply_to": { "event_id": event }, "key": "x" }, "m.mentions": { "user_ids": [user], "room": true }, "m.new_content": { "body": "y" } }),
        ),
        ("/presence/", json!({ "presence": "online", "status_msg": "x" })),
        ("user_directory", json!({ "search_term": "x", "limit": 5 })),
        (
            "dehydrated_device",
            json!({ "device_id": "E", "device_data": { "algorithm": "x" }, "device_keys": { "user_id": user, "device_id": "E", "algorithms": [], "keys": { "ed25519:E": "x" }, "signatures": {} } }),
        ),
        ("3pid", json!({ "medium": "email", "address": "x@y", "id_server": "x" })),
        ("/profile/", json!({ "displayname": "x", "avatar_url": "mxc://a/b", "name": { "x": 1 } })),
        (
            "delete_devices",
            json!({ "devices": ["D"], "auth": { "type": "m.login.password", "identifier": { "type": "m.id.user", "user": user }, "password": "x", "session": "x" } }),
        ),
    ];
    let found = bodies.into_iter().find(|(part, _)| path.contains(part));
    found.map_or_else(|| json!({ "user_id": user, "reason": "x", "action": "restart", "visibility": "public", "enabled": true, "room_id": room, "next_batch": "s1", "display_name": "x" }), |(_, body)| body)
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
        let value = odd_value(room, event, user, random, depth);
        object.insert((*keys.choose(random).unwrap()).to_owned(), value);
    }
    Value::Object(object)
}

fn odd_value(room: &str, event: &str, user: &str, random: &mut StdRng, depth: u8) -> Value {
    match random.random_range(0..18) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2 => json!(random.random::<i64>()),
        3 => json!(0.5),
        4 => json!(room),
        5 => json!(event),
        6 => json!(user),
        7 => json!([]),
        8 => json!([user, 7, null]),
        14 => json!(format!("@{}:home.test", "x".repeat(300))),
        15 => json!([[], [[]], {}, [[0, u64::MAX]]]),
        16 => json!(u64::MAX),
        17 => json!({ "": { "": [""] } }),
        9 | 10 if depth < 4 => object(room, event, user, random, depth + 1),
        11 => json!({ user: { "*": [], "ed25519:A": "x" } }),
        _ => json!(odd_text(random)),
    }
}
