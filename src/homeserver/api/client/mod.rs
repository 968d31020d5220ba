//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod account_data;
mod discovery;
mod filters;
mod keys;
mod login;
mod presence;
mod profile;
mod push_rules;
mod receipts;
mod rooms;
mod sliding_sync;
mod sync;
mod to_device;
mod uia;

#[cfg(test)]
mod sync_tests;

use super::call::Routes;

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = discovery::add(routes);
    let routes = login::add(routes);
    let routes = keys::add(routes);
    let routes = to_device::add(routes);
    let routes = profile::add(routes);
    let routes = rooms::add(routes);
    let routes = sliding_sync::add(routes);
    let routes = sync::add(routes);
    let routes = account_data::add(routes);
    let routes = receipts::add(routes);
    let routes = presence::add(routes);
    let routes = filters::add(routes);
    push_rules::add(routes)
}
