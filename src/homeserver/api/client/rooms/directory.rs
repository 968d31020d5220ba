//! The directory of published rooms, previews of rooms, and what is in a space.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, ServerName,
    api::{
        client::{
            directory::{
                get_public_rooms::v3 as get_public_rooms, get_public_rooms_filtered::v3 as get_public_rooms_filtered,
                get_room_visibility::v3 as get_room_visibility, set_room_visibility::v3 as set_room_visibility,
            },
            room::{Visibility, get_summary::v1 as get_summary},
            space::get_hierarchy::v1 as get_hierarchy,
        },
        federation::directory::{get_public_rooms::v1 as remote_rooms, get_public_rooms_filtered::v1 as remote_rooms_filtered},
    },
    directory::RoomTypeFilter,
};
use serde_json::{Map, Value};

use super::{
    super::super::{
        call::{Call, Routes},
        directory::{self, Listing, Search, typed},
        error::{ApiError, ApiResult},
    },
    change, look,
    timeline::bounded,
};
use crate::homeserver::{
    Node,
    appservice::query,
    events::{self, EventError, summary},
    federation::{
        lookup,
        request::Limits,
        spaces::{self, Walk},
    },
    store::{Reader, aliases, members, rooms, servers},
    types::{Requester, RoomHandle},
};

/// How long another server has to answer.
const REMOTE_ANSWER: Duration = Duration::from_secs(15);
/// Largest page of a hierarchy.
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

/// A page of this server's directory, or of another's.
async fn list(node: &Arc<Node>, server: Option<OwnedServerName>, search: Search) -> ApiResult<Listing> {
    match server.filter(|server| *server != node.config.server_name) {
        None => directory::list(node, search).await,
        Some(server) => list_of(node, &server, search).await,
    }
}

/// Asks another server for a page of its directory (Server-Server API, "Published Room Directory").
async fn list_of(node: &Arc<Node>, server: &ServerName, search: Search) -> ApiResult<Listing> {
    let limits = Limits::ORDINARY.within(REMOTE_ANSWER).insisting();
    if search.term.is_none() && search.types.is_empty() {
        let mut request = remote_rooms::Request::new();
        (request.limit, request.since, request.room_network) = (search.limit, search.since, search.network);
        let answer = node.federation.client.request_within(server, request, limits).await?;
        let total = answer.total_room_count_estimate;
        return Ok(Listing { chunk: answer.chunk, next: answer.next_batch, prev: answer.prev_batch, total });
    }
    let mut request = remote_rooms_filtered::Request::new();
    (request.limit, request.since, request.room_network) = (search.limit, search.since, search.network);
    request.filter.generic_search_term = search.term;
    request.filter.room_types = search.types.into_iter().map(RoomTypeFilter::from).collect();
    let answer = node.federation.client.request_within(server, request, limits).await?;
    let total = answer.total_room_count_estimate;
    Ok(Listing { chunk: answer.chunk, next: answer.next_batch, prev: answer.prev_batch, total })
}

/// `GET /_matrix/client/v3/publicRooms`
async fn get_public_rooms(node: Arc<Node>, call: Call<get_public_rooms::Request, ()>) -> ApiResult<get_public_rooms::Response> {
    let request = call.request;
    let search = Search { since: request.since, limit: request.limit, ..Search::default() };
    let listing = list(&node, request.server, search).await?;
    let mut response = get_public_rooms::Response::new(listing.chunk);
    (response.next_batch, response.prev_batch) = (listing.next, listing.prev);
    response.total_room_count_estimate = listing.total;
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
async fn get_public_rooms_filtered(
    node: Arc<Node>,
    call: Call<get_public_rooms_filtered::Request>,
) -> ApiResult<get_public_rooms_filtered::Response> {
    let request = call.request;
    let search = Search {
        since: request.since,
        limit: request.limit,
        term: request.filter.generic_search_term,
        network: request.room_network,
        types: request.filter.room_types.iter().map(|kind| kind.as_str().map(ToOwned::to_owned)).collect(),
    };
    let listing = list(&node, request.server, search).await?;
    let mut response = get_public_rooms_filtered::Response::new();
    response.chunk = listing.chunk;
    (response.next_batch, response.prev_batch) = (listing.next, listing.prev);
    response.total_room_count_estimate = listing.total;
    Ok(response)
}

/// What is known of a room here. To those who may not know of it, it does not exist.
enum Known {
    Here(RoomHandle),
    /// Nobody of ours is in it.
    Elsewhere(Option<OwnedRoomId>),
}

fn known(db: &Reader<'_>, id: &RoomOrAliasId, who: Option<&Requester>) -> Result<Known, EventError> {
    let room = match <&RoomId>::try_from(id) {
        Ok(room_id) => match rooms::by_id(db, room_id)? {
            Some(room) => room,
            None => return Ok(Known::Elsewhere(Some(room_id.to_owned()))),
        },
        Err(alias) => match aliases::get(db, alias)? {
            Some((room, _)) => rooms::by_nid(db, room)?,
            None => return Ok(Known::Elsewhere(None)),
        },
    };
    if members::local_joined(db, room.nid)?.is_empty() && !servers::in_room(db, room.nid)?.is_empty() {
        return Ok(Known::Elsewhere(Some(room.room_id)));
    }
    if summary::may_know(db, &room, who.map(|who| who.user))? { Ok(Known::Here(room)) } else { Err(unknown_room()) }
}

fn unknown_room() -> EventError {
    EventError::NotFound("There is no such room, or you may not know of it".into())
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
async fn get_summary(node: Arc<Node>, call: Call<get_summary::Request, Option<Requester>>) -> ApiResult<get_summary::Response> {
    let (request, who) = (call.request, call.who);
    if let Err(alias) = <&RoomId>::try_from(&*request.room_id_or_alias) {
        query::alias(&node, alias).await?;
    }
    let (id, asker) = (request.room_id_or_alias.clone(), who.clone());
    let here = look(&node, move |db| match known(db, &id, asker.as_ref())? {
        Known::Here(room) => Ok(Ok(summary::of(db, &room)?)),
        Known::Elsewhere(room_id) => Ok(Err(room_id)),
    });
    let found = match here.await? {
        Ok(found) => found,
        Err(room_id) => elsewhere(&node, &request, room_id, who.as_ref()).await?,
    };
    look(&node, move |db| {
        let room_id = found.get("room_id").and_then(|id| id.as_str()).and_then(|id| RoomId::parse(id).ok());
        let mut response = get_summary::Response::new(typed(found)?);
        if let (Some(who), Some(room_id)) = (who, room_id) {
            let member = match rooms::by_id(db, &room_id)? {
                Some(room) => members::get(db, room.nid, who.user)?,
                None => None,
            };
            response.membership = Some(member.map_or("leave".into(), |member| member.membership.as_str().into()));
        }
        Ok(response)
    })
    .await
}

/// The summary of a room that nobody of ours is in, from servers that know it. Strangers do not make us ask others.
async fn elsewhere(
    node: &Arc<Node>,
    request: &get_summary::Request,
    room_id: Option<OwnedRoomId>,
    who: Option<&Requester>,
) -> ApiResult<Map<String, Value>> {
    let who = who.ok_or_else(unknown_room)?;
    let mut via = request.via.clone();
    let room_id = match room_id {
        Some(room_id) => room_id,
        None => {
            let alias = <&RoomAliasId>::try_from(&*request.room_id_or_alias).map_err(|_| unknown_room())?;
            if alias.server_name() == node.config.server_name {
                return Err(unknown_room().into());
            }
            let (room_id, servers) = lookup::alias(node, alias).await?;
            via.extend(servers);
            room_id
        }
    };
    via.extend(room_id.server_name().map(ToOwned::to_owned));
    spaces::summary(node, &room_id, &via, Some(who.user)).await?.ok_or_else(|| unknown_room().into())
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
    let walk = Walk { user, suggested_only: request.suggested_only, max_depth, skip, limit };
    let walked = spaces::walk(&node, &request.room_id, &walk).await?;
    let (rooms, more) = walked.ok_or_else(|| ApiError::forbidden("You may not look into this space"))?;
    let mut response = get_hierarchy::Response::new();
    response.next_batch = more.then(|| format!("{}_{walk_id}", skip.saturating_add(rooms.len())));
    response.rooms = rooms.into_iter().map(typed).collect::<Result<_, _>>()?;
    Ok(response)
}
