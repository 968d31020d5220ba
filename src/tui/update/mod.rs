//! What every message does to the model. Pure: the same model and message give the same model and effects.

pub mod actions;
mod again;
mod complete;
mod composer;
mod dialogs;
mod input;
mod layers;
mod rooms;
mod search;
mod slash;
mod snapshots;
mod timeline;
mod updates;
mod welcome;

#[cfg(test)]
mod tests;

use super::{
    effect::Effect,
    model::{Awaiting, Level, Model, Notice},
    msg::Msg,
};
use crate::client::command::{Command, Ticket};

/// How long a notice that needs no attention stays.
const NOTICE_MS: u64 = 8_000;
/// Notices that are kept; older ones go first.
const NOTICES: usize = 20;

pub use welcome::again as welcome_again;

/// What a message leads to.
pub type Effects = Vec<Effect>;

/// Applies a message. The caller has set `model.now_ms`.
pub fn update(model: &mut Model, msg: Msg) -> Effects {
    let mut fx = Vec::new();
    match msg {
        Msg::Key(key) => input::key(model, key, &mut fx),
        Msg::Paste(text) => input::paste(model, &text, &mut fx),
        Msg::Mouse(event) => input::mouse(model, event, &mut fx),
        Msg::Resize => {}
        Msg::Focus(focused) => {
            model.focused = focused;
            model.tells_focus = true;
        }
        Msg::Update(update) => updates::update(model, update, &mut fx),
        Msg::Session(session) => snapshots::session(model, session, &mut fx),
        Msg::Rooms(rooms) => snapshots::rooms(model, rooms, &mut fx),
        Msg::Timeline(timeline) => snapshots::timeline(model, timeline),
        Msg::Thread(thread) => snapshots::thread(model, thread),
        Msg::Details(details) => model.details = details,
        Msg::Drafts(drafts) => snapshots::drafts(model, &drafts),
        Msg::Tick => tick(model, &mut fx),
        Msg::Refused(command) => refused(model, command),
        Msg::SetupRefused(_) => {
            let reason = "homeroom is still busy with the step before; try again in a moment";
            if !again::failed(model, reason) {
                welcome::failed(model, reason.to_owned());
            }
        }
        Msg::PasteFailed(ticket, reason) => updates::failed(model, ticket, &reason, &mut fx),
        Msg::Files(candidates, typed) => complete::files(model, &typed, candidates, &mut fx),
        Msg::Theme(Ok(theme)) => {
            info(model, format!("theme {}", theme.name()));
            model.theme = (*theme).into();
            model.theme_generation += 1;
        }
        Msg::Keymap(Ok(keymap)) => {
            info(model, format!("keymap {}", keymap.name()));
            model.keymap = (*keymap).into();
        }
        Msg::Theme(Err(reason)) | Msg::Keymap(Err(reason)) => error(model, reason),
        Msg::Drawn => snapshots::drawn(model, &mut fx),
    }
    fx
}

/// Says something that needs no attention.
pub(crate) fn info(model: &mut Model, text: impl Into<String>) {
    let until_ms = Some(model.now_ms + NOTICE_MS);
    notice(model, Notice { level: Level::Info, text: text.into(), until_ms });
}

/// Says that something went wrong.
pub(crate) fn error(model: &mut Model, text: impl Into<String>) {
    notice(model, Notice { level: Level::Error, text: text.into(), until_ms: None });
}

fn notice(model: &mut Model, notice: Notice) {
    model.notices.retain(|old| old.text != notice.text);
    if model.notices.len() >= NOTICES {
        model.notices.remove(0);
    }
    model.notices.push(notice);
}

fn ticket(model: &mut Model, awaiting: Awaiting) -> Ticket {
    let ticket = Ticket(model.next_ticket);
    model.next_ticket += 1;
    model.awaiting.insert(ticket, awaiting);
    ticket
}

fn ask(fx: &mut Effects, command: Command) {
    fx.push(Effect::Command(command));
}

/// The channel to the client half is full: nothing typed may be lost, and the person must know.
fn refused(model: &mut Model, command: Command) {
    match command {
        Command::Send { room_id, draft } => {
            composer::give_back(model, &room_id, &draft, None);
            error(model, "homeroom is busy: the message was not sent and is back in the composer");
        }
        Command::Edit { room_id, item, draft } => {
            composer::give_back(model, &room_id, &draft, Some(&item));
            error(model, "homeroom is busy: the edit was not sent and its text is back in the composer");
        }
        Command::SaveDraft { room_id, text } => {
            let again = model.now_ms + 1_000;
            // Nothing that can be typed is equal to it, so that it is saved again even when it is empty.
            model.composers.entry(room_id.clone()).or_default().saved = format!("{text}\u{0}");
            model.drafts_due.insert(room_id, again);
        }
        Command::MarkRead { .. } => model.marked = None,
        Command::Typing { .. } => model.typing = None,
        Command::LoadOlder { .. } => model.view.asked = None,
        Command::LoadOlderInThread { .. } => model.thread_view.asked = None,
        Command::OpenRoom(room) => {
            // Asked again with the next tick: the screen already shows the room.
            model.wanted = room;
            model.open = None;
            error(model, "homeroom is busy; open the room again in a moment");
        }
        Command::SendFile { ticket, .. } => {
            let mut ignored = Vec::new();
            updates::failed(model, ticket, "homeroom is busy; try again", &mut ignored);
        }
        Command::Download { ticket, .. }
        | Command::CreateRoom { ticket, .. }
        | Command::StartDirect { ticket, .. }
        | Command::Join { ticket, .. }
        | Command::Knock { ticket, .. }
        | Command::AcceptInvite { ticket, .. }
        | Command::Leave { ticket, .. }
        | Command::Invite { ticket, .. }
        | Command::SetName { ticket, .. }
        | Command::SetTopic { ticket, .. }
        | Command::SetDisplayName { ticket, .. } => {
            let mut ignored = Vec::new();
            updates::failed(model, ticket, "homeroom is busy; try again", &mut ignored);
        }
        Command::OpenThread(_) | Command::ToggleReaction { .. } | Command::Redact { .. } | Command::Retry { .. } | Command::Reconnect => {
            error(model, "homeroom is busy; try again in a moment")
        }
    }
}

fn tick(model: &mut Model, fx: &mut Effects) {
    let now = model.now_ms;
    model.notices.retain(|notice| notice.until_ms.is_none_or(|until| until > now));
    if model.pressed_until_ms.is_some_and(|until| until <= now) {
        input::give_up(model, fx);
    }
    if model.typing.as_ref().is_some_and(|(_, _, stop)| *stop <= now) {
        composer::stop_typing(model, fx);
    }
    let due: Vec<_> = model.drafts_due.iter().filter(|(_, at)| **at <= now).map(|(room_id, _)| room_id.clone()).collect();
    for room_id in due {
        composer::save_draft(model, &room_id, fx);
    }
}

/// Ends, after everything typed is safe.
pub(crate) fn quit(model: &mut Model, fx: &mut Effects) {
    model.quitting = true;
    composer::stop_typing(model, fx);
    // Whether a long paste on its way gets there is not known any more: rather twice than never.
    let pastes: Vec<_> = model.awaiting.extract_if(|_, awaiting| matches!(awaiting, Awaiting::Paste { .. })).collect();
    for (_, awaiting) in pastes {
        if let Awaiting::Paste { room_id, text, caption } = awaiting {
            composer::give_back_paste(model, &room_id, &text, &caption);
        }
    }
    let rooms: Vec<_> = model.composers.keys().cloned().collect();
    for room_id in rooms {
        composer::save_draft(model, &room_id, fx);
    }
    fx.push(Effect::Quit);
}
