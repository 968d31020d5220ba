//! Nodes that federate over TLS.

mod events;
mod hostile;
mod membership;
mod people;
mod together;
mod transport;
