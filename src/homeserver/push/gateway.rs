//! What a push gateway is told (Push Gateway API, `POST /_matrix/push/v1/notify`).

use ruma::{UserId, push::Action};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use crate::homeserver::{
    events::summary,
    outbound::Outbound,
    rooms::format,
    store::{
        Reader, Result, StoreError, events, members,
        pushers::{Notification, Pusher, badge},
        rooms, state, users,
    },
};

/// Largest answer of a gateway that is read.
pub const ANSWER_BYTES: usize = 64 * 1024;

/// The `data` of an HTTP pusher.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the gateway is.
    pub url: Url,
    /// `event_id_only`: nothing of the event itself leaves the node.
    pub id_only: bool,
    /// What is passed on to the gateway.
    pub data: Map<String, Value>,
}

impl Target {
    /// Reads `data`.
    ///
    /// # Errors
    ///
    /// Why this is nothing that can be sent to, for the client.
    pub fn read(data: &Map<String, Value>, outbound: &Outbound) -> std::result::Result<Self, &'static str> {
        let url = data.get("url").and_then(Value::as_str).ok_or("`data.url` is missing")?;
        let url = Url::parse(url).map_err(|_| "`data.url` is not a URL")?;
        let secure = url.scheme() == "https" || (url.scheme() == "http" && outbound.is_allowed_by_name(&url));
        if !secure {
            return Err("`data.url` is not an https URL");
        }
        if url.path() != "/_matrix/push/v1/notify" {
            return Err("The path of `data.url` is not /_matrix/push/v1/notify");
        }
        let mut data = data.clone();
        data.remove("url");
        let id_only = data.get("format").and_then(Value::as_str) == Some("event_id_only");
        Ok(Self { url, id_only, data })
    }
}

/// What a gateway answers.
#[derive(Debug, Default, Deserialize)]
pub struct Rejected {
    /// Keys that it does not know (any more): their pushers are to be removed.
    #[serde(default)]
    pub rejected: Vec<String>,
}

fn device(pusher: &Pusher, target: &Target, tweaks: Option<Map<String, Value>>) -> Value {
    let mut device = json!({
        "app_id": pusher.id.app_id,
        "pushkey": pusher.id.pushkey,
        "pushkey_ts": pusher.set_ms / 1000,
        "data": target.data,
    });
    if let (Some(tweaks), Some(device)) = (tweaks, device.as_object_mut()) {
        device.insert("tweaks".into(), tweaks.into());
    }
    device
}

/// The count alone: something was read elsewhere.
#[must_use]
pub fn count(pusher: &Pusher, target: &Target, unread: i64) -> Value {
    json!({ "notification": { "counts": { "unread": unread }, "devices": [device(pusher, target, None)] } })
}

/// A notification of an event.
///
/// # Errors
///
/// Database errors.
pub fn event(db: &Reader<'_>, pusher: &Pusher, target: &Target, notification: &Notification) -> Result<Value> {
    let event = events::by_nid(db, notification.event)?;
    let room = rooms::by_nid(db, notification.room)?;
    let actions: Vec<Action> = serde_json::from_str(&notification.actions).unwrap_or_default();
    let tweaks = tweaks(&actions);
    let urgent = notification.highlight || tweaks.contains_key("sound") || event.kind == "m.room.encrypted";
    let mut told = Map::new();
    told.insert("event_id".into(), event.event_id.as_str().into());
    told.insert("room_id".into(), room.room_id.as_str().into());
    told.insert("counts".into(), json!({ "unread": badge(db, pusher.id.user)? }));
    told.insert("prio".into(), if urgent { "high" } else { "low" }.into());
    if target.id_only {
        told.insert("devices".into(), json!([device(pusher, target, None)]));
        return Ok(json!({ "notification": told }));
    }
    told.insert("devices".into(), json!([device(pusher, target, Some(tweaks))]));
    let sender = users::user_id(db, event.sender)?;
    told.insert("type".into(), event.kind.as_str().into());
    told.insert("sender".into(), sender.as_str().into());
    let content = format::content(&event.json).map_err(|e| StoreError::Data(format!("event {}: {e}", event.event_id)))?;
    told.insert("content".into(), serde_json::from_str(content.get()).unwrap_or_default());
    if let Some(name) = members::get(db, room.nid, event.sender)?.and_then(|member| member.displayname) {
        told.insert("sender_display_name".into(), name.into());
    }
    let text = |kind: &str, field: &str| -> Option<Value> {
        summary::content(db, &room, kind).ok().flatten().and_then(|content| content.get(field).filter(|value| value.is_string()).cloned())
    };
    for (name, value) in [("room_name", text("m.room.name", "name")), ("room_alias", text("m.room.canonical_alias", "alias"))] {
        if let Some(value) = value {
            told.insert(name.into(), value);
        }
    }
    if event.kind == "m.room.member" {
        let user_id = users::user_id(db, pusher.id.user)?;
        let target = event.state_key.map(|key| state::key(db, key)).transpose()?;
        let is_target = target.is_some_and(|(_, state_key)| UserId::parse(&state_key).is_ok_and(|id| id == user_id));
        told.insert("user_is_target".into(), is_target.into());
    }
    Ok(json!({ "notification": told }))
}

fn tweaks(actions: &[Action]) -> Map<String, Value> {
    let mut tweaks = Map::new();
    for action in actions {
        // Actions are written as `"notify"` or `{ "set_tweak": name, "value": value }`.
        let Ok(Value::Object(action)) = serde_json::to_value(action) else { continue };
        if let Some(name) = action.get("set_tweak").and_then(Value::as_str) {
            tweaks.insert(name.to_owned(), action.get("value").cloned().unwrap_or(Value::Bool(true)));
        }
    }
    tweaks
}
