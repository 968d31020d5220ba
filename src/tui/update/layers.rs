//! Input for dialogs and pickers: the topmost layer takes it.

use super::{Effects, actions, again, ask, composer, dialogs, rooms};
use crate::{
    client::command::Command,
    tui::{
        action::Action,
        form::FormKey,
        keys::Key,
        layers::{Choice, FormLayer, Help, Layer, Page, Picker, PickerKind, Question},
        line_input::LineInput,
        model::{Focus, Hit, Model},
    },
};

/// A key for the topmost layer.
pub(super) fn key(model: &mut Model, key: Key, action: Option<Action>, fx: &mut Effects) {
    // Taken off while it works, so that it may change the model; put back when it stays.
    let Some(layer) = model.layers.pop() else { return };
    let depth = model.layers.len();
    let stays = match layer {
        Layer::Help(help) => help_key(model, help, key, action, fx),
        Layer::Picker(picker) => picker_key(model, picker, key, action, fx),
        Layer::Form(form) => form_key(model, form, key, action, fx),
        Layer::Question(question) => question_key(model, question, key, action, fx),
        Layer::Page(page) => page_key(page, action),
    };
    if let Some(layer) = stays {
        // Below whatever it opened.
        model.layers.insert(depth.min(model.layers.len()), layer);
    }
}

/// Types pasted text into the topmost layer.
pub(super) fn paste(model: &mut Model, text: &str) {
    match model.layers.last_mut() {
        Some(Layer::Help(help)) => help.query.insert(text),
        Some(Layer::Picker(picker)) => {
            picker.query.insert(text);
            picker.narrow();
        }
        Some(Layer::Form(layer)) => layer.form.paste(text),
        Some(Layer::Question(_) | Layer::Page(_)) | None => {}
    }
}

/// The wheel over a layer.
pub(super) fn scroll(model: &mut Model, lines: i32) {
    let by = isize::try_from(lines).unwrap_or(0);
    match model.layers.last_mut() {
        Some(Layer::Help(help)) => help.scroll = help.scroll.saturating_add_signed(by),
        Some(Layer::Page(page)) => page.scroll = page.scroll.saturating_add_signed(by),
        Some(Layer::Picker(picker)) => picker.step(by),
        Some(Layer::Form(_) | Layer::Question(_)) | None => {}
    }
}

fn lines_of(action: Action) -> Option<isize> {
    Some(match action {
        Action::Up | Action::PreviousField => -1,
        Action::Down | Action::NextField => 1,
        Action::PageUp => -10,
        Action::PageDown => 10,
        _ => return None,
    })
}

/// A line of text that is typed into: true when the key was for it.
fn query_key(query: &mut LineInput, key: Key, action: Option<Action>) -> bool {
    if let Some(c) = key.typed() {
        query.insert(c.encode_utf8(&mut [0; 4]));
        return true;
    }
    action.and_then(|action| query.act(action)).is_some()
}

fn help_key(model: &mut Model, mut help: Help, key: Key, action: Option<Action>, fx: &mut Effects) -> Option<Layer> {
    if key.typed() == Some('?') && help.query.text().is_empty() {
        // The second ? means the character, where ? opened the help from an empty composer.
        if model.focus == Focus::Composer && model.composer().is_empty() {
            composer::typed(model, '?', fx);
        }
        return None;
    }
    match action {
        Some(Action::Cancel | Action::Accept) => return None,
        Some(action) if lines_of(action).is_some() => {
            help.scroll = help.scroll.saturating_add_signed(lines_of(action).unwrap_or(0));
        }
        action => {
            if query_key(&mut help.query, key, action) {
                help.scroll = 0;
            }
        }
    }
    Some(Layer::Help(help))
}

fn page_key(mut page: Page, action: Option<Action>) -> Option<Layer> {
    match action {
        Some(Action::Cancel | Action::Accept) => return None,
        Some(action) => page.scroll = page.scroll.saturating_add_signed(lines_of(action).unwrap_or(0)),
        None => {}
    }
    Some(Layer::Page(page))
}

fn picker_key(model: &mut Model, mut picker: Box<Picker>, key: Key, action: Option<Action>, fx: &mut Effects) -> Option<Layer> {
    match action {
        Some(Action::Cancel) => return None,
        Some(Action::Accept) => {
            choose(model, &picker, fx);
            return None;
        }
        Some(Action::PageUp | Action::PageDown) => {
            let page = isize::try_from(picker.page).unwrap_or(10);
            picker.step(if action == Some(Action::PageUp) { -page } else { page });
        }
        Some(action) if key.typed().is_none() && lines_of(action).is_some() => picker.step(lines_of(action).unwrap_or(0)),
        action => {
            let before = picker.query.text().to_owned();
            query_key(&mut picker.query, key, action);
            if picker.query.text() != before {
                picker.narrow();
            }
        }
    }
    Some(Layer::Picker(picker))
}

fn choose(model: &mut Model, picker: &Picker, fx: &mut Effects) {
    let choice = picker.chosen().map(|entry| entry.choice.clone());
    if let PickerKind::Reaction(room_id, item) = &picker.kind {
        let typed = picker.query.text().trim();
        // Anything may be a reaction; what matches the table is taken from there.
        let key = match choice {
            Some(Choice::React(key)) => key,
            _ if typed.is_empty() => return,
            _ => typed.to_owned(),
        };
        return ask(fx, Command::ToggleReaction { room_id: room_id.clone(), item: item.clone(), key });
    }
    match choice {
        Some(Choice::Room(room_id)) => rooms::open(model, room_id, fx),
        Some(Choice::Person(user_id)) => {
            dialogs::direct(model, user_id, fx);
        }
        Some(Choice::Run(action)) => actions::run(model, action, fx),
        Some(Choice::Slash(name)) => {
            model.focus = Focus::Composer;
            let composer = model.composer_mut();
            if composer.is_empty() {
                composer.set_text(&format!("/{name} "));
                composer::changed(model, fx);
            } else {
                super::info(model, format!("type /{name} in an empty composer; yours has text in it"));
            }
        }
        Some(Choice::React(_)) | None => {}
    }
}

/// The mouse hit something of the topmost layer.
pub(super) fn click(model: &mut Model, hit: &Hit, fx: &mut Effects) {
    let Some(layer) = model.layers.pop() else { return };
    let depth = model.layers.len();
    let stays = match (layer, hit) {
        (Layer::Form(mut form), Hit::Field(index)) => {
            let did = form.form.click(*index);
            form_did(model, form, did, fx)
        }
        (Layer::Question(question), Hit::Answer(yes)) => {
            if *yes {
                dialogs::yes(model, question.purpose, fx);
            }
            None
        }
        (Layer::Picker(mut picker), Hit::Row(row)) => {
            picker.selected = *row;
            choose(model, &picker, fx);
            None
        }
        (layer, _) => Some(layer),
    };
    if let Some(layer) = stays {
        model.layers.insert(depth.min(model.layers.len()), layer);
    }
}

fn form_key(model: &mut Model, mut layer: Box<FormLayer>, key: Key, action: Option<Action>, fx: &mut Effects) -> Option<Layer> {
    let did = layer.form.key(key, action);
    form_did(model, layer, did, fx)
}

fn form_did(model: &mut Model, mut layer: Box<FormLayer>, did: FormKey, fx: &mut Effects) -> Option<Layer> {
    match did {
        FormKey::Cancel => return again::cancelled(model, layer, fx).map(Layer::Form),
        FormKey::Submit if layer.ticket.is_none() => dialogs::submit(model, &mut layer, fx),
        FormKey::Changed("public") => {
            // The usual wish: what anybody may join need not be encrypted, everything else should be.
            let public = layer.form.is_on("public");
            layer.form.switch("encrypted", !public);
        }
        FormKey::Changed(_) => layer.form.error = None,
        FormKey::Submit | FormKey::Handled | FormKey::Ignored => {}
    }
    Some(Layer::Form(layer))
}

fn question_key(model: &mut Model, mut question: Question, key: Key, action: Option<Action>, fx: &mut Effects) -> Option<Layer> {
    match (key.typed(), action) {
        (Some('y' | 'Y'), _) => {
            dialogs::yes(model, question.purpose, fx);
            return None;
        }
        (Some('n' | 'N'), _) | (_, Some(Action::Cancel)) => return None,
        (_, Some(Action::Accept)) => {
            if question.on_yes {
                dialogs::yes(model, question.purpose, fx);
            }
            return None;
        }
        (
            _,
            Some(Action::NextField | Action::PreviousField | Action::Left | Action::Right | Action::Up | Action::Down | Action::Toggle),
        ) => {
            question.on_yes = !question.on_yes;
        }
        _ => {}
    }
    Some(Layer::Question(question))
}
