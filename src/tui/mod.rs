//! The terminal half: keys in, cells out.
//!
//! Names `client::{view, command, update}` and nothing else of the program. A message changes the model through the pure
//! `update`, which says what is to be done; the loop in `run` does it, and draws when something has changed.

pub mod action;
mod canvas;
mod clock;
mod composer;
mod effect;
mod emoji;
mod files;
mod form;
mod html;
mod input;
pub mod keymap;
pub mod keys;
mod layers;
mod line_input;
mod model;
mod msg;
mod notify;
mod run;
pub mod sample;
mod screens;
pub mod slash;
pub mod svg;
mod terminal;
mod text;
pub mod theme;
mod timeline_view;
mod update;
mod widgets;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use ratatui::{buffer::Buffer, layout::Rect};
use ruma::OwnedRoomId;

pub use effect::Effect;
pub use model::{Model, Notifications};
pub use msg::Msg;
pub use update::update;

use crate::{
    base::{Clock, Shutdown, SystemClock, Zone},
    client::update::Link,
};
use keymap::Keymap;
use theme::{ColourDepth, Theme};

/// What the screen begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// There is no profile: ask how to begin.
    Welcome,
    /// Rooms and messages.
    Main,
}

/// How the screen runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it begins with.
    pub start: Start,
    /// What stands in the forms of the welcome screen.
    pub forms: Option<Forms>,
    /// Keys.
    pub keymap: Keymap,
    /// Colours, as loaded; made fit for `colour` here.
    pub theme: Theme,
    /// Colours that the terminal can show: `ColourDepth::detect`.
    pub colour: ColourDepth,
    /// Local time.
    pub zone: Zone,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What to do about messages that ask for attention.
    pub notifications: Notifications,
    /// Use the mouse; the terminal's own selection then needs shift.
    pub mouse: bool,
    /// A room to open as soon as the list has it: the one that was open last.
    pub open_room: Option<OwnedRoomId>,
    /// Where the user's own themes are.
    pub theme_dir: Option<PathBuf>,
    /// The user's own keymap, laid over a preset that is chosen with `/keymap`.
    pub keymap_file: Option<PathBuf>,
    /// A private directory for long pastes on their way.
    pub paste_dir: PathBuf,
}

impl Options {
    /// Options for a keymap and a theme; everything else as it is without configuration.
    #[must_use]
    pub fn new(keymap: Keymap, theme: Theme, paste_dir: PathBuf) -> Self {
        Self {
            start: Start::Main,
            forms: None,
            keymap,
            theme,
            colour: ColourDepth::detect(|name| std::env::var(name).ok()),
            zone: Zone::UTC,
            clock: Arc::new(SystemClock),
            notifications: Notifications::Osc,
            mouse: false,
            open_room: None,
            theme_dir: None,
            keymap_file: None,
            paste_dir,
        }
    }
}

/// How the screen was left.
#[derive(Debug, Default)]
pub struct Finished {
    /// The room that was open.
    pub open_room: Option<OwnedRoomId>,
    /// What stood in the forms of the welcome screen, if that was left.
    pub forms: Option<Forms>,
}

/// What was typed on the welcome screen, for the next one: whoever looks around in between has lost nothing.
#[derive(Debug, Clone)]
pub struct Forms(model::Welcome);

/// Why the screen could not run.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// The terminal cannot be used, or has gone.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[source] std::io::Error),
}

/// Enters the terminal, runs until quit or shutdown, and always gives the terminal back.
///
/// # Errors
/// When standard input and output are no terminal, or it stops taking bytes.
pub async fn run(link: Link, options: Options, shutdown: Shutdown) -> Result<Finished, TuiError> {
    run::run(link, options, shutdown).await
}

/// Draws a model into cells of its own, without a terminal: for pictures and measurements. Gives the cells and the cursor.
pub fn render(model: &mut Model, width: u16, height: u16) -> (Buffer, Option<(u16, u16)>) {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    let cursor = screens::draw(model, area, &mut buffer);
    (buffer, cursor)
}
