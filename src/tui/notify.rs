//! Notifications of the desktop, shown by the terminal: they work over SSH as well, where there is no bus to talk to.
//!
//! Three forms are about: OSC 9 (iTerm2), OSC 777 (urxvt, VTE, foot) and OSC 99 (kitty). A terminal that knows none of them rings
//! its bell instead.

/// How a terminal is asked for a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desktop {
    /// `OSC 9 ; text`.
    Osc9,
    /// `OSC 777 ; notify ; title ; text`.
    Osc777,
    /// kitty's, in two parts; a newer one takes the place of the one before.
    Osc99,
}

impl Desktop {
    /// What the terminal says of itself in the environment. `None` where it is not known to show any, and inside of tmux and
    /// screen, which do not pass it on.
    #[must_use]
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = |name: &str| variable(name).unwrap_or_default();
        let term = value("TERM");
        if variable("TMUX").is_some() || variable("STY").is_some() || term.starts_with("tmux") || term.starts_with("screen") {
            return None;
        }
        if term.contains("kitty") || variable("KITTY_WINDOW_ID").is_some() {
            return Some(Self::Osc99);
        }
        let program = value("TERM_PROGRAM");
        if matches!(program.as_str(), "iTerm.app" | "WezTerm" | "ghostty") || value("LC_TERMINAL") == "iTerm2" || term.contains("ghostty") {
            return Some(Self::Osc9);
        }
        let vte = variable("VTE_VERSION").is_some();
        (vte || term.starts_with("foot") || term.starts_with("rxvt-unicode")).then_some(Self::Osc777)
    }
}

/// Text that ends no sequence and separates no fields.
fn field(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).map(|c| if c == ';' { ',' } else { c }).collect()
}

/// What asks for a notification.
#[must_use]
pub fn notification(desktop: Desktop, title: &str, body: &str) -> Vec<u8> {
    let (title, body) = (field(title), field(body));
    let sequences = match desktop {
        Desktop::Osc9 => format!("\x1b]9;{title}: {body}\x1b\\"),
        Desktop::Osc777 => format!("\x1b]777;notify;{title};{body}\x1b\\"),
        Desktop::Osc99 => format!("\x1b]99;i=homeroom:d=0;{title}\x1b\\\x1b]99;i=homeroom:p=body;{body}\x1b\\"),
    };
    sequences.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(variables: &[(&str, &str)]) -> Option<Desktop> {
        Desktop::detect(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn terminals_are_asked_in_the_form_that_they_know() {
        assert_eq!(detect(&[("TERM", "xterm-kitty")]), Some(Desktop::Osc99));
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")]), Some(Desktop::Osc9));
        assert_eq!(detect(&[("TERM", "foot-extra")]), Some(Desktop::Osc777));
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("VTE_VERSION", "7600")]), Some(Desktop::Osc777));
        assert_eq!(detect(&[("TERM", "xterm-256color")]), None, "xterm would show nothing");
        assert_eq!(detect(&[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1"), ("TMUX", "/tmp/t,1,0")]), None, "tmux passes nothing on");
    }

    #[test]
    fn what_people_write_ends_no_sequence() {
        for desktop in [Desktop::Osc9, Desktop::Osc777, Desktop::Osc99] {
            let bytes = notification(desktop, "a;b\x07", "x\x1b]0;title\x07\u{9c}");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let ends = if desktop == Desktop::Osc99 { 2 } else { 1 };
            assert_eq!(text.matches('\x1b').count(), 2 * ends, "{text:?}");
            assert!(!text.contains(['\x07', '\u{9c}']) && text.contains("a,b") && text.contains("x]0,title"), "{text:?}");
        }
    }
}
