//! Receiving, between several servers in one process.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests of their own making")]

mod forged;
mod forks;
mod gaps;
mod history;
mod hostile;
mod joining;
mod large;
mod receipt;
mod simulator;
mod waiting;
mod world;
