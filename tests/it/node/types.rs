//! Every field that the specification documents for a body of the Client-Server API, with a value of every other type.
//!
//! Fields of fields (push conditions, filters, sync lists, keys ...), query parameters and endpoints beyond the stable specification are
//! not in here: those the garbage of `hostile.rs` reaches at random.

use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::garbage::{expected, fill};
use crate::support::LocalNode;

/// `s` text, `b` true or false, `n` number, `o` object, `a` list; `*` has to be there; `?` may be null. Without those that are refused whatever they hold.
const FIELDS: &str = "
POST /_matrix/client/v3/account/deactivate auth:o id_server:s erase:b
PUT /_matrix/client/v1/admin/suspend/{userId} suspended:b*
PUT /_matrix/client/v1/admin/lock/{userId} locked:b*
POST /_matrix/client/v3/account/3pid/delete id_server:s medium:s* address:s*
POST /_matrix/client/v3/account/3pid/unbind id_server:s medium:s* address:s*
POST /_matrix/client/v3/rooms/{roomId}/ban user_id:s* reason:s
POST /_matrix/client/v3/rooms/{roomId}/unban user_id:s* reason:s
POST /_matrix/client/v3/createRoom visibility:s room_alias_name:s name:s topic:s invite:a invite_3pid:a room_version:s creation_content:o initial_state:a preset:s is_direct:b power_level_content_override:o
POST /_matrix/client/v3/keys/device_signing/upload master_key:o self_signing_key:o user_signing_key:o auth:o
PUT /_matrix/client/v3/devices/{deviceId} display_name:s
DELETE /_matrix/client/v3/devices/{deviceId} auth:o
POST /_matrix/client/v3/delete_devices devices:a* auth:o
PUT /_matrix/client/v3/directory/room/{roomAlias} room_id:s*
POST /_matrix/client/v3/user/{userId}/filter event_fields:a event_format:s presence:o account_data:o room:o
POST /_matrix/client/v3/rooms/{roomId}/invite user_id:s* reason:s
POST /_matrix/client/v3/rooms/{roomId}/join third_party_signed:o reason:s
POST /_matrix/client/v3/join/{roomIdOrAlias} third_party_signed:o reason:s
POST /_matrix/client/v3/room_keys/version algorithm:s* auth_data:o*
PUT /_matrix/client/v3/room_keys/version/{version} algorithm:s* auth_data:o* version:s
PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId} first_message_index:n* forwarded_count:n* is_verified:b* session_data:o*
PUT /_matrix/client/v3/room_keys/keys/{roomId} sessions:o*
PUT /_matrix/client/v3/room_keys/keys rooms:o*
POST /_matrix/client/v3/keys/upload device_keys:o one_time_keys:o fallback_keys:o
POST /_matrix/client/v3/keys/query timeout:n device_keys:o*
POST /_matrix/client/v3/keys/claim timeout:n one_time_keys:o*
POST /_matrix/client/v3/rooms/{roomId}/kick user_id:s* reason:s
POST /_matrix/client/v3/knock/{roomIdOrAlias} reason:s
POST /_matrix/client/v3/rooms/{roomId}/leave reason:s
PUT /_matrix/client/v3/directory/list/room/{roomId} visibility:s
POST /_matrix/client/v3/publicRooms limit:n since:s filter:o include_all_networks:b third_party_instance_id:s
POST /_matrix/client/v3/login type:s* identifier:o user:s medium:s address:s password:s token:s device_id:s initial_device_display_name:s refresh_token:b
POST /_matrix/client/v1/login/get_token auth:o
POST /_matrix/client/v3/account/password new_password:s* logout_devices:b auth:o
PUT /_matrix/client/v3/presence/{userId}/status presence:s* status_msg:s
POST /_matrix/client/v3/pushers/set pushkey:s* kind:s*? app_id:s* app_display_name:s device_display_name:s profile_tag:s lang:s data:o append:b
PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId} actions:a* conditions:a pattern:s
PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled enabled:b*
PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions actions:a*
POST /_matrix/client/v3/rooms/{roomId}/read_markers m.fully_read:s m.read:s m.read.private:s
POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId} thread_id:s
PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId} reason:s
POST /_matrix/client/v3/refresh refresh_token:s*
POST /_matrix/client/v3/register auth:o username:s password:s device_id:s initial_device_display_name:s inhibit_login:b refresh_token:b
POST /_matrix/client/v3/rooms/{roomId}/report reason:s*
POST /_matrix/client/v3/rooms/{roomId}/report/{eventId} reason:s
POST /_matrix/client/v3/users/{userId}/report reason:s*
POST /_matrix/client/v3/rooms/{roomId}/upgrade new_version:s* additional_creators:a
POST /_matrix/client/v3/search search_categories:o*
PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag} order:n
PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId} messages:o*
PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId} typing:b* timeout:n
POST /_matrix/client/v3/user_directory/search search_term:s* limit:n
";

/// A field as the table has it.
struct Field<'a> {
    name: &'a str,
    kind: char,
    required: bool,
    nullable: bool,
}

fn field(text: &str) -> Field<'_> {
    let (name, kind) = text.rsplit_once(':').unwrap();
    Field { name, kind: kind.chars().next().unwrap(), required: kind.contains('*'), nullable: kind.contains('?') }
}

fn right(kind: char) -> Value {
    match kind {
        's' => json!("x"),
        'b' => json!(false),
        'n' => json!(1),
        'o' => json!({}),
        'a' => json!([]),
        other => panic!("no such type: {other}"),
    }
}

/// Values of all other types.
fn wrong(field: &Field<'_>) -> Vec<Value> {
    let all =
        [('s', json!("x")), ('b', json!(true)), ('n', json!(7)), ('o', json!({ "x": 1 })), ('a', json!([[]])), ('a', json!([7, null]))];
    let mut values: Vec<Value> = all.into_iter().filter(|(of, _)| *of != field.kind).map(|(_, value)| value).collect();
    if !field.nullable {
        values.push(Value::Null);
    }
    values
}

#[test]
fn a_field_of_a_wrong_type_is_no_failure_and_a_required_one_is_refused() {
    let node = LocalNode::start();
    let mut ann = node.person("ann");
    let room = ann.create_room(&json!({}));
    let event = ann.say(&room, "hello");
    let mut random = StdRng::seed_from_u64(1);
    let (mut faults, mut asked) = (Vec::new(), 0);
    for line in FIELDS.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (method, template) = (words.next().unwrap(), words.next().unwrap());
        let fields: Vec<Field<'_>> = words.map(field).collect();
        let path = fill(template, &room, &event, &ann, &mut random, 1.0);
        let known = expected(template, &room, &event, &ann.user_id);
        let base: Map<String, Value> = fields
            .iter()
            .filter(|field| field.name != "auth")
            .map(|field| (field.name.to_owned(), known.get(field.name).cloned().unwrap_or_else(|| right(field.kind))))
            .collect();
        for field in &fields {
            for value in wrong(field) {
                let mut body = base.clone();
                body.insert(field.name.to_owned(), value.clone());
                let answer = ann.http.call(method, &path, &Value::Object(body));
                asked += 1;
                let told = !answer.errcode().is_empty() || answer.json()["flows"].is_array();
                let refused = (400..500).contains(&answer.status) && told;
                // `null` is as good as left out to some, and left out is wrong only where it has to be there.
                if !(refused || (answer.status == 200 && !field.required)) {
                    faults.push(format!("{method} {template} {}={value}: {} {}", field.name, answer.status, answer.json()));
                }
            }
        }
        // Nothing of this ends the session, without which everything would be refused.
        let own = ann.http.get("/_matrix/client/v3/account/whoami");
        assert_eq!(own.status, 200, "after {method} {template}");
    }
    assert!(asked > 700, "{asked}");
    assert!(faults.is_empty(), "{} of {asked}: {faults:#?}", faults.len());
}
