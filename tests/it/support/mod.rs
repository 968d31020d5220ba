//! What the tests and the benches stand on: a home, a pseudo-terminal, a node, a plain HTTP client, broken servers.
//!
//! Nothing in here sleeps: whoever waits, waits for a condition with a deadline.

pub mod across;
pub mod client;
pub mod conversation;
pub mod fake;
pub mod federation;
pub mod home;
pub mod http;
pub mod https;
pub mod node;
pub mod peers;
pub mod proc;
pub mod proxy;
pub mod pty;
pub mod synapse_federating;
pub mod syncing;
pub mod wait;

pub use home::Home;
pub use http::{Http, Person};
pub use node::{LocalNode, ServedNode};
pub use pty::Terminal;
pub use wait::eventually;
