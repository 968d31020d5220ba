//! Searching the open conversation as one types: among what is loaded, from where one reads upwards.

use std::sync::Arc;

use super::{Effects, actions, info};
use crate::{
    client::view::{Item, ItemKind, MessageKind},
    tui::{
        action::Action,
        keys::Key,
        model::{Focus, Model, Motion, Search},
    },
};

/// Begins a search; what was searched for before is still there.
pub(super) fn begin(model: &mut Model) {
    if model.active_timeline().is_none() {
        return info(model, "open a room first");
    }
    let view = model.active_view();
    let (anchor, selected) = (view.anchor, view.selected);
    let query = model.search.take().map(|search| search.query).unwrap_or_default();
    model.search = Some(Search { query, typing: true, back: (anchor, selected, model.focus), found: None, texts: None });
    model.focus = Focus::Timeline;
}

/// A key while the search line has them.
pub(super) fn key(model: &mut Model, key: Key, action: Option<Action>) {
    let Some(search) = &mut model.search else { return };
    match (key.typed(), action) {
        (Some(c), _) => search.query.insert(c.encode_utf8(&mut [0; 4])),
        (None, Some(Action::Accept)) => {
            search.typing = false;
            if search.query.text().is_empty() || search.found.is_none() {
                leave(model);
            }
            return;
        }
        (None, Some(Action::Cancel)) => return leave(model),
        (None, Some(Action::Up | Action::PreviousField)) => return step(model, false),
        (None, Some(Action::Down | Action::NextField)) => return step(model, true),
        (None, Some(action)) => {
            if search.query.act(action) != Some(true) {
                return;
            }
        }
        (None, None) => return,
    }
    changed(model);
}

/// Text was pasted into the search line.
pub(super) fn paste(model: &mut Model, text: &str) {
    if let Some(search) = &mut model.search {
        search.query.insert(text);
    }
    changed(model);
}

/// Ends the search; everything is as before it.
fn leave(model: &mut Model) {
    let Some(search) = model.search.take() else { return };
    let (anchor, selected, focus) = search.back;
    let view = model.active_view_mut();
    (view.anchor, view.selected) = (anchor, selected);
    view.motions.clear();
    actions::focus(model, focus);
    if selected.is_none() && focus == Focus::Timeline {
        model.active_view_mut().selected = None;
    }
}

/// What is searched for is another: looks again from where the search began.
fn changed(model: &mut Model) {
    let Some(search) = &mut model.search else { return };
    search.found = None;
    let (anchor, selected, _) = search.back;
    let view = model.active_view_mut();
    (view.anchor, view.selected) = (anchor, selected);
    view.motions.clear();
    go(model, false, true);
}

/// The next match: an older one, or a newer.
pub(super) fn step(model: &mut Model, newer: bool) {
    match &model.search {
        Some(search) if !search.query.text().trim().is_empty() => go(model, newer, false),
        _ => begin(model),
    }
}

/// Runs an action of the search.
pub(super) fn run(model: &mut Model, action: Action, _fx: &mut Effects) -> bool {
    match action {
        Action::Search => begin(model),
        Action::SearchOlder => step(model, false),
        Action::SearchNewer => step(model, true),
        _ => return false,
    }
    true
}

fn go(model: &mut Model, newer: bool, here_too: bool) {
    let Some(query) = model.search.as_ref().map(|search| search.query.text().trim().to_lowercase()) else { return };
    let texts = texts(model);
    let Some((timeline, texts)) = model.active_timeline().zip(texts).filter(|_| !query.is_empty()) else { return };
    let matches: Vec<usize> = places(&texts, &query);
    let at = model.active_view().selected.and_then(|selected| timeline.items.iter().position(|item| item.unique == selected));
    let next = match (at, newer) {
        (None, _) => matches.last(),
        (Some(at), false) => matches.iter().rev().find(|place| **place < at || (here_too && **place == at)),
        (Some(at), true) => matches.iter().find(|place| **place > at),
    };
    // Past the last one it goes on at the other end.
    let next = next.or(if newer { matches.first() } else { matches.last() }).copied();
    let found = next.and_then(|place| {
        let nth = matches.iter().position(|other| *other == place)?;
        Some((timeline.items.get(place)?.unique, nth + 1, matches.len()))
    });
    if let Some(search) = &mut model.search {
        search.found = found.map(|(_, nth, all)| (nth, all));
    }
    if let Some((unique, ..)) = found {
        let view = model.active_view_mut();
        view.selected = Some(unique);
        view.motions.push(Motion::Show(unique));
        model.focus = Focus::Timeline;
    }
}

/// What is searched in, made once for each snapshot of the timeline and not for each key.
fn texts(model: &mut Model) -> Option<Arc<[String]>> {
    let items = Arc::clone(&model.active_timeline()?.items);
    let search = model.search.as_mut()?;
    match &search.texts {
        Some((of, texts)) if Arc::ptr_eq(of, &items) => Some(Arc::clone(texts)),
        _ => {
            let texts: Arc<[String]> = items.iter().map(|item| searchable(item)).collect();
            search.texts = Some((items, Arc::clone(&texts)));
            Some(texts)
        }
    }
}

/// The items that hold the text, oldest first.
fn places(texts: &[String], query: &str) -> Vec<usize> {
    texts.iter().enumerate().filter(|(_, text)| text.contains(query)).map(|(place, _)| place).collect()
}

/// What an item can be found by, in small letters, with something in between that cannot be typed.
fn searchable(item: &Item) -> String {
    let ItemKind::Message(message) = &item.kind else { return String::new() };
    let file = if let MessageKind::Media { filename, .. } = &message.kind { filename.as_str() } else { "" };
    [message.body.plain.as_str(), file, item.sender_name.as_str()].join("\0").to_lowercase()
}
