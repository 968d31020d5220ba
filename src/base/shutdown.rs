//! One signal that everything stops on.

use tokio_util::sync::CancellationToken;

/// Tells tasks to stop. Clones share the signal; a child stops with its parent, not the other way round.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that has not been given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal for a part, which can be stopped alone and stops with the whole.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Gives the signal.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// True once given.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the signal. Cancel-safe.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}
