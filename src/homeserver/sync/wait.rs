//! Waiting for news.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::homeserver::{Node, types::UserNid};

/// Nobody is kept waiting longer, whatever they ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// Calls `attempt` until it has news, the timeout is over or the node stops, and returns its last answer.
///
/// `attempt` gives its answer and whether there is news in it. It is called at first and once per wake-up, so a waiter for whom
/// nothing happens costs nothing.
///
/// # Errors
///
/// Those of `attempt`.
pub(super) async fn for_news<T, E, F, A>(node: &Node, user: UserNid, timeout: Duration, mut attempt: A) -> Result<T, E>
where
    F: Future<Output = Result<(T, bool), E>>,
    A: FnMut() -> F,
{
    let deadline = Instant::now() + timeout.min(LONGEST);
    // Before the first read: whatever is committed from here on wakes us.
    let mut wake = node.notifier.subscribe(user);
    loop {
        let (answer, news) = attempt().await?;
        if news || timeout.is_zero() {
            return Ok(answer);
        }
        tokio::select! {
            changed = wake.changed() => {
                if changed.is_err() {
                    return Ok(answer);
                }
            }
            () = tokio::time::sleep_until(deadline) => return Ok(answer),
            () = node.tasks.shutdown().wait() => return Ok(answer),
        }
    }
}
