//! Joining, inviting, leaving, removing, banning, knocking.

use ruma::{CanonicalJsonObject, RoomId, UserId};
use serde_json::{Map, Value};

use super::{Appended, Ctx, Draft, EventError, Result, append, content_from_map, redaction::power_levels};
use crate::homeserver::{
    rooms::power::Action,
    store::{
        Reader, Tx, events,
        members::{self, Member},
        rooms, servers, state, users,
    },
    types::{RoomHandle, UserNid},
};

/// Content of a membership event; with the user's profile where the specification wants it.
///
/// # Errors
///
/// Store errors; [`EventError::BadJson`] for what canonical JSON does not have.
pub fn content(
    db: &Reader<'_>,
    user: Option<UserNid>,
    membership: &str,
    reason: Option<&str>,
    extra: Map<String, Value>,
) -> Result<CanonicalJsonObject> {
    let mut content = extra;
    if let Some(user) = user {
        let profile = users::member_profile(db, user)?;
        for (field, value) in [("displayname", profile.displayname), ("avatar_url", profile.avatar_url)] {
            if let Some(value) = value {
                content.insert(field.into(), value.into());
            }
        }
    }
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
    content.insert("membership".into(), membership.into());
    content_from_map(content)
}

fn send(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, sender: &UserId, target: &UserId, content: CanonicalJsonObject) -> Result<Appended> {
    append(tx, ctx, room, Draft::state(sender.to_owned(), "m.room.member", target.as_str(), content))
}

fn standing(db: &Reader<'_>, room: &RoomHandle, user: UserNid) -> Result<Option<Member>> {
    Ok(members::get(db, room.nid, user)?)
}

/// The creator's join, right after the create event.
pub(super) fn join_as_creator(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId) -> Result<()> {
    let nid = users::intern(tx, user)?;
    let content = content(&tx.reader(), Some(nid), "join", None, Map::new())?;
    send(tx, ctx, room, user, user, content).map(drop)
}

/// Shows a joined user's present display name and avatar in the room. Elsewhere it changes nothing.
///
/// # Errors
///
/// [`EventError`].
pub fn show_profile(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId) -> Result<()> {
    let nid = users::intern(tx, user)?;
    if standing(&tx.reader(), room, nid)?.is_none_or(|member| member.membership != "join") {
        return Ok(());
    }
    let content = content(&tx.reader(), Some(nid), "join", None, Map::new())?;
    send(tx, ctx, room, user, user, content).map(drop)
}

/// Joins a user of ours. Joining again changes nothing.
///
/// # Errors
///
/// [`EventError::Forbidden`] when the join rules say no; [`EventError::UnableToGrantJoin`] when nobody here could let them in.
pub fn join(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId, reason: Option<&str>) -> Result<()> {
    let nid = users::intern(tx, user)?;
    let before = standing(&tx.reader(), room, nid)?.map(|member| member.membership);
    if before.as_deref() == Some("join") {
        return Ok(());
    }
    let mut extra = Map::new();
    if before.as_deref() != Some("invite")
        && let Some(authoriser) = authorising_user(&tx.reader(), ctx, room, nid)?
    {
        extra.insert("join_authorised_via_users_server".into(), authoriser.into());
    }
    let content = content(&tx.reader(), Some(nid), "join", reason, extra)?;
    send(tx, ctx, room, user, user, content).map(drop)
}

/// For a restricted room: a user of ours who may let this one in, because they are in a room that the rule allows.
fn authorising_user(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, user: UserNid) -> Result<Option<String>> {
    let Some(allowed) = allowed_rooms(db, room)? else { return Ok(None) };
    if !in_any(db, &allowed, user)? {
        return Err(EventError::Forbidden("You are in none of the rooms whose members may join this one".into()));
    }
    match authorising_member(db, ctx, room)? {
        Some(member) => Ok(Some(member)),
        None => Err(EventError::UnableToGrantJoin("Nobody on this server may let you into this room".into())),
    }
}

/// A user of ours who is in the room and may invite others.
///
/// # Errors
///
/// Store errors.
pub fn authorising_member(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle) -> Result<Option<String>> {
    let levels = power_levels(db, room)?;
    for member in members::local_joined(db, room.nid)? {
        let candidate = users::user_id(db, member)?;
        if ctx.is_ours(&candidate) && levels.may(&candidate, Action::Invite).map_err(EventError::Forbidden)? {
            return Ok(Some(candidate.into()));
        }
    }
    Ok(None)
}

/// Are we in every room whose members may join this restricted one? If not, others may know of a membership that we do not.
///
/// # Errors
///
/// Store errors.
pub fn knows_allowed_rooms(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle) -> Result<bool> {
    for room_id in allowed_rooms(db, room)?.unwrap_or_default() {
        let known = match rooms::by_id(db, &room_id)? {
            Some(room) => servers::is_in_room(db, room.nid, &ctx.server_name)?,
            None => false,
        };
        if !known {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The rooms whose members may join; `None` when the join rule is not a restricted one.
///
/// # Errors
///
/// Store errors.
pub fn allowed_rooms(db: &Reader<'_>, room: &RoomHandle) -> Result<Option<Vec<ruma::OwnedRoomId>>> {
    let Some(rules) = state::current(db, room.nid, "m.room.join_rules", "")? else { return Ok(None) };
    let pdu = events::by_nid(db, rules)?.pdu(&room.rules)?;
    let content: Value = serde_json::from_str(pdu.content().get()).map_err(|e| EventError::Internal(e.to_string()))?;
    let authorization = &room.rules.authorization;
    let restricted = match content.get("join_rule").and_then(Value::as_str) {
        Some("restricted") => authorization.restricted_join_rule,
        Some("knock_restricted") => authorization.knock_restricted_join_rule,
        _ => false,
    };
    let conditions = content.get("allow").and_then(Value::as_array).into_iter().flatten();
    let rooms = conditions
        .filter(|condition| condition.get("type").and_then(Value::as_str) == Some("m.room_membership"))
        .filter_map(|condition| condition.get("room_id").and_then(Value::as_str))
        .filter_map(|id| RoomId::parse(id).ok());
    Ok(restricted.then(|| rooms.collect()))
}

/// Is the user joined to any of these rooms? Of a room that nobody of ours is in any more, we only know who once was.
///
/// # Errors
///
/// Store errors.
pub fn in_any(db: &Reader<'_>, rooms: &[ruma::OwnedRoomId], user: UserNid) -> Result<bool> {
    for room_id in rooms {
        if let Some(room) = rooms::by_id(db, room_id)?
            && members::get(db, room.nid, user)?.is_some_and(|member| member.membership == "join")
            && !members::local_joined(db, room.nid)?.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Invites somebody.
///
/// # Errors
///
/// [`EventError::NotFound`] for a user who does not exist here, [`EventError::InviteBlocked`] for one who wants no invites.
pub fn invite(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    sender: &UserId,
    target: &UserId,
    reason: Option<&str>,
    extra: Map<String, Value>,
) -> Result<Appended> {
    let nid = users::find(&tx.reader(), target)?;
    let content = content(&tx.reader(), nid, "invite", reason, extra)?;
    send(tx, ctx, room, sender, target, content)
}

/// Leaves a room, turns down an invite or takes back a knock. Leaving again changes nothing.
///
/// # Errors
///
/// [`EventError::Forbidden`] for somebody who was never in the room or is banned from it.
pub fn leave(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId, reason: Option<&str>) -> Result<()> {
    let nid = users::intern(tx, user)?;
    match standing(&tx.reader(), room, nid)?.map(|member| member.membership).as_deref() {
        Some("leave") => return Ok(()),
        Some("join" | "invite" | "knock") => {}
        _ => return Err(EventError::Forbidden("You are not in this room".into())),
    }
    let content = content(&tx.reader(), None, "leave", reason, Map::new())?;
    send(tx, ctx, room, user, user, content).map(drop)
}

/// What a moderator does to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Out of the room, free to come back.
    Kick,
    /// Out for good.
    Ban,
    /// No longer banned.
    Unban,
}

/// Removes, bans or unbans somebody.
///
/// # Errors
///
/// [`EventError::Forbidden`] without the power to; [`EventError::BadState`] for unbanning who is not banned.
pub fn remove(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    sender: &UserId,
    target: &UserId,
    removal: Removal,
    reason: Option<&str>,
) -> Result<()> {
    // How others stand is nothing that an outsider is told.
    let moderator = users::intern(tx, sender)?;
    if standing(&tx.reader(), room, moderator)?.is_none_or(|member| member.membership != "join") {
        return Err(EventError::Forbidden("You are not in this room".into()));
    }
    let nid = users::intern(tx, target)?;
    let before = standing(&tx.reader(), room, nid)?.map(|member| member.membership);
    let membership = match (removal, before.as_deref()) {
        (Removal::Ban, _) => "ban",
        (Removal::Kick, Some("join" | "invite" | "knock")) | (Removal::Unban, Some("ban")) => "leave",
        (Removal::Kick, _) => return Err(EventError::Forbidden(format!("{target} is not in this room"))),
        (Removal::Unban, _) => return Err(EventError::BadState(format!("{target} is not banned from this room"))),
    };
    let content = content(&tx.reader(), None, membership, reason, Map::new())?;
    send(tx, ctx, room, sender, target, content).map(drop)
}

/// Asks to be let in.
///
/// # Errors
///
/// [`EventError::Forbidden`] when the room takes no knocks.
pub fn knock(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId, reason: Option<&str>) -> Result<()> {
    let nid = users::intern(tx, user)?;
    let content = content(&tx.reader(), Some(nid), "knock", reason, Map::new())?;
    send(tx, ctx, room, user, user, content).map(drop)
}

/// Hears no more of a room that was left.
///
/// # Errors
///
/// [`EventError::Unknown`] while still in the room.
pub fn forget(tx: &mut Tx<'_>, room: &RoomHandle, user: UserNid) -> Result<()> {
    match standing(&tx.reader(), room, user)? {
        Some(member) if matches!(member.membership.as_str(), "leave" | "ban") => {
            members::set_forgotten(tx, room.nid, user)?;
            tx.next_pos();
            tx.touch(user);
            Ok(())
        }
        Some(_) => Err(EventError::Unknown("Leave the room before forgetting it".into())),
        None => Err(EventError::Forbidden("You are not in this room".into())),
    }
}
