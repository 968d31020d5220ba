//! Configuration: load, merge, explain.
