//! The state of one room's composer: text, what it answers or edits, long pastes, mentions, completion.
//!
//! Only editing lives here; what sending means is decided in `update::composer`.

use std::sync::Arc;

use ratatui::style::Style;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};
use ruma::{OwnedEventId, OwnedUserId};

use super::action::Action;
use crate::client::view::ItemId;

/// Text beyond this many bytes does not fit one event together with its HTML (65,536 bytes, Client-Server API, "Size
/// limits"), so a paste that would exceed it is kept beside the text and sent as a file.
pub const TEXT_LIMIT_BYTES: usize = 24 * 1024;

/// What sending the text would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A new message.
    New,
    /// An answer.
    Reply {
        /// To this event.
        event_id: OwnedEventId,
        /// Whose sender is called so.
        sender: String,
        /// And which says this.
        text: String,
    },
    /// A new text for one of our messages.
    Edit {
        /// Which one, as the timeline counts: stays the same while the server gives it its ID.
        unique: u64,
        /// The event.
        item: ItemId,
        /// Its text before.
        before: String,
        /// What stood in the composer before.
        stash: String,
        /// Whom that mentions, with the words that stand for them.
        stash_mentions: Vec<(String, OwnedUserId)>,
    },
}

/// A paste too long for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paste {
    /// All of it.
    pub text: Arc<str>,
    /// Number of lines.
    pub lines: usize,
}

impl Paste {
    fn new(text: String) -> Self {
        Self { lines: text.lines().count(), text: text.into() }
    }
}

/// One way to complete the word at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What to put in the word's place.
    pub insert: String,
    /// What to show.
    pub label: String,
    /// More about it.
    pub detail: String,
    /// Whom it mentions.
    pub mention: Option<OwnedUserId>,
}

/// A completion under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Characters of the line before the word.
    pub start: usize,
    /// The ways.
    pub candidates: Vec<Candidate>,
    /// The one that stands in the text; `None` while they are only shown.
    pub chosen: Option<usize>,
    /// The word as it was typed.
    pub typed: String,
}

/// A room's composer.
#[derive(Debug, Clone)]
pub struct Composer {
    area: TextArea<'static>,
    /// What sending does.
    pub mode: Mode,
    /// A long paste.
    pub paste: Option<Paste>,
    /// A completion under way.
    pub completion: Option<Completion>,
    /// People whom completion put into the text, with the words that stand for them. Without words: people whom an edited message
    /// mentions without naming them, who stay mentioned.
    pub mentions: Vec<(String, OwnedUserId)>,
    /// The draft as it was last saved.
    pub saved: String,
}

impl Default for Composer {
    fn default() -> Self {
        Self { area: area(Vec::new()), mode: Mode::New, paste: None, completion: None, mentions: Vec::new(), saved: String::new() }
    }
}

fn area(lines: Vec<String>) -> TextArea<'static> {
    let mut area = TextArea::new(lines);
    area.set_wrap_mode(WrapMode::WordOrGlyph);
    area.set_cursor_line_style(Style::default());
    // The terminal's own cursor is put there instead: screen readers and input methods follow it.
    area.set_cursor_style(Style::default());
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Composer {
    /// A composer with a stored draft.
    #[must_use]
    pub fn with_draft(text: &str) -> Self {
        let mut composer = Self { saved: text.to_owned(), ..Self::default() };
        composer.paste(text);
        composer
    }

    /// The widget.
    #[must_use]
    pub fn area(&self) -> &TextArea<'static> {
        &self.area
    }

    /// The widget, to restyle it.
    pub fn area_mut(&mut self) -> &mut TextArea<'static> {
        &mut self.area
    }

    /// What is typed, without a long paste.
    #[must_use]
    pub fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// Everything that must not be lost: the text and the long paste.
    #[must_use]
    pub fn draft(&self) -> String {
        let text = match &self.mode {
            Mode::Edit { before, stash, .. } => self.beside_edit(before, stash),
            _ => self.text(),
        };
        match &self.paste {
            Some(paste) if text.is_empty() => paste.text.to_string(),
            Some(paste) => format!("{text}\n{}", paste.text),
            None => text,
        }
    }

    /// Nothing is typed or pasted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.area.is_empty() && self.paste.is_none()
    }

    /// Nothing worth keeping.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.mode == Mode::New
    }

    /// Replaces the text; the cursor stands behind it.
    pub fn set_text(&mut self, text: &str) {
        self.area = area(text.split('\n').map(str::to_owned).collect());
        self.completion = None;
    }

    /// Empties it after sending.
    pub fn clear(&mut self) {
        self.set_text("");
        self.paste = None;
        self.mentions.clear();
        self.mode = Mode::New;
    }

    /// Types text in one go. What is too long for a message is kept beside it.
    pub fn paste(&mut self, text: &str) {
        self.completion = None;
        let typed: usize = self.area.lines().iter().map(|line| line.len() + 1).sum();
        if typed + text.len() > TEXT_LIMIT_BYTES {
            let all = match self.paste.take() {
                Some(paste) => format!("{}\n{text}", paste.text),
                None => text.to_owned(),
            };
            self.paste = Some(Paste::new(all));
        } else {
            self.area.insert_str(text);
        }
    }

    /// Puts a text in front of what is typed; while a message is edited, in front of what comes back afterwards.
    pub fn put_before(&mut self, text: &str) {
        let joined = |typed: &str| if typed.is_empty() { text.to_owned() } else { format!("{text}\n{typed}") };
        if let Mode::Edit { stash, .. } = &mut self.mode {
            *stash = joined(stash);
            return;
        }
        let all = joined(&self.text());
        self.set_text("");
        self.paste(&all);
    }

    /// Keeps a long paste beside the text, in front of one that is there already.
    pub fn keep_beside(&mut self, text: &str) {
        self.paste = Some(Paste::new(match self.paste.take() {
            Some(newer) => format!("{text}\n{}", newer.text),
            None => text.to_owned(),
        }));
    }

    /// Carries out an editing action. `None` when the action is none, else whether the text changed.
    pub fn act(&mut self, action: Action) -> Option<bool> {
        let area = &mut self.area;
        let moved = match action {
            Action::Left => CursorMove::Back,
            Action::Right => CursorMove::Forward,
            Action::Up => CursorMove::Up,
            Action::Down => CursorMove::Down,
            Action::WordLeft => CursorMove::WordBack,
            Action::WordRight => CursorMove::WordForward,
            Action::LineStart => CursorMove::Head,
            Action::LineEnd => CursorMove::End,
            Action::TextStart => CursorMove::Top,
            Action::TextEnd => CursorMove::Bottom,
            Action::Newline => {
                area.insert_newline();
                return Some(true);
            }
            Action::DeleteBack => return Some(self.delete_grapheme(true)),
            Action::Delete => return Some(self.delete_grapheme(false)),
            Action::DeleteWordBack => return Some(area.delete_word()),
            Action::DeleteWord => return Some(area.delete_next_word()),
            Action::KillToEnd => return Some(area.delete_line_by_end()),
            Action::KillToStart => return Some(area.delete_line_by_head()),
            Action::Yank => return Some(area.paste()),
            Action::Undo => return Some(area.undo()),
            Action::Redo => return Some(area.redo()),
            Action::ClearPaste => return Some(self.paste.take().is_some()),
            _ => return None,
        };
        area.move_cursor(moved);
        Some(false)
    }

    /// Types one character.
    pub fn insert(&mut self, c: char) {
        self.area.insert_char(c);
    }

    /// The widget counts code points; people count what they see.
    fn delete_grapheme(&mut self, back: bool) -> bool {
        use unicode_segmentation::UnicodeSegmentation;
        let (before, after) = self.around_cursor();
        let grapheme = if back { before.graphemes(true).next_back() } else { after.graphemes(true).next() };
        let count = grapheme.map_or(1, |g| g.chars().count());
        (0..count).fold(false, |changed, _| (if back { self.area.delete_char() } else { self.area.delete_next_char() }) || changed)
    }

    /// The current line before and after the cursor.
    #[must_use]
    pub fn around_cursor(&self) -> (String, String) {
        let cursor = self.area.cursor();
        let line = self.area.lines().get(cursor.0).map_or("", String::as_str);
        let split = line.char_indices().nth(cursor.1).map_or(line.len(), |(at, _)| at);
        let (before, after) = line.split_at(split);
        (before.to_owned(), after.to_owned())
    }

    /// True when the cursor stands in the first line of the text.
    #[must_use]
    pub fn on_first_line(&self) -> bool {
        self.area.cursor().0 == 0
    }

    /// Replaces the characters from `start` to the cursor in the current line.
    pub fn replace_word(&mut self, start: usize, with: &str) {
        let column = self.area.cursor().1;
        for _ in start..column {
            self.area.delete_char();
        }
        self.area.insert_str(with);
    }

    /// Starts an answer. The text stays.
    pub fn reply(&mut self, event_id: OwnedEventId, sender: String, text: String) {
        self.leave_mode();
        self.mode = Mode::Reply { event_id, sender, text };
    }

    /// Starts editing one of our messages, which says this (as one would type it) and mentions these people; what stood here comes
    /// back afterwards.
    pub fn edit(&mut self, unique: u64, item: ItemId, before: String, mentions: Vec<(String, OwnedUserId)>) {
        self.leave_mode();
        let stash = self.text();
        self.set_text(&before);
        let stash_mentions = std::mem::replace(&mut self.mentions, mentions);
        self.mode = Mode::Edit { unique, item, before, stash, stash_mentions };
    }

    /// Empties it after its text was sent, or run as a command. What was put aside for an edit comes back, and a long paste stays.
    pub fn done(&mut self) {
        let paste = self.paste.take();
        let aside = match std::mem::replace(&mut self.mode, Mode::New) {
            Mode::Edit { stash, stash_mentions, .. } => Some((stash, stash_mentions)),
            Mode::New | Mode::Reply { .. } => None,
        };
        self.clear();
        self.paste = paste;
        if let Some((stash, mentions)) = aside {
            self.set_text(&stash);
            self.mentions = mentions;
        }
    }

    /// Leaves reply or edit mode and keeps every typed word. True when there was a mode to leave.
    pub fn leave_mode(&mut self) -> bool {
        match std::mem::replace(&mut self.mode, Mode::New) {
            Mode::New => false,
            Mode::Reply { .. } => true,
            Mode::Edit { before, stash, stash_mentions, .. } => {
                let text = self.beside_edit(&before, &stash);
                self.set_text(&text);
                self.mentions.retain(|(words, _)| !words.is_empty());
                self.mentions.extend(stash_mentions);
                true
            }
        }
    }

    /// What an edit leaves when it is not sent: what stood here before it, and the new words, which are nowhere else.
    fn beside_edit(&self, before: &str, stash: &str) -> String {
        let text = self.text();
        match () {
            () if text == before => stash.to_owned(),
            () if stash.is_empty() => text,
            () => format!("{stash}\n{text}"),
        }
    }

    /// People whom the text still mentions.
    #[must_use]
    pub fn mentioned(&self, text: &str) -> Vec<OwnedUserId> {
        let mut people: Vec<OwnedUserId> = Vec::new();
        for (words, user_id) in &self.mentions {
            if text.contains(words.as_str()) && !people.contains(user_id) {
                people.push(user_id.clone());
            }
        }
        people
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> ItemId {
        ItemId::Event(ruma::owned_event_id!("$one:home"))
    }

    #[test]
    fn a_long_paste_is_kept_whole_beside_the_text() {
        let mut composer = Composer::default();
        composer.paste("hello");
        let long = "line\n".repeat(100_000);
        composer.paste(&long);
        assert_eq!(composer.text(), "hello");
        assert_eq!(composer.paste.as_ref().map(|p| (p.text.len(), p.lines)), Some((500_000, 100_000)));
        assert_eq!(composer.draft(), format!("hello\n{long}"));
        let again = Composer::with_draft(&composer.draft());
        assert_eq!(again.draft(), composer.draft());
    }

    #[test]
    fn leaving_an_unchanged_edit_brings_back_what_was_typed() {
        let mut composer = Composer::default();
        composer.paste("half a thought");
        composer.edit(1, item(), "old text".into(), Vec::new());
        assert_eq!((composer.text().as_str(), composer.draft().as_str()), ("old text", "half a thought"));
        assert!(composer.leave_mode());
        assert_eq!(composer.text(), "half a thought");
    }

    #[test]
    fn leaving_a_changed_edit_keeps_both_texts() {
        let mut composer = Composer::default();
        composer.paste("half a thought");
        composer.edit(1, item(), "old".into(), Vec::new());
        composer.paste(" and new");
        composer.leave_mode();
        assert_eq!(composer.text(), "half a thought\nold and new");
    }

    #[test]
    fn backspace_takes_what_a_person_sees_as_one() {
        let mut composer = Composer::default();
        composer.paste("a👩‍👩‍👧‍👦");
        composer.act(Action::DeleteBack);
        assert_eq!(composer.text(), "a");
    }

    #[test]
    fn only_people_still_in_the_text_are_mentioned() {
        let mut composer = Composer::default();
        composer.mentions.push(("Bob".into(), ruma::owned_user_id!("@bob:home")));
        assert_eq!(composer.mentioned("hi Bob").len(), 1);
        assert!(composer.mentioned("hi").is_empty());
    }
}
