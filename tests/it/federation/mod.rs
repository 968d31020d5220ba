//! Nodes that federate over TLS.

mod crash;
mod events;
mod hostile;
mod membership;
mod people;
mod policy;
mod together;
mod transport;
