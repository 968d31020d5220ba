//! The composition root: reads the command line, puts the parts together, turns results into exit codes.
//!
//! One file per subcommand. Only here may everything be named; nothing names this.

mod completions;
mod config;
mod context;
mod control;
mod exit;
pub mod manual;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand, error::ErrorKind};

use context::{Context, GlobalArgs};
pub use exit::{Exit, Failure};

/// Chat on Matrix from the terminal, with your own homeserver built in
///
/// Without a command, homeroom opens its screen: the rooms of the profile's account, or, the first time, a welcome that offers to
/// create your own home, to sign in to a homeserver, or to look around.
#[derive(Debug, Parser)]
#[command(name = "homeroom", version, args_conflicts_with_subcommands = false, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the settings in force and where each comes from
    Config(config::ConfigArgs),
    /// Show a manual page, or write all of them
    Manual(manual::ManualArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    fn json(&self) -> bool {
        false
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    let json = cli.command.as_ref().is_some_and(Command::json);
    match run(cli) {
        Ok(()) => ExitCode::from(Exit::Success.code()),
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn usage_error(error: &clap::Error) -> ExitCode {
    // Where help cannot be printed there is nobody to tell.
    let _ = error.print();
    let exit = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
        _ => Exit::Usage,
    };
    ExitCode::from(exit.code())
}

/// One message on standard error; with `--json` one object there.
fn report(failure: &Failure, json: bool) {
    if failure.message.is_empty() {
        return;
    }
    if json {
        eprintln!("{}", failure.json());
    } else {
        for line in failure.message.lines() {
            eprintln!("homeroom: {}", output::harmless(line));
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let context = || Context::new(&cli.globals, Vec::new());
    match &cli.command {
        Some(Command::Config(args)) => config::run(&context()?, args),
        Some(Command::Manual(args)) => manual::run(args),
        Some(Command::Completions(args)) => completions::run(args),
        None => context().and_then(|_| Err(Failure::usage("the screen is not built yet"))),
    }
}
