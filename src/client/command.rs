//! What the screen asks of the client half.
//!
//! Commands go through a bounded channel with `try_send`: the screen never waits. A command that carries a `Ticket` is
//! answered by exactly one `Update` with the same ticket; the others show their effect in the snapshots.

use std::path::PathBuf;

use ruma::{OwnedEventId, OwnedRoomId, OwnedRoomOrAliasId, OwnedUserId, events::room::message::FormattedBody};

pub use crate::base::Secret;
use crate::client::view::{ItemId, Message, MessageKind};

/// Pairs a command with its answer. Chosen by the sender, unique in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// How a profile comes into being, or ends. Carried out by the composition root, since it may start or stop a node.
#[derive(Debug, Clone)]
pub enum Setup {
    /// Create a node for this profile and its owner's account, then sign in to it.
    CreateHome {
        /// Localpart of the owner.
        username: String,
        /// The owner's password.
        password: Secret,
        /// Server name; `None` makes a local-only node that never listens on the network.
        server_name: Option<String>,
    },
    /// Sign in to a homeserver.
    SignIn {
        /// User ID (`@ann:example.org`), or a bare user name when `server` is given.
        user: String,
        /// Server name or base URL; `None` takes the server name of the user ID.
        server: Option<String>,
        /// The password.
        password: Secret,
    },
    /// Sign in again after the server has ended the session.
    SignInAgain {
        /// The password.
        password: Secret,
        /// False: as the same device, with everything that is here. True: as a new one, after `Update::DeviceGone`.
        new_device: bool,
        /// The account's recovery key, for a new device that has none kept.
        recovery_key: Option<Secret>,
    },
    /// Open the demonstration: a throw-away node with people and rooms.
    LookAround,
    /// Sign out and delete this device's local data for the profile.
    SignOut,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Markdown as typed.
    pub text: String,
    /// `Emote` for `/me`.
    pub emote: bool,
    /// Send exactly as typed, without markdown.
    pub literal: bool,
    /// Answers this event.
    pub reply_to: Option<OwnedEventId>,
    /// Belongs to this thread.
    pub thread_root: Option<OwnedEventId>,
    /// People whom the text mentions (`m.mentions`).
    pub mentions: Vec<OwnedUserId>,
}

impl Draft {
    /// A new message that says what this one says: an emote stays one, and what was sent as typed does not become markdown.
    #[must_use]
    pub fn again(message: &Message) -> Self {
        let text = message.body.plain.clone();
        let literal = message.body.html.is_none() && FormattedBody::markdown(&text).is_some();
        let emote = message.kind == MessageKind::Emote;
        Self { text, emote, literal, reply_to: None, thread_root: None, mentions: message.mentions.clone() }
    }

    /// The draft as one would type it: `/me` and `/plain` in front, a slash that is none of a command doubled.
    #[must_use]
    pub fn typed(&self) -> String {
        match (self.emote, self.literal) {
            (true, _) => format!("/me {}", self.text),
            (false, true) => format!("/plain {}", self.text),
            (false, false) if self.text.starts_with('/') => format!("/{}", self.text),
            (false, false) => self.text.clone(),
        }
    }

    /// What to keep of it in a draft, where there was no time to send it. An edit says that it is one: Enter would send it anew.
    #[must_use]
    pub fn kept(&self, edit: bool) -> String {
        if edit { format!("An edit that was not sent:\n{}", self.typed()) } else { self.typed() }
    }
}

/// A room to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoom {
    /// Name; `None` leaves it unnamed.
    pub name: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// Local part of an alias, for a public room.
    pub alias: Option<String>,
    /// Anybody may find and join it.
    pub public: bool,
    /// End-to-end encrypted. The screen's default: true unless `public`.
    pub encrypted: bool,
    /// A space.
    pub space: bool,
    /// People to invite at once.
    pub invite: Vec<OwnedUserId>,
}

/// What the screen asks.
#[derive(Debug, Clone)]
pub enum Command {
    /// Show this room: give it a live timeline and details. `None` closes the open one.
    OpenRoom(Option<OwnedRoomId>),
    /// Show one thread of the open room in the side timeline. `None` closes it.
    OpenThread(Option<OwnedEventId>),
    /// Fetch older history of the open room, about this many events.
    LoadOlder {
        /// Number of events.
        count: u16,
    },
    /// Fetch older replies of the open thread, about this many.
    LoadOlderInThread {
        /// Number of events.
        count: u16,
    },
    /// Send a message to a room through the send queue.
    Send {
        /// Where to.
        room_id: OwnedRoomId,
        /// What.
        draft: Draft,
    },
    /// Send a file to a room.
    SendFile {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Where to.
        room_id: OwnedRoomId,
        /// The file.
        path: PathBuf,
        /// Caption.
        caption: Option<String>,
    },
    /// Save an item's media to a file.
    Download {
        /// Answered with `Update::Saved` or `Update::Failed`.
        ticket: Ticket,
        /// Where it is.
        room_id: OwnedRoomId,
        /// Which item.
        item: ItemId,
        /// Target; `None` means the user's download directory, under the sender's file name.
        to: Option<PathBuf>,
    },
    /// Replace the text of one of our messages.
    Edit {
        /// Where it is.
        room_id: OwnedRoomId,
        /// Which one.
        item: ItemId,
        /// New text.
        draft: Draft,
    },
    /// Add our reaction, or take it back.
    ToggleReaction {
        /// Where.
        room_id: OwnedRoomId,
        /// On which item.
        item: ItemId,
        /// Usually an emoji.
        key: String,
    },
    /// Redact an event, or drop a local echo that was not sent.
    Redact {
        /// Where.
        room_id: OwnedRoomId,
        /// Which one.
        item: ItemId,
        /// Why.
        reason: Option<String>,
    },
    /// Try a failed message again.
    Retry {
        /// Where.
        room_id: OwnedRoomId,
        /// Which one.
        item: ItemId,
    },
    /// We have read the open room up to its end.
    MarkRead {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// Tell others that we type, or have stopped.
    Typing {
        /// Where.
        room_id: OwnedRoomId,
        /// Typing now.
        typing: bool,
    },
    /// Create a room.
    CreateRoom {
        /// Answered with `Update::RoomReady` or `Update::Failed`.
        ticket: Ticket,
        /// What kind.
        room: NewRoom,
    },
    /// Open the direct conversation with somebody, creating it (encrypted) where there is none.
    StartDirect {
        /// Answered with `Update::RoomReady` or `Update::Failed`.
        ticket: Ticket,
        /// With whom.
        user_id: OwnedUserId,
    },
    /// Join by ID or alias.
    Join {
        /// Answered with `Update::RoomReady`, `Update::MayKnock` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room: OwnedRoomOrAliasId,
    },
    /// Ask to be let into a room.
    Knock {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room: OwnedRoomOrAliasId,
        /// What its members are told.
        reason: Option<String>,
    },
    /// Accept an invitation.
    AcceptInvite {
        /// Answered with `Update::RoomReady` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room_id: OwnedRoomId,
    },
    /// Leave a room, or decline an invitation.
    Leave {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room_id: OwnedRoomId,
    },
    /// Invite somebody.
    Invite {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Where to.
        room_id: OwnedRoomId,
        /// Whom.
        user_id: OwnedUserId,
    },
    /// Set a room's name.
    SetName {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room_id: OwnedRoomId,
        /// The name.
        name: String,
    },
    /// Set a room's topic.
    SetTopic {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// Which room.
        room_id: OwnedRoomId,
        /// The topic.
        topic: String,
    },
    /// Remember what stands in a room's composer (drafts survive a restart). Empty text forgets it.
    SaveDraft {
        /// Which room.
        room_id: OwnedRoomId,
        /// What is typed.
        text: String,
    },
    /// Set our own display name.
    SetDisplayName {
        /// Answered with `Update::Done` or `Update::Failed`.
        ticket: Ticket,
        /// The name.
        name: String,
    },
    /// Try the connection now instead of at the next scheduled retry.
    Reconnect,
}
