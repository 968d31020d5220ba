//! Everything that can change the model.

use std::{collections::HashMap, sync::Arc};

use crossterm::event::MouseEvent;
use ruma::OwnedRoomId;

use super::{composer::Candidate, keymap::Keymap, keys::Key, theme::Theme};
use crate::client::{
    command::{Command, Setup, Ticket},
    update::Update,
    view::{RoomDetails, RoomList, SessionView, Timeline},
};

impl Msg {
    /// What kind of message, for the log: never what is in it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Paste(_) => "paste",
            Self::Mouse(_) => "mouse",
            Self::Resize => "size",
            Self::Focus(_) => "focus",
            Self::Update(_) => "update",
            Self::Session(_) => "session",
            Self::Rooms(_) => "rooms",
            Self::Timeline(_) => "timeline",
            Self::Thread(_) => "thread",
            Self::Details(_) => "details",
            Self::Drafts(_) => "drafts",
            Self::Tick => "deadline",
            Self::Refused(_) | Self::SetupRefused(_) => "refused",
            Self::PasteFailed(..) | Self::Files(..) => "files",
            Self::Theme(_) | Self::Keymap(_) => "look",
            Self::Drawn => "drawn",
        }
    }
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has a new size.
    Resize,
    /// The terminal's window gained or lost the focus.
    Focus(bool),
    /// Something happened once in the client half.
    Update(Update),
    /// New snapshot.
    Session(SessionView),
    /// New snapshot.
    Rooms(RoomList),
    /// New snapshot.
    Timeline(Option<Timeline>),
    /// New snapshot.
    Thread(Option<Timeline>),
    /// New snapshot.
    Details(Option<Arc<RoomDetails>>),
    /// Drafts of the profile that was opened.
    Drafts(Arc<HashMap<OwnedRoomId, String>>),
    /// A deadline has come.
    Tick,
    /// The client half has no room for this command now.
    Refused(Command),
    /// The composition root has no room for this step now.
    SetupRefused(Setup),
    /// A file for a long paste could not be written.
    PasteFailed(Ticket, String),
    /// Files that the typed path may mean.
    Files(Vec<Candidate>, String),
    /// A theme was loaded, or why not.
    Theme(Result<Box<Theme>, String>),
    /// A keymap was loaded, or why not.
    Keymap(Result<Box<Keymap>, String>),
    /// What was drawn calls for something (older history, a read receipt).
    Drawn,
}
