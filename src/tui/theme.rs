//! Themes: scopes, palette, inheritance, and what is left of them on a terminal with fewer colours.
//!
//! A theme never carries meaning alone: the widgets put a mark or a word wherever a colour says something.

use std::path::{Path, PathBuf};

use ratatui::style::{Color, Modifier, Style};
use toml::{Spanned, de::DeTable, de::DeValue};

/// Colours that the terminal can show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColourDepth {
    /// 24 bits.
    #[default]
    TrueColour,
    /// The 256-colour palette.
    Ansi256,
    /// The sixteen named colours.
    Ansi16,
    /// No colour at all (`NO_COLOR`); bold, underline and reverse remain.
    None,
}

impl ColourDepth {
    /// What the environment says: `NO_COLOR`, `COLORTERM`, `TERM`.
    #[must_use]
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name| variable(name).unwrap_or_default();
        let (term, colorterm) = (value("TERM"), value("COLORTERM"));
        // Terminals that have none, by the names that terminfo gives them.
        let monochrome =
            ["dumb", "vt52", "vt100", "vt102", "vt220", "vt320", "linux-m"].contains(&term.as_str()) || term.ends_with("-mono");
        if !value("NO_COLOR").is_empty() || monochrome {
            Self::None
        } else if ["truecolor", "24bit"].contains(&colorterm.as_str()) || term.ends_with("-direct") {
            Self::TrueColour
        } else if term.contains("256color") {
            Self::Ansi256
        } else {
            Self::Ansi16
        }
    }
}

macro_rules! scopes {
    ($($variant:ident $name:literal $description:literal,)*) => {
        /// What a style is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Scope { $(#[doc = $description] $variant,)* }

        /// Every scope: its name in a theme file and what it colours.
        pub const SCOPES: &[(Scope, &str, &str)] = &[$((Scope::$variant, $name, $description),)*];
    };
}

scopes! {
    Text "text" "Ordinary text.",
    Dim "dim" "Text of less weight: times, hints, topics.",
    Accent "accent" "What stands out without alarm.",
    Border "border" "Lines between panes.",
    BorderFocus "border.focus" "The line of the pane that has the keys.",
    Title "title" "Titles of panes and dialogs.",
    Selected "selected" "The selected row.",
    SelectedIdle "selected.idle" "The selected row of a pane that does not have the keys.",
    RoomUnread "room.unread" "Rooms with unread messages.",
    RoomMuted "room.muted" "Rooms that push rules silence.",
    Invite "invite" "Invitations.",
    Badge "badge" "Unread counts.",
    BadgeMention "badge.mention" "Mention counts.",
    Time "time" "Times of messages.",
    Day "day" "Day dividers.",
    Marker "marker" "The line above unread messages.",
    State "state" "State changes.",
    Mention "mention" "Messages that mention us.",
    Own "own" "Our own name.",
    Quote "quote" "Quoted text and reply previews.",
    Code "code" "Code.",
    Link "link" "Links.",
    Spoiler "spoiler" "Hidden spoilers.",
    Heading "heading" "Headings in messages.",
    Reaction "reaction" "Reactions.",
    ReactionMine "reaction.mine" "Reactions that we gave.",
    Receipt "receipt" "Who has read up to here.",
    Pending "pending" "Messages on their way.",
    Ok "ok" "What went well.",
    Warning "warning" "What needs attention soon.",
    Error "error" "What went wrong.",
    Info "info" "Notices.",
    Status "status" "The status bar.",
    StatusWarning "status.warning" "Trouble in the status bar.",
    Prompt "prompt" "The composer's prompt.",
    Placeholder "placeholder" "Hints in empty fields.",
    Field "field" "Fields of a form.",
    Key "key" "Keys in help and hints.",
    Match "match" "Matched letters in a search.",
    Dialog "dialog" "The ground of dialogs.",
}

/// Why a theme could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ThemeError {
    /// No such theme.
    #[error("there is no theme named {name:?}; there are {}{}", .known.join(", "), .nearest.as_ref().map(|n| format!(". Did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is wrong somewhere.
    #[error("{file}:{line}: {message}{}", .nearest.as_ref().map(|n| format!(". Did you mean {n:?}?")).unwrap_or_default())]
    Invalid {
        /// Which file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// The nearest valid word.
        nearest: Option<String>,
    },
    /// Themes inherit in a circle, or too deep.
    #[error("theme {0:?} inherits more than eight themes deep; does it inherit itself?")]
    TooDeep(String),
}

/// Styles for every scope, fit for one terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    name: String,
    styles: Vec<Style>,
    nicks: Vec<Color>,
    depth: ColourDepth,
}

/// Themes that are part of the program.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("ansi16", include_str!("../../themes/ansi16.toml")),
];

impl Theme {
    /// Loads a theme by name: from `user_dir` where `NAME.toml` is there, else an embedded one.
    ///
    /// # Errors
    /// When there is no such theme, it cannot be read, or a line of it is wrong.
    pub fn load(name: &str, user_dir: Option<&Path>) -> Result<Self, ThemeError> {
        let mut theme =
            Self { name: name.to_owned(), styles: vec![Style::default(); SCOPES.len()], nicks: Vec::new(), depth: ColourDepth::TrueColour };
        read::apply(&mut theme, name, user_dir, 0)?;
        Ok(theme)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The style of a scope.
    #[must_use]
    pub fn style(&self, scope: Scope) -> Style {
        self.styles.get(scope as usize).copied().unwrap_or_default()
    }

    /// A colour that stays with a person: the same user ID has it in every room and every run.
    #[must_use]
    pub fn nick(&self, user_id: &str) -> Style {
        // FNV-1a: stable over versions of the compiler, unlike the standard hasher.
        let hash = user_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let count = u64::try_from(self.nicks.len()).unwrap_or(0);
        let style = Style::new().add_modifier(Modifier::BOLD);
        match hash.checked_rem(count).and_then(|index| self.nicks.get(usize::try_from(index).unwrap_or(0))) {
            Some(colour) => style.fg(*colour),
            None => style,
        }
    }

    /// The same theme for a terminal with so many colours.
    #[must_use]
    pub fn for_depth(mut self, depth: ColourDepth) -> Self {
        for style in &mut self.styles {
            *style = depth::style(*style, depth);
        }
        if depth == ColourDepth::None {
            self.nicks.clear();
        } else {
            for colour in &mut self.nicks {
                *colour = depth::colour(*colour, depth);
            }
        }
        self.depth = depth;
        self
    }

    /// The depth that it was made for.
    #[must_use]
    pub fn depth(&self) -> ColourDepth {
        self.depth
    }
}

mod read {
    //! Reading theme files.

    use super::*;

    fn source(name: &str, user_dir: Option<&Path>) -> Result<(String, String), ThemeError> {
        if let Some(dir) = user_dir
            // A theme's name is one file name: nothing outside the directory is read.
            && Path::new(name).file_name().is_some_and(|file| file == name)
        {
            let file = dir.join(format!("{name}.toml"));
            match std::fs::read_to_string(&file) {
                Ok(text) => return Ok((file.display().to_string(), text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ThemeError::Read { file, source }),
            }
        }
        let known: Vec<String> = EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        EMBEDDED
            .iter()
            .find(|(embedded, _)| *embedded == name)
            .map(|(_, text)| (format!("themes/{name}.toml"), (*text).to_owned()))
            .ok_or_else(|| ThemeError::Unknown { name: name.to_owned(), nearest: nearest(name, known.iter().map(String::as_str)), known })
    }

    struct File<'a> {
        name: &'a str,
        text: &'a str,
        palette: Vec<(String, Color)>,
    }

    impl File<'_> {
        fn wrong(&self, span: &std::ops::Range<usize>, message: impl Into<String>, nearest: Option<String>) -> ThemeError {
            ThemeError::Invalid { file: self.name.to_owned(), line: line_of(self.text, span.start), message: message.into(), nearest }
        }

        fn colour(&self, value: &Spanned<DeValue<'_>>) -> Result<Color, ThemeError> {
            let span = value.span();
            let Some(text) = value.get_ref().as_str() else {
                return Err(self.wrong(&span, format!("a colour is a string, not {}", value.get_ref().type_str()), None));
            };
            if let Some((_, colour)) = self.palette.iter().find(|(name, _)| name == text) {
                return Ok(*colour);
            }
            if text == "default" {
                return Ok(Color::Reset);
            }
            text.parse().map_err(|_| {
                self.wrong(
                    &span,
                    format!("{text:?} is neither a colour (\"#rrggbb\", \"red\", \"default\") nor in the palette"),
                    nearest(text, self.palette.iter().map(|(name, _)| name.as_str())),
                )
            })
        }

        fn style(&self, value: &Spanned<DeValue<'_>>) -> Result<Style, ThemeError> {
            let Some(table) = value.get_ref().as_table() else { return Ok(Style::new().fg(self.colour(value)?)) };
            let mut style = Style::new();
            for (key, value) in table {
                match key.get_ref().as_ref() {
                    "fg" => style = style.fg(self.colour(value)?),
                    "bg" => style = style.bg(self.colour(value)?),
                    "modifiers" => {
                        let wrong = || self.wrong(&value.span(), "modifiers is a list of strings", None);
                        for item in value.get_ref().as_array().ok_or_else(wrong)? {
                            style = style.add_modifier(self.modifier(item)?);
                        }
                    }
                    other => {
                        let near = nearest(other, ["fg", "bg", "modifiers"].into_iter());
                        return Err(self.wrong(&key.span(), format!("unknown key {other:?} in a style"), near));
                    }
                }
            }
            Ok(style)
        }

        fn modifier(&self, value: &Spanned<DeValue<'_>>) -> Result<Modifier, ThemeError> {
            const NAMES: [(&str, Modifier); 6] = [
                ("bold", Modifier::BOLD),
                ("dim", Modifier::DIM),
                ("italic", Modifier::ITALIC),
                ("underlined", Modifier::UNDERLINED),
                ("reversed", Modifier::REVERSED),
                ("crossed_out", Modifier::CROSSED_OUT),
            ];
            let name = value.get_ref().as_str().unwrap_or_default();
            NAMES.iter().find(|(known, _)| *known == name).map(|(_, modifier)| *modifier).ok_or_else(|| {
                self.wrong(&value.span(), format!("unknown modifier {name:?}"), nearest(name, NAMES.iter().map(|(known, _)| *known)))
            })
        }
    }

    pub(super) fn apply(theme: &mut Theme, name: &str, user_dir: Option<&Path>, depth: u8) -> Result<(), ThemeError> {
        if depth > 8 {
            return Err(ThemeError::TooDeep(name.to_owned()));
        }
        let (file, text) = source(name, user_dir)?;
        let parsed = DeTable::parse(&text).map_err(|error| ThemeError::Invalid {
            file: file.clone(),
            line: line_of(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
            nearest: None,
        })?;
        let mut reader = File { name: &file, text: &text, palette: Vec::new() };
        let table = parsed.get_ref();
        if let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "inherits") {
            let parent = value.get_ref().as_str().ok_or_else(|| reader.wrong(&value.span(), "inherits is the name of a theme", None))?;
            // A user's theme may refine the embedded one of the same name.
            let dir = if parent == name { None } else { user_dir };
            apply(theme, parent, dir, depth + 1)?;
        }
        if let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "palette") {
            let entries = value.get_ref().as_table().ok_or_else(|| reader.wrong(&value.span(), "palette is a table of colours", None))?;
            for (key, value) in entries {
                let colour = reader.colour(value)?;
                reader.palette.push((key.get_ref().to_string(), colour));
            }
        }
        for (key, value) in table {
            scope(theme, &reader, key, value)?;
        }
        Ok(())
    }

    fn scope(
        theme: &mut Theme,
        reader: &File<'_>,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ThemeError> {
        match key.get_ref().as_ref() {
            "inherits" | "palette" => {}
            "nicks" => {
                let list = value.get_ref().as_array().ok_or_else(|| reader.wrong(&value.span(), "nicks is a list of colours", None))?;
                theme.nicks = list.iter().map(|item| reader.colour(item)).collect::<Result<_, _>>()?;
            }
            name => {
                let Some((scope, _, _)) = SCOPES.iter().find(|(_, known, _)| *known == name) else {
                    let near = nearest(name, SCOPES.iter().map(|(_, known, _)| *known).chain(["inherits", "palette", "nicks"]));
                    return Err(reader.wrong(&key.span(), format!("unknown scope {name:?}"), near));
                };
                let style = reader.style(value)?;
                if let Some(slot) = theme.styles.get_mut(*scope as usize) {
                    *slot = style;
                }
            }
        }
        Ok(())
    }
}

mod depth {
    //! Fewer colours.

    use super::*;

    pub(super) fn style(mut style: Style, depth: ColourDepth) -> Style {
        if depth == ColourDepth::None {
            // What only a background set apart is now set apart by reversing it.
            if style.bg.is_some_and(|bg| bg != Color::Reset) {
                style = style.add_modifier(Modifier::REVERSED);
            }
            style.fg = None;
            style.bg = None;
            return style;
        }
        style.fg = style.fg.map(|c| colour(c, depth));
        style.bg = style.bg.map(|c| colour(c, depth));
        style
    }

    /// The sixteen colours as most terminals show them.
    const ANSI16: [(Color, (u8, u8, u8)); 16] = [
        (Color::Black, (0, 0, 0)),
        (Color::Red, (170, 0, 0)),
        (Color::Green, (0, 170, 0)),
        (Color::Yellow, (170, 120, 0)),
        (Color::Blue, (40, 60, 190)),
        (Color::Magenta, (170, 0, 170)),
        (Color::Cyan, (0, 170, 170)),
        (Color::Gray, (170, 170, 170)),
        (Color::DarkGray, (85, 85, 85)),
        (Color::LightRed, (255, 85, 85)),
        (Color::LightGreen, (85, 255, 85)),
        (Color::LightYellow, (255, 255, 85)),
        (Color::LightBlue, (95, 135, 255)),
        (Color::LightMagenta, (255, 85, 255)),
        (Color::LightCyan, (85, 255, 255)),
        (Color::White, (255, 255, 255)),
    ];

    pub(super) fn colour(colour: Color, depth: ColourDepth) -> Color {
        let Color::Rgb(r, g, b) = colour else { return colour };
        match depth {
            ColourDepth::TrueColour => colour,
            ColourDepth::Ansi256 => Color::Indexed(indexed(r, g, b)),
            ColourDepth::Ansi16 | ColourDepth::None => {
                ANSI16.iter().min_by_key(|(_, rgb)| distance((r, g, b), *rgb)).map_or(Color::Reset, |(named, _)| *named)
            }
        }
    }

    fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> u32 {
        let square = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
        3 * square(a.0, b.0) + 4 * square(a.1, b.1) + 2 * square(a.2, b.2)
    }

    /// The nearest of the 6x6x6 cube and the grey ramp.
    fn indexed(r: u8, g: u8, b: u8) -> u8 {
        const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        let nearest = |v: u8| LEVELS.iter().zip(0_u8..).min_by_key(|(level, _)| level.abs_diff(v)).map_or((0, 0), |(level, i)| (i, *level));
        let ((ri, rl), (gi, gl), (bi, bl)) = (nearest(r), nearest(g), nearest(b));
        let grey_index = ((u16::from(r) + u16::from(g) + u16::from(b)) / 3).saturating_sub(3) / 10;
        let grey_index = u8::try_from(grey_index.min(23)).unwrap_or(23);
        let grey = 8 + 10 * grey_index;
        if distance((r, g, b), (grey, grey, grey)) < distance((r, g, b), (rl, gl, bl)) {
            232 + grey_index
        } else {
            16 + 36 * ri + 6 * gi + bi
        }
    }
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The word most like this one, where any is like it.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_theme_loads_and_names_every_scope() {
        for (name, text) in EMBEDDED {
            let theme = Theme::load(name, None).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!theme.nicks.is_empty(), "{name} colours nicks");
            if !text.contains("inherits") {
                for (_, scope, _) in SCOPES {
                    let key = if scope.contains('.') { format!("\"{scope}\" =") } else { format!("{scope} =") };
                    assert!(text.contains(&key), "{name} has no {scope}");
                }
            }
        }
    }

    #[test]
    fn unknown_theme_names_the_nearest() {
        let error = Theme::load("drak", None).expect_err("no such theme").to_string();
        assert!(error.contains("dark, light, ansi16") && error.contains("Did you mean \"dark\"?"), "{error}");
    }

    #[test]
    fn a_wrong_line_is_named_with_the_nearest_valid_word() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("mine.toml"), "inherits = \"dark\"\n\nquoot = \"red\"\n")?;
        let error = Theme::load("mine", Some(dir.path())).expect_err("quoot is no scope").to_string();
        assert!(error.contains("mine.toml:3:") && error.contains("Did you mean \"quote\"?"), "{error}");
        std::fs::write(dir.path().join("mine.toml"), "inherits = \"dark\"\nquote = \"reddd-ish\"\n")?;
        let error = Theme::load("mine", Some(dir.path())).expect_err("no colour").to_string();
        assert!(error.contains("mine.toml:2:"), "{error}");
        std::fs::write(dir.path().join("mine.toml"), "inherits = \"mine2\"\n")?;
        std::fs::write(dir.path().join("mine2.toml"), "inherits = \"mine\"\n")?;
        assert!(matches!(Theme::load("mine", Some(dir.path())), Err(ThemeError::TooDeep(_))));
        Ok(())
    }

    #[test]
    fn a_user_theme_may_refine_the_embedded_one_of_its_name() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("dark.toml"), "inherits = \"dark\"\n[palette]\nmud = \"#123456\"\n")?;
        std::fs::write(dir.path().join("dark.toml"), "inherits = \"dark\"\nquote = \"mud\"\n[palette]\nmud = \"#123456\"\n")?;
        let theme = Theme::load("dark", Some(dir.path()))?;
        assert_eq!(theme.style(Scope::Quote).fg, Some(Color::Rgb(0x12, 0x34, 0x56)));
        assert_eq!(theme.style(Scope::Error), Theme::load("dark", None)?.style(Scope::Error));
        Ok(())
    }

    #[test]
    fn without_colour_no_style_has_one_and_selection_is_reversed() -> Result<(), ThemeError> {
        for (name, _) in EMBEDDED {
            let theme = Theme::load(name, None)?.for_depth(ColourDepth::None);
            for (scope, scope_name, _) in SCOPES {
                let style = theme.style(*scope);
                assert_eq!((style.fg, style.bg), (None, None), "{name}: {scope_name}");
            }
            assert!(theme.style(Scope::Selected).add_modifier.contains(Modifier::REVERSED));
            assert_eq!(theme.nick("@ann:home").fg, None);
        }
        Ok(())
    }

    #[test]
    fn fewer_colours_come_from_the_palette_they_name() -> Result<(), ThemeError> {
        let theme = Theme::load("dark", None)?;
        for (scope, _, _) in SCOPES {
            let style = theme.clone().for_depth(ColourDepth::Ansi256).style(*scope);
            assert!(!matches!(style.fg, Some(Color::Rgb(..))) && !matches!(style.bg, Some(Color::Rgb(..))));
            let style = theme.clone().for_depth(ColourDepth::Ansi16).style(*scope);
            assert!(!matches!(style.fg, Some(Color::Rgb(..) | Color::Indexed(_))));
        }
        Ok(())
    }

    #[test]
    fn terminals_without_colour_get_none() {
        let depth = |term: &str| ColourDepth::detect(|name| (name == "TERM").then(|| term.to_owned()));
        assert!(["dumb", "vt100", "vt220", "xterm-mono"].iter().all(|term| depth(term) == ColourDepth::None));
        assert_eq!((depth("linux"), depth("screen-256color")), (ColourDepth::Ansi16, ColourDepth::Ansi256));
    }

    #[test]
    fn nick_colours_are_stable() -> Result<(), ThemeError> {
        let theme = Theme::load("dark", None)?;
        assert_eq!(theme.nick("@ann:home"), theme.nick("@ann:home"));
        let distinct: std::collections::HashSet<_> = (0..40).map(|i| theme.nick(&format!("@u{i}:home")).fg).collect();
        assert!(distinct.len() > 5, "forty people share {} colours", distinct.len());
        Ok(())
    }
}
