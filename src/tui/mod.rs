//! The terminal half: keys in, cells out.
//!
//! Names `client::{view, command, update}` and nothing else of the program.
