//! The room list: one or two lines per room, only visible ones drawn.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use ruma::OwnedRoomId;

use super::{put, put_right};
use crate::{
    base::Zone,
    client::view::{Membership, RoomKind, RoomRow},
    tui::{
        clock,
        model::{Focus, Model},
        text,
        theme::{Scope, Theme},
    },
};

/// Columns of a sender's name in a preview: what was said matters more.
const SENDER: usize = 14;

/// The mark before a name: what kind of room it is.
#[must_use]
pub fn mark(row: &RoomRow) -> &'static str {
    match (row.membership, row.kind) {
        (Membership::Invited, _) => "✉",
        (Membership::Knocked, _) => "?",
        (_, RoomKind::Direct) => "@",
        (_, RoomKind::Space) => "▣",
        (_, RoomKind::Room) => "#",
    }
}

/// Unread and mention counts as people read them; mentions have a mark of their own.
#[must_use]
pub fn counts(row: &RoomRow) -> Option<(String, Scope)> {
    let cap = |n: u64| if n > 999 { "999+".to_owned() } else { n.to_string() };
    if row.mentions > 0 {
        Some((format!("!{}", cap(row.mentions)), Scope::BadgeMention))
    } else if row.unread > 0 {
        Some((cap(row.unread), Scope::Badge))
    } else if row.marked_unread {
        Some(("•".to_owned(), Scope::Badge))
    } else {
        None
    }
}

/// The second line of a row.
fn preview(row: &RoomRow) -> String {
    if let Some(invite) = &row.invite {
        return format!("from {}", text::one_line(&invite.inviter_name));
    }
    if row.membership == Membership::Knocked {
        return "you asked to join".to_owned();
    }
    if let Some(name) = row.typing.first() {
        let more = if row.typing.len() > 1 { " and others" } else { "" };
        return format!("{}{more} is typing…", text::one_line(name));
    }
    let Some(last) = &row.last else { return String::new() };
    let pending = match (last.failed, last.pending) {
        (true, _) => "✗ ",
        (false, true) => "… ",
        (false, false) => "",
    };
    let words = text::one_line(&last.text);
    if row.kind == RoomKind::Direct {
        format!("{pending}{words}")
    } else {
        format!("{pending}{}: {words}", text::fit(&text::one_line(&last.sender), SENDER))
    }
}

fn name_style(row: &RoomRow, theme: &Theme) -> Style {
    if row.membership == Membership::Invited {
        theme.style(Scope::Invite)
    } else if row.muted {
        theme.style(Scope::RoomMuted)
    } else if row.unread > 0 || row.mentions > 0 || row.marked_unread {
        theme.style(Scope::RoomUnread)
    } else {
        theme.style(Scope::Text)
    }
}

/// Draws the list. Keeps the selection on screen.
pub fn draw(model: &mut Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let mut area = area;
    let mut cursor = None;
    if area.width < 4 || area.height == 0 {
        return None;
    }
    let focused = model.focus == Focus::Rooms && model.layers.is_empty();
    if model.pane.filtering || !model.pane.filter.text().is_empty() {
        let (shown, column) = model.pane.filter.view(usize::from(area.width.saturating_sub(3)));
        put(buf, area.x, area.y, 2, "/ ", model.theme.style(Scope::Prompt));
        put(buf, area.x + 2, area.y, area.width - 2, &shown, model.theme.style(Scope::Field));
        if model.pane.filtering {
            cursor = Some((area.x + 2 + u16::try_from(column).unwrap_or(0), area.y));
        }
        area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    }
    let listed: Vec<std::sync::Arc<RoomRow>> = model.listed().into_iter().cloned().collect();
    if listed.is_empty() {
        let hint = if !model.pane.filter.text().is_empty() {
            "nothing matches"
        } else if model.rooms.complete {
            "no rooms yet"
        } else {
            "loading rooms…"
        };
        put(buf, area.x + 1, area.y, area.width.saturating_sub(1), hint, model.theme.style(Scope::Dim));
        return cursor;
    }
    let tall = if model.pane.previews && area.height >= 8 { 2 } else { 1 };
    let selected = model.pane.selected.as_ref().and_then(|id| listed.iter().position(|row| row.id == *id));
    let visible = usize::from(area.height / tall).max(1);
    let offset = &mut model.pane.offset;
    if let Some(selected) = selected {
        *offset = (*offset).clamp((selected + 1).saturating_sub(visible), selected);
    }
    *offset = (*offset).min(listed.len().saturating_sub(visible));
    let theme = std::sync::Arc::clone(&model.theme);
    for (row, slot) in listed.iter().skip(*offset).take(visible).zip(0_u16..) {
        let place = Rect { y: area.y + slot * tall, height: tall.min(area.height - (slot * tall).min(area.height)), ..area };
        let state = State {
            selected: selected.is_some() && model.pane.selected.as_ref() == Some(&row.id),
            open: model.open.as_ref() == Some(&row.id),
            watched: model.view.watching && model.open.as_ref() == Some(&row.id),
            focused,
        };
        draw_row(row, state, &theme, (model.now_ms, model.zone), place, buf);
    }
    cursor
}

#[derive(Clone, Copy)]
struct State {
    selected: bool,
    open: bool,
    /// Its end is on screen and seen: what is counted is read in a moment.
    watched: bool,
    focused: bool,
}

fn draw_row(row: &RoomRow, state: State, theme: &Theme, (now_ms, zone): (u64, Zone), area: Rect, buf: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let style = if state.watched { theme.style(Scope::Text) } else { name_style(row, theme) };
    let pointer = match (state.selected && state.focused, state.open) {
        (true, _) => "▌",
        (false, true) => "▸",
        _ => " ",
    };
    let x = put(buf, area.x, area.y, 1, pointer, theme.style(Scope::Accent));
    let x = put(buf, x, area.y, 2, mark(row), theme.style(Scope::Dim)) + 1;
    // One column stays free before the border.
    let mut right = 1;
    if let Some((badge, scope)) = counts(row).filter(|_| !state.watched) {
        let place = Rect { width: area.width.saturating_sub(right), ..area };
        right += put_right(buf, place, area.y, &badge, theme.style(scope)) + 1;
    }
    if let Some(last) = row.last.as_ref().filter(|_| area.width >= 22) {
        let time = clock::short(last.timestamp_ms, now_ms, zone);
        let place = Rect { width: area.width.saturating_sub(right), ..area };
        right += put_right(buf, place, area.y, &time, theme.style(Scope::Time)) + 1;
    }
    let room = area.right().saturating_sub(x).saturating_sub(right);
    put(buf, x, area.y, room, &text::one_line(&row.name), style);
    if area.height > 1 {
        put(buf, area.x + 3, area.y + 1, area.width.saturating_sub(4), &preview(row), theme.style(Scope::Dim));
    }
    if state.selected {
        let scope = if state.focused { Scope::Selected } else { Scope::SelectedIdle };
        buf.set_style(area, theme.style(scope));
    }
}

/// The row under a screen position, for the mouse. `area` is where the list was drawn.
#[must_use]
pub fn at(model: &Model, area: Rect, y: u16) -> Option<OwnedRoomId> {
    let filter = u16::from(model.pane.filtering || !model.pane.filter.text().is_empty());
    let area = Rect { y: area.y + filter, height: area.height.checked_sub(filter)?, ..area };
    let tall = if model.pane.previews && area.height >= 8 { 2 } else { 1 };
    let slot = usize::from(y.checked_sub(area.y)? / tall);
    model.listed().get(model.pane.offset + slot).map(|row| row.id.clone())
}
