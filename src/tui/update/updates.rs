//! Things that happened once in the client half.

use ruma::OwnedRoomId;

use super::{Effects, again, composer, dialogs, error, info, rooms, timeline, welcome};
use crate::{
    client::{
        command::{Draft, Ticket},
        update::Update,
        view::ItemId,
    },
    tui::{
        effect::Effect,
        layers::Layer,
        model::{Awaiting, Model, Notifications, Screen},
        text,
    },
};

/// Notifications of the desktop are at least so far apart.
const NOTIFY_MS: u64 = 2_000;
/// And no longer than so many columns.
const NOTIFY_COLUMNS: usize = 160;

pub(super) fn update(model: &mut Model, update: Update, fx: &mut Effects) {
    match update {
        Update::SignedIn => {
            welcome::signed_in(model);
            again::signed_in(model, fx);
            // Whoever was asked is gone.
            lose_tickets(model, model.next_ticket, fx);
        }
        Update::SignedOut => welcome::signed_out(model),
        Update::SetupFailed { reason } => {
            if !again::failed(model, &reason) {
                welcome::failed(model, reason);
            }
        }
        Update::SetupCancelled => {
            if !again::given_up(model) {
                welcome::given_up(model);
            }
        }
        Update::DeviceGone { text, recovery_key_kept } => again::device_gone(model, text, recovery_key_kept),
        Update::SetupProgress { text } => {
            if !again::progress(model, &text) {
                welcome::progress(model, text);
            }
        }
        Update::Done(ticket) => done(model, ticket, fx),
        Update::RoomReady(ticket, room_id) => {
            let open = matches!(model.awaiting.remove(&ticket), Some(Awaiting::Action { open: true, .. }));
            let waiting = dialogs::close_for(model, ticket);
            // Joining may take a minute: whoever writes elsewhere by then is not torn away.
            if open && !waiting && !model.composer().is_empty() && model.open.as_ref() != Some(&room_id) {
                info(model, "the room is ready: it is in the list");
            } else if open {
                // The list may learn of it a moment later; the room opens at once all the same.
                if model.invitation_open() && model.open.as_ref() == Some(&room_id) {
                    model.open = None;
                }
                rooms::open(model, room_id, fx);
            }
        }
        Update::MayKnock(ticket, room) => dialogs::may_knock(model, ticket, &room),
        Update::Saved(ticket, path) => {
            model.awaiting.remove(&ticket);
            info(model, format!("saved as {}", path.display()));
        }
        Update::Failed(ticket, reason) => failed(model, ticket, &reason, fx),
        Update::RoomClosed(room_id, reason) => {
            if model.open.as_ref() == Some(&room_id) {
                rooms::close(model, fx);
            }
            error(model, reason);
        }
        Update::Notify { room_id, room_name, text, highlight, direct } => {
            // Whoever looks at the room sees it there.
            if model.open.as_ref() != Some(&room_id) || !model.focused || !on_screen(model) {
                notify(model, &room_name, &text, highlight, direct, fx);
            }
        }
        Update::NotSent { room_id, draft, edited, reason } => not_sent(model, &room_id, &draft, edited.as_ref(), &reason, fx),
        Update::News { text } => info(model, text),
        Update::Notice { text } => error(model, text),
    }
}

/// Something of the open room was drawn: in a narrow terminal the room list may stand in its place.
fn on_screen(model: &Model) -> bool {
    model.view.height > 0 || (model.thread_root.is_some() && model.thread_view.height > 0)
}

/// A message that asks for attention: mentions and direct chats are worth a sign outside of the window while nobody looks at it.
fn notify(model: &mut Model, room: &str, words: &str, highlight: bool, direct: bool, fx: &mut Effects) {
    // A terminal that does not tell whether anybody looks may be one that nobody looks at.
    let away = !model.focused || !model.tells_focus;
    if away && (highlight || direct) {
        match model.notifications {
            Notifications::Off => {}
            Notifications::Bell => fx.push(Effect::Bell),
            Notifications::Osc if model.notified_ms.is_some_and(|at| model.now_ms.saturating_sub(at) < NOTIFY_MS) => {}
            Notifications::Osc => {
                model.notified_ms = Some(model.now_ms);
                let line = |text: &str| text::fit(&text::one_line(text), NOTIFY_COLUMNS).into_owned();
                fx.push(Effect::Notify { title: line(room), body: line(words) });
            }
        }
    }
    if highlight {
        info(model, format!("{room}: {words}"));
    }
}

/// A text that could not be sent goes back to where it was typed.
fn not_sent(model: &mut Model, room_id: &OwnedRoomId, draft: &Draft, edited: Option<&ItemId>, reason: &str, fx: &mut Effects) {
    let there = composer::give_back(model, room_id, draft, edited);
    let what = if edited.is_some() { "the edit was not sent and its text" } else { "the message was not sent and" };
    let place = if there { "is back in the composer" } else { "comes back when you are done with the message that you edit" };
    let thread = draft.thread_root.as_ref().filter(|root| model.thread_root.as_ref() != Some(*root));
    let aside = match thread {
        Some(root) if model.open.as_ref() == Some(room_id) && model.thread_root.is_none() => {
            timeline::show_thread(model, root.clone(), fx);
            ""
        }
        Some(_) => " (it was written in a thread)",
        None if draft.thread_root.is_none() && model.thread_root.is_some() && model.open.as_ref() == Some(room_id) => {
            " (it was not written in this thread)"
        }
        None => "",
    };
    error(model, format!("{what} {place}{aside}: {reason}"));
}

/// Tickets below this one are answered by nobody any more.
pub(super) fn lose_tickets(model: &mut Model, below: u64, fx: &mut Effects) {
    let mut lost: Vec<Ticket> = model.awaiting.keys().copied().filter(|ticket| ticket.0 < below).collect();
    lost.sort_by_key(|ticket| ticket.0);
    for ticket in lost {
        failed(model, ticket, "homeroom has begun anew meanwhile; try again", fx);
    }
}

fn done(model: &mut Model, ticket: Ticket, fx: &mut Effects) {
    match model.awaiting.remove(&ticket) {
        Some(Awaiting::Action { done: Some(words), .. }) => info(model, words),
        Some(Awaiting::Paste { room_id, .. }) => {
            fx.push(Effect::DropFile(ticket));
            // The queue has it; only now its copy among the drafts goes.
            composer::save_draft(model, &room_id, fx);
        }
        Some(Awaiting::Action { .. }) | None => {}
    }
    dialogs::close_for(model, ticket);
}

/// A command failed. Where a dialog waits for it, the dialog says so; otherwise a notice does, and the focus stays.
pub(super) fn failed(model: &mut Model, ticket: Ticket, reason: &str, fx: &mut Effects) {
    match model.awaiting.remove(&ticket) {
        Some(Awaiting::Paste { room_id, text, caption }) => {
            fx.push(Effect::DropFile(ticket));
            composer::give_back_paste(model, &room_id, &text, &caption);
            error(model, format!("the pasted text was not sent and is back in the composer: {reason}"));
        }
        Some(Awaiting::Action { failure, .. }) => {
            let waits = model.layers.iter_mut().find_map(|layer| match layer {
                Layer::Form(form) if form.ticket == Some(ticket) => Some(form),
                _ => None,
            });
            match waits {
                Some(layer) => {
                    layer.ticket = None;
                    layer.form.busy = None;
                    layer.form.error = Some(reason.to_owned());
                }
                None => error(model, format!("{failure}: {reason}")),
            }
        }
        None => error(model, reason.to_owned()),
    }
    debug_assert!(model.screen == Screen::Main || model.screen == Screen::Welcome);
}
