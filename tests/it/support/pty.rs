//! The real binary in a pseudo-terminal: keys in, a parsed screen out.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::{Home, home::program, wait::PATIENCE};

/// Raw output that is kept for the report of a failure.
const TAIL_BYTES: usize = 4096;

/// Keys as a terminal sends them.
pub mod key {
    pub const ENTER: &str = "\r";
    pub const ESC: &str = "\x1b";
    pub const TAB: &str = "\t";
    pub const DOWN: &str = "\x1b[B";

    /// Control and a letter.
    pub fn ctrl(letter: char) -> String {
        char::from(letter.to_ascii_lowercase() as u8 & 0x1f).to_string()
    }
}

struct State {
    parser: vt100::Parser<Answers>,
    bytes: u64,
    tail: VecDeque<u8>,
    last_output: Instant,
    ended: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a terminal answers when it is asked about itself, collected while output is parsed.
#[derive(Default)]
struct Answers {
    pending: Vec<u8>,
}

impl vt100::Callbacks for Answers {
    fn unhandled_csi(&mut self, screen: &mut vt100::Screen, first: Option<u8>, _: Option<u8>, params: &[&[u16]], last: char) {
        let parameter = params.first().and_then(|group| group.first()).copied();
        match (first, last, parameter) {
            (None, 'n', Some(6)) => {
                let (row, column) = screen.cursor_position();
                self.pending.extend(format!("\x1b[{};{}R", row + 1, column + 1).bytes());
            }
            // A plain VT220 without extensions.
            (None, 'c', _) => self.pending.extend(b"\x1b[?62;22c"),
            _ => {}
        }
    }
}

/// A program in a terminal of its own. Killed when dropped.
pub struct Terminal {
    shared: Arc<Shared>,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    settings_before: String,
    exit: Option<ExitStatus>,
}

impl Terminal {
    /// Starts homeroom in a terminal of 80x24.
    pub fn start(home: &Home, args: &[&str]) -> Self {
        Self::start_with(home, args, 80, 24, &[])
    }

    /// Starts homeroom with a size and additional environment.
    pub fn start_with(home: &Home, args: &[&str], columns: u16, rows: u16, environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(program());
        command.args(args);
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LANG", "C.UTF-8");
        command.env("TERM", "xterm-256color");
        command.env("COLORTERM", "truecolor");
        for (name, value) in home.environment() {
            command.env(name, value);
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        command.cwd(home.path());
        Self::spawn(command, columns, rows)
    }

    /// Starts any program.
    pub fn spawn(command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let settings_before = format!("{:?}", pair.master.get_termios());
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                parser: vt100::Parser::new_with_callbacks(rows, columns, 0, Answers::default()),
                bytes: 0,
                tail: VecDeque::with_capacity(TAIL_BYTES),
                last_output: Instant::now(),
                ended: false,
            }),
            changed: Condvar::new(),
            writer: Mutex::new(pair.master.take_writer().unwrap()),
        });
        let for_reader = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            // A closed terminal shows as an error on Linux and as an end elsewhere.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                for_reader.take(&buffer[..count]);
            }
            for_reader.state().ended = true;
            for_reader.changed.notify_all();
        });
        Self { shared, master: pair.master, child, settings_before, exit: None }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Sends keys as they are.
    pub fn keys(&self, keys: &str) {
        let mut writer = self.shared.writer.lock().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Pastes text as a terminal with bracketed paste does.
    pub fn paste(&self, text: &str) {
        self.keys(&format!("\x1b[200~{text}\x1b[201~"));
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.shared.state().parser.screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// What is on the screen, one line per row.
    pub fn text(&self) -> String {
        self.shared.state().parser.screen().contents()
    }

    /// Looks at the parsed screen.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.shared.state().parser.screen())
    }

    /// Bytes that the program has written so far.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes
    }

    /// Waits until the screen is as wanted; returns how long it took.
    ///
    /// # Panics
    /// With the screen, when it does not become so within [`PATIENCE`] or the program ends.
    pub fn wait(&self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) -> Duration {
        self.wait_within(PATIENCE, what, wanted)
    }

    /// The same with a deadline of one's own.
    ///
    /// # Panics
    /// As [`Self::wait`].
    pub fn wait_within(&self, patience: Duration, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) -> Duration {
        let start = Instant::now();
        let mut state = self.shared.state();
        loop {
            if wanted(state.parser.screen()) {
                return start.elapsed();
            }
            let left = patience.saturating_sub(start.elapsed());
            if state.ended || left.is_zero() {
                let why = if state.ended { "the program ended" } else { "time is up" };
                let report = report(&state);
                drop(state);
                panic!("waiting for {what}: {why}\n{report}");
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a text on the screen.
    pub fn wait_text(&self, text: &str) -> Duration {
        self.wait(&format!("{text:?}"), |screen| screen.contents().contains(text))
    }

    /// Waits until a text is not on the screen.
    pub fn wait_gone(&self, text: &str) -> Duration {
        self.wait(&format!("{text:?} to go"), |screen| !screen.contents().contains(text))
    }

    /// Waits until nothing has been written for this long.
    pub fn wait_quiet(&self, quiet: Duration) {
        let start = Instant::now();
        let mut state = self.shared.state();
        while let Some(left) = quiet.checked_sub(state.last_output.elapsed()) {
            if state.ended || start.elapsed() > PATIENCE {
                return;
            }
            state = self.shared.changed.wait_timeout(state, left + Duration::from_millis(1)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends the program as a power cut would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// Waits for the end; the exit code (1 after a signal).
    ///
    /// # Panics
    /// With the screen, when the program does not end.
    pub fn wait_exit(&mut self) -> u32 {
        if let Some(exit) = &self.exit {
            return exit.exit_code();
        }
        let start = Instant::now();
        let mut state = self.shared.state();
        while !state.ended {
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                let report = report(&state);
                drop(state);
                panic!("the program does not end\n{report}");
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let exit = self.child.wait().unwrap();
        self.exit.insert(exit).exit_code()
    }

    /// Checks that the terminal has been given back: main screen, cursor shown, modes off, line discipline as before.
    pub fn assert_restored(&self) {
        let state = self.shared.state();
        let screen = state.parser.screen();
        assert!(!screen.alternate_screen(), "left on the alternate screen\n{}", report(&state));
        assert!(!screen.hide_cursor(), "the cursor is hidden\n{}", report(&state));
        assert!(!screen.bracketed_paste(), "bracketed paste is still on\n{}", report(&state));
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None, "the mouse is still reported");
        assert_eq!(format!("{:?}", self.master.get_termios()), self.settings_before, "the line discipline is another");
    }
}

impl Shared {
    fn take(&self, output: &[u8]) {
        let mut state = self.state();
        state.bytes += output.len() as u64;
        state.last_output = Instant::now();
        let surplus = (state.tail.len() + output.len()).saturating_sub(TAIL_BYTES).min(state.tail.len());
        state.tail.drain(..surplus);
        state.tail.extend(output.iter().skip(output.len().saturating_sub(TAIL_BYTES)));
        state.parser.process(output);
        let answers = std::mem::take(&mut state.parser.callbacks_mut().pending);
        drop(state);
        self.changed.notify_all();
        if !answers.is_empty() {
            // The program may have ended since it asked.
            let _ = self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&answers);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.child.kill();
            if let Some(pid) = self.child.process_id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                // `Child::kill` asks politely first; nothing may outlive its test.
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", report(&self.shared.state()));
        }
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

fn report(state: &State) -> String {
    let screen = state.parser.screen();
    let (rows, columns) = screen.size();
    let frame = "-".repeat(usize::from(columns));
    let mut text = format!("+{frame}+ {rows}x{columns}, {} bytes written\n", state.bytes);
    for row in screen.rows(0, columns) {
        text.push_str(&format!("|{row}\n"));
    }
    let tail: Vec<u8> = state.tail.iter().copied().collect();
    let tail = String::from_utf8_lossy(&tail[tail.len().saturating_sub(400)..]).into_owned();
    text.push_str(&format!("+{frame}+\nlast output: {}\n", tail.escape_debug()));
    text
}
