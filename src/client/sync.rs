//! Keeps in step with the server: sliding sync, or `/v3/sync` where a server has none; offline and back again without being
//! asked; the end of a session.
//!
//! Owns the connection's part of the session view. Knows nothing of what the screen shows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matrix_sdk::{
    SessionChange,
    config::{SyncSettings, SyncToken},
    send_queue::SendQueueRoomError,
};
use matrix_sdk_ui::{
    encryption_sync_service,
    room_list_service::{self, State as ListState},
    sync_service::{self, State, SyncService},
};
use ruma::{
    OwnedRoomId,
    api::{FeatureFlag, client::filter::FilterDefinition},
};
use tokio::{sync::broadcast, time::Instant};

use super::{
    context::{Context, within},
    words::Trouble,
};
use crate::{
    base::{Randomness, SystemRandomness},
    client::view::{Connection, SyncPhase},
};

/// Pauses between attempts to reach the server, in milliseconds; the last one repeats.
const PAUSES_MS: [u64; 5] = [500, 1_000, 2_000, 5_000, 12_000];
/// Pauses before the send queue tries again while the server answers, in milliseconds; the last one repeats.
const QUEUE_PAUSES_MS: [u64; 5] = [1_000, 3_000, 10_000, 30_000, 60_000];
/// After this long without trouble the send queue's pauses start over.
const QUEUE_CALM: Duration = Duration::from_secs(180);
/// A server that forgets our position twice within this long is in trouble, and is given time.
const FORGETFUL: Duration = Duration::from_secs(60);
/// Long poll of `/v3/sync`.
const POLL: Duration = Duration::from_secs(30);
/// Events per room in the first list answers. Enough for a last message and honest small counts.
const LIST_TIMELINE_LIMIT: u32 = 5;

/// How one stretch of syncing ended.
enum End {
    /// The server could not be reached, or answered nonsense.
    Broken(Trouble),
    /// The server no longer accepts our token.
    Expired { soft: bool },
    /// The server turned out not to know sliding sync.
    NoSlidingSync,
    /// The server no longer knows where we were, after a restart for instance: begin anew.
    Forgotten,
    /// We were told to stop.
    Stopped,
}

/// Which way of syncing to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sliding sync where the server has it.
    Best,
    /// `/v3/sync`.
    Classic,
}

/// Runs until shutdown. `anew`: from the rooms' newest messages instead of the position that is kept, until the server has answered.
pub(super) async fn run(context: Context, mode: Mode, mut anew: bool) {
    let mut changes = context.client.subscribe_to_session_changes();
    let mut failures = 0_usize;
    let mut forgotten: Option<Instant> = None;
    let mut queue = QueueRetry::new(&context);
    let mut classic = mode == Mode::Classic;
    context.session(|view| {
        view.connection = Connection::Connecting;
        view.sync = SyncPhase::Starting;
    });
    loop {
        let mut stretch = Stretch { context: &context, changes: &mut changes, failures: &mut failures, queue: &mut queue, anew: &mut anew };
        let known = async { if classic { Ok(false) } else { has_sliding_sync(&context).await } };
        // A server that says nothing does not keep us from leaving.
        let known = tokio::select! {
            known = known => known,
            () = context.tasks.shutdown().wait() => return,
        };
        let end = match known {
            Ok(true) => stretch.sliding().await,
            Ok(false) => stretch.classic().await,
            Err(Trouble::Expired { soft }) => End::Expired { soft },
            Err(trouble) => End::Broken(trouble),
        };
        context.room_list.send_replace(None);
        let end = match end {
            // Time and again is a fault of the server's, and is waited out like any other.
            End::Forgotten if forgotten.is_some_and(|last| last.elapsed() < FORGETFUL) => End::Broken(Trouble::Unreachable),
            other => other,
        };
        match end {
            End::Stopped => return,
            End::Forgotten => {
                tracing::info!("the server has forgotten our position; syncing anew");
                forgotten = Some(Instant::now());
            }
            End::NoSlidingSync => classic = true,
            End::Expired { soft } => {
                expired(&context, soft);
                context.tasks.shutdown().wait().await;
                return;
            }
            End::Broken(trouble) => {
                tracing::info!(%trouble, failures, "not connected");
                context.session(|view| {
                    view.connection = Connection::Offline { reason: trouble.to_string() };
                    view.sync = SyncPhase::Idle;
                });
                context.typing.send_replace(super::context::Typing::default());
                let pause = match trouble {
                    Trouble::RateLimited { retry_after: Some(wait) } => wait.min(Duration::from_secs(60)),
                    _ => pause(&PAUSES_MS, failures),
                };
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = context.poke.notified() => {}
                    () = context.tasks.shutdown().wait() => return,
                }
                context.session(|view| view.sync = SyncPhase::Starting);
            }
        }
    }
}

fn expired(context: &Context, soft: bool) {
    let reason = if soft {
        "the server asks you to sign in again; nothing is lost"
    } else {
        "the server has ended this session (signed out elsewhere?); sign in again"
    };
    context.session(|view| {
        view.connection = Connection::Expired { reason: reason.to_owned() };
        view.sync = SyncPhase::Idle;
    });
}

/// The pause after this many failures, spread by a fifth so that clients do not knock in step.
fn pause(steps: &[u64], failures: usize) -> Duration {
    let base = steps.get(failures).or(steps.last()).copied().unwrap_or(1_000);
    let mut chance = [0_u8; 1];
    SystemRandomness.fill(&mut chance);
    let percent = 80 + u64::from(chance[0]) * 40 / 255;
    Duration::from_millis(base.saturating_mul(percent) / 100)
}

async fn has_sliding_sync(context: &Context) -> Result<bool, Trouble> {
    let supported = within(Duration::from_secs(20), context.client.supported_versions()).await?;
    let flag = FeatureFlag::from("org.matrix.simplified_msc3575");
    Ok(supported.features.contains(&flag))
}

/// One stretch of syncing, until it breaks.
struct Stretch<'a> {
    context: &'a Context,
    changes: &'a mut broadcast::Receiver<SessionChange>,
    failures: &'a mut usize,
    /// Outlives the stretch: what stopped a queue in one is tried again in the next.
    queue: &'a mut QueueRetry,
    anew: &'a mut bool,
}

impl Stretch<'_> {
    async fn sliding(&mut self) -> End {
        let builder = SyncService::builder(self.context.client.clone()).with_room_list_timeline_limit(LIST_TIMELINE_LIMIT);
        let built = builder.with_share_pos(!*self.anew).build();
        let built = tokio::select! {
            built = built => built,
            () = self.context.tasks.shutdown().wait() => return End::Stopped,
        };
        let service = match built {
            Ok(service) => service,
            Err(error) => return ended(&error),
        };
        let end = self.follow(&service).await;
        if tokio::time::timeout(Duration::from_secs(5), service.stop()).await.is_err() {
            tracing::warn!("the sync service did not stop in time");
        }
        end
    }

    async fn follow(&mut self, service: &SyncService) -> End {
        let list_service = service.room_list_service();
        let all_rooms = tokio::select! {
            all_rooms = list_service.all_rooms() => all_rooms,
            () = self.context.tasks.shutdown().wait() => return End::Stopped,
        };
        let all_rooms = match all_rooms {
            Ok(list) => list,
            Err(error) => return ended(&sync_service::Error::from(error)),
        };
        let mut loading = all_rooms.loading_state();
        let mut list_states = list_service.state();
        let mut states = service.state();
        service.start().await;
        self.context.room_list.send_replace(Some(list_service.clone()));
        loop {
            tokio::select! {
                Some(state) = states.next() => match state {
                    State::Error(error) => return ended(&error),
                    State::Terminated => return End::Broken(Trouble::Unreachable),
                    State::Idle | State::Running | State::Offline => {}
                },
                Some(state) = list_states.next() => self.list_state(&state, &loading.get()).await,
                Some(_) = loading.next() => self.list_state(&list_states.get(), &loading.get()).await,
                end = expiry(self.changes) => return end,
                due = self.queue.wait() => self.queue.retry(self.context, due).await,
                () = self.context.poke.notified() => self.queue.retry(self.context, Due::All).await,
                () = self.context.tasks.shutdown().wait() => return End::Stopped,
            }
        }
    }

    async fn list_state(&mut self, state: &ListState, loading: &room_list_service::RoomListLoadingState) {
        let phase = match state {
            ListState::SettingUp | ListState::Recovering => SyncPhase::CatchingUp,
            ListState::Running => {
                let expected = match loading {
                    room_list_service::RoomListLoadingState::Loaded { maximum_number_of_rooms } => maximum_number_of_rooms.unwrap_or(0),
                    room_list_service::RoomListLoadingState::NotLoaded => 0,
                };
                // Counting the rooms copies them all, and after each answer that would be most of the work for a message.
                let live = self.context.outlet.session.borrow().sync == SyncPhase::Live;
                let all = || self.context.client.rooms().len() >= usize::try_from(expected).unwrap_or(usize::MAX);
                if live || all() { SyncPhase::Live } else { SyncPhase::CatchingUp }
            }
            ListState::Init | ListState::Error { .. } | ListState::Terminated { .. } => return,
        };
        self.reached(phase).await;
    }

    /// The server has answered.
    async fn reached(&mut self, phase: SyncPhase) {
        let was_online = self.context.outlet.session.borrow().connection == Connection::Online;
        *self.failures = 0;
        *self.anew = false;
        self.context.session(|view| {
            view.connection = Connection::Online;
            view.sync = phase;
        });
        if !was_online {
            tracing::info!("connected");
            self.queue.retry(self.context, Due::All).await;
        }
    }

    async fn classic(&mut self) -> End {
        if let Err(error) = self.context.client.event_cache().subscribe() {
            return End::Broken(Trouble::Other(error.to_string()));
        }
        let filter = FilterDefinition::with_lazy_loading();
        let mut first = true;
        loop {
            let poll = if first { Duration::ZERO } else { POLL };
            let settings = SyncSettings::new().timeout(poll).filter(filter.clone().into());
            let settings = if *self.anew { settings.token(SyncToken::NoToken) } else { settings };
            // Losing a sync that was cut off is harmless: its token was not stored, so the next one repeats it.
            let synced = async {
                let sync = self.context.client.sync_once(settings);
                tokio::pin!(sync);
                loop {
                    tokio::select! {
                        result = &mut sync => break result.map(|_| ()).map_err(|error| End::Broken(Trouble::of(&error))),
                        end = expiry(self.changes) => break Err(end),
                        due = self.queue.wait() => self.queue.retry(self.context, due).await,
                        () = self.context.poke.notified() => self.queue.retry(self.context, Due::All).await,
                        () = self.context.tasks.shutdown().wait() => break Err(End::Stopped),
                    }
                }
            };
            match synced.await {
                Ok(()) => self.reached(SyncPhase::Live).await,
                Err(End::Broken(Trouble::Expired { soft })) => return End::Expired { soft },
                Err(end) => return end,
            }
            first = false;
        }
    }
}

/// Waits for the server to end the session.
async fn expiry(changes: &mut broadcast::Receiver<SessionChange>) -> End {
    loop {
        match changes.recv().await {
            Ok(SessionChange::UnknownToken(data)) => return End::Expired { soft: data.soft_logout },
            Ok(SessionChange::TokensRefreshed) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn ended(error: &sync_service::Error) -> End {
    let sdk = match error {
        sync_service::Error::RoomList(room_list_service::Error::SlidingSync(error)) => Some(error),
        sync_service::Error::EncryptionSync(
            encryption_sync_service::Error::SlidingSync(error)
            | encryption_sync_service::Error::LockError(error)
            | encryption_sync_service::Error::ClientError(error),
        ) => Some(error),
        _ => None,
    };
    match sdk.map(Trouble::of) {
        Some(Trouble::Expired { soft }) => End::Expired { soft },
        Some(Trouble::Unrecognized) => End::NoSlidingSync,
        Some(Trouble::Refused { code, .. }) if code == "M_UNKNOWN_POS" => End::Forgotten,
        Some(trouble) => End::Broken(trouble),
        None => End::Broken(Trouble::Other(super::words::one_line(&error.to_string(), 160))),
    }
}

/// What is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    /// Everything that waits, in all rooms.
    All,
    /// What waits in this room behind a message that was refused.
    Behind(OwnedRoomId),
}

/// Wakes send queues. The SDK stops a room's after every error: one that may pass, and a refusal, which concerns one message alone
/// (that waits for a decision, and is left out from then on).
struct QueueRetry {
    errors: broadcast::Receiver<SendQueueRoomError>,
    due: Option<Instant>,
    failures: usize,
    last: Option<Instant>,
    /// Rooms where a message was refused, and when what is behind it goes.
    refused: HashMap<OwnedRoomId, Instant>,
}

impl QueueRetry {
    fn new(context: &Context) -> Self {
        Self::of(context.client.send_queue().subscribe_errors())
    }

    fn of(errors: broadcast::Receiver<SendQueueRoomError>) -> Self {
        Self { errors, due: None, failures: 0, last: None, refused: HashMap::new() }
    }

    /// Ends when something is due. Cancel-safe: what was received is kept.
    async fn wait(&mut self) -> Due {
        loop {
            let refused = self.refused.iter().min_by_key(|(_, at)| **at).map(|(room_id, at)| (Due::Behind(room_id.clone()), *at));
            let next = refused.into_iter().chain(self.due.map(|at| (Due::All, at))).min_by_key(|(_, at)| *at);
            tokio::select! {
                due = async { match next { Some((due, at)) => { tokio::time::sleep_until(at).await; due } None => std::future::pending().await } } => return due,
                error = self.errors.recv() => match error {
                    Ok(error) if error.is_recoverable => self.stopped(),
                    // Paced all the same: where a refusal cannot even be noted (the disk is full), the message is tried again.
                    Ok(error) => {
                        self.refused.entry(error.room_id).or_insert_with(|| Instant::now() + pause(&QUEUE_PAUSES_MS, 0));
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => self.stopped(),
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                },
            }
        }
    }

    /// A queue has stopped after an error that may pass.
    fn stopped(&mut self) {
        if self.due.is_some() {
            return;
        }
        if self.last.replace(Instant::now()).is_none_or(|last| last.elapsed() > QUEUE_CALM) {
            self.failures = 0;
        }
        self.due = Some(Instant::now() + pause(&QUEUE_PAUSES_MS, self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    async fn retry(&mut self, context: &Context, due: Due) {
        match due {
            Due::All => {
                self.due = None;
                self.refused.clear();
                context.client.send_queue().set_enabled(true).await;
            }
            Due::Behind(room_id) => {
                self.refused.remove(&room_id);
                if let Some(room) = context.client.get_room(&room_id) {
                    room.send_queue().set_enabled(true);
                }
            }
        }
    }
}

/// Keeps our own display name in the session view once the server can be asked.
pub(super) async fn own_name(context: Context) {
    let mut session = context.outlet.session.subscribe();
    let online = session.wait_for(|view| view.connection == Connection::Online);
    tokio::select! {
        seen = online => if seen.is_err() { return },
        () = context.tasks.shutdown().wait() => return,
    }
    let account = context.client.account();
    let name = tokio::select! {
        name = within(Duration::from_secs(30), account.get_display_name()) => name,
        () = context.tasks.shutdown().wait() => return,
    };
    match name {
        Ok(name) => context.session(|view| view.display_name = name.map(|name| super::words::one_line(&name, 64))),
        Err(trouble) => tracing::debug!(%trouble, "own display name not loaded"),
    }
}

/// Subscribes the shown rooms, so that the server sends their receipts and more of their history.
pub(super) async fn subscribe_rooms(context: &Context, rooms: &[ruma::OwnedRoomId]) {
    let service: Option<Arc<room_list_service::RoomListService>> = context.room_list.borrow().clone();
    if let Some(service) = service {
        let ids: Vec<&ruma::RoomId> = rooms.iter().map(|room| &**room).collect();
        service.subscribe_to_rooms(&ids).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_at_the_last() {
        assert!(pause(&PAUSES_MS, 0) < Duration::from_millis(700));
        assert!(pause(&PAUSES_MS, 4) > Duration::from_secs(9));
        assert!(pause(&PAUSES_MS, 1_000) < Duration::from_secs(15));
    }
}
