//! The SDK-backed half: signs in, syncs, keeps timelines, sends.
//!
//! Talks to the screen through `command` and `update` alone. Knows nothing of terminals, nor of where its homeserver runs:
//! it is given a base URL and, for the own node, a Unix socket.

pub mod command;
pub mod update;
pub mod view;
