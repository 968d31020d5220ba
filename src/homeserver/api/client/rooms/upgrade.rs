//! Room upgrades.

use std::sync::Arc;

use ruma::api::client::room::upgrade_room::v3 as upgrade_room;

use super::{
    super::super::{
        call::{Call, Routes},
        error::ApiResult,
    },
    change,
};
use crate::homeserver::{
    Node,
    events::{self, EventError, upgrade},
    store::members,
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<upgrade_room::Request, _, _>(upgrade_room)
}

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
async fn upgrade_room(node: Arc<Node>, call: Call<upgrade_room::Request>) -> ApiResult<upgrade_room::Response> {
    let (request, who) = (call.request, call.who);
    let room = change(&node, move |tx, ctx| {
        let old = events::room(&tx.reader(), &request.room_id)?;
        if members::get(&tx.reader(), old.nid, who.user)?.is_none_or(|member| member.membership != "join") {
            return Err(EventError::Forbidden("You are not in this room".into()));
        }
        upgrade::room(tx, ctx, &old, &who.user_id, &request.new_version, request.additional_creators)
    });
    Ok(upgrade_room::Response::new(room.await?.room_id))
}
