//! One line of typed text with a cursor: fields of forms, queries of pickers.

use unicode_segmentation::UnicodeSegmentation;
use zeroize::Zeroize;

use super::{action::Action, text};

/// A line takes no more than this many bytes: it is measured whole whenever it is drawn.
pub const LINE_BYTES: usize = 4096;

/// A line being typed. The cursor stands between graphemes.
#[derive(Clone, Default)]
pub struct LineInput {
    text: String,
    cursor: usize,
    masked: bool,
}

impl std::fmt::Debug for LineInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = if self.masked { "(masked)" } else { &self.text };
        f.debug_struct("LineInput").field("text", &shown).field("cursor", &self.cursor).finish()
    }
}

impl Drop for LineInput {
    fn drop(&mut self) {
        if self.masked {
            self.text.zeroize();
        }
    }
}

impl LineInput {
    /// A line that holds this text, the cursor behind it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text::one_line(text);
        Self { cursor: text.len(), text, masked: false }
    }

    /// An empty line that shows dots and is wiped when dropped.
    #[must_use]
    pub fn masked() -> Self {
        // Room from the start: growing would leave copies of a password behind.
        Self { text: String::with_capacity(256), cursor: 0, masked: true }
    }

    /// What is typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        if self.masked {
            self.text.zeroize();
        }
        self.text.clear();
        self.text.push_str(text);
        self.cursor = self.text.len();
    }

    /// Types text, as much of it as there is room for; line breaks become blanks.
    pub fn insert(&mut self, text: &str) {
        let mut room = LINE_BYTES.saturating_sub(self.text.len());
        let clean: String = text
            .chars()
            .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
            .filter(|c| !c.is_control())
            .take_while(|c| {
                let fits = c.len_utf8() <= room;
                room = room.saturating_sub(c.len_utf8());
                fits
            })
            .collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    fn previous(&self) -> usize {
        self.before().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn next(&self) -> usize {
        self.cursor + self.after().graphemes(true).next().map_or(0, str::len)
    }

    fn word_left(&self) -> usize {
        self.before().unicode_word_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn word_right(&self) -> usize {
        self.after().unicode_word_indices().next().map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    fn cut(&mut self, from: usize, to: usize) -> bool {
        if from >= to || !self.text.is_char_boundary(from) || !self.text.is_char_boundary(to) {
            return false;
        }
        self.text.replace_range(from..to, "");
        self.cursor = from;
        true
    }

    /// Carries out an editing action. `None` when the action is none, else whether the text changed.
    pub fn act(&mut self, action: Action) -> Option<bool> {
        let (cursor, end) = (self.cursor, self.text.len());
        match action {
            Action::Left => self.cursor = self.previous(),
            Action::Right => self.cursor = self.next(),
            Action::WordLeft => self.cursor = self.word_left(),
            Action::WordRight => self.cursor = self.word_right(),
            Action::LineStart | Action::TextStart => self.cursor = 0,
            Action::LineEnd | Action::TextEnd => self.cursor = end,
            Action::DeleteBack => return Some(self.cut(self.previous(), cursor)),
            Action::Delete => {
                let to = self.next();
                return Some(self.cut(cursor, to));
            }
            Action::DeleteWordBack => return Some(self.cut(self.word_left(), cursor)),
            Action::DeleteWord => {
                let to = self.word_right();
                return Some(self.cut(cursor, to));
            }
            Action::KillToStart => return Some(self.cut(0, cursor)),
            Action::KillToEnd => return Some(self.cut(cursor, end)),
            _ => return None,
        }
        Some(false)
    }

    /// What to show in so many columns, and the cursor's column in it.
    #[must_use]
    pub fn view(&self, columns: usize) -> (String, usize) {
        let (before, after) = if self.masked {
            let dots = |text: &str| "•".repeat(text.graphemes(true).count());
            (dots(self.before()), dots(self.after()))
        } else {
            (self.before().to_owned(), self.after().to_owned())
        };
        let room = columns.saturating_sub(1);
        let mut start = 0;
        let mut used = text::width(&before);
        for (at, grapheme) in before.grapheme_indices(true) {
            if used <= room {
                break;
            }
            used -= text::width(grapheme);
            start = at + grapheme.len();
        }
        let mut shown = before.get(start..).unwrap_or_default().to_owned();
        let cursor = text::width(&shown);
        let mut width = cursor;
        for grapheme in after.graphemes(true) {
            width += text::width(grapheme);
            if width > columns {
                break;
            }
            shown.push_str(grapheme);
        }
        (shown, cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EDITS: &[Action] = &[
        Action::Left,
        Action::Right,
        Action::WordLeft,
        Action::WordRight,
        Action::LineStart,
        Action::LineEnd,
        Action::DeleteBack,
        Action::Delete,
        Action::DeleteWordBack,
        Action::DeleteWord,
        Action::KillToStart,
        Action::KillToEnd,
    ];

    #[test]
    fn backspace_takes_a_whole_family() {
        let mut line = LineInput::new("a👩‍👩‍👧‍👦");
        assert_eq!(line.act(Action::DeleteBack), Some(true));
        assert_eq!(line.text(), "a");
    }

    #[test]
    fn a_masked_line_shows_dots_and_debug_hides_it() {
        let mut line = LineInput::masked();
        line.insert("hunter2");
        assert_eq!(line.view(20), ("•••••••".into(), 7));
        assert!(!format!("{line:?}").contains("hunter2"));
    }

    #[test]
    fn a_line_takes_no_more_than_can_be_drawn_at_every_key() {
        let mut line = LineInput::new("é");
        line.insert(&"ä".repeat(1_000_000));
        assert_eq!(line.text().len(), LINE_BYTES);
        line.insert("x");
        assert_eq!((line.text().len(), line.act(Action::DeleteBack)), (LINE_BYTES, Some(true)));
    }

    #[test]
    fn a_long_line_shows_the_part_around_the_cursor() {
        let line = LineInput::new("abcdefghij");
        assert_eq!(line.view(5), ("ghij".into(), 4));
    }

    proptest! {
        #[test]
        fn any_editing_keeps_the_cursor_in_the_text(start in "\\PC{0,20}", edits in prop::collection::vec(0..EDITS.len(), 0..30), columns in 0_usize..30) {
            let mut line = LineInput::new(&start);
            for edit in edits {
                if let Some(action) = EDITS.get(edit) {
                    line.act(*action);
                }
                line.insert("é");
                let (shown, cursor) = line.view(columns);
                prop_assert!(text::width(&shown) <= columns.max(1) + 1 && cursor <= columns.max(1) + 1);
            }
        }
    }
}
