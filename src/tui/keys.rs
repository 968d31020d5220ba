//! Keys as keymaps write them: `ctrl+k`, `alt+enter`, `g g`, `?`.

use std::{fmt, str::FromStr};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// One key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which key.
    pub code: KeyCode,
    /// Held with it: control, alt and shift at most.
    pub modifiers: KeyModifiers,
}

const NAMED: &[(&str, KeyCode)] = &[
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("space", KeyCode::Char(' ')),
    ("plus", KeyCode::Char('+')),
];

const MODIFIERS: &[(&str, KeyModifiers)] = &[("ctrl", KeyModifiers::CONTROL), ("alt", KeyModifiers::ALT), ("shift", KeyModifiers::SHIFT)];

impl Key {
    /// A key, in the one form that comparisons use: a letter carries its case, not shift; shift-tab is shift and tab.
    #[must_use]
    pub fn new(code: KeyCode, modifiers: KeyModifiers) -> Self {
        let mut modifiers = modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT);
        let code = match code {
            KeyCode::BackTab => {
                modifiers |= KeyModifiers::SHIFT;
                KeyCode::Tab
            }
            KeyCode::Char(c) => {
                let shift = modifiers.contains(KeyModifiers::SHIFT);
                modifiers -= KeyModifiers::SHIFT;
                if modifiers.contains(KeyModifiers::CONTROL) {
                    KeyCode::Char(c.to_ascii_lowercase())
                } else if shift && c.is_ascii_lowercase() {
                    KeyCode::Char(c.to_ascii_uppercase())
                } else {
                    KeyCode::Char(c)
                }
            }
            code => code,
        };
        Self { code, modifiers }
    }

    /// The character that this key types, if it types one.
    #[must_use]
    pub fn typed(self) -> Option<char> {
        match self.code {
            KeyCode::Char(c) if self.modifiers.is_empty() && !c.is_control() => Some(c),
            _ => None,
        }
    }
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        Self::new(event.code, event.modifiers)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, modifier) in MODIFIERS {
            if self.modifiers.contains(*modifier) {
                write!(f, "{name}+")?;
            }
        }
        if let Some((name, _)) = NAMED.iter().find(|(_, code)| *code == self.code && self.code != KeyCode::Char('+')) {
            return f.write_str(name);
        }
        match self.code {
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            _ => f.write_str("?"),
        }
    }
}

/// Why a key's name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no key")]
pub struct KeyError {
    /// The part that is wrong.
    pub word: String,
    /// The nearest name.
    pub nearest: Option<String>,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut modifiers = KeyModifiers::empty();
        let mut rest = text;
        while let Some((word, after)) = rest.split_once('+').filter(|(word, after)| !word.is_empty() && !after.is_empty()) {
            let Some((_, modifier)) = MODIFIERS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) else {
                let nearest = super::theme::nearest(word, MODIFIERS.iter().map(|(name, _)| *name));
                return Err(KeyError { word: word.to_owned(), nearest });
            };
            modifiers |= *modifier;
            rest = after;
        }
        let mut chars = rest.chars();
        let code = if let (Some(c), None) = (chars.next(), chars.next()) {
            KeyCode::Char(c)
        } else if let Some((_, code)) = NAMED.iter().find(|(name, _)| rest.eq_ignore_ascii_case(name)) {
            *code
        } else if let Some(n) = rest.strip_prefix(['f', 'F']).and_then(|n| n.parse().ok()).filter(|n| (1..=24).contains(n)) {
            KeyCode::F(n)
        } else {
            return Err(KeyError { word: rest.to_owned(), nearest: super::theme::nearest(rest, NAMED.iter().map(|(name, _)| *name)) });
        };
        Ok(Self::new(code, modifiers))
    }
}

/// Reads a sequence: keys with blanks between them.
///
/// # Errors
/// When one of them is no key, or there is none.
pub fn sequence(text: &str) -> Result<Vec<Key>, KeyError> {
    let keys: Vec<Key> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(KeyError { word: text.to_owned(), nearest: None }) } else { Ok(keys) }
}

/// A sequence as people read it.
#[must_use]
pub fn show(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_carry_case_instead_of_shift() {
        assert_eq!("G".parse(), Ok(Key::new(KeyCode::Char('g'), KeyModifiers::SHIFT)));
        assert_eq!("shift+g".parse::<Key>(), "G".parse());
        assert_eq!("ctrl+K".parse::<Key>(), "ctrl+k".parse());
        assert_eq!("shift+tab".parse(), Ok(Key::new(KeyCode::BackTab, KeyModifiers::empty())));
    }

    #[test]
    fn a_wrong_key_names_the_nearest() {
        assert_eq!("pagup".parse::<Key>(), Err(KeyError { word: "pagup".into(), nearest: Some("pageup".into()) }));
        assert_eq!("crtl+k".parse::<Key>(), Err(KeyError { word: "crtl".into(), nearest: Some("ctrl".into()) }));
        assert!(sequence("  ").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(index in 0..NAMED.len(), c in "[a-zA-Z0-9?/<>.,;:!@#$%^&*()=_-]", bits in 0_u8..8, pick in 0..3) {
            let code = match pick {
                0 => NAMED.get(index).map_or(KeyCode::Enter, |(_, code)| *code),
                1 => KeyCode::Char(c.chars().next().unwrap_or('a')),
                _ => KeyCode::F(1 + bits),
            };
            let key = Key::new(code, KeyModifiers::from_bits_truncate(bits));
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }
    }
}
