//! Keymaps: rows of `on`, `run`, `desc` under the contexts that they hold in.
//!
//! Presets are part of the program; a user's file adds rows, replaces those with the same keys and context, and takes keys
//! away with `run = "none"`. Help is made from the rows, so it cannot be wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable, de::DeValue};

pub use super::action::{ACTIONS, Action, ActionInfo};
use super::{
    keys::{self, Key},
    theme::{line_of, nearest},
};

macro_rules! contexts {
    ($($variant:ident $name:literal $description:literal,)*) => {
        /// Where a row holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Context { $(#[doc = $description] $variant,)* }

        /// Every context: its name in a keymap and what it is.
        pub const CONTEXTS: &[(Context, &str, &str)] = &[$((Context::$variant, $name, $description),)*];
    };
}

contexts! {
    Global "global" "Everywhere, unless the pane with the keys uses them itself",
    Rooms "rooms" "The room list",
    Timeline "timeline" "The timeline, selecting messages",
    Composer "composer" "The composer",
    Empty "empty" "The composer while it is empty",
    Dialog "dialog" "Dialogs, forms and pickers",
}

impl Context {
    /// Its name in a keymap.
    #[must_use]
    pub fn name(self) -> &'static str {
        CONTEXTS.iter().find(|(context, ..)| *context == self).map_or("", |(_, name, _)| name)
    }
}

/// Keymaps that are part of the program.
pub const PRESETS: &[(&str, &str)] = &[
    ("default", include_str!("../../keymaps/default.toml")),
    ("vim", include_str!("../../keymaps/vim.toml")),
    ("emacs", include_str!("../../keymaps/emacs.toml")),
];

/// The one key of a keymap that is no context.
const MODAL: &str = "modal";

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it holds.
    pub context: Context,
    /// The keys, one after the other.
    pub on: Vec<Key>,
    /// What they do.
    pub run: Action,
    /// The user's own words for it.
    pub desc: Option<String>,
    /// From the user's file.
    pub user: bool,
}

impl Row {
    /// What to show for it in help.
    #[must_use]
    pub fn description(&self) -> &str {
        self.desc.as_deref().unwrap_or(self.run.info().description)
    }
}

/// A keymap that is ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    name: String,
    rows: Vec<Row>,
    modal: bool,
}

/// What keys pressed so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Run this.
    Run(Action),
    /// The start of a sequence.
    Pending,
    /// Nothing is bound to it.
    Unbound,
}

/// Why a keymap could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeymapError {
    /// Which file.
    pub file: PathBuf,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The word that is wrong.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// The nearest valid word.
    pub nearest: Option<String>,
}

impl fmt::Display for KeymapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)?;
        self.nearest.as_ref().map_or(Ok(()), |nearest| write!(f, ". Did you mean {nearest:?}?"))
    }
}

impl std::error::Error for KeymapError {}

impl Keymap {
    /// Loads a preset and lays the user's rows (path for messages, text) over it.
    ///
    /// # Errors
    /// When there is no such preset, or a row is wrong: file, line, word and the nearest valid one.
    pub fn load(preset: &str, user: Option<(&Path, &str)>) -> Result<Self, KeymapError> {
        let Some((_, text)) = PRESETS.iter().find(|(name, _)| *name == preset) else {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            return Err(KeymapError {
                file: PathBuf::from(preset),
                line: 0,
                key: preset.to_owned(),
                message: format!("there is no keymap named {preset:?}; there are {}", names.join(", ")),
                nearest: nearest(preset, names.into_iter()),
            });
        };
        let mut keymap = Self { name: preset.to_owned(), rows: Vec::new(), modal: false };
        // Every preset stands on the default one, so that no action is out of reach.
        if preset != "default"
            && let Some((_, base)) = PRESETS.first()
        {
            keymap.lay(&Reader { file: Path::new("keymaps/default.toml"), text: base }, false)?;
        }
        keymap.lay(&Reader { file: Path::new(&format!("keymaps/{preset}.toml")), text }, false)?;
        if let Some((file, text)) = user {
            keymap.lay(&Reader { file, text }, true)?;
        }
        Ok(keymap)
    }

    /// The preset's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True where typing is a mode of its own: a room opens with the keys on its timeline, and nothing but the user's wish
    /// takes them to the composer. `modal = true` in a keymap.
    #[must_use]
    pub fn is_modal(&self) -> bool {
        self.modal
    }

    /// The rows, presets' first.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What these keys do where the given contexts hold, the nearest first.
    #[must_use]
    pub fn find(&self, contexts: &[Context], pressed: &[Key]) -> Lookup {
        for context in contexts {
            let mut pending = false;
            for row in self.rows.iter().filter(|row| row.context == *context) {
                if row.on == pressed {
                    return Lookup::Run(row.run);
                }
                pending |= row.on.len() > pressed.len() && row.on.starts_with(pressed);
            }
            if pending {
                return Lookup::Pending;
            }
        }
        Lookup::Unbound
    }

    /// The keys of an action, as people read them: the shortest first, the given contexts only.
    #[must_use]
    pub fn keys_of(&self, action: Action, contexts: &[Context]) -> Option<String> {
        self.rows
            .iter()
            .filter(|row| row.run == action && contexts.contains(&row.context))
            .min_by_key(|row| row.on.len())
            .map(|row| keys::show(&row.on))
    }

    fn lay(&mut self, reader: &Reader<'_>, user: bool) -> Result<(), KeymapError> {
        let (rows, modal) = reader.rows()?;
        self.modal = modal.unwrap_or(self.modal);
        for (context, on, run, desc) in rows {
            self.rows.retain(|row| row.context != context || row.on != on);
            if let Some(run) = run {
                self.rows.push(Row { context, on, run, desc, user });
            }
        }
        Ok(())
    }
}

/// What one row says; without an action it takes the keys away.
type Parsed = (Context, Vec<Key>, Option<Action>, Option<String>);

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, offset: usize, key: &str, message: impl Into<String>, nearest: Option<String>) -> KeymapError {
        KeymapError { file: self.file.to_owned(), line: line_of(self.text, offset), key: key.to_owned(), message: message.into(), nearest }
    }

    fn rows(&self) -> Result<(Vec<Parsed>, Option<bool>), KeymapError> {
        let table =
            DeTable::parse(self.text).map_err(|error| self.wrong(error.span().map_or(0, |span| span.start), "", error.message(), None))?;
        let mut rows = Vec::new();
        let mut modal = None;
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            if name == MODAL {
                let wrong = || self.wrong(value.span().start, name, format!("{MODAL} is true or false"), None);
                modal = Some(value.get_ref().as_bool().ok_or_else(wrong)?);
                continue;
            }
            let Some((context, ..)) = CONTEXTS.iter().find(|(_, known, _)| *known == name) else {
                let near = nearest(name, CONTEXTS.iter().map(|(_, known, _)| *known).chain([MODAL]));
                return Err(self.wrong(key.span().start, name, format!("unknown context {name:?}"), near));
            };
            let shape = || self.wrong(value.span().start, name, format!("{name} is a list of rows {{ on = ..., run = ... }}"), None);
            for row in value.get_ref().as_array().ok_or_else(shape)? {
                let Some(fields) = row.get_ref().as_table() else { return Err(shape()) };
                self.row(*context, row.span().start, fields, &mut rows)?;
            }
        }
        Ok((rows, modal))
    }

    fn row(&self, context: Context, offset: usize, fields: &DeTable<'_>, rows: &mut Vec<Parsed>) -> Result<(), KeymapError> {
        let (mut on, mut run, mut desc) = (Vec::new(), None, None);
        for (key, value) in fields {
            match key.get_ref().as_ref() {
                "on" => match value.get_ref().as_array() {
                    Some(several) => {
                        for one in several {
                            on.push(self.keys(one)?);
                        }
                    }
                    None => on.push(self.keys(value)?),
                },
                "run" => run = Some(self.action(value)?),
                "desc" => desc = Some(self.string(value)?.to_owned()),
                other => {
                    let near = nearest(other, ["on", "run", "desc"].into_iter());
                    return Err(self.wrong(key.span().start, other, format!("unknown key {other:?} in a row"), near));
                }
            }
        }
        let run = run.ok_or_else(|| self.wrong(offset, "run", "a row needs `run`", None))?;
        if on.is_empty() {
            return Err(self.wrong(offset, "on", "a row needs `on`", None));
        }
        rows.extend(on.into_iter().map(|on| (context, on, run, desc.clone())));
        Ok(())
    }

    fn string<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, KeymapError> {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong(value.span().start, "", format!("a string is needed here, not {}", value.get_ref().type_str()), None))
    }

    fn keys(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Key>, KeymapError> {
        let text = self.string(value)?;
        keys::sequence(text).map_err(|error| self.wrong(value.span().start, text, error.to_string(), error.nearest))
    }

    fn action(&self, value: &Spanned<DeValue<'_>>) -> Result<Option<Action>, KeymapError> {
        let name = self.string(value)?;
        if name == "none" {
            return Ok(None);
        }
        Action::named(name).map(Some).ok_or_else(|| {
            let near = nearest(name, ACTIONS.iter().map(|info| info.name));
            self.wrong(value.span().start, name, format!("there is no action {name:?}"), near)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(text: &str) -> Result<Keymap, KeymapError> {
        Keymap::load("default", Some((Path::new("/home/ann/keymap.toml"), text)))
    }

    #[test]
    fn every_preset_loads_and_reaches_every_action() {
        for (name, _) in PRESETS {
            let keymap = Keymap::load(name, None).unwrap_or_else(|error| panic!("{error}"));
            for needed in [Action::Quit, Action::Help, Action::Palette, Action::SwitchRoom, Action::Send, Action::Cancel, Action::Accept] {
                assert!(keymap.rows().iter().any(|row| row.run == needed), "{name} has no key for {}", needed.name());
            }
        }
    }

    #[test]
    fn no_preset_binds_keys_that_start_a_longer_sequence_of_the_same_context() {
        for (name, _) in PRESETS {
            let keymap = Keymap::load(name, None).unwrap_or_else(|error| panic!("{error}"));
            for row in keymap.rows() {
                let shadowed = keymap
                    .rows()
                    .iter()
                    .find(|other| other.context == row.context && other.on.len() > row.on.len() && other.on.starts_with(&row.on));
                assert!(shadowed.is_none(), "{name}: {} shadows {}", keys::show(&row.on), keys::show(&shadowed.unwrap_or(row).on));
            }
        }
    }

    #[test]
    fn a_users_row_replaces_and_none_takes_away() -> Result<(), Box<dyn std::error::Error>> {
        let keymap = user("global = [{ on = \"ctrl+k\", run = \"help\", desc = \"Mine\" }, { on = \"f1\", run = \"none\" }]")?;
        assert_eq!(keymap.find(&[Context::Global], &["ctrl+k".parse()?]), Lookup::Run(Action::Help));
        assert_eq!(keymap.find(&[Context::Global], &["f1".parse()?]), Lookup::Unbound);
        assert!(keymap.rows().iter().any(|row| row.user && row.description() == "Mine"));
        Ok(())
    }

    #[test]
    fn vim_is_modal_and_a_user_may_choose_otherwise() -> Result<(), Box<dyn std::error::Error>> {
        assert!(Keymap::load("vim", None)?.is_modal() && !Keymap::load("default", None)?.is_modal());
        assert!(!Keymap::load("vim", Some((Path::new("k"), "modal = false")))?.is_modal());
        assert_eq!(user("modal = 1").expect_err("no switch").line, 1);
        assert_eq!(user("modl = true").expect_err("no such key").nearest.as_deref(), Some("modal"));
        Ok(())
    }

    #[test]
    fn sequences_wait_for_their_end() -> Result<(), Box<dyn std::error::Error>> {
        let keymap = user("timeline = [{ on = \"z z\", run = \"redraw\" }]")?;
        let z: Key = "z".parse()?;
        assert_eq!(keymap.find(&[Context::Timeline, Context::Global], &[z]), Lookup::Pending);
        assert_eq!(keymap.find(&[Context::Timeline, Context::Global], &[z, z]), Lookup::Run(Action::Redraw));
        assert_eq!(keymap.find(&[Context::Composer, Context::Global], &[z]), Lookup::Unbound);
        Ok(())
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_nearest_word() {
        let cases = [
            ("\nglobal = [\n  { on = \"ctrl+k\", run = \"swich-room\" },\n]", 3, "switch-room"),
            ("timline = []", 1, "timeline"),
            ("global = [{ on = \"pagup\", run = \"help\" }]", 1, "pageup"),
            ("global = [{ onn = \"x\", run = \"help\" }]", 1, "on"),
        ];
        for (text, line, near) in cases {
            let error = user(text).expect_err(text);
            assert_eq!((error.line, error.nearest.as_deref()), (line, Some(near)), "{error}");
            assert!(error.to_string().starts_with(&format!("/home/ann/keymap.toml:{line}: ")), "{error}");
        }
        assert_eq!(user("global = [{ run = \"help\" }]").expect_err("no keys").key, "on");
        assert_eq!(user("global = [{ on = \"x\" }]").expect_err("no action").key, "run");
        assert_eq!(user("global = [\n{").expect_err("no TOML").line, 2);
        assert_eq!(Keymap::load("vi", None).expect_err("no preset").nearest.as_deref(), Some("vim"));
    }

    proptest! {
        #[test]
        fn any_text_loads_or_is_refused_in_words(text in "\\PC{0,60}") {
            if let Err(error) = user(&text) {
                prop_assert!(!error.message.is_empty());
            }
        }

        #[test]
        fn a_user_row_is_always_found(key in "[a-z0-9]", alt in proptest::bool::ANY, index in 0..ACTIONS.len(), context in 0..CONTEXTS.len()) {
            let on = if alt { format!("alt+{key}") } else { key };
            let (Some(info), Some((context, name, _))) = (ACTIONS.get(index), CONTEXTS.get(context)) else { return Ok(()) };
            let keymap = user(&format!("{name} = [{{ on = {on:?}, run = {:?} }}]", info.name)).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let key: Key = on.parse().map_err(|_| TestCaseError::fail("no key"))?;
            prop_assert_eq!(keymap.find(&[*context], &[key]), Lookup::Run(info.action));
        }
    }
}
