//! Pen and cursor of the terminal at the other end, and the fewest bytes to change them.

use std::io::Write;

use ratatui::{
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};

/// How text is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pen {
    /// Of the text.
    pub fg: Color,
    /// Of its ground.
    pub bg: Color,
    /// Bold and the like.
    pub modifier: Modifier,
}

/// As a terminal begins.
pub const PLAIN: Pen = Pen { fg: Color::Reset, bg: Color::Reset, modifier: Modifier::empty() };

/// Modifiers that are seen on a blank too.
const ON_BLANKS: Modifier = Modifier::UNDERLINED.union(Modifier::REVERSED).union(Modifier::CROSSED_OUT);

/// Modifier, code that sets it, code that ends it.
const MODIFIERS: &[(Modifier, u8, u8)] = &[
    (Modifier::BOLD, 1, 22),
    (Modifier::DIM, 2, 22),
    (Modifier::ITALIC, 3, 23),
    (Modifier::UNDERLINED, 4, 24),
    (Modifier::SLOW_BLINK, 5, 25),
    (Modifier::RAPID_BLINK, 6, 25),
    (Modifier::REVERSED, 7, 27),
    (Modifier::HIDDEN, 8, 28),
    (Modifier::CROSSED_OUT, 9, 29),
];

impl Pen {
    /// The pen that a cell is painted with.
    pub fn of(cell: &Cell) -> Self {
        Self { fg: cell.fg, bg: cell.bg, modifier: cell.modifier }
    }

    /// True when a blank looks the same with either.
    pub fn blank_like(self, other: Self) -> bool {
        self.bg == other.bg && self.modifier.union(other.modifier).intersection(ON_BLANKS).is_empty()
    }
}

/// True for a cell that shows nothing but its ground.
pub fn is_blank(cell: &Cell) -> bool {
    cell.symbol() == " " && !cell.modifier.intersects(ON_BLANKS)
}

/// True for a blank on the terminal's own ground: what erasing leaves.
pub fn is_erased(cell: &Cell) -> bool {
    is_blank(cell) && cell.bg == Color::Reset
}

/// True when two cells look the same.
pub fn same(a: &Cell, b: &Cell) -> bool {
    a == b || (is_blank(a) && is_blank(b) && a.bg == b.bg)
}

/// Bytes on their way, and what the terminal will be like once it has them.
#[derive(Debug, Clone)]
pub struct Out {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The terminal's pen.
    pub pen: Pen,
    /// Row and column of the cursor, each as far as it is certain.
    pub row: Option<u16>,
    /// See `row`.
    pub column: Option<u16>,
    /// The terminal's size.
    pub size: Size,
}

/// Shorter of two.
fn shorter(a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
    if b.len() < a.len() { b } else { a }
}

/// A control sequence with one number, which is left out when it is one.
fn control(number: u16, last: char) -> Vec<u8> {
    if number == 1 { format!("\x1b[{last}").into_bytes() } else { format!("\x1b[{number}{last}").into_bytes() }
}

impl Out {
    /// Nothing, to a terminal of which nothing is known but that its pen is plain.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(4096), pen: PLAIN, row: None, column: None, size: Size::default() }
    }

    /// The same terminal without the bytes: for trying what something costs.
    pub fn fresh(&self) -> Self {
        Self { bytes: Vec::new(), ..*self }
    }

    /// Adds bytes that move nothing.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where the cursor is, when that is certain.
    pub fn at(&self) -> Option<Position> {
        Some(Position { x: self.column?, y: self.row? })
    }

    /// The bytes that bring the cursor to a place.
    pub fn way(&self, to: Position) -> Vec<u8> {
        if self.at() == Some(to) {
            return Vec::new();
        }
        let (row, column) = (to.y.saturating_add(1), to.x.saturating_add(1));
        let mut best = match (row, column) {
            (1, 1) => b"\x1b[H".to_vec(),
            (row, 1) => format!("\x1b[{row}H").into_bytes(),
            (row, column) => format!("\x1b[{row};{column}H").into_bytes(),
        };
        let Some(y) = self.row else { return best };
        if y == to.y {
            if to.x == 0 {
                return b"\r".to_vec();
            }
            best = shorter(best, control(column, 'G'));
            match self.column {
                Some(x) if x < to.x => best = shorter(best, control(to.x - x, 'C')),
                Some(x) if x - to.x <= 3 => best = shorter(best, vec![8; usize::from(x - to.x)]),
                Some(x) => best = shorter(best, control(x - to.x, 'D')),
                None => {}
            }
        } else if to.y == y + 1 && to.y < self.size.height {
            // A line feed keeps the column, and scrolls nothing above the last line.
            if to.x == 0 {
                best = shorter(best, b"\r\n".to_vec());
            } else if self.column == Some(to.x) {
                best = shorter(best, b"\n".to_vec());
            }
        } else if self.column == Some(to.x) {
            best = shorter(best, if to.y > y { control(to.y - y, 'B') } else { control(y - to.y, 'A') });
        }
        best
    }

    /// Brings the cursor to a place.
    pub fn move_to(&mut self, to: Position) {
        let way = self.way(to);
        self.push(&way);
        (self.row, self.column) = (Some(to.y), Some(to.x));
    }

    /// Changes the pen.
    pub fn set_pen(&mut self, pen: Pen) {
        if pen == self.pen {
            return;
        }
        let change = shorter(anew(pen), changed(self.pen, pen));
        self.push(&change);
        self.pen = pen;
    }

    /// Writes a cell, and gives the columns that it covers.
    pub fn write(&mut self, cell: &Cell, columns: u16) {
        if is_blank(cell) && self.pen.blank_like(Pen::of(cell)) {
            self.push(b" ");
        } else {
            self.set_pen(Pen::of(cell));
            self.bytes.extend_from_slice(cell.symbol().as_bytes());
        }
        let next = self.column.and_then(|x| x.checked_add(columns)).filter(|x| *x < self.size.width);
        // Behind the last column the cursor hangs between two lines.
        if next.is_none() && self.column.is_some_and(|x| x.saturating_add(columns) >= self.size.width) {
            self.row = None;
        }
        self.column = next.filter(|_| is_certain(cell.symbol(), columns));
    }
}

/// Every setting from nothing.
fn anew(pen: Pen) -> Vec<u8> {
    if pen == PLAIN {
        return b"\x1b[m".to_vec();
    }
    let mut codes = vec!["0".to_owned()];
    codes.extend(MODIFIERS.iter().filter(|(modifier, ..)| pen.modifier.contains(*modifier)).map(|(_, on, _)| on.to_string()));
    codes.extend((pen.fg != Color::Reset).then(|| colour(pen.fg, 30)));
    codes.extend((pen.bg != Color::Reset).then(|| colour(pen.bg, 40)));
    sgr(&codes)
}

/// Only what differs.
fn changed(from: Pen, to: Pen) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut kept = from.modifier;
    for (modifier, _, off) in MODIFIERS {
        if kept.contains(*modifier) && !to.modifier.contains(*modifier) {
            codes.push(off.to_string());
            // Some share the code that ends them.
            MODIFIERS.iter().filter(|(_, _, other)| other == off).for_each(|(modifier, ..)| kept.remove(*modifier));
        }
    }
    let missing = MODIFIERS.iter().filter(|(modifier, ..)| to.modifier.contains(*modifier) && !kept.contains(*modifier));
    codes.extend(missing.map(|(_, on, _)| on.to_string()));
    codes.extend((to.fg != from.fg).then(|| colour(to.fg, 30)));
    codes.extend((to.bg != from.bg).then(|| colour(to.bg, 40)));
    sgr(&codes)
}

fn sgr(codes: &[String]) -> Vec<u8> {
    format!("\x1b[{}m", codes.join(";")).into_bytes()
}

/// The code of a colour; `base` is 30 for the text and 40 for its ground.
fn colour(colour: Color, base: u8) -> String {
    let dark = |n: u8| (base + n).to_string();
    let light = |n: u8| (base + 60 + n).to_string();
    match colour {
        Color::Reset => dark(9),
        Color::Black => dark(0),
        Color::Red => dark(1),
        Color::Green => dark(2),
        Color::Yellow => dark(3),
        Color::Blue => dark(4),
        Color::Magenta => dark(5),
        Color::Cyan => dark(6),
        Color::Gray => dark(7),
        Color::DarkGray => light(0),
        Color::LightRed => light(1),
        Color::LightGreen => light(2),
        Color::LightYellow => light(3),
        Color::LightBlue => light(4),
        Color::LightMagenta => light(5),
        Color::LightCyan => light(6),
        Color::White => light(7),
        Color::Indexed(n) => format!("{};5;{n}", base + 8),
        Color::Rgb(r, g, b) => format!("{};2;{r};{g};{b}", base + 8),
    }
}

/// True when every terminal moves its cursor by as many columns for this as we count.
///
/// Letters of alphabets, box drawing, CJK and Hangul are certain. Symbols, emoji, and whatever is made of several code points
/// are not: there the cursor is told its place again.
fn is_certain(symbol: &str, columns: u16) -> bool {
    let mut characters = symbol.chars();
    let (Some(c), None) = (characters.next(), characters.next()) else { return false };
    match u32::from(c) {
        0x20..0x7f | 0xa0..=0xac | 0xae..0x300 | 0x370..0x483 | 0x48a..0x590 | 0x10a0..0x1100 | 0x1e00..0x2000 | 0x2500..0x25a0 => {
            columns == 1
        }
        0x3041..0x3097 | 0x30a0..0x3100 | 0x3400..0x4dc0 | 0x4e00..0xa000 | 0xac00..0xd7a4 => columns == 2,
        _ => false,
    }
}

/// A control sequence that erases or writes nothing but takes a number.
pub fn erase_columns(out: &mut Out, columns: u16) {
    // Writing to a Vec cannot fail.
    let _ = write!(out.bytes, "\x1b[{columns}X");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_is_taken() {
        let mut out = Out { size: Size { width: 80, height: 24 }, ..Out::new() };
        let cases = [((10, 5), "\x1b[6;11H"), ((11, 5), "\x1b[C"), ((9, 5), "\x08\x08"), ((30, 5), "\x1b[31G"), ((30, 6), "\n")];
        let more = [((30, 9), "\x1b[3B"), ((0, 9), "\r"), ((0, 10), "\r\n"), ((0, 3), "\x1b[4H"), ((0, 0), "\x1b[H")];
        for ((x, y), bytes) in cases.into_iter().chain(more) {
            out.bytes.clear();
            out.move_to(Position { x, y });
            assert_eq!(String::from_utf8_lossy(&out.bytes), bytes, "{x} {y}");
        }
    }

    #[test]
    fn the_pen_changes_by_the_shorter_of_two_ways() {
        let mut out = Out::new();
        let red = Pen { fg: Color::Red, modifier: Modifier::BOLD, ..PLAIN };
        let cases = [
            (red, "\x1b[1;31m"),
            (Pen { modifier: Modifier::empty(), ..red }, "\x1b[22m"),
            (Pen { modifier: Modifier::BOLD | Modifier::DIM, ..red }, "\x1b[1;2m"),
            (Pen { modifier: Modifier::DIM, ..red }, "\x1b[22;2m"),
            (PLAIN, "\x1b[m"),
        ];
        for (pen, bytes) in cases {
            out.bytes.clear();
            out.set_pen(pen);
            assert_eq!(String::from_utf8_lossy(&out.bytes), bytes);
        }
    }
}
