//! The program as scripts see it: arguments in, text, JSON and exit codes out.

mod settings;
mod support;
