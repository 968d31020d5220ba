//! Conversations with real peers from the package registries. Each test provisions what it needs under `target/peers` and is
//! ignored by default; `.ci/run` runs them.

mod compare;
mod differences;
mod federation;
mod keyring;
mod people;
mod synapse;
mod together;
