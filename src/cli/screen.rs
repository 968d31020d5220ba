//! The screen: what `homeroom` without a command opens.

use time::UtcOffset;

use super::{
    conductor::Conductor,
    context::Context,
    exit::{Exit, Failure},
    profile::{ClientLock, Profile},
};
use crate::{
    base::{
        Shutdown, Tasks,
        signals::{HangUp, shut_down_on_signal},
    },
    client::update,
    config::types::Colour,
    tui::{self, Options, Start, keymap::Keymap, theme::ColourDepth, theme::Theme},
};

/// How long what runs beside the screen may take to end.
const STOP: std::time::Duration = std::time::Duration::from_secs(5);

/// Opens the screen of the profile and runs until it is left.
///
/// # Errors
/// When the profile is open elsewhere, or a part of the program fails.
pub async fn run(context: &Context, offset: UtcOffset) -> Result<(), Failure> {
    let options = options(context, offset)?;
    let _watch = context.watch("screen", true)?;
    let profile = Profile::load(context)?;
    let _lock = ClientLock::take(&context.dirs, "the screen")?;
    let (link, port) = update::link();
    play(context, profile, options, link, port, &Tasks::new(Shutdown::new())).await
}

/// What the settings make of the screen.
///
/// # Errors
/// When keymap or theme are wrong.
pub fn options(context: &Context, offset: UtcOffset) -> Result<Options, Failure> {
    let ui = &context.config().ui;
    let keymap_file = context.dirs.config.join("keymap.toml");
    let user = match std::fs::read_to_string(&keymap_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file(&keymap_file, &error)),
    };
    let keymap = Keymap::load(&ui.keymap, user.as_deref().map(|text| (keymap_file.as_path(), text))).map_err(Failure::usage)?;
    let theme_dir = context.dirs.config.join("themes");
    let theme = Theme::load(&ui.theme, Some(&theme_dir)).map_err(Failure::usage)?;
    let mut options = Options::new(keymap, theme, context.dirs.state.clone());
    options.utc_offset = offset;
    options.bell = ui.bell;
    options.mouse = ui.mouse;
    options.theme_dir = Some(theme_dir);
    options.keymap_file = Some(keymap_file);
    let _ = Colour::Auto;
    options.colour = ColourDepth::detect(|name| std::env::var(name).ok());
    Ok(options)
}

/// Runs screen and conductor until one of them ends.
///
/// # Errors
/// When a part of the program fails.
pub async fn play(
    context: &Context,
    profile: Profile,
    mut options: Options,
    link: update::Link,
    port: update::Port,
    tasks: &Tasks,
) -> Result<(), Failure> {
    let shutdown = tasks.shutdown().clone();
    let signals = shut_down_on_signal(tasks, HangUp::Ends);
    signals.map_err(|error| Failure::new(Exit::Failure, format!("the signals cannot be taken over: {error}")))?;
    if options.start == Start::Main && profile.user_id().is_none() && profile.home().is_none() {
        options.start = Start::Welcome;
    }
    let conductor = Conductor::new(context.clone(), profile, port, shutdown.clone());
    let screen = tui::run(link, options, shutdown.clone());
    let (conducted, shown) = tokio::join!(conductor.run(), async {
        let shown = screen.await;
        shutdown.trigger();
        shown
    });
    tasks.finish(STOP).await;
    shown.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    conducted
}
