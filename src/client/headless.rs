//! The client without a screen: list rooms, send, follow. One-shot on its own SDK client, or on a running actor's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matrix_sdk::{Room, RoomState, deserialized_responses::TimelineEvent};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomOrAliasId, TransactionId, UserId,
    api::client::alias::get_alias,
    events::{AnyMessageLikeEventContent, AnySyncTimelineEvent, room::encrypted::Relation as AnyRelation, room::message::Relation},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};

use super::{
    actor::{self, StartError},
    cached::Cached,
    connect::StoreLock,
    context::{Context, within},
    convert::{millis, name_of},
    incoming, membership, rooms, send,
    session::{SavedSession, Store},
    sync,
    words::Trouble,
};
use crate::{
    base::{Clock, Shutdown, SystemClock, Tasks},
    client::{
        command::Draft,
        update,
        view::{Connection, Membership, RoomKind, RoomRow, SyncPhase},
    },
};

/// Longest wait for the first sync.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that cannot be reached at all is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a message to be accepted.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to send, all under one transaction ID, so that the server stores the message once.
const SEND_ATTEMPTS: u32 = 4;
/// How long tasks may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Why a headless command failed. `Display` is meant for people.
#[derive(Debug, thiserror::Error)]
pub enum HeadlessError {
    /// No room goes by that name.
    #[error("no room called \"{0}\"")]
    NoSuchRoom(String),
    /// More than one does.
    #[error("several rooms are called \"{name}\"; use one of {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The rooms' IDs.
        ids: Vec<String>,
    },
    /// The server cannot be reached.
    #[error("not connected: {0}")]
    Offline(String),
    /// The session has ended.
    #[error("{0}")]
    Expired(String),
    /// The server or the room refused.
    #[error("{0}")]
    Refused(String),
    /// Events passed while nobody took those before them.
    #[error("events came faster than they were taken, and some were passed over; they are in the room's history")]
    TooSlow,
    /// The client is stopping.
    #[error("homeroom is stopping")]
    Stopping,
}

impl From<Trouble> for HeadlessError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Expired { .. } => Self::Expired(trouble.to_string()),
            trouble if trouble.is_connection() => Self::Offline(trouble.to_string()),
            trouble => Self::Refused(trouble.to_string()),
        }
    }
}

/// A room, as `homeroom rooms` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomLine {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Display name.
    pub name: String,
    /// Canonical alias.
    pub alias: Option<String>,
    /// `room`, `direct` or `space`.
    pub kind: String,
    /// `joined`, `invited` or `knocked`.
    pub membership: String,
    /// Messages that notify and are unread.
    pub unread: u64,
    /// Those that mention us.
    pub mentions: u64,
    /// End-to-end encrypted.
    pub encrypted: bool,
    /// Sender of the last message.
    pub last_sender: Option<String>,
    /// The last message in one line.
    pub last_text: Option<String>,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub last_timestamp_ms: Option<u64>,
}

impl From<&RoomRow> for RoomLine {
    fn from(row: &RoomRow) -> Self {
        Self {
            room_id: row.id.clone(),
            name: row.name.clone(),
            alias: row.alias.as_ref().map(ToString::to_string),
            kind: match row.kind {
                RoomKind::Room => "room",
                RoomKind::Direct => "direct",
                RoomKind::Space => "space",
            }
            .to_owned(),
            membership: match row.membership {
                Membership::Joined => "joined",
                Membership::Invited => "invited",
                Membership::Knocked => "knocked",
                Membership::Left => "left",
            }
            .to_owned(),
            unread: row.unread,
            mentions: row.mentions,
            encrypted: row.encrypted,
            last_sender: row.last.as_ref().map(|last| last.sender.clone()),
            last_text: row.last.as_ref().map(|last| last.text.clone()),
            last_timestamp_ms: row.last.as_ref().map(|last| last.timestamp_ms),
        }
    }
}

/// How to send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendOptions {
    /// Exactly as given, without markdown.
    pub literal: bool,
    /// As `/me`.
    pub emote: bool,
    /// In answer to this event.
    pub reply_to: Option<OwnedEventId>,
    /// In this thread.
    pub thread_root: Option<OwnedEventId>,
}

/// A message that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentLine {
    /// Where.
    pub room_id: OwnedRoomId,
    /// What.
    pub event_id: OwnedEventId,
}

/// An event, as `homeroom tail` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// Where.
    pub room_id: OwnedRoomId,
    /// The room's name.
    pub room_name: String,
    /// What.
    pub event_id: OwnedEventId,
    /// Who.
    pub sender: OwnedUserId,
    /// Their display name.
    pub sender_name: String,
    /// When, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Event type, after decryption.
    pub event_type: String,
    /// Text of a message, or one line of what else it is.
    pub body: Option<String>,
    /// The event whose text this one replaces.
    pub edits: Option<OwnedEventId>,
    /// The event this one answers.
    pub reply_to: Option<OwnedEventId>,
    /// The thread it belongs to.
    pub thread_root: Option<OwnedEventId>,
    /// True when it could not be decrypted; `body` is absent then.
    pub undecryptable: bool,
}

/// A client without a screen. Clones share it.
#[derive(Debug, Clone)]
pub struct Service {
    context: Context,
    own: Option<Arc<Own>>,
}

/// What a one-shot service owns beside the SDK client.
#[derive(Debug)]
struct Own {
    tasks: Tasks,
    cached: Mutex<Option<Cached>>,
    _lock: StoreLock,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger();
    }
}

impl Service {
    /// Opens the profile for a one-shot command and starts syncing. Fails when a running homeroom has the profile open.
    pub async fn open(saved: SavedSession, store: Store) -> Result<Self, StartError> {
        let lock = store.lock()?;
        let client = actor::open(&saved, &store).await?;
        let tasks = Tasks::new(Shutdown::new());
        let cached = Cached::follow(&client, &store.dir).await;
        // Nobody listens at the other end: the snapshots serve this service itself.
        let (_, port) = update::link();
        let context = Context::new(client, saved.user_id, port.feed.outlet, tasks.clone(), SystemClock.now_ms());
        tasks.spawn("rooms", rooms::run(context.clone()));
        tasks.spawn("sync", sync::run(context.clone(), sync::Mode::Best, cached.is_torn()));
        Ok(Self { context, own: Some(Arc::new(Own { tasks, cached: Mutex::new(Some(cached)), _lock: lock })) })
    }

    pub(super) fn of(context: Context) -> Self {
        Self { context, own: None }
    }

    /// Ends a one-shot service in order; on a running client it does nothing.
    pub async fn close(self) {
        if let Some(own) = self.own {
            own.tasks.shutdown().trigger();
            if !own.tasks.finish(STOP_DEADLINE).await {
                tracing::warn!("some of the client's tasks did not end in time");
            }
            let cached = own.cached.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(cached) = cached {
                cached.finish(&self.context.client).await;
            }
        }
    }

    /// Who is signed in.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.context.me
    }

    /// How the connection stands.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.context.outlet.session.borrow().connection.clone()
    }

    /// Waits until the room list is up to date.
    pub async fn synced(&self) -> Result<(), HeadlessError> {
        let mut session = self.context.outlet.session.subscribe();
        let live = async {
            let reached = session.wait_for(|view| view.sync == SyncPhase::Live || matches!(view.connection, Connection::Expired { .. }));
            reached.await.map(|view| view.connection.clone()).map_err(|_| HeadlessError::Stopping)
        };
        let mut patience = self.context.outlet.session.subscribe();
        let hopeless = async {
            tokio::time::sleep(CONNECT_TIMEOUT).await;
            match patience.wait_for(|view| matches!(view.connection, Connection::Offline { .. })).await {
                Ok(view) => match &view.connection {
                    Connection::Offline { reason } => HeadlessError::Offline(reason.clone()),
                    _ => HeadlessError::Stopping,
                },
                Err(_) => HeadlessError::Stopping,
            }
        };
        let connection = tokio::select! {
            live = tokio::time::timeout(SYNC_TIMEOUT, live) => match live {
                Ok(connection) => connection?,
                Err(_) => return Err(HeadlessError::Offline("the server does not answer in time".to_owned())),
            },
            error = hopeless => return Err(error),
            () = self.context.tasks.shutdown().wait() => return Err(HeadlessError::Stopping),
        };
        match connection {
            Connection::Expired { reason } => Err(HeadlessError::Expired(reason)),
            _ => Ok(()),
        }
    }

    /// The rooms as they are known now; call `synced` first for an up-to-date list.
    #[must_use]
    pub fn cached_rooms(&self) -> Vec<RoomLine> {
        self.context.outlet.rooms.borrow().rows.iter().map(|row| RoomLine::from(&**row)).collect()
    }

    /// The rooms, in display order, brought up to date first.
    pub async fn rooms(&self) -> Result<Vec<RoomLine>, HeadlessError> {
        self.synced().await?;
        let mut list = self.context.outlet.rooms.subscribe();
        let complete = tokio::time::timeout(CONNECT_TIMEOUT, list.wait_for(|list| list.complete)).await;
        if complete.is_err() {
            tracing::debug!("the room list is not complete in time");
        }
        Ok(self.cached_rooms())
    }

    /// Sends to a room (ID, alias, exact name, or `@user:server` for a direct conversation) and waits until the server has it.
    pub async fn send(&self, room: &str, text: &str, options: &SendOptions) -> Result<SentLine, HeadlessError> {
        self.synced().await?;
        let room = self.resolve(room).await?;
        let draft = Draft {
            text: text.to_owned(),
            emote: options.emote,
            literal: options.literal,
            reply_to: options.reply_to.clone(),
            thread_root: options.thread_root.clone(),
            mentions: Vec::new(),
        };
        let content = send::prepared(&room, &draft).await?;
        let event_id = send_once(&room, content).await?;
        Ok(SentLine { room_id: room.room_id().to_owned(), event_id })
    }

    /// Follows new events, in one room or in all, until shutdown or until nobody takes them. Who takes them too slowly is told so
    /// rather than left with a hole.
    pub async fn tail(&self, room: Option<&str>, sink: mpsc::Sender<EventLine>, shutdown: Shutdown) -> Result<(), HeadlessError> {
        self.synced().await?;
        let only = match room {
            Some(room) => Some(self.resolve(room).await?.room_id().to_owned()),
            None => None,
        };
        let mut updates = self.context.client.subscribe_to_all_room_updates();
        loop {
            let update = tokio::select! {
                update = updates.recv() => update,
                () = shutdown.wait() => return Ok(()),
                () = self.context.tasks.shutdown().wait() => return Err(HeadlessError::Stopping),
                () = sink.closed() => return Ok(()),
            };
            let rooms = match update {
                Ok(rooms) => rooms.joined,
                Err(broadcast::error::RecvError::Lagged(_)) => return Err(HeadlessError::TooSlow),
                Err(broadcast::error::RecvError::Closed) => return Err(HeadlessError::Stopping),
            };
            for (room_id, update) in rooms.into_iter().filter(|(room_id, _)| only.as_ref().is_none_or(|only| only == room_id)) {
                let Some(room) = self.context.client.get_room(&room_id) else { continue };
                for event in update.timeline.events {
                    if event.kind.is_utd() {
                        self.tail_late(room.clone(), event, sink.clone());
                    } else if let Some(line) = line(&room, &event).await
                        && sink.send(line).await.is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for the key of an event beside the others.
    fn tail_late(&self, room: Room, event: TimelineEvent, sink: mpsc::Sender<EventLine>) {
        let context = self.context.clone();
        self.context.tasks.spawn("late event", async move {
            let event = incoming::decrypted(&context, &room, event).await;
            if let Some(line) = line(&room, &event).await {
                // Nobody takes it any more: the tail has ended.
                let _ = sink.send(line).await;
            }
        });
    }

    /// The joined room that goes by this name.
    pub async fn resolve(&self, name: &str) -> Result<Room, HeadlessError> {
        let none = || HeadlessError::NoSuchRoom(name.to_owned());
        let client = &self.context.client;
        let room_id = if let Ok(user_id) = UserId::parse(name) {
            membership::direct(client, &user_id).await?
        } else if let Ok(alias) = RoomAliasId::parse(name) {
            let known = client
                .joined_rooms()
                .into_iter()
                .find(|room| room.canonical_alias().as_ref() == Some(&alias) || room.alt_aliases().contains(&alias));
            match known {
                Some(room) => room.room_id().to_owned(),
                None => {
                    let found = within(CONNECT_TIMEOUT, client.send(get_alias::v3::Request::new(alias))).await;
                    found
                        .map_err(|trouble| if matches!(trouble, Trouble::Refused { status: 404, .. }) { none() } else { trouble.into() })?
                        .room_id
                }
            }
        } else if name.starts_with('!') {
            <&RoomOrAliasId>::try_from(name).ok().and_then(|id| OwnedRoomId::try_from(id.to_owned()).ok()).ok_or_else(none)?
        } else {
            self.by_name(name)?
        };
        client.get_room(&room_id).filter(|room| room.state() == RoomState::Joined).ok_or_else(none)
    }

    fn by_name(&self, name: &str) -> Result<OwnedRoomId, HeadlessError> {
        let list = self.context.outlet.rooms.borrow();
        let joined = || list.rows.iter().filter(|row| row.membership == Membership::Joined && row.kind != RoomKind::Space);
        let exact: Vec<&OwnedRoomId> = joined().filter(|row| row.name == name).map(|row| &row.id).collect();
        let lower = name.to_lowercase();
        let found =
            if exact.is_empty() { joined().filter(|row| row.name.to_lowercase() == lower).map(|row| &row.id).collect() } else { exact };
        match found.as_slice() {
            [] => Err(HeadlessError::NoSuchRoom(name.to_owned())),
            [only] => Ok((*only).clone()),
            several => Err(HeadlessError::Ambiguous { name: name.to_owned(), ids: several.iter().map(ToString::to_string).collect() }),
        }
    }
}

/// Sends past the queue, so that a failed command leaves nothing behind that would go out later.
pub(super) async fn send_once(room: &Room, content: AnyMessageLikeEventContent) -> Result<OwnedEventId, HeadlessError> {
    let transaction_id = TransactionId::new();
    let attempts = async {
        let mut attempt = 1;
        loop {
            let sent = room.send(content.clone()).with_transaction_id(transaction_id.clone()).await;
            match sent.map_err(Trouble::from) {
                Ok(sent) => return Ok(sent.response.event_id),
                Err(trouble) if trouble.is_connection() && attempt < SEND_ATTEMPTS => {
                    let wait = match trouble {
                        Trouble::RateLimited { retry_after: Some(wait) } => wait,
                        _ => Duration::from_secs(1) * attempt,
                    };
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    };
    Ok(within(SEND_TIMEOUT, attempts).await?)
}

async fn line(room: &Room, event: &TimelineEvent) -> Option<EventLine> {
    let content = event.raw().deserialize().ok()?;
    let sender = content.sender();
    let member = room.get_member_no_sync(sender).await.ok().flatten();
    let undecryptable = event.kind.is_utd();
    let relations = relations(&content);
    Some(EventLine {
        room_id: room.room_id().to_owned(),
        room_name: rooms::room_name(room),
        event_id: content.event_id().to_owned(),
        sender: sender.to_owned(),
        sender_name: name_of(sender, member.as_ref().and_then(|member| member.display_name()), false),
        timestamp_ms: millis(content.origin_server_ts()),
        event_type: content.event_type().to_string(),
        body: if undecryptable { None } else { body(&content) },
        edits: relations.edits,
        reply_to: relations.reply_to,
        thread_root: relations.thread_root,
        undecryptable,
    })
}

fn body(event: &AnySyncTimelineEvent) -> Option<String> {
    if let AnySyncTimelineEvent::MessageLike(event) = event
        && let Some(AnyMessageLikeEventContent::RoomMessage(message)) = event.original_content()
    {
        return Some(match &message.relates_to {
            Some(Relation::Replacement(replacement)) => replacement.new_content.msgtype.body().to_owned(),
            _ => message.body().to_owned(),
        });
    }
    rooms::event_line(event)
}

#[derive(Default)]
struct Relations {
    edits: Option<OwnedEventId>,
    reply_to: Option<OwnedEventId>,
    thread_root: Option<OwnedEventId>,
}

fn relations(event: &AnySyncTimelineEvent) -> Relations {
    let AnySyncTimelineEvent::MessageLike(event) = event else { return Relations::default() };
    match event.original_content().and_then(|content| content.relation()) {
        Some(AnyRelation::Replacement(replacement)) => Relations { edits: Some(replacement.event_id), ..Relations::default() },
        Some(AnyRelation::Reply(reply)) => Relations { reply_to: Some(reply.in_reply_to.event_id), ..Relations::default() },
        Some(AnyRelation::Thread(thread)) => Relations {
            reply_to: thread.in_reply_to.filter(|_| !thread.is_falling_back).map(|reply| reply.event_id),
            thread_root: Some(thread.event_id),
            ..Relations::default()
        },
        _ => Relations::default(),
    }
}
