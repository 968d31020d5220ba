//! The signals that ask the process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Shutdown, Tasks};

/// SIGTERM, SIGINT and SIGHUP (the terminal or the SSH connection is gone).
#[derive(Debug)]
pub struct Terminate {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Terminate {
    /// Takes the signals over from their default action.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup: signal(SignalKind::hangup())? })
    }

    /// Waits for one of them and says which. Cancel-safe.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            _ = self.hup.recv() => "SIGHUP",
        }
    }
}

/// Gives the shutdown signal when the process is asked to end.
///
/// # Errors
/// When the operating system refuses to hand over the signals.
pub fn shut_down_on_signal(tasks: &Tasks) -> io::Result<()> {
    let mut terminate = Terminate::listen()?;
    let shutdown: Shutdown = tasks.shutdown().clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            name = terminate.wait() => {
                tracing::info!(signal = name, "asked to end");
                shutdown.trigger();
            }
            () = shutdown.wait() => {}
        }
    });
    Ok(())
}
