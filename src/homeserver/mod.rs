//! The node: a personal Matrix homeserver.
