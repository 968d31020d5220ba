//! Endpoints driven through the router.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

mod account;
mod appservice;
mod backup;
mod calls;
mod elsewhere;
mod errors;
mod guards;
mod keys;
mod limited;
mod login;
mod media;
mod oauth;
mod oauth_account;
mod oauth_tokens;
mod previews;
mod pushers;
mod rendezvous;
mod search;
mod sessions;
mod shapes;
mod social;
mod sso;
mod sso_hostile;
mod sso_pages;
mod threads;
