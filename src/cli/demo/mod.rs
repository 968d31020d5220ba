//! `homeroom demo`: a throw-away node with people, rooms and a past, to look around in and to measure with.

mod hand;
mod picture;
mod plan;
mod script;
mod stage;
