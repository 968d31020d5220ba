//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod account;
mod backup;
mod devices;
mod discovery;
mod keys;
mod login;
mod media;
mod profile;
mod register;
mod rooms;
mod sliding_sync;
#[cfg(test)]
mod tests;
mod to_device;
mod uia;
mod user_directory;

#[cfg(test)]
mod sync_tests;

use super::call::Routes;

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = discovery::add(routes);
    let routes = login::add(routes);
    let routes = register::add(routes);
    let routes = account::add(routes);
    let routes = devices::add(routes);
    let routes = backup::add(routes);
    let routes = keys::add(routes);
    let routes = media::add(routes);
    let routes = to_device::add(routes);
    let routes = user_directory::add(routes);
    let routes = profile::add(routes);
    let routes = rooms::add(routes);
    sliding_sync::add(routes)
}
