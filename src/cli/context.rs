//! What every command starts from: the profile, its directories, the settings, the log.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::exit::{Exit, Failure};
use crate::{
    base::{Zone, logging, panics},
    config::{Config, Dirs, Effective, Profile, Sources, value::Value},
};

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Profile to use: each has its own account, keys, messages and node
    #[arg(long, global = true, value_name = "NAME", env = "HOMEROOM_PROFILE", default_value = "default")]
    pub profile: String,
    /// Read settings from this file only, instead of the ones in the configuration directory
    #[arg(long, global = true, value_name = "FILE", env = "HOMEROOM_CONFIG", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Set one setting for this run, such as `ui.theme=light`; may be given several times
    #[arg(short = 'c', long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// A flag that stands for a setting: key, value, flag as written.
pub type Flag = (&'static str, Value, String);

/// The profile, its directories and the settings in force.
#[derive(Debug, Clone)]
pub struct Context {
    /// The profile.
    pub profile: Profile,
    /// Its directories.
    pub dirs: Dirs,
    /// The settings with their origins.
    pub effective: Effective,
    /// Local time.
    pub zone: Zone,
}

/// The kinds of process, each with a log file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The screen: `homeroom.log`.
    Screen,
    /// The node alone: `serve.log`, errors on standard error as well.
    Serve,
    /// Anything that is done soon: `command.log`.
    Command,
}

/// Logging and panic reports, for as long as the value lives.
#[derive(Debug)]
pub struct Watch {
    _logging: logging::Logging,
}

impl Context {
    /// Finds directories and reads the settings. `flags` are a command's own flags that stand for settings.
    ///
    /// # Errors
    /// When the profile's name or the configuration is wrong.
    pub fn new(args: &GlobalArgs, flags: Vec<Flag>) -> Result<Self, Failure> {
        let profile = Profile::new(&args.profile).map_err(Failure::usage)?;
        let dirs = Dirs::find(&profile, |name| std::env::var_os(name)).map_err(Failure::usage)?;
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("HOMEROOM_"))
            .collect();
        let sources = Sources {
            optional_files: dirs.config_files(&profile),
            file: args.config.clone(),
            environment,
            assignments: args.set.clone(),
            flags,
        };
        let effective = Effective::load(&sources).map_err(Failure::usage)?;
        Ok(Self { profile, dirs, effective, zone: Zone::Local })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.effective.config
    }

    /// Creates the profile's directories and starts the log of this kind of process in the state directory.
    ///
    /// # Errors
    /// When a directory or the file cannot be created.
    pub fn watch(&self, process: Process) -> Result<Watch, Failure> {
        // Whatever this process creates from here on is its owner's alone.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        self.dirs.create().map_err(|(path, error)| Failure::file(&path, &error))?;
        let (name, errors_to_stderr) = match process {
            Process::Screen => ("homeroom", false),
            Process::Serve => ("serve", true),
            // A command reports its failure itself.
            Process::Command => ("command", false),
        };
        let logging = logging::start(&self.dirs.state, name, &self.config().log.level.0, errors_to_stderr)
            .map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        panics::install(logging.path().to_path_buf());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), profile = self.profile.as_str(), "homeroom starts");
        Ok(Watch { _logging: logging })
    }
}
