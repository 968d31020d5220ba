//! Rooms as the room list and the room header show them.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId};

/// Our own relation to a room (Client-Server API, `m.room.member`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    /// We are in the room.
    Joined,
    /// Somebody has invited us.
    Invited,
    /// We have asked to be let in.
    Knocked,
    /// We have left, or were removed.
    Left,
}

/// What sort of room a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomKind {
    /// An ordinary room.
    Room,
    /// A conversation that `m.direct` lists for somebody.
    Direct,
    /// A room of type `m.space`.
    Space,
}

/// The newest message of a room, as its row shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMessage {
    /// Display name of the sender, or the localpart when there is none.
    pub sender: String,
    /// One line of plain text, without markup or line breaks.
    pub text: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// True while it is our own message that the server has not confirmed.
    pub pending: bool,
    /// True when it is our own message that will not be sent unless somebody decides so.
    pub failed: bool,
}

/// One row of the room list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// The room.
    pub id: OwnedRoomId,
    /// Display name as the specification computes it (name, alias, heroes).
    pub name: String,
    /// Canonical alias, where the room has one.
    pub alias: Option<OwnedRoomAliasId>,
    /// Room, direct conversation or space.
    pub kind: RoomKind,
    /// Our membership.
    pub membership: Membership,
    /// Messages that notify and that we have not read.
    pub unread: u64,
    /// Unread messages that mention us or match a keyword.
    pub mentions: u64,
    /// Set by hand with "mark as unread" (`m.marked_unread`).
    pub marked_unread: bool,
    /// Tagged `m.favourite`.
    pub favourite: bool,
    /// Tagged `m.lowpriority`.
    pub low_priority: bool,
    /// Push rules silence the room.
    pub muted: bool,
    /// `m.room.encryption` is set.
    pub encrypted: bool,
    /// The newest message.
    pub last: Option<LastMessage>,
    /// Sort key: larger is more recent (milliseconds since the Unix epoch where known).
    pub recency: u64,
    /// People typing now, ourselves excluded, as display names.
    pub typing: Vec<String>,
    /// Who invited us, when `membership` is `Invited`.
    pub invite: Option<InviteView>,
}

/// An invitation that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteView {
    /// The inviter.
    pub inviter: OwnedUserId,
    /// The inviter's display name, or the user ID.
    pub inviter_name: String,
    /// The reason given with the invite.
    pub reason: Option<String>,
    /// The invite says that this is a direct conversation.
    pub is_direct: bool,
}

/// The whole room list, most recent activity first. Cloning is a reference count.
#[derive(Debug, Clone, Default)]
pub struct RoomList {
    /// Rows in display order: invitations, then rooms by recency. Left rooms are absent.
    pub rows: Arc<[Arc<RoomRow>]>,
    /// False until the server has confirmed the list in this run; cached rows show meanwhile.
    pub complete: bool,
}

/// Rank of a member, from power levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// No special power.
    User,
    /// Power level 50 and above.
    Moderator,
    /// Power level 100 and above, or a creator (room version 12).
    Admin,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: OwnedUserId,
    /// Display name, made unambiguous where two members share it.
    pub name: String,
    /// Joined, invited or knocked.
    pub membership: Membership,
    /// Rank.
    pub role: MemberRole,
}

/// What the header and the member list of the open room show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDetails {
    /// The room.
    pub id: OwnedRoomId,
    /// Display name.
    pub name: String,
    /// What somebody has named it (`m.room.name`); `name` is made up where nobody has.
    pub given_name: Option<String>,
    /// Topic, as plain text, all of it: it may have several lines.
    pub topic: Option<String>,
    /// Canonical alias.
    pub alias: Option<OwnedRoomAliasId>,
    /// `m.room.encryption` is set.
    pub encrypted: bool,
    /// Room version.
    pub version: String,
    /// Joined members, as the server counts them.
    pub joined_count: u64,
    /// Known members: joined first, by role then name. Empty until loaded.
    pub members: Arc<[Member]>,
    /// True when we may send messages here.
    pub can_send: bool,
    /// Pinned events, oldest first.
    pub pinned: Vec<OwnedEventId>,
}
