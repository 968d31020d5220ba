//! Selecting messages and what can be done with them.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId};

use super::{Effects, actions, ask, composer, dialogs, error, info, snapshots, ticket};
use crate::{
    client::{
        command::{Command, Draft},
        view::{Item, ItemId, ItemKind, Message, MessageKind, Pagination, SendState},
    },
    tui::{
        action::Action,
        effect::Effect,
        layers::Purpose,
        model::{Awaiting, Focus, Model, Motion, Seek, selectable},
        widgets::timeline::Stops,
    },
};

/// Requests for older history before a jump gives up.
pub(super) const SEEK_ATTEMPTS: u8 = 20;
/// Places that a jump back remembers.
const JUMPS: usize = 50;

/// Runs an action on the timeline.
pub(super) fn run(model: &mut Model, action: Action, fx: &mut Effects) {
    match action {
        Action::Up => step(model, false),
        Action::Down => step(model, true),
        Action::EditLast => edit_last(model, fx),
        Action::GoBack => go_back(model),
        Action::CloseThread => close_thread(model, fx),
        Action::Open => open_replied(model),
        Action::GoToReplied => go_to_replied(model),
        Action::Reply
        | Action::Edit
        | Action::React
        | Action::Redact
        | Action::Copy
        | Action::Retry
        | Action::Discard
        | Action::OpenThread
        | Action::Download
        | Action::Reveal => on_item(model, action, fx),
        _ => {}
    }
}

fn on_item(model: &mut Model, action: Action, fx: &mut Effects) {
    let Some(room_id) = model.open.clone().filter(|_| actions::in_room(model)) else { return error(model, "no room is open") };
    let Some(item) = meant(model) else { return error(model, "select a message first") };
    if matches!(item.kind, ItemKind::State(_)) && action != Action::Reveal {
        return info(model, "that is a change of the room, not a message");
    }
    match action {
        Action::Reply => reply(model, &item, fx),
        Action::Edit => edit(model, &item, fx),
        Action::React => match &item.id {
            Some(id) => dialogs::react(model, room_id, id.clone()),
            None => error(model, "one cannot react to that"),
        },
        Action::Redact => redact(model, room_id, &item, None, fx),
        Action::Copy => copy(model, &item, fx),
        Action::Retry => retry(model, room_id, &item, fx),
        Action::Discard => discard(model, room_id, &item, fx),
        Action::OpenThread => open_thread(model, &item, fx),
        Action::Download => download(model, room_id, &item, None, fx),
        Action::Reveal => reveal(model, item.unique),
        _ => {}
    }
}

/// The message that is meant: the selected one; the newest only where none is selected. One that is selected and not there any
/// more must not turn into another.
pub(super) fn meant(model: &Model) -> Option<Arc<Item>> {
    match model.active_view().selected {
        Some(_) => model.selected_item().cloned(),
        None => newest(model, |_| true),
    }
}

/// Shows or hides what an item hides: spoilers, or the changes that it stands for.
fn reveal(model: &mut Model, unique: u64) {
    let revealed = &mut model.active_view_mut().revealed;
    if !revealed.remove(&unique) {
        revealed.insert(unique);
    }
}

/// The newest message that fits.
pub(super) fn newest(model: &Model, fits: impl Fn(&Item) -> bool) -> Option<Arc<Item>> {
    model.active_timeline()?.items.iter().rev().find(|item| selectable(item) && fits(item)).cloned()
}

fn step(model: &mut Model, down: bool) {
    let Some(timeline) = model.active_timeline() else { return };
    let items = &timeline.items;
    let at = model.active_view().selected.and_then(|selected| items.iter().position(|item| item.unique == selected));
    let stops = Stops::of(items);
    let next = match (at, down) {
        (Some(at), true) => (at + 1..items.len()).find(|at| stops.at(*at)),
        (Some(at), false) => (0..at).rev().find(|at| stops.at(*at)),
        (None, _) => (0..items.len()).rev().find(|at| stops.at(*at)),
    };
    let next = next.and_then(|at| items.get(at)).map(|item| item.unique);
    let view = model.active_view_mut();
    view.to_start = false;
    match next {
        Some(unique) => {
            view.selected = Some(unique);
            view.motions.push(Motion::Show(unique));
        }
        // Past the last message stands the end, before the first one more history.
        None => view.motions.push(if down { Motion::Bottom } else { Motion::Lines(-3) }),
    }
}

/// The mouse chose an item; once more on a line that hides something shows it.
pub(super) fn click(model: &mut Model, unique: u64) {
    let at = model.active_timeline().and_then(|timeline| {
        let at = timeline.items.iter().position(|item| item.unique == unique)?;
        Stops::of(&timeline.items).at(at).then(|| matches!(timeline.items.get(at).map(|item| &item.kind), Some(ItemKind::State(_))))
    });
    let again = model.active_view().selected == Some(unique);
    if at.is_some() {
        model.active_view_mut().selected = Some(unique);
    }
    actions::focus(model, Focus::Timeline);
    if at == Some(true) && again {
        reveal(model, unique);
    }
}

/// Selects a message when the timeline gets the keys: the one selected before, or the newest.
pub(super) fn select_visible(model: &mut Model) {
    if model.selected_item().is_none() {
        let newest = newest(model, |_| true).map(|item| item.unique);
        let at_bottom = model.active_view().at_bottom;
        let view = model.active_view_mut();
        view.selected = newest;
        // Somebody who reads further up is not torn away: the selection comes to them.
        match newest {
            Some(unique) if at_bottom => view.motions.push(Motion::Show(unique)),
            _ => view.motions.push(Motion::Lines(0)),
        }
    }
}

pub(super) fn select_newest(model: &mut Model) {
    let newest = newest(model, |_| true).map(|item| item.unique);
    model.active_view_mut().selected = newest;
}

/// To the beginning of the conversation, however much has to be loaded.
pub(super) fn go_to_start(model: &mut Model) {
    let first = model.active_timeline().and_then(|timeline| timeline.items.iter().find(|item| selectable(item)).map(|item| item.unique));
    let more = model.live_timeline().is_some_and(|timeline| timeline.back != Pagination::AtStart);
    let select = model.focus == Focus::Timeline;
    let view = model.active_view_mut();
    view.motions.push(Motion::Top);
    view.to_start = more;
    view.asked = None;
    if select {
        view.selected = first;
    }
}

pub(super) fn first_unread(model: &mut Model) {
    let Some(timeline) = model.active_timeline() else { return };
    let kept = model.active_view().first_unread.as_ref().and_then(|event_id| snapshots::find(timeline, event_id));
    let kept = kept.and_then(|kept| timeline.items.iter().position(|item| item.unique == kept.unique));
    let marker = kept.or_else(|| timeline.items.iter().position(|item| item.kind == ItemKind::ReadMarker));
    let Some(marker) = marker else { return info(model, "nothing is unread here, as far as history is loaded") };
    let unique = timeline.items.get(marker).map(|item| item.unique);
    let first = timeline.items.iter().skip(marker).find(|item| selectable(item)).map(|item| item.unique);
    remember_place(model);
    let view = model.active_view_mut();
    view.to_start = false;
    if let Some(unique) = unique {
        view.motions.push(Motion::At(unique));
    }
    if first.is_some() && model.focus == Focus::Timeline {
        model.active_view_mut().selected = first;
    }
}

pub(super) fn load_older(model: &mut Model, fx: &mut Effects) {
    match model.live_timeline().map(|timeline| &timeline.back) {
        None => error(model, "no room is open"),
        Some(Pagination::AtStart) if model.thread_root.is_some() => info(model, "this is the beginning of the thread"),
        Some(Pagination::AtStart) => info(model, "this is the beginning of the conversation"),
        Some(Pagination::Loading) => {}
        Some(Pagination::Idle | Pagination::Failed { .. }) => {
            model.active_view_mut().asked = None;
            let in_thread = model.thread_root.is_some();
            ask(fx, if in_thread { Command::LoadOlderInThread { count: 50 } } else { Command::LoadOlder { count: 50 } });
        }
    }
}

fn remember_place(model: &mut Model) {
    let view = model.active_view_mut();
    if view.jumps.len() >= JUMPS {
        view.jumps.remove(0);
    }
    view.jumps.push(view.anchor);
}

fn go_back(model: &mut Model) {
    let view = model.active_view_mut();
    match view.jumps.pop() {
        Some(anchor) => {
            view.anchor = anchor;
            view.motions.clear();
        }
        None => info(model, "there is no jump to go back from"),
    }
}

fn message(item: &Item) -> Option<&Message> {
    match &item.kind {
        ItemKind::Message(message) => Some(message),
        _ => None,
    }
}

fn open_replied(model: &mut Model) {
    if let Some(item) = model.selected_item().filter(|item| matches!(item.kind, ItemKind::State(_))) {
        let unique = item.unique;
        return reveal(model, unique);
    }
    let answers = model.selected_item().and_then(|item| message(item)).is_some_and(|message| message.reply.is_some());
    if answers { go_to_replied(model) } else { actions::focus(model, Focus::Composer) }
}

fn go_to_replied(model: &mut Model) {
    let target =
        model.selected_item().and_then(|item| message(item)).and_then(|message| message.reply.as_ref()).map(|r| r.event_id.clone());
    let Some(event_id) = target else { return info(model, "that message answers no other") };
    remember_place(model);
    let loaded = model.active_timeline().and_then(|timeline| snapshots::find(timeline, &event_id)).map(|item| item.unique);
    match loaded {
        Some(unique) => {
            let view = model.active_view_mut();
            view.selected = Some(unique);
            view.motions.push(Motion::Show(unique));
        }
        None if model.thread_root.is_some() => info(model, "that message is not in this thread"),
        None => {
            info(model, "looking for that message in older history…");
            model.view.asked = None;
            model.view.seek = Some(Seek { event_id, attempts: SEEK_ATTEMPTS, place: None });
        }
    }
}

/// Starts an answer to an item.
pub(super) fn reply(model: &mut Model, item: &Item, fx: &mut Effects) {
    let Some(ItemId::Event(event_id)) = &item.id else { return error(model, "one can answer a message once the server has it") };
    let text = message(item).map(summary).unwrap_or_default();
    let (event_id, sender) = (event_id.clone(), item.sender_name.clone());
    model.composer_mut().reply(event_id, sender, text);
    actions::focus(model, Focus::Composer);
    composer::changed(model, fx);
}

fn summary(message: &Message) -> String {
    match &message.kind {
        MessageKind::Media { filename, .. } if message.body.plain.is_empty() => filename.clone(),
        _ => message.body.plain.clone(),
    }
}

fn edit(model: &mut Model, item: &Item, fx: &mut Effects) {
    let (Some(message), Some(id)) = (message(item).filter(|message| message.editable), item.id.clone()) else {
        return error(model, "only text messages of your own can be edited");
    };
    let draft = Draft::again(message);
    let mentions = model.open.as_ref().map_or_else(Vec::new, |open| composer::mentions(model, open, &draft.mentions, &draft.text));
    model.composer_mut().edit(item.unique, id, draft.typed(), mentions);
    actions::focus(model, Focus::Composer);
    composer::changed(model, fx);
}

/// Edits our newest message.
pub(super) fn edit_last(model: &mut Model, fx: &mut Effects) {
    match newest(model, |item| item.is_own && message(item).is_some_and(|message| message.editable)) {
        Some(item) => edit(model, &item, fx),
        None => info(model, "there is no message of yours to edit here"),
    }
}

/// The message that is to be removed: the selected one, or our newest. Never, without being selected, somebody else's.
pub(super) fn meant_to_go(model: &Model) -> Option<Arc<Item>> {
    match model.active_view().selected {
        Some(_) => model.selected_item().cloned(),
        None => newest(model, |item| item.is_own && !matches!(item.kind, ItemKind::State(_) | ItemKind::Redacted { .. })),
    }
}

/// Asks whether to remove a message; one that was not sent is dropped.
pub(super) fn redact(model: &mut Model, room_id: OwnedRoomId, item: &Item, reason: Option<String>, fx: &mut Effects) {
    if matches!(item.kind, ItemKind::Redacted { .. }) {
        return info(model, "that message is removed already");
    }
    match &item.id {
        Some(ItemId::Transaction(_)) => discard(model, room_id, item, fx),
        Some(id) => {
            let said = message(item).map(summary).unwrap_or_default();
            dialogs::redact(model, Purpose::Redact(room_id, id.clone(), reason), item, &said);
        }
        None => error(model, "that cannot be removed"),
    }
}

fn copy(model: &mut Model, item: &Item, fx: &mut Effects) {
    let text = match &item.kind {
        ItemKind::Message(message) => summary(message),
        _ => return error(model, "there is no text to copy"),
    };
    info(model, "copied, where the terminal allows it");
    fx.push(Effect::Copy(text));
}

fn retry(model: &mut Model, room_id: OwnedRoomId, item: &Item, fx: &mut Effects) {
    match (&item.send_state, &item.id) {
        (SendState::Failed { .. }, Some(id)) => ask(fx, Command::Retry { room_id, item: id.clone() }),
        _ => info(model, "that message has not failed"),
    }
}

/// Sends every failed message of the room again.
pub(super) fn retry_all(model: &mut Model, fx: &mut Effects) {
    let Some(room_id) = model.open.clone() else { return error(model, "no room is open") };
    let failed: Vec<ItemId> = model.live_timeline().map_or_else(Vec::new, |timeline| {
        timeline
            .items
            .iter()
            .filter(|item| matches!(item.send_state, SendState::Failed { .. }))
            .filter_map(|item| item.id.clone())
            .collect()
    });
    if failed.is_empty() {
        info(model, "no message has failed here");
    }
    for item in failed {
        ask(fx, Command::Retry { room_id: room_id.clone(), item });
    }
}

/// Drops a message that was not sent. Its text goes back to an empty composer: it may be the only copy.
fn discard(model: &mut Model, room_id: OwnedRoomId, item: &Item, fx: &mut Effects) {
    let (Some(id @ ItemId::Transaction(_)), SendState::Failed { .. } | SendState::Sending) = (&item.id, &item.send_state) else {
        return info(model, "that message was sent; removing it is another matter");
    };
    ask(fx, Command::Redact { room_id, item: id.clone(), reason: None });
    if let Some(text) = message(item).map(|message| Draft::again(message).typed())
        && model.composer().is_idle()
    {
        model.composer_mut().set_text(&text);
        info(model, "discarded; its text is back in the composer");
    }
}

fn open_thread(model: &mut Model, item: &Item, fx: &mut Effects) {
    let root = message(item).and_then(|message| message.in_thread.clone());
    let root = root.or_else(|| match &item.id {
        Some(ItemId::Event(event_id)) => Some(event_id.clone()),
        _ => None,
    });
    let Some(root) = root else { return error(model, "a thread can start once the server has the message") };
    show_thread(model, root, fx);
    actions::focus(model, Focus::Composer);
}

/// Opens a thread of the open room; the keys stay where they are.
pub(super) fn show_thread(model: &mut Model, root: OwnedEventId, fx: &mut Effects) {
    model.thread = None;
    model.thread_view = crate::tui::model::TimelineView::default();
    model.thread_root = Some(root.clone());
    ask(fx, Command::OpenThread(Some(root)));
}

pub(super) fn close_thread(model: &mut Model, fx: &mut Effects) {
    if model.thread_root.take().is_some() {
        model.thread = None;
        ask(fx, Command::OpenThread(None));
    }
}

/// Saves an item's file.
pub(super) fn download(model: &mut Model, room_id: OwnedRoomId, item: &Item, to: Option<std::path::PathBuf>, fx: &mut Effects) {
    let file = message(item).and_then(|message| match &message.kind {
        MessageKind::Media { filename, .. } => Some(filename.clone()),
        _ => None,
    });
    let (Some(filename), Some(id)) = (file, item.id.clone()) else { return error(model, "that message has no file") };
    info(model, format!("saving {filename}…"));
    let ticket = ticket(model, Awaiting::Action { failure: format!("could not save {filename}"), done: None, open: false });
    ask(fx, Command::Download { ticket, room_id, item: id, to });
}
