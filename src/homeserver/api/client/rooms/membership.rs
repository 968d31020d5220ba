//! Room membership: joining, inviting, leaving, removing, banning, knocking.

use std::{net::IpAddr, sync::Arc};

use ruma::{
    OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, RoomId, UserId,
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
        self,
        membership::{self, Removal},
    },
    federation::membership::{self as remote, Invite, Join},
    store::members,
    types::Requester,
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

/// Bounds how often a user does this from the network. Whoever is on the Unix socket owns the machine.
fn may(node: &Node, kind: Kind, who: &Requester, address: Option<IpAddr>) -> ApiResult<()> {
    match address {
        Some(_) => node.limits.check(kind, Key::User(who.user)).map_err(ApiError::limit_exceeded),
        None => Ok(()),
    }
}

async fn join(
    node: &Arc<Node>,
    who: Requester,
    room: OwnedRoomOrAliasId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
) -> ApiResult<OwnedRoomId> {
    if let Err(alias) = <&RoomId>::try_from(&*room) {
        query::alias(node, alias).await?;
    }
    Ok(remote::join(node, Join { user_id: who.user_id, room, via, reason }).await?)
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
async fn join_room_by_id(node: Arc<Node>, call: Call<join_room_by_id::Request>) -> ApiResult<join_room_by_id::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let id = call.request.room_id.into();
    Ok(join_room_by_id::Response::new(join(&node, call.who, id, Vec::new(), call.request.reason).await?))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
async fn join_room_by_id_or_alias(
    node: Arc<Node>,
    call: Call<join_room_by_id_or_alias::Request>,
) -> ApiResult<join_room_by_id_or_alias::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let request = call.request;
    Ok(join_room_by_id_or_alias::Response::new(join(&node, call.who, request.room_id_or_alias, request.via, request.reason).await?))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
async fn knock_room(node: Arc<Node>, call: Call<knock_room::Request>) -> ApiResult<knock_room::Response> {
    may(&node, Kind::Join, &call.who, call.address)?;
    let request = call.request;
    if let Err(alias) = <&RoomId>::try_from(&*request.room_id_or_alias) {
        query::alias(&node, alias).await?;
    }
    let room_id = remote::knock(&node, &call.who, &request.room_id_or_alias, request.via, request.reason).await?;
    Ok(knock_room::Response::new(room_id))
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
    let invite =
        Invite { room_id: request.room_id, sender: who.user_id, target: recipient.user_id, reason: recipient.reason, extra: Map::new() };
    remote::invite(&node, invite).await?;
    Ok(invite_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
async fn leave_room(node: Arc<Node>, call: Call<leave_room::Request>) -> ApiResult<leave_room::Response> {
    remote::leave(&node, call.who.user_id, call.request.room_id, call.request.reason).await?;
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
