//! Forgetting what nobody asks for any more, a few times a day.

use std::{sync::Arc, time::Duration};

use super::{Node, store};

/// How often. Each round is one wake-up.
const EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// How long the answer to a transaction is kept: longer than any client retries.
const TRANSACTIONS_MS: u64 = 14 * 24 * 60 * 60 * 1000;
/// How long a used authorisation code is remembered.
const CODES_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a replaced refresh token is remembered, so that its theft is noticed.
const SPENT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How long a client stays registered that nobody is signed in with.
const CLIENTS_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Batches of one round; what is left over is for the next one.
const BATCHES: usize = 1000;

/// Events added to the search index in one transaction: others get their turn between two of them.
const INDEXED: usize = 200;
/// How long to wait when the store fails.
const AFTER_FAILURE: Duration = Duration::from_secs(5 * 60);

/// Adds what was stored before there was a search index, and then ends. A restart goes on where it was.
fn catch_up(node: &Arc<Node>) {
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-search-index", async move {
        while !node.tasks.shutdown().is_triggered() {
            match node.store.write(|tx| store::search::catch_up(tx, INDEXED)).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return,
                Err(store::StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the search index is incomplete for now");
                    tokio::select! {
                        () = node.tasks.shutdown().wait() => return,
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                    }
                }
            }
        }
    });
}

/// Files of uploads that are younger may still be on their way to a row.
const UPLOAD: Duration = Duration::from_secs(60 * 60);

/// How often the media directory is read: what a crash leaves behind there is seldom and small.
const SWEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// When that was done last.
const SWEPT: &str = "media_swept_ms";

/// Removes media files that nothing knows of, now and then.
async fn sweep(node: &Node) -> store::Result<()> {
    let now_ms = i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX);
    let last_ms = node.store.read(|db| store::meta::last_ms(db, SWEPT)).await?;
    // A clock that was put back must not keep it from being done for ever.
    if last_ms.is_some_and(|last_ms| (0..SWEPT_MS).contains(&now_ms.saturating_sub(last_ms))) {
        return Ok(());
    }
    match node.media.sweep(UPLOAD).await {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "removed media files of uploads that were never finished"),
        Err(error) => {
            tracing::warn!(%error, "the media directory could not be swept");
            return Ok(());
        }
    }
    node.store.write(move |tx| store::meta::note_ms(tx, SWEPT, now_ms)).await
}

/// Starts the tasks. They end with the node.
pub(super) fn start(node: &Arc<Node>) {
    catch_up(node);
    let sweeping = Arc::clone(node);
    // Also here: a node that runs for an hour each day never comes to its first round.
    node.tasks.clone().spawn("node-media-sweep", async move {
        if let Err(error) = sweep(&sweeping).await {
            tracing::warn!(%error, "the media directory was not swept");
        }
    });
    let node = Arc::clone(node);
    let shutdown = node.tasks.shutdown().clone();
    node.tasks.clone().spawn("node-housekeeping", async move {
        loop {
            // Cancel-safe: both only wait. Not right at the start, when others want the disk.
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = round(&node).await {
                tracing::warn!(%error, "housekeeping stopped early; it goes on at the next round");
            }
        }
    });
}

async fn round(node: &Node) -> store::Result<()> {
    let before_ms = node.clock.now_ms().saturating_sub(TRANSACTIONS_MS);
    for _ in 0..BATCHES {
        if node.tasks.shutdown().is_triggered() || node.store.write(move |tx| store::transactions::expire(tx, before_ms)).await? == 0 {
            break;
        }
    }
    match node.media.expire(node.config.media_retention, node.config.server_name.as_str()).await {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "removed files that are kept no longer"),
        Err(error) => tracing::warn!(%error, "old files could not be removed"),
    }
    forget_strangers(node).await?;
    forget_sign_ins(node).await?;
    sweep(node).await
}

/// Users of other servers that one round forgets in one transaction.
const STRANGERS: usize = 500;

/// Device lists of users with whom no room is shared any more.
async fn forget_strangers(node: &Node) -> store::Result<()> {
    for _ in 0..BATCHES {
        let forgotten = node.store.write(|tx| store::remote_devices::forget_strangers(tx, STRANGERS));
        if node.tasks.shutdown().is_triggered() || forgotten.await? < STRANGERS {
            break;
        }
    }
    Ok(())
}

/// Codes, tokens and clients that are of no use to anybody any more.
async fn forget_sign_ins(node: &Node) -> store::Result<()> {
    let ago = |ms: u64| i64::try_from(node.clock.now_ms().saturating_sub(ms)).unwrap_or(i64::MAX);
    let horizon = store::oauth::Horizon { codes_ms: ago(CODES_MS), spent_ms: ago(SPENT_MS), clients_ms: ago(CLIENTS_MS) };
    let now_ms = ago(0);
    for _ in 0..BATCHES {
        let forgotten =
            node.store.write(move |tx| Ok::<_, store::StoreError>(store::oauth::expire(tx, horizon)? + store::openid::expire(tx, now_ms)?));
        if node.tasks.shutdown().is_triggered() || forgotten.await? == 0 {
            break;
        }
    }
    Ok(())
}
