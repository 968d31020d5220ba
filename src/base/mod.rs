//! What every part stands on: clock, randomness, shutdown, named tasks, logging, panic handling.
//!
//! Knows nothing of Matrix.

pub mod clock;
pub mod random;
pub mod shutdown;
pub mod tasks;

pub use clock::{Clock, ManualClock, SystemClock};
pub use random::{Randomness, SystemRandomness};
pub use shutdown::Shutdown;
pub use tasks::Tasks;
