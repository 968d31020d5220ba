//! Things that happened once in the client half.

use ruma::OwnedRoomId;

use super::{Effects, again, dialogs, error, info, rooms, welcome};
use crate::{
    client::{
        command::{Draft, Ticket},
        update::Update,
    },
    tui::{
        effect::Effect,
        layers::Layer,
        model::{Awaiting, Model, Screen},
    },
};

pub(super) fn update(model: &mut Model, update: Update, fx: &mut Effects) {
    match update {
        Update::SignedIn => {
            welcome::signed_in(model);
            again::signed_in(model, fx);
        }
        Update::SignedOut => welcome::signed_out(model),
        Update::SetupFailed { reason } => {
            if !again::failed(model, &reason) {
                welcome::failed(model, reason);
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
        Update::Notify { room_name, text, highlight, .. } => {
            if model.bell {
                fx.push(Effect::Bell);
            }
            if highlight {
                info(model, format!("{room_name}: {text}"));
            }
        }
        Update::NotSent { room_id, draft, reason } => not_sent(model, room_id, &draft, &reason),
        Update::News { text } => info(model, text),
        Update::Notice { text } => error(model, text),
    }
}

/// A text that could not be sent goes back to where it was typed, below what has been typed since.
fn not_sent(model: &mut Model, room_id: OwnedRoomId, draft: &Draft, reason: &str) {
    let text = if draft.emote { format!("/me {}", draft.text) } else { draft.text.clone() };
    let composer = model.composers.entry(room_id).or_default();
    if composer.is_empty() {
        composer.paste(&text);
    } else {
        composer.paste(&format!("\n{text}"));
    }
    error(model, format!("the message was not sent and is back in the composer: {reason}"));
}

fn done(model: &mut Model, ticket: Ticket, fx: &mut Effects) {
    match model.awaiting.remove(&ticket) {
        Some(Awaiting::Action { done: Some(words), .. }) => info(model, words),
        Some(Awaiting::Paste { .. }) => fx.push(Effect::DropFile(ticket)),
        Some(Awaiting::Action { .. }) | None => {}
    }
    dialogs::close_for(model, ticket);
}

/// A command failed. Where a dialog waits for it, the dialog says so; otherwise a notice does, and the focus stays.
pub(super) fn failed(model: &mut Model, ticket: Ticket, reason: &str, fx: &mut Effects) {
    match model.awaiting.remove(&ticket) {
        Some(Awaiting::Paste { room_id, text, caption }) => {
            fx.push(Effect::DropFile(ticket));
            let composer = model.composers.entry(room_id).or_default();
            if composer.is_empty() {
                composer.set_text(&caption);
            } else if !caption.is_empty() {
                composer.paste(&format!("\n{caption}"));
            }
            let text = match composer.paste.take() {
                Some(newer) => format!("{text}\n{}", newer.text),
                None => text.to_string(),
            };
            composer.paste(&text);
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
