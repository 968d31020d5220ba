//! Files, environment and command line, merged: later sources win, and each value keeps where it came from.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    dirs::VARIABLES as DIRECTORIES,
    error::{ConfigError, Fault, Origin, nearest},
    keys::{Config, KEYS, Key, SECTIONS},
    value::Value,
};

/// Where settings are taken from, the strongest last.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// Files that may be missing, the strongest last.
    pub optional_files: Vec<PathBuf>,
    /// A file that the command line names: it stands in place of the optional ones and must be there.
    pub file: Option<PathBuf>,
    /// The environment's variables that start with `HOMEROOM_`.
    pub environment: Vec<(String, String)>,
    /// `-c section.key=value`, as written.
    pub assignments: Vec<String>,
    /// What other flags set: key, value and the flag as written.
    pub flags: Vec<(&'static str, Value, String)>,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The settings.
    pub config: Config,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    origins: HashMap<String, Origin>,
}

impl Effective {
    /// Reads and merges.
    ///
    /// # Errors
    /// Every fault of every source at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut merge =
            Merge { effective: Self { config: Config::default(), files: Vec::new(), origins: HashMap::new() }, faults: Vec::new() };
        match &sources.file {
            Some(path) => merge.file(path, true),
            None => sources.optional_files.iter().for_each(|path| merge.file(path, false)),
        }
        merge.environment(&sources.environment);
        sources.assignments.iter().for_each(|assignment| merge.assignment(assignment));
        for (key, value, flag) in &sources.flags {
            merge.set(key, value, Origin::Flag(flag.clone()));
        }
        if merge.faults.is_empty() { Ok(merge.effective) } else { Err(ConfigError(merge.faults)) }
    }

    /// Where the value of a key (`section.name`) comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every key with its value and where that comes from.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Key, Value, Origin)> {
        KEYS.iter().map(|key| (key, (key.show)(&self.config), self.origin(&key.path())))
    }
}

struct Merge {
    effective: Effective,
    faults: Vec<Fault>,
}

impl Merge {
    fn file(&mut self, path: &Path, required: bool) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if required {
                    self.faults.push(Fault::Missing(path.to_path_buf()));
                }
                return;
            }
            Err(source) => return self.faults.push(Fault::Unreadable { path: path.to_path_buf(), source }),
        };
        self.effective.files.push(path.to_path_buf());
        let (table, errors) = DeTable::parse_recoverable(&text);
        let at = |offset: usize| Origin::File { path: path.to_path_buf(), line: line_of(&text, offset) };
        if !errors.is_empty() {
            // What a broken file holds beyond its first fault is guesswork.
            let syntax = |error: &toml::de::Error| Fault::Syntax {
                origin: at(error.span().map_or(0, |span| span.start)),
                message: error.message().to_owned(),
            };
            self.faults.extend(errors.first().map(syntax));
            return;
        }
        for (section, content) in table.get_ref() {
            let origin = at(section.span().start);
            if !SECTIONS.iter().any(|(known, _)| known == section.get_ref()) {
                self.unknown_section(section.get_ref(), origin);
                continue;
            }
            let DeValue::Table(content) = content.get_ref() else {
                let key = section.get_ref().to_string();
                let found = Value::from_toml(content.get_ref()).what();
                self.faults.push(Fault::Value { origin, key, expects: "a section in brackets".to_owned(), found, reason: None });
                continue;
            };
            for (name, value) in content {
                self.set(&format!("{}.{}", section.get_ref(), name.get_ref()), &Value::from_toml(value.get_ref()), at(name.span().start));
            }
        }
    }

    fn unknown_section(&mut self, name: &str, origin: Origin) {
        // A key without its section is the more likely slip when a key has that name.
        let key = KEYS.iter().find(|key| key.name == name).map(Key::path);
        let nearest = key.or_else(|| nearest(name, SECTIONS.iter().map(|(section, _)| *section)));
        self.faults.push(Fault::Unknown { origin, what: "section", name: name.to_owned(), nearest });
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        for key in KEYS {
            let name = key.variable();
            if let Some((_, text)) = variables.iter().find(|(variable, _)| *variable == name) {
                self.set_text(key, text, Origin::Environment(name));
            }
        }
        // What begins like a section of ours is meant for us; others may be somebody else's business.
        let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
        let sections: Vec<String> = SECTIONS.iter().map(|(section, _)| format!("HOMEROOM_{}_", section.to_uppercase())).collect();
        // Kubernetes tells every container of a service called `homeroom-node`.
        let of_a_service = |name: &str| ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.contains(end));
        let is_ours = |name: &str| {
            !of_a_service(name)
                && sections.iter().any(|section| name.starts_with(section))
                && !DIRECTORIES.iter().any(|(directory, _)| *directory == name)
        };
        for (name, _) in variables.iter().filter(|(name, _)| is_ours(name) && !known.contains(name)) {
            let nearest = nearest(name, known.iter().map(String::as_str));
            let origin = Origin::Environment(name.clone());
            self.faults.push(Fault::Unknown { origin, what: "variable", name: name.clone(), nearest });
        }
    }

    fn assignment(&mut self, assignment: &str) {
        let Some((path, text)) = assignment.split_once('=') else {
            return self.faults.push(Fault::NotAnAssignment(assignment.to_owned()));
        };
        let (path, origin) = (path.trim(), Origin::Flag(format!("-c {assignment}")));
        match KEYS.iter().find(|key| key.path() == path) {
            Some(key) => self.set_text(key, text.trim(), origin),
            None => self.unknown_key(path, origin),
        }
    }

    /// A value written without a file's syntax: TOML where it is that, otherwise the text as it stands; several between
    /// commas make a list.
    fn set_text(&mut self, key: &Key, text: &str, origin: Origin) {
        let list = || Value::List(text.split(',').map(|item| Value::Text(item.trim().to_owned())).collect());
        let parsed = DeValue::parse(text).ok().map(|value| Value::from_toml(value.get_ref()));
        let candidates = parsed.into_iter().chain([Value::Text(text.to_owned()), list()]);
        let mut scratch = self.effective.config.clone();
        for value in candidates {
            if (key.apply)(&mut scratch, &value).is_ok() {
                return self.set(&key.path(), &value, origin);
            }
        }
        self.set(&key.path(), &Value::Text(text.to_owned()), origin);
    }

    fn set(&mut self, path: &str, value: &Value, origin: Origin) {
        let Some(key) = KEYS.iter().find(|key| key.path() == path) else { return self.unknown_key(path, origin) };
        match (key.apply)(&mut self.effective.config, value) {
            Ok(()) => {
                self.effective.origins.insert(path.to_owned(), origin);
            }
            Err(reason) => {
                let found = value.what();
                self.faults.push(Fault::Value { origin, key: path.to_owned(), expects: (key.expects)(), found, reason });
            }
        }
    }

    fn unknown_key(&mut self, path: &str, origin: Origin) {
        let paths: Vec<String> = KEYS.iter().map(Key::path).collect();
        let name = path.rsplit('.').next().unwrap_or(path);
        // The right name in the wrong section is nearer than any likeness of letters.
        let nearest = KEYS.iter().find(|key| key.name == name).map(Key::path).or_else(|| nearest(path, paths.iter().map(String::as_str)));
        self.faults.push(Fault::Unknown { origin, what: "key", name: path.to_owned(), nearest });
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;
    use crate::config::types::{Registration, Size};

    fn load_text(text: &str) -> Result<Effective, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", dir.path().display());
        Effective::load(&Sources { optional_files: vec![path], ..Sources::default() })
            .map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn later_sources_win_and_say_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[ui]\ntheme = \"light\"\nmouse = true\n[node]\nmax_upload = \"1 MiB\"\n").unwrap();
        let effective = Effective::load(&Sources {
            optional_files: vec![path.clone(), dir.path().join("missing.toml")],
            environment: vec![("HOMEROOM_UI_THEME".into(), "ansi".into()), ("HOMEROOM_LOG".into(), "debug".into())],
            assignments: vec!["node.listen=127.0.0.1:1,127.0.0.1:2".into(), "ui.colour=256".into(), "log.level=warn".into()],
            flags: vec![("node.registration", Value::Text("open".into()), "--registration open".into())],
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(effective.config.ui.theme, "ansi");
        assert_eq!(effective.origin("ui.theme"), Origin::Environment("HOMEROOM_UI_THEME".into()));
        assert_eq!(effective.origin("ui.mouse"), Origin::File { path, line: 3 });
        assert_eq!(effective.config.node.max_upload, Size(1 << 20));
        assert_eq!(effective.config.node.listen.len(), 2);
        assert_eq!(effective.config.ui.colour.word(), "256");
        assert_eq!(effective.config.log.level.0, "warn");
        assert_eq!(effective.config.node.registration, Registration::Open);
        assert_eq!(effective.origin("ui.keymap"), Origin::Default);
    }

    #[test]
    fn every_fault_is_named_with_line_and_remedy() {
        let error = load_text("[ui]\nthme = \"dark\"\nmouse = \"yes\"\n\n[nod]\nx = 1\n[node]\nlisten = [\"localhost\"]\n").unwrap_err();
        assert_eq!(
            error,
            "config.toml:2: unknown key `ui.thme`; did you mean `ui.theme`?\n\
             config.toml:3: `ui.mouse` must be `true` or `false`, not the text \"yes\"\n\
             config.toml:5: unknown section `nod`; did you mean `node`?\n\
             config.toml:8: `node.listen` must be a list in brackets, each an address and a port such as \"127.0.0.1:8008\" or \
             \"[::1]:8008\", not a list: the text \"localhost\" in the list: an address and a port such as \"127.0.0.1:8008\" or \
             \"[::1]:8008\""
        );
    }

    #[test]
    fn a_key_outside_its_section_is_led_home() {
        assert_eq!(load_text("theme = \"dark\"\n").unwrap_err(), "config.toml:1: unknown section `theme`; did you mean `ui.theme`?");
        assert_eq!(
            load_text("[node]\ntheme = \"dark\"\n").unwrap_err(),
            "config.toml:2: unknown key `node.theme`; did you mean `ui.theme`?"
        );
        assert_eq!(load_text("ui = 3\n").unwrap_err(), "config.toml:1: `ui` must be a section in brackets, not the number 3");
    }

    #[test]
    fn a_misspelt_variable_is_not_passed_over() {
        let load = |name: &str| {
            let environment = vec![(name.to_owned(), "light".to_owned())];
            Effective::load(&Sources { environment, ..Sources::default() }).map(drop).map_err(|error| error.to_string())
        };
        let error = load("HOMEROOM_UI_THEM").unwrap_err();
        assert!(error.contains("unknown variable `HOMEROOM_UI_THEM`; did you mean `HOMEROOM_UI_THEME`?"), "{error}");
        assert_eq!(load("HOMEROOM_UI_THEME"), Ok(()));
        for of_others in
            ["HOMEROOM_NODE_SERVICE_HOST", "HOMEROOM_NODE_PORT_8008_TCP", "HOMEROOM_DATA_DIR", "HOMEROOM_PROFILE", "HOMEROOM_IN_A_SCRIPT"]
        {
            assert_eq!(load(of_others), Ok(()));
        }
    }

    #[test]
    fn broken_syntax_names_the_line() {
        let error = load_text("[ui]\ntheme = dark\n").unwrap_err();
        assert!(error.starts_with("config.toml:2: "), "{error}");
    }

    #[test]
    fn a_file_named_by_hand_must_exist() {
        let sources = Sources { file: Some("/nonexistent/x.toml".into()), ..Sources::default() };
        assert_eq!(Effective::load(&sources).unwrap_err().to_string(), "/nonexistent/x.toml: there is no such file");
    }

    #[test]
    fn assignments_are_checked() {
        let load =
            |text: &str| Effective::load(&Sources { assignments: vec![text.into()], ..Sources::default() }).map_err(|e| e.to_string());
        assert!(load("ui.mouse=true").is_ok());
        assert_eq!(load("ui.mouse").unwrap_err(), "argument -c ui.mouse: write it as section.key=value");
        assert_eq!(load("ui.mous=1").unwrap_err(), "argument -c ui.mous=1: unknown key `ui.mous`; did you mean `ui.mouse`?");
        assert!(load("node.server_name=not a name").is_err());
    }
}
