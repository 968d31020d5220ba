//! Text on its way to cells: cleaning, width, wrapping.
//!
//! Everything that another person wrote passes through `clean` before it is laid out, so that no message can move the
//! cursor, recolour the screen or turn the reading direction of the line around it. Knows nothing of Matrix.

use std::borrow::Cow;

use ratatui::{
    buffer::CellWidth,
    style::Style,
    text::{Line, Span},
};
use unicode_segmentation::UnicodeSegmentation;

/// Code points that one grapheme may hold. Families of emoji need eleven; stacked accents beyond this are cut.
const GRAPHEME_CHARS: usize = 16;
/// Columns of a tab.
const TAB: &str = "    ";

/// True for characters that must not reach the terminal: controls, direction overrides and isolates, invisible tags,
/// and the separators that some terminals treat as line breaks.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Makes untrusted text safe to draw. Line breaks stay, tabs become spaces, everything that steers a terminal or the
/// reading direction is dropped.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|b| b.is_ascii_control() && b != b'\n') {
        return Cow::Borrowed(text);
    }
    if !text.chars().any(|c| c != '\n' && is_hostile(c)) && text.graphemes(true).all(|g| g.chars().nth(GRAPHEME_CHARS).is_none()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        for c in grapheme.chars().take(GRAPHEME_CHARS) {
            match c {
                '\n' | '\u{2028}' | '\u{2029}' => out.push('\n'),
                '\t' => out.push_str(TAB),
                c if is_hostile(c) => {}
                c => out.push(c),
            }
        }
    }
    Cow::Owned(out)
}

/// `clean` for a place that has one line: line breaks and runs of blanks become one space.
#[must_use]
pub fn one_line(text: &str) -> String {
    let clean = clean(text);
    let mut out = String::with_capacity(clean.len().min(512));
    for word in clean.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        // No row is this long: stop before a megabyte of topic costs anything.
        if out.len() > 2000 {
            break;
        }
    }
    out
}

/// Normalises what a terminal pasted: carriage returns are line breaks, other controls go.
#[must_use]
pub fn pasted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() == Some(&'\n') {
                    chars.next();
                }
                out.push('\n');
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Columns that one grapheme takes. Controls, which nothing draws, take none.
fn columns_of(grapheme: &str) -> usize {
    if grapheme.contains(char::is_control) { 0 } else { usize::from(grapheme.cell_width()) }
}

/// Columns that the text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.len();
    }
    text.graphemes(true).map(columns_of).sum()
}

/// The text cut to this many columns, with an ellipsis where something was cut.
#[must_use]
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    // A text with no more bytes than columns fits: no character is wider than its bytes.
    if text.len() <= columns || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    if columns == 0 {
        return Cow::Borrowed("");
    }
    let mut out = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        let wide = columns_of(grapheme);
        if used + wide > columns - 1 {
            break;
        }
        used += wide;
        out.push_str(grapheme);
    }
    out.push('…');
    Cow::Owned(out)
}

/// A size for people: `812 B`, `2.0 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, scale) in UNITS {
        if bytes >= scale {
            let tenths = bytes / (scale / 10);
            return if tenths >= 1000 { format!("{} {unit}", tenths / 10) } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) };
        }
    }
    format!("{bytes} B")
}

/// One paragraph of styled text that is wrapped as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph {
    /// Put before the first line (a bullet, a quote bar).
    pub first: Vec<Span<'static>>,
    /// Put before the lines that follow.
    pub rest: Vec<Span<'static>>,
    /// The text.
    pub spans: Vec<(String, Style)>,
    /// Keep blanks and break anywhere (code).
    pub verbatim: bool,
}

impl Paragraph {
    /// A paragraph of one style without prefixes.
    #[must_use]
    pub fn plain(text: impl Into<String>, style: Style) -> Self {
        Self { spans: vec![(text.into(), style)], ..Self::default() }
    }

    /// True when it has no text.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.spans.iter().all(|(text, _)| text.trim().is_empty())
    }
}

/// Collects one output line at a time.
struct Wrapper<'a> {
    paragraph: &'a Paragraph,
    columns: usize,
    lines: Vec<Line<'static>>,
    spans: Vec<Span<'static>>,
    used: usize,
    filled: bool,
}

impl<'a> Wrapper<'a> {
    fn new(paragraph: &'a Paragraph, columns: usize) -> Self {
        let mut wrapper = Self { paragraph, columns: columns.max(1), lines: Vec::new(), spans: Vec::new(), used: 0, filled: false };
        wrapper.start(true);
        wrapper
    }

    fn start(&mut self, first: bool) {
        let prefix = if first { &self.paragraph.first } else { &self.paragraph.rest };
        let wide: usize = prefix.iter().map(|span| width(&span.content)).sum();
        // A prefix that leaves no room for text is left out: text matters more than its decoration.
        if wide + 2 <= self.columns {
            self.spans.extend(prefix.iter().cloned());
            self.used = wide;
        }
        self.filled = false;
    }

    fn end_line(&mut self) {
        self.lines.push(Line::from(std::mem::take(&mut self.spans)));
        self.used = 0;
        self.start(false);
    }

    fn push(&mut self, text: &str, style: Style, wide: usize) {
        match self.spans.last_mut() {
            Some(last) if last.style == style && self.filled => last.content.to_mut().push_str(text),
            _ => self.spans.push(Span::styled(text.to_owned(), style)),
        }
        self.used += wide;
        self.filled = true;
    }

    /// Puts a piece that may be broken anywhere.
    fn break_anywhere(&mut self, text: &str, style: Style) {
        for grapheme in text.graphemes(true) {
            let wide = columns_of(grapheme);
            if self.used + wide > self.columns && self.filled {
                self.end_line();
            }
            self.push(grapheme, style, wide);
        }
    }

    /// Puts a word: styled pieces that stay together where they fit on a line.
    fn word(&mut self, pieces: &[(&str, Style)], wide: usize) {
        if self.used + wide > self.columns && self.filled {
            self.end_line();
        }
        let fits = self.used + wide <= self.columns;
        for (text, style) in pieces {
            if fits { self.push(text, *style, width(text)) } else { self.break_anywhere(text, *style) }
        }
    }

    fn blank(&mut self, text: &str, style: Style) {
        let wide = width(text);
        // Blanks at a line's end vanish instead of starting the next line.
        if self.used + wide <= self.columns {
            self.push(text, style, wide);
        } else if self.filled {
            self.end_line();
        }
    }
}

/// Wraps a paragraph to so many columns. Gives at least one line; a line break in the text starts a new one.
#[must_use]
pub fn wrap(paragraph: &Paragraph, columns: usize) -> Vec<Line<'static>> {
    let mut wrapper = Wrapper::new(paragraph, columns);
    let mut word: Vec<(&str, Style)> = Vec::new();
    let mut word_width = 0;
    for (text, style) in &paragraph.spans {
        for (index, piece) in text.split('\n').enumerate() {
            if index > 0 {
                flush(&mut wrapper, &mut word, &mut word_width);
                wrapper.end_line();
            }
            if paragraph.verbatim {
                wrapper.break_anywhere(piece, *style);
                continue;
            }
            for bound in piece.split_word_bounds() {
                if bound.chars().all(char::is_whitespace) {
                    flush(&mut wrapper, &mut word, &mut word_width);
                    wrapper.blank(bound, *style);
                } else {
                    // Scripts without blanks may break between any two characters; words of Latin and punctuation stay together.
                    let wide = width(bound);
                    let ideographic = wide > bound.chars().count();
                    if ideographic {
                        flush(&mut wrapper, &mut word, &mut word_width);
                    }
                    word.push((bound, *style));
                    word_width += wide;
                    if ideographic {
                        flush(&mut wrapper, &mut word, &mut word_width);
                    }
                }
            }
        }
    }
    flush(&mut wrapper, &mut word, &mut word_width);
    if !wrapper.spans.is_empty() || wrapper.lines.is_empty() {
        wrapper.lines.push(Line::from(std::mem::take(&mut wrapper.spans)));
    }
    wrapper.lines
}

fn flush(wrapper: &mut Wrapper<'_>, word: &mut Vec<(&str, Style)>, word_width: &mut usize) {
    if !word.is_empty() {
        wrapper.word(word, *word_width);
        word.clear();
        *word_width = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str, columns: usize) -> Vec<String> {
        wrap(&Paragraph::plain(text, Style::default()), columns).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn escape_sequences_do_not_survive_cleaning() {
        assert_eq!(clean("a\u{1b}[31mred\u{7}\u{9b}2J"), "a[31mred2J");
        assert_eq!(clean("ab\rcd"), "abcd");
    }

    #[test]
    fn direction_overrides_do_not_survive_cleaning() {
        assert_eq!(clean("photo_\u{202e}gpj.exe\u{2066}x\u{2069}"), "photo_gpj.exex");
    }

    #[test]
    fn stacked_accents_are_cut() {
        let zalgo = format!("e{}", "\u{301}".repeat(500));
        assert_eq!(clean(&zalgo).chars().count(), GRAPHEME_CHARS);
    }

    #[test]
    fn ordinary_text_is_borrowed() {
        assert!(matches!(clean("plain\ntext"), Cow::Borrowed(_)));
        assert!(matches!(clean("Grüße 👩‍👩‍👧‍👦 你好"), Cow::Borrowed(_)));
    }

    #[test]
    fn paste_keeps_lines_and_tabs_and_drops_controls() {
        assert_eq!(pasted("a\r\nb\rc\n\td\u{1b}[201~"), "a\nb\nc\n\td[201~");
    }

    #[test]
    fn wraps_at_words_and_breaks_long_ones() {
        assert_eq!(lines("hello big world", 9), ["hello big", "world"]);
        assert_eq!(lines("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(lines("one\n\ntwo", 10), ["one", "", "two"]);
    }

    #[test]
    fn wide_characters_count_two_columns() {
        assert_eq!(lines("你好世界", 5), ["你好", "世界"]);
        assert_eq!(fit("你好世界", 5), "你好…");
        assert_eq!(width("e\u{301}"), 1);
    }

    #[test]
    fn sizes_read_like_people_write_them() {
        assert_eq!([size(812), size(2_000_000), size(15_300), size(345_000_000)], ["812 B", "2.0 MB", "15.3 kB", "345 MB"]);
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_no_visible_character_is_lost(text in "\\PC{0,80}", columns in 2_usize..40) {
            let text = clean(&text).into_owned();
            let wrapped = lines(&text, columns);
            for line in &wrapped {
                // One grapheme can be wider than the whole line; there is nowhere to break it.
                let single = line.graphemes(true).count() == 1;
                prop_assert!(width(line) <= columns || single, "{line:?} is wider than {columns}");
            }
            let strip = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(strip(&wrapped.concat()), strip(&text));
        }
    }
}
