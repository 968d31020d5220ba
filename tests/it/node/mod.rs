//! The node over HTTP, in this process or as `homeroom serve`.

mod crash;
mod encryption;
mod garbage;
mod hostile;
mod oauth;
mod rooms;
mod truth;
mod types;
