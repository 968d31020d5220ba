//! What goes to other servers: events and EDUs, in order, each transaction until it is answered.
//!
//! Queued in the transaction that makes them (`events::hook` for events), so that a restart loses nothing.

pub use crate::homeserver::store::outbox::{OutgoingEdu, OutgoingPdu, queue_edu, queue_pdu};
