//! Opening rooms and moving through the room list.

use ruma::OwnedRoomId;

use super::{Effects, ask, composer, dialogs, error, info, ticket};
use crate::{
    client::{command::Command, view::Membership},
    tui::{
        action::Action,
        model::{Awaiting, Focus, Model, TimelineView},
        widgets::status::priority,
    },
};

/// Opens a room; an invitation shows what it is.
pub(super) fn open(model: &mut Model, room_id: OwnedRoomId, fx: &mut Effects) {
    model.wanted = None;
    model.pane.selected = Some(room_id.clone());
    if model.open.as_ref() == Some(&room_id) {
        model.focus = opened(model);
        return;
    }
    leave_screen(model, fx);
    model.last = model.open.replace(room_id.clone()).or(model.last.take());
    model.details = None;
    model.timeline = None;
    let invited = model.invitation_open();
    // An invitation has no timeline yet.
    ask(fx, Command::OpenRoom((!invited).then(|| room_id.clone())));
    if !invited {
        model.composers.entry(room_id).or_default();
    }
    model.focus = opened(model);
}

/// Who has the keys when a room has been opened.
fn opened(model: &Model) -> Focus {
    if model.invitation_open() || model.keymap.is_modal() { Focus::Timeline } else { Focus::Composer }
}

/// What has to happen before another room, or none, is shown.
fn leave_screen(model: &mut Model, fx: &mut Effects) {
    composer::stop_typing(model, fx);
    if let Some(open) = model.open.clone() {
        if let Some(composer) = model.composers.get_mut(&open) {
            composer.completion = None;
        }
        composer::save_draft(model, &open, fx);
        if model.composers.get(&open).is_some_and(|composer| composer.is_idle() && composer.saved.is_empty()) {
            model.composers.remove(&open);
        }
    }
    if model.thread_root.take().is_some() {
        ask(fx, Command::OpenThread(None));
    }
    model.thread = None;
    model.search = None;
    model.thread_view = TimelineView::default();
    model.view = TimelineView::default();
    model.marked = None;
}

/// Closes the open room without leaving it.
pub(super) fn close(model: &mut Model, fx: &mut Effects) {
    if model.open.is_none() {
        return;
    }
    leave_screen(model, fx);
    model.last = model.open.take();
    model.timeline = None;
    model.details = None;
    ask(fx, Command::OpenRoom(None));
    super::actions::focus(model, Focus::Rooms);
}

/// Opens the nth room of the list.
pub(super) fn open_nth(model: &mut Model, index: usize, fx: &mut Effects) {
    match model.listed().get(index).map(|row| row.id.clone()) {
        Some(room_id) => open(model, room_id, fx),
        None => info(model, format!("there is no room number {}", index + 1)),
    }
}

/// Opens the room before or after the open one.
pub(super) fn open_neighbour(model: &mut Model, by: isize, fx: &mut Effects) {
    let listed = model.listed();
    let at = model.open.as_ref().and_then(|open| listed.iter().position(|row| row.id == *open));
    let to = match at {
        Some(at) => at.checked_add_signed(by),
        None => Some(0),
    };
    if let Some(room_id) = to.and_then(|to| listed.get(to)).map(|row| row.id.clone()) {
        open(model, room_id, fx);
    }
}

/// Opens what is unread: mentions first, then direct chats, then the others, then rooms whose last message was not sent; the most
/// recent of each.
pub(super) fn next_unread(model: &mut Model, fx: &mut Effects) {
    let next = model
        .rooms
        .rows
        .iter()
        .filter(|row| Some(&row.id) != model.open.as_ref() && row.membership == Membership::Joined)
        .filter_map(|row| {
            let failed = row.last.as_ref().is_some_and(|last| last.failed).then_some(u8::MAX);
            priority(row).or(failed).map(|p| (p, std::cmp::Reverse(row.recency), row.id.clone()))
        })
        .min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    match next {
        Some((_, _, room_id)) => open(model, room_id, fx),
        None => info(model, "nothing else is unread"),
    }
}

/// Moves through the list. False when the action is not for it.
pub(super) fn move_selection(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    let listed = model.listed();
    let at = model.pane.selected.as_ref().and_then(|selected| listed.iter().position(|row| row.id == *selected));
    let last = listed.len().saturating_sub(1);
    let to = match action {
        Action::Up => at.map_or(0, |at| at.saturating_sub(1)),
        Action::Down => at.map_or(0, |at| (at + 1).min(last)),
        Action::PageUp => at.map_or(0, |at| at.saturating_sub(10)),
        Action::PageDown => at.map_or(0, |at| (at + 10).min(last)),
        Action::Top => 0,
        Action::Bottom => last,
        Action::Open => {
            match at.and_then(|at| listed.get(at)).map(|row| row.id.clone()) {
                Some(room_id) => open(model, room_id, fx),
                None => info(model, "there is no room to open"),
            }
            return true;
        }
        _ => return false,
    };
    let selected = listed.get(to).map(|row| row.id.clone());
    model.pane.selected = selected;
    true
}

/// The invitation or request that is meant: the selected one in the list, else the open one.
fn outside(model: &Model, membership: Membership) -> Option<(OwnedRoomId, String)> {
    let selected = if model.focus == Focus::Rooms { model.pane.selected.as_ref() } else { None };
    let row = selected.and_then(|id| model.row(id)).or_else(|| model.open_row())?;
    (row.membership == membership).then(|| (row.id.clone(), row.name.clone()))
}

/// Accepts an invitation.
pub(super) fn accept(model: &mut Model, fx: &mut Effects) {
    let Some((room_id, name)) = outside(model, Membership::Invited) else { return error(model, "select an invitation first") };
    info(model, format!("joining {name}…"));
    let awaiting = Awaiting::Action { failure: format!("could not join {name}"), done: None, open: true };
    let ticket = ticket(model, awaiting);
    ask(fx, Command::AcceptInvite { ticket, room_id });
}

/// Asks whether to decline an invitation, or to take back a request.
pub(super) fn decline(model: &mut Model) {
    if let Some((room_id, name)) = outside(model, Membership::Knocked) {
        return dialogs::withdraw(model, room_id, &name);
    }
    match outside(model, Membership::Invited) {
        Some((room_id, name)) => dialogs::decline(model, room_id, &name),
        None => error(model, "select an invitation first"),
    }
}
