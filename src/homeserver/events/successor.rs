//! What a user's own settings become when their room is replaced by another: they go along (Client-Server API, "Room Upgrades").
//!
//! A room is another one's successor when the two name each other: anybody can say that their room replaces yours, and nobody's
//! settings follow that alone.

use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::TimelineEventType,
    push::{ConditionalPushRule, PushCondition, Ruleset},
};
use serde_json::{Map, Value};

use super::{Ctx, EventError, Result, summary::content};
use crate::homeserver::{
    push,
    store::{Tx, account_data, members, rooms, users},
    types::{Pdu, RoomHandle, UserNid},
};

/// Looks at a new event: somebody joins a successor, or a room gets one that our users are in already.
pub(super) fn consider(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, pdu: &Pdu) -> Result<()> {
    match pdu.kind() {
        TimelineEventType::RoomMember if pdu.membership() == Some("join") => {
            let Some(user_id) = pdu.state_key().and_then(|key| UserId::parse(key).ok()) else { return Ok(()) };
            if !ctx.is_ours(&user_id) {
                return Ok(());
            }
            let Some(user) = users::find(&tx.reader(), &user_id)? else { return Ok(()) };
            if !joined_first(tx, room, user)? {
                return Ok(());
            }
            match named(tx, room, "m.room.create", &["predecessor", "room_id"])? {
                Some(old) if named(tx, &old, "m.room.tombstone", &["replacement_room"])?.is_some_and(|new| new.nid == room.nid) => {
                    carry(tx, &old, room, user, &user_id)
                }
                _ => Ok(()),
            }
        }
        TimelineEventType::RoomTombstone => {
            let Some(new) = named(tx, room, "m.room.tombstone", &["replacement_room"])? else { return Ok(()) };
            if named(tx, &new, "m.room.create", &["predecessor", "room_id"])?.is_none_or(|old| old.nid != room.nid) {
                return Ok(());
            }
            for user in members::local_joined(&tx.reader(), new.nid)? {
                let user_id = users::user_id(&tx.reader(), user)?;
                carry(tx, room, &new, user, &user_id)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Has the user just come, for the first time? Whoever comes back has had the settings, and may have changed them.
fn joined_first(tx: &Tx<'_>, room: &RoomHandle, user: UserNid) -> Result<bool> {
    let changes = members::changes(&tx.reader(), room.nid, user)?;
    let joins = changes.iter().filter(|change| change.membership == "join").count();
    Ok(joins == 1 && changes.last().is_some_and(|change| change.membership == "join"))
}

/// The room that a state event of this one names, if we know it.
fn named(tx: &Tx<'_>, room: &RoomHandle, kind: &str, path: &[&str]) -> Result<Option<RoomHandle>> {
    let Some(content) = content(&tx.reader(), room, kind)? else { return Ok(None) };
    let content = Value::Object(content);
    let found = path.iter().try_fold(&content, |value, field| value.get(field));
    match found.and_then(Value::as_str).and_then(|id| RoomId::parse(id).ok()) {
        Some(room_id) => Ok(rooms::by_id(&tx.reader(), &room_id)?),
        None => Ok(None),
    }
}

/// Carries over what the user has set for the old room and not for the new one.
fn carry(tx: &mut Tx<'_>, old: &RoomHandle, new: &RoomHandle, user: UserNid, user_id: &UserId) -> Result<()> {
    // Settings for a room that they were never in are none of that room's.
    if members::changes(&tx.reader(), old.nid, user)?.iter().all(|change| change.membership != "join") {
        return Ok(());
    }
    let mut rules = push::rules(&tx.reader(), user, user_id)?;
    if carry_rules(&mut rules, &old.room_id, &new.room_id) {
        push::set_rules(tx, user, rules)?;
    }
    if let Some(tags) = account_data::get(&tx.reader(), user, Some(old.nid), "m.tag")?
        && account_data::get(&tx.reader(), user, Some(new.nid), "m.tag")?.is_none()
    {
        account_data::set(tx, user, Some(new.nid), "m.tag", &tags)?;
    }
    if let Some(direct) = account_data::get(&tx.reader(), user, None, "m.direct")?
        && let Some(direct) = carry_direct(&direct, &old.room_id, &new.room_id)?
    {
        account_data::set(tx, user, None, "m.direct", &direct)?;
    }
    Ok(())
}

/// Rules about the old room, once more for the new one. True when there were any.
fn carry_rules(rules: &mut Ruleset, old: &RoomId, new: &RoomId) -> bool {
    let mut carried = false;
    if let Some((index, rule)) = rules.room.get_full(old.as_str())
        && !rules.room.contains(new.as_str())
    {
        let mut rule = rule.clone();
        rule.rule_id = OwnedRoomId::from(new);
        carried |= rules.room.shift_insert(index, rule);
    }
    for kind in [&mut rules.override_, &mut rules.underride] {
        let about: Vec<ConditionalPushRule> = kind.iter().filter(|rule| is_about(rule, old)).cloned().collect();
        for mut rule in about {
            let before = kind.get_index_of(rule.rule_id.as_str()).unwrap_or(0);
            rule.rule_id = match rule.rule_id.contains(old.as_str()) {
                true => rule.rule_id.replace(old.as_str(), new.as_str()),
                false => format!("{}.{new}", rule.rule_id),
            };
            for condition in &mut rule.conditions {
                if let PushCondition::EventMatch(matched) = condition
                    && matched.key == "room_id"
                    && matched.pattern == old.as_str()
                {
                    matched.pattern = new.to_string();
                }
            }
            if !kind.contains(rule.rule_id.as_str()) {
                carried |= kind.shift_insert(before, rule);
            }
        }
    }
    carried
}

/// Is it the user's own rule for this room? Clients mute rooms so.
fn is_about(rule: &ConditionalPushRule, room: &RoomId) -> bool {
    !rule.default
        && rule.conditions.iter().any(|condition| {
            matches!(condition, PushCondition::EventMatch(matched) if matched.key == "room_id" && matched.pattern == room.as_str())
        })
}

/// The content of `m.direct` with the new room wherever the old one is; `None` when that changes nothing. What a client has stored
/// there may have any form.
fn carry_direct(content: &str, old: &RoomId, new: &RoomId) -> Result<Option<String>> {
    let Ok(mut content) = serde_json::from_str::<Map<String, Value>>(content) else { return Ok(None) };
    let mut carried = false;
    for rooms in content.values_mut().filter_map(Value::as_array_mut) {
        if rooms.iter().any(|room| room == old.as_str()) && !rooms.iter().any(|room| room == new.as_str()) {
            rooms.push(new.as_str().into());
            carried = true;
        }
    }
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    carried.then(|| serde_json::to_string(&content).map_err(internal)).transpose()
}
