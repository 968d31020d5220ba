//! The timeline: lays items out once, keeps the place when things are loaded above or arrive below, draws what is visible.

pub mod fold;
mod layout;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

pub use layout::Setting;

use super::put;
use crate::{
    base::Zone,
    client::view::{Item, ItemId, ItemKind, SendState, Timeline},
    tui::{
        model::{Anchor, Hit, Hits, Motion, TimelineView, selectable},
        theme::{Scope, Theme},
    },
};

/// Laid-out items that are kept; beyond this those not used lately are dropped.
const KEPT: usize = 3000;
/// Messages of one person within this time stand under one name.
const GROUP_MS: u64 = 10 * 60 * 1000;
/// Snapshots whose folds are kept: the room's and the thread's.
const FOLDED: usize = 2;
/// Older history is asked for when the first loaded item is this near to the screen, in items.
const NEAR: usize = 15;

/// What a kept layout was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    revision: u64,
    width: u16,
    generation: u32,
    grouped: bool,
    revealed: bool,
    newest_own: bool,
    first_unread: bool,
    /// Count and revisions of the changes that this one stands for.
    folded: Option<(usize, u64)>,
}

#[derive(Debug)]
struct Kept {
    made: Made,
    lines: Arc<[Line<'static>]>,
    used: u64,
}

/// A snapshot and its folds.
type Folded = (Weak<[Arc<Item>]>, Arc<[fold::Fold]>);

/// Laid-out items.
#[derive(Debug, Default)]
pub struct Layouts {
    kept: HashMap<(u64, u64), Kept>,
    draws: u64,
    /// The folds of the snapshots drawn last, which are not kept alive by it.
    folds: Vec<Folded>,
}

impl Layouts {
    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// True when none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The folds of a snapshot, found once for all its draws.
    fn folds(&mut self, items: &Arc<[Arc<Item>]>) -> Arc<[fold::Fold]> {
        let known = self.folds.iter().find(|(of, _)| of.upgrade().is_some_and(|of| Arc::ptr_eq(&of, items)));
        if let Some((_, folds)) = known {
            return Arc::clone(folds);
        }
        let folds: Arc<[fold::Fold]> = fold::folds(items).into();
        if self.folds.len() >= FOLDED {
            self.folds.remove(0);
        }
        self.folds.push((Arc::downgrade(items), Arc::clone(&folds)));
        folds
    }

    fn tidy(&mut self) {
        self.draws += 1;
        if self.kept.len() > KEPT {
            let recent = self.draws.saturating_sub(2);
            self.kept.retain(|_, kept| kept.used >= recent);
        }
    }
}

/// What drawing needs to know besides the timeline.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Styles.
    pub theme: &'a Theme,
    /// Counts changes of theme.
    pub generation: u32,
    /// Local time.
    pub zone: Zone,
    /// This timeline has the keys.
    pub focused: bool,
    /// Keys for retry and discard.
    pub keys: (&'a str, &'a str),
}

/// A line of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    line: usize,
}

struct Flow<'a> {
    items: &'a [Arc<Item>],
    layouts: &'a mut Layouts,
    look: Look<'a>,
    revealed: &'a std::collections::HashSet<u64>,
    timeline: u64,
    width: u16,
    newest_own: Option<u64>,
    folds: Arc<[fold::Fold]>,
    first_unread: Option<u64>,
    watching: bool,
}

impl Flow<'_> {
    /// The server's marker, where a line of our own stands for it, or where somebody watches: it would come and go with every
    /// message.
    fn hidden(&self, item: &Item) -> bool {
        item.kind == ItemKind::ReadMarker && (self.first_unread.is_some() || self.watching)
    }

    /// The run that an item is folded into. None where it stands for itself, or the run has been opened.
    fn folded(&self, index: usize) -> Option<fold::Fold> {
        let fold = fold::at(&self.folds, index)?;
        let head = self.items.get(fold.start)?;
        (!self.revealed.contains(&head.unique)).then_some(fold)
    }

    fn grouped(&self, index: usize) -> bool {
        let before = self.items.get(..index).and_then(|before| before.iter().rev().find(|item| !self.hidden(item)));
        let Some((before, item)) = before.zip(self.items.get(index)) else { return false };
        let speaks = |item: &Item| matches!(item.kind, ItemKind::Message(_) | ItemKind::Redacted { .. } | ItemKind::Undecryptable(_));
        let emote = |item: &Item| matches!(&item.kind, ItemKind::Message(m) if m.kind == crate::client::view::MessageKind::Emote);
        self.first_unread != Some(item.unique)
            && speaks(before)
            && speaks(item)
            && !emote(before)
            && before.sender.is_some()
            && before.sender == item.sender
            && item.timestamp_ms.saturating_sub(before.timestamp_ms) < GROUP_MS
    }

    fn lines(&mut self, index: usize) -> Arc<[Line<'static>]> {
        let Some(item) = self.items.get(index) else { return Arc::from([]) };
        let folded = self.folded(index);
        // The line above what is new stays while the room is open; the server's marker would leave with the first receipt.
        if self.hidden(item) || folded.is_some_and(|fold| fold.start != index) {
            return Arc::from([]);
        }
        let run = folded.and_then(|fold| self.items.get(fold.start..fold.start + fold.count));
        let revisions =
            |run: &[Arc<Item>]| run.iter().fold(0_u64, |sum, item| sum.wrapping_add(item.unique ^ item.revision.rotate_left(32)));
        let made = Made {
            folded: run.map(|run| (run.len(), revisions(run))),
            revision: item.revision,
            width: self.width,
            generation: self.look.generation,
            grouped: self.grouped(index),
            revealed: self.revealed.contains(&item.unique),
            newest_own: self.newest_own == Some(item.unique),
            first_unread: self.first_unread == Some(item.unique),
        };
        let key = (self.timeline, item.unique);
        let used = self.layouts.draws;
        if let Some(kept) = self.layouts.kept.get_mut(&key)
            && kept.made == made
        {
            kept.used = used;
            return Arc::clone(&kept.lines);
        }
        let setting = Setting {
            width: self.width,
            theme: self.look.theme,
            zone: self.look.zone,
            grouped: made.grouped,
            revealed: made.revealed,
            newest_own: made.newest_own,
            first_unread: made.first_unread,
            keys: self.look.keys,
        };
        let lines: Arc<[Line<'static>]> = run.map_or_else(|| layout::lines(item, setting), |run| layout::folded(item, run, setting)).into();
        self.layouts.kept.insert(key, Kept { made, lines: Arc::clone(&lines), used });
        lines
    }

    fn height(&mut self, index: usize) -> usize {
        self.lines(index).len()
    }

    /// The place so many lines above; the first line when there are fewer. The rest that could not be gone comes with it.
    fn back(&mut self, from: Place, mut lines: usize) -> (Place, usize) {
        let mut place = from;
        while lines > 0 {
            if place.line >= lines {
                place.line -= lines;
                return (place, 0);
            }
            lines -= place.line;
            place.line = 0;
            if place.index == 0 {
                return (place, lines);
            }
            place.index -= 1;
            place.line = self.height(place.index);
        }
        // An item without lines is no place to stop at.
        (place, 0)
    }

    fn forward(&mut self, from: Place, mut lines: usize) -> Place {
        let mut place = from;
        while lines > 0 && place.index < self.items.len() {
            let left = self.height(place.index).saturating_sub(place.line);
            if lines < left {
                place.line += lines;
                return place;
            }
            lines -= left;
            if place.index + 1 >= self.items.len() {
                return place;
            }
            place = Place { index: place.index + 1, line: 0 };
        }
        place
    }

    /// True when fewer than `lines` lines follow from here.
    fn ends_within(&mut self, from: Place, lines: usize) -> bool {
        let mut counted = 0;
        for index in from.index..self.items.len() {
            counted += self.height(index);
            if index == from.index {
                counted = counted.saturating_sub(from.line);
            }
            if counted > lines {
                return false;
            }
        }
        true
    }

    /// The top of a screen that ends with the last line.
    fn bottom(&mut self, height: usize) -> Place {
        let last = Place { index: self.items.len(), line: 0 };
        let (place, _) = self.back(last, height);
        place
    }

    fn find(&self, unique: u64) -> Option<usize> {
        // The end is where people look.
        self.items.iter().rposition(|item| item.unique == unique)
    }

    fn anchor(&mut self, anchor: Anchor, height: usize) -> Place {
        match anchor {
            Anchor::Bottom => self.bottom(height),
            Anchor::Top { unique, line, timestamp_ms } => {
                let index = self.find(unique).or_else(|| self.items.iter().position(|item| item.timestamp_ms >= timestamp_ms));
                match index {
                    Some(index) => {
                        let last = self.height(index).saturating_sub(1);
                        Place { index, line: line.min(last) }
                    }
                    None => self.bottom(height),
                }
            }
        }
    }

    fn go(&mut self, from: Place, motion: Motion, height: usize) -> Place {
        match motion {
            Motion::Lines(lines) if lines < 0 => self.back(from, usize::try_from(lines.unsigned_abs()).unwrap_or(usize::MAX)).0,
            Motion::Lines(lines) => self.forward(from, usize::try_from(lines).unwrap_or(0)),
            Motion::Pages(pages) => {
                // Two lines stay, so that the eye finds its place.
                let page = height.saturating_sub(2).max(1);
                let lines = page.saturating_mul(usize::try_from(pages.unsigned_abs()).unwrap_or(1));
                if pages < 0 { self.back(from, lines).0 } else { self.forward(from, lines) }
            }
            Motion::Top => Place { index: 0, line: 0 },
            Motion::Bottom => self.bottom(height),
            Motion::At(unique) => self.find(unique).map_or(from, |index| Place { index, line: 0 }),
            Motion::Show(unique) => self.show(from, unique, height),
        }
    }

    fn show(&mut self, from: Place, unique: u64, height: usize) -> Place {
        let Some(index) = self.find(unique) else { return from };
        if index < from.index || (index == from.index && from.line > 0) {
            return Place { index, line: 0 };
        }
        // The top of a screen that ends with the item's last line; what is below that is not fully shown.
        let end = Place { index: index + 1, line: 0 };
        let (lowest, _) = self.back(end, height);
        let below = (lowest.index, lowest.line) > (from.index, from.line);
        if below {
            // An item taller than the screen shows its beginning.
            if lowest.index == index { Place { index, line: 0 } } else { lowest }
        } else {
            from
        }
    }
}

/// Where a selection stops: at messages, and at the first of a run of changes, which opens it.
#[derive(Debug)]
pub struct Stops<'a> {
    items: &'a [Arc<Item>],
    folds: Arc<[fold::Fold]>,
}

impl<'a> Stops<'a> {
    /// Those of these items.
    #[must_use]
    pub fn of(items: &'a [Arc<Item>]) -> Self {
        Self { items, folds: fold::folds(items).into() }
    }

    /// True at one.
    #[must_use]
    pub fn at(&self, index: usize) -> bool {
        self.items.get(index).is_some_and(|item| selectable(item)) || fold::is_head(&self.folds, index)
    }
}

fn id_of(timeline: &Timeline) -> u64 {
    let bytes = timeline.room_id.as_str().bytes().chain(timeline.thread_root.iter().flat_map(|root| root.as_str().bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The item of the first message that is new. Events keep their names when the client half counts its items anew.
fn first_unread(timeline: &Timeline, view: &TimelineView) -> Option<u64> {
    let first = view.first_unread.as_ref()?;
    let named = |item: &&Arc<Item>| matches!(&item.id, Some(ItemId::Event(event_id)) if event_id == first);
    timeline.items.iter().rev().find(named).map(|item| item.unique)
}

/// Draws a timeline and finds out where it now stands.
pub fn draw(
    timeline: &Timeline,
    view: &mut TimelineView,
    layouts: &mut Layouts,
    look: Look<'_>,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    if area.width < 4 || area.height == 0 {
        return;
    }
    layouts.tidy();
    let height = usize::from(area.height);
    let newest_own = timeline
        .items
        .iter()
        .rev()
        .find(|item| item.is_own && matches!(item.kind, ItemKind::Message(_)) && item.send_state == SendState::Sent);
    let revealed = std::mem::take(&mut view.revealed);
    let folds = layouts.folds(&timeline.items);
    let mut flow = Flow {
        items: &timeline.items,
        layouts,
        look,
        revealed: &revealed,
        timeline: id_of(timeline),
        width: area.width,
        newest_own: newest_own.map(|item| item.unique),
        folds: Arc::clone(&folds),
        first_unread: first_unread(timeline, view),
        watching: view.watching,
    };
    let mut top = flow.anchor(view.anchor, height);
    let motions = std::mem::take(&mut view.motions);
    for motion in &motions {
        top = flow.go(top, *motion, height);
    }
    // The end on screen means following it, unless someone reads at the very top of more than a screenful.
    let at_bottom = flow.ends_within(top, height);
    if at_bottom {
        top = flow.bottom(height);
    }
    view.anchor = match timeline.items.get(top.index) {
        Some(item) if !at_bottom => Anchor::Top { unique: item.unique, line: top.line, timestamp_ms: item.timestamp_ms },
        _ => Anchor::Bottom,
    };
    view.at_bottom = at_bottom;
    view.near_top = top.index < NEAR;
    view.height = height;
    let last = paint(&mut flow, top, area, buf);
    if motions.iter().any(|motion| matches!(motion, Motion::Lines(_) | Motion::Pages(_))) {
        let stops = Stops { items: &timeline.items, folds };
        view.selected = view.selected.map(|selected| keep_visible(&stops, selected, top.index, last));
    }
    highlight(&mut flow, top, view.selected, area, buf);
    for (index, y, _) in visible(&mut flow, top, area) {
        if let Some(item) = timeline.items.get(index) {
            hits.push((Rect { y, height: 1, ..area }, Hit::Item(item.unique)));
        }
    }
    view.revealed = revealed;
    count_new(timeline, view);
}

/// Draws the lines from a place on. Gives the last item that is on screen.
fn paint(flow: &mut Flow<'_>, top: Place, area: Rect, buf: &mut Buffer) -> usize {
    let mut last = top.index;
    for (index, y, line) in visible(flow, top, area) {
        buf.set_line(area.x, y, &line, area.width);
        last = index;
    }
    last
}

/// Marks the lines of the selected item.
fn highlight(flow: &mut Flow<'_>, top: Place, selected: Option<u64>, area: Rect, buf: &mut Buffer) {
    let Some(selected) = selected else { return };
    let look = flow.look;
    let scope = if look.focused { Scope::Selected } else { Scope::SelectedIdle };
    for (index, y, _) in visible(flow, top, area) {
        if flow.items.get(index).is_some_and(|item| item.unique == selected) {
            buf.set_style(Rect { x: area.x, y, width: area.width, height: 1 }, look.theme.style(scope));
            put(buf, area.x, y, 1, "▌", look.theme.style(Scope::Accent));
        }
    }
}

/// The lines on screen: item, row, line.
fn visible(flow: &mut Flow<'_>, top: Place, area: Rect) -> Vec<(usize, u16, Line<'static>)> {
    let height = usize::from(area.height);
    let mut rows: Vec<(usize, Line<'static>)> = Vec::with_capacity(height);
    let mut index = top.index;
    while rows.len() < height && index < flow.items.len() {
        let skip = if index == top.index { top.line } else { 0 };
        let lines = flow.lines(index);
        rows.extend(lines.iter().skip(skip).take(height - rows.len()).map(|line| (index, line.clone())));
        index += 1;
    }
    // A short conversation stands at the bottom, next to the composer.
    let first = area.bottom() - u16::try_from(rows.len()).unwrap_or(area.height).min(area.height);
    rows.into_iter().zip(first..area.bottom()).map(|((index, line), y)| (index, y, line)).collect()
}

/// Somebody who scrolls takes the selection along: it stays where it is while that is on screen.
fn keep_visible(stops: &Stops<'_>, selected: u64, first: usize, last: usize) -> u64 {
    let items = stops.items;
    let at = items.iter().position(|item| item.unique == selected);
    let on_screen = || items.iter().enumerate().skip(first).take((last + 1).saturating_sub(first)).filter(|(at, _)| stops.at(*at));
    let nearest = match at {
        Some(at) if at < first => on_screen().next(),
        Some(at) if at > last => on_screen().next_back(),
        _ => None,
    };
    nearest.map_or(selected, |(_, item)| item.unique)
}

fn count_new(timeline: &Timeline, view: &mut TimelineView) {
    let newest = timeline.items.last().map(|item| item.unique);
    let known = view.seen.is_some_and(|seen| timeline.items.iter().rev().any(|item| item.unique == seen));
    if view.at_bottom || !known {
        view.seen = newest;
        view.new_below = 0;
        return;
    }
    let after = timeline.items.iter().rev().take_while(|item| Some(item.unique) != view.seen);
    view.new_below = after.filter(|item| matches!(item.kind, ItemKind::Message(_) | ItemKind::Undecryptable(_)) && !item.is_own).count();
}

#[cfg(test)]
mod tests;
