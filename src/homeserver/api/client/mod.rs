//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod account;
mod account_data;
mod admin;
mod backup;
mod devices;
mod discovery;
mod filters;
mod keys;
mod login;
mod media;
mod oauth;
mod openid;
mod presence;
mod profile;
mod push_rules;
mod receipts;
mod register;
mod rendezvous;
mod rooms;
mod shared_secret;
mod sliding_sync;
mod sync;
mod to_device;
mod uia;
mod user_directory;

#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;

pub(super) use self::oauth::page::SameOriginOnly;
use super::call::Routes;

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = discovery::add(routes);
    let routes = login::add(routes);
    let routes = oauth::add(routes);
    let routes = register::add(routes);
    let routes = shared_secret::add(routes);
    let routes = openid::add(routes);
    let routes = rendezvous::add(routes);
    let routes = admin::add(routes);
    let routes = account::add(routes);
    let routes = devices::add(routes);
    let routes = backup::add(routes);
    let routes = keys::add(routes);
    let routes = media::add(routes);
    let routes = to_device::add(routes);
    let routes = user_directory::add(routes);
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
