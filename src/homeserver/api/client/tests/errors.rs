//! The errors that endpoints have of their own, one line each: those of a missing token, of a body that is no JSON and of a wrong
//! method are the same everywhere and tested over the whole table (`tests/it/node/hostile.rs`).
//!
//! `specified.txt` lists every error that the specification names for an endpoint, other than 429 (`limited.rs`): each is provoked
//! here, or by the test that is named there, or there is a reason why it cannot be.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::media::upload;
use crate::homeserver::{
    api::{
        endpoints::{self, State},
        testing::{Client, PASSWORD, TestNode, refused},
    },
    media::samples::bomb,
};

/// Who asks: `ann` made the room, `bob` is a stranger to it and has a second key backup, `root` is an administrator, `nobody` has no
/// token and `stranger` a wrong one. `@shy` takes no invites, `@gone` has closed their account.
///
/// What is in braces is filled in. The first path is the row of `endpoints.txt`. For the code `-`, somebody is asked who they are.
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
PUT    /_matrix/client/v3/user/{userId}/account_data/{type} | ann user/{ann}/account_data/m.x | [] | 400 M_BAD_JSON
PUT    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | ann user/{ann}/rooms/{room}/account_data/m.x | [] | 400 M_BAD_JSON
PUT    /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type} | ann user/{ann}/rooms/nonsense/account_data/m.x | {} | 400 M_INVALID_PARAM
POST   /_matrix/client/v3/account/deactivate | ann account/deactivate | {} | 401 -
GET    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@x:elsewhere.test | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v1/admin/suspend/{userId} | bob v1:admin/suspend/{ann} | - | 403 M_FORBIDDEN
GET    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@none:home.test | - | 404 M_NOT_FOUND
GET    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@gone:home.test | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@x:elsewhere.test | {"suspended":true} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v1/admin/suspend/{userId} | bob v1:admin/suspend/{ann} | {"suspended":true} | 403 M_FORBIDDEN
PUT    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@root:home.test | {"suspended":true} | 403 M_FORBIDDEN
PUT    /_matrix/client/v1/admin/suspend/{userId} | root v1:admin/suspend/@none:home.test | {"suspended":true} | 404 M_NOT_FOUND
GET    /_matrix/client/v1/admin/lock/{userId} | root v1:admin/lock/@x:elsewhere.test | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v1/admin/lock/{userId} | bob v1:admin/lock/{ann} | - | 403 M_FORBIDDEN
GET    /_matrix/client/v1/admin/lock/{userId} | root v1:admin/lock/@none:home.test | - | 404 M_NOT_FOUND
PUT    /_matrix/client/v1/admin/lock/{userId} | root v1:admin/lock/@x:elsewhere.test | {"locked":true} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v1/admin/lock/{userId} | bob v1:admin/lock/{ann} | {"locked":true} | 403 M_FORBIDDEN
PUT    /_matrix/client/v1/admin/lock/{userId} | root v1:admin/lock/@root:home.test | {"locked":true} | 403 M_FORBIDDEN
PUT    /_matrix/client/v1/admin/lock/{userId} | root v1:admin/lock/@none:home.test | {"locked":true} | 404 M_NOT_FOUND
GET    /_matrix/client/v1/media/download/{serverName}/{mediaId} | ann v1:media/download/home.test/{pending}?timeout_ms=0 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName} | ann v1:media/download/home.test/{pending}/x?timeout_ms=0 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId} | ann v1:media/thumbnail/home.test/{pending}?timeout_ms=0&width=9&height=9 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId} | ann v1:media/thumbnail/home.test/{text}?width=9&height=9 | - | 400 M_UNKNOWN
GET    /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId} | ann v1:media/thumbnail/home.test/{bomb}?width=9&height=9 | - | 413 M_TOO_LARGE
GET    /_matrix/media/v3/download/{serverName}/{mediaId} | ann media:download/home.test/{pending}?timeout_ms=0 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName} | ann media:download/home.test/{pending}/x?timeout_ms=0 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/media/v3/thumbnail/{serverName}/{mediaId} | ann media:thumbnail/home.test/{pending}?timeout_ms=0&width=9&height=9 | - | 504 M_NOT_YET_UPLOADED
GET    /_matrix/media/v3/thumbnail/{serverName}/{mediaId} | ann media:thumbnail/home.test/{text}?width=9&height=9 | - | 400 M_UNKNOWN
GET    /_matrix/media/v3/thumbnail/{serverName}/{mediaId} | ann media:thumbnail/home.test/{bomb}?width=9&height=9 | - | 413 M_TOO_LARGE
PUT    /_matrix/media/v3/upload/{serverName}/{mediaId} | bob media:upload/home.test/{pending} | {} | 403 M_FORBIDDEN
PUT    /_matrix/media/v3/upload/{serverName}/{mediaId} | ann media:upload/home.test/none | {} | 404 M_NOT_FOUND
PUT    /_matrix/media/v3/upload/{serverName}/{mediaId} | ann media:upload/home.test/{text} | {} | 409 M_CANNOT_OVERWRITE_MEDIA
POST   /_matrix/client/v3/createRoom | ann createRoom | {"name":7} | 400 M_BAD_JSON
POST   /_matrix/client/v3/createRoom | ann createRoom | {"initial_state":[{"type":"m.room.create","content":{}}]} | 400 M_INVALID_ROOM_STATE
POST   /_matrix/client/v3/createRoom | ann createRoom | {"invite":["@shy:home.test"]} | 403 M_INVITE_BLOCKED
DELETE /_matrix/client/v3/devices/{deviceId} | ann devices/A | {} | 401 -
POST   /_matrix/client/v3/delete_devices | ann delete_devices | {"devices":["A"]} | 401 -
GET    /_matrix/client/v3/directory/room/{roomAlias} | ann directory/room/nonsense | - | 400 M_INVALID_PARAM
GET    /_matrix/client/v3/rooms/{roomId}/aliases | ann rooms/nonsense/aliases | - | 400 M_INVALID_PARAM
POST   /_matrix/client/v3/rooms/{roomId}/invite | ann rooms/{room}/invite | {"user_id":7} | 400 M_BAD_JSON
POST   /_matrix/client/v3/rooms/{roomId}/invite | ann rooms/{room}/invite | {"user_id":"@shy:home.test"} | 403 M_INVITE_BLOCKED
PUT    /_matrix/client/v3/room_keys/version/{version} | bob room_keys/version/2 | {"algorithm":"other","auth_data":{}} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/room_keys/version/{version} | bob room_keys/version/2 | {"algorithm":"a","auth_data":{},"version":"1"} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/room_keys/keys | bob room_keys/keys?version=1 | {"rooms":{}} | 403 M_WRONG_ROOM_KEYS_VERSION
PUT    /_matrix/client/v3/room_keys/keys/{roomId} | bob room_keys/keys/{room}?version=1 | {"sessions":{}} | 403 M_WRONG_ROOM_KEYS_VERSION
PUT    /_matrix/client/v3/room_keys/keys/{roomId} | ann room_keys/keys/{room}?version=9 | {"sessions":{}} | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId} | bob room_keys/keys/{room}/s?version=1 | {"first_message_index":1,"forwarded_count":0,"is_verified":false,"session_data":{}} | 403 M_WRONG_ROOM_KEYS_VERSION
DELETE /_matrix/client/v3/room_keys/keys/{roomId} | ann room_keys/keys/{room}?version=9 | - | 404 M_NOT_FOUND
DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId} | ann room_keys/keys/{room}/s?version=9 | - | 404 M_NOT_FOUND
POST   /_matrix/client/v3/login | nobody login | {"type":"m.login.password","identifier":{"type":"m.id.user","user":"ann"},"password":"wrong"} | 403 M_FORBIDDEN
POST   /_matrix/client/v3/login | nobody login | {"type":"m.login.password","identifier":{"type":"m.id.user","user":"gone"},"password":"{password}"} | 403 M_USER_DEACTIVATED
POST   /_matrix/client/v1/login/get_token | ann v1:login/get_token | {"auth":7} | 400 M_BAD_JSON
POST   /_matrix/client/v1/login/get_token | ann v1:login/get_token | {} | 401 -
GET    /_matrix/client/v1/auth_metadata | nobody v1:auth_metadata | - | 404 M_UNRECOGNIZED
POST   /_matrix/client/v3/account/password | ann account/password | {"new_password":"x"} | 401 -
POST   /_matrix/client/v3/keys/device_signing/upload | ann keys/device_signing/upload | {"self_signing_key":{"user_id":"{ann}","usage":["self_signing"],"keys":{"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}} | 400 M_MISSING_PARAM
PUT    /_matrix/client/v3/profile/{userId}/{keyName} | ann profile/{ann}/displayname | [] | 400 M_BAD_JSON
PUT    /_matrix/client/v3/profile/{userId}/{keyName} | ann profile/{ann}/No%20Name | {"No Name":1} | 400 M_INVALID_PARAM
DELETE /_matrix/client/v3/profile/{userId}/{keyName} | ann profile/{ann}/No%20Name | - | 400 M_INVALID_PARAM
POST   /_matrix/client/v3/register | nobody register | {"username":"ann","password":"x"} | 400 M_USER_IN_USE
POST   /_matrix/client/v3/register | nobody register | {"username":"new","password":"x"} | 401 -
POST   /_matrix/client/v3/users/{userId}/report | ann users/@none:home.test/report | {"reason":"x"} | 404 M_NOT_FOUND
PUT    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | ann rooms/{room}/state/m.room.canonical_alias/ | {"alias":"nonsense"} | 400 M_INVALID_PARAM
PUT    /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} | ann rooms/{room}/state/m.room.member/@shy:home.test | {"membership":"invite"} | 403 M_INVITE_BLOCKED
GET    /.well-known/matrix/support | nobody /.well-known/matrix/support | - | 404 M_NOT_FOUND
GET    /.well-known/matrix/client | nobody /.well-known/matrix/client | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/thirdparty/location/{protocol} | ann thirdparty/location/none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/thirdparty/user/{protocol} | ann thirdparty/user/none | - | 404 M_NOT_FOUND
GET    /_matrix/client/v3/account/whoami | stranger account/whoami | - | 401 M_UNKNOWN_TOKEN
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

/// What the lines find, by the name in braces.
async fn prepare(test: &TestNode, ann: &Client, bob: &Client) -> Vec<(&'static str, String)> {
    let (_, made) = test.post(ann, "/_matrix/client/v3/createRoom", json!({ "room_alias_name": "taken", "name": "Room" })).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let said = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/0");
    let (_, sent) = test.put(ann, &said, json!({ "msgtype": "m.text", "body": "x" })).await;
    for _ in 0..2 {
        let made = test.post(bob, "/_matrix/client/v3/room_keys/version", json!({ "algorithm": "a", "auth_data": {} })).await;
        assert_eq!(made.0, 200);
    }
    let shy = test.client("shy", "S").await;
    let path = "/_matrix/client/v3/user/@shy:home.test/account_data/m.invite_permission_config";
    assert_eq!(test.put(&shy, path, json!({ "default_action": "block" })).await.0, 200);
    let gone = test.node.accounts.create("gone", PASSWORD, false).await.unwrap();
    let gone = test.node.accounts.account(&gone).await.unwrap().unwrap().user;
    test.node.accounts.deactivate(gone, false).await.unwrap();
    let (_, place) = test.post(ann, "/_matrix/media/v1/create", Value::Null).await;
    let id = |uri: &Value| uri.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    vec![
        ("{room}", room),
        ("{event}", sent["event_id"].as_str().unwrap().to_owned()),
        ("{ann}", ann.user_id.clone()),
        ("{bob}", bob.user_id.clone()),
        ("{password}", PASSWORD.to_owned()),
        ("{pending}", id(&place["content_uri"])),
        ("{text}", upload(test, ann, b"no picture", "text/plain", "x").await),
        ("{bomb}", upload(test, ann, &bomb(), "image/png", "x").await),
    ]
}

fn placed(path: &str) -> String {
    match path.split_once(':') {
        _ if path.starts_with('/') => path.to_owned(),
        Some(("v1", rest)) => format!("/_matrix/client/v1/{rest}"),
        Some(("media", rest)) => format!("/_matrix/media/v3/{rest}"),
        _ => format!("/_matrix/client/v3/{path}"),
    }
}

#[tokio::test]
async fn endpoints_say_what_is_wrong_in_the_words_of_the_specification() {
    let test = TestNode::with(|config| config.rate_limits = false).await;
    test.node.accounts.create("root", PASSWORD, true).await.unwrap();
    let (ann, bob, root): (Client, Client, Client) =
        (test.client("ann", "A").await, test.client("bob", "B").await, test.client("root", "R").await);
    let known = prepare(&test, &ann, &bob).await;
    let fill = |text: &str| known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let table = endpoints::table();
    let mut wrong = Vec::new();
    for text in ERRORS.lines().filter(|line| !line.is_empty()) {
        let line = read(text).unwrap_or_else(|| panic!("malformed: {text}"));
        let served = table.iter().any(|row| row.path == line.row && row.method.as_str() == line.method && row.state == State::Served);
        assert!(served, "no row of the table: {text}");
        let token = match line.who {
            "ann" => Some(ann.token.as_str()),
            "bob" => Some(bob.token.as_str()),
            "root" => Some(root.token.as_str()),
            "stranger" => Some("nonsense"),
            "nobody" => None,
            other => panic!("nobody is called {other}"),
        };
        let body: Value = if line.body == "-" { Value::Null } else { serde_json::from_str(&fill(line.body)).unwrap() };
        let answer = test.call(line.method, &placed(&fill(line.path)), token, body).await;
        let good = match line.code {
            "-" => answer.0.as_u16() == line.status && answer.1["flows"].is_array() && answer.1["session"].is_string(),
            code => refused(&answer) == (line.status, code),
        };
        if !good {
            wrong.push(format!("{text}\n    answered {} {}", answer.0, answer.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The errors that the specification names, with the test for those that are not in [`ERRORS`], or why they cannot be.
const SPECIFIED: &str = include_str!("specified.txt");

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let mut lines = text.lines();
                while let Some(line) = lines.next() {
                    if line.trim_start().starts_with("#[test]") || line.trim_start().starts_with("#[tokio::test") {
                        let name = lines.find_map(|line| line.split_once("fn ")?.1.split_once('(').map(|(name, _)| name.to_owned()));
                        names.extend(name);
                    }
                }
            }
        }
    }
    names
}

#[test]
fn every_error_that_the_specification_names_is_tested_or_cannot_be() {
    let (table, tests) = (endpoints::table(), tests());
    let provoked: Vec<Line<'_>> = ERRORS.lines().filter_map(read).collect();
    let mut seen = BTreeSet::new();
    for text in SPECIFIED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = text.splitn(5, ' ');
        let [Some(method), Some(path), Some(status)] = [words.next(), words.next(), words.next()] else { panic!("malformed: {text}") };
        let row = table.iter().find(|row| row.path == path && row.method.as_str() == method);
        assert!(row.is_some_and(|row| row.state == State::Served), "no row of the table: {text}");
        seen.insert((method, path));
        if status == "none" {
            continue;
        }
        let (code, how) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_here = provoked.iter().any(|line| {
            (line.method, line.row) == (method, path) && line.status.to_string() == status && (code == "-" || line.code == code)
        });
        match how.split_once(": ") {
            None => assert!(is_here && how.is_empty(), "nothing provokes it: {text}"),
            Some(("test", name)) => assert!(!is_here && tests.contains(name), "no such test, or no need of it: {text}"),
            Some(("never", why)) => assert!(!is_here && why.len() > 10, "it can be: {text}"),
            Some(_) => panic!("malformed: {text}"),
        }
    }
    let stable = |path: &str| !path.contains("/unstable/") && !path.starts_with("/_homeroom/") && !path.starts_with("/_synapse/");
    let forgotten: Vec<_> = table
        .iter()
        .filter(|row| row.state == State::Served && stable(row.path))
        .filter(|row| !seen.contains(&(row.method.as_str(), row.path)))
        .map(|row| format!("{} {}", row.method, row.path))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:#?}");
}
