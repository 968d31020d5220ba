//! `homeroom completions`: what a shell needs to complete our command line.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::{Generator as _, Shell};

use super::{Cli, exit::Failure, output};

/// Shells whose scripts are kept in the repository, for packages.
const KEPT: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Arguments of `homeroom completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to write for
    #[arg(required_unless_present = "out")]
    shell: Option<Shell>,
    /// Write the scripts of bash, zsh and fish into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "shell", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// Prints the script, or writes all of them.
///
/// # Errors
/// When standard output or a file cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).map_err(|error| Failure::file(dir, &error))?;
        for (name, script) in scripts() {
            let path = dir.join(name);
            std::fs::write(&path, script).map_err(|error| Failure::file(&path, &error))?;
        }
    }
    args.shell.map_or(Ok(()), |shell| output::print(&script(shell)))
}

/// The scripts that packages install, by file name.
#[must_use]
pub fn scripts() -> BTreeMap<String, String> {
    KEPT.into_iter().map(|shell| (shell.file_name("homeroom"), script(shell))).collect()
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "homeroom", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
