//! The directory of published rooms, for other servers (Server-Server API, "Published Room Directory").

use std::sync::Arc;

use ruma::api::federation::directory::{
    get_public_rooms::v1 as get_public_rooms, get_public_rooms_filtered::v1 as get_public_rooms_filtered,
};

use super::{
    super::{
        call::{Call, Routes},
        directory::{self, Search},
        error::ApiResult,
    },
    call::Origin,
};
use crate::homeserver::Node;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add::<get_public_rooms::Request, _, _>(get_public_rooms)
        .add::<get_public_rooms_filtered::Request, _, _>(get_public_rooms_filtered)
}

/// `GET /_matrix/federation/v1/publicRooms`
async fn get_public_rooms(node: Arc<Node>, call: Call<get_public_rooms::Request, Origin>) -> ApiResult<get_public_rooms::Response> {
    let request = call.request;
    let search = Search { since: request.since, limit: request.limit, network: request.room_network, ..Search::default() };
    let listing = directory::list(&node, search).await?;
    let mut response = get_public_rooms::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (listing.chunk, listing.next, listing.prev);
    response.total_room_count_estimate = listing.total;
    Ok(response)
}

/// `POST /_matrix/federation/v1/publicRooms`
async fn get_public_rooms_filtered(
    node: Arc<Node>,
    call: Call<get_public_rooms_filtered::Request, Origin>,
) -> ApiResult<get_public_rooms_filtered::Response> {
    let request = call.request;
    let search = Search {
        since: request.since,
        limit: request.limit,
        term: request.filter.generic_search_term,
        network: request.room_network,
        types: request.filter.room_types.iter().map(|kind| kind.as_str().map(ToOwned::to_owned)).collect(),
    };
    let listing = directory::list(&node, search).await?;
    let mut response = get_public_rooms_filtered::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (listing.chunk, listing.next, listing.prev);
    response.total_room_count_estimate = listing.total;
    Ok(response)
}
