//! Room aliases.

use std::sync::Arc;

use http::StatusCode;
use ruma::{
    RoomAliasId,
    api::client::{
        alias::{create_alias::v3 as create_alias, delete_alias::v3 as delete_alias, get_alias::v3 as get_alias},
        room::aliases::v3 as list_aliases,
    },
};
use serde_json::{Map, Value};

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
        self, Ctx, Draft, EventError, content_from_map, summary,
        visibility::{Access, enter},
    },
    federation::lookup,
    store::{Tx, aliases, members, rooms, servers},
    types::{Requester, RoomHandle},
    users::limits::{Key, Kind},
};

/// Servers that are named with an alias: enough to join through.
const SERVERS: usize = 50;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<create_alias::Request, _, _>(create_alias)
        .add::<get_alias::Request, _, _>(get_alias)
        .add::<delete_alias::Request, _, _>(delete_alias)
        .add::<list_aliases::Request, _, _>(list_aliases)
}

fn check(node: &Node, alias: &RoomAliasId) -> ApiResult<()> {
    if alias.as_str().len() > 255 || alias.as_str().chars().any(char::is_control) {
        return Err(ApiError::invalid_param("This is not a room alias"));
    }
    if alias.server_name() != node.config.server_name {
        return Err(ApiError::invalid_param(format!("Aliases here end in :{}", node.config.server_name)));
    }
    Ok(())
}

/// Application services have aliases of their own, and no others.
///
/// # Errors
///
/// 400 `M_EXCLUSIVE`.
pub(super) fn may_name(node: &Node, who: &Requester, alias: &RoomAliasId) -> ApiResult<()> {
    let service = who.application.as_deref();
    if node.appservices.alias_is_reserved(alias, service) {
        return Err(ApiError::exclusive("This alias is reserved for an application service"));
    }
    match service.and_then(|id| node.appservices.by_id(id)) {
        Some(service) if !service.has_alias(alias) => {
            Err(ApiError::exclusive("This alias is not in the namespaces of the application service"))
        }
        _ => Ok(()),
    }
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
async fn create_alias(node: Arc<Node>, call: Call<create_alias::Request>) -> ApiResult<create_alias::Response> {
    let (request, who) = (call.request, call.who);
    check(&node, &request.room_alias)?;
    may_name(&node, &who, &request.room_alias)?;
    let alias = request.room_alias.clone();
    let added = change(&node, move |tx, _| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        events::not_suspended(&tx.reader(), who.user)?;
        if members::get(&tx.reader(), room.nid, who.user)?.is_none_or(|member| member.membership != "join") {
            return Err(EventError::Forbidden("You are not in this room".into()));
        }
        Ok(aliases::add(tx, &alias, room.nid, who.user)?)
    });
    if added.await? {
        Ok(create_alias::Response::new())
    } else {
        Err(ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", format!("{} exists already", request.room_alias)))
    }
}

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
async fn get_alias(node: Arc<Node>, call: Call<get_alias::Request, ()>) -> ApiResult<get_alias::Response> {
    let (alias, server) = (call.request.room_alias, node.config.server_name.clone());
    if alias.server_name() != server {
        // Anybody may ask, and each question makes us ask another server.
        if let Some(address) = call.address {
            node.limits.check(Kind::Lookup, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
        }
        let (room_id, servers) = lookup::alias(&node, &alias).await?;
        return Ok(get_alias::Response::new(room_id, servers));
    }
    query::alias(&node, &alias).await?;
    look(&node, move |db| {
        let unknown = || EventError::NotFound(format!("{alias} is not known here"));
        let (room, _) = aliases::get(db, &alias)?.ok_or_else(unknown)?;
        let mut known = servers::in_room(db, room)?;
        known.retain(|other| *other != server);
        known.insert(0, server);
        known.truncate(SERVERS);
        Ok(get_alias::Response::new(rooms::by_nid(db, room)?.room_id, known))
    })
    .await
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`: for who made it, who runs the room, and who runs the server.
async fn delete_alias(node: Arc<Node>, call: Call<delete_alias::Request>) -> ApiResult<delete_alias::Response> {
    let (alias, who) = (call.request.room_alias, call.who);
    let service = who.application.as_deref().and_then(|id| node.appservices.by_id(id));
    let theirs = service.is_some_and(|service| service.has_alias(&alias));
    if node.appservices.alias_is_reserved(&alias, who.application.as_deref()) {
        return Err(ApiError::exclusive("This alias is reserved for an application service"));
    }
    change(&node, move |tx, ctx| {
        events::not_suspended(&tx.reader(), who.user)?;
        let unknown = || EventError::NotFound(format!("{alias} is not known here"));
        let (room, creator) = aliases::get(&tx.reader(), &alias)?.ok_or_else(unknown)?;
        let room = rooms::by_nid(&tx.reader(), room)?;
        if !theirs && creator != who.user && !who.admin && !summary::may_publish(&tx.reader(), &room, who.user, &who.user_id)? {
            return Err(EventError::Forbidden("You may not delete this alias".into()));
        }
        aliases::remove(tx, &alias)?;
        forget_canonical(tx, ctx, &room, &who, &alias)
    })
    .await?;
    Ok(delete_alias::Response::new())
}

/// Takes a deleted alias out of the room's canonical aliases, if whoever deleted it may.
fn forget_canonical(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, who: &Requester, alias: &RoomAliasId) -> Result<(), EventError> {
    let Some(mut content) = summary::content(&tx.reader(), room, "m.room.canonical_alias")? else { return Ok(()) };
    let before: Map<String, Value> = content.clone();
    if content.get("alias").and_then(Value::as_str) == Some(alias.as_str()) {
        content.remove("alias");
    }
    if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
        others.retain(|other| other.as_str() != Some(alias.as_str()));
    }
    if content == before || !summary::may_publish(&tx.reader(), room, who.user, &who.user_id)? {
        return Ok(());
    }
    let draft = Draft::state(who.user_id.clone(), "m.room.canonical_alias", "", content_from_map(content)?);
    events::append(tx, ctx, room, draft).map(drop)
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
async fn list_aliases(node: Arc<Node>, call: Call<list_aliases::Request>) -> ApiResult<list_aliases::Response> {
    let (room_id, user) = (call.request.room_id, call.who.user);
    look(&node, move |db| {
        let room = events::room(db, &room_id)?;
        if matches!(enter(db, &room, user)?, Access::Former { .. }) {
            return Err(EventError::Forbidden("You are not in this room".into()));
        }
        Ok(list_aliases::Response::new(aliases::of_room(db, room.nid)?))
    })
    .await
}
