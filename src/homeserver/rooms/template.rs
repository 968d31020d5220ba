//! What a new room starts with (Client-Server API, `POST /createRoom`).

use std::collections::BTreeSet;

use ruma::{OwnedUserId, RoomVersionId, room_version_rules::RoomVersionRules};
use serde_json::{Map, Value, json};

/// A named set of first settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// By invitation.
    Private,
    /// By invitation, and those invited first have the creator's power.
    TrustedPrivate,
    /// Open to everybody.
    Public,
}

impl Preset {
    fn join_rule(self) -> &'static str {
        if self == Self::Public { "public" } else { "invite" }
    }

    fn guest_access(self) -> &'static str {
        if self == Self::Public { "forbidden" } else { "can_join" }
    }

    /// Level needed to invite.
    fn invite_level(self) -> i64 {
        if self == Self::Public { 50 } else { 0 }
    }
}

/// A state event to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    /// Its type.
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: Map<String, Value>,
}

impl Initial {
    fn new(kind: &str, content: Value) -> Self {
        let content = if let Value::Object(content) = content { content } else { Map::new() };
        Self { kind: kind.into(), state_key: String::new(), content }
    }
}

/// What is asked of a new room.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Who makes it.
    pub creator: OwnedUserId,
    /// Its version, a supported one.
    pub version: RoomVersionId,
    /// First settings.
    pub preset: Preset,
    /// Further content of the create event.
    pub creation_content: Map<String, Value>,
    /// Fields that replace those of the default power levels.
    pub power_level_override: Map<String, Value>,
    /// State that the caller wants, which takes precedence over the preset.
    pub initial_state: Vec<Initial>,
    /// Name.
    pub name: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// Full alias.
    pub alias: Option<String>,
    /// Users to be invited.
    pub invite: Vec<OwnedUserId>,
}

impl NewRoom {
    /// The content of `m.room.create`.
    #[must_use]
    pub fn create_content(&self, rules: &RoomVersionRules) -> Map<String, Value> {
        let mut content = self.creation_content.clone();
        content.insert("room_version".into(), self.version.as_str().into());
        if rules.authorization.use_room_create_sender {
            content.remove("creator");
        } else {
            content.insert("creator".into(), self.creator.as_str().into());
        }
        if rules.authorization.additional_room_creators && self.preset == Preset::TrustedPrivate {
            let given = content.get("additional_creators").and_then(Value::as_array).into_iter().flatten();
            let given = given.filter_map(Value::as_str).map(ToOwned::to_owned);
            let all: BTreeSet<String> = given.chain(self.invite.iter().map(ToString::to_string)).collect();
            if !all.is_empty() {
                content.insert("additional_creators".into(), all.into_iter().filter(|user| *user != self.creator.as_str()).collect());
            }
        }
        content
    }

    /// The content of `m.room.power_levels`.
    #[must_use]
    pub fn power_levels(&self, rules: &RoomVersionRules) -> Map<String, Value> {
        let mut users = Map::new();
        if !rules.authorization.explicitly_privilege_room_creators {
            users.insert(self.creator.to_string(), 100.into());
            if self.preset == Preset::TrustedPrivate {
                users.extend(self.invite.iter().map(|user| (user.to_string(), 100.into())));
            }
        }
        if let Some(given) = self.initial_state.iter().find(|e| e.kind == "m.room.power_levels" && e.state_key.is_empty()) {
            return given.content.clone();
        }
        // Whoever can end a room must be above those who run it, where creators stand above everybody.
        let tombstone = if rules.authorization.explicitly_privilege_room_creators { 150 } else { 100 };
        let content = json!({
            "users": users,
            "users_default": 0,
            "events": {
                "m.room.name": 50,
                "m.room.power_levels": 100,
                "m.room.history_visibility": 100,
                "m.room.canonical_alias": 50,
                "m.room.avatar": 50,
                "m.room.tombstone": tombstone,
                "m.room.server_acl": 100,
                "m.room.encryption": 100,
            },
            "events_default": 0,
            "state_default": 50,
            "ban": 50,
            "kick": 50,
            "redact": 50,
            "invite": self.preset.invite_level(),
        });
        let mut content = if let Value::Object(content) = content { content } else { Map::new() };
        content.extend(self.power_level_override.clone());
        content
    }

    /// The state after create, the creator's join and the power levels, in the specification's order.
    #[must_use]
    pub fn rest(&self) -> Vec<Initial> {
        let given: BTreeSet<(&str, &str)> = self.initial_state.iter().map(|e| (e.kind.as_str(), e.state_key.as_str())).collect();
        let mut events = Vec::new();
        if let Some(alias) = &self.alias {
            events.push(Initial::new("m.room.canonical_alias", json!({ "alias": alias })));
        }
        for (kind, content) in [
            ("m.room.join_rules", json!({ "join_rule": self.preset.join_rule() })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", json!({ "guest_access": self.preset.guest_access() })),
        ] {
            if !given.contains(&(kind, "")) {
                events.push(Initial::new(kind, content));
            }
        }
        events.extend(self.initial_state.iter().filter(|e| e.kind != "m.room.power_levels" || !e.state_key.is_empty()).cloned());
        if let Some(name) = &self.name {
            events.push(Initial::new("m.room.name", json!({ "name": name })));
        }
        if let Some(topic) = &self.topic {
            let rich = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic, "mimetype": "text/plain" }] } });
            events.push(Initial::new("m.room.topic", rich));
        }
        events
    }
}
