//! What the client half tells the screen, and the channel pair between the two.
//!
//! State comes as snapshots in `watch` channels (the latest wins, nothing piles up); things that happen once come as
//! `Update`s. `link()` makes both ends.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use ruma::{OwnedRoomId, OwnedRoomOrAliasId};
use tokio::sync::{Notify, mpsc, watch};

use crate::client::{
    command::{Command, Draft, Setup, Ticket},
    view::{ItemId, RoomDetails, RoomList, SessionView, Timeline},
};

/// Commands that may wait for the actor; a screen whose `try_send` fails says that homeroom is busy.
pub const COMMANDS: usize = 256;
/// Updates that may wait for the screen; the client half waits for room (it never drops one).
pub const UPDATES: usize = 256;

/// Something that happened once.
#[derive(Debug, Clone)]
pub enum Update {
    /// A profile is ready: the main screen may open.
    SignedIn,
    /// There is no account now: show the welcome screen.
    SignedOut,
    /// A `Setup` step failed; the form stays as it was.
    SetupFailed {
        /// What happened and what to do, in words for a person.
        reason: String,
    },
    /// A `Setup` step was given up, as it was asked for through `Link::cancel`; nothing has changed.
    SetupCancelled,
    /// Signing in again as the same device cannot be: the server has deleted it. `Setup::SignInAgain` with a new device can.
    DeviceGone {
        /// What happened, what would be kept and what not, in words for a person.
        text: String,
        /// The recovery key is kept here, so that nobody need type it.
        recovery_key_kept: bool,
    },
    /// A `Setup` step has come this far ("Looking up example.org").
    SetupProgress {
        /// One line.
        text: String,
    },
    /// Carried out.
    Done(Ticket),
    /// The room can be opened.
    RoomReady(Ticket, OwnedRoomId),
    /// The room cannot be joined just so, but one may ask to be let in (`Command::Knock`).
    MayKnock(Ticket, OwnedRoomOrAliasId),
    /// A file was written.
    Saved(Ticket, PathBuf),
    /// Refused or failed; nothing was changed unless the reason says so.
    Failed(Ticket, String),
    /// A room was found to be gone or closed to us while it was open.
    RoomClosed(OwnedRoomId, String),
    /// A message that deserves attention arrived (push rules say so), maybe in the room that is open.
    Notify {
        /// Where.
        room_id: OwnedRoomId,
        /// The room's name.
        room_name: String,
        /// Sender and text in one line.
        text: String,
        /// It mentions us.
        highlight: bool,
        /// The room is a direct conversation.
        direct: bool,
    },
    /// A message or edit could not even be put into the send queue. It is kept nowhere: here it is back.
    NotSent {
        /// Where it was meant to go.
        room_id: OwnedRoomId,
        /// What was to be sent.
        draft: Draft,
        /// The message whose new text it was to be.
        edited: Option<ItemId>,
        /// Why not, in words for a person.
        reason: String,
    },
    /// Something worth knowing happened outside any command; nothing is wrong.
    News {
        /// In words for a person.
        text: String,
    },
    /// Something failed outside any command.
    Notice {
        /// In words for a person.
        text: String,
    },
}

/// The screen's end.
#[derive(Debug)]
pub struct Link {
    /// Profile steps, carried out by the composition root.
    pub setup: mpsc::Sender<Setup>,
    /// Gives up the step that is under way (`notify_waiters`), as far as it can be.
    pub cancel: Arc<Notify>,
    /// Commands to the client actor.
    pub commands: mpsc::Sender<Command>,
    /// Things that happened once.
    pub updates: mpsc::Receiver<Update>,
    /// Session and connection.
    pub session: watch::Receiver<SessionView>,
    /// Room list.
    pub rooms: watch::Receiver<RoomList>,
    /// Timeline of the open room.
    pub timeline: watch::Receiver<Option<Timeline>>,
    /// Timeline of the open thread.
    pub thread: watch::Receiver<Option<Timeline>>,
    /// Details of the open room.
    pub details: watch::Receiver<Option<Arc<RoomDetails>>>,
    /// Drafts as they were when the profile opened.
    pub drafts: watch::Receiver<Arc<HashMap<OwnedRoomId, String>>>,
}

/// The client half's end. The composition root holds it while no actor runs and takes it back when one stops.
#[derive(Debug)]
pub struct Port {
    /// Profile steps.
    pub setup: mpsc::Receiver<Setup>,
    /// Wakes whoever carries a step out that is to be given up.
    pub cancel: Arc<Notify>,
    /// What the actor serves.
    pub feed: Feed,
}

/// The part of the port that the client actor works with.
#[derive(Debug)]
pub struct Feed {
    /// Commands from the screen.
    pub commands: mpsc::Receiver<Command>,
    /// To the screen.
    pub outlet: Outlet,
}

/// The sending sides, shared by the client half's tasks.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// Things that happened once.
    pub updates: mpsc::Sender<Update>,
    /// Session and connection.
    pub session: Arc<watch::Sender<SessionView>>,
    /// Room list.
    pub rooms: Arc<watch::Sender<RoomList>>,
    /// Timeline of the open room.
    pub timeline: Arc<watch::Sender<Option<Timeline>>>,
    /// Timeline of the open thread.
    pub thread: Arc<watch::Sender<Option<Timeline>>>,
    /// Details of the open room.
    pub details: Arc<watch::Sender<Option<Arc<RoomDetails>>>>,
    /// Drafts.
    pub drafts: Arc<watch::Sender<Arc<HashMap<OwnedRoomId, String>>>>,
}

/// Makes the two ends.
#[must_use]
pub fn link() -> (Link, Port) {
    let (setup_tx, setup_rx) = mpsc::channel(4);
    let (commands_tx, commands_rx) = mpsc::channel(COMMANDS);
    let (updates_tx, updates_rx) = mpsc::channel(UPDATES);
    let (session_tx, session_rx) = watch::channel(SessionView::default());
    let (rooms_tx, rooms_rx) = watch::channel(RoomList::default());
    let (timeline_tx, timeline_rx) = watch::channel(None);
    let (thread_tx, thread_rx) = watch::channel(None);
    let (details_tx, details_rx) = watch::channel(None);
    let (drafts_tx, drafts_rx) = watch::channel(Arc::new(HashMap::new()));
    let cancel = Arc::new(Notify::new());
    let link = Link {
        setup: setup_tx,
        cancel: Arc::clone(&cancel),
        commands: commands_tx,
        updates: updates_rx,
        session: session_rx,
        rooms: rooms_rx,
        timeline: timeline_rx,
        thread: thread_rx,
        details: details_rx,
        drafts: drafts_rx,
    };
    let outlet = Outlet {
        updates: updates_tx,
        session: Arc::new(session_tx),
        rooms: Arc::new(rooms_tx),
        timeline: Arc::new(timeline_tx),
        thread: Arc::new(thread_tx),
        details: Arc::new(details_tx),
        drafts: Arc::new(drafts_tx),
    };
    let port = Port { setup: setup_rx, cancel, feed: Feed { commands: commands_rx, outlet } };
    (link, port)
}
