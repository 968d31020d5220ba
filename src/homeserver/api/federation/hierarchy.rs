//! What is in a space of ours, for other servers (Server-Server API, "Spaces").

use std::sync::Arc;

use axum::Json;
use ruma::{OwnedRoomId, RoomId, ServerName, api::federation::space::get_hierarchy::v1 as get_hierarchy};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{RawCall, Routes},
        error::{ApiError, ApiResult},
    },
    call::Origin,
    may,
};
use crate::homeserver::{
    Node,
    events::{EventError, hierarchy, summary},
    store::{Reader, members, rooms},
    types::RoomHandle,
    users::limits::Kind,
};

/// Children that one answer tells of.
const CHILDREN: usize = 500;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<get_hierarchy::Request, _, _, _>(get_hierarchy)
}

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
async fn get_hierarchy(node: Arc<Node>, call: RawCall<Origin>) -> ApiResult<Json<Value>> {
    let room_id = RoomId::parse(call.segment(0)?).map_err(|_| ApiError::invalid_param("Not a room ID"))?;
    let suggested_only = call.parameter("suggested_only") == Some("true");
    may(&node, Kind::Whole, &call.who)?;
    let origin = call.who.0;
    let answer = node.store.read(move |db| {
        let hidden = || EventError::NotFound("There is no such room, or your server may not know of it".into());
        let room = here(db, &room_id)?.ok_or_else(hidden)?;
        if !summary::may_server_know(db, &room, &origin)? {
            return Err(hidden());
        }
        let mut entry = summary::of(db, &room)?;
        let found = hierarchy::children(db, &room, &entry, suggested_only)?;
        let (children, inaccessible) = look_at(db, &found, &origin)?;
        entry.insert("children_state".into(), found.iter().map(|child| child.event.clone()).collect::<Vec<_>>().into());
        Ok(json!({ "room": entry, "children": children, "inaccessible_children": inaccessible }))
    });
    Ok(Json(answer.await?))
}

/// A room that somebody of ours is in: of others we know only what once was.
fn here(db: &Reader<'_>, room_id: &RoomId) -> Result<Option<RoomHandle>, EventError> {
    let Some(room) = rooms::by_id(db, room_id)? else { return Ok(None) };
    Ok((!members::local_joined(db, room.nid)?.is_empty()).then_some(room))
}

/// Summaries of some rooms, and IDs of others.
type Children = (Vec<Map<String, Value>>, Vec<OwnedRoomId>);

/// What the other server may be told of a space's children, and which it may not be told of.
fn look_at(db: &Reader<'_>, children: &[hierarchy::Child], origin: &ServerName) -> Result<Children, EventError> {
    let (mut told, mut hidden) = (Vec::new(), Vec::new());
    for child in children.iter().take(CHILDREN) {
        let Some(room) = here(db, &child.room_id)? else { continue };
        if summary::may_server_know(db, &room, origin)? {
            told.push(summary::of(db, &room)?);
        } else {
            hidden.push(child.room_id.clone());
        }
    }
    Ok((told, hidden))
}
