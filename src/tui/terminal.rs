//! Entering and leaving the terminal. Whatever happens (the end, an error, a panic, a signal), it is left as it was found,
//! before anything is printed.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    event::{
        DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, KeyboardEnhancementFlags,
        PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags,
    },
    queue,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};

/// Clicks and the wheel; not every movement, which would wake us for nothing.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

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
        // The console of the Linux kernel prints what it does not know.
        let enhanced = std::env::var_os("TERM").is_some_and(|term| term != "linux" && term != "dumb");
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
        }
        if self.mouse {
            out.write_all(MOUSE_ON)?;
        }
        out.flush()
    }

    /// False once the terminal was given back, which a panic anywhere in the process does.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Gives the terminal back. Safe to call more than once.
    pub fn release(&self) {
        release(&self.held, self.mouse, self.enhanced);
    }

    /// The panic message is printed after the terminal is given back, or nobody could read it.
    fn on_panic(&self) {
        let (held, mouse, enhanced) = (Arc::clone(&self.held), self.mouse, self.enhanced);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            release(&held, mouse, enhanced);
            before(panic);
        }));
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
    let _ = out.write_all(b"\x1b[?2026l\x1b[0m\x1b[?25h");
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
