//! What is wrong with a configuration, each fault with its place and the nearest thing that would be right.

use std::{fmt, io, path::PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from one.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// An argument of the command line, as written.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "argument {flag}"),
        }
    }
}

/// One fault.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file named on the command line is not there.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// Not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// No such section or key.
    #[error("{origin}: unknown {what} `{name}`{}", suggest(nearest.as_deref()))]
    Unknown {
        /// Where.
        origin: Origin,
        /// "section" or "key".
        what: &'static str,
        /// As written.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// The key is right, its value is not.
    #[error("{origin}: `{key}` must be {expects}, not {found}{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Value {
        /// Where.
        origin: Origin,
        /// `section.name`.
        key: String,
        /// What it takes.
        expects: String,
        /// What is there.
        found: String,
        /// What else is wrong.
        reason: Option<String>,
    },
    /// `-c` without `=`.
    #[error("argument -c {0}: write it as section.key=value")]
    NotAnAssignment(String),
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// The candidate most like what was written, unless none is like it.
pub(super) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Everything that is wrong, at once.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
