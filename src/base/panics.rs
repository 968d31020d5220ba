//! What happens when a part of the program panics: it is logged with its place, and a short message names the log file.
//!
//! A screen lays its own hook over this one: its own panic gives the terminal back before the message is printed, a panic
//! of anything beside it goes to the log alone.

use std::{panic::PanicHookInfo, path::PathBuf};

/// Replaces the process's panic hook. The message names `log`.
pub fn install(log: PathBuf) {
    std::panic::set_hook(Box::new(move |info| {
        self::log(info);
        eprintln!("homeroom: a fault of its own, at {}\n  details are in {}", place(info), log.display());
    }));
}

/// Writes a panic to the log, and nothing to the terminal.
pub fn log(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::force_capture();
    tracing::error!(place = place(info), thread = name, %backtrace, "panic: {}", message(info));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map(ToString::to_string).unwrap_or_default()
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
