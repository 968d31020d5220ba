//! Nodes that federate over TLS.

mod transport;
