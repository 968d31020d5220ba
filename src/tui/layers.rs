//! Dialogs and pickers on top of the screen. The topmost takes input first; what it does not use goes no further, except
//! for the few actions (quit, suspend, redraw) that always work.

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};
use ruma::{OwnedRoomId, OwnedUserId};

use super::{action::Action, form::Form, line_input::LineInput};
use crate::client::{command::Ticket, view::ItemId};

/// What a form or a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Create a room.
    CreateRoom,
    /// Start a direct chat.
    StartDirect,
    /// Join by alias or ID.
    Join,
    /// Ask to be let into a room.
    Knock,
    /// Invite somebody.
    Invite(OwnedRoomId),
    /// Name a room.
    SetName(OwnedRoomId),
    /// Give a room a topic.
    SetTopic(OwnedRoomId),
    /// Name ourselves.
    DisplayName,
    /// Leave a room.
    Leave(OwnedRoomId),
    /// Decline an invitation.
    Decline(OwnedRoomId),
    /// Remove a message, with the reason that others are told.
    Redact(OwnedRoomId, ItemId, Option<String>),
    /// Sign out.
    SignOut,
    /// Sign in again after the server has ended the session.
    SignInAgain {
        /// As a new device, since the old one is gone from the server.
        new_device: bool,
    },
}

/// What choosing a row of a picker means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Open this room.
    Room(OwnedRoomId),
    /// Start a direct chat with this person.
    Person(OwnedUserId),
    /// Run this action.
    Run(Action),
    /// Put this / command into the composer.
    Slash(&'static str),
    /// React with this.
    React(String),
}

/// One row of a picker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What stands first.
    pub label: String,
    /// What stands after it, with less weight.
    pub detail: String,
    /// At the right edge: a key, a count.
    pub note: String,
    /// Searched besides the label.
    pub also: String,
    /// What choosing it means.
    pub choice: Choice,
}

/// What a picker picks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickerKind {
    /// Rooms and people.
    Rooms,
    /// Actions and commands.
    Palette,
    /// Members of the open room.
    Members,
    /// A reaction to this item.
    Reaction(OwnedRoomId, ItemId),
}

/// A list that narrows as one types.
#[derive(Debug, Clone)]
pub struct Picker {
    /// What it picks.
    pub kind: PickerKind,
    /// Its title.
    pub title: String,
    /// What is typed.
    pub query: LineInput,
    /// Every row.
    pub entries: Vec<Entry>,
    /// Rows that match, best first, with the matched characters of the label.
    pub matches: Vec<(usize, Vec<u32>)>,
    /// The selected row among the matches.
    pub selected: usize,
    /// The first row on screen; kept by drawing.
    pub offset: usize,
    /// Rows on screen at the last drawing.
    pub page: usize,
}

impl Picker {
    /// A picker over these rows.
    #[must_use]
    pub fn new(kind: PickerKind, title: impl Into<String>, entries: Vec<Entry>) -> Self {
        let mut picker =
            Self { kind, title: title.into(), query: LineInput::default(), entries, matches: Vec::new(), selected: 0, offset: 0, page: 10 };
        picker.narrow();
        picker
    }

    /// Matches the rows against what is typed.
    pub fn narrow(&mut self) {
        self.selected = 0;
        self.offset = 0;
        let query = self.query.text().trim();
        if query.is_empty() {
            self.matches = (0..self.entries.len()).map(|index| (index, Vec::new())).collect();
            return;
        }
        let mut matcher = Matcher::new(Config::DEFAULT);
        let pattern = Pattern::parse(query, CaseMatching::Ignore, Normalization::Smart);
        let mut buffer = Vec::new();
        let mut scored: Vec<(u32, usize, Vec<u32>)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let mut indices = Vec::new();
            let label = pattern.indices(Utf32Str::new(&entry.label, &mut buffer), &mut matcher, &mut indices);
            // A hit in the label is worth more than one in what only helps to find it.
            let score = label.map(|score| score.saturating_mul(2)).into_iter().chain({
                buffer.clear();
                pattern.score(Utf32Str::new(&entry.also, &mut buffer), &mut matcher)
            });
            if let Some(score) = score.max() {
                indices.sort_unstable();
                indices.dedup();
                scored.push((score, index, if label.is_some() { indices } else { Vec::new() }));
            }
        }
        scored.sort_by_key(|(score, index, _)| (std::cmp::Reverse(*score), *index));
        self.matches = scored.into_iter().map(|(_, index, indices)| (index, indices)).collect();
    }

    /// The chosen row.
    #[must_use]
    pub fn chosen(&self) -> Option<&Entry> {
        self.matches.get(self.selected).and_then(|(index, _)| self.entries.get(*index))
    }

    /// Moves the selection; it stays in the list.
    pub fn step(&mut self, by: isize) {
        let last = self.matches.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }
}

/// A form in a dialog.
#[derive(Debug, Clone)]
pub struct FormLayer {
    /// What it is about.
    pub purpose: Purpose,
    /// The form.
    pub form: Form,
    /// The command that was sent for it.
    pub ticket: Option<Ticket>,
}

/// A question with yes and no.
#[derive(Debug, Clone)]
pub struct Question {
    /// What it is about.
    pub purpose: Purpose,
    /// Its title.
    pub title: String,
    /// What would happen.
    pub text: String,
    /// What the yes button says.
    pub yes: &'static str,
    /// The yes button has the keys.
    pub on_yes: bool,
}

/// A text to read.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// Label and value of each row.
    pub rows: Vec<(String, String)>,
    /// The first line on screen; drawing keeps it in range.
    pub scroll: usize,
}

/// Help, narrowed by what is typed.
#[derive(Debug, Clone, Default)]
pub struct Help {
    /// What is typed.
    pub query: LineInput,
    /// The first line on screen; drawing keeps it in range.
    pub scroll: usize,
}

/// One layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Every key and command.
    Help(Help),
    /// A picker.
    Picker(Box<Picker>),
    /// A form.
    Form(Box<FormLayer>),
    /// A question.
    Question(Question),
    /// A text to read.
    Page(Page),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(label: &str, also: &str) -> Entry {
        Entry { label: label.into(), detail: String::new(), note: String::new(), also: also.into(), choice: Choice::React(label.into()) }
    }

    #[test]
    fn narrowing_prefers_the_name_over_what_helps_to_find_it() {
        let mut picker =
            Picker::new(PickerKind::Rooms, "Rooms", vec![entry("Holiday", "#ops:home"), entry("Operations", ""), entry("Cooking", "")]);
        picker.query.set("op");
        picker.narrow();
        assert_eq!(picker.chosen().map(|e| e.label.as_str()), Some("Operations"));
        assert_eq!(picker.matches.len(), 2);
        picker.query.set("zzz");
        picker.narrow();
        assert_eq!(picker.chosen(), None);
        picker.step(5);
        assert_eq!(picker.selected, 0);
    }
}
