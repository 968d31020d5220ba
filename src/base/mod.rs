//! What every part stands on: clock, local time, randomness, shutdown, named tasks, locks, logging, panic handling, secrets, private files.
//!
//! Knows nothing of Matrix.

pub mod clock;
pub mod locks;
pub mod logging;
pub mod panics;
pub mod private;
pub mod random;
pub mod secret;
pub mod shutdown;
pub mod signals;
pub mod sockets;
pub mod tasks;
pub mod zone;

pub use clock::{Clock, ManualClock, SystemClock};
pub use locks::FileLock;
pub use random::{Randomness, SystemRandomness};
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use tasks::Tasks;
pub use zone::Zone;
