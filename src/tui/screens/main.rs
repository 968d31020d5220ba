//! The main screen: room list, header, timeline, composer, status bar.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::outside;
use crate::{
    client::view::{ItemKind, Pagination, SendState, Timeline},
    tui::{
        action::Action,
        keymap::Context,
        model::{Focus, Hit, Level, Model, Motion, TimelineView},
        text::{self, Paragraph},
        theme::Scope,
        widgets::{self, composer, put, put_right, room_list, status, timeline},
    },
};

/// Below this many columns there is one pane at a time.
const ONE_PANE: u16 = 64;
/// Lines that a notice takes at most.
const NOTICE: usize = 3;
/// From this many columns on a thread stands beside the timeline.
const TWO_TIMELINES: u16 = 120;

/// Where things are on the screen; the mouse asks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// The room list, where it is shown.
    pub rooms: Option<Rect>,
    /// Header, timeline and composer, where they are shown.
    pub room: Option<Rect>,
    /// Notices.
    pub notice: Rect,
    /// The status bar.
    pub status: Rect,
}

/// Divides the screen.
#[must_use]
pub fn areas(model: &Model, area: Rect) -> Areas {
    let status = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    let notices = if area.height >= 5 { u16::try_from(notice_lines(model, area.width).0.len()).unwrap_or(1) } else { 0 };
    let notice = Rect { y: status.y - notices.min(status.y - area.y), height: notices, ..area };
    let body = Rect { height: notice.y.saturating_sub(area.y), ..area };
    if body.width < ONE_PANE {
        let rooms_only = model.focus == Focus::Rooms;
        return Areas { rooms: rooms_only.then_some(body), room: (!rooms_only).then_some(body), notice, status };
    }
    if model.pane.hidden && model.focus != Focus::Rooms {
        return Areas { rooms: None, room: Some(body), notice, status };
    }
    let width = (body.width / 3).clamp(22, 34);
    let rooms = Rect { width, ..body };
    let room = Rect { x: body.x + width + 1, width: body.width - width - 1, ..body };
    Areas { rooms: Some(rooms), room: Some(room), notice, status }
}

/// Draws it.
pub fn draw(model: &mut Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let areas = areas(model, area);
    let mut cursor = None;
    if let Some(place) = areas.rooms {
        cursor = room_list::draw(model, place, buf);
        if areas.room.is_some() {
            let scope = if model.focus == Focus::Rooms { Scope::BorderFocus } else { Scope::Border };
            for y in place.top()..place.bottom() {
                put(buf, place.right(), y, 1, "│", model.theme.style(scope));
            }
        }
    }
    if let Some(place) = areas.room {
        let placed = room(model, place, buf);
        if model.focus != Focus::Rooms {
            cursor = placed;
        }
    }
    notice(model, areas.notice, buf);
    status::draw(model, areas.status, buf);
    cursor
}

/// The newest notice, over as many lines as it needs and the screen can spare; and whether that was too few.
fn notice_lines(model: &Model, width: u16) -> (Vec<Line<'static>>, bool) {
    let Some(notice) = model.notices.last() else { return (Vec::new(), false) };
    let (mark, scope) = match notice.level {
        Level::Info => ("·", Scope::Info),
        Level::Error => ("✗", Scope::Error),
    };
    let close = key_in(model, Action::Cancel, Context::Composer);
    let hint = match model.notices.len() {
        1 => format!(" ({close} closes)"),
        several => format!(" ({} more, {close} closes)", several - 1),
    };
    let paragraph = Paragraph {
        spans: vec![(format!("{mark} {}", text::one_line(&notice.text)), model.theme.style(scope)), (hint, model.theme.style(Scope::Dim))],
        ..Paragraph::default()
    };
    let mut lines = text::wrap(&paragraph, usize::from(width));
    let cut = lines.len() > NOTICE;
    lines.truncate(NOTICE);
    if let Some(last) = lines.last_mut().filter(|_| cut) {
        let hint = format!("… ({close} shows all)");
        let said: String = last.spans.iter().map(|span| span.content.as_ref()).collect();
        let room = usize::from(width).saturating_sub(text::width(&hint));
        let mut kept = String::new();
        for word in said.split_inclusive(' ') {
            if text::width(&kept) + text::width(word) > room {
                break;
            }
            kept.push_str(word);
        }
        *last = Line::from(vec![
            Span::styled(kept.trim_end().to_owned(), model.theme.style(scope)),
            Span::styled(hint, model.theme.style(Scope::Dim)),
        ]);
    }
    (lines, cut)
}

fn members(count: u64) -> String {
    if count == 1 { "1 member".to_owned() } else { format!("{count} members") }
}

fn notice(model: &mut Model, area: Rect, buf: &mut Buffer) {
    let (lines, cut) = notice_lines(model, area.width);
    let cut = cut || lines.len() > usize::from(area.height);
    model.cut_notice = model.notices.last().filter(|_| cut).map(|notice| notice.text.clone());
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buf.set_line(area.x, y, line, area.width);
    }
}

fn room(model: &mut Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    if area.width < 4 || area.height == 0 {
        return None;
    }
    if model.invitation_open() {
        outside::invitation(model, area, buf);
        return None;
    }
    let tall = composer::height(model.composer(), area.width, area.height).min(area.height);
    let place = Rect { y: area.bottom() - tall, height: tall, ..area };
    // Header, line, timeline, line, composer; the lines go first when there is no room.
    let above = Rect { height: area.height - tall, ..area };
    let lines = u16::from(above.height >= 4);
    let mut searching = None;
    if above.height > 0 {
        header(model, widgets::row(above, 0), buf);
    }
    let body = Rect { y: above.y + (1 + lines).min(above.height), height: above.height.saturating_sub(1 + 2 * lines), ..above };
    // First, since the lines tell what it finds out: whether the end is on screen.
    timelines(model, body, buf);
    if lines > 0 {
        upper_line(model, Rect { y: above.y + 1, height: 1, ..above }, buf);
        let place = Rect { y: above.bottom() - 1, height: 1, ..above };
        if model.search.is_some() {
            searching = search_line(model, place, buf);
        } else {
            lower_line(model, place, buf);
        }
    }
    model.hits.push((place, Hit::Composer));
    let theme = std::sync::Arc::clone(&model.theme);
    let placeholder = placeholder(model);
    let leave = key_in(model, Action::Cancel, Context::Composer);
    let clear = key_in(model, Action::ClearPaste, Context::Composer);
    let focused = model.focus == Focus::Composer;
    let cursor = composer::draw(model.composer_mut(), &theme, (&placeholder, &leave, &clear), place, buf);
    if focused && let Some(completion) = &model.composer().completion {
        composer::draw_completion(completion, &theme, place, area, buf);
    }
    searching.or(cursor.filter(|_| focused))
}

fn key_in(model: &Model, action: Action, context: Context) -> String {
    model.keymap.keys_of(action, &[context, Context::Global]).unwrap_or_default()
}

fn placeholder(model: &Model) -> String {
    if model.open.is_none() {
        return format!("open a room with {}, or type /help", model.key(Action::SwitchRoom));
    }
    if model.details.as_ref().is_some_and(|details| Some(&details.id) == model.open.as_ref() && !details.can_send) {
        return "you may not write in this room".to_owned();
    }
    if model.thread_root.is_some() {
        return "reply in this thread".to_owned();
    }
    let what = if model.open_row().is_some_and(|row| row.encrypted) { "write an encrypted message" } else { "write a message" };
    let key = model.keymap.keys_of(Action::FocusComposer, &[Context::Timeline]);
    match key.filter(|_| model.keymap.is_modal() && model.focus != Focus::Composer) {
        Some(key) => format!("{key} to {what}"),
        None => what.to_owned(),
    }
}

fn header(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let Some(open) = &model.open else {
        put(buf, area.x + 1, area.y, area.width - 1, "homeroom", theme.style(Scope::Title));
        return;
    };
    let details = model.details.as_ref().filter(|details| details.id == *open);
    let row = model.row(open);
    let name = details.map(|d| d.name.as_str()).or(row.map(|r| r.name.as_str())).unwrap_or(open.as_str());
    let mark = row.map_or("#", |row| room_list::mark(row));
    let x = put(buf, area.x + 1, area.y, area.width - 1, &format!("{mark} {}", text::one_line(name)), theme.style(Scope::Title));
    let encrypted = details.map_or_else(|| row.is_some_and(|r| r.encrypted), |d| d.encrypted);
    let mut right = 0;
    if let Some(details) = details.filter(|_| area.width >= 60) {
        right = put_right(buf, area, area.y, &members(details.joined_count), theme.style(Scope::Dim)) + 2;
    }
    let left = area.right().saturating_sub(x + right);
    let x = put(
        buf,
        x,
        area.y,
        left,
        if encrypted { "  encrypted" } else { "  not encrypted" },
        theme.style(if encrypted { Scope::Ok } else { Scope::Dim }),
    );
    if let Some(topic) = details.and_then(|details| details.topic.as_ref()) {
        let left = area.right().saturating_sub(x + 2 + right);
        if left > 8 {
            put(buf, x + 2, area.y, left, &text::one_line(topic), theme.style(Scope::Dim));
        }
    }
}

/// A line across with words in it: no place is taken when they come and go, so nothing jumps.
fn rule(model: &Model, area: Rect, words: &str, scope: Scope, focused: bool, buf: &mut Buffer) {
    let line = model.theme.style(if focused { Scope::BorderFocus } else { Scope::Border });
    // The line that it starts from, where there is one.
    if let Some(cell) = area.x.checked_sub(1).and_then(|x| buf.cell_mut((x, area.y))).filter(|cell| cell.symbol() == "│") {
        cell.set_symbol("├");
    }
    for x in area.left()..area.right() {
        put(buf, x, area.y, 1, "─", line);
    }
    if !words.is_empty() && area.width > 6 {
        put(buf, area.x + 2, area.y, area.width - 4, &format!(" {words} "), model.theme.style(scope));
    }
}

fn upper_line(model: &Model, area: Rect, buf: &mut Buffer) {
    let (words, scope) = match model.open_timeline().map(|timeline| &timeline.back) {
        Some(Pagination::Loading) if model.view.near_top || model.view.to_start || model.view.seek.is_some() => {
            ("loading older messages…".to_owned(), Scope::Accent)
        }
        Some(Pagination::Failed { reason }) => {
            let key = key_in(model, Action::LoadOlder, Context::Timeline);
            (format!("✗ older messages: {} ({key} tries again)", text::one_line(reason)), Scope::Error)
        }
        _ => (String::new(), Scope::Dim),
    };
    rule(model, area, &words, scope, model.focus == Focus::Timeline, buf);
}

/// The line that is searched with, in the line above the composer. Gives the cursor's place while it has the keys.
fn search_line(model: &Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let search = model.search.as_ref()?;
    rule(model, area, "", Scope::Dim, search.typing, buf);
    let key = |action| key_in(model, action, Context::Timeline);
    let found = match (search.found, search.query.text().trim().is_empty()) {
        (_, true) => "type what to search for".to_owned(),
        (Some((nth, all)), _) if search.typing => format!("{nth} of {all} (up older, enter stays)"),
        (Some((nth, all)), _) => format!("{nth} of {all} ({} older, {} newer)", key(Action::SearchOlder), key(Action::SearchNewer)),
        (None, _) => "nothing in what is loaded".to_owned(),
    };
    let right =
        put_right(buf, Rect { width: area.width.saturating_sub(2), ..area }, area.y, &format!(" {found} "), model.theme.style(Scope::Dim));
    let room = area.width.saturating_sub(right + 6);
    let (shown, column) = search.query.view(usize::from(room));
    let x = put(buf, area.x + 2, area.y, room.min(3), " / ", model.theme.style(Scope::Prompt));
    put(buf, x, area.y, room, &format!("{shown} "), model.theme.style(Scope::Field));
    search.typing.then(|| (x + u16::try_from(column).unwrap_or(0), area.y))
}

fn lower_line(model: &Model, area: Rect, buf: &mut Buffer) {
    let view = model.active_view();
    let (words, scope) = if view.new_below > 0 {
        (format!("{} new below ({})", view.new_below, model.key(Action::Bottom)), Scope::Marker)
    } else if let Some(typing) = typing(model.open_timeline()) {
        (typing, Scope::Accent)
    } else if !view.at_bottom && model.open.is_some() && view.height > 0 {
        (format!("scrolled up ({} to the newest)", model.key(Action::Bottom)), Scope::Dim)
    } else if model.focus == Focus::Timeline && model.selected_item().is_some() {
        (selection_hint(model), Scope::Dim)
    } else {
        (String::new(), Scope::Dim)
    };
    rule(model, area, &words, scope, model.focus == Focus::Composer, buf);
}

fn selection_hint(model: &Model) -> String {
    if model.selected_item().is_some_and(|item| matches!(item.kind, ItemKind::State(_))) {
        let key = model.keymap.keys_of(Action::Reveal, &[Context::Timeline]).unwrap_or_default();
        return format!("{key} shows or hides the changes");
    }
    let unsent = model.selected_item().is_some_and(|item| item.send_state != SendState::Sent);
    let hints: &[(Action, &str)] = if unsent {
        &[(Action::Retry, "send again"), (Action::Discard, "discard"), (Action::Copy, "copy")]
    } else {
        &[(Action::Reply, "reply"), (Action::React, "react"), (Action::Edit, "edit"), (Action::Copy, "copy"), (Action::Redact, "remove")]
    };
    let parts: Vec<String> = hints
        .iter()
        .filter_map(|(action, word)| model.keymap.keys_of(*action, &[Context::Timeline]).map(|key| format!("{key} {word}")))
        .collect();
    parts.join("  ")
}

fn typing(timeline: Option<&Timeline>) -> Option<String> {
    let names: Vec<String> = timeline?.typing.iter().map(|name| text::one_line(name)).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is typing…")),
        [one, two] => Some(format!("{one} and {two} are typing…")),
        [one, ..] => Some(format!("{one} and {} others are typing…", names.len() - 1)),
    }
}

fn timelines(model: &mut Model, area: Rect, buf: &mut Buffer) {
    let Some(open) = model.open.clone() else {
        outside::start_page(model, area, buf);
        return;
    };
    if model.thread_root.is_none() {
        one_timeline(model, false, area, buf);
    } else if area.width >= TWO_TIMELINES - 34 {
        let half = area.width / 2;
        one_timeline(model, false, Rect { width: half, ..area }, buf);
        for y in area.top()..area.bottom() {
            put(buf, area.x + half, y, 1, "│", model.theme.style(Scope::Border));
        }
        thread(model, Rect { x: area.x + half + 1, width: area.width - half - 1, ..area }, buf);
    } else {
        thread(model, area, buf);
    }
    debug_assert!(model.open.as_ref() == Some(&open), "drawing opens no rooms");
}

fn thread(model: &mut Model, area: Rect, buf: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let close = key_in(model, Action::CloseThread, Context::Timeline);
    put(buf, area.x + 1, area.y, area.width.saturating_sub(1), &format!("thread ({close} closes)"), model.theme.style(Scope::Heading));
    one_timeline(model, true, Rect { y: area.y + 1, height: area.height - 1, ..area }, buf);
}

/// Why there is nothing to be seen.
fn empty(model: &Model, timeline: &Timeline, area: Rect, buf: &mut Buffer) {
    let (words, scope) = match &timeline.back {
        Pagination::AtStart => ("no messages yet: write the first one".to_owned(), Scope::Dim),
        Pagination::Idle | Pagination::Loading => ("loading messages…".to_owned(), Scope::Dim),
        Pagination::Failed { reason } => {
            let key = key_in(model, Action::LoadOlder, Context::Timeline);
            let focus = if model.focus == Focus::Timeline { String::new() } else { format!("{} ", model.key(Action::FocusTimeline)) };
            (format!("✗ messages could not be loaded: {} ({focus}{key} tries again)", text::one_line(reason)), Scope::Error)
        }
    };
    let lines = text::wrap(&Paragraph::plain(words, model.theme.style(scope)), usize::from(area.width.saturating_sub(2).max(1)));
    for (line, y) in lines.iter().zip(area.y + area.height / 2..area.bottom()) {
        buf.set_line(area.x + 1, y, line, area.width.saturating_sub(1));
    }
}

fn one_timeline(model: &mut Model, in_thread: bool, area: Rect, buf: &mut Buffer) {
    if model.view.held.is_some() && (model.view.seek.is_none() || model.view.motions.contains(&Motion::Bottom)) {
        let now = model.open_timeline().cloned();
        model.view.release(now.as_ref());
    }
    let now = if in_thread { model.open_thread() } else { model.view.held.as_ref().or_else(|| model.open_timeline()) };
    let timeline = now.cloned();
    let Some(timeline) = timeline else {
        put(buf, area.x + 1, area.y + area.height / 2, area.width.saturating_sub(1), "loading messages…", model.theme.style(Scope::Dim));
        return;
    };
    if timeline.items.is_empty() {
        empty(model, &timeline, area, buf);
    }
    model.scrolls.push(area);
    let theme = std::sync::Arc::clone(&model.theme);
    let (retry, discard) = (key_in(model, Action::Retry, Context::Timeline), key_in(model, Action::Discard, Context::Timeline));
    let look = timeline::Look {
        theme: &theme,
        generation: model.theme_generation,
        zone: model.zone,
        focused: model.focus == Focus::Timeline && model.layers.is_empty(),
        keys: (&retry, &discard),
    };
    let mut hits = std::mem::take(&mut model.hits);
    let view: &mut TimelineView = if in_thread { &mut model.thread_view } else { &mut model.view };
    let before = hits.len();
    timeline::draw(&timeline, view, &mut model.layouts, look, area, buf, &mut hits);
    // The main timeline beside an open thread has no selection of its own.
    if !in_thread && model.thread_root.is_some() {
        hits.truncate(before);
    }
    model.hits = hits;
}
