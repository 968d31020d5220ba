//! The settings explained: `homeroom config`, `homeroom config --describe` and the manual page.

use std::fmt::Write as _;

use super::{
    dirs::VARIABLES,
    error::Origin,
    keys::{KEYS, SECTIONS},
    load::Effective,
    value::Value,
};

/// The settings in force as a configuration file, each with where it comes from. What is not set is a comment.
#[must_use]
pub fn effective(effective: &Effective) -> String {
    let mut out = String::new();
    let mut section = "";
    for (key, value, origin) in effective.rows() {
        if key.section != section {
            let _ = writeln!(out, "{}[{}]", if section.is_empty() { "" } else { "\n" }, key.section);
            section = key.section;
        }
        let line = match value {
            Value::Unset => format!("# {} is not set", key.name),
            value => format!("{} = {value}", key.name),
        };
        let _ = writeln!(out, "{line:<40} # {origin}");
    }
    out
}

/// The settings in force as JSON: `{"section.key": {"value": .., "origin": ..}}`.
#[must_use]
pub fn effective_json(effective: &Effective) -> serde_json::Value {
    let rows = effective.rows().map(|(key, value, origin)| {
        let kind = match origin {
            Origin::Default => "default",
            Origin::File { .. } => "file",
            Origin::Environment(_) => "environment",
            Origin::Flag(_) => "argument",
        };
        (key.path(), serde_json::json!({ "value": json(&value), "source": kind, "origin": origin.to_string() }))
    });
    serde_json::Value::Object(rows.collect())
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Unset | Value::Other(_) => serde_json::Value::Null,
    }
}

/// A configuration file that sets nothing and explains everything.
#[must_use]
pub fn template() -> String {
    let mut out = String::from("# homeroom's settings. Every line that starts with # shows a default.\n");
    for (section, doc) in SECTIONS {
        let _ = writeln!(out, "\n# {}\n[{section}]", joined(doc));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            for line in wrap(&key.text(), 96) {
                let _ = writeln!(out, "# {line}");
            }
            let _ = writeln!(out, "# Takes {}.", (key.expects)());
            let _ = match (key.default)() {
                Value::Unset => writeln!(out, "# {} =", key.name),
                value => writeln!(out, "# {} = {value}", key.name),
            };
        }
    }
    out
}

/// The manual page `homeroom.toml(5)`.
#[must_use]
pub fn manual(version: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(out, ".TH homeroom.toml 5 \"\" \"homeroom {version}\" \"File formats\"");
    out.push_str(
        ".SH NAME\nhomeroom.toml \\- settings of homeroom(1)\n.SH DESCRIPTION\n\
         homeroom reads \\fIconfig.toml\\fR in its configuration directory (\\fI~/.config/homeroom\\fR unless the system says \
         otherwise), then \\fIprofiles/NAME.toml\\fR beside it for the profile in use. Each setting can also be given as an \
         environment variable or as an argument \\fB\\-c section.key=value\\fR; an argument wins over a variable, a variable over a \
         file. An unknown or ill\\-typed setting is an error. \\fBhomeroom config\\fR prints what is in force and where it comes \
         from.\n",
    );
    for (section, doc) in SECTIONS {
        let _ = writeln!(out, ".SH [{section}]\n{}", roff(&joined(doc)));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let default = match (key.default)() {
                Value::Unset => "not set".to_owned(),
                value => value.to_string(),
            };
            let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(key.name), roff(&key.text()));
            let _ = writeln!(out, "Takes {}.", roff(&(key.expects)()));
            let _ = writeln!(out, ".br\nDefault: {}. Variable: \\fB{}\\fR.", roff(&default), key.variable());
        }
    }
    out.push_str(".SH ENVIRONMENT\n");
    for (name, text) in VARIABLES {
        let _ = writeln!(out, ".TP\n\\fB{name}\\fR\n{}", roff(text));
    }
    out.push_str(".TP\n\\fBNO_COLOR\\fR\nUse no colours unless the setting ui.colour says which.\n.SH SEE ALSO\nhomeroom(1)\n");
    out
}

fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Text for a manual page: what roff would take for a command or an escape is made harmless.
#[must_use]
pub fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;
    use crate::config::{Effective, Sources};

    fn load(text: &str) -> Effective {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Effective::load(&Sources { optional_files: vec![path], ..Sources::default() }).unwrap()
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let before = load("[ui]\ntheme = \"a\\\"b\"\n[node]\nlisten = [\"127.0.0.1:8008\"]\n");
        let after = load(&effective(&before));
        assert_eq!(before.config, after.config);
    }

    #[test]
    fn the_template_sets_nothing_and_names_every_key() {
        let text = template();
        assert_eq!(load(&text).config, crate::config::Config::default());
        // Each default, uncommented, is accepted.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && rest.starts_with(|c: char| c.is_lowercase())).unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        assert_eq!(load(&uncommented).config, crate::config::Config::default());
        for key in KEYS {
            assert!(text.contains(&format!("# {} =", key.name)), "{}", key.path());
        }
    }
}
