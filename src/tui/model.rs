//! What the screen knows. Changed by `update` alone, except for what drawing finds out (scroll positions, layouts).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ratatui::layout::Rect;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

pub use super::timeline_view::{Anchor, Motion, Seek, TimelineView};
use super::{
    composer::Composer,
    form::Form,
    keymap::{Context, Keymap},
    keys::Key,
    layers::{Layer, Purpose},
    line_input::LineInput,
    theme::Theme,
    widgets::timeline::Layouts,
};
use crate::client::{
    command::Ticket,
    view::{Item, ItemKind, Membership, RoomDetails, RoomList, RoomRow, SessionView, Timeline},
};

/// The pane that has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Focus {
    /// The room list.
    Rooms,
    /// The timeline (or the thread, when one is open).
    Timeline,
    /// The composer.
    Composer,
}

/// What fills the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// No profile yet.
    Welcome,
    /// Rooms and messages.
    Main,
}

/// A page of the welcome screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WelcomePage {
    /// The three ways to begin.
    Menu,
    /// Create my own home.
    Create,
    /// Sign in.
    SignIn,
}

/// The welcome screen. Its forms live as long as it does, so leaving one never loses what was typed.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// What is shown.
    pub page: WelcomePage,
    /// The selected way.
    pub choice: usize,
    /// Create my own home.
    pub create: Form,
    /// Sign in.
    pub sign_in: Form,
    /// Looking around is being prepared.
    pub busy: Option<String>,
    /// Why looking around failed.
    pub error: Option<String>,
    /// Which page the step under way belongs to.
    pub pending: Option<WelcomePage>,
}

/// What to do about messages that ask for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifications {
    /// Nothing.
    Off,
    /// Ring the terminal's bell.
    Bell,
    /// Have the terminal show a notification where it can, else ring its bell.
    Osc,
}

/// How loud a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Goes away by itself.
    Info,
    /// Stays until it is put away.
    Error,
}

/// A line at the bottom that asks for no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub level: Level,
    /// In words for a person.
    pub text: String,
    /// When it goes away, for those that do.
    pub until_ms: Option<u64>,
}

/// What the mouse may hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hit {
    /// Nothing; hides what is below.
    Nothing,
    /// A way to begin, on the welcome screen.
    Way(usize),
    /// A field of the topmost form; one past the last is the button.
    Field(usize),
    /// A row of the topmost picker, counted among those that match.
    Row(usize),
    /// Yes or no.
    Answer(bool),
    /// Accepts or declines the open invitation.
    Invitation(bool),
    /// An item of the timeline.
    Item(u64),
    /// The composer.
    Composer,
}

/// What the mouse may hit and where, what lies on top last.
pub type Hits = Vec<(Rect, Hit)>;

/// Items of one snapshot, and the text of each.
pub type Searched = (Arc<[Arc<Item>]>, Arc<[String]>);

/// A search in the open conversation.
#[derive(Debug)]
pub struct Search {
    /// What is searched for.
    pub query: LineInput,
    /// Its line has the keys.
    pub typing: bool,
    /// Where one was before: what stood on top, what was selected, who had the keys.
    pub back: (Anchor, Option<u64>, Focus),
    /// Which match is selected, and how many there are.
    pub found: Option<(usize, usize)>,
    /// What is searched in, in small letters: items of one snapshot, and the text of each.
    pub texts: Option<Searched>,
}

/// The room list's own state.
#[derive(Debug, Default)]
pub struct RoomsPane {
    /// Hidden by hand.
    pub hidden: bool,
    /// Last messages are shown.
    pub previews: bool,
    /// The selected row.
    pub selected: Option<OwnedRoomId>,
    /// Letters that names must hold.
    pub filter: LineInput,
    /// The filter has the keys.
    pub filtering: bool,
    /// The first row on screen; kept by drawing.
    pub offset: usize,
}

/// What a command that awaits its answer was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaiting {
    /// Shown when it fails: "Could not invite Bob".
    Action {
        /// What failed, when it fails.
        failure: String,
        /// What to say when it is done, if anything.
        done: Option<String>,
        /// Open the room that it makes ready.
        open: bool,
    },
    /// A long paste on its way; it comes back when it fails.
    Paste {
        /// Where to.
        room_id: OwnedRoomId,
        /// All of it.
        text: Arc<str>,
        /// What stood beside it.
        caption: String,
    },
}

/// Everything.
#[derive(Debug)]
pub struct Model {
    /// What fills the terminal.
    pub screen: Screen,
    /// The welcome screen.
    pub welcome: Welcome,
    /// Dialogs and pickers, the topmost last.
    pub layers: Vec<Layer>,
    /// Forms that were closed with text in them.
    pub kept: Vec<(Purpose, Form)>,
    /// Who we are and how the connection stands.
    pub session: SessionView,
    /// The rooms.
    pub rooms: RoomList,
    /// The open room's timeline.
    pub timeline: Option<Timeline>,
    /// The open thread's timeline.
    pub thread: Option<Timeline>,
    /// The open room's details.
    pub details: Option<Arc<RoomDetails>>,
    /// The open room.
    pub open: Option<OwnedRoomId>,
    /// The open thread.
    pub thread_root: Option<OwnedEventId>,
    /// The room that was open before.
    pub last: Option<OwnedRoomId>,
    /// A room to open as soon as the list has it.
    pub wanted: Option<OwnedRoomId>,
    /// The pane that has the keys.
    pub focus: Focus,
    /// The room list.
    pub pane: RoomsPane,
    /// How the timeline is looked at.
    pub view: TimelineView,
    /// How the thread is looked at.
    pub thread_view: TimelineView,
    /// A search in the open conversation.
    pub search: Option<Search>,
    /// Laid-out items.
    pub layouts: Layouts,
    /// Composers with something in them, and the open room's.
    pub composers: HashMap<OwnedRoomId, Composer>,
    /// A composer for when no room is open, so that commands can always be typed.
    pub lone_composer: Composer,
    /// Notices, the newest last.
    pub notices: Vec<Notice>,
    /// The one at the bottom, where drawing found no room for all of it.
    pub cut_notice: Option<String>,
    /// The step of setting up that a notice tells of.
    pub progress: Option<String>,
    /// Commands that await their answer.
    pub awaiting: HashMap<Ticket, Awaiting>,
    /// The next ticket.
    pub next_ticket: u64,
    /// Keys of a sequence pressed so far.
    pub pressed: Vec<Key>,
    /// When a sequence is given up.
    pub pressed_until_ms: Option<u64>,
    /// Rooms whose draft is to be saved, and when.
    pub drafts_due: HashMap<OwnedRoomId, u64>,
    /// Rooms whose composer was emptied in this run: what was stored for them is older than that.
    pub drafts_gone: HashSet<OwnedRoomId>,
    /// Tickets below this one were given to a client that is gone.
    pub lost_tickets: u64,
    /// Where we said that we type, when last, and when to say that we stopped.
    pub typing: Option<(OwnedRoomId, u64, u64)>,
    /// The room and its last item that we marked as read.
    pub marked: Option<(OwnedRoomId, u64)>,
    /// Keys.
    pub keymap: Arc<Keymap>,
    /// Colours.
    pub theme: Arc<Theme>,
    /// Counts changes of theme, so that layouts of the old one are dropped.
    pub theme_generation: u32,
    /// What to do about messages that ask for attention.
    pub notifications: Notifications,
    /// When somebody was last notified.
    pub notified_ms: Option<u64>,
    /// The terminal's window has the focus, as far as it tells.
    pub focused: bool,
    /// It does tell.
    pub tells_focus: bool,
    /// Now, in milliseconds since the Unix epoch; set by the loop before every message.
    pub now_ms: u64,
    /// Local time.
    pub zone: crate::base::Zone,
    /// The end has been asked for.
    pub quitting: bool,
    /// The screen as it was last drawn.
    pub screen_area: Rect,
    /// Parts of it whose lines may have moved up or down since the drawing before.
    pub scrolls: Vec<Rect>,
    /// What the mouse may hit.
    pub hits: Hits,
}

impl Model {
    /// A model before anything has happened.
    #[must_use]
    pub fn new(keymap: Keymap, theme: Theme, zone: crate::base::Zone) -> Self {
        Self {
            screen: Screen::Main,
            welcome: super::screens::welcome::fresh(),
            layers: Vec::new(),
            kept: Vec::new(),
            session: SessionView::default(),
            rooms: RoomList::default(),
            timeline: None,
            thread: None,
            details: None,
            open: None,
            thread_root: None,
            last: None,
            wanted: None,
            focus: Focus::Rooms,
            pane: RoomsPane { previews: true, ..RoomsPane::default() },
            view: TimelineView::default(),
            thread_view: TimelineView::default(),
            search: None,
            layouts: Layouts::default(),
            composers: HashMap::new(),
            lone_composer: Composer::default(),
            notices: Vec::new(),
            cut_notice: None,
            progress: None,
            awaiting: HashMap::new(),
            next_ticket: 1,
            pressed: Vec::new(),
            pressed_until_ms: None,
            drafts_due: HashMap::new(),
            drafts_gone: HashSet::new(),
            lost_tickets: 0,
            typing: None,
            marked: None,
            keymap: Arc::new(keymap),
            theme: Arc::new(theme),
            theme_generation: 0,
            notifications: Notifications::Osc,
            notified_ms: None,
            focused: true,
            tells_focus: false,
            now_ms: 0,
            zone,
            quitting: false,
            screen_area: Rect::default(),
            scrolls: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// The row of a room.
    #[must_use]
    pub fn row(&self, room_id: &RoomId) -> Option<&Arc<RoomRow>> {
        self.rooms.rows.iter().find(|row| row.id == room_id)
    }

    /// The row of the open room.
    #[must_use]
    pub fn open_row(&self) -> Option<&Arc<RoomRow>> {
        self.open.as_ref().and_then(|open| self.row(open))
    }

    /// True when a room is open that we are not in: an invitation, or one that we have asked to be let into.
    #[must_use]
    pub fn invitation_open(&self) -> bool {
        self.open_row().is_some_and(|row| matches!(row.membership, Membership::Invited | Membership::Knocked))
    }

    /// True while the search line has the keys.
    #[must_use]
    pub fn searching(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.typing)
    }

    /// The composer that has the text.
    #[must_use]
    pub fn composer(&self) -> &Composer {
        self.open.as_ref().and_then(|open| self.composers.get(open)).unwrap_or(&self.lone_composer)
    }

    /// The composer that has the text, to change it.
    pub fn composer_mut(&mut self) -> &mut Composer {
        match &self.open {
            Some(open) => self.composers.entry(open.clone()).or_default(),
            None => &mut self.lone_composer,
        }
    }

    /// The open room's timeline, where the snapshot is of that room.
    #[must_use]
    pub fn open_timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref().filter(|timeline| Some(&timeline.room_id) == self.open.as_ref())
    }

    /// The open thread's timeline, where the snapshot is of that thread.
    #[must_use]
    pub fn open_thread(&self) -> Option<&Timeline> {
        self.thread_root.as_ref()?;
        self.thread.as_ref().filter(|timeline| timeline.thread_root == self.thread_root)
    }

    /// The timeline that has the keys, as it is on screen: the thread where one is open; what is held while that is shown.
    #[must_use]
    pub fn active_timeline(&self) -> Option<&Timeline> {
        match &self.view.held {
            Some(held) if self.thread_root.is_none() => Some(held),
            _ => self.live_timeline(),
        }
    }

    /// The same as the client half has it now, for asking it for more.
    #[must_use]
    pub fn live_timeline(&self) -> Option<&Timeline> {
        if self.thread_root.is_some() { self.open_thread() } else { self.open_timeline() }
    }

    /// How the timeline that has the keys is looked at.
    #[must_use]
    pub fn active_view(&self) -> &TimelineView {
        if self.thread_root.is_some() { &self.thread_view } else { &self.view }
    }

    /// How the timeline that has the keys is looked at, to change it.
    pub fn active_view_mut(&mut self) -> &mut TimelineView {
        if self.thread_root.is_some() { &mut self.thread_view } else { &mut self.view }
    }

    /// The selected item.
    #[must_use]
    pub fn selected_item(&self) -> Option<&Arc<Item>> {
        let selected = self.active_view().selected?;
        self.active_timeline()?.items.iter().find(|item| item.unique == selected)
    }

    /// Rows that the room list shows.
    #[must_use]
    pub fn listed(&self) -> Vec<&Arc<RoomRow>> {
        let filter = self.pane.filter.text().trim().to_lowercase();
        self.rooms
            .rows
            .iter()
            .filter(|row| {
                filter.is_empty()
                    || row.name.to_lowercase().contains(&filter)
                    || row.alias.as_ref().is_some_and(|alias| alias.as_str().to_lowercase().contains(&filter))
            })
            .collect()
    }

    /// The keymap's contexts, the nearest first.
    #[must_use]
    pub fn contexts(&self) -> &'static [Context] {
        if !self.layers.is_empty() || self.screen == Screen::Welcome || self.pane.filtering || self.searching() {
            return &[Context::Dialog];
        }
        match self.focus {
            Focus::Rooms => &[Context::Rooms, Context::Global],
            // An invitation is answered with the keys of the list that it stands in.
            _ if self.invitation_open() => &[Context::Rooms, Context::Global],
            Focus::Timeline => &[Context::Timeline, Context::Global],
            Focus::Composer if self.composer().is_empty() => &[Context::Empty, Context::Composer, Context::Global],
            Focus::Composer => &[Context::Composer, Context::Global],
        }
    }

    /// When something is due next, in milliseconds since the Unix epoch. `None`: sleep until something happens.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let drafts = self.drafts_due.values().copied();
        let notices = self.notices.iter().filter_map(|notice| notice.until_ms);
        let typing = self.typing.as_ref().map(|(_, _, stop)| *stop);
        drafts.chain(notices).chain(typing).chain(self.pressed_until_ms).min()
    }

    /// The short form of a key for hints, where the keymap has one.
    #[must_use]
    pub fn key(&self, action: super::action::Action) -> String {
        let all = [Context::Composer, Context::Timeline, Context::Rooms, Context::Global, Context::Dialog, Context::Empty];
        self.keymap.keys_of(action, &[Context::Global]).or_else(|| self.keymap.keys_of(action, &all)).unwrap_or_default()
    }
}

/// True for items that a person can select.
#[must_use]
pub fn selectable(item: &Item) -> bool {
    matches!(item.kind, ItemKind::Message(_) | ItemKind::Redacted { .. } | ItemKind::Undecryptable(_) | ItemKind::Unsupported { .. })
}
