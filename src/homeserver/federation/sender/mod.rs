//! What goes to other servers: events and EDUs, in order, each transaction until it is answered.
//!
//! Queued in the transaction that makes them (`events::hook` for events), so that a restart loses nothing. One task carries
//! it: a server has one transaction under way, many servers are sent to at once. A server that does not answer is tried again
//! with growing pauses, and at once when it speaks to us.

mod carrier;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Notify;

pub use self::carrier::{Carrier, Failure, Refusals};
pub use crate::homeserver::store::outbox::{OutgoingEdu, OutgoingPdu, queue_edu, queue_pdu};
use crate::homeserver::{
    Node,
    store::{
        self, StoreError,
        outbox::{self, Transaction, Waiting},
        servers::ServerNid,
    },
};

/// Servers that are sent to at one time.
const AT_ONCE: usize = 64;
/// First pause after a failure; each further one doubles it.
const FIRST_PAUSE_MS: i64 = 2_000;
/// Longest pause. A server that is back before that and has something to say ends it.
const LONGEST_PAUSE_MS: i64 = 8 * 60 * 60 * 1000;
/// A server that has not answered for so long is away: when it comes back, it gets the newest of each room.
const AWAY_MS: i64 = 60 * 60 * 1000;
/// How long to wait when nothing waits for a server.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// How long to wait after a failure of the store: what is broken now is broken in a moment.
const STORE_PAUSE: Duration = Duration::from_secs(10);
/// How long to wait at most when something does: a machine that slept has other clocks than the one that says what time it is.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Longest error that is kept.
const MAX_ERROR: usize = 300;

/// The sender as others see it.
#[derive(Debug, Default)]
pub struct Sender {
    /// Servers that did not answer lately.
    silent: Mutex<HashSet<OwnedServerName>>,
    /// Those of them that have spoken to us since.
    heard: Mutex<HashSet<OwnedServerName>>,
    /// Who did not answer before the start is known.
    begun: AtomicBool,
    look: Notify,
}

impl Sender {
    /// A server has spoken to us: it is up, and what waits for it need not wait any longer.
    pub fn heard_from(&self, server: &ServerName) {
        // Before that it may be one of them.
        if self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(server) || !self.begun.load(Ordering::SeqCst) {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
            self.look.notify_one();
        }
    }

    /// Looks at the clock and the queues now.
    pub fn look(&self) {
        self.look.notify_one();
    }

    fn is_silent(&self, server: &ServerName) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
    }

    /// A server that spoke while its failure was being stored has not been missed: what was stored is undone.
    fn failure_is_stored(&self, server: &ServerName) {
        if !self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains(server) {
            self.heard_again([server.to_owned()]);
            self.look.notify_one();
        }
    }

    fn heard_again(&self, servers: impl IntoIterator<Item = OwnedServerName>) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(servers);
    }

    fn take_heard(&self) -> HashSet<OwnedServerName> {
        std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the task, on a node that federates. It ends with the node.
pub fn start(node: &Arc<Node>) {
    if node.federation.is_enabled() {
        start_with(node, Arc::new(node.federation.client.clone()));
    }
}

/// Starts the task with some way to other servers.
pub fn start_with(node: &Arc<Node>, carrier: Arc<dyn Carrier>) {
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-federation-sender", async move {
        match node.store.read(outbox::silent).await {
            Ok(silent) => silent.iter().for_each(|server| node.federation.sender.is_silent(server)),
            Err(error) => tracing::warn!(%error, "servers that did not answer before the start are tried when their time comes"),
        }
        node.federation.sender.begun.store(true, Ordering::SeqCst);
        run(&node, carrier.as_ref()).await;
    });
}

async fn run(node: &Node, carrier: &dyn Carrier) {
    let shutdown = node.tasks.shutdown().clone();
    let sender = &node.federation.sender;
    let mut sending = FuturesUnordered::new();
    let mut busy: HashSet<ServerNid> = HashSet::new();
    let mut recovered = node.federation.health.recoveries();
    loop {
        let heard = sender.take_heard();
        let pause = match due(node, heard.clone()).await {
            Ok((due, next)) => {
                for server in due {
                    if sending.len() < AT_ONCE && busy.insert(server.nid) {
                        sending.push(step(node, carrier, server));
                    }
                }
                next.unwrap_or(IDLE)
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "what goes to other servers could not be read");
                sender.heard_again(heard);
                STORE_PAUSE
            }
        };
        // Cancel-safe: a notification that comes while nobody waits is kept, and a set of futures keeps what it has.
        tokio::select! {
            () = shutdown.wait() => return,
            Some(server) = sending.next(), if !sending.is_empty() => { busy.remove(&server); }
            () = node.notifier.outgoing().notified() => {}
            () = sender.look.notified() => {}
            // It has answered another part of the node. One that is missed is tried when its time comes.
            Ok(server) = recovered.recv() => sender.heard_from(&server),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Servers that may be sent to, and how long until the next one.
async fn due(node: &Node, heard: HashSet<OwnedServerName>) -> store::Result<(Vec<Waiting>, Option<Duration>)> {
    if !heard.is_empty() {
        let back = node.store.write(move |tx| heard.iter().try_for_each(|server| outbox::heard_from(tx, server).map(drop)));
        back.await?;
    }
    let now_ms = now(node);
    let look = node.store.read(move |db| Ok::<_, StoreError>((outbox::due(db, now_ms, AT_ONCE * 2)?, outbox::next_due(db, now_ms)?)));
    let (due, next) = look.await?;
    let wait = |at: i64| Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs()).min(LOOK_AGAIN);
    Ok((due, next.map(wait)))
}

fn now(node: &Node) -> i64 {
    i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX)
}

/// Sends a server what waits for it, one transaction.
async fn step(node: &Node, carrier: &dyn Carrier, server: Waiting) -> ServerNid {
    let nid = server.nid;
    match try_step(node, carrier, server).await {
        Ok(()) | Err(StoreError::Closed) => {}
        Err(error) => {
            tracing::warn!(%error, "what goes to another server could not be read or written");
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
    nid
}

async fn try_step(node: &Node, carrier: &dyn Carrier, server: Waiting) -> store::Result<()> {
    let (nid, now_ms) = (server.nid, now(node));
    if !node.federation.client.has_to_do_with(&server.name) {
        tracing::debug!(peer = %server.name, "nothing is sent to a server that the owner blocks");
        return node.store.write(move |tx| outbox::discard(tx, nid)).await;
    }
    let new_id = format!("{now_ms}-{}", node.randomness.alphanumeric(10));
    let transaction = node.store.write(move |tx| outbox::transaction(tx, nid, &new_id, now_ms));
    let Some(transaction) = transaction.await? else { return Ok(()) };
    let (why, after) = match carrier.carry(&node.config.server_name, &server.name, &transaction).await {
        Ok(refusals) => {
            for (event_id, why) in refusals {
                tracing::warn!(peer = %server.name, event_id, why, "another server did not take an event");
            }
            return answered(node, nid).await;
        }
        Err(Failure::Refused(why)) => match in_parts(node, carrier, &server.name, &transaction, why).await {
            Ok(()) => return answered(node, nid).await,
            Err(later) => later,
        },
        Err(Failure::Later { why, after }) => (why, after),
    };

    let (retry_ms, now_ms) = (retry_ms(node, server.failures, after), now(node));
    tracing::info!(peer = %server.name, why, attempts = server.failures + 1, pause_ms = retry_ms - now_ms, "a server was not reached");
    let away = server.failing_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= AWAY_MS);
    let why: String = why.chars().take(MAX_ERROR).collect();
    node.federation.sender.is_silent(&server.name);
    node.store.write(move |tx| outbox::failed(tx, nid, &why, now_ms, retry_ms, away)).await?;
    node.federation.sender.failure_is_stored(&server.name);
    Ok(())
}

/// Sends what a server refuses as a whole in parts, so that one bad event does not take the others with it. What it refuses
/// alone is dropped: what is behind it could never go. Fails when the server is to be left alone first; all of it is sent again
/// then, which does no harm.
async fn in_parts(
    node: &Node,
    carrier: &dyn Carrier,
    to: &ServerName,
    transaction: &Transaction,
    why: String,
) -> Result<(), (String, Option<Duration>)> {
    let mut left: VecDeque<Part> = pieces(&transaction.pdus, &transaction.edus).into();
    if left.is_empty() {
        let (pdus, edus) = (transaction.pdus.len(), transaction.edus.len());
        tracing::warn!(peer = %to, why, pdus, edus, "another server refuses a transaction; it is dropped");
        return Ok(());
    }
    let mut number = 0_usize;
    while let Some((pdus, edus)) = left.pop_front() {
        let id = format!("{}-{number}", transaction.id);
        number += 1;
        let part = Transaction { id, origin_server_ts: transaction.origin_server_ts, pdus, edus };
        match carrier.carry(&node.config.server_name, to, &part).await {
            Ok(refusals) => {
                for (event_id, why) in refusals {
                    tracing::warn!(peer = %to, event_id, why, "another server did not take an event");
                }
            }
            Err(Failure::Refused(why)) => {
                let smaller = pieces(&part.pdus, &part.edus);
                if smaller.is_empty() {
                    let (pdus, edus) = (part.pdus.len(), part.edus.len());
                    tracing::warn!(peer = %to, why, pdus, edus, "another server refuses a part of a transaction; it is dropped");
                }
                smaller.into_iter().rev().for_each(|part| left.push_front(part));
            }
            Err(Failure::Later { why, after }) => return Err((why, after)),
        }
    }
    Ok(())
}

/// PDUs and EDUs that go together.
type Part = (Vec<String>, Vec<(String, String)>);

/// What is tried where these are refused together: each event by itself, EDUs by halves, since most of them are good. Nothing
/// where there is only one.
fn pieces(pdus: &[String], edus: &[(String, String)]) -> Vec<Part> {
    if pdus.len() + edus.len() < 2 {
        return Vec::new();
    }
    let mut pieces: Vec<Part> = pdus.iter().map(|pdu| (vec![pdu.clone()], Vec::new())).collect();
    if pdus.is_empty() {
        let (first, second) = edus.split_at(edus.len() / 2);
        pieces.extend([(Vec::new(), first.to_vec()), (Vec::new(), second.to_vec())]);
    } else if !edus.is_empty() {
        pieces.push((Vec::new(), edus.to_vec()));
    }
    pieces
}

async fn answered(node: &Node, server: ServerNid) -> store::Result<()> {
    let now_ms = now(node);
    node.store.write(move |tx| outbox::answered(tx, server, now_ms).map(drop)).await
}

/// When to try again: exponential, with jitter so that servers which failed together do not come back together.
fn retry_ms(node: &Node, failures: i64, after: Option<Duration>) -> i64 {
    let full = FIRST_PAUSE_MS.saturating_mul(1 << failures.clamp(0, 20)).min(LONGEST_PAUSE_MS);
    let mut bytes = [0_u8; 2];
    node.randomness.fill(&mut bytes);
    let jittered = full / 2 + full / 2 * i64::from(u16::from_le_bytes(bytes)) / i64::from(u16::MAX);
    let asked = after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX)).min(LONGEST_PAUSE_MS);
    now(node).saturating_add(jittered.max(asked))
}
