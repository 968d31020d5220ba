//! Events that are sent later, unless somebody says otherwise (MSC4140): how a call's member leaves it when their client dies.
//!
//! They are on disk: a restart loses none, and sends at once what came due meanwhile.

use std::{sync::Arc, time::Duration};

use ruma::RoomId;

use super::{Ctx, Draft, EventError, Result, Txn, append, content_from_json, not_suspended, policy, room};
use crate::homeserver::{
    Node,
    rooms::build::{MAX_EVENT_BYTES, MAX_FIELD_BYTES},
    store::{
        StoreError, Tx,
        delayed::{self, Delayed},
        members, rooms, users,
    },
    types::{Requester, RoomHandle},
};

/// Delayed events of one user.
const MAX_PER_USER: i64 = 100;
/// Events sent between two looks at the clock.
const BATCH: usize = 32;
/// How long to wait when nothing is due; something new ends the wait.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// How long to wait after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What becomes of a delayed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Its time begins again.
    Restart,
    /// It is never sent.
    Cancel,
    /// It is sent now.
    Send,
}

/// A delayed event to be.
#[derive(Debug)]
pub struct NewDelayed {
    /// Its ID, not to be guessed.
    pub delay_id: String,
    /// Event type.
    pub kind: String,
    /// State key of a state event.
    pub state_key: Option<String>,
    /// JSON.
    pub content: String,
    /// The client's transaction ID.
    pub txn_id: Option<String>,
    /// How long, in milliseconds.
    pub delay_ms: u64,
}

/// Why no event is delayed.
#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    /// The user has too many.
    #[error("there are too many delayed events")]
    TooMany,
    /// As for any event.
    #[error(transparent)]
    Event(#[from] EventError),
}

impl From<StoreError> for DelayError {
    fn from(error: StoreError) -> Self {
        Self::Event(error.into())
    }
}

/// Keeps an event for later. Whether it may be sent is decided then; who is not in the room is refused now.
///
/// # Errors
///
/// [`DelayError`].
pub fn schedule(tx: &mut Tx<'_>, ctx: &Ctx, who: &Requester, room_id: &RoomId, new: NewDelayed) -> Result<String, DelayError> {
    let room = room(&tx.reader(), room_id)?;
    if members::get(&tx.reader(), room.nid, who.user)?.is_none_or(|member| member.membership != "join") {
        return Err(EventError::Forbidden("You are not in this room".into()).into());
    }
    not_suspended(&tx.reader(), who.user)?;
    check_size(&new)?;
    content_from_json(&new.content)?;
    if delayed::count(&tx.reader(), who.user)? >= MAX_PER_USER {
        return Err(DelayError::TooMany);
    }
    delayed::add(
        tx,
        &Delayed {
            delay_id: new.delay_id.clone(),
            user: who.user,
            device_id: who.device_id.to_string(),
            room: room.nid,
            kind: new.kind,
            state_key: new.state_key,
            content: new.content,
            txn_id: new.txn_id,
            delay_ms: i64::try_from(new.delay_ms).unwrap_or(i64::MAX / 4),
            since_ms: i64::try_from(ctx.now_ms).unwrap_or(i64::MAX / 4),
        },
    )?;
    Ok(new.delay_id)
}

/// What could never be sent is not kept either.
fn check_size(new: &NewDelayed) -> Result<()> {
    let field = |text: &str| text.len() <= MAX_FIELD_BYTES;
    if !field(&new.kind) || !new.state_key.as_deref().is_none_or(field) || !new.txn_id.as_deref().is_none_or(field) {
        return Err(EventError::TooLarge(format!("a type, state key or transaction ID is longer than {MAX_FIELD_BYTES} bytes")));
    }
    if new.content.len() > MAX_EVENT_BYTES {
        return Err(EventError::TooLarge(format!("the content is larger than {MAX_EVENT_BYTES} bytes")));
    }
    Ok(())
}

/// Does something with a delayed event.
///
/// # Errors
///
/// [`EventError::NotFound`] for one that is not waiting (any more); what sending gives, and then it keeps waiting.
pub fn act(tx: &mut Tx<'_>, ctx: &Ctx, delay_id: &str, action: Action) -> Result<()> {
    let Some(found) = delayed::get(&tx.reader(), delay_id)? else {
        return Err(EventError::NotFound("There is no such delayed event".into()));
    };
    match action {
        Action::Cancel => Ok(delayed::delete(tx, delay_id)?),
        Action::Restart => Ok(delayed::restart(tx, delay_id, i64::try_from(ctx.now_ms).unwrap_or(i64::MAX))?),
        Action::Send => send(tx, ctx, &found),
    }
}

fn send(tx: &mut Tx<'_>, ctx: &Ctx, event: &Delayed) -> Result<()> {
    let room: RoomHandle = rooms::by_nid(&tx.reader(), event.room)?;
    let sender = users::user_id(&tx.reader(), event.user)?;
    let content = content_from_json(&event.content)?;
    let mut draft = match &event.state_key {
        Some(state_key) => Draft::state(sender, &event.kind, state_key, content),
        None => Draft::from_client(sender, &event.kind, content),
    };
    draft.txn =
        event.txn_id.clone().map(|txn_id| Txn { device_id: event.device_id.clone(), scope: format!("delayed/{}", event.delay_id), txn_id });
    // Removed first: a state event of ours would otherwise find itself.
    delayed::delete(tx, &event.delay_id)?;
    append(tx, ctx, &room, draft).map(drop)
}

/// Starts the task that sends them. It ends with the node.
pub fn start(node: &Arc<Node>) {
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-delayed-events", async move { run(&node).await });
}

async fn run(node: &Node) {
    let shutdown = node.tasks.shutdown().clone();
    loop {
        let pause = match send_due(node).await {
            Ok(pause) => pause.unwrap_or(IDLE),
            Err(EventError::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "delayed events wait for the store");
                AFTER_FAILURE
            }
        };
        // Cancel-safe: a notification that comes between two waits is kept.
        tokio::select! {
            () = shutdown.wait() => return,
            () = node.delayed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sends what is due. Returns how long until the next one.
///
/// # Errors
///
/// When the store does not work. What the room refuses, and what cannot be read, is dropped, and the log says so: the others
/// must not wait for it.
pub async fn send_due(node: &Node) -> Result<Option<Duration>> {
    loop {
        let now_ms = i64::try_from(node.clock.now_ms()).unwrap_or(i64::MAX);
        let (due, next) =
            node.store.read(move |db| Ok::<_, EventError>((delayed::due(db, now_ms, BATCH)?, delayed::next_due(db)?))).await?;
        if due.is_empty() {
            return Ok(next.map(|at| Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs())));
        }
        for event in due {
            let delay_id = event.delay_id.clone();
            let sent = policy::writing(&node.store, Ctx::of(node), move |tx, ctx| {
                // Cancelled or restarted since it was read?
                match delayed::get(&tx.reader(), &event.delay_id)? {
                    Some(still) if still.since_ms == event.since_ms => send(tx, ctx, &still),
                    _ => Ok(()),
                }
            });
            match sent.await {
                Ok(()) => {}
                Err(EventError::Store(error)) if !matches!(error, StoreError::Data(_)) => return Err(error.into()),
                Err(error) => {
                    if matches!(error, EventError::Store(_) | EventError::Internal(_)) {
                        tracing::error!(%error, "a delayed event cannot be read and is dropped");
                    } else {
                        tracing::warn!(%error, "a delayed event is refused by its room and dropped");
                    }
                    node.store.write(move |tx| delayed::delete(tx, &delay_id)).await?;
                }
            }
        }
    }
}
