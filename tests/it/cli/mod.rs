//! The program as scripts see it: arguments in, text, JSON and exit codes out.

mod account;
mod doctor;
mod messages;
mod node_accounts;
mod serving;
mod settings;
