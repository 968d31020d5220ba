//! What happens when a part of the program panics: it is logged with its place, and once the screen is the shell's
//! again, a short message names the log file.
//!
//! A screen registers with `Panics::before_message` how to give the terminal back; that runs first.

use std::{
    panic::PanicHookInfo,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

type Restore = Arc<dyn Fn() + Send + Sync>;

/// What to do before anything is printed. Clones share the list.
#[derive(Clone, Default)]
pub struct Panics(Arc<Mutex<Vec<Restore>>>);

impl std::fmt::Debug for Panics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Panics")
    }
}

impl Panics {
    /// Makes this list the process's panic hook. The message names `log`.
    pub fn install(log: PathBuf) -> Self {
        let panics = Self::default();
        let list = panics.clone();
        std::panic::set_hook(Box::new(move |info| list.report(info, &log)));
        panics
    }

    /// Registers how to give the terminal back. Must not panic and may run more than once.
    pub fn before_message(&self, restore: impl Fn() + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(restore));
    }

    fn report(&self, info: &PanicHookInfo<'_>, log: &std::path::Path) {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for restore in list.iter().rev() {
            restore();
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let what = message(info);
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(place, thread, backtrace = %std::backtrace::Backtrace::force_capture(), "panic: {what}");
        eprintln!("homeroom: stopping because of a fault of its own, at {place}\n  details are in {}", log.display());
    }
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
