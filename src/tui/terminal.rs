//! Entering and leaving the terminal. Whatever happens (the end, an error, a panic, a signal), it is left as it was found,
//! before anything is printed.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::ThreadId,
};

use crossterm::{
    event::{
        DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, KeyboardEnhancementFlags,
        PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags,
    },
    queue,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};

use crate::base::panics;

/// Clicks and the wheel; not every movement, which would wake us for nothing.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";
/// DECRQM: asks whether there are margins at the sides. `input` reads the answer.
const ASK_MARGINS: &[u8] = b"\x1b[?69$p";

/// The terminal while homeroom has it. Dropping it gives the terminal back.
#[derive(Debug)]
pub struct Guard {
    mouse: bool,
    enhanced: bool,
    /// True while the terminal is ours; shared with the panic hook.
    held: Arc<AtomicBool>,
}

impl Guard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When standard input or output is no terminal, or it does not obey.
    pub fn enter(mouse: bool) -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "standard input and output must be a terminal"));
        }
        let term = std::env::var_os("TERM");
        if term.as_ref().is_some_and(|term| term == "dumb") {
            let words = "it says that it cannot move its cursor (TERM=dumb); `homeroom tail` and `homeroom send` work in it";
            return Err(io::Error::new(io::ErrorKind::Unsupported, words));
        }
        // The console of the Linux kernel prints what it does not know.
        let enhanced = term.is_some_and(|term| term != "linux");
        let guard = Self { mouse, enhanced, held: Arc::new(AtomicBool::new(false)) };
        guard.take()?;
        guard.on_panic();
        Ok(guard)
    }

    /// Takes the terminal (again).
    ///
    /// # Errors
    /// When it does not obey.
    pub fn take(&self) -> io::Result<()> {
        enable_raw_mode()?;
        self.held.store(true, Ordering::SeqCst);
        let mut out = io::stdout().lock();
        queue!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange)?;
        if self.enhanced {
            // Lets shift-enter be told from enter where the terminal can.
            queue!(out, PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES))?;
            out.write_all(ASK_MARGINS)?;
        }
        if self.mouse {
            out.write_all(MOUSE_ON)?;
        }
        out.flush()
    }

    /// Gives the terminal back. Safe to call more than once.
    pub fn release(&self) {
        release(&self.held, self.mouse, self.enhanced);
    }

    /// A panic of the screen itself ends the process: the terminal is given back before the message is printed, or nobody
    /// could read it. One anywhere else is caught by whoever runs that task; it goes to the log, and the screen, which may
    /// well run on, is left alone.
    fn on_panic(&self) {
        let (held, mouse, enhanced) = (Arc::clone(&self.held), self.mouse, self.enhanced);
        let screen = std::thread::current().id();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match whose(&held, screen) {
            Whose::Screen => {
                release(&held, mouse, enhanced);
                before(panic);
            }
            Whose::Other => panics::log(panic),
            Whose::NoScreen => before(panic),
        }));
    }
}

/// Where a panic happens, seen from the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// On the thread of the screen, which runs nothing else: tasks have threads of their own.
    Screen,
    /// In a task or thread beside the screen.
    Other,
    /// Before or after the screen.
    NoScreen,
}

fn whose(held: &AtomicBool, screen: ThreadId) -> Whose {
    if !held.load(Ordering::SeqCst) {
        Whose::NoScreen
    } else if std::thread::current().id() == screen {
        Whose::Screen
    } else {
        Whose::Other
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.release();
    }
}

fn release(held: &AtomicBool, mouse: bool, enhanced: bool) {
    if !held.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout().lock();
    // Each step is tried even when another fails: there is nobody left to tell.
    if mouse {
        let _ = out.write_all(MOUSE_OFF);
    }
    if enhanced {
        let _ = queue!(out, PopKeyboardEnhancementFlags);
    }
    let _ = queue!(out, DisableFocusChange, DisableBracketedPaste);
    // A frame may have been cut off in the middle: no margins, no region, a plain pen.
    let _ = out.write_all(b"\x1b[?2026l\x1b[?69l\x1b[r\x1b[0m\x1b[?25h");
    let _ = queue!(out, LeaveAlternateScreen);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Stops until the shell continues us. The terminal must be given back before.
///
/// # Errors
/// When the signals cannot be used.
pub async fn stop_and_continue() -> io::Result<()> {
    let mut continued = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
    // The whole group, as the terminal itself does it: whatever started us in the foreground stops too.
    rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
    // A process without a shell to continue it is not stopped at all; then there is nothing to wait for.
    tokio::select! {
        _ = continued.recv() => {}
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_panic_of_the_screen_itself_gives_the_terminal_back() {
        let held = AtomicBool::new(true);
        let screen = std::thread::current().id();
        assert_eq!(whose(&held, screen), Whose::Screen);
        std::thread::scope(|scope| {
            let task = scope.spawn(|| whose(&held, screen)).join();
            assert_eq!(task.ok(), Some(Whose::Other), "a task's panic is caught, and the screen runs on");
        });
        held.store(false, Ordering::SeqCst);
        assert_eq!(whose(&held, screen), Whose::NoScreen);
    }
}
