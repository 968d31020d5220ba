//! The one integration binary: one binary links once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

mod cli;
mod client;
mod generated;
mod node;
mod peers;
mod screens;
#[expect(dead_code, reason = "the benches use the rest")]
mod support;
mod walls;
