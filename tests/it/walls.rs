//! The arrows of ARCHITECTURE.md as law: which part of the program may name which other part, and which crates.
//!
//! Reads the source as tokens, so comments and texts do not count, `use` groups may nest as they like, and `super::` is
//! followed to where it leads. The longest matching row of the table applies.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

struct Room {
    /// Directory or file below `src`.
    at: &'static str,
    /// Module paths that it may name.
    may: &'static [&'static str],
    /// Module paths within those that it must not name; between `may` and `never` the longer path decides.
    never: &'static [&'static str],
    /// Crates that it must not name.
    not: &'static [&'static str],
}

const SDK: &[&str] = &["matrix_sdk", "matrix_sdk_ui", "matrix_sdk_base", "matrix_sdk_crypto", "matrix_sdk_sqlite"];
const SCREEN: &[&str] = &["ratatui", "crossterm", "ratatui_textarea"];
const SERVER: &[&str] = &["axum", "hyper", "hyper_util", "tower"];
const SQL: &[&str] = &["rusqlite"];
const LINE: &[&str] = &["clap", "clap_complete", "clap_mangen", "rpassword", "anyhow"];
const NET: &[&str] = &["reqwest"];
/// Standing for the groups above in a row's `not`.
const GROUPS: &[(&str, &[&str])] = &[("SDK", SDK), ("SCREEN", SCREEN), ("SERVER", SERVER), ("SQL", SQL), ("LINE", LINE), ("NET", NET)];

const LAW: &[Room] = &[
    Room { at: "main.rs", may: &[], never: &[], not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET"] },
    Room { at: "lib.rs", may: &[], never: &[], not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET"] },
    Room { at: "base", may: &["base"], never: &[], not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET", "ruma"] },
    Room {
        at: "config",
        may: &["config", "base", "client::config", "tui::config", "homeserver::config"],
        never: &[],
        not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET"],
    },
    Room {
        at: "tui",
        may: &["tui", "base", "client::view", "client::command", "client::update"],
        never: &[],
        not: &["SDK", "SERVER", "SQL", "LINE", "NET"],
    },
    Room { at: "client", may: &["client", "base"], never: &[], not: &["SCREEN", "SERVER", "SQL", "LINE"] },
    Room { at: "client/view", may: &["client::view"], never: &[], not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET", "tokio"] },
    Room {
        at: "client/command.rs",
        may: &["client::view", "client::command", "base"],
        never: &[],
        not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET"],
    },
    Room {
        at: "client/update.rs",
        may: &["client::view", "client::command", "client::update", "base"],
        never: &[],
        not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET"],
    },
    Room { at: "homeserver", may: &["homeserver", "base"], never: &[], not: &["SDK", "SCREEN", "SQL", "LINE"] },
    Room {
        at: "homeserver/users",
        may: &["homeserver", "homeserver::api::error", "base"],
        never: &["homeserver::api", "homeserver::federation"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "SERVER"],
    },
    Room {
        at: "homeserver/media",
        may: &["homeserver", "homeserver::api::error", "base"],
        never: &["homeserver::api", "homeserver::federation"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "SERVER"],
    },
    Room {
        at: "homeserver/push",
        may: &["homeserver", "homeserver::api::error", "base"],
        never: &["homeserver::api", "homeserver::federation"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "SERVER"],
    },
    Room {
        at: "homeserver/events",
        may: &["homeserver", "homeserver::api::error", "base"],
        never: &["homeserver::api", "homeserver::federation"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "SERVER"],
    },
    Room {
        at: "homeserver/sync",
        may: &["homeserver", "homeserver::api::error", "base"],
        never: &["homeserver::api", "homeserver::federation"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "SERVER"],
    },
    Room {
        at: "homeserver/federation",
        may: &["homeserver", "homeserver::api::error", "homeserver::api::testing", "base"],
        never: &["homeserver::api"],
        not: &["SDK", "SCREEN", "SQL", "LINE", "axum"],
    },
    Room {
        at: "homeserver/rooms",
        may: &["homeserver::rooms", "homeserver::types"],
        never: &[],
        not: &["SDK", "SCREEN", "SERVER", "SQL", "LINE", "NET", "tokio"],
    },
    Room {
        at: "homeserver/store",
        may: &["homeserver::store", "homeserver::types"],
        never: &[],
        not: &["SDK", "SCREEN", "SERVER", "LINE", "NET"],
    },
    Room { at: "cli", may: &["cli", "config", "base", "client", "tui", "homeserver"], never: &[], not: &["SQL", "SERVER"] },
];

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Text(String),
    Sign(char),
}

/// Source text as tokens; comments are gone, a lifetime is a sign and a word.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut out, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = after_block_comment(&chars, i);
        } else if let Some((text, end)) = raw_string(&chars, i) {
            out.push(Token::Text(text));
            i = end;
        } else if c == '"' || (matches!(c, 'b' | 'c') && at(i + 1) == '"') {
            let (text, end) = string(&chars, if c == '"' { i + 1 } else { i + 2 });
            out.push(Token::Text(text));
            i = end;
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character; everything else after an apostrophe is a lifetime.
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
        } else if c.is_alphanumeric() || c == '_' {
            let start = if c == 'r' && at(i + 1) == '#' { i + 2 } else { i };
            i = start;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            out.push(Token::Word(chars.iter().take(i).skip(start).collect()));
        } else if c == ':' && at(i + 1) == ':' {
            out.push(Token::Path);
            i += 2;
        } else {
            if !c.is_whitespace() {
                out.push(Token::Sign(c));
            }
            i += 1;
        }
    }
    out
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn raw_string(chars: &[char], start: usize) -> Option<(String, usize)> {
    let mut i = start;
    if matches!(chars.get(i), Some('b' | 'c')) {
        i += 1;
    }
    if chars.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = chars.get(i..)?.iter().take_while(|c| **c == '#').count();
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    let begin = i;
    while i < chars.len() {
        let closes = chars.get(i) == Some(&'"') && chars.get(i + 1..i + 1 + hashes).is_some_and(|end| end.iter().all(|c| *c == '#'));
        if closes {
            return Some((chars.get(begin..i)?.iter().collect(), i + 1 + hashes));
        }
        i += 1;
    }
    Some((String::new(), i))
}

fn string(chars: &[char], begin: usize) -> (String, usize) {
    let mut i = begin;
    while i < chars.len() && chars.get(i) != Some(&'"') {
        i += if chars.get(i) == Some(&'\\') { 2 } else { 1 };
    }
    (chars.iter().take(i).skip(begin).collect(), i + 1)
}

/// The module that a file is, below the crate: `tui/screens/mod.rs` is `tui::screens`.
fn module_of(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// What a source file names.
#[derive(Debug, Default)]
struct Named {
    /// Paths within the crate, as `a::b::c`.
    modules: BTreeSet<String>,
    /// Words that stand where a crate's name can stand.
    crates: BTreeSet<String>,
    texts: Vec<String>,
    /// Ways around this test.
    tricks: Vec<&'static str>,
}

fn named(file: &str, source: &str) -> Named {
    let tokens = tokens(source);
    let mut named = Named::default();
    let mut module = module_of(file);
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let word = |i: usize| match tokens.get(i) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{') => {
                depth += 1;
                if i >= 2 && word(i - 2) == Some("mod") && word(i - 1).is_some() {
                    module.extend(word(i - 1).map(str::to_owned));
                    inline.push(depth);
                }
            }
            Token::Sign('}') => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                depth = depth.saturating_sub(1);
            }
            Token::Text(text) => named.texts.push(text.clone()),
            Token::Word(name) => {
                let continues = i > 0 && tokens.get(i - 1) == Some(&Token::Path) && i > 1 && ends_path(tokens.get(i - 2));
                if continues || (i > 0 && tokens.get(i - 1) == Some(&Token::Sign('.'))) {
                    continue;
                }
                match (name.as_str(), tokens.get(i + 1)) {
                    ("crate", Some(Token::Path)) => paths(&tokens, i + 2, &[], &mut named.modules),
                    ("super" | "self", Some(Token::Path)) => paths(&tokens, i, &module, &mut named.modules),
                    ("homeroom", Some(Token::Path)) if file != "main.rs" => named.tricks.push("names the crate by its own name"),
                    ("include", Some(Token::Sign('!'))) => named.tricks.push("includes source text"),
                    ("path", Some(Token::Sign('='))) if i > 0 && tokens.get(i - 1) == Some(&Token::Sign('[')) => {
                        named.tricks.push("has a module in another place");
                    }
                    _ => {
                        named.crates.insert(name.clone());
                    }
                }
            }
            _ => {}
        }
    }
    named
}

/// True for a token after which `::` continues a path instead of starting one at the crates.
fn ends_path(token: Option<&Token>) -> bool {
    match token {
        Some(Token::Word(word)) => {
            !matches!(word.as_str(), "use" | "as" | "in" | "return" | "else" | "mut" | "dyn" | "impl" | "crate" | "pub")
        }
        Some(Token::Sign(sign)) => *sign == '>',
        _ => false,
    }
}

/// Collects the paths that start at token `i`, opening groups to any depth. `from` is where `self` and `super` start.
fn paths(tokens: &[Token], i: usize, from: &[String], out: &mut BTreeSet<String>) {
    let mut path = from.to_vec();
    walk(tokens, i, &mut path, out);
}

/// Reads one tree of a `use`, or one path, and gives the index behind it.
fn walk(tokens: &[Token], mut i: usize, path: &mut Vec<String>, out: &mut BTreeSet<String>) -> usize {
    loop {
        match tokens.get(i) {
            Some(Token::Word(word)) if word == "super" => {
                path.pop();
            }
            Some(Token::Word(word)) if word == "self" => {}
            Some(Token::Word(word)) => path.push(word.clone()),
            Some(Token::Sign('{')) => return walk_group(tokens, i + 1, path, out),
            _ => {
                out.insert(path.join("::"));
                return i + 1;
            }
        }
        i += 1;
        if tokens.get(i) != Some(&Token::Path) {
            out.insert(path.join("::"));
            return i;
        }
        i += 1;
    }
}

fn walk_group(tokens: &[Token], mut i: usize, path: &[String], out: &mut BTreeSet<String>) -> usize {
    while i < tokens.len() && tokens.get(i) != Some(&Token::Sign('}')) {
        i = walk(tokens, i, &mut path.to_vec(), out);
        // `as name` and the comma.
        while i < tokens.len() && !matches!(tokens.get(i), Some(Token::Sign(',' | '}'))) {
            i += 1;
        }
        if tokens.get(i) == Some(&Token::Sign(',')) {
            i += 1;
        }
    }
    i + 1
}

fn looks_like_sql(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    matches!(
        words.as_slice(),
        ["SELECT" | "PRAGMA", _]
            | ["INSERT" | "REPLACE", "INTO" | "OR"]
            | ["DELETE", "FROM"]
            | ["CREATE" | "ALTER" | "DROP", "TABLE" | "INDEX" | "UNIQUE" | "TRIGGER" | "VIEW"]
            | ["UPDATE", _]
    )
}

fn breaches(file: &str, source: &str) -> Vec<String> {
    let below = |at: &str| file == at || file.strip_prefix(at).is_some_and(|rest| rest.starts_with('/')) || file == format!("{at}.rs");
    let Some(room) = LAW.iter().filter(|room| below(room.at)).max_by_key(|room| room.at.len()) else {
        return vec![format!("{file} is in no room of the law")];
    };
    let named = named(file, source);
    let mut out: Vec<String> = named.tricks.iter().map(|trick| format!("{file} {trick}")).collect();
    for module in &named.modules {
        let within = |outer: &&&str| module == **outer || module.strip_prefix(**outer).is_some_and(|rest| rest.starts_with("::"));
        let longest = |paths: &[&str]| paths.iter().filter(within).map(|path| path.len()).max();
        let allowed = longest(room.may).is_some_and(|may| longest(room.never).is_none_or(|never| may > never));
        // A path that ends at a parent of what is allowed (`use crate::client;`) would open everything below it.
        let root = room.at == "lib.rs" && module.is_empty();
        if !(allowed || root) {
            out.push(format!("{file} ({}) names crate::{module}", room.at));
        }
    }
    let banned =
        room.not.iter().flat_map(|not| GROUPS.iter().find(|(name, _)| name == not).map_or(std::slice::from_ref(not), |(_, all)| all));
    out.extend(banned.filter(|name| named.crates.contains(**name)).map(|name| format!("{file} ({}) names the crate {name}", room.at)));
    // A test may look into the store; what ships may not.
    let test = file.contains("/tests/") || file.contains("_tests/") || file.ends_with("/tests.rs");
    if room.at != "homeserver/store" && !test {
        out.extend(named.texts.iter().filter(|text| looks_like_sql(text)).map(|text| format!("{file} ({}) holds SQL: {text}", room.at)));
    }
    out
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source directory can be read") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_part_keeps_to_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 10, "the source is there");
    let mut all = Vec::new();
    for path in files {
        let file = path.strip_prefix(&src).expect("it lies below src").to_string_lossy().into_owned();
        all.extend(breaches(&file, &fs::read_to_string(&path).expect("a source file can be read")));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn planted_breaches_are_found() {
    let planted = [
        ("tui/a.rs", "use crate::client::actor::Actor;"),
        ("tui/a.rs", "use crate::{base::Shutdown, client::{view::Item, command::{self, Command}, actor}};"),
        ("tui/a.rs", "use crate::client;"),
        ("tui/a.rs", "use crate::client::*;"),
        ("tui/screens/mod.rs", "use super::super::client::actor;"),
        ("tui/screens/a.rs", "mod tests { use super::super::super::super::homeserver::Node; }"),
        ("tui/a.rs", "fn f() { let x = crate::homeserver::Node::new(); }"),
        ("tui/a.rs", "use ::matrix_sdk::Client;"),
        ("tui/a.rs", "use matrix_sdk as sdk;"),
        ("tui/a.rs", "extern crate r#rusqlite;"),
        ("tui/a.rs", "fn f(c: &'static matrix_sdk::Client) {}"),
        ("tui/a.rs", "#[path = \"../client/actor.rs\"] mod actor;"),
        ("tui/a.rs", "include!(\"x.rs\");"),
        ("tui/a.rs", "use homeroom::client::actor;"),
        ("client/view/room.rs", "use crate::client::actor::Actor;"),
        ("client/a.rs", "use ratatui::Frame;"),
        ("client/a.rs", "use crate::tui;"),
        ("homeserver/api/a.rs", "use rusqlite::Connection;"),
        ("homeserver/api/a.rs", "const Q: &str = r#\"SELECT x FROM y\"#;"),
        ("homeserver/api/a.rs", "db.execute(\"\n   INSERT INTO x VALUES (1)\")"),
        ("homeserver/rooms/auth.rs", "use crate::homeserver::store::Store;"),
        ("homeserver/store/a.rs", "use crate::homeserver::{types::X, rooms::{auth}};"),
        ("homeserver/a.rs", "use clap::Parser;"),
        ("homeserver/users/a.rs", "use crate::homeserver::{Node, api::{error::ApiError, call}};"),
        ("base/a.rs", "use ruma::UserId;"),
        ("config/a.rs", "use crate::client::actor;"),
        ("cli/a.rs", "use rusqlite::Connection;"),
        ("elsewhere/a.rs", ""),
    ];
    for (file, source) in planted {
        assert!(!breaches(file, source).is_empty(), "{file}: {source}");
    }
}

#[test]
fn what_is_allowed_is_no_breach() {
    let fine = [
        ("tui/a.rs", "use crate::{base::Shutdown, client::{command::{self, Command}, update::Link, view::*}, tui::theme as t};"),
        ("tui/a.rs", "// use crate::homeserver;\n/* use /* nested */ matrix_sdk; */ const X: &str = \"matrix_sdk crate::homeserver\";"),
        ("tui/a.rs", "fn f<'a>(x: &'a str) -> char { let c = 'x'; let q = '\"'; let e = '\\''; x.axum().clap }"),
        ("tui/screens/mod.rs", "mod tests { use super::*; use super::super::theme; }"),
        ("tui/screens/room.rs", "use super::{super::model::Model, list};"),
        ("homeserver/store/a.rs", "const Q: &str = \"SELECT x FROM y\"; use rusqlite::Connection; use super::migrate;"),
        ("homeserver/api/a.rs", "use crate::homeserver::{Node, users::tokens}; const H: &str = \"DELETE\"; let p = b\"\\\"\";"),
        ("homeserver/users/a.rs", "use crate::homeserver::{Node, api::error::{ApiError}};"),
        ("cli/a.rs", "use matrix_sdk::Client; use crate::tui;"),
        ("client/command.rs", "pub use crate::base::Secret;"),
    ];
    for (file, source) in fine {
        assert_eq!(breaches(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}
