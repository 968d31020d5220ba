//! The composition root: reads the command line, puts the parts together, turns results into exit codes.
//!
//! One file per subcommand. Only here may everything be named; nothing names this.

mod account;
pub mod completions;
mod conductor;
mod config;
mod context;
mod control;
mod demo;
mod doctor;
mod exit;
mod headless;
mod login;
mod logout;
pub mod manual;
mod manual_keys;
mod node;
mod output;
mod owner;
mod password;
mod profile;
mod recovery_key;
mod restart;
mod role;
mod rooms;
mod screen;
mod send;
mod serve;
mod sign_in;
mod tail;

use std::process::ExitCode;

use clap::{Parser, Subcommand, error::ErrorKind};

use context::{Context, GlobalArgs, Process};
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
    /// Look around: a throw-away node with people, rooms and a past
    Demo(demo::DemoArgs),
    /// Run the profile's own node without a screen, until SIGTERM or Ctrl+C
    Serve(serve::ServeArgs),
    /// Sign in to a homeserver
    Login(login::LoginArgs),
    /// Sign out and delete this device's local data
    Logout(logout::LogoutArgs),
    /// Send a message
    Send(send::SendArgs),
    /// Print messages as they arrive
    Tail(tail::TailArgs),
    /// List the rooms
    Rooms(rooms::RoomsArgs),
    /// Show the key that opens encrypted history on another device
    RecoveryKey(recovery_key::RecoveryKeyArgs),
    /// Manage accounts on the profile's own node
    Account(account::AccountArgs),
    /// Look at the node as other servers see it, or at another server: names, certificates, keys, clocks
    Doctor(doctor::DoctorArgs),
    /// Print the settings in force and where each comes from
    Config(config::ConfigArgs),
    /// Show a manual page, or write all of them
    Manual(manual::ManualArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// True when failures are wanted as JSON too.
    fn json(&self) -> bool {
        match self {
            Self::Account(args) => args.json(),
            Self::Doctor(args) => args.json,
            Self::Login(args) => args.json,
            Self::Logout(args) => args.json,
            Self::Send(args) => args.json,
            Self::Tail(args) => args.json,
            Self::Rooms(args) => args.json,
            Self::RecoveryKey(args) => args.json,
            _ => false,
        }
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

/// Runs a command on a runtime of its own. Threads that are still busy when it is done are left behind after a moment.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("homeroom").build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failure, format!("the runtime cannot start: {error}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

fn run(cli: Cli) -> Result<(), Failure> {
    let context = || Context::new(&cli.globals, Vec::new());
    match &cli.command {
        Some(Command::Serve(args)) => block_on(serve::run(&Context::new(&cli.globals, args.flags()?)?)),
        Some(Command::Login(args)) => block_on(login::run(&context()?, args)),
        Some(Command::Logout(args)) => block_on(logout::run(&context()?, args)),
        Some(Command::Send(args)) => block_on(send::run(&context()?, args)),
        Some(Command::Tail(args)) => block_on(tail::run(&context()?, args)),
        Some(Command::Rooms(args)) => block_on(rooms::run(&context()?, args)),
        Some(Command::RecoveryKey(args)) => block_on(recovery_key::run(&context()?, args)),
        Some(Command::Account(args)) => block_on(account::run(&context()?, args)),
        Some(Command::Doctor(args)) => block_on(doctor::run(&context()?, args)),
        Some(Command::Config(args)) => config::run(&context()?, args),
        Some(Command::Manual(args)) => manual::run(args),
        Some(Command::Completions(args)) => completions::run(args),
        Some(Command::Demo(args)) => block_on(demo::run(&context()?, args, demo::Log::Own)),
        None => {
            let context = context()?;
            let _watch = context.watch(Process::Screen)?;
            block_on(async {
                // Whoever has looked around is back at the welcome afterwards.
                let mut forms = None;
                while screen::run(&context, &mut forms).await? == conductor::Ending::LookAround {
                    demo::run(&context, &demo::DemoArgs::default(), demo::Log::Running).await?;
                }
                Ok(())
            })
        }
    }
}
