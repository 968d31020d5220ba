//! What happens when a part of the program panics: it is logged with its place, and a short message names the log file.
//!
//! A screen lays its own hook over this one, which gives the terminal back before the message is printed.

use std::{panic::PanicHookInfo, path::PathBuf};

/// Replaces the process's panic hook. The message names `log`.
pub fn install(log: PathBuf) {
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!(place, thread = name, backtrace = %std::backtrace::Backtrace::force_capture(), "panic: {}", message(info));
        eprintln!("homeroom: stopping because of a fault of its own, at {place}\n  details are in {}", log.display());
    }));
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
