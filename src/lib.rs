#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;
pub mod cli;
pub mod client;
pub mod config;
pub mod homeserver;
pub mod tui;
