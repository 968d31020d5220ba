//! Bytes from the terminal to keys, pastes and the mouse. Pure: no clock, no file; any way of cutting the same bytes into
//! reads gives the same input, and no bytes make it fail.
//!
//! Forms read: VT and xterm keys (`CSI 1;2 A`, `CSI 3~`, `SS3 P`), the Linux console's function keys (`CSI [ A`), kitty's and
//! xterm's `CSI u` and `CSI 27;m;c ~`, bracketed paste, SGR and X10 mouse, focus, and the answer to DECRQM 69.

use crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use crate::tui::keys::Key;

/// A sequence longer than this is none.
const SEQUENCE: usize = 64;
/// A paste is handed on in pieces of so many bytes at most.
const PASTE_BYTES: usize = 64 << 20;
/// A character that would be cut is left to the next piece.
const CHARACTER: usize = 4;
const PASTE_END: &[u8] = b"\x1b[201~";

/// What came from the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal's window gained or lost the focus.
    Focus(bool),
    /// The terminal says whether it has left and right margins (DECLRMM).
    Margins(bool),
}

/// What is held back because more may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// An escape, or the start of a sequence.
    Sequence,
    /// A paste without its end.
    Paste,
    /// More of a paste that was given up already.
    Rest,
}

/// Text on its way between the marks of a bracketed paste.
#[derive(Debug, Default)]
struct Paste {
    bytes: Vec<u8>,
    /// Pieces of it have been handed on.
    begun: bool,
    /// It was given up; what still comes is text all the same, or each of its lines would be sent.
    given_up: bool,
}

/// Reads bytes.
#[derive(Debug)]
pub struct Decoder {
    pending: Vec<u8>,
    paste: Option<Paste>,
    piece_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { pending: Vec::new(), paste: None, piece_bytes: PASTE_BYTES }
    }
}

/// What the bytes at hand amount to.
enum Step {
    /// More are needed.
    More,
    /// So many are used up; this is what they say.
    Took(usize, Option<Input>),
    /// So many are used up; what follows is pasted.
    Paste(usize),
}

impl Decoder {
    /// Takes bytes and gives what they complete.
    pub fn feed(&mut self, bytes: &[u8], out: &mut impl FnMut(Input)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(paste) = &mut self.paste {
                let (used, done) = paste.collect(rest, self.piece_bytes, out);
                rest = rest.get(used..).unwrap_or_default();
                if done {
                    self.end_paste(out);
                }
                continue;
            }
            self.pending.extend_from_slice(rest);
            rest = &[];
            let mut at = 0;
            loop {
                match step(self.pending.get(at..).unwrap_or_default()) {
                    Step::More => break,
                    Step::Took(used, input) => {
                        at += used;
                        input.into_iter().for_each(&mut *out);
                    }
                    Step::Paste(used) => {
                        at += used;
                        let tail = self.pending.split_off(at.min(self.pending.len()));
                        self.pending.clear();
                        self.paste = Some(Paste::default());
                        // What came with the beginning belongs to it; it may hold the end as well.
                        return self.feed(&tail, out);
                    }
                }
            }
            self.pending.drain(..at.min(self.pending.len()));
        }
    }

    /// What waits for more.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        match &self.paste {
            Some(paste) if !paste.given_up => Some(Held::Paste),
            // Nothing has come of it: it may take as long as it likes.
            Some(paste) => (!paste.bytes.is_empty()).then_some(Held::Rest),
            None => (!self.pending.is_empty()).then_some(Held::Sequence),
        }
    }

    /// No more came in time: what is held is taken for what it is. A paste is handed on as far as it has come; what comes next is
    /// taken for the rest of it, until its end or a pause. Somebody whose terminal has lost the end types one word into the
    /// composer that way, and sends nothing.
    pub fn give_up(&mut self, out: &mut impl FnMut(Input)) {
        if let Some(mut paste) = self.paste.take() {
            let again = !paste.given_up;
            let bytes = std::mem::take(&mut paste.bytes);
            if !bytes.is_empty() {
                out(text(&bytes));
            }
            self.paste = again.then_some(Paste { bytes: Vec::new(), begun: true, given_up: true });
        }
        let held = std::mem::take(&mut self.pending);
        let escape = || Input::Key(Key::new(KeyCode::Esc, KeyModifiers::empty()));
        match held.as_slice() {
            [0x1b] => out(escape()),
            // The first two bytes of what many sequences begin with are also a letter with Alt.
            [0x1b, byte @ (b'[' | b'O')] => out(Input::Key(Key::new(KeyCode::Char(char::from(*byte)), KeyModifiers::ALT))),
            _ => {}
        }
    }

    fn end_paste(&mut self, out: &mut impl FnMut(Input)) {
        if let Some(paste) = self.paste.take()
            && !(paste.begun && paste.bytes.is_empty())
        {
            out(text(&paste.bytes));
        }
    }
}

fn text(bytes: &[u8]) -> Input {
    Input::Paste(String::from_utf8_lossy(bytes).into_owned())
}

impl Paste {
    /// Adds to it, and hands on what is more than a piece. Gives how many bytes were used, and whether that was the end of it.
    fn collect(&mut self, bytes: &[u8], piece_bytes: usize, out: &mut impl FnMut(Input)) -> (usize, bool) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let from = before.saturating_sub(PASTE_END.len() - 1);
        let found = self.bytes.get(from..).unwrap_or_default().windows(PASTE_END.len()).position(|window| window == PASTE_END);
        let used = found.map_or(bytes.len(), |at| from + at + PASTE_END.len() - before);
        if let Some(at) = found {
            self.bytes.truncate(from + at);
        }
        // Without its end the last bytes may be the beginning of that. However the bytes are cut into reads, the pieces are the
        // same: one is cut off as soon as there must be more than one.
        let more = if found.is_some() { 0 } else { PASTE_END.len() - 1 };
        while self.bytes.len() > piece_bytes + more {
            let end = whole(&self.bytes, piece_bytes);
            let rest = self.bytes.split_off(end);
            out(text(&std::mem::replace(&mut self.bytes, rest)));
            self.begun = true;
        }
        (used, found.is_some())
    }
}

/// Where to cut so that no character is, and no line's end.
fn whole(bytes: &[u8], most: usize) -> usize {
    let within = |at: usize| bytes.get(at).is_some_and(|byte| (0x80..0xc0).contains(byte));
    let line = |at: usize| bytes.get(at) == Some(&b'\n') && at > 0 && bytes.get(at - 1) == Some(&b'\r');
    let least = most.saturating_sub(CHARACTER).max(1);
    (least..=most).rev().find(|at| !within(*at) && !line(*at)).unwrap_or(most)
}

fn step(bytes: &[u8]) -> Step {
    match bytes {
        [] | [0x1b] => Step::More,
        // A second escape says that the first stands for itself.
        [0x1b, 0x1b, ..] => took(1, KeyCode::Esc, KeyModifiers::empty()),
        [0x1b, b'[', rest @ ..] => csi(rest),
        [0x1b, b'O', rest @ ..] => ss3(rest),
        [0x1b, rest @ ..] => match plain(rest) {
            Step::Took(used, Some(Input::Key(key))) => {
                Step::Took(used + 1, Some(Input::Key(Key::new(key.code, key.modifiers | KeyModifiers::ALT))))
            }
            Step::Took(used, _) => Step::Took(used + 1, None),
            more => more,
        },
        bytes => plain(bytes),
    }
}

fn took(used: usize, code: KeyCode, modifiers: KeyModifiers) -> Step {
    Step::Took(used, Some(Input::Key(Key::new(code, modifiers))))
}

/// One character or control.
fn plain(bytes: &[u8]) -> Step {
    let Some(&first) = bytes.first() else { return Step::More };
    let control = |c: u8| took(1, KeyCode::Char(char::from(c)), KeyModifiers::CONTROL);
    match first {
        b'\r' => took(1, KeyCode::Enter, KeyModifiers::empty()),
        b'\t' => took(1, KeyCode::Tab, KeyModifiers::empty()),
        0x7f => took(1, KeyCode::Backspace, KeyModifiers::empty()),
        0 => control(b' '),
        0x01..=0x1a => control(first - 1 + b'a'),
        0x1b => Step::More,
        0x1c..=0x1f => control(first - 0x1c + b'4'),
        _ => character(bytes, first),
    }
}

fn character(bytes: &[u8], first: u8) -> Step {
    let needed = match first {
        0x20..=0x7e => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Step::Took(1, None),
    };
    let Some(whole) = bytes.get(..needed) else {
        // What has come so far must be able to become a character, or the next key would be swallowed with it.
        let fits = bytes.iter().skip(1).all(|byte| (0x80..0xc0).contains(byte));
        return if fits { Step::More } else { Step::Took(1, None) };
    };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => took(needed, KeyCode::Char(c), KeyModifiers::empty()),
        None => Step::Took(1, None),
    }
}

/// After `ESC O`.
fn ss3(rest: &[u8]) -> Step {
    let Some(&last) = rest.first() else { return Step::More };
    let code = match last {
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        b'M' => KeyCode::Enter,
        // The keypad in application mode.
        b'j'..=b'y' => KeyCode::Char(char::from(last - b'j' + b'*')),
        _ => match arrow(last) {
            Some(code) => code,
            // Alt and a capital O, then something else.
            None => return took(2, KeyCode::Char('O'), KeyModifiers::ALT),
        },
    };
    took(3, code, KeyModifiers::empty())
}

fn arrow(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        _ => return None,
    })
}

/// After `ESC [`.
fn csi(rest: &[u8]) -> Step {
    match rest {
        [b'M', body @ ..] => {
            return match body {
                [button, x, y, ..] => {
                    let place = |byte: &u8| u16::from(byte.saturating_sub(33));
                    Step::Took(6, mouse(u16::from(button.saturating_sub(32)), place(x), place(y), false))
                }
                _ => Step::More,
            };
        }
        [b'[', body @ ..] => {
            return match body.first() {
                Some(last @ b'A'..=b'E') => took(4, KeyCode::F(last - b'A' + 1), KeyModifiers::empty()),
                Some(_) => Step::Took(3, None),
                None => Step::More,
            };
        }
        _ => {}
    }
    let Some(end) = rest.iter().take(SEQUENCE).position(|byte| !(0x20..0x40).contains(byte)) else {
        return if rest.len() >= SEQUENCE { Step::Took(SEQUENCE + 2, None) } else { Step::More };
    };
    let (Some(body), Some(&last)) = (rest.get(..end), rest.get(end)) else { return Step::More };
    if !(0x40..0x7f).contains(&last) {
        // Not a sequence after all; whatever broke it stands for itself.
        return Step::Took(end + 2, None);
    }
    let used = end + 3;
    let body = std::str::from_utf8(body).unwrap_or_default();
    if (body, last) == ("200", b'~') {
        return Step::Paste(used);
    }
    Step::Took(used, sequence(body, last))
}

fn sequence(body: &str, last: u8) -> Option<Input> {
    if let Some(body) = body.strip_prefix('<') {
        let mut numbers = body.split(';').map(|n| n.parse::<u16>().ok());
        let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
        return mouse(button, x.saturating_sub(1), y.saturating_sub(1), last == b'm');
    }
    if let Some(answer) = body.strip_prefix("?69;") {
        // DECRPM: 1 and 2 are set and reset, so it can be set; 0 is unknown, 3 and 4 cannot be changed.
        return (last == b'y').then_some(Input::Margins(matches!(answer, "1$" | "2$")));
    }
    match (body, last) {
        ("", b'I') => return Some(Input::Focus(true)),
        ("", b'O') => return Some(Input::Focus(false)),
        ("", b'Z') => return Some(Input::Key(Key::new(KeyCode::BackTab, KeyModifiers::SHIFT))),
        _ => {}
    }
    if body.starts_with(['?', '>', '=']) {
        return None;
    }
    let fields: Vec<&str> = body.split(';').collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.split(':').next()).and_then(|n| n.parse::<u32>().ok());
    let (modifiers, code) = match last {
        b'~' if number(0) == Some(27) => (fields.get(1), point(number(2)?)?),
        b'~' => (fields.get(1), numbered(number(0)?)?),
        b'u' => (fields.get(1), point(number(0)?)?),
        b'P'..=b'S' => (fields.get(1), KeyCode::F(last - b'P' + 1)),
        _ => (fields.get(1), arrow(last)?),
    };
    let modifiers = held(modifiers.copied().unwrap_or_default())?;
    let shifted = fields.first().filter(|_| last == b'u').and_then(|field| field.split(':').nth(1));
    let code = match (code, shifted.and_then(|n| n.parse().ok()).and_then(char::from_u32)) {
        (KeyCode::Char(_), Some(c)) if modifiers.contains(KeyModifiers::SHIFT) => KeyCode::Char(c),
        (code, _) => code,
    };
    Some(Input::Key(Key::new(code, modifiers)))
}

/// `modifiers:kind`. `None`: a key let go, or one held with a key that we know nothing of.
fn held(field: &str) -> Option<KeyModifiers> {
    let mut parts = field.split(':');
    let mask = parts.next().and_then(|n| n.parse::<u16>().ok()).unwrap_or(1).saturating_sub(1);
    if parts.next() == Some("3") || mask & 0b11_1000 != 0 {
        return None;
    }
    let bits = [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)];
    Some(bits.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, modifier)| modifier).collect())
}

/// The keys of `CSI n ~`.
fn numbered(number: u32) -> Option<KeyCode> {
    let function = |base: u32| u8::try_from(number - base).ok().map(KeyCode::F);
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => function(10)?,
        17..=21 => function(11)?,
        23..=26 => function(12)?,
        28 | 29 => function(15)?,
        31..=34 => function(17)?,
        _ => return None,
    })
}

/// A key by its code point (kitty's keyboard protocol, functional keys included).
fn point(number: u32) -> Option<KeyCode> {
    const KEYPAD: [char; 18] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '.', '/', '*', '-', '+', '\r', '=', ','];
    const KEYPAD_MOVES: [KeyCode; 10] = [
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Insert,
        KeyCode::Delete,
    ];
    let index = |base: u32| usize::try_from(number - base).unwrap_or(usize::MAX);
    let c = match number {
        57_376..=57_398 => return u8::try_from(number - 57_363).ok().map(KeyCode::F),
        57_399..=57_416 => *KEYPAD.get(index(57_399))?,
        57_417..=57_426 => return KEYPAD_MOVES.get(index(57_417)).copied(),
        // The private area holds keys only; those left are of no use here.
        0xe000..=0xf8ff => return None,
        number => char::from_u32(number)?,
    };
    Some(match c {
        '\x1b' => KeyCode::Esc,
        '\r' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\x7f' => KeyCode::Backspace,
        c if c.is_control() => return None,
        c => KeyCode::Char(c),
    })
}

fn mouse(button: u16, column: u16, row: u16, released: bool) -> Option<Input> {
    let which = match button & 3 {
        0 => MouseButton::Left,
        1 => MouseButton::Middle,
        _ => MouseButton::Right,
    };
    let kind = match (button & 0b1100_0011, released) {
        (64, _) => MouseEventKind::ScrollUp,
        (65, _) => MouseEventKind::ScrollDown,
        (66, _) => MouseEventKind::ScrollLeft,
        (67, _) => MouseEventKind::ScrollRight,
        _ if button & 0b1010_0000 != 0 => return None,
        (3, _) => MouseEventKind::Up(MouseButton::Left),
        (0..=2, true) => MouseEventKind::Up(which),
        (0..=2, false) => MouseEventKind::Down(which),
        _ => return None,
    };
    let bits = [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)];
    let modifiers = bits.into_iter().filter(|(bit, _)| button & bit != 0).map(|(_, modifier)| modifier).collect();
    Some(Input::Mouse(MouseEvent { kind, column, row, modifiers }))
}

#[cfg(test)]
mod tests;
