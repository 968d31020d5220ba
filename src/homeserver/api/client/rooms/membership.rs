//! Room membership: joining, inviting, leaving, removing, banning, knocking.

use std::{net::IpAddr, sync::Arc};

use ruma::{
    OwnedRoomId, RoomId, RoomOrAliasId, UserId,
    api::client::{
        knock::knock_room::v3 as knock_room,
        membership::{
            ban_user::v3 as ban_user,
            forget_room::v3 as forget_room,
            invite_user::v3::{self as invite_user, InvitationRecipient},
            join_room_by_id::v3 as join_room_by_id,
            join_room_by_id_or_alias::v3 as join_room_by_id_or_alias,
            joined_rooms::v3 as joined_rooms,
            kick_user::v3 as kick_user,
            leave_room::v3 as leave_room,
            unban_user::v3 as unban_user,
        },
    },
};
use serde_json::Map;

use super::{
    super::super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    change, look,
};
use crate::homeserver::{
    Node,
    appservice::query,
    events::{
        self, EventError,
        membership::{self, Removal},
    },
    store::{Reader, aliases, members, rooms},
    types::{Requester, RoomHandle},
    users::limits::{Key, Kind},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<join_room_by_id::Request, _, _>(join_room_by_id)
        .add::<join_room_by_id_or_alias::Request, _, _>(join_room_by_id_or_alias)
        .add::<knock_room::Request, _, _>(knock_room)
        .add::<invite_user::Request, _, _>(invite_user)
        .add::<leave_room::Request, _, _>(leave_room)
        .add::<kick_user::Request, _, _>(kick_user)
        .add::<ban_user::Request, _, _>(ban_user)
        .add::<unban_user::Request, _, _>(unban_user)
        .add::<forget_room::Request, _, _>(forget_room)
        .add::<joined_rooms::Request, _, _>(joined_rooms)
}

/// A room that somebody wants into: it may be unknown here.
fn wanted(db: &Reader<'_>, id: &RoomOrAliasId) -> Result<RoomHandle, EventError> {
    let unknown = || EventError::NotFound(format!("{id} is not a room on this server, and other servers cannot be reached yet"));
    match <&RoomId>::try_from(id) {
        Ok(room_id) => rooms::by_id(db, room_id)?.ok_or_else(unknown),
        Err(alias) => {
            let (room, _) = aliases::get(db, alias)?.ok_or_else(unknown)?;
            Ok(rooms::by_nid(db, room)?)
        }
    }
}

/// Bounds how often a user does this from the network. Whoever is on the Unix socket owns the machine.
fn may(node: &Node, kind: Kind, who: &Requester, address: Option<IpAddr>) -> ApiResult<()> {
    match address {
        Some(_) => node.limits.check(kind, Key::User(who.user)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

async fn join(node: &Arc<Node>, who: Requester, id: &RoomOrAliasId, reason: Option<String>) -> ApiResult<OwnedRoomId> {
    let id = id.to_owned();
    if let Err(alias) = <&RoomId>::try_from(&*id) {
        query::alias(node, alias).await?;
    }
    change(node, move |tx, ctx| {
        let room = wanted(&tx.reader(), &id)?;
        membership::join(tx, ctx, &room, &who.user_id, reason.as_deref())?;
        Ok(room.room_id)
    })
    .await
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
async fn join_room_by_id(node: Arc<Node>, call: Call<join_room_by_id::Request>) -> ApiResult<join_room_by_id::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let id: &RoomOrAliasId = (&*call.request.room_id).into();
    Ok(join_room_by_id::Response::new(join(&node, call.who, id, call.request.reason).await?))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
async fn join_room_by_id_or_alias(
    node: Arc<Node>,
    call: Call<join_room_by_id_or_alias::Request>,
) -> ApiResult<join_room_by_id_or_alias::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let request = call.request;
    Ok(join_room_by_id_or_alias::Response::new(join(&node, call.who, &request.room_id_or_alias, request.reason).await?))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
async fn knock_room(node: Arc<Node>, call: Call<knock_room::Request>) -> ApiResult<knock_room::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let (request, who) = (call.request, call.who);
    if let Err(alias) = <&RoomId>::try_from(&*request.room_id_or_alias) {
        query::alias(&node, alias).await?;
    }
    let room_id = change(&node, move |tx, ctx| {
        let room = wanted(&tx.reader(), &request.room_id_or_alias)?;
        membership::knock(tx, ctx, &room, &who.user_id, request.reason.as_deref())?;
        Ok(room.room_id)
    });
    Ok(knock_room::Response::new(room_id.await?))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
async fn invite_user(node: Arc<Node>, call: Call<invite_user::Request>) -> ApiResult<invite_user::Response> {
    may(&node, Kind::Invite, &call.who, call.address)?;
    let (request, who) = (call.request, call.who);
    let InvitationRecipient::UserId(recipient) = request.recipient else {
        return Err(ApiError::new(
            http::StatusCode::FORBIDDEN,
            "M_THREEPID_DENIED",
            "This server sends no invitations by e-mail or telephone",
        ));
    };
    query::user(&node, &recipient.user_id).await?;
    change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        membership::invite(tx, ctx, &room, &who.user_id, &recipient.user_id, recipient.reason.as_deref(), Map::new())
    })
    .await?;
    Ok(invite_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
async fn leave_room(node: Arc<Node>, call: Call<leave_room::Request>) -> ApiResult<leave_room::Response> {
    let (request, who) = (call.request, call.who);
    change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        membership::leave(tx, ctx, &room, &who.user_id, request.reason.as_deref())
    })
    .await?;
    Ok(leave_room::Response::new())
}

async fn remove(
    node: &Arc<Node>,
    who: Requester,
    room_id: OwnedRoomId,
    target: &UserId,
    removal: Removal,
    reason: Option<String>,
) -> ApiResult<()> {
    let target = target.to_owned();
    change(node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &room_id)?;
        membership::remove(tx, ctx, &room, &who.user_id, &target, removal, reason.as_deref())
    })
    .await
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
async fn kick_user(node: Arc<Node>, call: Call<kick_user::Request>) -> ApiResult<kick_user::Response> {
    let request = call.request;
    remove(&node, call.who, request.room_id, &request.user_id, Removal::Kick, request.reason).await?;
    Ok(kick_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
async fn ban_user(node: Arc<Node>, call: Call<ban_user::Request>) -> ApiResult<ban_user::Response> {
    let request = call.request;
    remove(&node, call.who, request.room_id, &request.user_id, Removal::Ban, request.reason).await?;
    Ok(ban_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
async fn unban_user(node: Arc<Node>, call: Call<unban_user::Request>) -> ApiResult<unban_user::Response> {
    let request = call.request;
    remove(&node, call.who, request.room_id, &request.user_id, Removal::Unban, request.reason).await?;
    Ok(unban_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
async fn forget_room(node: Arc<Node>, call: Call<forget_room::Request>) -> ApiResult<forget_room::Response> {
    let (room_id, user) = (call.request.room_id, call.who.user);
    change(&node, move |tx, _| {
        let room = events::room(&tx.reader(), &room_id)?;
        membership::forget(tx, &room, user)
    })
    .await?;
    Ok(forget_room::Response::new())
}

/// `GET /_matrix/client/v3/joined_rooms`
async fn joined_rooms(node: Arc<Node>, call: Call<joined_rooms::Request>) -> ApiResult<joined_rooms::Response> {
    let user = call.who.user;
    let rooms = look(&node, move |db| Ok(members::joined_rooms(db, user)?)).await?;
    Ok(joined_rooms::Response::new(rooms))
}
