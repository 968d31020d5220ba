//! How the program ends: its exit codes, and a failure that carries one.

use std::fmt;

macro_rules! exits {
    ($( $(#[doc = $doc:literal])* $name:ident = $code:literal, $word:literal; )*) => {
        /// An exit code. Scripts rely on these: a code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Exit { $( $(#[doc = $doc])* $name, )* }

        impl Exit {
            /// Every code, its word in JSON and its meaning, for the manual.
            pub const TABLE: &[(u8, &str, &[&str])] = &[$( ($code, $word, &[$($doc),*]), )*];

            /// The number.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $( Self::$name => $code, )* }
            }

            /// The word that stands for it in JSON.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $( Self::$name => $word, )* }
            }

            /// The exit with that word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$name), )* _ => None }
            }
        }
    };
}

exits! {
    /// Done.
    Success = 0, "success";
    /// Something failed; the message says what.
    Failure = 1, "failure";
    /// The command line or the configuration is wrong.
    Usage = 2, "usage";
    /// The profile has no account, or its session has ended: sign in first.
    NotSignedIn = 3, "not_signed_in";
    /// The server cannot be reached or does not answer in time.
    Unreachable = 4, "unreachable";
    /// The server refused: a wrong password, or something that is not allowed.
    Refused = 5, "refused";
    /// Another homeroom has the profile or the node open.
    Busy = 6, "busy";
    /// There is no such room, account or file.
    NotFound = 7, "not_found";
}

/// Why a command ends without success.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// In words for a person.
    pub message: String,
}

impl Failure {
    /// A failure with its code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message.to_string())
    }

    /// A file or a directory could not be used.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Exit::Failure, format!("{}: {error}", path.display()))
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "code": self.exit.word(), "exit": self.exit.code(), "message": self.message } })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failure, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_are_unique() {
        for (index, (code, word, _)) in Exit::TABLE.iter().enumerate() {
            assert_eq!(usize::from(*code), index);
            assert_eq!(Exit::from_word(word).map(Exit::code), Some(*code));
        }
    }
}
