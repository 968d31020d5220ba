//! The errors that endpoints have of their own, one line each: those of a missing token, of a body that is no JSON and of a wrong
//! method are the same everywhere and tested over the whole table (`tests/it/node/hostile.rs`).

use serde_json::{Value, json};

use crate::homeserver::api::{
    endpoints::{self, State},
    testing::{Client, TestNode, refused},
};

/// Who asks: `ann` made the room, `bob` is a stranger to it.
///
/// `{room}`, `{event}`, `{ann}` and `{bob}` are filled in. The first path is the row of `endpoints.txt`.
const ERRORS: &str = r##"
GET    /_matrix/client/v3/user/{userId}/account_data/{type} | bob user/{ann}/account_data/m.x | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/user/{userId}/account_data/{type} | ann user/{ann}/account_data/m.x | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/user/{userId}/account_data/{type} | bob user/{ann}/account_data/m.x | {} | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/user/{userId}/account_data/{type} | ann user/{ann}/account_data/m.push_rules | {} | 405 M_BAD_JSON
GET    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | bob user/{ann}/rooms/{room}/account_data/m.x | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | ann user/{ann}/rooms/{room}/account_data/m.x | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | ann user/{ann}/rooms/nonsense/account_data/m.x | - | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | bob user/{ann}/rooms/{room}/account_data/m.x | {} | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | ann user/{ann}/rooms/{room}/account_data/m.fully_read | {} | 405 M_BAD_JSON
PUT    /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag} | bob user/{ann}/rooms/{room}/tags/u.x | {} | 403 M_FORBIDDEN
GET    /_matrix/client/v3/user/{userId}/filter/{filterId} | ann user/{ann}/filter/99 | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/admin/whois/{userId} | bob admin/whois/{ann} | - | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/ban | bob rooms/{room}/ban | {"user_id":"{ann}"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/unban | bob rooms/{room}/unban | {"user_id":"{ann}"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/kick | bob rooms/{room}/kick | {"user_id":"{ann}"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/invite | bob rooms/{room}/invite | {"user_id":"{bob}"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/join | bob rooms/{room}/join | {} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/join/{roomIdOrAlias} | bob join/{room} | {} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/join/{roomIdOrAlias} | bob join/%23none:home.test | {} | 404 M_NOT_FOUND
POST   /_matrix/client/v3/knock/{roomIdOrAlias} | bob knock/{room} | {} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/knock/{roomIdOrAlias} | bob knock/%23none:home.test | {} | 404 M_NOT_FOUND
POST   /_matrix/client/v3/rooms/{roomId}/forget | ann rooms/{room}/forget | {} | 400 M_UNKNOWN
POST   /_matrix/client/v3/createRoom | ann createRoom | {"room_version":"none"} | 400 M_UNSUPPORTED_ROOM_VERSION
POST   /_matrix/client/v3/createRoom | ann createRoom | {"room_alias_name":"taken"} | 400 M_ROOM_IN_USE
GET    /_matrix/client/v3/devices/{deviceId} | ann devices/NONE | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/devices/{deviceId} | ann devices/NONE | {} | 404 M_NOT_FOUND
GET    /_matrix/client/v3/directory/room/{roomAlias} | ann directory/room/%23none:home.test | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/directory/room/{roomAlias} | ann directory/room/%23taken:home.test | {"room_id":"{room}"} | 409 M_UNKNOWN
PUT    /_matrix/client/v3/directory/room/{roomAlias} | ann directory/room/%23x:elsewhere.test | {"room_id":"{room}"} | 400 M_INVALID_PARAM
DELETE /_matrix/client/v3/directory/room/{roomAlias} | ann directory/room/%23none:home.test | - | 404 M_NOT_FOUND
DELETE /_matrix/client/v3/directory/room/{roomAlias} | bob directory/room/%23taken:home.test | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/aliases | bob rooms/{room}/aliases | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/directory/list/room/{roomId} | ann directory/list/room/!none:home.test | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/directory/list/room/{roomId} | ann directory/list/room/!none:home.test | {"visibility":"public"} | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/directory/list/room/{roomId} | bob directory/list/room/{room} | {"visibility":"public"} | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/context/{eventId} | bob rooms/{room}/context/{event} | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/context/{eventId} | ann rooms/{room}/context/$none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/rooms/{roomId}/messages | bob rooms/{room}/messages?dir=b | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/event/{eventId} | bob rooms/{room}/event/{event} | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/rooms/{roomId}/event/{eventId} | ann rooms/{room}/event/$none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/rooms/{roomId}/state | bob rooms/{room}/state | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | bob rooms/{room}/state/m.room.name/ | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | ann rooms/{room}/state/m.none/x | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/rooms/{roomId}/members | bob rooms/{room}/members | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/rooms/{roomId}/joined_members | bob rooms/{room}/joined_members | - | 403 M_FORBIDDEN
GET    /_matrix/client/v1/rooms/{roomId}/relations/{eventId} | ann v1:rooms/{room}/relations/$none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType} | ann v1:rooms/{room}/relations/$none/m.thread | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType} | ann v1:rooms/{room}/relations/$none/m.thread/m.x | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/rooms/{roomId}/threads | bob v1:rooms/{room}/threads | - | 403 M_FORBIDDEN
GET    /_matrix/client/v1/rooms/{roomId}/threads | ann v1:rooms/{room}/threads?from=nonsense | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v1/rooms/{roomId}/timestamp_to_event | ann v1:rooms/{room}/timestamp_to_event?ts=1&dir=b | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/rooms/{roomId}/hierarchy | bob v1:rooms/{room}/hierarchy | - | 403 M_FORBIDDEN
GET    /_matrix/client/v1/rooms/{roomId}/hierarchy | ann v1:rooms/{room}/hierarchy?from=nonsense | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v1/room_summary/{roomIdOrAlias} | bob v1:room_summary/{room} | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/mutual_rooms | ann v1:mutual_rooms?user_id={ann} | - | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId} | bob rooms/{room}/send/m.room.message/1 | {"body":"x"} | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | bob rooms/{room}/state/m.room.name/ | {"name":"x"} | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | ann rooms/{room}/state/m.room.canonical_alias/ | {"alias":"#none:home.test"} | 400 M_BAD_ALIAS
PUT    /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId} | bob rooms/{room}/redact/{event}/1 | {} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/upgrade | ann rooms/{room}/upgrade | {"new_version":"none"} | 400 M_UNSUPPORTED_ROOM_VERSION
POST   /_matrix/client/v3/rooms/{roomId}/upgrade | bob rooms/{room}/upgrade | {"new_version":"12"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId} | ann rooms/{room}/receipt/m.odd/{event} | {} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/rooms/{roomId}/typing/{userId} | bob rooms/{room}/typing/{bob} | {"typing":true} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/rooms/{roomId}/report | ann rooms/!none:home.test/report | {"reason":"x"} | 404 M_NOT_FOUND
POST   /_matrix/client/v3/rooms/{roomId}/report/{eventId} | ann rooms/{room}/report/$none | {"reason":"x"} | 404 M_NOT_FOUND
GET    /_matrix/client/v3/room_keys/version | ann room_keys/version | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/room_keys/version/{version} | ann room_keys/version/9 | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/room_keys/version/{version} | ann room_keys/version/9 | {"algorithm":"a","auth_data":{}} | 404 M_NOT_FOUND
DELETE /_matrix/client/v3/room_keys/version/{version} | ann room_keys/version/9 | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/room_keys/keys | ann room_keys/keys?version=9 | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/room_keys/keys/{roomId} | ann room_keys/keys/{room}?version=9 | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId} | ann room_keys/keys/{room}/s?version=9 | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/room_keys/keys | ann room_keys/keys?version=9 | {"rooms":{}} | 404 M_NOT_FOUND
DELETE /_matrix/client/v3/room_keys/keys | ann room_keys/keys?version=9 | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/keys/changes | ann keys/changes?from=x&to=y | - | 400 M_INVALID_PARAM
POST   /_matrix/client/v3/login | ann login | {"type":"m.login.odd"} | 400 M_UNKNOWN
POST   /_matrix/client/v3/refresh | ann refresh | {"refresh_token":"x"} | 401 M_UNKNOWN_TOKEN
GET    /_matrix/client/v3/register/available | ann register/available?username=ann | - | 400 M_USER_IN_USE
GET    /_matrix/client/v3/register/available | ann register/available?username=%C3%A4 | - | 400 M_INVALID_USERNAME
GET    /_matrix/client/v3/profile/{userId} | ann profile/@none:home.test | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/profile/{userId}/{keyName} | ann profile/{ann}/m.none | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/profile/{userId}/{keyName} | bob profile/{ann}/displayname | {"displayname":"x"} | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/profile/{userId}/{keyName} | ann profile/{ann}/displayname | {} | 400 M_MISSING_PARAM
DELETE /_matrix/client/v3/profile/{userId}/{keyName} | bob profile/{ann}/displayname | - | 403 M_FORBIDDEN
GET    /_matrix/client/v3/presence/{userId}/status | ann presence/@none:home.test/status | - | 403 M_FORBIDDEN
PUT    /_matrix/client/v3/presence/{userId}/status | bob presence/{ann}/status | {"presence":"online"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/pushers/set | ann pushers/set | {"app_id":"x"} | 400 M_MISSING_PARAM
GET    /_matrix/client/v3/pushrules/global/{kind}/{ruleId} | ann pushrules/global/room/none | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/pushrules/global/{kind}/{ruleId} | ann pushrules/global/override/x?after=none | {"actions":[],"conditions":[]} | 400 M_UNKNOWN
PUT    /_matrix/client/v3/pushrules/global/{kind}/{ruleId} | ann pushrules/global/override/.x | {"actions":[],"conditions":[]} | 400 M_INVALID_PARAM
DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId} | ann pushrules/global/room/none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled | ann pushrules/global/room/none/enabled | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled | ann pushrules/global/room/none/enabled | {"enabled":true} | 404 M_NOT_FOUND
GET    /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions | ann pushrules/global/room/none/actions | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions | ann pushrules/global/room/none/actions | {"actions":[]} | 404 M_NOT_FOUND
POST   /_matrix/client/v3/search | ann search | {"search_categories":{"room_events":{}}} | 400 M_MISSING_PARAM
GET    /_matrix/client/v3/sync | ann sync?since=nonsense | - | 400 M_INVALID_PARAM
POST   /_matrix/client/v3/user/{userId}/openid/request_token | bob user/{ann}/openid/request_token | {} | 403 M_FORBIDDEN
GET    /_matrix/client/v1/media/download/{serverName}/{mediaId} | ann v1:media/download/home.test/none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId} | ann v1:media/thumbnail/home.test/none?width=0&height=1 | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v3/thirdparty/protocol/{protocol} | ann thirdparty/protocol/none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/thirdparty/location | ann thirdparty/location?alias=%23x:home.test | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/thirdparty/user | ann thirdparty/user?userid={ann} | - | 404 M_NOT_FOUND
"##;

/// A line, taken apart.
struct Line<'a> {
    row: &'a str,
    method: &'a str,
    who: &'a str,
    path: &'a str,
    body: &'a str,
    status: u16,
    code: &'a str,
}

fn read(line: &str) -> Option<Line<'_>> {
    let mut parts = line.split(" | ");
    let (method, row) = parts.next()?.split_once(' ')?;
    let (who, path) = parts.next()?.split_once(' ')?;
    let body = parts.next()?;
    let (status, code) = parts.next()?.split_once(' ')?;
    Some(Line { row: row.trim(), method, who, path, body, status: status.parse().ok()?, code })
}

#[tokio::test]
async fn endpoints_say_what_is_wrong_in_the_words_of_the_specification() {
    let test = TestNode::with(|config| config.rate_limits = false).await;
    let (ann, bob): (Client, Client) = (test.client("ann", "A").await, test.client("bob", "B").await);
    let (_, made) = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "room_alias_name": "taken", "name": "Room" })).await;
    let room = made["room_id"].as_str().unwrap();
    let said = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/0");
    let (_, sent) = test.put(&ann, &said, json!({ "msgtype": "m.text", "body": "x" })).await;
    let event = sent["event_id"].as_str().unwrap();
    let fill =
        |text: &str| text.replace("{room}", room).replace("{event}", event).replace("{ann}", &ann.user_id).replace("{bob}", &bob.user_id);
    let table = endpoints::table();
    let mut wrong = Vec::new();
    for text in ERRORS.lines().filter(|line| !line.is_empty()) {
        let line = read(text).unwrap_or_else(|| panic!("malformed: {text}"));
        let served = table.iter().any(|row| row.path == line.row && row.method.as_str() == line.method && row.state == State::Served);
        assert!(served, "no row of the table: {text}");
        let who = if line.who == "ann" { &ann } else { &bob };
        let path = match line.path.strip_prefix("v1:") {
            Some(rest) => format!("/_matrix/client/v1/{}", fill(rest)),
            None => format!("/_matrix/client/v3/{}", fill(line.path)),
        };
        let body: Value = if line.body == "-" { Value::Null } else { serde_json::from_str(&fill(line.body)).unwrap() };
        let answer = test.call(line.method, &path, Some(&who.token), body).await;
        if refused(&answer) != (line.status, line.code) {
            wrong.push(format!("{text}\n    answered {} {}", answer.0, answer.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
