//! Runs the real binary in a home of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// The program: the one that was built with the tests, or the one that `HOMEROOM_UNDER_TEST` names, so that a package or an
/// older version can be tried and measured too.
pub fn program() -> PathBuf {
    std::env::var_os("HOMEROOM_UNDER_TEST").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_homeroom")), PathBuf::from)
}

/// A directory that stands for a person's home. Everything that the program writes is in there.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("hr").tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The program with nothing of the caller's environment that it would read.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HOMEROOM_") || text.starts_with("XDG_") || text.starts_with("DBUS_") || text == "NO_COLOR" {
                command.env_remove(&name);
            }
        }
        command.envs(self.environment()).args(args).stdin(Stdio::null());
        command
    }

    /// The variables that make this directory the program's home.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        let mut variables = vec![("HOME".to_owned(), self.path().to_path_buf())];
        for name in ["CONFIG", "DATA", "STATE", "CACHE"] {
            variables.push((format!("HOMEROOM_{name}_DIR"), self.path().join(name.to_lowercase())));
        }
        variables
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done(self.command(args).output().unwrap())
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        std::fs::create_dir_all(self.path().join("config")).unwrap();
        std::fs::write(self.path().join("config/config.toml"), text).unwrap();
    }
}

/// How a run ended.
pub struct Done(Output);

impl Done {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|error| panic!("not JSON ({error}): {}{}", self.out(), self.err()))
    }
}
