//! `homeroom` without a command: the screen, and the session behind it.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ruma::OwnedRoomId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    conductor::{Conductor, Ending},
    context::Context,
    exit::{Exit, Failure},
    profile::{ClientLock, Profile},
};
use crate::{
    base::{
        Shutdown, SystemClock, Tasks, private,
        signals::{HangUp, shut_down_on_signal},
    },
    client::{
        command::Setup,
        update::{Update, link},
        view::Timeline,
    },
    config::{self, types::Colour},
    tui::{
        self, Forms, Options, Start,
        keymap::Keymap,
        theme::{ColourDepth, Theme},
    },
};

/// How long the screen may take to leave the terminal.
const SCREEN: Duration = Duration::from_secs(5);
/// How long everything behind the screen may take to stop once the screen has gone.
const STOP: Duration = Duration::from_secs(20);
/// How long a room is open before it is written down as the open one.
const SETTLED: Duration = Duration::from_millis(400);

/// What is done in the place of the person at the keyboard when the screen opens.
#[derive(Debug)]
pub struct Opening {
    /// The first step, of a profile that is deleted when the screen is left.
    pub setup: Setup,
    /// Is given the way by which notices reach the screen.
    pub notices: oneshot::Sender<mpsc::Sender<Update>>,
}

/// Runs the screen until it is left. The log is running already. The forms of the welcome screen begin with what is given, and
/// what stood in them at the end is left there.
///
/// # Errors
/// When the profile is open elsewhere, the terminal or the settings are no good, or a part of the program failed.
pub async fn run(context: &Context, forms: &mut Option<Forms>) -> Result<Ending, Failure> {
    run_with(context, None, forms).await
}

/// The same, with something done at the start; the main screen then opens at once.
///
/// # Errors
/// As [`run`].
pub async fn run_with(context: &Context, opening: Option<Opening>, forms: &mut Option<Forms>) -> Result<Ending, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage("the screen needs a terminal; `homeroom --help` lists what works without one"));
    }
    let _lock = ClientLock::take(&context.dirs, "a screen")?;
    let profile = Profile::load(context)?;
    let start = if profile.user_id().is_some() || opening.is_some() { Start::Main } else { Start::Welcome };
    let options = Options { forms: forms.take(), ..options(context, start)? };
    let (link, port) = link();
    let throwaway = opening.is_some();
    if let Some(opening) = opening {
        // The channel is new, so there is room; a demonstration that has ended needs no notices.
        let _ = link.setup.try_send(opening.setup);
        let _ = opening.notices.send(port.feed.outlet.updates.clone());
    }
    // Two signals, for the order of the end: first the screen, whose last drafts the client still takes.
    let (leave, stop) = (Shutdown::new(), Shutdown::new());
    let tasks = Tasks::new(leave.clone());
    shut_down_on_signal(&tasks, HangUp::Ends).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let (ended, ending) = oneshot::channel();
    tasks.spawn("open room", follow_room(context.dirs.state.clone(), port.feed.outlet.timeline.subscribe(), leave.clone()));
    let conductor = Conductor::new(context.clone(), profile, port, stop.clone()).throwaway(throwaway);
    let screen = leave.clone();
    tasks.spawn("conductor", async move {
        // Nobody waits for the answer any more only when the deadline below has passed.
        let _ = ended.send(conductor.run().await);
        screen.trigger();
    });
    tasks.spawn("last resort", last_resort(leave.clone(), stop.clone()));
    let finished = tui::run(link, options, leave.clone()).await;
    stop.trigger();
    leave.trigger();
    let ending = tokio::time::timeout(STOP, ending).await;
    if !tasks.finish(Duration::from_secs(1)).await {
        tracing::warn!("a task did not end in time");
    }
    let finished = finished.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    if tasks.has_failed() {
        return Err(Failure::new(Exit::Failure, "a part of homeroom failed; the log file says more"));
    }
    remember_room(&context.dirs.state, finished.open_room.as_ref());
    *forms = finished.forms;
    match ending {
        Ok(Ok(ending)) => ending,
        Ok(Err(_)) => Err(Failure::new(Exit::Failure, "a part of homeroom failed; the log file says more")),
        Err(_) => Err(Failure::new(Exit::Failure, "homeroom did not stop in time; the log file says more")),
    }
}

/// A screen that does not come back (its terminal is gone in the middle of a read, say) must not keep the process, and with it
/// the node, from ending.
async fn last_resort(leave: Shutdown, stop: Shutdown) {
    leave.wait().await;
    if tokio::time::timeout(SCREEN, stop.wait()).await.is_ok() {
        return;
    }
    tracing::error!("the screen did not end; stopping without it");
    stop.trigger();
    tokio::time::sleep(STOP).await;
    #[expect(clippy::disallowed_methods, reason = "the thread that would return from main is the one that hangs")]
    std::process::exit(i32::from(Exit::Failure.code()));
}

fn options(context: &Context, start: Start) -> Result<Options, Failure> {
    let ui = &context.config().ui;
    let (theme_dir, keymap_file) = (context.dirs.config.join("themes"), context.dirs.config.join("keymap.toml"));
    let own_keys = match std::fs::read_to_string(&keymap_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file(&keymap_file, &error)),
    };
    let own_keys = own_keys.as_deref().map(|text| (keymap_file.as_path(), text));
    let keymap = Keymap::load(&ui.keymap, own_keys).map_err(Failure::usage)?;
    let theme = Theme::load(&ui.theme, Some(&theme_dir)).map_err(Failure::usage)?;
    let paste_dir = context.dirs.cache.join("paste");
    // What a run that was killed had on its way; nobody else uses the directory, since one screen has the profile.
    match std::fs::remove_dir_all(&paste_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::file(&paste_dir, &error)),
        _ => {}
    }
    private::create_dir(&paste_dir).map_err(|error| Failure::file(&paste_dir, &error))?;
    Ok(Options {
        start,
        forms: None,
        keymap,
        theme,
        colour: match ui.colour {
            Colour::Auto => ColourDepth::detect(|name| std::env::var(name).ok()),
            Colour::TrueColour => ColourDepth::TrueColour,
            Colour::Ansi256 => ColourDepth::Ansi256,
            Colour::Ansi16 => ColourDepth::Ansi16,
            Colour::None => ColourDepth::None,
        },
        zone: context.zone,
        clock: Arc::new(SystemClock),
        notifications: match ui.notifications {
            config::types::Notifications::Off => tui::Notifications::Off,
            config::types::Notifications::Bell => tui::Notifications::Bell,
            config::types::Notifications::Osc => tui::Notifications::Osc,
        },
        mouse: ui.mouse,
        open_room: remembered_room(&context.dirs.state),
        theme_dir: Some(theme_dir),
        keymap_file: Some(keymap_file),
        paste_dir,
    })
}

/// The room that was open last. Whatever else is in the file is as good as nothing.
fn remembered_room(state: &Path) -> Option<OwnedRoomId> {
    std::fs::read_to_string(state.join("open-room")).ok()?.trim().try_into().ok()
}

/// Writes the open room down soon after it has changed, so that even a kill leaves the last one.
async fn follow_room(state: PathBuf, mut timeline: watch::Receiver<Option<Timeline>>, shutdown: Shutdown) {
    let mut written = remembered_room(&state);
    loop {
        let another = timeline.wait_for(|timeline| timeline.as_ref().is_some_and(|timeline| Some(&timeline.room_id) != written.as_ref()));
        tokio::select! {
            another = another => if another.is_err() { return },
            () = shutdown.wait() => return,
        }
        // Whoever walks through the list does not mean the rooms on the way.
        tokio::select! {
            () = tokio::time::sleep(SETTLED) => {}
            () = shutdown.wait() => return,
        }
        let room = timeline.borrow().as_ref().map(|timeline| timeline.room_id.clone());
        if let Some(room) = room.filter(|room| Some(room) != written.as_ref()) {
            written = Some(room.clone());
            let state = state.clone();
            // A panic in there is a warning less.
            let _ = tokio::task::spawn_blocking(move || remember_room(&state, Some(&room))).await;
        }
    }
}

/// Opens this room the next time.
pub fn remember_room(state: &Path, room: Option<&OwnedRoomId>) {
    let Some(room) = room else { return };
    if let Err(error) = private::write(&state.join("open-room"), room.as_bytes()) {
        tracing::warn!(%error, "the open room could not be remembered");
    }
}
