//! 429 `M_LIMIT_EXCEEDED`: where the specification foresees it, and whether this node has such a limit there.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};

use crate::homeserver::{
    api::{
        endpoints::{self, State},
        testing::{Client, PASSWORD, TestNode},
    },
    listen::Peer,
    types::UserNid,
    users::limits::{Key, Kind},
};

/// Endpoints of the Client-Server API for which the specification has a 429, in its version 1.19. That of invitations by e-mail has
/// the path of the others.
const SPECIFIED: usize = 65;

/// The endpoint, what is used up, and a request.
const LIMITED: &str = r##"
POST /_matrix/client/v3/account/deactivate | password | account/deactivate | {"auth":{auth}}
POST /_matrix/client/v3/account/password | password | account/password | {"auth":{auth},"new_password":"x"}
POST /_matrix/client/v1/login/get_token | password | v1:login/get_token | {"auth":{auth}}
POST /_matrix/client/v3/login | login | login | {"type":"m.login.password","user":"ann","password":"wrong"}
POST /_matrix/client/v3/refresh | login | refresh | {"refresh_token":"x"}
POST /_matrix/client/v3/register | registration | register | {"auth":{"type":"m.login.dummy"},"username":"{new}","password":"x"}
GET /_matrix/client/v3/register/available | lookup | register/available?username=x | -
GET /_matrix/client/v1/register/m.login.registration_token/validity | lookup | v1:register/m.login.registration_token/validity?token=x | -
GET /_matrix/client/v1/media/preview_url | search | v1:media/preview_url?url=http%3A%2F%2F127.0.0.1%3A1%2F | -
GET /_matrix/media/v3/preview_url | search | media:preview_url?url=http%3A%2F%2F127.0.0.1%3A1%2F | -
POST /_matrix/media/v3/upload | upload | media:upload | {}
PUT /_matrix/media/v3/upload/{serverName}/{mediaId} | upload | media:upload/home.test/x | {}
POST /_matrix/media/v1/create | upload | /_matrix/media/v1/create | -
POST /_matrix/client/v3/rooms/{roomId}/invite | invite | rooms/{room}/invite | {"user_id":"@ben:home.test"}
POST /_matrix/client/v3/rooms/{roomId}/join | join | rooms/{room}/join | {}
POST /_matrix/client/v3/join/{roomIdOrAlias} | join | join/{room} | {}
POST /_matrix/client/v3/knock/{roomIdOrAlias} | join | knock/{room} | {}
GET /_matrix/client/v1/mutual_rooms | search | v1:mutual_rooms?user_id=@ben:home.test | -
POST /_matrix/client/v3/search | search | search | {"search_categories":{"room_events":{"search_term":"x"}}}
POST /_matrix/client/v3/rooms/{roomId}/report | report | rooms/{room}/report | {"reason":"x"}
POST /_matrix/client/v3/users/{userId}/report | report | users/@ben:home.test/report | {"reason":"x"}
"##;

/// Endpoints that have no limit here: they cost no more than any request, and what bounds them is what bounds all (connections,
/// sizes, the store's one writer, places for what is expensive). The last two are refused whatever is asked.
const UNLIMITED: &str = "
GET /_matrix/client/v3/login
GET /_matrix/client/v3/capabilities
GET /_matrix/client/v3/account/whoami
GET /_matrix/client/v3/voip/turnServer
GET /_matrix/client/v1/media/config
GET /_matrix/media/v3/config
GET /_matrix/client/v1/media/download/{serverName}/{mediaId}
GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}
GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}
GET /_matrix/media/v3/download/{serverName}/{mediaId}
GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}
GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}
GET /_matrix/client/v3/rooms/{roomId}/aliases
GET /_matrix/client/v1/rooms/{roomId}/hierarchy
GET /_matrix/client/v1/rooms/{roomId}/threads
GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event
POST /_matrix/client/v3/rooms/{roomId}/leave
POST /_matrix/client/v3/rooms/{roomId}/forget
POST /_matrix/client/v3/rooms/{roomId}/read_markers
POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}
PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}
PUT /_matrix/client/v3/presence/{userId}/status
PUT /_matrix/client/v3/profile/{userId}/{keyName}
DELETE /_matrix/client/v3/profile/{userId}/{keyName}
POST /_matrix/client/v3/pushers/set
PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}
POST /_matrix/client/v3/user/{userId}/openid/request_token
POST /_matrix/client/v3/user_directory/search
GET /_matrix/client/v3/room_keys/version
POST /_matrix/client/v3/room_keys/version
GET /_matrix/client/v3/room_keys/version/{version}
PUT /_matrix/client/v3/room_keys/version/{version}
DELETE /_matrix/client/v3/room_keys/version/{version}
GET /_matrix/client/v3/room_keys/keys
PUT /_matrix/client/v3/room_keys/keys
DELETE /_matrix/client/v3/room_keys/keys
GET /_matrix/client/v3/room_keys/keys/{roomId}
PUT /_matrix/client/v3/room_keys/keys/{roomId}
DELETE /_matrix/client/v3/room_keys/keys/{roomId}
GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}
PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}
DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}
POST /_matrix/client/v3/account/3pid/add
POST /_matrix/client/v3/account/3pid/bind
";

/// A line, taken apart.
struct Line<'a> {
    method: &'a str,
    row: &'a str,
    used: &'a str,
    path: String,
    body: &'a str,
}

fn lines() -> impl Iterator<Item = Line<'static>> {
    LIMITED.lines().filter(|line| !line.is_empty()).map(|line| {
        let parts: Vec<&str> = line.split(" | ").collect();
        let [endpoint, used, path, body] = parts[..] else { panic!("malformed: {line}") };
        let (method, row) = endpoint.split_once(' ').unwrap();
        let path = match path.split_once(':') {
            Some(("v1", rest)) => format!("/_matrix/client/v1/{rest}"),
            Some(("media", rest)) => format!("/_matrix/media/v3/{rest}"),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("/_matrix/client/v3/{path}"),
        };
        Line { method, row, used, path, body }
    })
}

/// Where requests of these tests come from.
const PEER: [u8; 4] = [192, 0, 2, 7];

struct Limited {
    test: TestNode,
    ann: Client,
    user: UserNid,
    room: String,
}

impl Limited {
    async fn new() -> Self {
        let test = TestNode::with(|config| config.outbound_networks.clear()).await;
        test.node.accounts.create("ben", PASSWORD, false).await.unwrap();
        let ann = test.client("ann", "A").await;
        let room = test.room(&ann, json!({})).await;
        let user = test.node.accounts.account(ruma::user_id!("@ann:home.test")).await.unwrap().unwrap().user;
        Self { test, ann, user, room }
    }

    /// Uses an allowance up.
    fn use_up(&self, what: &str) {
        let address = || Key::Address(PEER.into());
        let (kind, key) = match what {
            "password" => (Kind::LoginAccount, Key::Account(self.ann.user_id.clone())),
            "login" => (Kind::LoginAddress, address()),
            "registration" => (Kind::Registration, address()),
            "lookup" => (Kind::Lookup, address()),
            "search" => (Kind::Search, Key::User(self.user)),
            "upload" => (Kind::Upload, Key::User(self.user)),
            "invite" => (Kind::Invite, Key::User(self.user)),
            "join" => (Kind::Join, Key::User(self.user)),
            "report" => (Kind::Report, Key::User(self.user)),
            other => panic!("no such allowance: {other}"),
        };
        while self.test.node.limits.check(kind, key.clone()).is_ok() {}
    }

    /// Sends a line's request. Status, `Retry-After` in seconds, body.
    async fn send(&self, line: &Line<'_>, new: &str) -> (u16, Option<u64>, Value) {
        let auth = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ann" }, "password": "wrong" });
        let fill = |text: &str| text.replace("{room}", &self.room).replace("{auth}", &auth.to_string()).replace("{new}", new);
        let body = if line.body == "-" { Body::empty() } else { Body::from(fill(line.body)) };
        let request = Request::builder()
            .method(line.method)
            .uri(fill(&line.path))
            .extension(Peer(Some(SocketAddr::from((PEER, 5)))))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.ann.token));
        let response = self.test.send(request.body(body).unwrap()).await;
        let retry = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, retry, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

#[test]
fn every_endpoint_that_may_be_limited_is_in_one_of_the_lists_and_in_the_table() {
    let limited: BTreeSet<String> = lines().map(|line| format!("{} {}", line.method, line.row)).collect();
    let unlimited: BTreeSet<String> = UNLIMITED.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(limited.intersection(&unlimited).count(), 0);
    assert_eq!(limited.len() + unlimited.len(), SPECIFIED);
    let table = endpoints::table();
    for text in limited.union(&unlimited) {
        let (method, path) = text.split_once(' ').unwrap();
        let row = table.iter().find(|row| row.method.as_str() == method && row.path == path);
        let row = row.unwrap_or_else(|| panic!("not in the table: {text}"));
        assert!(row.state == State::Served || path.contains("3pid"), "{text}");
    }
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_how_long_to_wait_and_let_in_after_that() {
    let limited = Limited::new().await;
    for (number, line) in lines().enumerate() {
        let name = format!("{} {}", line.method, line.row);
        // Every allowance is whole again.
        limited.test.clock.advance(24 * 60 * 60 * 1000);
        let (status, _, body) = limited.send(&line, &format!("a{number}")).await;
        assert_ne!(status, 429, "{name}: {body}");
        limited.use_up(line.used);
        let (status, retry_s, body) = limited.send(&line, &format!("b{number}")).await;
        assert_eq!((status, body["errcode"].as_str()), (429, Some("M_LIMIT_EXCEEDED")), "{name}: {body}");
        let wait_ms = body["retry_after_ms"].as_u64().unwrap_or_default();
        assert!(wait_ms > 0, "{name}: {body}");
        let retry_s = retry_s.unwrap_or_else(|| panic!("{name}: no Retry-After"));
        assert!(retry_s * 1000 >= wait_ms && (retry_s - 1) * 1000 < wait_ms, "{name}: {retry_s} s and {wait_ms} ms");
        limited.test.clock.advance(wait_ms);
        let (status, _, body) = limited.send(&line, &format!("c{number}")).await;
        assert_ne!(status, 429, "{name}: {body}");
    }
}
