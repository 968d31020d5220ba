//! For users of other servers who want into a room of ours, out of it, or to be let in: where their event goes.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName, UserId};
use serde_json::{Map, Value};

use super::{Kind, MembershipError, Result};
use crate::homeserver::{
    Node,
    events::{self, Ctx, Draft, EventError, content_from_map, membership},
    rooms::{acl::Acl, format},
    store::{Reader, Tx, events as stored, members, rooms, servers, state, users},
    types::RoomHandle,
};

/// What another server asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The membership.
    pub kind: Kind,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who.
    pub user_id: OwnedUserId,
    /// Room versions that the server knows; `None` where it is not asked.
    pub versions: Option<Vec<RoomVersionId>>,
}

/// Answers `make_join`, `make_leave` and `make_knock`: the room's version, and the event without hash and signature.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn propose(node: &Arc<Node>, origin: &ServerName, asked: Asked) -> Result<(RoomVersionId, String)> {
    if asked.user_id.server_name() != origin {
        return Err(MembershipError::forbidden("The user is one of another server"));
    }
    let (ctx, origin) = (Ctx::of(node), origin.to_owned());
    node.store
        .write(move |tx| {
            let room = open(&tx.reader(), &ctx, &asked.room_id, &origin)?;
            if asked.versions.as_ref().is_some_and(|versions| !versions.contains(&room.version)) {
                return Err(MembershipError::Incompatible(room.version));
            }
            if asked.kind == Kind::Knock && !room.rules.authorization.knocking {
                return Err(MembershipError::forbidden("Rooms of this version take no knocks"));
            }
            let mut content = Map::from_iter([("membership".to_owned(), Value::from(asked.kind.membership()))]);
            if asked.kind == Kind::Join
                && let Some(user) = authoriser(tx, &ctx, &room, &asked.user_id)?
            {
                content.insert("join_authorised_via_users_server".into(), user.into());
            }
            let draft = Draft::state(asked.user_id.clone(), "m.room.member", asked.user_id.as_str(), content_from_map(content)?);
            let pdu = events::propose(tx, &ctx, &room, &draft)?;
            let mut json: CanonicalJsonObject = pdu.json().clone();
            json.remove("hashes");
            json.remove("signatures");
            json.insert("origin".into(), ctx.server_name.to_string().into());
            let json = serde_json::to_string(&json).map_err(MembershipError::internal)?;
            Ok((room.version, json))
        })
        .await
}

/// A room that we are in and that the other server may take part in.
pub(super) fn open(db: &Reader<'_>, ctx: &Ctx, room_id: &ruma::RoomId, origin: &ServerName) -> Result<RoomHandle> {
    let unknown = || MembershipError::not_found("This server is not in that room");
    let room = rooms::by_id(db, room_id)?.ok_or_else(unknown)?;
    if !servers::is_in_room(db, room.nid, &ctx.server_name)? {
        return Err(unknown());
    }
    admitted(db, &room, origin)?;
    Ok(room)
}

/// Does the room's access control list let the server take part?
pub(super) fn admitted(db: &Reader<'_>, room: &RoomHandle, server: &ServerName) -> Result<()> {
    let Some(acl) = state::current(db, room.nid, "m.room.server_acl", "")? else { return Ok(()) };
    let content = format::content(&stored::by_nid(db, acl)?.json).map_err(MembershipError::internal)?;
    match Acl::new(content.get()).allows(server) {
        true => Ok(()),
        false => Err(MembershipError::forbidden("Your server may not take part in this room")),
    }
}

/// For a restricted room: a user of ours who may let this one in. `None` where nobody need.
pub(super) fn authoriser(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, user: &UserId) -> Result<Option<String>> {
    let db = tx.reader();
    let nid = users::find(&db, user)?;
    let standing = match nid {
        Some(nid) => members::get(&db, room.nid, nid)?.map(|member| member.membership),
        None => None,
    };
    if matches!(standing.as_deref(), Some("join" | "invite")) {
        return Ok(None);
    }
    let Some(allowed) = membership::allowed_rooms(&db, room)? else { return Ok(None) };
    let inside = match nid {
        Some(nid) => membership::in_any(&db, &allowed, nid)?,
        None => false,
    };
    if !inside {
        // Of a room that nobody here is in, nobody here knows who is in it.
        for room_id in &allowed {
            let known = match rooms::by_id(&db, room_id)? {
                Some(room) => servers::is_in_room(&db, room.nid, &ctx.server_name)?,
                None => false,
            };
            if !known {
                return Err(MembershipError::UnableToAuthorise(format!("This server is not in {room_id}, whose members may join")));
            }
        }
        return Err(MembershipError::forbidden("The user is in none of the rooms whose members may join this one"));
    }
    match membership::authorising_member(&db, ctx, room)? {
        Some(user) => Ok(Some(user)),
        None => Err(EventError::UnableToGrantJoin("Nobody on this server may let others into this room".into()).into()),
    }
}
