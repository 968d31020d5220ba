//! Nodes that federate over TLS.

mod events;
mod transport;
