//! The task that carries notifications to push gateways.
//!
//! Each pusher sends one notification at a time, oldest first; several pushers send at once, but few of one user, so that
//! nobody's slow gateways keep others waiting. A gateway that fails is tried again with growing pauses, over a restart as
//! well; what is older than a day by then is passed over.

mod turns;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Map, Value};

use self::turns::Turns;
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
    let mut turns = Turns::default();
    let mut begun = false;
    loop {
        news.mark_unchanged();
        for user in node.notifier.take_touched() {
            turns.ask(user);
        }
        let pause = match look(node, &mut turns, &mut begun).await {
            Ok(next) => next.unwrap_or(IDLE),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "pushers could not be read");
                AFTER_STORE_FAILURE
            }
        };
        sending.extend(turns.take(AT_ONCE.saturating_sub(sending.len())).into_iter().map(|pusher| step(node, pusher)));
        // Cancel-safe: the first and the last only wait, a watch keeps its value, and a set of futures keeps what it has.
        tokio::select! {
            () = shutdown.wait() => return,
            Some(id) = sending.next(), if !sending.is_empty() => turns.done(&id),
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Looks at those who have asked: what their pushers have to send. How long until the next one that failed tries again.
/// An error leaves everything to be asked again.
async fn look(node: &Node, turns: &mut Turns, begun: &mut bool) -> store::Result<Option<Duration>> {
    let (now_ms, all) = (now(node), !*begun);
    let (more, next) = node
        .store
        .read(move |db| {
            let users = if all { pushers::owners(db)? } else { pushers::rested(db, now_ms)? };
            Ok::<_, StoreError>((users, pushers::next_retry(db, now_ms)?))
        })
        .await?;
    *begun = true;
    for user in more {
        turns.ask(user);
    }
    let asked = turns.asked();
    if !asked.is_empty() {
        let one = move |db: &store::Reader<'_>, user| Ok::<_, StoreError>((user, pushers::due(db, user, now_ms)?));
        let found = node.store.read(move |db| asked.into_iter().map(|user| one(db, user)).collect::<store::Result<Vec<_>>>());
        turns.found(found.await?);
    }
    let wait = |at: i64| Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs());
    Ok(next.map(wait))
}

fn now(node: &Node) -> i64 {
    i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX)
}

/// Sends the next thing of a pusher, and writes down how that went.
async fn step(node: &Node, pusher: Pusher) -> PusherId {
    let Pusher { id, failures, .. } = pusher;
    if let Err(error) = try_step(node, &id).await {
        tracing::warn!(%error, app_id = id.app_id, "a pusher could not be served");
        // Not at once again: what is broken now is broken in a moment.
        if fail(node, &id, failures, error.to_string()).await.is_err() {
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

async fn try_step(node: &Node, id: &PusherId) -> store::Result<()> {
    let (of, outbound, now_ms) = (id.clone(), node.outbound.clone(), now(node));
    // Read anew: while it waited for its turn its user may have changed or removed it.
    let found = node.store.read(move |db| {
        let Some(pusher) = pushers::get(db, &of)? else { return Ok::<_, StoreError>(None) };
        let target = read_target(&pusher, &outbound);
        let next = match &target {
            Ok(target) => next(db, &pusher, target, now_ms)?,
            Err(why) => Next::Broken(why),
        };
        Ok(Some((pusher, target, next)))
    });
    let Some((pusher, target, next)) = found.await? else { return Ok(()) };
    let pusher = &pusher;
    let (payload, up_to, badge) = match next {
        Next::Send(payload, up_to, badge) => (payload, up_to, badge),
        Next::Skip(up_to, badge) => return settle(node, pusher, up_to, badge).await,
        Next::Broken(why) => return fail(node, id, pusher.failures, why.to_owned()).await,
    };
    let Ok(target) = target else { return Ok(()) };
    let body = payload.to_string().into_bytes();
    let answer = match node.outbound.post_json(&target.url, body, gateway::ANSWER_BYTES).await {
        Ok(answer) if (200..300).contains(&answer.status) => answer,
        Ok(answer) => return fail(node, id, pusher.failures, format!("the gateway answered {}", answer.status)).await,
        Err(error) => return fail(node, id, pusher.failures, error.to_string()).await,
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
    let (id, now_ms) = (pusher.id.clone(), now(node));
    node.store.write(move |tx| pushers::sent(tx, &id, up_to, badge, now_ms)).await
}

async fn fail(node: &Node, id: &PusherId, failures: i64, why: String) -> store::Result<()> {
    let pause = FIRST_PAUSE_MS.saturating_mul(1 << failures.clamp(0, 20)).min(LONGEST_PAUSE_MS);
    // Pushers of one gateway must not all come back at the same moment.
    let mut byte = [0_u8];
    node.randomness.fill(&mut byte);
    let pause = pause + pause * i64::from(byte.first().copied().unwrap_or_default()) / 1024;
    let retry_ms = now(node).saturating_add(pause);
    tracing::warn!(app_id = id.app_id, why, attempts = failures + 1, pause_ms = pause, "a push gateway could not be reached");
    let (id, now_ms) = (id.clone(), now(node));
    node.store.write(move |tx| pushers::failed(tx, &id, &why, retry_ms, now_ms)).await
}
