//! Keys, pastes, the mouse: who gets them.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::{Effects, actions, composer, layers, search, welcome};
use crate::tui::{
    action::Action,
    keymap::Lookup,
    keys::Key,
    line_input::LINE_BYTES,
    model::{Focus, Hit, Model, Motion, Screen},
    text,
};

/// A sequence of keys is given up after this.
const SEQUENCE_MS: u64 = 1_500;

/// A key was pressed.
pub(super) fn key(model: &mut Model, key: Key, fx: &mut Effects) {
    // Dialogs, forms and lines of text know keys only one at a time.
    if !model.layers.is_empty() || model.screen == Screen::Welcome || model.pane.filtering || model.searching() {
        model.pressed.clear();
        model.pressed_until_ms = None;
        let action = match model.keymap.find(model.contexts(), &[key]) {
            Lookup::Run(action) => Some(action),
            Lookup::Pending | Lookup::Unbound => None,
        };
        if let Some(always) = always(model, key) {
            return actions::run(model, always, fx);
        }
        return if !model.layers.is_empty() {
            layers::key(model, key, action, fx);
        } else if model.screen == Screen::Welcome {
            welcome::key(model, key, action, fx);
        } else if model.searching() {
            search::key(model, key, action);
        } else {
            filter(model, key, action);
        };
    }
    model.pressed.push(key);
    let pressed = std::mem::take(&mut model.pressed);
    match model.keymap.find(model.contexts(), &pressed) {
        Lookup::Run(action) => {
            model.pressed_until_ms = None;
            actions::run(model, action, fx);
        }
        Lookup::Pending => {
            model.pressed = pressed;
            model.pressed_until_ms = Some(model.now_ms + SEQUENCE_MS);
        }
        Lookup::Unbound => {
            model.pressed_until_ms = None;
            // A sequence that leads nowhere is undone key by key, so that nothing typed is swallowed.
            let (last, earlier) = pressed.split_last().map_or((key, [].as_slice()), |(last, earlier)| (*last, earlier));
            for key in earlier {
                unbound(model, *key, fx);
            }
            if earlier.is_empty() { unbound(model, last, fx) } else { self::key(model, last, fx) }
        }
    }
}

/// The few actions that work on top of everything.
fn always(model: &Model, key: Key) -> Option<Action> {
    let Lookup::Run(action) = model.keymap.find(&[crate::tui::keymap::Context::Global], &[key]) else { return None };
    matches!(action, Action::Quit | Action::Suspend | Action::Redraw).then_some(action)
}

/// No more keys came: the sequence is none.
pub(super) fn give_up(model: &mut Model, fx: &mut Effects) {
    model.pressed_until_ms = None;
    for key in std::mem::take(&mut model.pressed) {
        unbound(model, key, fx);
    }
}

fn unbound(model: &mut Model, key: Key, fx: &mut Effects) {
    if model.focus == Focus::Composer
        && let Some(c) = key.typed()
    {
        composer::typed(model, c, fx);
    }
}

/// Text was pasted. It is never taken for keys, so it never sends.
pub(super) fn paste(model: &mut Model, text: &str, fx: &mut Effects) {
    let clean = text::pasted(text);
    if clean.is_empty() {
        return;
    }
    let line = !model.layers.is_empty() || model.screen == Screen::Welcome || model.searching() || model.pane.filtering;
    if line && clean.len() > LINE_BYTES {
        super::info(model, format!("a line takes {LINE_BYTES} bytes at most; the rest of what was pasted is left out"));
    }
    if !model.layers.is_empty() {
        layers::paste(model, &clean);
    } else if model.screen == Screen::Welcome {
        welcome::paste(model, &clean);
    } else if model.searching() {
        search::paste(model, &clean);
    } else if model.pane.filtering {
        model.pane.filter.insert(&clean);
    } else if !model.invitation_open() {
        model.focus = Focus::Composer;
        composer::pasted(model, &clean, fx);
    }
}

/// The room list's filter has the keys.
fn filter(model: &mut Model, key: Key, action: Option<Action>) {
    if let Some(c) = key.typed() {
        model.pane.filter.insert(c.encode_utf8(&mut [0; 4]));
    } else {
        match action {
            Some(Action::Accept | Action::Down | Action::NextField) => model.pane.filtering = false,
            Some(Action::Cancel) => {
                model.pane.filtering = false;
                model.pane.filter.set("");
            }
            Some(action) => {
                model.pane.filter.act(action);
            }
            None => {}
        }
    }
    let first = model.listed().first().map(|row| row.id.clone());
    if !model.listed().iter().any(|row| Some(&row.id) == model.pane.selected.as_ref()) {
        model.pane.selected = first;
    }
}

/// The wheel scrolls what is below it, a click chooses.
pub(super) fn mouse(model: &mut Model, event: MouseEvent, fx: &mut Effects) {
    let lines = match event.kind {
        MouseEventKind::ScrollUp => -3,
        MouseEventKind::ScrollDown => 3,
        MouseEventKind::Down(MouseButton::Left) => return click(model, event.column, event.row, fx),
        _ => return,
    };
    if !model.layers.is_empty() {
        layers::scroll(model, lines);
    } else if model.screen == Screen::Main && over_rooms(model, event) {
        let rows = if lines < 0 { Action::Up } else { Action::Down };
        super::rooms::move_selection(model, rows, fx);
    } else if model.screen == Screen::Main {
        model.active_view_mut().to_start = false;
        model.active_view_mut().motions.push(Motion::Lines(lines));
    }
}

fn over_rooms(model: &Model, event: MouseEvent) -> bool {
    let areas = crate::tui::screens::main::areas(model, model.screen_area);
    areas.rooms.is_some_and(|area| area.contains((event.column, event.row).into()))
}

fn click(model: &mut Model, x: u16, y: u16, fx: &mut Effects) {
    let hit = model.hits.iter().rev().find(|(area, _)| area.contains((x, y).into())).map(|(_, hit)| hit.clone());
    if let Some(hit) = &hit
        && !model.layers.is_empty()
    {
        return layers::click(model, hit, fx);
    }
    if model.screen == Screen::Welcome {
        return hit.iter().for_each(|hit| welcome::click(model, hit, fx));
    }
    if let Some(search) = &mut model.search {
        search.typing = false;
    }
    match hit {
        Some(Hit::Invitation(true)) => return super::rooms::accept(model, fx),
        Some(Hit::Invitation(false)) => return super::rooms::decline(model),
        Some(Hit::Composer) => return actions::focus(model, Focus::Composer),
        Some(Hit::Item(unique)) => return super::timeline::click(model, unique),
        _ => {}
    }
    let areas = crate::tui::screens::main::areas(model, model.screen_area);
    let hit = |area: ratatui::layout::Rect| area.contains((x, y).into());
    if let Some(area) = areas.rooms.filter(|area| hit(*area)) {
        model.focus = Focus::Rooms;
        if let Some(room_id) = crate::tui::widgets::room_list::at(model, area, y) {
            model.pane.selected = Some(room_id.clone());
            super::rooms::open(model, room_id, fx);
        }
    }
}
