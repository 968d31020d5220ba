//! Forms: fields, one of which has the keys, and a button.
//!
//! A form knows nothing of what it is for; `update` reads its fields when it is submitted.

use super::{action::Action, keys::Key, line_input::LineInput};
use crate::client::command::Secret;

/// What a field holds.
#[derive(Debug, Clone)]
pub enum FieldKind {
    /// One line.
    Text(LineInput),
    /// Yes or no.
    Toggle(bool),
}

/// One field.
#[derive(Debug, Clone)]
pub struct Field {
    /// What to read it by.
    pub id: &'static str,
    /// Its label.
    pub label: &'static str,
    /// One line that explains it, shown while it has the keys.
    pub help: &'static str,
    /// Shown while it is empty.
    pub placeholder: &'static str,
    /// What it holds.
    pub kind: FieldKind,
}

/// What a key did to a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKey {
    /// Moved or typed; nothing to do.
    Handled,
    /// A value changed.
    Changed(&'static str),
    /// The person wants it done.
    Submit,
    /// The person wants to leave.
    Cancel,
    /// Not for a form.
    Ignored,
}

/// A form.
#[derive(Debug, Clone)]
pub struct Form {
    /// Its title.
    pub title: String,
    /// What it is about, in a few sentences.
    pub intro: String,
    /// Its fields.
    pub fields: Vec<Field>,
    /// The field that has the keys; one past the last is the button.
    pub focus: usize,
    /// What the button says.
    pub submit: &'static str,
    /// What is under way.
    pub busy: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Form {
    /// A form without fields.
    #[must_use]
    pub fn new(title: impl Into<String>, intro: impl Into<String>, submit: &'static str) -> Self {
        Self { title: title.into(), intro: intro.into(), fields: Vec::new(), focus: 0, submit, busy: None, error: None }
    }

    /// Adds a line.
    #[must_use]
    pub fn line(self, id: &'static str, label: &'static str, placeholder: &'static str, help: &'static str, value: &str) -> Self {
        self.field(Field { id, label, help, placeholder, kind: FieldKind::Text(LineInput::new(value)) })
    }

    /// Adds a line that is not shown.
    #[must_use]
    pub fn password(self, id: &'static str, label: &'static str, help: &'static str) -> Self {
        self.field(Field { id, label, help, placeholder: "", kind: FieldKind::Text(LineInput::masked()) })
    }

    /// Adds a switch.
    #[must_use]
    pub fn toggle(self, id: &'static str, label: &'static str, help: &'static str, on: bool) -> Self {
        self.field(Field { id, label, help, placeholder: "", kind: FieldKind::Toggle(on) })
    }

    fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    fn find(&self, id: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// A line's text, without blanks around it.
    #[must_use]
    pub fn text(&self, id: &str) -> &str {
        match self.find(id).map(|field| &field.kind) {
            Some(FieldKind::Text(line)) => line.text().trim(),
            _ => "",
        }
    }

    /// A line's text where it has one.
    #[must_use]
    pub fn given(&self, id: &str) -> Option<String> {
        Some(self.text(id)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A password, exactly as typed.
    #[must_use]
    pub fn secret(&self, id: &str) -> Secret {
        Secret::new(match self.find(id).map(|field| &field.kind) {
            Some(FieldKind::Text(line)) => line.text().to_owned(),
            _ => String::new(),
        })
    }

    /// A switch's position.
    #[must_use]
    pub fn is_on(&self, id: &str) -> bool {
        matches!(self.find(id).map(|field| &field.kind), Some(FieldKind::Toggle(true)))
    }

    /// Replaces a line's text.
    pub fn set(&mut self, id: &str, text: &str) {
        if let Some(Field { kind: FieldKind::Text(line), .. }) = self.fields.iter_mut().find(|field| field.id == id) {
            line.set(text);
        }
    }

    /// Sets a switch.
    pub fn switch(&mut self, id: &str, on: bool) {
        if let Some(Field { kind: FieldKind::Toggle(value), .. }) = self.fields.iter_mut().find(|field| field.id == id) {
            *value = on;
        }
    }

    /// Says what is wrong and goes to the field that it is about.
    pub fn refuse(&mut self, id: &str, why: impl Into<String>) {
        self.busy = None;
        self.error = Some(why.into());
        if let Some(index) = self.fields.iter().position(|field| field.id == id) {
            self.focus = index;
        }
    }

    /// The line that has the keys.
    pub fn focused_line(&mut self) -> Option<&mut LineInput> {
        match self.fields.get_mut(self.focus).map(|field| &mut field.kind) {
            Some(FieldKind::Text(line)) => Some(line),
            _ => None,
        }
    }

    /// Types pasted text into the line that has the keys.
    pub fn paste(&mut self, text: &str) {
        if let Some(line) = self.focused_line() {
            line.insert(text.trim_end_matches(['\n', '\r']));
        }
    }

    fn step(&mut self, forward: bool) {
        let count = self.fields.len() + 1;
        self.focus = (self.focus + if forward { 1 } else { count - 1 }) % count;
    }

    /// The mouse chose a field; one past the last is the button.
    pub fn click(&mut self, index: usize) -> FormKey {
        self.focus = index.min(self.fields.len());
        match self.fields.get_mut(index) {
            Some(Field { kind: FieldKind::Toggle(on), id, .. }) => {
                *on = !*on;
                FormKey::Changed(id)
            }
            Some(_) => FormKey::Handled,
            None => FormKey::Submit,
        }
    }

    /// Takes a key. `action` is what the keymap says of it.
    pub fn key(&mut self, key: Key, action: Option<Action>) -> FormKey {
        let focus_id = self.fields.get(self.focus).map(|field| field.id);
        if let Some(line) = self.focused_line() {
            if let Some(c) = key.typed() {
                line.insert(c.encode_utf8(&mut [0; 4]));
                return focus_id.map_or(FormKey::Handled, FormKey::Changed);
            }
            if let Some(changed) = action.and_then(|action| line.act(action)) {
                return if changed { focus_id.map_or(FormKey::Handled, FormKey::Changed) } else { FormKey::Handled };
            }
        }
        match action {
            Some(Action::NextField | Action::Down) => self.step(true),
            Some(Action::PreviousField | Action::Up) => self.step(false),
            Some(Action::Cancel) => return FormKey::Cancel,
            Some(Action::Toggle | Action::Left | Action::Right) => {
                if let Some(Field { kind: FieldKind::Toggle(on), id, .. }) = self.fields.get_mut(self.focus) {
                    *on = !*on;
                    return FormKey::Changed(id);
                }
                if action == Some(Action::Toggle) && self.focus == self.fields.len() {
                    return FormKey::Submit;
                }
            }
            // Enter goes through the fields and submits at the end, so that nobody sends a form half filled by habit.
            Some(Action::Accept) if self.focus + 1 < self.fields.len() => self.step(true),
            Some(Action::Accept) => return FormKey::Submit,
            _ => return FormKey::Ignored,
        }
        FormKey::Handled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form::new("t", "", "Go").line("name", "Name", "", "", "").toggle("on", "On", "", true)
    }

    fn press(form: &mut Form, key: &str, action: Option<Action>) -> FormKey {
        form.key(key.parse().unwrap_or_else(|_| panic!("{key} is a key")), action)
    }

    #[test]
    fn letters_type_even_where_the_keymap_has_an_action_for_them() {
        let mut form = form();
        assert_eq!(press(&mut form, "space", Some(Action::Toggle)), FormKey::Changed("name"));
        press(&mut form, "x", None);
        assert_eq!(form.text("name"), "x");
    }

    #[test]
    fn enter_goes_through_the_fields_and_submits_at_the_last() {
        let mut form = form();
        assert_eq!(press(&mut form, "enter", Some(Action::Accept)), FormKey::Handled);
        assert_eq!(press(&mut form, "space", Some(Action::Toggle)), FormKey::Changed("on"));
        assert!(!form.is_on("on"));
        assert_eq!(press(&mut form, "enter", Some(Action::Accept)), FormKey::Submit);
    }

    #[test]
    fn refusing_goes_to_the_field_and_keeps_the_text() {
        let mut form = form();
        press(&mut form, "x", None);
        form.focus = 2;
        form.refuse("name", "too short");
        assert_eq!((form.focus, form.text("name"), form.error.as_deref()), (0, "x", Some("too short")));
    }
}
