//! The directory of published rooms, previews of rooms, and what is in a space.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedServerName, RoomId, RoomOrAliasId, UInt,
    api::client::{
        directory::{
            get_public_rooms::v3 as get_public_rooms, get_public_rooms_filtered::v3 as get_public_rooms_filtered,
            get_room_visibility::v3 as get_room_visibility, set_room_visibility::v3 as set_room_visibility,
        },
        room::{Visibility, get_summary::v1 as get_summary},
        space::get_hierarchy::v1 as get_hierarchy,
    },
    directory::{PublicRoomsChunk, RoomNetwork},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    super::super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    change, look,
    timeline::bounded,
};
use crate::homeserver::{
    Node,
    appservice::query,
    events::{
        self, EventError,
        hierarchy::{self, Walk},
        summary,
    },
    store::{Reader, aliases, appservices, members, rooms},
    types::{Requester, RoomHandle, RoomNid},
};

/// Largest page of the directory and of a hierarchy.
const MAX_LIMIT: usize = 500;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_room_visibility::Request, _, _>(get_room_visibility)
        .add::<set_room_visibility::Request, _, _>(set_room_visibility)
        .add::<get_public_rooms::Request, _, _>(get_public_rooms)
        .add::<get_public_rooms_filtered::Request, _, _>(get_public_rooms_filtered)
        .add::<get_summary::Request, _, _>(get_summary)
        .add_at::<get_summary::Request, _, _>(&["/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}"], get_summary)
        .add::<get_hierarchy::Request, _, _>(get_hierarchy)
}

fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, EventError> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| EventError::Internal(format!("room summary: {e}")))
}

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
async fn get_room_visibility(node: Arc<Node>, call: Call<get_room_visibility::Request, ()>) -> ApiResult<get_room_visibility::Response> {
    let room_id = call.request.room_id;
    let published = look(&node, move |db| {
        let room = rooms::by_id(db, &room_id)?.ok_or_else(|| EventError::NotFound("There is no such room".into()))?;
        Ok(rooms::published(db, room.nid)?)
    });
    Ok(get_room_visibility::Response::new(if published.await? { Visibility::Public } else { Visibility::Private }))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
async fn set_room_visibility(node: Arc<Node>, call: Call<set_room_visibility::Request>) -> ApiResult<set_room_visibility::Response> {
    let (request, who) = (call.request, call.who);
    let publish = match request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        other => return Err(ApiError::invalid_param(format!("There is no visibility {other}"))),
    };
    change(&node, move |tx, _| {
        events::not_suspended(&tx.reader(), who.user)?;
        let room = rooms::by_id(&tx.reader(), &request.room_id)?.ok_or_else(|| EventError::NotFound("There is no such room".into()))?;
        if !who.admin && !summary::may_publish(&tx.reader(), &room, who.user, &who.user_id)? {
            return Err(EventError::Forbidden("You may not change how this room is listed".into()));
        }
        Ok(rooms::set_published(tx, room.nid, publish)?)
    })
    .await?;
    Ok(set_room_visibility::Response::new())
}

/// One page of the directory.
struct Listing {
    chunk: Vec<PublicRoomsChunk>,
    next: Option<String>,
    prev: Option<String>,
    total: UInt,
}

/// What to list.
struct Search {
    server: Option<OwnedServerName>,
    since: Option<String>,
    limit: Option<UInt>,
    term: Option<String>,
    network: RoomNetwork,
    types: Vec<Option<String>>,
}

fn published(db: &Reader<'_>) -> Result<Vec<RoomNid>, EventError> {
    Ok(rooms::all_published(db)?.into_iter().map(|(room, _)| room).collect())
}

async fn list(node: &Arc<Node>, search: Search) -> ApiResult<Listing> {
    if search.server.is_some_and(|server| server != node.config.server_name) {
        return Err(ApiError::not_found("Other servers' directories cannot be reached yet"));
    }
    let start = match search.since.as_deref() {
        None | Some("") => 0,
        Some(since) => since.parse::<usize>().map_err(|_| ApiError::invalid_param("This is not a token of this directory"))?,
    };
    let limit = search.limit.map_or(MAX_LIMIT, |limit| bounded(limit, MAX_LIMIT)).max(1);
    look(node, move |db| {
        let rooms = match &search.network {
            RoomNetwork::ThirdParty(instance) => appservices::listed(db, Some(instance.split_once('|').unwrap_or((instance, ""))))?,
            RoomNetwork::All => {
                published(db)?.into_iter().chain(appservices::listed(db, None)?).collect::<BTreeSet<_>>().into_iter().collect()
            }
            _ => published(db)?,
        };
        let all = summary::directory(db, rooms, search.term.as_deref(), &search.types)?;
        let total = all.len();
        let chunk: Vec<PublicRoomsChunk> = all.into_iter().skip(start).take(limit).map(typed).collect::<Result<_, _>>()?;
        let end = start.saturating_add(chunk.len());
        Ok(Listing {
            chunk,
            next: (end < total).then(|| end.to_string()),
            prev: (start > 0).then(|| start.saturating_sub(limit).to_string()),
            total: UInt::try_from(total).unwrap_or(UInt::MAX),
        })
    })
    .await
}

/// `GET /_matrix/client/v3/publicRooms`
async fn get_public_rooms(node: Arc<Node>, call: Call<get_public_rooms::Request, ()>) -> ApiResult<get_public_rooms::Response> {
    let request = call.request;
    let search = Search {
        server: request.server,
        since: request.since,
        limit: request.limit,
        term: None,
        network: RoomNetwork::Matrix,
        types: Vec::new(),
    };
    let listing = list(&node, search).await?;
    let mut response = get_public_rooms::Response::new(listing.chunk);
    (response.next_batch, response.prev_batch) = (listing.next, listing.prev);
    response.total_room_count_estimate = Some(listing.total);
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
async fn get_public_rooms_filtered(
    node: Arc<Node>,
    call: Call<get_public_rooms_filtered::Request>,
) -> ApiResult<get_public_rooms_filtered::Response> {
    let request = call.request;
    let search = Search {
        server: request.server,
        since: request.since,
        limit: request.limit,
        term: request.filter.generic_search_term,
        network: request.room_network,
        types: request.filter.room_types.iter().map(|kind| kind.as_str().map(ToOwned::to_owned)).collect(),
    };
    let listing = list(&node, search).await?;
    let mut response = get_public_rooms_filtered::Response::new();
    response.chunk = listing.chunk;
    (response.next_batch, response.prev_batch) = (listing.next, listing.prev);
    response.total_room_count_estimate = Some(listing.total);
    Ok(response)
}

/// A room that may be known; to those who may not know of it, it does not exist.
fn known(db: &Reader<'_>, id: &RoomOrAliasId, who: Option<&Requester>) -> Result<RoomHandle, EventError> {
    let room = match <&RoomId>::try_from(id) {
        Ok(room_id) => rooms::by_id(db, room_id)?,
        Err(alias) => aliases::get(db, alias)?.map(|(room, _)| rooms::by_nid(db, room)).transpose()?,
    };
    match room {
        Some(room) if summary::may_know(db, &room, who.map(|who| who.user))? => Ok(room),
        _ => Err(EventError::NotFound("There is no such room, or you may not know of it".into())),
    }
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
async fn get_summary(node: Arc<Node>, call: Call<get_summary::Request, Option<Requester>>) -> ApiResult<get_summary::Response> {
    let (request, who) = (call.request, call.who);
    if let Err(alias) = <&RoomId>::try_from(&*request.room_id_or_alias) {
        query::alias(&node, alias).await?;
    }
    look(&node, move |db| {
        let room = known(db, &request.room_id_or_alias, who.as_ref())?;
        let mut response = get_summary::Response::new(typed(summary::of(db, &room)?)?);
        if let Some(who) = who {
            let member = members::get(db, room.nid, who.user)?;
            response.membership = Some(member.map_or("leave".into(), |member| member.membership.as_str().into()));
        }
        Ok(response)
    })
    .await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
async fn get_hierarchy(node: Arc<Node>, call: Call<get_hierarchy::Request>) -> ApiResult<get_hierarchy::Response> {
    let (request, user) = (call.request, call.who.user);
    let max_depth = request.max_depth.map(u64::from);
    // A token belongs to one walk: its parameters are part of it.
    let walk_id = format!("{}.{}", u8::from(request.suggested_only), max_depth.map_or("all".to_owned(), |depth| depth.to_string()));
    let skip = match request.from.as_deref() {
        None => 0,
        Some(from) => from
            .split_once('_')
            .filter(|(_, walk)| *walk == walk_id)
            .and_then(|(skip, _)| skip.parse::<usize>().ok())
            .ok_or_else(|| ApiError::invalid_param("This token belongs to a request with other parameters"))?,
    };
    let limit = request.limit.map_or(50, |limit| bounded(limit, MAX_LIMIT)).max(1);
    look(&node, move |db| {
        let hidden = || EventError::Forbidden("You may not look into this space".into());
        let room = events::room(db, &request.room_id)?;
        if !summary::may_know(db, &room, Some(user))? {
            return Err(hidden());
        }
        let walk = Walk { user, suggested_only: request.suggested_only, max_depth, skip, limit };
        let (rooms, more) = hierarchy::walk(db, &room, &walk)?;
        let mut response = get_hierarchy::Response::new();
        response.next_batch = more.then(|| format!("{}_{walk_id}", skip.saturating_add(rooms.len())));
        response.rooms = rooms.into_iter().map(typed).collect::<Result<_, _>>()?;
        Ok(response)
    })
    .await
}
