//! People who are played by the program: for the demonstration, and for tests that need somebody to talk to.
//!
//! A thin layer over an SDK client that remembers nothing. Encrypts and decrypts like any other.

use std::time::Duration;

use matrix_sdk::{
    Room, RoomState,
    attachment::{AttachmentConfig, AttachmentInfo, BaseImageInfo},
    ruma::events::room::message::MessageType,
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomOrAliasId, UserId,
    api::client::receipt::create_receipt::v3::ReceiptType,
    events::{
        AnyMessageLikeEventContent, AnySyncTimelineEvent, reaction::ReactionEventContent, receipt::ReceiptThread, relation::Annotation,
    },
};
use tokio::sync::broadcast;

use super::{
    connect,
    context::{Context, within},
    headless::{self, HeadlessError},
    membership, send,
    session::{self, Endpoint, LoginError},
    sync,
    words::Trouble,
};
use crate::{
    base::{Clock, Shutdown, SystemClock, Tasks},
    client::{
        command::{Draft, NewRoom, Secret},
        update,
        view::SyncPhase,
    },
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody signed in, syncing in the background until dropped.
#[derive(Debug)]
pub struct Puppet {
    context: Context,
    tasks: Tasks,
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger();
    }
}

impl Puppet {
    /// Signs in on a new device and waits for the first sync.
    pub async fn login(endpoint: &Endpoint, user: &str, password: &Secret) -> Result<Self, LoginError> {
        let saved = session::request_login(endpoint, user, password, None, &|_| {}).await?;
        let failed = |trouble: Trouble| LoginError::Other(trouble.to_string());
        let client = connect::open_in_memory(endpoint, &saved.base_url).await.map_err(failed)?;
        client.restore_session(saved.to_sdk()).await.map_err(|error| failed(Trouble::of(&error)))?;
        client.event_cache().subscribe().map_err(|error| LoginError::Other(error.to_string()))?;
        let tasks = Tasks::new(Shutdown::new());
        let (_, port) = update::link();
        let context = Context::new(client, saved.user_id, port.feed.outlet, tasks.clone(), SystemClock.now_ms());
        tasks.spawn("puppet", sync::run(context.clone(), sync::Mode::Classic, false));
        let puppet = Self { context, tasks };
        let mut status = puppet.context.outlet.session.subscribe();
        match tokio::time::timeout(PATIENCE, status.wait_for(|view| view.sync == SyncPhase::Live)).await {
            Ok(Ok(_)) => {}
            _ => return Err(LoginError::Timeout(saved.base_url.to_string())),
        }
        Ok(puppet)
    }

    /// Signs out and stops.
    pub async fn leave_stage(self) -> Result<(), HeadlessError> {
        within(PATIENCE, self.context.client.matrix_auth().logout()).await?;
        self.tasks.shutdown().trigger();
        self.tasks.finish(Duration::from_secs(5)).await;
        Ok(())
    }

    /// Who it is.
    #[must_use]
    pub fn user_id(&self) -> OwnedUserId {
        self.context.me.clone()
    }

    /// Sets the display name.
    pub async fn set_display_name(&self, name: &str) -> Result<(), HeadlessError> {
        Ok(membership::set_display_name(&self.context, name).await?)
    }

    /// Creates a room.
    pub async fn create_room(&self, room: NewRoom) -> Result<OwnedRoomId, HeadlessError> {
        let room_id = membership::create(&self.context.client, room).await?;
        self.joined(&room_id).await?;
        Ok(room_id)
    }

    /// Puts a room into a space.
    pub async fn add_to_space(&self, space: &RoomId, child: &RoomId) -> Result<(), HeadlessError> {
        let via = self.context.me.server_name().to_owned();
        let content = ruma::events::space::child::SpaceChildEventContent::new(vec![via]);
        let space = self.joined(space).await?;
        within(PATIENCE, async { space.send_state_event_for_key(child, content).await }).await?;
        Ok(())
    }

    /// Opens a direct conversation.
    pub async fn direct(&self, user_id: &UserId) -> Result<OwnedRoomId, HeadlessError> {
        let room_id = membership::direct(&self.context.client, user_id).await?;
        self.joined(&room_id).await?;
        Ok(room_id)
    }

    /// Invites somebody.
    pub async fn invite(&self, room_id: &RoomId, user_id: &UserId) -> Result<(), HeadlessError> {
        Ok(membership::invite(&self.joined(room_id).await?, user_id).await?)
    }

    /// Joins a room by ID or alias, or accepts its invitation.
    pub async fn join(&self, room: &RoomOrAliasId) -> Result<OwnedRoomId, HeadlessError> {
        let room_id = membership::join(&self.context.client, room).await?;
        self.joined(&room_id).await?;
        Ok(room_id)
    }

    /// Waits for an invitation to this room, and accepts it.
    pub async fn accept_invite(&self, room_id: &RoomId) -> Result<(), HeadlessError> {
        let room = self.wait_for_state(room_id, |state| matches!(state, RoomState::Invited | RoomState::Joined)).await?;
        membership::accept(&room).await?;
        self.joined(room_id).await?;
        Ok(())
    }

    /// Sends markdown; the server has it when this returns.
    pub async fn send(&self, room_id: &RoomId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        self.send_draft(room_id, text, None, None).await
    }

    /// Answers a message.
    pub async fn send_reply(&self, room_id: &RoomId, to: &EventId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        self.send_draft(room_id, text, Some(to), None).await
    }

    /// Writes into the thread below a message.
    pub async fn send_in_thread(&self, room_id: &RoomId, root: &EventId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        self.send_draft(room_id, text, None, Some(root)).await
    }

    async fn send_draft(
        &self,
        room_id: &RoomId,
        text: &str,
        to: Option<&EventId>,
        root: Option<&EventId>,
    ) -> Result<OwnedEventId, HeadlessError> {
        let room = self.joined(room_id).await?;
        let draft = Draft {
            text: text.to_owned(),
            emote: false,
            literal: false,
            reply_to: to.map(ToOwned::to_owned),
            thread_root: root.map(ToOwned::to_owned),
            mentions: Vec::new(),
        };
        let content = send::prepared(&room, &draft).await?;
        headless::send_once(&room, content).await
    }

    /// Sends a notice with a mention.
    pub async fn mention(&self, room_id: &RoomId, user_id: &UserId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        let room = self.joined(room_id).await?;
        let draft = Draft {
            text: text.to_owned(),
            emote: false,
            literal: false,
            reply_to: None,
            thread_root: None,
            mentions: vec![user_id.to_owned()],
        };
        headless::send_once(&room, send::prepared(&room, &draft).await?).await
    }

    /// Reacts to a message.
    pub async fn react(&self, room_id: &RoomId, to: &EventId, key: &str) -> Result<OwnedEventId, HeadlessError> {
        let room = self.joined(room_id).await?;
        let content = ReactionEventContent::new(Annotation::new(to.to_owned(), key.to_owned()));
        headless::send_once(&room, AnyMessageLikeEventContent::Reaction(content)).await
    }

    /// Replaces the text of one of its messages.
    pub async fn edit(&self, room_id: &RoomId, event_id: &EventId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        let room = self.joined(room_id).await?;
        let content = ruma::events::room::message::RoomMessageEventContentWithoutRelation::text_markdown(text);
        let edit = async {
            let edited = matrix_sdk::room::edit::EditedContent::RoomMessage(content);
            room.make_edit_event(event_id, edited).await.map_err(|error| Trouble::Other(error.to_string()))
        };
        let content = within(PATIENCE, edit).await?;
        headless::send_once(&room, content).await
    }

    /// Deletes a message.
    pub async fn redact(&self, room_id: &RoomId, event_id: &EventId, reason: Option<&str>) -> Result<(), HeadlessError> {
        let room = self.joined(room_id).await?;
        within(PATIENCE, room.redact(event_id, reason, None)).await?;
        Ok(())
    }

    /// Sends a picture (PNG, JPEG, GIF or WebP).
    pub async fn send_image(&self, room_id: &RoomId, filename: &str, bytes: Vec<u8>) -> Result<OwnedEventId, HeadlessError> {
        let room = self.joined(room_id).await?;
        let unusable = || HeadlessError::Refused("that is not a picture".to_owned());
        let format = image::guess_format(&bytes).map_err(|_| unusable())?;
        let mimetype = format.to_mime_type().parse().map_err(|_| unusable())?;
        let reader = image::ImageReader::with_format(std::io::Cursor::new(&bytes), format);
        let (width, height) = reader.into_dimensions().map_err(|_| unusable())?;
        let info = BaseImageInfo {
            width: Some(width.into()),
            height: Some(height.into()),
            size: u64::try_from(bytes.len()).ok().and_then(ruma::UInt::new),
            ..BaseImageInfo::default()
        };
        let config = AttachmentConfig::new().info(AttachmentInfo::Image(info));
        let sent = async { room.send_attachment(filename, &mimetype, bytes, config).await };
        Ok(within(PATIENCE, sent).await?.event_id)
    }

    /// Says that it types, or has stopped.
    pub async fn typing(&self, room_id: &RoomId, typing: bool) -> Result<(), HeadlessError> {
        let room = self.joined(room_id).await?;
        Ok(within(PATIENCE, room.typing_notice(typing)).await?)
    }

    /// Puts its read receipt on an event.
    pub async fn read(&self, room_id: &RoomId, event_id: &EventId) -> Result<(), HeadlessError> {
        let room = self.joined(room_id).await?;
        let receipt = room.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, event_id.to_owned());
        Ok(within(PATIENCE, receipt).await?)
    }

    /// Waits for a message with exactly this text, decrypted, and gives its ID.
    pub async fn wait_for_text(&self, room_id: &RoomId, text: &str) -> Result<OwnedEventId, HeadlessError> {
        let mut updates = self.context.client.event_cache().subscribe_to_room_generic_updates();
        let room = self.joined(room_id).await?;
        let found = async {
            loop {
                if let Some(event_id) = find_text(&room, text).await? {
                    return Ok(event_id);
                }
                match updates.recv().await {
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(Trouble::Other("stopped".to_owned())),
                }
            }
        };
        Ok(within(PATIENCE, found).await?)
    }

    /// The room, once it is joined here.
    async fn joined(&self, room_id: &RoomId) -> Result<Room, HeadlessError> {
        self.wait_for_state(room_id, |state| state == RoomState::Joined).await
    }

    async fn wait_for_state(&self, room_id: &RoomId, wanted: impl Fn(RoomState) -> bool) -> Result<Room, HeadlessError> {
        let mut updates = self.context.client.subscribe_to_all_room_updates();
        let arrived = async {
            loop {
                if let Some(room) = self.context.client.get_room(room_id).filter(|room| wanted(room.state())) {
                    return Ok(room);
                }
                match updates.recv().await {
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(Trouble::Other("stopped".to_owned())),
                }
            }
        };
        Ok(within(PATIENCE, arrived).await?)
    }
}

async fn find_text(room: &Room, text: &str) -> Result<Option<OwnedEventId>, Trouble> {
    let read = async {
        let (cache, _keep) = room.event_cache().await?;
        cache.events().await
    };
    let events = read.await.map_err(|error| Trouble::Other(error.to_string()))?;
    Ok(events.iter().rev().find_map(|event| {
        let AnySyncTimelineEvent::MessageLike(content) = event.raw().deserialize().ok()? else { return None };
        match content.original_content()? {
            AnyMessageLikeEventContent::RoomMessage(message) => match &message.msgtype {
                MessageType::Text(body) if body.body == text => Some(content.event_id().to_owned()),
                _ => None,
            },
            _ => None,
        }
    }))
}
