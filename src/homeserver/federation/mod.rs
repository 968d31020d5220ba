//! Other servers: finding them, speaking to them, believing them no more than the specification says.

pub mod sender;
