//! Making rooms.

use ruma::{CanonicalJsonObject, OwnedRoomId, RoomAliasId, RoomId, room_version_rules::RoomVersionRules};
use serde_json::{Map, Value};

use super::{Ctx, Draft, EventError, Result, append, content_from_map, membership};
use crate::homeserver::{
    rooms::{
        build::{self, Template},
        template::NewRoom,
        versions,
    },
    store::{Tx, aliases, rooms, users},
    types::RoomHandle,
};

/// Makes a room as `POST /createRoom` describes. All of it or nothing.
///
/// # Errors
///
/// [`EventError`].
pub fn room(tx: &mut Tx<'_>, ctx: &Ctx, new: &NewRoom, published: bool, is_direct: bool) -> Result<RoomHandle> {
    if new.initial_state.iter().any(|e| matches!(e.kind.as_str(), "m.room.create" | "m.room.member")) {
        return Err(EventError::InvalidRoomState("The initial state may hold neither the create event nor memberships".into()));
    }
    let handle = empty(tx, ctx, new)?;
    let creator = users::intern(tx, &new.creator)?;
    if let Some(alias) = &new.alias {
        let alias = RoomAliasId::parse(alias).map_err(|e| EventError::InvalidParam(format!("{alias}: {e}")))?;
        if !aliases::add(tx, &alias, handle.nid, creator)? {
            return Err(EventError::RoomInUse(format!("{alias} is taken")));
        }
    }
    let levels = new.power_levels(&handle.rules);
    state(tx, ctx, &handle, new, "m.room.power_levels", "", content_from_map(levels)?)?;
    for event in new.rest() {
        state(tx, ctx, &handle, new, &event.kind, &event.state_key, content_from_map(event.content)?)?;
    }
    // Others' servers have to be asked first, which takes longer than a transaction may.
    for user in new.invite.iter().filter(|user| **user != new.creator && ctx.is_ours(user)) {
        let mut extra = Map::new();
        if is_direct {
            extra.insert("is_direct".into(), Value::Bool(true));
        }
        membership::invite(tx, ctx, &handle, &new.creator, user, None, extra)?;
    }
    if published {
        rooms::set_published(tx, handle.nid, true)?;
    }
    Ok(handle)
}

/// A room with nothing in it but its creator.
pub(super) fn empty(tx: &mut Tx<'_>, ctx: &Ctx, new: &NewRoom) -> Result<RoomHandle> {
    let rules = versions::rules(&new.version).ok_or_else(|| EventError::UnsupportedRoomVersion(new.version.to_string()))?;
    let create = content_from_map(new.create_content(&rules))?;
    let (room_id, created_ms) = choose_id(tx, ctx, new, &rules, &create)?;
    let handle = rooms::create(tx, &room_id, &new.version, ctx.now_ms)?;
    let at_creation = Ctx { now_ms: created_ms, ..ctx.clone() };
    state(tx, &at_creation, &handle, new, "m.room.create", "", create)?;
    membership::join_as_creator(tx, ctx, &handle, &new.creator)?;
    Ok(handle)
}

fn state(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    new: &NewRoom,
    kind: &str,
    state_key: &str,
    content: CanonicalJsonObject,
) -> Result<()> {
    let draft = Draft::state(new.creator.clone(), kind, state_key, content);
    match append(tx, ctx, room, draft) {
        Ok(_) => Ok(()),
        // The creator may do anything to begin with: what fails is a contradiction in what was asked.
        Err(EventError::Forbidden(why)) => Err(EventError::InvalidRoomState(format!("{kind}: {why}"))),
        Err(EventError::BadJson(why)) if kind == "m.room.power_levels" => Err(EventError::InvalidRoomState(format!("{kind}: {why}"))),
        Err(error) => Err(error),
    }
}

/// The new room's ID: random before version 12, afterwards the hash of the create event, which must then be built at that very
/// millisecond.
fn choose_id(tx: &Tx<'_>, ctx: &Ctx, new: &NewRoom, rules: &RoomVersionRules, create: &CanonicalJsonObject) -> Result<(OwnedRoomId, u64)> {
    if rules.event_format.require_room_create_room_id {
        let id = format!("!{}:{}", ctx.randomness.alphanumeric(18), ctx.server_name);
        let id = RoomId::parse(id).map_err(|e| EventError::Internal(e.to_string()))?;
        return Ok((id, ctx.now_ms));
    }
    // Two equal create events of one millisecond would be one event: the second one is of the next millisecond.
    for now_ms in (ctx.now_ms..).take(1000) {
        let template = Template {
            room_id: None,
            sender: &new.creator,
            kind: "m.room.create",
            state_key: Some(""),
            content: create.clone(),
            redacts: None,
            origin_server_ts: now_ms,
            prev_events: Vec::new(),
            prev_depth: 0,
            auth_events: Vec::new(),
        };
        let sign = |json: &mut CanonicalJsonObject| ctx.key.sign_event(ctx.server_name.as_str(), json, &rules.redaction);
        let room_id = build::room_id_of_create(build::build(template, rules, sign)?.0.event_id())?;
        if rooms::by_id(&tx.reader(), &room_id)?.is_none() {
            return Ok((room_id, now_ms));
        }
    }
    Err(EventError::Internal("no free room ID within a second".into()))
}
