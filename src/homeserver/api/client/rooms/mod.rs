//! Rooms and their events: one file per section of the specification.

mod aliases;
mod create_room;
mod directory;
mod membership;
mod redaction;
mod relations;
mod room_state;
mod send;
mod threads;
mod timeline;
mod upgrade;

use std::sync::Arc;

use super::super::{call::Routes, error::ApiResult};
use crate::homeserver::{
    Node,
    events::{Ctx, EventError, policy},
    store::{Reader, Tx},
};

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = aliases::add(routes);
    let routes = create_room::add(routes);
    let routes = directory::add(routes);
    let routes = membership::add(routes);
    let routes = redaction::add(routes);
    let routes = relations::add(routes);
    let routes = room_state::add(routes);
    let routes = threads::add(routes);
    let routes = timeline::add(routes);
    let routes = upgrade::add(routes);
    send::add(routes)
}

/// Changes rooms in one job of the writer.
async fn change<T, F>(node: &Arc<Node>, job: F) -> ApiResult<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Tx<'_>, &Ctx) -> Result<T, EventError> + Clone + Send + 'static,
{
    Ok(policy::writing(&node.store, Ctx::of(node), job).await?)
}

/// Reads rooms.
async fn look<T, F>(node: &Arc<Node>, query: F) -> ApiResult<T>
where
    T: Send + 'static,
    F: FnOnce(&Reader<'_>) -> Result<T, EventError> + Send + 'static,
{
    Ok(node.store.read(query).await?)
}
