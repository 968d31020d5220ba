//! The program as a person sees it: the real binary in a pseudo-terminal.

mod hanging;
mod harness;
mod home;
mod server;
mod steps;
mod trouble;
