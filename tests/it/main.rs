//! The one integration binary: one binary links once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

mod cli;
mod client;
mod federation;
mod generated;
mod node;
mod peers;
mod screens;
#[allow(dead_code, reason = "the benches share it and use another part")]
mod support;
mod walls;
