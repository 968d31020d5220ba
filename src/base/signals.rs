//! The signals that ask the process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Shutdown, Tasks};

/// What a hang-up (the terminal or the SSH connection is gone) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// The end: nobody can see the screen any more.
    Ends,
    /// Nothing: the program serves others.
    Ignored,
}

/// The signals, taken over from their default action.
#[derive(Debug)]
struct Terminate {
    term: Signal,
    int: Signal,
    hup: Signal,
    hang_up: HangUp,
}

impl Terminate {
    fn listen(hang_up: HangUp) -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            hang_up,
        })
    }

    /// Waits for one of them and says which. Cancel-safe.
    async fn wait(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.int.recv() => return "SIGINT",
                _ = self.hup.recv() => if self.hang_up == HangUp::Ends { return "SIGHUP" },
            }
        }
    }
}

/// Gives the shutdown signal of `tasks` when the process is asked to end.
///
/// # Errors
/// When the operating system refuses to hand over the signals.
pub fn shut_down_on_signal(tasks: &Tasks, hang_up: HangUp) -> io::Result<()> {
    let mut terminate = Terminate::listen(hang_up)?;
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
