//! Replacing a room by one of another version (Client-Server API, "Room Upgrades").

use ruma::{OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};

use super::{Ctx, Draft, EventError, Result, append, content_from_map, create, redaction::power_levels, summary::content};
use crate::homeserver::{
    rooms::{
        template::{NewRoom, Preset},
        versions,
    },
    store::{Tx, aliases, events, members, rooms, state},
    types::RoomHandle,
};

/// State that goes along as it is, as the specification recommends.
const CARRIED: [&str; 8] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
];

/// Makes the new room, carries the state over, and closes the old one. All of it or nothing.
///
/// # Errors
///
/// [`EventError::Forbidden`] for those who may not send a tombstone.
pub fn room(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    old: &RoomHandle,
    user: &UserId,
    version: &RoomVersionId,
    additional_creators: Vec<OwnedUserId>,
) -> Result<RoomHandle> {
    let rules = versions::rules(version).ok_or_else(|| EventError::UnsupportedRoomVersion(version.to_string()))?;
    if !power_levels(&tx.reader(), old)?.may_send(user, &"m.room.tombstone".into(), Some("")).map_err(EventError::Forbidden)? {
        return Err(EventError::Forbidden("You may not upgrade this room".into()));
    }
    if !additional_creators.is_empty() && !rules.authorization.additional_room_creators {
        return Err(EventError::InvalidParam(format!("Rooms of version {version} have one creator")));
    }
    let mut creation = content(&tx.reader(), old, "m.room.create")?.unwrap_or_default();
    creation.retain(|field, _| !matches!(field.as_str(), "creator" | "room_version" | "predecessor" | "additional_creators"));
    let mut predecessor = Map::from_iter([("room_id".to_owned(), json!(old.room_id))]);
    let last = events::extremities(&tx.reader(), old.nid)?.into_iter().next();
    if let Some(last) = last.filter(|_| rules.event_format.require_room_create_room_id) {
        // Up to version 11, clients expect an event; the tombstone cannot be it, for it names the new room.
        predecessor.insert("event_id".into(), json!(last.event_id));
    }
    creation.insert("predecessor".into(), predecessor.into());
    if !additional_creators.is_empty() {
        creation.insert("additional_creators".into(), json!(additional_creators));
    }
    let new = NewRoom {
        creator: user.to_owned(),
        version: version.clone(),
        preset: Preset::Private,
        creation_content: creation,
        power_level_override: Map::new(),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
    };
    let replacement = create::empty(tx, ctx, &new)?;
    carry_over(tx, ctx, old, &replacement, user, &additional_creators)?;
    close(tx, ctx, old, &replacement, user)?;
    Ok(replacement)
}

fn put(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId, kind: &str, key: &str, content: Map<String, Value>) -> Result<()> {
    append(tx, ctx, room, Draft::state(user.to_owned(), kind, key, content_from_map(content)?)).map(drop)
}

fn carry_over(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    old: &RoomHandle,
    new: &RoomHandle,
    user: &UserId,
    additional_creators: &[OwnedUserId],
) -> Result<()> {
    for kind in CARRIED {
        if let Some(content) = content(&tx.reader(), old, kind)? {
            put(tx, ctx, new, user, kind, "", content)?;
        }
    }
    let children = state::current_of_type(&tx.reader(), old.nid, "m.space.child")?;
    for (key, nid) in children {
        let pdu = events::by_nid(&tx.reader(), nid)?.pdu(&old.rules)?;
        let content: Map<String, Value> = serde_json::from_str(pdu.content().get()).map_err(|e| EventError::Internal(e.to_string()))?;
        if content.get("via").is_some() {
            put(tx, ctx, new, user, "m.space.child", &key, content)?;
        }
    }
    let banned: Vec<_> = members::of_room(&tx.reader(), old.nid)?.into_iter().filter(|member| member.membership == "ban").collect();
    for member in banned {
        let pdu = events::by_nid(&tx.reader(), member.event)?.pdu(&old.rules)?;
        let content: Map<String, Value> = serde_json::from_str(pdu.content().get()).map_err(|e| EventError::Internal(e.to_string()))?;
        put(tx, ctx, new, user, "m.room.member", pdu.state_key().unwrap_or_default(), content)?;
    }
    // Aliases move before the power levels, which may take the right to name them from the upgrading user.
    let alias = content(&tx.reader(), old, "m.room.canonical_alias")?;
    aliases::move_all(tx, old.nid, new.nid)?;
    if let Some(alias) = alias {
        match put(tx, ctx, new, user, "m.room.canonical_alias", "", alias) {
            Ok(()) | Err(EventError::BadAlias(_) | EventError::InvalidParam(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if rooms::published(&tx.reader(), old.nid)? {
        rooms::set_published(tx, old.nid, false)?;
        rooms::set_published(tx, new.nid, true)?;
    }
    // Last: until there are power levels, the creator may do everything.
    let levels = levels(tx, old, new, user, additional_creators)?;
    put(tx, ctx, new, user, "m.room.power_levels", "", levels)
}

/// The old room's power levels in the terms of the new one's version. Nobody rises by it: whoever upgrades is the new room's
/// creator only until these levels are in place, or, where creators stand above everybody, by being its creator.
fn levels(tx: &Tx<'_>, old: &RoomHandle, new: &RoomHandle, user: &UserId, additional: &[OwnedUserId]) -> Result<Map<String, Value>> {
    let found = content(&tx.reader(), old, "m.room.power_levels")?;
    let unset = found.is_none();
    let mut content = found.unwrap_or_default();
    let mut users = match content.remove("users") {
        Some(Value::Object(users)) => users,
        _ => Map::new(),
    };
    let privileged = new.rules.authorization.explicitly_privilege_room_creators;
    if !privileged && (unset || old.rules.authorization.explicitly_privilege_room_creators) {
        // Creators stood above everybody without being listed. Where they do so again, the new room's creators are others.
        for creator in power_levels(&tx.reader(), old)?.creators() {
            users.entry(creator.as_str()).or_insert_with(|| 100.into());
        }
    }
    if privileged {
        users.remove(user.as_str());
        for creator in additional {
            users.remove(creator.as_str());
        }
        let default = content.get("state_default").and_then(Value::as_i64).unwrap_or(50);
        let events = content.entry("events").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(events) = events
            && events.get("m.room.tombstone").and_then(Value::as_i64).is_none_or(|level| level <= default.max(100))
        {
            events.insert("m.room.tombstone".into(), default.saturating_add(1).max(150).into());
        }
    }
    content.insert("users".into(), users.into());
    Ok(content)
}

/// Says where the room has gone, and asks everybody to stop talking in the old one.
fn close(tx: &mut Tx<'_>, ctx: &Ctx, old: &RoomHandle, new: &RoomHandle, user: &UserId) -> Result<()> {
    let tombstone = json!({ "body": "This room has been replaced", "replacement_room": new.room_id });
    let tombstone = if let Value::Object(tombstone) = tombstone { tombstone } else { Map::new() };
    put(tx, ctx, old, user, "m.room.tombstone", "", tombstone)?;
    let mut levels = content(&tx.reader(), old, "m.room.power_levels")?.unwrap_or_default();
    let default = levels.get("users_default").and_then(Value::as_i64).unwrap_or(0);
    let quiet = default.saturating_add(1).max(50);
    for field in ["events_default", "invite"] {
        if levels.get(field).and_then(Value::as_i64).unwrap_or(0) < quiet {
            levels.insert(field.into(), quiet.into());
        }
    }
    for (kind, content) in [("m.room.canonical_alias", Map::new()), ("m.room.power_levels", levels)] {
        if self::content(&tx.reader(), old, kind)?.is_none() {
            continue;
        }
        match put(tx, ctx, old, user, kind, "", content) {
            // Whoever may send a tombstone need not be able to change everything else.
            Ok(()) | Err(EventError::Forbidden(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
