//! The Server-Server API: one file per section of the specification, each with an `add` that registers its endpoints.
//!
//! A node that does not federate has none of them: it answers as if it did not know them.

pub mod call;
mod devices;
mod events;
mod hierarchy;
mod keys;
mod media;
mod membership;
mod public_rooms;
mod query;
mod transactions;
mod version;
mod well_known;

#[cfg(test)]
mod tests;

use self::call::Origin;
use super::{
    call::Routes,
    endpoints,
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    users::limits::{Key, Kind},
};

/// Bounds how often one server does this, beyond what it may ask in general.
fn may(node: &Node, kind: Kind, origin: &Origin) -> ApiResult<()> {
    node.limits.check(kind, Key::Server(origin.0.clone())).map_err(ApiError::limit_exceeded)
}

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    if !routes.node().federation.is_enabled() {
        return routes;
    }
    let routes = version::add(routes);
    let routes = keys::add(routes);
    let routes = membership::add(routes);
    let routes = well_known::add(routes);
    let routes = transactions::add(routes);
    let routes = events::add(routes);
    let routes = devices::add(routes);
    let routes = query::add(routes);
    let routes = public_rooms::add(routes);
    let routes = hierarchy::add(routes);
    let routes = media::add(routes);
    routes.refuse(&endpoints::federation())
}
