//! Telling clients what is new.

mod notifier;

pub use notifier::Notifier;
