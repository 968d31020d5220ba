//! Other servers: finding them, speaking to them, believing them no more than the specification says.

pub mod edus;
pub mod sender;

/// What federation keeps in memory.
#[derive(Debug, Default)]
pub struct Federation {
    /// What EDUs need to remember.
    pub edus: edus::State,
}
