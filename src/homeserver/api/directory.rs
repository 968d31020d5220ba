//! The directory of published rooms, as clients and other servers see it.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    UInt,
    directory::{PublicRoomsChunk, RoomNetwork},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use crate::homeserver::{
    Node,
    events::{EventError, summary},
    store::{Reader, appservices, rooms},
    types::RoomNid,
};

/// Largest page of the directory.
const MAX_LIMIT: usize = 500;

/// One page of the directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) chunk: Vec<PublicRoomsChunk>,
    pub(super) next: Option<String>,
    pub(super) prev: Option<String>,
    pub(super) total: Option<UInt>,
}

/// What to list.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) since: Option<String>,
    pub(super) limit: Option<UInt>,
    pub(super) term: Option<String>,
    pub(super) network: RoomNetwork,
    pub(super) types: Vec<Option<String>>,
}

/// A summary in a form of ruma's.
pub(super) fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, EventError> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| EventError::Internal(format!("room summary: {e}")))
}

fn published(db: &Reader<'_>) -> Result<Vec<RoomNid>, EventError> {
    Ok(rooms::all_published(db)?.into_iter().map(|(room, _)| room).collect())
}

/// A page of this server's directory.
pub(super) async fn list(node: &Arc<Node>, search: Search) -> ApiResult<Listing> {
    let start = match search.since.as_deref() {
        None | Some("") => 0,
        Some(since) => since.parse::<usize>().map_err(|_| ApiError::invalid_param("This is not a token of this directory"))?,
    };
    let limit = search.limit.and_then(|limit| usize::try_from(u64::from(limit)).ok()).map_or(MAX_LIMIT, |limit| limit.clamp(1, MAX_LIMIT));
    let listed = node.store.read(move |db| {
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
        Ok::<_, EventError>(Listing {
            chunk,
            next: (end < total).then(|| end.to_string()),
            prev: (start > 0).then(|| start.saturating_sub(limit).to_string()),
            total: Some(UInt::try_from(total).unwrap_or(UInt::MAX)),
        })
    });
    Ok(listed.await?)
}
