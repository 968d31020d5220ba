//! Configuration: load, merge, explain; directories; secrets.
//!
//! Knows the settings and where they come from, nothing of the parts that use them.

pub mod describe;
pub mod dirs;
pub mod error;
pub mod keys;
pub mod load;
pub mod secrets;
pub mod types;
pub mod value;

pub use dirs::{Dirs, Profile};
pub use error::{ConfigError, Origin};
pub use keys::Config;
pub use load::{Effective, Sources};
