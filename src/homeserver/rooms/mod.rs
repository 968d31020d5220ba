//! What the specification says of rooms and events, as pure functions: no store, no clock, no network.
//!
//! Values go in and come out, so that all of it can be tested without a node, and the outcome of a check can be shown.

pub mod acl;
pub mod auth;
pub mod build;
pub mod filter;
pub mod format;
pub mod power;
pub mod proposal;
pub mod redact;
pub mod relation;
pub mod resolve;
pub mod template;
pub mod versions;
pub mod visibility;
pub mod wire;
