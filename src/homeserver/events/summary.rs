//! Rooms as those outside are told of them: directory, summaries, space hierarchies.

use ruma::{RoomAliasId, ServerName, UserId};
use serde_json::{Map, Value, json};

use super::{EventError, Result, membership};
use crate::homeserver::{
    rooms::format,
    store::{Reader, events, members, rooms, servers, state},
    types::{RoomHandle, RoomNid, UserNid},
};

/// The content of a room's current state event.
///
/// # Errors
///
/// Store errors.
pub fn content(db: &Reader<'_>, room: &RoomHandle, kind: &str) -> Result<Option<Map<String, Value>>> {
    let Some(nid) = state::current(db, room.nid, kind, "")? else { return Ok(None) };
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let content = format::content(&events::by_nid(db, nid)?.json).map_err(internal)?;
    Ok(Some(serde_json::from_str(content.get()).map_err(internal)?))
}

fn text(content: Option<&Map<String, Value>>, field: &str) -> Option<String> {
    content?.get(field)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// What the specification's room summary holds; fields that the room does not have, or has in a wrong form, are left out.
///
/// # Errors
///
/// Store errors.
pub fn of(db: &Reader<'_>, room: &RoomHandle) -> Result<Map<String, Value>> {
    let state = |kind: &str| content(db, room, kind);
    let create = state("m.room.create")?;
    let rules = state("m.room.join_rules")?;
    let history = text(state("m.room.history_visibility")?.as_ref(), "history_visibility");
    let guests = text(state("m.room.guest_access")?.as_ref(), "guest_access");
    let rule = text(rules.as_ref(), "join_rule");
    let known = ["public", "invite", "knock", "private", "restricted", "knock_restricted"];
    // A rule that nobody knows lets nobody in.
    let rule = rule.filter(|rule| known.contains(&rule.as_str())).unwrap_or_else(|| "invite".into());
    let alias = text(state("m.room.canonical_alias")?.as_ref(), "alias").filter(|alias| RoomAliasId::parse(alias).is_ok());
    let mut summary = Map::new();
    summary.insert("room_id".into(), room.room_id.as_str().into());
    summary.insert("room_version".into(), room.version.as_str().into());
    summary.insert("num_joined_members".into(), members::count(db, room.nid, "join")?.into());
    summary.insert("world_readable".into(), (history.as_deref() == Some("world_readable")).into());
    summary.insert("guest_can_join".into(), (guests.as_deref() == Some("can_join")).into());
    for (field, value) in [
        ("name", text(state("m.room.name")?.as_ref(), "name")),
        ("topic", text(state("m.room.topic")?.as_ref(), "topic")),
        ("avatar_url", text(state("m.room.avatar")?.as_ref(), "url")),
        ("canonical_alias", alias),
        ("room_type", text(create.as_ref(), "type")),
        ("encryption", text(state("m.room.encryption")?.as_ref(), "algorithm")),
    ] {
        if let Some(value) = value {
            summary.insert(field.into(), value.into());
        }
    }
    if matches!(rule.as_str(), "restricted" | "knock_restricted") {
        let allowed = membership::allowed_rooms(db, room)?.unwrap_or_default();
        summary.insert("allowed_room_ids".into(), json!(allowed));
    }
    summary.insert("join_rule".into(), rule.into());
    Ok(summary)
}

/// Is the room open to everybody, to join or to look in? Then so is who is in it (Client-Server API, "User directory").
///
/// # Errors
///
/// Store errors.
pub fn is_open(db: &Reader<'_>, room: &RoomHandle) -> Result<bool> {
    let says = |kind: &str, field: &str, value: &str| {
        Ok::<_, EventError>(text(content(db, room, kind)?.as_ref(), field).as_deref() == Some(value))
    };
    Ok(says("m.room.join_rules", "join_rule", "public")? || says("m.room.history_visibility", "history_visibility", "world_readable")?)
}

/// May this user (or anybody, without one) be told what the room is? Members and the invited may, and whoever could join,
/// knock or look in.
///
/// # Errors
///
/// Store errors.
pub fn may_know(db: &Reader<'_>, room: &RoomHandle, user: Option<UserNid>) -> Result<bool> {
    let history = content(db, room, "m.room.history_visibility")?;
    if text(history.as_ref(), "history_visibility").as_deref() == Some("world_readable") {
        return Ok(true);
    }
    let rules = content(db, room, "m.room.join_rules")?;
    if matches!(text(rules.as_ref(), "join_rule").as_deref(), Some("public" | "knock" | "knock_restricted")) {
        return Ok(true);
    }
    let Some(user) = user else { return Ok(false) };
    if members::get(db, room.nid, user)?.is_some_and(|member| matches!(member.membership.as_str(), "join" | "invite" | "knock")) {
        return Ok(true);
    }
    match membership::allowed_rooms(db, room)? {
        Some(allowed) => membership::in_any(db, &allowed, user),
        None => Ok(false),
    }
}

/// May this server be told what the room is? Servers with members or invited users in it may, and whoever could join, knock or
/// look in.
///
/// # Errors
///
/// Store errors.
pub fn may_server_know(db: &Reader<'_>, room: &RoomHandle, server: &ServerName) -> Result<bool> {
    if may_know(db, room, None)? || servers::is_in_room(db, room.nid, server)? || members::is_server_invited(db, room.nid, server)? {
        return Ok(true);
    }
    for allowed in membership::allowed_rooms(db, room)?.unwrap_or_default() {
        if let Some(allowed) = rooms::by_id(db, &allowed)?
            && servers::is_in_room(db, allowed.nid, server)?
            // Of a room that nobody of ours is in any more, we only know who once was.
            && !members::local_joined(db, allowed.nid)?.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of these rooms that match a search, in their order, as entries of the directory.
///
/// # Errors
///
/// Store errors.
pub fn directory(db: &Reader<'_>, rooms: Vec<RoomNid>, search: Option<&str>, types: &[Option<String>]) -> Result<Vec<Map<String, Value>>> {
    let search = search.map(str::to_lowercase).filter(|search| !search.is_empty());
    let mut found = Vec::new();
    for nid in rooms {
        let mut summary = of(db, &rooms::by_nid(db, nid)?)?;
        let kind = summary.get("room_type").and_then(Value::as_str).map(ToOwned::to_owned);
        let typed = types.is_empty() || types.contains(&kind);
        let matches = search.as_ref().is_none_or(|search| {
            ["name", "topic", "canonical_alias"]
                .iter()
                .filter_map(|field| summary.get(*field).and_then(Value::as_str))
                .any(|value| value.to_lowercase().contains(search))
        });
        if typed && matches {
            for field in ["encryption", "room_version", "allowed_room_ids"] {
                summary.remove(field);
            }
            found.push(summary);
        }
    }
    Ok(found)
}

/// May this user change how the room is found (aliases of others, the directory)? Those who may set its canonical alias.
///
/// # Errors
///
/// Store errors.
pub fn may_publish(db: &Reader<'_>, room: &RoomHandle, user: UserNid, user_id: &UserId) -> Result<bool> {
    if members::get(db, room.nid, user)?.is_none_or(|member| member.membership != "join") {
        return Ok(false);
    }
    let levels = super::redaction::power_levels(db, room)?;
    levels.may_send(user_id, &"m.room.canonical_alias".into(), Some("")).map_err(EventError::Forbidden)
}
