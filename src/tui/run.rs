//! The loop: waits, drains everything that has happened, draws once.
//!
//! It sleeps until a key, a snapshot, an update, a signal or a deadline that exists; there is no tick. Nothing in it waits
//! for network or disk: commands go by `try_send`, files are touched by tasks.

use std::{
    collections::HashMap,
    io::{self, Stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ratatui::layout::Size;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use super::{
    Finished, Forms, Options, Start, TuiError,
    canvas::{Canvas, Wants},
    effect::Effect,
    input::{Input, Keyboard},
    keymap::Keymap,
    model::{Model, Screen},
    msg::Msg,
    notify::{Desktop, notification},
    screens,
    terminal::{Guard, stop_and_continue},
    theme::Theme,
    update::{self, Effects, update},
};
use crate::{
    base::{Shutdown, Tasks},
    client::{
        command::{Command, Ticket},
        update::Link,
    },
};

/// Draws that follow one another for long are so far apart.
const FRAME: Duration = Duration::from_millis(16);
/// Draws that may follow one another at once after a pause: one message makes several snapshots (the room list's, the
/// timeline's, the connection's), and the last of them must not wait for the first.
const BURST: u32 = 4;
/// Messages that are applied before a draw at most, so that a flood cannot keep the screen from changing.
const DRAIN: usize = 2_000;
/// How long the end waits for the client half to take the drafts.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// What tasks of the loop report.
#[derive(Debug)]
enum Report {
    Msg(Msg),
    /// A long paste is in this file.
    Written(Ticket, PathBuf, Box<Command>),
}

/// Which snapshots may still change. A sender that is gone must not wake the loop for ever.
struct Alive {
    session: bool,
    rooms: bool,
    timeline: bool,
    thread: bool,
    details: bool,
    drafts: bool,
}

struct Loop {
    model: Model,
    link: Link,
    options: Options,
    canvas: Canvas<Stdout>,
    guard: Guard,
    tasks: Tasks,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    files: HashMap<Ticket, PathBuf>,
    desktop: Option<Desktop>,
    alive: Alive,
    dirty: bool,
    pace: Pace,
    done: bool,
}

/// Runs the screen until quit, shutdown or a signal.
pub(super) async fn run(link: Link, options: Options, shutdown: Shutdown) -> Result<Finished, TuiError> {
    let guard = Guard::enter(options.mouse).map_err(TuiError::Terminal)?;
    let keyboard = Keyboard::open().map_err(TuiError::Terminal)?;
    let mut model = Model::new(options.keymap.clone(), options.theme.clone().for_depth(options.colour), options.zone);
    model.notifications = options.notifications;
    model.wanted.clone_from(&options.open_room);
    if let Some(Forms(welcome)) = options.forms.clone() {
        model.welcome = welcome;
        update::welcome_again(&mut model);
    }
    model.screen = if options.start == Start::Welcome { Screen::Welcome } else { Screen::Main };
    let (reporter, reports) = mpsc::channel(64);
    let alive = Alive { session: true, rooms: true, timeline: true, thread: true, details: true, drafts: true };
    let mut this = Loop {
        model,
        link,
        options,
        canvas: Canvas::new(io::stdout()),
        guard,
        tasks: Tasks::new(shutdown.clone()),
        reports,
        reporter,
        files: HashMap::new(),
        desktop: Desktop::detect(|name| std::env::var(name).ok()),
        alive,
        dirty: true,
        pace: Pace::default(),
        done: false,
    };
    let outcome = this.turn(keyboard, &shutdown).await;
    this.last_words().await;
    this.guard.release();
    this.tasks.finish(LAST_WORDS).await;
    this.unsent_files();
    for file in this.files.values() {
        remove(file);
    }
    outcome.map_err(TuiError::Terminal)?;
    let at_welcome = this.model.screen == Screen::Welcome;
    let forms = at_welcome.then_some(Forms(this.model.welcome));
    Ok(Finished { open_room: this.model.open.filter(|_| !at_welcome), forms })
}

/// Waits for a change of a snapshot; for ever when its sender is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>, alive: &mut bool) {
    if *alive && receiver.changed().await.is_ok() {
        return;
    }
    *alive = false;
    std::future::pending().await
}

/// When the next frame may be drawn: at once after a pause, paced while there is no end of changes.
#[derive(Debug, Default)]
struct Pace {
    /// How far the draws so far are ahead of one per `FRAME`.
    until: Option<Instant>,
}

impl Pace {
    fn next(&self, now: Instant) -> Instant {
        self.until.and_then(|until| until.checked_sub(FRAME * (BURST - 1))).map_or(now, |at| at.max(now))
    }

    fn drawn(&mut self, now: Instant) {
        self.until = Some(self.until.map_or(now, |until| until.max(now)) + FRAME);
    }
}

/// Waits until then; for ever when there is no then.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

impl Loop {
    async fn turn(&mut self, mut keyboard: Keyboard, shutdown: &Shutdown) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut size = signal(SignalKind::window_change())?;
        // Snapshots that were there before we came count as news.
        self.link.session.mark_changed();
        self.link.rooms.mark_changed();
        self.link.timeline.mark_changed();
        self.link.details.mark_changed();
        self.link.drafts.mark_changed();
        while !self.done {
            self.drain(&mut keyboard).await;
            if self.done {
                break;
            }
            let frame = self.dirty.then(|| self.pace.next(Instant::now()));
            if frame.is_some_and(|at| at <= Instant::now()) {
                self.draw().await?;
                continue;
            }
            let due =
                self.model.deadline_ms().map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(self.options.clock.now_ms())));
            let next = [frame, due].into_iter().flatten().min();
            // Every branch only waits for something that stays there when another is taken; `drain` collects it.
            tokio::select! {
                () = keyboard.wait() => self.done |= keyboard.has_ended(),
                _ = size.recv() => self.apply(Msg::Resize).await,
                update = self.link.updates.recv() => match update {
                    Some(update) => self.apply(Msg::Update(update)).await,
                    None => self.done = true,
                },
                Some(report) = self.reports.recv() => self.report(report).await,
                () = changed(&mut self.link.session, &mut self.alive.session) => self.link.session.mark_changed(),
                () = changed(&mut self.link.rooms, &mut self.alive.rooms) => self.link.rooms.mark_changed(),
                () = changed(&mut self.link.timeline, &mut self.alive.timeline) => self.link.timeline.mark_changed(),
                () = changed(&mut self.link.thread, &mut self.alive.thread) => self.link.thread.mark_changed(),
                () = changed(&mut self.link.details, &mut self.alive.details) => self.link.details.mark_changed(),
                () = changed(&mut self.link.drafts, &mut self.alive.drafts) => self.link.drafts.mark_changed(),
                () = until(next) => if due.is_some_and(|at| at <= Instant::now()) { self.apply(Msg::Tick).await },
                () = shutdown.wait() => self.done = true,
                _ = term.recv() => self.done = true,
                _ = hangup.recv() => self.done = true,
                _ = interrupt.recv() => self.done = true,
            }
        }
        Ok(())
    }

    /// Applies everything that has happened, without waiting.
    async fn drain(&mut self, keyboard: &mut Keyboard) {
        for _ in 0..DRAIN {
            if self.done {
                return;
            }
            if let Some(msg) = self.snapshot() {
                self.apply(msg).await;
            } else if let Ok(update) = self.link.updates.try_recv() {
                self.apply(Msg::Update(update)).await;
            } else if let Ok(report) = self.reports.try_recv() {
                self.report(report).await;
            } else if let Some(input) = keyboard.take() {
                self.input(input).await;
            } else {
                break;
            }
        }
    }

    /// A snapshot that is news.
    fn snapshot(&mut self) -> Option<Msg> {
        fn news<T: Clone>(receiver: &mut watch::Receiver<T>) -> Option<T> {
            // A sender that is gone leaves its last value.
            receiver.has_changed().unwrap_or(false).then(|| receiver.borrow_and_update().clone())
        }
        let link = &mut self.link;
        news(&mut link.drafts)
            .map(Msg::Drafts)
            .or_else(|| news(&mut link.session).map(Msg::Session))
            .or_else(|| news(&mut link.rooms).map(Msg::Rooms))
            .or_else(|| news(&mut link.details).map(Msg::Details))
            .or_else(|| news(&mut link.timeline).map(Msg::Timeline))
            .or_else(|| news(&mut link.thread).map(Msg::Thread))
    }

    async fn input(&mut self, input: Input) {
        let msg = match input {
            Input::Key(key) => Msg::Key(key),
            Input::Paste(text) => Msg::Paste(text),
            Input::Mouse(mouse) => Msg::Mouse(mouse),
            Input::Focus(focused) => Msg::Focus(focused),
            Input::Margins(margins) => return self.canvas.set_margins(margins),
        };
        self.apply(msg).await;
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Msg(msg) => self.apply(msg).await,
            Report::Written(ticket, file, command) => {
                self.files.insert(ticket, file);
                self.command(*command).await;
            }
        }
    }

    async fn apply(&mut self, msg: Msg) {
        tracing::trace!(news = msg.name(), "something happened");
        self.model.now_ms = self.options.clock.now_ms();
        let effects = update(&mut self.model, msg);
        self.dirty = true;
        for effect in effects {
            self.effect(effect).await;
        }
    }

    async fn draw(&mut self) -> io::Result<()> {
        self.model.now_ms = self.options.clock.now_ms();
        let started = Instant::now();
        let (width, height) = crossterm::terminal::size()?;
        let model = &mut self.model;
        self.canvas.draw(Size { width, height }, |area, buffer| {
            let cursor = screens::draw(model, area, buffer);
            Wants { cursor, scrolls: std::mem::take(&mut model.scrolls) }
        })?;
        self.pace.drawn(Instant::now());
        tracing::trace!(duration_us = started.elapsed().as_micros(), "drawn");
        let (effects, again) = drawn(&mut self.model);
        self.dirty = again;
        for effect in effects {
            self.effect(effect).await;
        }
        Ok(())
    }

    async fn command(&mut self, command: Command) {
        if let Err(TrySendError::Full(command) | TrySendError::Closed(command)) = self.link.commands.try_send(command) {
            tracing::warn!("the client half takes no commands now");
            let effects = update(&mut self.model, Msg::Refused(command));
            self.dirty = true;
            // What a refusal leads to is shown, never asked again at once: this cannot go round in circles.
            debug_assert!(effects.is_empty(), "a refusal asks for nothing");
        }
    }

    async fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Command(command) => self.command(command).await,
            Effect::Setup(setup) => {
                if let Err(TrySendError::Full(setup) | TrySendError::Closed(setup)) = self.link.setup.try_send(setup) {
                    update(&mut self.model, Msg::SetupRefused(setup));
                }
            }
            Effect::Copy(text) => {
                let mut bytes = Vec::new();
                let copy = crossterm::clipboard::CopyToClipboard::to_clipboard_from(&text);
                if crossterm::queue!(bytes, copy).is_ok() {
                    self.raw(&bytes);
                }
            }
            Effect::Bell => self.raw(b"\x07"),
            Effect::Notify { title, body } => match self.desktop {
                Some(desktop) => self.raw(&notification(desktop, &title, &body)),
                None => self.raw(b"\x07"),
            },
            // Whoever waits for it is told; where nothing is under way nobody is.
            Effect::CancelSetup => self.link.cancel.notify_waiters(),
            Effect::SendText { ticket, room_id, text, caption } => self.write(ticket, room_id, text, caption),
            Effect::DropFile(ticket) => {
                if let Some(file) = self.files.remove(&ticket) {
                    self.tasks.spawn("tui-drop-file", async move {
                        let _ = tokio::task::spawn_blocking(move || remove(&file)).await;
                    });
                }
            }
            Effect::ListFiles(typed) => self.work(move || Msg::Files(super::files::list(&typed), typed)),
            Effect::LoadTheme(name) => {
                let (dir, colour) = (self.options.theme_dir.clone(), self.options.colour);
                self.work(move || {
                    let theme = Theme::load(&name, dir.as_deref()).map(|theme| Box::new(theme.for_depth(colour)));
                    Msg::Theme(theme.map_err(|error| error.to_string()))
                });
            }
            Effect::LoadKeymap(name) => {
                let file = self.options.keymap_file.clone();
                self.work(move || Msg::Keymap(keymap(&name, file.as_deref()).map(Box::new)));
            }
            Effect::Redraw => {
                self.canvas.forget();
                self.dirty = true;
            }
            Effect::Suspend => {
                if let Err(error) = self.suspend().await {
                    tracing::warn!(%error, "could not suspend");
                    self.done = true;
                }
            }
            Effect::Quit => self.done = true,
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.canvas.raw(bytes) {
            tracing::warn!(%error, "the terminal took no bytes");
        }
    }

    /// Does something that touches the disk, away from the loop.
    fn work(&self, job: impl FnOnce() -> Msg + Send + 'static) {
        let reporter = self.reporter.clone();
        self.tasks.spawn("tui-work", async move {
            if let Ok(msg) = tokio::task::spawn_blocking(job).await {
                let _ = reporter.send(Report::Msg(msg)).await;
            }
        });
    }

    fn write(&self, ticket: Ticket, room_id: ruma::OwnedRoomId, text: Arc<str>, caption: Option<String>) {
        let dir = self.options.paste_dir.join(format!("{}-{}", self.options.clock.now_ms(), ticket.0));
        let reporter = self.reporter.clone();
        self.tasks.spawn("tui-write-paste", async move {
            let written = tokio::task::spawn_blocking(move || store(&dir, &text)).await;
            let report = match written {
                Ok(Ok(path)) => {
                    let command = Command::SendFile { ticket, room_id, path: path.clone(), caption };
                    Report::Written(ticket, path, Box::new(command))
                }
                Ok(Err(error)) => Report::Msg(Msg::PasteFailed(ticket, format!("it could not be written to a file: {error}"))),
                Err(_) => Report::Msg(Msg::PasteFailed(ticket, "it could not be written to a file".to_owned())),
            };
            let _ = reporter.send(report).await;
        });
    }

    /// Pastes that were written when nobody took them any more: their text is among the drafts.
    fn unsent_files(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Written(ticket, file, _) = report {
                self.files.insert(ticket, file);
            }
        }
    }

    async fn suspend(&mut self) -> io::Result<()> {
        self.guard.release();
        stop_and_continue().await?;
        self.guard.take()?;
        self.canvas.forget();
        self.dirty = true;
        Ok(())
    }

    /// Drafts must arrive even when the client half is busy just now.
    async fn last_words(&mut self) {
        self.model.now_ms = self.options.clock.now_ms();
        let mut effects = Vec::new();
        super::update::quit(&mut self.model, &mut effects);
        let send = async {
            for effect in effects {
                if let Effect::Command(command) = effect
                    && self.link.commands.send(command).await.is_err()
                {
                    break;
                }
            }
        };
        if tokio::time::timeout(LAST_WORDS, send).await.is_err() {
            tracing::warn!("the client half did not take the last drafts in time");
        }
    }
}

/// What drawing found out leads to, and whether it changes what is to be seen. What waits to be drawn somewhere else (in a timeline
/// that something covers) is no reason to draw: it would be one for ever.
pub(super) fn drawn(model: &mut Model) -> (Effects, bool) {
    let seen = |model: &Model| (model.view.motions.len(), model.thread_view.motions.len(), model.view.first_unread.clone());
    let before = seen(model);
    let effects = update(model, Msg::Drawn);
    let again = seen(model) != before;
    (effects, again)
}

fn keymap(name: &str, file: Option<&Path>) -> Result<Keymap, String> {
    let text = match file.map(std::fs::read_to_string) {
        Some(Ok(text)) => Some(text),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        Some(Err(_)) | None => None,
    };
    let user = file.zip(text.as_deref());
    Keymap::load(name, user).map_err(|error| error.to_string())
}

/// Writes a long paste where only we can read it.
fn store(dir: &Path, text: &str) -> io::Result<PathBuf> {
    use std::{
        io::Write,
        os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join("pasted-text.txt");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn remove(file: &Path) {
    let removed = file.parent().map_or(Ok(()), std::fs::remove_dir_all);
    if let Err(error) = removed {
        tracing::warn!(%error, "a pasted text's file could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_drawn_at_once_and_a_flood_is_paced() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.next(start), start);
            pace.drawn(start);
        }
        assert_eq!(pace.next(start), start + FRAME, "more waits for its turn");
        let mut now = start;
        for _ in 0..100 {
            now = pace.next(now);
            pace.drawn(now);
        }
        assert!(now >= start + FRAME * 99, "a flood gets one frame in {FRAME:?}");
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.next(later), later, "after a pause nothing waits");
    }
}
