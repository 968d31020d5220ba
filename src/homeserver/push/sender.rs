//! The task that carries notifications to push gateways.
//!
//! Each pusher sends one notification at a time, oldest first; several pushers send at once. A gateway that fails is tried
//! again with growing pauses, over a restart as well; what is older than a day by then is passed over.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Map, Value};

use super::gateway::{self, Rejected, Target};
use crate::homeserver::{
    Node,
    store::{
        self, StoreError,
        pushers::{self, Pusher, PusherId},
    },
    types::StreamPos,
};

/// Pushers that send at one time.
const AT_ONCE: usize = 16;
/// First pause after a failure; each further one doubles it.
const FIRST_PAUSE_MS: i64 = 1000;
/// Longest pause.
const LONGEST_PAUSE_MS: i64 = 60 * 60 * 1000;
/// What is older than this is not worth a notification any more.
const STALE_MS: i64 = 24 * 60 * 60 * 1000;
/// How long to wait when the store does not even take the failure.
const AFTER_STORE_FAILURE: Duration = Duration::from_secs(10);
/// How long to wait when there is nothing to wait for but the news.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Starts the task. It ends with the node.
pub fn start(node: &Arc<Node>) {
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-pushers", async move { run(&node).await });
}

async fn run(node: &Node) {
    let shutdown = node.tasks.shutdown().clone();
    let mut news = node.notifier.subscribe_to_all();
    let mut sending = FuturesUnordered::new();
    let mut busy: HashSet<PusherId> = HashSet::new();
    loop {
        news.mark_unchanged();
        let mut pause = IDLE;
        match due(node).await {
            Ok((due, next)) => {
                for pusher in due {
                    if sending.len() < AT_ONCE && busy.insert(pusher.id.clone()) {
                        sending.push(step(node, pusher));
                    }
                }
                pause = next.unwrap_or(IDLE);
            }
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "pushers could not be read"),
        }
        // Cancel-safe: the first and the last only wait, a watch keeps its value, and a set of futures keeps what it has.
        tokio::select! {
            () = shutdown.wait() => return,
            Some(id) = sending.next(), if !sending.is_empty() => { busy.remove(&id); }
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Pushers with something to send, and how long until the next one that failed tries again.
async fn due(node: &Node) -> store::Result<(Vec<Pusher>, Option<Duration>)> {
    let now_ms = now(node);
    let (due, next) =
        node.store.read(move |db| Ok::<_, StoreError>((pushers::due(db, now_ms, AT_ONCE * 4)?, pushers::next_retry(db, now_ms)?))).await?;
    let wait = |at: i64| Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs());
    Ok((due, next.map(wait)))
}

fn now(node: &Node) -> i64 {
    i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX)
}

/// Sends the next thing of a pusher, and writes down how that went.
async fn step(node: &Node, pusher: Pusher) -> PusherId {
    let id = pusher.id.clone();
    if let Err(error) = try_step(node, &pusher).await {
        tracing::warn!(%error, app_id = pusher.id.app_id, "a pusher could not be served");
        // Not at once again: what is broken now is broken in a moment.
        if fail(node, &pusher, error.to_string()).await.is_err() {
            tokio::time::sleep(AFTER_STORE_FAILURE).await;
        }
    }
    id
}

/// What there is to send.
enum Next {
    /// This; then the pusher stands here and the device shows this number.
    Send(Value, StreamPos, i64),
    /// Nothing of interest up to here.
    Skip(StreamPos, i64),
    /// The pusher cannot be read.
    Broken(&'static str),
}

async fn try_step(node: &Node, pusher: &Pusher) -> store::Result<()> {
    let (of, outbound, now_ms) = (pusher.clone(), node.outbound.clone(), now(node));
    let target = read_target(pusher, &outbound);
    let for_payload = target.clone();
    let next = node.store.read(move |db| match &for_payload {
        Ok(target) => next(db, &of, target, now_ms),
        Err(why) => Ok(Next::Broken(why)),
    });
    let (payload, up_to, badge) = match next.await? {
        Next::Send(payload, up_to, badge) => (payload, up_to, badge),
        Next::Skip(up_to, badge) => return settle(node, pusher, up_to, badge).await,
        Next::Broken(why) => return fail(node, pusher, why.to_owned()).await,
    };
    let Ok(target) = target else { return Ok(()) };
    let body = payload.to_string().into_bytes();
    let answer = match node.outbound.post_json(&target.url, body, gateway::ANSWER_BYTES).await {
        Ok(answer) if (200..300).contains(&answer.status) => answer,
        Ok(answer) => return fail(node, pusher, format!("the gateway answered {}", answer.status)).await,
        Err(error) => return fail(node, pusher, error.to_string()).await,
    };
    let rejected: Rejected = serde_json::from_slice(&answer.body).unwrap_or_default();
    if rejected.rejected.contains(&pusher.id.pushkey) {
        tracing::info!(app_id = pusher.id.app_id, "the push gateway does not know this pusher any more; it is removed");
        let id = pusher.id.clone();
        return node.store.write(move |tx| pushers::delete(tx, &id).map(drop)).await;
    }
    settle(node, pusher, up_to, badge).await
}

fn read_target(pusher: &Pusher, outbound: &crate::homeserver::outbound::Outbound) -> Result<Target, &'static str> {
    let json: Map<String, Value> = serde_json::from_str(&pusher.json).map_err(|_| "the pusher is damaged")?;
    let data = json.get("data").and_then(Value::as_object).ok_or("the pusher has no data")?;
    Target::read(data, outbound)
}

fn next(db: &store::Reader<'_>, pusher: &Pusher, target: &Target, now_ms: i64) -> store::Result<Next> {
    let badge = pushers::badge(db, pusher.id.user)?;
    let Some(notification) = pushers::next_notification(db, pusher.id.user, pusher.sent_pos)? else {
        return Ok(if badge == pusher.badge {
            Next::Skip(pusher.sent_pos, badge)
        } else {
            Next::Send(gateway::count(pusher, target, badge), pusher.sent_pos, badge)
        });
    };
    let pos = notification.pos;
    // Not the badge: if nothing else is to be sent, the device has yet to be told of it.
    if notification.read || notification.ts_ms < now_ms.saturating_sub(STALE_MS) {
        return Ok(Next::Skip(pos, pusher.badge));
    }
    Ok(Next::Send(gateway::event(db, pusher, target, &notification)?, pos, badge))
}

async fn settle(node: &Node, pusher: &Pusher, up_to: StreamPos, badge: i64) -> store::Result<()> {
    let id = pusher.id.clone();
    node.store.write(move |tx| pushers::sent(tx, &id, up_to, badge)).await
}

async fn fail(node: &Node, pusher: &Pusher, why: String) -> store::Result<()> {
    let pause = FIRST_PAUSE_MS.saturating_mul(1 << pusher.failures.clamp(0, 20)).min(LONGEST_PAUSE_MS);
    // Pushers of one gateway must not all come back at the same moment.
    let mut byte = [0_u8];
    node.randomness.fill(&mut byte);
    let pause = pause + pause * i64::from(byte.first().copied().unwrap_or_default()) / 1024;
    let retry_ms = now(node).saturating_add(pause);
    tracing::warn!(app_id = pusher.id.app_id, why, attempts = pusher.failures + 1, pause_ms = pause, "a push gateway could not be reached");
    let id = pusher.id.clone();
    node.store.write(move |tx| pushers::failed(tx, &id, &why, retry_ms)).await
}
