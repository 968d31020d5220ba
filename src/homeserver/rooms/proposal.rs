//! Membership events that another server proposes (`make_join`, `make_leave`, `make_knock`): what is taken from its template.
//!
//! A template is never signed as it comes: the server that made it would get our signature under whatever it likes
//! (CVE-2026-24471). Only the event's place in the room is taken from it, and everything else must be what we asked for.

use ruma::{OwnedEventId, OwnedUserId, RoomId, ServerName, UserId, room_version_rules::AuthorizationRules};
use serde::Deserialize;
use serde_json::Value;

use super::build::{MAX_FIELD_BYTES, MAX_PREV_EVENTS};

/// An event names this many events that authorise it at most.
const MAX_AUTH_EVENTS: usize = 10;
/// Largest depth that every JSON implementation carries.
const MAX_DEPTH: i64 = (1 << 53) - 1;
/// Longest template that is looked at, in bytes.
const MAX_BYTES: usize = 2 * 65_536;

/// The membership that we want.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which room.
    pub room_id: &'a RoomId,
    /// Who.
    pub user_id: &'a UserId,
    /// join, leave or knock.
    pub membership: &'a str,
    /// The server that we ask.
    pub server: &'a ServerName,
}

/// Where the event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The events that it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that authorise it.
    pub auth_events: Vec<OwnedEventId>,
    /// Its distance from the room's start.
    pub depth: i64,
    /// Who lets the user into a restricted room: a user of the server that we ask.
    pub authorised_via: Option<OwnedUserId>,
}

#[derive(Deserialize)]
struct Template {
    room_id: String,
    #[serde(rename = "type")]
    kind: String,
    sender: String,
    state_key: String,
    content: serde_json::Map<String, Value>,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: i64,
}

/// Reads a template.
///
/// # Errors
///
/// What in it is not what was asked for.
pub fn read(template: &str, wanted: Wanted<'_>, rules: &AuthorizationRules) -> Result<Place, String> {
    if template.len() > MAX_BYTES {
        return Err(format!("the template has {} bytes", template.len()));
    }
    let template: Template = serde_json::from_str(template).map_err(|e| format!("the template is no membership event: {e}"))?;
    let text = |name: &str| template.content.get(name).and_then(Value::as_str);
    for (what, found, expected) in [
        ("room", template.room_id.as_str(), wanted.room_id.as_str()),
        ("type", template.kind.as_str(), "m.room.member"),
        ("sender", template.sender.as_str(), wanted.user_id.as_str()),
        ("state key", template.state_key.as_str(), wanted.user_id.as_str()),
        ("membership", text("membership").unwrap_or_default(), wanted.membership),
    ] {
        if found != expected {
            return Err(format!("the {what} of the template is not what was asked for"));
        }
    }
    let long = |ids: &[OwnedEventId]| ids.iter().any(|id| id.as_str().len() > MAX_FIELD_BYTES);
    if template.prev_events.len() > MAX_PREV_EVENTS || template.auth_events.len() > MAX_AUTH_EVENTS {
        return Err("the template names more events than an event may".into());
    }
    if template.prev_events.is_empty() || long(&template.prev_events) || long(&template.auth_events) {
        return Err("the template does not say where the event goes".into());
    }
    if !(0..=MAX_DEPTH).contains(&template.depth) {
        return Err("the depth of the template makes no sense".into());
    }
    let authorised_via = match text("join_authorised_via_users_server") {
        Some(user) if wanted.membership == "join" && rules.restricted_join_rule => {
            let user = UserId::parse(user).map_err(|_| "the template names no user who lets us in".to_owned())?;
            // They have to sign for their own users: another server's would be of no use.
            if user.server_name() != wanted.server {
                return Err("the template names a user of another server to let us in".into());
            }
            Some(user)
        }
        _ => None,
    };
    Ok(Place { prev_events: template.prev_events, auth_events: template.auth_events, depth: template.depth, authorised_via })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use ruma::{RoomVersionId, room_id, server_name, user_id};
    use serde_json::json;

    use super::*;

    fn template(change: impl FnOnce(&mut Value)) -> String {
        let mut template = json!({
            "room_id": "!room:b.test", "type": "m.room.member", "sender": "@ann:home.test", "state_key": "@ann:home.test",
            "content": { "membership": "join", "join_authorised_via_users_server": "@bob:b.test", "displayname": "Mallory" },
            "prev_events": ["$p"], "auth_events": ["$a"], "depth": 5, "origin_server_ts": 1, "origin": "b.test",
        });
        change(&mut template);
        template.to_string()
    }

    fn read_as(template: &str, membership: &str, version: RoomVersionId) -> Result<Place, String> {
        let (room_id, user_id) = (room_id!("!room:b.test"), user_id!("@ann:home.test"));
        let wanted = Wanted { room_id, user_id, membership, server: server_name!("b.test") };
        read(template, wanted, &version.rules().unwrap().authorization)
    }

    #[test]
    fn the_place_is_taken_and_nothing_else() {
        let place = read_as(&template(|_| ()), "join", RoomVersionId::V10).unwrap();
        assert_eq!((place.prev_events.len(), place.auth_events.len(), place.depth), (1, 1, 5));
        assert_eq!(place.authorised_via.as_deref(), Some(user_id!("@bob:b.test")));
        let old = read_as(&template(|_| ()), "join", RoomVersionId::V7).unwrap();
        assert_eq!(old.authorised_via, None, "the room version has no restricted joins");
        let leave = read_as(&template(|t| t["content"] = json!({ "membership": "leave" })), "leave", RoomVersionId::V10).unwrap();
        assert_eq!(leave.authorised_via, None);
    }

    #[test]
    fn a_template_for_something_else_is_refused() {
        type Change = fn(&mut Value);
        let wrong: [(&str, Change); 18] = [
            ("another type", |t| t["type"] = json!("m.room.power_levels")),
            ("another room", |t| t["room_id"] = json!("!other:b.test")),
            ("another sender", |t| t["sender"] = json!("@admin:home.test")),
            ("another target", |t| t["state_key"] = json!("@admin:home.test")),
            ("no state key", |t| drop(t.as_object_mut().unwrap().remove("state_key"))),
            ("another membership", |t| t["content"]["membership"] = json!("ban")),
            ("no membership", |t| t["content"] = json!({})),
            ("membership that is no text", |t| t["content"]["membership"] = json!(["join"])),
            ("no previous events", |t| t["prev_events"] = json!([])),
            ("too many previous events", |t| t["prev_events"] = json!(vec!["$p"; 21])),
            ("too many auth events", |t| t["auth_events"] = json!(vec!["$p"; 11])),
            ("previous events that are none", |t| t["prev_events"] = json!(["p"])),
            ("a long event ID", |t| t["prev_events"] = json!([format!("${}", "x".repeat(300))])),
            ("negative depth", |t| t["depth"] = json!(-1)),
            ("huge depth", |t| t["depth"] = json!(1_u64 << 53)),
            ("somebody else's user", |t| t["content"]["join_authorised_via_users_server"] = json!("@eve:evil.test")),
            ("no user", |t| t["content"]["join_authorised_via_users_server"] = json!("eve")),
            ("not an object", |t| *t = json!([])),
        ];
        for (name, change) in wrong {
            assert!(read_as(&template(change), "join", RoomVersionId::V10).is_err(), "{name}");
        }
        assert!(read_as(&" ".repeat(MAX_BYTES + 1), "join", RoomVersionId::V10).is_err());
        assert!(read_as(&template(|_| ()), "leave", RoomVersionId::V10).is_err());
    }
}
