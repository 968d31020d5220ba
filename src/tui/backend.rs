//! Cells to bytes, as few as possible.
//!
//! Ratatui says which cells differ; this keeps the pen and the cursor from one frame to the next, so that an unchanged
//! frame writes nothing and a typed character writes little more than itself. Frames leave in one write, large ones as a
//! synchronized update, so that nobody sees half of one.

use std::io::{self, Write};

use ratatui::{
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};

/// Frames of at least so many bytes are worth the sixteen bytes that keep them together.
const SYNCHRONIZED: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

const PLAIN: Pen = Pen { fg: Color::Reset, bg: Color::Reset, modifier: Modifier::empty() };

/// A terminal at the other end of a writer.
#[derive(Debug)]
pub struct Wire<W: Write> {
    writer: W,
    frame: Vec<u8>,
    pen: Pen,
    /// Where the terminal's cursor is, as far as that is certain.
    at: Option<Position>,
    visible: Option<bool>,
    /// A size that does not come from the terminal, for tests and pictures.
    fixed: Option<Size>,
    #[cfg(test)]
    written: u64,
}

impl<W: Write> Wire<W> {
    /// A terminal that knows its own size.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            frame: Vec::with_capacity(16 * 1024),
            pen: PLAIN,
            at: None,
            visible: None,
            fixed: None,
            #[cfg(test)]
            written: 0,
        }
    }

    /// A terminal of a given size.
    #[cfg(test)]
    pub fn sized(writer: W, size: Size) -> Self {
        Self { fixed: Some(size), ..Self::new(writer) }
    }

    /// Bytes written so far.
    #[cfg(test)]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes something that is not cells: a bell, the clipboard.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.writer.flush()
    }

    /// Forgets what is known of pen and cursor, for when somebody else has used the terminal.
    pub fn forget(&mut self) {
        self.frame.extend_from_slice(b"\x1b[0m");
        self.pen = PLAIN;
        self.at = None;
        self.visible = None;
    }

    fn move_to(&mut self, to: Position) -> io::Result<()> {
        if self.at == Some(to) {
            return Ok(());
        }
        match self.at {
            // A short way right in the same line is cheaper told as a distance.
            Some(at) if at.y == to.y && to.x == at.x + 1 => self.frame.extend_from_slice(b"\x1b[C"),
            Some(at) if at.y == to.y && to.x > at.x => write!(self.frame, "\x1b[{}C", to.x - at.x)?,
            Some(at) if to.x == 0 && to.y == at.y + 1 => self.frame.extend_from_slice(b"\r\n"),
            _ => write!(self.frame, "\x1b[{};{}H", u32::from(to.y) + 1, u32::from(to.x) + 1)?,
        }
        self.at = Some(to);
        Ok(())
    }

    fn set_pen(&mut self, pen: Pen) -> io::Result<()> {
        if pen == self.pen {
            return Ok(());
        }
        self.frame.extend_from_slice(b"\x1b[");
        let mut first = true;
        let mut put = |frame: &mut Vec<u8>, code: &[u8]| {
            if !std::mem::take(&mut first) {
                frame.push(b';');
            }
            frame.extend_from_slice(code);
        };
        let mut from = self.pen;
        if !pen.modifier.contains(from.modifier) {
            put(&mut self.frame, b"0");
            from = PLAIN;
        }
        for (modifier, code) in MODIFIERS {
            if pen.modifier.contains(*modifier) && !from.modifier.contains(*modifier) {
                put(&mut self.frame, code);
            }
        }
        if pen.fg != from.fg {
            put(&mut self.frame, colour(pen.fg, 30).as_bytes());
        }
        if pen.bg != from.bg {
            put(&mut self.frame, colour(pen.bg, 40).as_bytes());
        }
        self.frame.push(b'm');
        self.pen = pen;
        Ok(())
    }
}

const MODIFIERS: &[(Modifier, &[u8])] = &[
    (Modifier::BOLD, b"1"),
    (Modifier::DIM, b"2"),
    (Modifier::ITALIC, b"3"),
    (Modifier::UNDERLINED, b"4"),
    (Modifier::SLOW_BLINK, b"5"),
    (Modifier::RAPID_BLINK, b"6"),
    (Modifier::REVERSED, b"7"),
    (Modifier::HIDDEN, b"8"),
    (Modifier::CROSSED_OUT, b"9"),
];

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

impl<W: Write> Backend for Wire<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        for (x, y, cell) in content {
            self.move_to(Position { x, y })?;
            self.set_pen(Pen { fg: cell.fg, bg: cell.bg, modifier: cell.modifier })?;
            let symbol = cell.symbol();
            self.frame.extend_from_slice(symbol.as_bytes());
            // Terminals agree on how far ASCII moves the cursor, short of the last column; on nothing else.
            let sure = symbol.len() == 1 && x + 1 < self.size().map_or(0, |size| size.width);
            self.at = sure.then_some(Position { x: x + 1, y });
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if self.visible != Some(false) {
            self.frame.extend_from_slice(b"\x1b[?25l");
            self.visible = Some(false);
        }
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        if self.visible != Some(true) {
            self.frame.extend_from_slice(b"\x1b[?25h");
            self.visible = Some(true);
        }
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.at.unwrap_or_default())
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.move_to(position.into())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        // Clearing paints with the pen's ground.
        self.set_pen(PLAIN)?;
        let code: &[u8] = match clear_type {
            ClearType::All => b"\x1b[2J",
            ClearType::AfterCursor => b"\x1b[J",
            ClearType::BeforeCursor => b"\x1b[1J",
            ClearType::CurrentLine => b"\x1b[2K",
            ClearType::UntilNewLine => b"\x1b[K",
        };
        self.frame.extend_from_slice(code);
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        match self.fixed {
            Some(size) => Ok(size),
            None => crossterm::terminal::size().map(|(width, height)| Size { width, height }),
        }
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        if self.frame.len() >= SYNCHRONIZED {
            self.writer.write_all(b"\x1b[?2026h")?;
            self.writer.write_all(&self.frame)?;
            self.writer.write_all(b"\x1b[?2026l")?;
            #[cfg(test)]
            {
                self.written += 16;
            }
        } else {
            self.writer.write_all(&self.frame)?;
        }
        #[cfg(test)]
        {
            self.written += u64::try_from(self.frame.len()).unwrap_or(0);
        }
        self.frame.clear();
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, style::Style};

    use super::*;

    fn terminal() -> Result<Terminal<Wire<Vec<u8>>>, io::Error> {
        Terminal::new(Wire::sized(Vec::new(), Size { width: 20, height: 3 }))
    }

    fn draw(
        terminal: &mut Terminal<Wire<Vec<u8>>>,
        text: &str,
        style: Style,
        cursor: (u16, u16),
    ) -> Result<String, Box<dyn std::error::Error>> {
        terminal.backend_mut().writer.clear();
        terminal.draw(|frame| {
            frame.buffer_mut().set_string(0, 0, text, style);
            frame.set_cursor_position(cursor);
        })?;
        Ok(String::from_utf8(terminal.backend().writer.clone())?)
    }

    #[test]
    fn an_unchanged_frame_writes_nothing_and_a_character_writes_itself() -> Result<(), Box<dyn std::error::Error>> {
        let mut terminal = terminal()?;
        draw(&mut terminal, "ab", Style::new(), (2, 0))?;
        assert_eq!(draw(&mut terminal, "ab", Style::new(), (2, 0))?, "");
        assert_eq!(draw(&mut terminal, "abc", Style::new(), (3, 0))?, "c");
        Ok(())
    }

    #[test]
    fn the_pen_changes_only_when_it_must() -> Result<(), Box<dyn std::error::Error>> {
        let mut terminal = terminal()?;
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        assert!(draw(&mut terminal, "ab", red, (0, 0))?.contains("\u{1b}[1;31mab"));
        assert_eq!(draw(&mut terminal, "xb", red, (1, 0))?, "x");
        assert_eq!(
            draw(&mut terminal, "xb", Style::new().fg(Color::Rgb(1, 2, 3)), (1, 0))?,
            "\u{1b}[1;1H\u{1b}[0;38;2;1;2;3mxb\u{1b}[1;2H"
        );
        Ok(())
    }

    #[test]
    fn wide_characters_do_not_confuse_the_cursor() -> Result<(), Box<dyn std::error::Error>> {
        let mut terminal = terminal()?;
        let bytes = draw(&mut terminal, "你a", Style::new(), (3, 0))?;
        assert!(bytes.contains("你\u{1b}[1;3Ha"), "{bytes:?}");
        Ok(())
    }
}
