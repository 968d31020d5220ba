//! Cells to bytes, as few as possible.
//!
//! Keeps what the terminal shows, its pen and its cursor from one frame to the next: an unchanged frame writes nothing, a
//! typed character writes little more than itself, and lines that only moved are moved by the terminal where that costs
//! less. Frames leave in one write, large ones as a synchronized update, so that nobody sees half of one.

mod pen;
mod rows;
mod scroll;

use std::io::{self, Write};

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect, Size},
};

use pen::{Out, PLAIN};

/// Frames of at least so many bytes are worth the sixteen bytes that keep them together.
const SYNCHRONIZED: usize = 200;
/// Below this, looking for something cheaper is not worth it.
const CHEAP: usize = 120;

/// What a frame wants besides its cells.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// The cursor's place, when it is to be seen.
    pub cursor: Option<(u16, u16)>,
    /// Parts whose lines may have moved up or down.
    pub scrolls: Vec<Rect>,
}

/// A terminal at the other end of a writer.
#[derive(Debug)]
pub struct Canvas<W: Write> {
    writer: W,
    shown: Buffer,
    out: Out,
    visible: Option<bool>,
    /// What the terminal shows is not known.
    unknown: bool,
    /// The terminal has margins at the sides.
    margins: bool,
    #[cfg(test)]
    written: u64,
}

impl<W: Write> Canvas<W> {
    /// A terminal of which nothing is known.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            shown: Buffer::default(),
            out: Out::new(),
            visible: None,
            unknown: true,
            margins: false,
            #[cfg(test)]
            written: 0,
        }
    }

    /// Says whether the terminal has margins at the sides.
    pub fn set_margins(&mut self, margins: bool) {
        self.margins = margins;
    }

    /// Bytes of frames written so far.
    #[cfg(test)]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes something that is not cells and moves nothing: a bell, the clipboard.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.writer.flush()
    }

    /// Forgets what is known of the terminal, for when somebody else has used it. The next frame writes everything.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    /// Paints a frame of this size and writes what has changed.
    ///
    /// # Errors
    /// When the terminal does not take it; the next frame then writes everything.
    pub fn draw(&mut self, size: Size, paint: impl FnOnce(Rect, &mut Buffer) -> Wants) -> io::Result<()> {
        let area = Rect::new(0, 0, size.width, size.height);
        let mut next = Buffer::empty(area);
        let wants = paint(area, &mut next);
        if self.unknown || self.shown.area != area {
            self.begin(area);
        }
        self.change(&next, &wants);
        self.shown = next;
        self.cursor(wants.cursor);
        let sent = self.send();
        self.unknown = sent.is_err();
        sent
    }

    /// An empty terminal.
    fn begin(&mut self, area: Rect) {
        self.out.size = Size { width: area.width, height: area.height };
        self.out.pen = PLAIN;
        (self.out.row, self.out.column) = (None, None);
        self.visible = None;
        self.out.push(b"\x1b[m\x1b[2J");
        self.shown = Buffer::empty(area);
    }

    fn change(&mut self, next: &Buffer, wants: &Wants) {
        let before = self.out.bytes.len();
        let plain = differences(&self.out, &self.shown, next);
        let (mut best, mut cost) = (plain, 0);
        cost += best.bytes.len();
        if cost >= CHEAP {
            for area in &wants.scrolls {
                let area = area.intersection(self.shown.area);
                let Some(by) = scroll::find(&self.shown, next, area) else { continue };
                let whole = Rect { x: 0, width: self.shown.area.width, ..area };
                let sides = self.margins && !scroll::splits(&self.shown, area);
                let ways = [sides.then_some(area), Some(whole)];
                for way in ways.into_iter().flatten() {
                    let (mut out, mut shown) = (self.out.fresh(), self.shown.clone());
                    scroll::shift(&mut out, &mut shown, way, by);
                    let rest = differences(&out, &shown, next);
                    let bytes = [out.bytes, rest.bytes].concat();
                    if bytes.len() < cost {
                        cost = bytes.len();
                        best = Out { bytes, ..rest };
                    }
                }
            }
        }
        let bytes = std::mem::take(&mut self.out.bytes);
        self.out = Out { bytes, ..best.fresh() };
        self.out.push(&best.bytes);
        debug_assert!(self.out.bytes.len() == before + cost, "what was counted is written");
    }

    fn cursor(&mut self, cursor: Option<(u16, u16)>) {
        if let Some((x, y)) = cursor {
            self.out.move_to(Position { x, y });
        }
        if self.visible != Some(cursor.is_some()) {
            self.out.push(if cursor.is_some() { b"\x1b[?25h" } else { b"\x1b[?25l" });
            self.visible = Some(cursor.is_some());
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.out.bytes);
        if frame.is_empty() {
            return Ok(());
        }
        let bytes = if frame.len() >= SYNCHRONIZED { [b"\x1b[?2026h", frame.as_slice(), b"\x1b[?2026l"].concat() } else { frame };
        #[cfg(test)]
        {
            self.written += u64::try_from(bytes.len()).unwrap_or(0);
        }
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }
}

/// What makes one screen of another.
fn differences(from: &Out, shown: &Buffer, next: &Buffer) -> Out {
    let mut out = from.fresh();
    for y in 0..next.area.height {
        if let (Some(shown), Some(next)) = (scroll::line(shown, y), scroll::line(next, y))
            && shown != next
        {
            rows::row(&mut out, shown, next, y);
        }
    }
    out
}

#[cfg(test)]
mod tests;
