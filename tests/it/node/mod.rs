//! The node over HTTP, in this process or as `homeroom serve`.

mod crash;
mod encryption;
mod hostile;
mod oauth;
mod rooms;
