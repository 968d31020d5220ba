//! The SDK-backed half: signs in, syncs, keeps timelines, sends.
//!
//! Talks to the screen through `command` and `update` alone. Knows nothing of terminals, nor of where its homeserver runs:
//! it is given a base URL and, for the own node, a Unix socket.

pub mod actor;
mod aside;
mod beginning;
mod cached;
pub mod command;
mod commands;
mod connect;
mod context;
mod convert;
mod details;
mod discover;
mod drafts;
mod encryption;
mod event_store;
pub mod headless;
mod incoming;
mod keeper;
pub mod leftovers;
mod media;
mod membership;
mod mirror;
mod opening;
mod past;
pub mod puppet;
mod queue;
mod receipts;
mod rooms;
mod send;
pub mod session;
mod sync;
mod thread;
mod timelines;
mod unread;
pub mod update;
pub mod view;
pub mod words;
