//! Snapshots from the client half, and what drawing found out.

use std::{collections::HashMap, sync::Arc};

use ruma::OwnedRoomId;

use super::{Effects, again, ask, info, rooms as open_rooms, timeline::SEEK_ATTEMPTS, updates};
use crate::{
    client::{
        command::Command,
        view::{Item, ItemId, ItemKind, Membership, Pagination, RoomList, SessionView, Timeline},
    },
    tui::{
        composer::Composer,
        model::{Anchor, Focus, Model, Motion, Screen, Seek, TimelineView, selectable},
    },
};

/// Older history per request, and while going to the beginning.
const OLDER: u16 = 50;
const OLDER_FAST: u16 = 500;

pub(super) fn session(model: &mut Model, session: SessionView, fx: &mut Effects) {
    let before = std::mem::replace(&mut model.session, session);
    match (&before.user_id, &model.session.user_id) {
        // The client has stopped, and answers nothing that it was asked.
        (Some(_), None) => model.lost_tickets = model.next_ticket,
        // One has begun, which knows nothing of what is on screen: maybe because signing out, or in, has failed.
        (None, Some(_)) => {
            updates::lose_tickets(model, model.lost_tickets, fx);
            again::open_anew(model, fx);
        }
        _ => {}
    }
    again::offer(model, &before.connection);
}

pub(super) fn rooms(model: &mut Model, rooms: RoomList, fx: &mut Effects) {
    let before = model.open_row().map(|row| row.membership);
    model.rooms = rooms;
    // An accepted invitation becomes a room while it is open, also when another device accepted it.
    if matches!(before, Some(Membership::Invited | Membership::Knocked))
        && let Some(row) = model.open_row().filter(|row| row.membership == Membership::Joined)
    {
        let room_id = row.id.clone();
        model.open = None;
        open_rooms::open(model, room_id, fx);
    }
    if let Some(wanted) = model.wanted.clone().filter(|wanted| model.row(wanted).is_some()) {
        open_rooms::open(model, wanted, fx);
    }
    if model.pane.selected.is_none() {
        model.pane.selected = model.rooms.rows.first().map(|row| row.id.clone());
    }
}

pub(super) fn drafts(model: &mut Model, drafts: &Arc<HashMap<OwnedRoomId, String>>) {
    for (room_id, text) in drafts.iter() {
        // What was typed meanwhile is newer than what was stored, and so is that it was sent: a client that starts again tells of
        // what was stored before it is told of that.
        let typed = model.composers.get(room_id).is_some_and(|composer| !composer.is_idle());
        if !typed && !model.drafts_gone.contains(room_id) && !text.is_empty() {
            model.composers.insert(room_id.clone(), Composer::with_draft(text));
        }
    }
}

pub(super) fn timeline(model: &mut Model, timeline: Option<Timeline>) {
    let before = model.open_timeline().cloned();
    model.timeline = timeline;
    if let Some(timeline) = model.open_timeline().cloned() {
        if let Some(before) = before {
            hold(&mut model.view, &before, &timeline);
            if model.view.held.is_none() {
                model.view.follow(&before, Some(&timeline));
            }
        }
        seek(model, &timeline);
    }
}

pub(super) fn thread(model: &mut Model, thread: Option<Timeline>) {
    let before = model.open_thread().cloned();
    model.thread = thread;
    if let (Some(before), Some(now)) = (before, model.open_thread().cloned()) {
        model.thread_view.follow(&before, Some(&now));
    }
}

/// Somebody reads further up, and the client half has begun anew from the newest message: what was read stays on screen
/// until it is loaded again.
fn hold(view: &mut TimelineView, before: &Timeline, now: &Timeline) {
    let Anchor::Top { unique, line, .. } = view.anchor else { return };
    if view.held.is_some() || view.seek.is_some() || now.items.iter().any(|item| item.unique == unique) {
        return;
    }
    let read = before.items.iter().skip_while(|item| item.unique != unique);
    let event = read.enumerate().find_map(|(at, item)| match &item.id {
        Some(ItemId::Event(event_id)) => Some((event_id.clone(), if at == 0 { line } else { 0 })),
        _ => None,
    });
    if let Some((event_id, line)) = event {
        view.seek = Some(Seek { event_id, attempts: SEEK_ATTEMPTS, place: Some(line) });
        view.held = Some(before.clone());
        view.asked = None;
    }
}

/// Goes to an event that was asked for as soon as it is loaded.
fn seek(model: &mut Model, timeline: &Timeline) {
    let Some(wanted) = model.view.seek.clone() else { return };
    if let Some(item) = find(timeline, &wanted.event_id) {
        let unique = item.unique;
        model.view.seek = None;
        if let Some(line) = wanted.place {
            model.view.release(Some(timeline));
            model.view.anchor = Anchor::Top { unique, line, timestamp_ms: item.timestamp_ms };
            return;
        }
        model.view.selected = Some(unique);
        model.focus = Focus::Timeline;
        model.view.motions.push(Motion::At(unique));
        return;
    }
    let over = wanted.attempts == 0 || timeline.back == Pagination::AtStart;
    if over && timeline.back != Pagination::Loading {
        model.view.seek = None;
        if model.view.held.is_some() {
            return model.view.release(Some(timeline));
        }
        info(model, "that message is not in the history that can be loaded");
    }
}

/// The item of an event.
pub(super) fn find<'a>(timeline: &'a Timeline, event_id: &ruma::EventId) -> Option<&'a Arc<Item>> {
    timeline.items.iter().rev().find(|item| matches!(&item.id, Some(ItemId::Event(id)) if id == event_id))
}

/// What was drawn calls for something: older history near the top, a read receipt at the end.
pub(super) fn drawn(model: &mut Model, fx: &mut Effects) {
    if model.screen != Screen::Main {
        return;
    }
    let Some(timeline) = model.open_timeline().cloned() else { return };
    older(&mut model.view, &timeline, fx);
    if let Some(thread) = model.open_thread().cloned() {
        older(&mut model.thread_view, &thread, fx);
    }
    read(model, &timeline, fx);
}

fn older(view: &mut TimelineView, timeline: &Timeline, fx: &mut Effects) {
    if timeline.back == Pagination::AtStart {
        view.to_start = false;
    }
    let wanted = view.near_top || view.to_start || view.seek.is_some();
    if !wanted || timeline.back != Pagination::Idle {
        return;
    }
    // Asked once per state of the timeline: the answer changes it, or sets the pagination to failed.
    let state = (timeline.items.first().map_or(0, |item| item.unique), timeline.items.len(), timeline.pages);
    if view.asked == Some(state) {
        return;
    }
    view.asked = Some(state);
    if view.to_start {
        view.motions.push(Motion::Top);
    }
    let fast = view.to_start || view.seek.is_some();
    if let Some(seek) = &mut view.seek {
        seek.attempts = seek.attempts.saturating_sub(1);
    }
    let count = if fast { OLDER_FAST } else { OLDER };
    ask(fx, if timeline.thread_root.is_some() { Command::LoadOlderInThread { count } } else { Command::LoadOlder { count } });
}

/// The first message that is new: the one behind the server's marker, or as many from the end as are counted.
fn first_unread(timeline: &Timeline, unread: u64) -> Option<ruma::OwnedEventId> {
    let unread = usize::try_from(unread).unwrap_or(usize::MAX);
    let news = |item: &&Arc<Item>| selectable(item) && !item.is_own;
    let marker = timeline.items.iter().rposition(|item| item.kind == ItemKind::ReadMarker);
    let first = match marker {
        Some(marker) => timeline.items.iter().skip(marker).find(news),
        None => timeline.items.iter().rev().filter(news).nth(unread.checked_sub(1)?),
    };
    match first.and_then(|item| item.id.clone()) {
        Some(ItemId::Event(event_id)) => Some(event_id),
        _ => None,
    }
}

/// The end of the conversation is on screen, in a window that has the focus: it is read.
fn read(model: &mut Model, timeline: &Timeline, fx: &mut Effects) {
    let Some(newest) = timeline.items.last() else { return };
    if newest.kind == ItemKind::Gap {
        // What came last is not on screen: it is not even loaded.
        return;
    }
    // So is it while what was read before is shown instead.
    let covered = !model.layers.is_empty() || model.view.held.is_some();
    if !model.view.at_bottom || !model.focused || covered || model.view.height == 0 {
        model.view.watching = false;
        return;
    }
    if !std::mem::replace(&mut model.view.watching, true) {
        let unread = model.row(&timeline.room_id).map_or(0, |row| row.unread.max(row.mentions));
        if let Some(first) = first_unread(timeline, unread) {
            model.view.first_unread = Some(first);
        }
    }
    let state = (timeline.room_id.clone(), newest.unique);
    if model.marked.as_ref() == Some(&state) {
        return;
    }
    model.marked = Some(state);
    ask(fx, Command::MarkRead { room_id: timeline.room_id.clone() });
}
