//! Timeline items as the screen lays them out.
//!
//! An item's `revision` changes whenever anything it shows changes, so a layout cached under `(unique, revision, width,
//! theme)` never goes stale and never needs comparing contents.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId};

/// Names an event in a timeline, whether or not the server has given it an ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ItemId {
    /// A local echo.
    Transaction(OwnedTransactionId),
    /// An event that the server has accepted.
    Event(OwnedEventId),
}

/// The state of one of our own messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendState {
    /// In the send queue.
    Sending,
    /// The server has it (a 200 from our own node means that it is on disk).
    Sent,
    /// Sending failed; it waits for retry or discard.
    Failed {
        /// What went wrong, in words for a person.
        reason: String,
        /// True when the queue will retry by itself once the connection is back.
        will_retry: bool,
    },
}

/// Text with optional markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Plain text (may hold line breaks).
    pub plain: String,
    /// `formatted_body` where it is HTML (`org.matrix.custom.html`), sanitised, reply fallback removed.
    pub html: Option<String>,
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// `m.text`.
    Text,
    /// `m.emote`.
    Emote,
    /// `m.notice`.
    Notice,
    /// `m.image`, `m.video`, `m.audio`, `m.file`, `m.sticker`.
    Media {
        /// What to call it: "image", "video", "audio", "voice message", "file", "sticker".
        label: &'static str,
        /// File name.
        filename: String,
        /// Size in bytes, where the sender said.
        size_bytes: Option<u64>,
        /// MIME type, where the sender said.
        mimetype: Option<String>,
    },
    /// `m.location`.
    Location,
    /// Anything else that has a plain body.
    Other {
        /// The `msgtype` or event type.
        kind: String,
    },
}

/// One reaction key with the people who used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// Usually an emoji.
    pub key: String,
    /// How many people used it.
    pub count: usize,
    /// We are among them.
    pub mine: bool,
    /// Display names or user IDs, first come first.
    pub senders: Vec<String>,
}

/// The message that a reply answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyPreview {
    /// The event replied to.
    pub event_id: OwnedEventId,
    /// Its sender's display name, once loaded.
    pub sender: Option<String>,
    /// One line of it, once loaded.
    pub text: Option<String>,
}

/// What is known of the thread below a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Number of replies.
    pub replies: u32,
    /// One line of the newest reply.
    pub latest: Option<String>,
}

/// A message, ours or somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub kind: MessageKind,
    /// Its text; for media, the caption (empty when none).
    pub body: Body,
    /// Has been edited.
    pub edited: bool,
    /// What it answers.
    pub reply: Option<ReplyPreview>,
    /// Reactions in order of first use.
    pub reactions: Vec<Reaction>,
    /// The thread that starts here.
    pub thread: Option<ThreadSummary>,
    /// Belongs to the thread with this root.
    pub in_thread: Option<OwnedEventId>,
    /// Mentions us.
    pub mentions_me: bool,
    /// Whom it mentions; told of messages that we may edit only.
    pub mentions: Vec<OwnedUserId>,
    /// We may edit it.
    pub editable: bool,
}

/// Why a message could not be decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecryptionProblem {
    /// The reason and what would help, in words for a person.
    pub reason: String,
}

/// A change of room state, as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// For instance `Ann invited Bob`, `Ann changed the topic to "..."`.
    pub text: String,
    /// True for joins, leaves and profile changes, which a screen may fold together.
    pub is_membership: bool,
}

/// What one item shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every item is a message, and items live behind an Arc")]
pub enum ItemKind {
    /// Start of a day in local time; the timestamp lies in that day.
    DayDivider {
        /// Milliseconds since the Unix epoch.
        timestamp_ms: u64,
    },
    /// Everything below has arrived since we last read the room.
    ReadMarker,
    /// The room's first event is above the next item.
    TimelineStart,
    /// Messages between the items around this one have not been loaded, and cannot be until the server is reached.
    Gap,
    /// A message.
    Message(Message),
    /// A message that was redacted.
    Redacted {
        /// Who redacted it, where known.
        by: Option<String>,
        /// The reason given.
        reason: Option<String>,
    },
    /// An encrypted event without a usable key. Replaced in place when the key comes.
    Undecryptable(DecryptionProblem),
    /// A state change.
    State(StateChange),
    /// An event that we have no better way to show.
    Unsupported {
        /// The event type.
        event_type: String,
    },
}

/// One line of a timeline (an event, or a divider between events).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Stable for as long as the item is in this timeline, through local echo and edits.
    pub unique: u64,
    /// Grows whenever any other field changes.
    pub revision: u64,
    /// The event, where the item is one.
    pub id: Option<ItemId>,
    /// Who sent it; absent on dividers.
    pub sender: Option<OwnedUserId>,
    /// Display name of the sender, disambiguated, or the localpart.
    pub sender_name: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// We sent it.
    pub is_own: bool,
    /// State of our own message; `Sent` for everybody else's.
    pub send_state: SendState,
    /// Names of other people whose read receipt stands here.
    pub read_by: Vec<String>,
    /// What it shows.
    pub kind: ItemKind,
}

/// Whether older history is being fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pagination {
    /// More may be had.
    Idle,
    /// A request is under way.
    Loading,
    /// The first event of the room is loaded.
    AtStart,
    /// The last request failed.
    Failed {
        /// What went wrong, in words for a person.
        reason: String,
    },
}

/// An open room's timeline, oldest first. Cloning is a reference count.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Set when this is the timeline of one thread.
    pub thread_root: Option<OwnedEventId>,
    /// The items.
    pub items: Arc<[Arc<Item>]>,
    /// Older history.
    pub back: Pagination,
    /// Pages of older history that have come: one may show nothing (reactions to what is not loaded yet), and is no less an answer.
    pub pages: u32,
    /// Display names of people typing, ourselves excluded.
    pub typing: Arc<[String]>,
}
