//! `homeroom completions`: what a shell needs to complete our command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, exit::Failure, output};

/// Arguments of `homeroom completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to write for
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "homeroom", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
