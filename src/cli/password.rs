//! Passwords from where they do not show: a file, standard input, or the terminal without echo. Never an argument.

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use super::exit::{Exit, Failure};
use crate::base::Secret;

/// Longest password that is read.
const MAX_BYTES: u64 = 4096;

/// Where a password comes from.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password from the first line of this file (`-` is standard input) instead of asking for it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Reads the password; a new one is asked for twice.
    ///
    /// # Errors
    /// When there is none, or nobody who could be asked.
    pub fn read(&self, prompt: &str, new: bool) -> Result<Secret, Failure> {
        let password = match &self.password_file {
            Some(path) if path == Path::new("-") => first_line(std::io::stdin().lock(), path)?,
            Some(path) => first_line(std::fs::File::open(path).map_err(|error| not_read(path, &error))?, path)?,
            None => ask(prompt, new)?,
        };
        if password.expose().is_empty() { Err(Failure::usage("the password is empty")) } else { Ok(password) }
    }
}

fn not_read(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failure };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

fn first_line(from: impl std::io::Read, path: &Path) -> Result<Secret, Failure> {
    let mut line = zeroize::Zeroizing::new(String::new());
    std::io::BufReader::new(from.take(MAX_BYTES)).read_line(&mut line).map_err(|error| not_read(path, &error))?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn ask(prompt: &str, new: bool) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password on; use --password-file FILE"));
    }
    let read =
        |prompt: &str| rpassword::prompt_password(prompt).map(Secret::new).map_err(|error| Failure::new(Exit::Failure, error.to_string()));
    let first = read(prompt)?;
    if new && read("The same again: ")? != first {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    fn read(text: &str) -> Secret {
        first_line(text.as_bytes(), Path::new("x")).unwrap()
    }

    #[test]
    fn a_password_is_the_first_line_with_its_spaces() {
        assert_eq!(read(" pass word \r\nsecond\n").expose(), " pass word ");
        assert_eq!(read("").expose(), "");
    }
}
