//! How a timeline is looked at: where it stands, what is selected, where one wants to go.

use std::collections::HashSet;

use ruma::OwnedEventId;

use crate::client::view::Timeline;

/// Where a timeline is scrolled to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The newest message stands at the bottom.
    #[default]
    Bottom,
    /// This line of this item stands at the top. Whatever is loaded above or arrives below, it stays there.
    Top {
        /// The item.
        unique: u64,
        /// The line of it.
        line: usize,
        /// When the item was sent, to find a place when the item is gone.
        timestamp_ms: u64,
    },
}

/// A way to go, carried out when the lines are known: at the next drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// So many lines, up when negative.
    Lines(i32),
    /// So many pages.
    Pages(i32),
    /// To the first loaded item.
    Top,
    /// To the newest.
    Bottom,
    /// So that this item is on screen.
    Show(u64),
    /// So that this item is the first on screen.
    At(u64),
}

/// An event to go to that is not loaded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seek {
    /// Which one.
    pub event_id: OwnedEventId,
    /// How often to ask for more before giving up.
    pub attempts: u8,
    /// It stood at the top of the screen, with this line first, and is to stand there again: nobody asked to go anywhere.
    pub place: Option<usize>,
}

/// How one timeline is looked at.
#[derive(Debug, Default)]
pub struct TimelineView {
    /// Scroll position.
    pub anchor: Anchor,
    /// Ways to go at the next drawing.
    pub motions: Vec<Motion>,
    /// The selected item.
    pub selected: Option<u64>,
    /// Items whose spoilers are shown.
    pub revealed: HashSet<u64>,
    /// Where jumps came from.
    pub jumps: Vec<Anchor>,
    /// Going to the beginning, however much there is to load.
    pub to_start: bool,
    /// Going to an event that is not loaded.
    pub seek: Option<Seek>,
    /// What was read before the client half let go of it (after a gap, it begins anew from the newest message). Shown until
    /// the place is found again.
    pub held: Option<Timeline>,
    /// The first item, the count and the pages when older history was last asked for, so that it is asked once.
    pub asked: Option<(u64, usize, u32)>,
    /// The first message that was new when the end came on screen. The line above it stays while the room is open, wherever
    /// the server's marker goes.
    pub first_unread: Option<OwnedEventId>,
    /// The end was on screen, and seen, at the last drawing: what comes then is no news.
    pub watching: bool,
    /// The newest item when the end was last on screen.
    pub seen: Option<u64>,
    /// Messages below the screen that came since.
    pub new_below: usize,
    /// Drawing found the end on screen.
    pub at_bottom: bool,
    /// Drawing found the first loaded item near the screen.
    pub near_top: bool,
    /// Lines on screen at the last drawing; none where it was not drawn.
    pub height: usize,
}

impl TimelineView {
    /// Drawing begins: nothing of it is on screen until it is drawn.
    pub fn before_drawing(&mut self) {
        self.height = 0;
        self.near_top = false;
    }

    /// Drawing is over. What is not on screen is read by nobody. Ways that were not gone are not kept for later: a step is meant
    /// for what is on screen. Only the last place that was named is, where the timeline is `loaded` and something covers it.
    pub fn after_drawing(&mut self, loaded: bool) {
        self.watching &= self.height > 0;
        let place = |motion: &Motion| matches!(motion, Motion::Top | Motion::Bottom | Motion::Show(_) | Motion::At(_));
        let last = self.motions.iter().rev().copied().find(place).filter(|_| loaded);
        self.motions.clear();
        self.motions.extend(last);
    }

    /// Lets go of what was held: from here on this is shown, where it is known.
    pub fn release(&mut self, now: Option<&Timeline>) {
        if let Some(held) = self.held.take() {
            self.follow(&held, now);
        }
    }

    /// The items are counted anew: what was selected is the same event. One that is not there any more stays selected, unseen, so
    /// that no other is taken for it.
    pub fn follow(&mut self, before: &Timeline, now: Option<&Timeline>) {
        let Some(selected) = self.selected else { return };
        if now.is_some_and(|now| now.items.iter().any(|item| item.unique == selected)) {
            return;
        }
        let event = before.items.iter().find(|item| item.unique == selected).and_then(|item| item.id.as_ref());
        let same = event.and_then(|event| now?.items.iter().rev().find(|item| item.id.as_ref() == Some(event)));
        if let Some(item) = same {
            self.selected = Some(item.unique);
        }
    }
}
