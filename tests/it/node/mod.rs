//! The node over HTTP, in this process or as `homeroom serve`.

mod crash;
mod hostile;
mod rooms;
