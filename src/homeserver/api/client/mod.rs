//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod account;
mod account_data;
mod admin;
mod appservice;
mod backup;
mod calls;
mod dehydrated_device;
mod delayed_events;
mod devices;
mod discovery;
mod filters;
mod keys;
mod login;
mod media;
mod media_admin;
mod mutual_rooms;
mod oauth;
mod openid;
mod presence;
mod previews;
mod profile;
mod push_rules;
mod pushers;
mod receipts;
mod register;
mod rendezvous;
mod reports;
mod rooms;
mod search;
mod shared_secret;
mod sliding_sync;
mod sync;
mod third_party;
mod to_device;
mod uia;
mod user_directory;

#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;

pub(super) use self::oauth::page::SameOriginOnly;
use super::{
    call::Routes,
    endpoints,
    error::{ApiError, ApiResult},
};
use crate::homeserver::{Node, store, types::Requester};

/// Lets through who is not suspended. Events are checked where they are made.
///
/// # Errors
///
/// 403 `M_USER_SUSPENDED`.
async fn not_suspended(node: &Node, who: &Requester) -> ApiResult<()> {
    let user = who.user;
    let suspended = node.store.read(move |db| store::accounts::is_suspended(db, user)).await?;
    if suspended { Err(ApiError::user_suspended()) } else { Ok(()) }
}

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
    let routes = push_rules::add(routes);
    let routes = pushers::add(routes);
    let routes = reports::add(routes);
    let routes = mutual_rooms::add(routes);
    let routes = calls::add(routes);
    let routes = search::add(routes);
    let routes = dehydrated_device::add(routes);
    let routes = previews::add(routes);
    let routes = delayed_events::add(routes);
    let routes = appservice::add(routes);
    let routes = third_party::add(routes);
    let routes = media_admin::add(routes);
    routes.refuse(&endpoints::table())
}
