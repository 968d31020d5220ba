//! Plain data that the screen shows: room rows, timeline items, members, sync state.
//!
//! Everything here is a value: cheap to clone (`Arc` inside), free of handles, locks and SDK types. The client half
//! produces it (`client::convert`), the terminal half draws it, and neither knows how the other does its work.

pub mod room;
pub mod session;
pub mod timeline;

pub use room::{InviteView, LastMessage, Member, MemberRole, Membership, RoomDetails, RoomKind, RoomList, RoomRow};
pub use session::{Connection, NodeState, SessionView, SyncPhase};
pub use timeline::{
    Body, DecryptionProblem, Item, ItemId, ItemKind, Message, MessageKind, Pagination, Reaction, ReplyPreview, SendState, StateChange,
    ThreadSummary, Timeline,
};
