//! Standard output: one place, so that a reader that goes away early ends a command quietly.

use std::io::{self, Write as _};

use super::exit::{Exit, Failure};

/// Writes text to standard output and makes sure that it is out. A closed pipe ends the program without a complaint.
///
/// # Errors
/// When standard output cannot be written (a full disk).
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Success, "")),
        Err(error) => Err(Failure::new(Exit::Failure, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes one line.
///
/// # Errors
/// As `print`.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes one line of JSON.
///
/// # Errors
/// As `print`.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    line(&text)
}

/// Text that came from elsewhere, for a terminal: control characters, which could move the cursor or set a title, are
/// shown as what they are.
#[must_use]
pub fn harmless(text: &str) -> String {
    let escape = |c: char| c.is_control() && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    text.chars().flat_map(|c| if escape(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc é\u{202e}"), "a\\u{1b}[2Jb\tc é\\u{202e}");
    }
}
