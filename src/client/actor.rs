//! The running client: sole owner of the SDK client, fed with commands, feeding snapshots and updates.
//!
//! Starts and stops the tasks beside it (`sync`, `rooms`, `timelines`, `details`, `incoming`, `queue`, `drafts`, `commands`)
//! and knows what each of them needs; does no work itself.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    cached::Cached,
    commands::Commands,
    connect::{self, StoreLock},
    context::Context,
    details, drafts, incoming, queue, rooms,
    session::{SavedSession, Store, StoreError},
    sync,
    words::Trouble,
};
use crate::{
    base::{Clock, Shutdown, SystemClock, Tasks},
    client::{
        command::Command,
        update::{Feed, Outlet, Update},
        view::{Connection, NodeState, SessionView},
    },
};

/// How long tasks may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// Draft changes that may wait for the disk.
const DRAFTS: usize = 64;

/// Why the client could not be started. `Display` is meant for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The saved session does not fit the store.
    #[error("the saved session cannot be used: {0}; sign in again")]
    Session(Trouble),
}

/// A running client.
#[derive(Debug)]
pub struct Actor {
    context: Context,
    commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    stopping: Shutdown,
    cached: Cached,
    _lock: StoreLock,
}

/// Opens the store and starts everything. Needs no network: what is cached shows at once, and the connection is made, and
/// made again, in the background.
pub async fn start(saved: SavedSession, store: Store, feed: Feed, node: NodeState, tasks: &Tasks) -> Result<Actor, (StartError, Feed)> {
    let opened = async {
        let lock = store.lock()?;
        let client = open(&saved, &store).await?;
        Ok::<_, StartError>((lock, client))
    };
    let (lock, client) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return Err((error, feed)),
    };
    let Feed { commands, outlet } = feed;
    outlet.session.send_replace(SessionView {
        user_id: Some(saved.user_id.clone()),
        device_id: Some(saved.device_id.clone()),
        connection: Connection::Connecting,
        node,
        ..SessionView::default()
    });
    // Tasks of their own, so that stopping the client stops nothing else.
    let stopping = tasks.shutdown().child();
    let own = Tasks::new(stopping.clone());
    let cached = Cached::follow(&client, &store.dir).await;
    let context = Context::new(client, saved.user_id, outlet, own.clone(), SystemClock.now_ms());
    let commands = Arc::new(Mutex::new(commands));
    let (drafts_tx, drafts_rx) = mpsc::channel(DRAFTS);
    let (drafts_ready_tx, drafts_ready) = oneshot::channel();
    own.spawn("rooms", rooms::run(context.clone()));
    own.spawn("drafts", drafts::run(context.clone(), drafts_rx, drafts_ready_tx));
    // Ends when the sender is dropped, which is all that is waited for.
    let _ = drafts_ready.await;
    own.spawn("queue counts", queue::run(context.clone()));
    own.spawn("incoming", incoming::run(context.clone()));
    own.spawn("details", details::run(context.clone()));
    own.spawn("own name", sync::own_name(context.clone()));
    own.spawn("sync", sync::run(context.clone(), sync::Mode::Best, cached.is_torn()));
    own.spawn("commands", serve(context.clone(), commands.clone(), drafts_tx));
    let actor = Actor { context, commands, stopping: Shutdown::new(), cached, _lock: lock };
    tasks.spawn("client watch", watch(own, actor.stopping.clone(), tasks.shutdown().clone()));
    Ok(actor)
}

/// Passes a panic of one of the client's tasks on to the process.
async fn watch(own: Tasks, stopping: Shutdown, process: Shutdown) {
    own.shutdown().wait().await;
    if !stopping.is_triggered() && !process.is_triggered() {
        tracing::error!("the client stopped by itself; stopping");
        process.trigger();
    }
}

/// The SDK client on its store, with the session restored.
pub(super) async fn open(saved: &SavedSession, store: &Store) -> Result<matrix_sdk::Client, StartError> {
    let client = connect::open(&saved.endpoint, &saved.base_url, store).await?;
    client.restore_session(saved.to_sdk()).await.map_err(|error| match Trouble::of(&error) {
        Trouble::DiskFull => StartError::Store(StoreError::DiskFull(store.dir.clone())),
        trouble => StartError::Session(trouble),
    })?;
    // Before anything listens, so that no event of the first sync is missed.
    client.event_cache().subscribe().map_err(|error| StartError::Session(Trouble::Other(error.to_string())))?;
    Ok(client)
}

async fn serve(context: Context, commands: Arc<Mutex<mpsc::Receiver<Command>>>, drafts: mpsc::Sender<drafts::Change>) {
    let mut incoming = commands.lock().await;
    let mut handler = Commands::new(context.clone(), drafts);
    let mut room_list = context.room_list.subscribe();
    loop {
        tokio::select! {
            biased;
            () = context.tasks.shutdown().wait() => break,
            changed = room_list.changed() => match changed {
                Ok(()) => handler.resubscribe(),
                Err(_) => break,
            },
            command = incoming.recv() => match command {
                Some(command) => handler.start(command).await,
                // The screen is gone; the client goes on for those who use it headless.
                None => context.tasks.shutdown().wait().await,
            },
        }
    }
    // What was typed last is kept: the drafts' writer is still there and takes it before it ends. What was read is read.
    let mut unsent = Vec::new();
    while let Ok(command) = incoming.try_recv() {
        match command {
            Command::SaveDraft { .. } | Command::MarkRead { .. } => handler.start(command).await,
            Command::Send { room_id, draft } => unsent.push((room_id, draft.kept(false))),
            Command::Edit { room_id, draft, .. } => unsent.push((room_id, draft.kept(true))),
            _ => {}
        }
    }
    for (room_id, text) in unsent {
        handler.keep_unsent(room_id, text).await;
    }
}

impl Actor {
    /// Tells the screen how the node stands.
    pub fn set_node(&self, node: NodeState) {
        self.context.session(|view| view.node = node);
    }

    /// Tells the screen something on behalf of the composition root.
    pub async fn tell(&self, update: Update) {
        self.context.tell(update).await;
    }

    /// Where snapshots and updates go.
    #[must_use]
    pub fn outlet(&self) -> &Outlet {
        &self.context.outlet
    }

    /// Tries the connection now.
    pub fn reconnect(&self) {
        self.context.poke.notify_one();
    }

    /// The same client for headless commands, valid while the actor runs.
    #[must_use]
    pub fn headless(&self) -> super::headless::Service {
        super::headless::Service::of(self.context.clone())
    }

    /// Stops everything, clears the snapshots and gives the feed back.
    pub async fn stop(self) -> Feed {
        self.stopping.trigger();
        self.context.tasks.shutdown().trigger();
        if !self.context.tasks.finish(STOP_DEADLINE).await {
            tracing::warn!("some of the client's tasks did not end in time");
        }
        let outlet = self.context.outlet.clone();
        outlet.session.send_replace(SessionView::default());
        outlet.rooms.send_replace(crate::client::view::RoomList::default());
        outlet.timeline.send_replace(None);
        outlet.thread.send_replace(None);
        outlet.details.send_replace(None);
        outlet.drafts.send_replace(Arc::default());
        self.cached.finish(&self.context.client).await;
        drop(self.context);
        let commands = match Arc::try_unwrap(self.commands) {
            Ok(commands) => commands.into_inner(),
            Err(shared) => {
                // A task outlived the deadline: its end of the channel is useless now, so both sides get a closed one.
                tracing::error!("the command channel could not be taken back");
                drop(shared);
                mpsc::channel(1).1
            }
        };
        Feed { commands, outlet }
    }
}
