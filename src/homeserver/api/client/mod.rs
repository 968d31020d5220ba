//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod discovery;
mod keys;
mod login;
mod profile;
mod rooms;
#[cfg(test)]
mod tests;
mod to_device;
mod uia;

use super::call::Routes;

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = discovery::add(routes);
    let routes = login::add(routes);
    let routes = keys::add(routes);
    let routes = to_device::add(routes);
    let routes = profile::add(routes);
    rooms::add(routes)
}
