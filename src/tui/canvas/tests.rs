//! The bytes are read back by two terminals: vt100, which others wrote, and a small one here, which has margins at the sides.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

use proptest::prelude::*;
use ratatui::{
    buffer::CellWidth,
    style::{Color, Modifier, Style},
};

use super::*;
use crate::tui::{
    Model, Msg,
    keymap::Keymap,
    model::Focus,
    sample, screens,
    theme::{ColourDepth, Theme},
    update,
};

/// A terminal that knows what `Canvas` says and nothing else, and stops at anything else.
struct Small {
    width: usize,
    height: usize,
    cells: Vec<String>,
    x: usize,
    y: usize,
    region: (usize, usize),
    sides: (usize, usize),
}

impl Small {
    fn new(width: u16, height: u16) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        let cells = vec![" ".to_owned(); width * height];
        Self { width, height, cells, x: 0, y: 0, region: (0, height - 1), sides: (0, width - 1) }
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '\x1b' if characters.peek() == Some(&'M') => {
                    characters.next();
                    self.line(false);
                }
                '\x1b' => {
                    assert_eq!(characters.next(), Some('['));
                    let mut body = String::new();
                    let last = loop {
                        match characters.next().unwrap() {
                            c @ ('0'..='9' | ';' | '?') => body.push(c),
                            c => break c,
                        }
                    };
                    self.control(&body, last);
                }
                '\n' => self.line(true),
                '\r' => self.x = 0,
                '\x08' => self.x -= 1,
                c => self.print(c),
            }
        }
    }

    fn print(&mut self, c: char) {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        assert!(self.x < self.width, "written behind the end of line {}", self.y);
        for x in self.x..(self.x + wide).min(self.width) {
            self.cells[self.y * self.width + x] = String::new();
        }
        self.cells[self.y * self.width + self.x] = c.to_string();
        self.x += wide;
    }

    fn line(&mut self, down: bool) {
        let (top, bottom) = self.region;
        let (left, right) = self.sides;
        if self.y != if down { bottom } else { top } {
            self.y = if down { self.y + 1 } else { self.y - 1 };
            return;
        }
        if !(left..=right).contains(&self.x) {
            return;
        }
        let rows: Vec<usize> = if down { (top..=bottom).collect() } else { (top..=bottom).rev().collect() };
        for pair in rows.windows(2) {
            for x in left..=right {
                self.cells[pair[0] * self.width + x] = self.cells[pair[1] * self.width + x].clone();
            }
        }
        for x in left..=right {
            self.cells[rows[rows.len() - 1] * self.width + x] = " ".to_owned();
        }
    }

    fn control(&mut self, body: &str, last: char) {
        let numbers: Vec<usize> = body.split(';').map(|n| n.parse().unwrap_or(1)).collect();
        let first = numbers[0];
        match (body, last) {
            (_, 'm') | ("?25", 'h' | 'l') | ("?2026", 'h' | 'l') | ("?69", 'h') => {}
            ("?69", 'l') => self.sides = (0, self.width - 1),
            ("2", 'J') => self.cells.fill(" ".to_owned()),
            ("", 'r') => (self.region, self.x, self.y) = ((0, self.height - 1), 0, 0),
            (_, 'r') => (self.region, self.x, self.y) = ((first - 1, numbers[1] - 1), 0, 0),
            (_, 's') => (self.sides, self.x, self.y) = ((first - 1, numbers[1] - 1), 0, 0),
            (_, 'H') => (self.y, self.x) = (first - 1, numbers.get(1).map_or(0, |x| x - 1)),
            (_, 'G') => self.x = first - 1,
            (_, 'A') => self.y -= first,
            (_, 'B') => self.y += first,
            (_, 'C') => self.x += first,
            (_, 'D') => self.x -= first,
            ("", 'K') => self.erase(self.width - self.x),
            (_, 'X') => self.erase(first),
            _ => panic!("CSI {body} {last}"),
        }
    }

    fn erase(&mut self, count: usize) {
        for x in self.x..self.x + count {
            self.cells[self.y * self.width + x] = " ".to_owned();
        }
    }

    fn rows(&self) -> Vec<String> {
        self.cells.chunks(self.width).map(|row| row.concat()).collect()
    }
}

fn wanted(buffer: &Buffer) -> Vec<String> {
    (0..buffer.area.height)
        .map(|y| {
            let mut x = 0;
            let mut row = String::new();
            while x < buffer.area.width {
                let cell = &buffer[(x, y)];
                row.push_str(cell.symbol());
                x += cell.cell_width().max(1);
            }
            row
        })
        .collect()
}

const SIZE: Size = Size { width: 24, height: 7 };

/// One change of a frame.
#[derive(Debug, Clone)]
enum Change {
    Text(u16, u16, String, usize),
    Clear(u16, u16, u16),
    Scroll(u16, i32),
}

fn change() -> impl Strategy<Value = Change> {
    let text = prop::collection::vec(prop::sample::select(vec!["a", "b ", " ", "   ", "é", "你", "…", "─", "🚀", "xyz", "ж"]), 1..12);
    prop_oneof![
        4 => (0..SIZE.width, 0..SIZE.height, text, 0..STYLES.len()).prop_map(|(x, y, text, style)| Change::Text(x, y, text.concat(), style)),
        1 => (0..SIZE.width, 0..SIZE.height, 1..20_u16).prop_map(|(x, y, n)| Change::Clear(x, y, n)),
        1 => (0..12_u16, -3..4).prop_map(|(left, by)| Change::Scroll(left, by)),
    ]
}

const STYLES: [Style; 5] = [
    Style::new(),
    Style::new().fg(Color::Red),
    Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD),
    Style::new().bg(Color::Blue),
    Style::new().add_modifier(Modifier::UNDERLINED.union(Modifier::DIM)),
];

fn apply(buffer: &mut Buffer, change: &Change) {
    match change {
        Change::Text(x, y, text, style) => {
            let text = text.replace('…', ".");
            buffer.set_stringn(*x, *y, text, usize::from(SIZE.width - x), STYLES[*style]);
        }
        Change::Clear(x, y, count) => {
            for x in *x..(*x + *count).min(SIZE.width) {
                buffer[(x, *y)].reset();
            }
        }
        Change::Scroll(left, by) => {
            let before = buffer.clone();
            for y in 1..SIZE.height - 1 {
                let from = i32::from(y) + by;
                for x in *left..SIZE.width {
                    let inside = (1..i32::from(SIZE.height) - 1).contains(&from);
                    buffer[(x, y)] = if inside { before[(x, u16::try_from(from).unwrap())].clone() } else { Default::default() };
                }
            }
        }
    }
    // A wide character that lost one half is none any more.
    for y in 0..SIZE.height {
        let mut x = 0;
        while x < SIZE.width {
            let wide = buffer[(x, y)].cell_width().max(1);
            if x + wide > SIZE.width {
                buffer[(x, y)].reset();
            }
            for over in x + 1..(x + wide).min(SIZE.width) {
                buffer[(over, y)].reset();
            }
            x += wide;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_changes_the_terminal_shows_it(frames in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..8), margins: bool) {
        let mut canvas = Canvas::new(Vec::new());
        canvas.set_margins(margins);
        let mut small = Small::new(SIZE.width, SIZE.height);
        let mut other = vt100::Parser::new(SIZE.height, SIZE.width, 0);
        let mut frame = Buffer::empty(Rect::new(0, 0, SIZE.width, SIZE.height));
        for changes in &frames {
            changes.iter().for_each(|change| apply(&mut frame, change));
            let scrolls = vec![Rect::new(0, 1, SIZE.width, SIZE.height - 2), Rect::new(5, 1, SIZE.width - 5, SIZE.height - 2)];
            canvas.draw(SIZE, |_, buffer| { *buffer = frame.clone(); Wants { cursor: Some((3, 3)), scrolls } }).unwrap();
            let bytes = std::mem::take(&mut canvas.writer);
            small.take(&bytes);
            prop_assert_eq!(small.rows(), wanted(&frame), "{:?}", String::from_utf8_lossy(&bytes));
            prop_assert_eq!((small.x, small.y), (3, 3));
            if !margins {
                other.process(&bytes);
                for (y, row) in wanted(&frame).iter().enumerate() {
                    let y = u16::try_from(y).unwrap();
                    let shown = other.screen().rows(0, SIZE.width).nth(usize::from(y)).unwrap();
                    prop_assert_eq!(shown.trim_end(), row.trim_end(), "{:?}", String::from_utf8_lossy(&bytes));
                    for x in 0..SIZE.width {
                        let (cell, there) = (&frame[(x, y)], other.screen().cell(y, x).unwrap());
                        let hidden = there.is_wide_continuation();
                        let underlined = cell.modifier.contains(Modifier::UNDERLINED);
                        prop_assert!(hidden || there.underline() == underlined, "underline at {} {}", x, y);
                        prop_assert!(hidden || (there.bgcolor() == vt100::Color::Default) == (cell.bg == Color::Reset), "ground at {} {}", x, y);
                        // This one cannot be bold and dim at once.
                        let seen = cell.symbol() != " " && !cell.modifier.contains(Modifier::DIM);
                        prop_assert!(!seen || there.bold() == cell.modifier.contains(Modifier::BOLD), "bold at {} {}", x, y);
                    }
                }
            }
        }
    }
}

fn draw(canvas: &mut Canvas<Vec<u8>>, text: &str, style: Style, cursor: (u16, u16)) -> String {
    canvas.writer.clear();
    let paint = |_, buffer: &mut Buffer| {
        buffer.set_string(0, 0, text, style);
        Wants { cursor: Some(cursor), scrolls: Vec::new() }
    };
    canvas.draw(Size { width: 30, height: 3 }, paint).unwrap();
    String::from_utf8(canvas.writer.clone()).unwrap()
}

#[test]
fn an_unchanged_frame_writes_nothing_and_a_character_writes_itself() {
    let mut canvas = Canvas::new(Vec::new());
    draw(&mut canvas, "ab", Style::new(), (2, 0));
    assert_eq!(draw(&mut canvas, "ab", Style::new(), (2, 0)), "");
    assert_eq!(draw(&mut canvas, "abc", Style::new(), (3, 0)), "c");
    assert_eq!(draw(&mut canvas, "abcж", Style::new(), (4, 0)), "ж", "a letter of another alphabet costs no more");
    assert_eq!(draw(&mut canvas, "abcж你", Style::new(), (6, 0)), "你");
}

#[test]
fn a_cursor_on_the_second_half_of_a_wide_character_does_not_spoil_it() {
    let mut canvas = Canvas::new(Vec::new());
    draw(&mut canvas, "你a", Style::new(), (1, 0));
    assert_eq!(draw(&mut canvas, "你b", Style::new(), (1, 0)), "\u{1b}[Cb\u{8}\u{8}");
}

#[test]
fn blanks_and_gaps_are_not_written_out() {
    let mut canvas = Canvas::new(Vec::new());
    draw(&mut canvas, "a rather long line of text", Style::new(), (0, 0));
    assert_eq!(draw(&mut canvas, "a", Style::new(), (0, 0)), "a \x1b[K\r");
    draw(&mut canvas, "ab                     yz", Style::new(), (0, 0));
    assert_eq!(draw(&mut canvas, "Ab                     yZ", Style::new(), (0, 0)), "A\x1b[25GZ\r");
}

#[test]
fn the_pen_changes_only_when_it_must() {
    let mut canvas = Canvas::new(Vec::new());
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    assert!(draw(&mut canvas, "a b", red, (0, 0)).contains("\u{1b}[1;31ma b"));
    assert_eq!(draw(&mut canvas, "x b", red, (1, 0)), "x");
}

#[test]
fn an_emoji_of_uncertain_width_leaves_no_doubt_about_what_follows() {
    let mut canvas = Canvas::new(Vec::new());
    assert!(draw(&mut canvas, "👩‍🚀a", Style::new(), (3, 0)).contains("👩‍🚀\u{1b}[3Ga"));
}

const WORDS: [&str; 6] = [
    "yes",
    "I can bring the seedlings tomorrow, if somebody opens the gate",
    "no",
    "The drip timer needs a new battery; I have one at home and will bring it along with the hose on Saturday, unless it rains",
    "what about the compost?",
    "Fine with me.",
];

/// A conversation of so many messages.
fn chat(messages: u64) -> crate::client::view::Timeline {
    let items = (1..=messages).map(|number| {
        let sender = ["Bob", "Carol", "Eve"][usize::try_from(number / 3 % 3).unwrap()];
        sample::text(number, sender, 1000 - number, WORDS[usize::try_from(number % 6).unwrap()])
    });
    sample::timeline("garden", items.collect(), crate::client::view::Pagination::Idle)
}

/// A model with a room open whose timeline fills the screen, at 120x40.
fn busy() -> (Model, Canvas<Vec<u8>>) {
    let theme = Theme::load("dark", None).unwrap().for_depth(ColourDepth::TrueColour);
    let mut model = sample::model(Keymap::load("default", None).unwrap(), theme);
    model.focus = Focus::Composer;
    update(&mut model, Msg::Timeline(Some(chat(200))));
    let mut canvas = Canvas::new(Vec::new());
    frame(&mut model, &mut canvas);
    (model, canvas)
}

/// Bytes of the next frame.
fn frame(model: &mut Model, canvas: &mut Canvas<Vec<u8>>) -> u64 {
    let before = canvas.written();
    canvas.writer.clear();
    let paint = |area, buffer: &mut Buffer| {
        let cursor = screens::draw(model, area, buffer);
        Wants { cursor, scrolls: std::mem::take(&mut model.scrolls) }
    };
    canvas.draw(Size { width: 120, height: 40 }, paint).unwrap();
    canvas.written() - before
}

#[test]
fn a_typed_character_costs_a_few_bytes() {
    let (mut model, mut canvas) = busy();
    let mut costs = Vec::new();
    for c in "hello there, this is a long message that has to be wrapped once it is longer than the room for it: see".chars() {
        model.now_ms += 100;
        update(
            &mut model,
            Msg::Key(crate::tui::keys::Key::new(crossterm::event::KeyCode::Char(c), crossterm::event::KeyModifiers::empty())),
        );
        costs.push(frame(&mut model, &mut canvas));
    }
    let first = costs.remove(0);
    assert!(first <= 60, "the placeholder goes: {first} bytes");
    let mut sorted = costs.clone();
    sorted.sort_unstable();
    assert!(sorted[sorted.len() / 2] <= 2, "{costs:?}");
    // The line that begins anew moves the timeline by one.
    assert!(costs.iter().filter(|cost| **cost > 60).count() <= 1, "{costs:?}");
}

#[test]
fn a_message_that_arrives_costs_one_line_where_the_terminal_has_margins() {
    let (mut model, mut canvas) = busy();
    canvas.set_margins(true);
    update(&mut model, Msg::Timeline(Some(chat(201))));
    let cost = frame(&mut model, &mut canvas);
    assert!(cost <= 280, "{cost} bytes: {:?}", String::from_utf8_lossy(&canvas.writer));
}

#[test]
fn a_message_that_arrives_costs_one_line_where_the_room_list_is_hidden() {
    let (mut model, mut canvas) = busy();
    model.pane.hidden = true;
    frame(&mut model, &mut canvas);
    update(&mut model, Msg::Timeline(Some(chat(201))));
    let cost = frame(&mut model, &mut canvas);
    assert!(cost <= 260, "{cost} bytes");
}

#[test]
fn a_message_that_arrives_beside_the_room_list_costs_less_than_its_lines() {
    let (mut model, mut canvas) = busy();
    update(&mut model, Msg::Timeline(Some(chat(201))));
    let cost = frame(&mut model, &mut canvas);
    assert!(cost <= 1600, "{cost} bytes: {:?}", String::from_utf8_lossy(&canvas.writer));
}
