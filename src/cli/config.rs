//! `homeroom config`: the settings in force, and what they mean.

use clap::Args;

use super::{context::Context, exit::Failure, output};
use crate::config::describe;

/// Arguments of `homeroom config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print a configuration file that explains every setting, each with its default
    #[arg(long, conflicts_with = "json")]
    describe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the directories and files of the profile instead
    #[arg(long, conflicts_with = "describe")]
    paths: bool,
}

/// Prints.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(context: &Context, args: &ConfigArgs) -> Result<(), Failure> {
    if args.describe {
        return output::print(&describe::template());
    }
    if args.paths {
        return paths(context, args.json);
    }
    if args.json {
        return output::line(&describe::effective_json(&context.effective).to_string());
    }
    output::print(&describe::effective(&context.effective))
}

fn paths(context: &Context, json: bool) -> Result<(), Failure> {
    let dirs = &context.dirs;
    let rows = [("config", &dirs.config), ("data", &dirs.data), ("state", &dirs.state), ("cache", &dirs.cache)];
    if json {
        let object = rows.iter().map(|(name, path)| ((*name).to_owned(), path.display().to_string().into())).collect();
        return output::line(&serde_json::Value::Object(object).to_string());
    }
    let mut text = String::new();
    for (name, path) in rows {
        text.push_str(&format!("{name:<7} {}\n", path.display()));
    }
    for path in dirs.config_files(&context.profile) {
        let state = if context.effective.files.contains(&path) { "read" } else { "not there or not used" };
        text.push_str(&format!("file    {} ({state})\n", path.display()));
    }
    output::print(&text)
}
