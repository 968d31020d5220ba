//! `homeroom manual`: the manual pages, made from the definitions that the program itself runs on.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::{Args, CommandFactory as _, ValueHint};

use super::{
    Cli,
    exit::{Exit, Failure},
    output,
};
use crate::{
    config::describe::{self, roff},
    tui::{self, keymap::Keymap, theme::Theme},
};

/// Arguments of `homeroom manual`.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Page to show, such as `homeroom`, `homeroom-serve` or `homeroom.toml`
    #[arg(default_value = "homeroom", conflicts_with = "out")]
    page: String,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Write the README's picture of the screen into this file instead
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["page", "out"])]
    picture: Option<PathBuf>,
}

/// Shows one page (through `man` on a terminal) or writes all.
///
/// # Errors
/// When there is no such page, or a file cannot be written.
pub fn run(args: &ManualArgs) -> Result<(), Failure> {
    if let Some(path) = &args.picture {
        return std::fs::write(path, picture()?).map_err(|error| Failure::file(path, &error));
    }
    let pages = pages()?;
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).map_err(|error| Failure::file(dir, &error))?;
        for (name, page) in &pages {
            let path = dir.join(name);
            std::fs::write(&path, page).map_err(|error| Failure::file(&path, &error))?;
        }
        return Ok(());
    }
    let found = pages.iter().find(|(name, _)| **name == args.page || name.rsplit_once('.').is_some_and(|(stem, _)| stem == args.page));
    let Some((_, page)) = found else {
        let names = pages.keys().filter_map(|name| name.rsplit_once('.')).map(|(stem, _)| stem).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(Exit::NotFound, format!("there is no page `{}`; there are {names}", args.page)));
    };
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) && shown_by_man(page) { Ok(()) } else { output::print(page) }
}

/// The README's picture: the real screen on an invented profile, drawn into cells of its own, as SVG.
///
/// # Errors
/// When keymap or theme cannot be read, which would be a fault of ours.
pub fn picture() -> Result<String, Failure> {
    let ours = |error: &dyn std::fmt::Display| Failure::new(Exit::Failure, error.to_string());
    let keymap = Keymap::load("default", None).map_err(|error| ours(&error))?;
    let theme = Theme::load("dark", None).map_err(|error| ours(&error))?;
    let (buffer, cursor) = tui::render(&mut tui::sample::model(keymap, theme), 100, 30);
    Ok(tui::svg::render(&buffer, cursor, tui::svg::Ground::default()))
}

/// Gives the page to `man`, which formats and pages it. False when there is no `man`.
fn shown_by_man(page: &str) -> bool {
    let Ok(mut man) = Command::new("man").args(["-l", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn() else { return false };
    // A reader that quits early closes the pipe; that is no failure.
    let written = man.stdin.take().is_some_and(|mut pipe| pipe.write_all(page.as_bytes()).is_ok());
    man.wait().is_ok_and(|status| status.success()) && written
}

/// Every page by file name.
///
/// # Errors
/// When a page cannot be rendered, which would be a fault of ours.
pub fn pages() -> Result<BTreeMap<String, String>, Failure> {
    let mut pages = BTreeMap::new();
    // Usage lines and options of subcommands are complete only once built. The environment must not leak into the pages.
    let mut root = Cli::command().disable_help_subcommand(true).mut_args(|arg| arg.hide_env_values(true));
    root.build();
    add_pages(&root, "homeroom", &mut pages)?;
    pages.insert("homeroom-keys.7".to_owned(), super::manual_keys::page(env!("CARGO_PKG_VERSION"))?);
    pages.insert("homeroom-endpoints.7".to_owned(), crate::homeserver::api::endpoints::page(env!("CARGO_PKG_VERSION")));
    pages.insert("homeroom.toml.5".to_owned(), describe::manual(env!("CARGO_PKG_VERSION")));
    Ok(pages)
}

fn add_pages(command: &clap::Command, name: &str, pages: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help") {
        add_pages(subcommand, &format!("{name}-{}", subcommand.get_name()), pages)?;
    }
    let man = clap_mangen::Man::new(command.clone()).source(concat!("homeroom ", env!("CARGO_PKG_VERSION"))).manual("homeroom").date("");
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| Failure::new(Exit::Failure, format!("the page {name}: {error}")))?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    if name == "homeroom" {
        page.push_str(&files_section());
    }
    page.push_str(&exit_section());
    page.push_str(".SH \"SEE ALSO\"\n");
    page.push_str(if name == "homeroom" {
        "homeroom.toml(5), homeroom-keys(7), homeroom-endpoints(7)\n"
    } else {
        "homeroom(1), homeroom.toml(5)\n"
    });
    pages.insert(format!("{name}.1"), page);
    Ok(())
}

fn exit_section() -> String {
    let mut section = String::from(".SH \"EXIT STATUS\"\n");
    for (code, _, doc) in Exit::TABLE {
        let text = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(section, ".TP\n\\fB{code}\\fR\n{}", roff(&text));
    }
    section
}

const FILES: &[(&str, &str)] = &[
    ("~/.config/homeroom/keymap.toml", "Single keys; see homeroom-keys(7)."),
    ("~/.config/homeroom/themes/NAME.toml", "Colours; the setting ui.theme names the one to use."),
    ("~/.config/homeroom/config.toml", "Settings; see homeroom.toml(5). Nothing is written here by homeroom."),
    ("~/.local/share/homeroom/PROFILE/", "The account, its keys and messages, and the profile's own node. Back this up."),
    ("~/.local/state/homeroom/PROFILE/", "Log files, locks and the control socket. Safe to delete while homeroom is not running."),
];

fn files_section() -> String {
    let mut section = String::from(".SH FILES\n");
    for (path, text) in FILES {
        let _ = writeln!(section, ".TP\n\\fI{}\\fR\n{}", roff(path), roff(text));
    }
    section
}
