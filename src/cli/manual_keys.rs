//! The manual page `homeroom-keys(7)`: keys, commands and actions, from the tables that the screen itself works with.

use std::fmt::Write as _;

use super::exit::{Exit, Failure};
use crate::{
    config::describe::roff,
    tui::{
        keymap::{ACTIONS, CONTEXTS, Keymap, PRESETS},
        keys,
        slash::COMMANDS,
    },
};

/// The page.
///
/// # Errors
/// When a preset cannot be read, which would be a fault of ours.
pub fn page(version: &str) -> Result<String, Failure> {
    let mut out = format!(".TH homeroom-keys 7 \"\" \"homeroom {version}\" homeroom\n");
    out.push_str(
        ".SH NAME\nhomeroom\\-keys \\- keys, commands and actions of homeroom(1)\n.SH DESCRIPTION\n\
         Keys run actions. Which ones is said by a preset (the setting \\fBui.keymap\\fR) and, over it, by \\fIkeymap.toml\\fR beside the \
         configuration file. That file has a list for each context; a row has the keys, an action, and, if wanted, words for help:\n\
         .PP\n.nf\nglobal = [\n  { on = \"alt+h\", run = \"help\" },\n  { on = \"ctrl+q\", run = \"none\" },\n]\n.fi\n.PP\n\
         \\fBnone\\fR takes a key away; several keys in a list are alternatives, keys with blanks between them a sequence. In the program, \
         \\fBF1\\fR shows what is in force.\n",
    );
    out.push_str(".SH KEYS\n");
    for (name, _) in PRESETS {
        let keymap = Keymap::load(name, None).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let base = Keymap::load("default", None).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let of_base = if *name == "default" { "" } else { ", where it differs from default" };
        let _ = writeln!(out, ".SS \"Preset {name}{of_base}\"");
        for (context, context_name, description) in CONTEXTS {
            let own = |row: &&crate::tui::keymap::Row| row.context == *context && (*name == "default" || !base.rows().contains(row));
            let rows: Vec<_> = keymap.rows().iter().filter(own).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(out, ".PP\n\\fI{context_name}\\fR: {}", roff(description));
            for row in rows {
                let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(&keys::show(&row.on)), roff(row.description()));
            }
        }
    }
    out.push_str(".SH COMMANDS\nTyped at the start of a message.\n");
    for command in COMMANDS {
        let _ = writeln!(out, ".TP\n\\fB/{}\\fR {}\n{}", roff(command.name), roff(command.arguments), roff(command.description));
    }
    out.push_str(".SH ACTIONS\nFor keymaps, and for the palette.\n");
    for action in ACTIONS {
        let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(action.name), roff(action.description));
    }
    out.push_str(".SH \"SEE ALSO\"\nhomeroom(1), homeroom.toml(5)\n");
    Ok(out)
}
