//! Local accounts: passwords, devices, tokens, and what belongs to a user rather than to a room.

pub mod tokens;
