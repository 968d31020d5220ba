//! The tasks that carry transactions to application services, one for each.
//!
//! One transaction at a time: it is written down as it will be sent, and sent until it is taken (Application Service API,
//! "Pushing events"). A service that cannot be reached is tried again with growing pauses, and at once when it is heard of.

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{
    Service,
    http::Question,
    transaction::{self, Source},
};
use crate::homeserver::{
    Node,
    store::{self, StoreError, appservices},
};

/// First pause after a failure; each further one doubles it.
const FIRST_PAUSE_MS: u64 = 1000;
/// Longest pause.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1000;
/// How long a service may take over a transaction.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait when the store fails.
const AFTER_STORE_FAILURE: Duration = Duration::from_secs(10);

/// Starts the tasks. They end with the node.
pub fn start(node: &Arc<Node>) {
    for (place, service) in node.appservices.all().iter().enumerate().filter(|(_, service)| service.url.is_some()) {
        let (node, service) = (Arc::clone(node), Arc::clone(service));
        node.tasks.clone().spawn("node-appservice", async move { run(&node, place, &service).await });
    }
}

/// What came of a step.
enum Step {
    Sent,
    Idle,
    /// The node stops. What was under way is sent again after the next start, with the same ID.
    Stopping,
    /// Not taken; how often now, and why.
    Failed(i64, String),
}

async fn run(node: &Arc<Node>, place: usize, service: &Arc<Service>) {
    let shutdown = node.tasks.shutdown().clone();
    let (mut news, mut live) = (node.notifier.subscribe_to_all(), node.notifier.subscribe_to_live());
    // What somebody typed before nobody needs to know any more.
    let mut serial = node.sync.live.moment().serial;
    loop {
        news.mark_unchanged();
        live.mark_unchanged();
        let pause = match step(node, place, service, &mut serial).await {
            Ok(Step::Sent) => continue,
            Ok(Step::Idle) => None,
            Ok(Step::Stopping) => return,
            Ok(Step::Failed(failures, why)) => {
                let pause = pause_after(node, failures);
                tracing::warn!(
                    service = service.id,
                    why,
                    failures,
                    pause_ms = pause.as_millis(),
                    "an application service took no transaction"
                );
                Some(pause)
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, service = service.id, "nothing could be sent to an application service");
                Some(AFTER_STORE_FAILURE)
            }
        };
        // Cancel-safe: all of them only wait, and a watch keeps its value.
        match pause {
            None => tokio::select! {
                () = shutdown.wait() => return,
                changed = news.changed() => if changed.is_err() { return },
                changed = live.changed() => if changed.is_err() { return },
            },
            Some(pause) => tokio::select! {
                () = shutdown.wait() => return,
                () = service.heard_of.notified() => {}
                () = tokio::time::sleep(pause) => {}
            },
        }
    }
}

fn pause_after(node: &Node, failures: i64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).clamp(0, 20)).unwrap_or(20);
    let pause_ms = FIRST_PAUSE_MS.saturating_mul(1 << doublings).min(LONGEST_PAUSE_MS);
    let mut byte = [0_u8];
    node.randomness.fill(&mut byte);
    Duration::from_millis(pause_ms + pause_ms * u64::from(byte.first().copied().unwrap_or_default()) / 1024)
}

async fn step(node: &Arc<Node>, place: usize, service: &Arc<Service>, serial: &mut u64) -> store::Result<Step> {
    let id = service.id.clone();
    let mut waiting = node.store.read(move |db| appservices::get(db, &id)).await?;
    if waiting.body.is_none() {
        let (of, services, moment) = (Arc::clone(service), Arc::clone(&node.appservices), node.sync.live.moment());
        let (after, now_ms, at) = (*serial, node.clock.now_ms(), waiting.clone());
        let built = node.store.read(move |db| {
            let source = Source { services: &services, place, service: &of, serial: after, moment: &moment, now_ms };
            transaction::build(db, &source, &at)
        });
        let Some(built) = built.await? else { return Ok(Step::Idle) };
        let (id, body, progress) = (service.id.clone(), built.body.clone(), built.progress);
        node.store.write(move |tx| appservices::begin(tx, &id, &body, &progress)).await?;
        *serial = built.serial;
        waiting.body = Some(built.body);
    }
    let txn_id = waiting.txn_id.to_string();
    let question = Question {
        method: Method::PUT,
        path: &["_matrix", "app", "v1", "transactions", &txn_id],
        old_path: Some(&["transactions", &txn_id]),
        query: &[],
        body: waiting.body.as_deref(),
        timeout: TIMEOUT,
    };
    // A service may take its time, but the end of the node does not wait for it.
    let asked = tokio::select! {
        () = node.tasks.shutdown().wait() => return Ok(Step::Stopping),
        asked = node.appservices.http.ask(service, &question) => asked,
    };
    let why = match asked {
        Ok(answer) if answer.is_success() => {
            let id = service.id.clone();
            node.store.write(move |tx| appservices::done(tx, &id)).await?;
            return Ok(Step::Sent);
        }
        Ok(answer) => format!("it answered {}", answer.status),
        Err(error) => error.to_string(),
    };
    let (id, reason) = (service.id.clone(), why.clone());
    node.store.write(move |tx| appservices::failed(tx, &id, &reason)).await?;
    Ok(Step::Failed(waiting.failures.saturating_add(1), why))
}
