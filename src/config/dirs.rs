//! Where a profile's files are.

use std::path::{Path, PathBuf};

/// What stops the directories from being known.
#[derive(Debug, thiserror::Error)]
pub enum DirsError {
    /// Neither a home directory nor variables that say where to go.
    #[error("there is no home directory; set HOMEROOM_CONFIG_DIR, HOMEROOM_DATA_DIR, HOMEROOM_STATE_DIR and HOMEROOM_CACHE_DIR")]
    NoHome,
    /// The variable holds a relative path.
    #[error("{0} must be a path that starts with `/`")]
    Relative(&'static str),
    /// Not a profile's name.
    #[error("`{0}` is not a profile name: use up to 32 letters, digits, `-` and `_`, starting with a letter or digit")]
    Profile(String),
}

/// A profile's name, which is also a directory's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile(String);

impl Profile {
    /// Checks a name.
    ///
    /// # Errors
    /// When it has other characters than letters, digits, `-` and `_`, starts with one of the latter, is empty or long.
    pub fn new(name: &str) -> Result<Self, DirsError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if plain && starts_well && name.len() <= 32 { Ok(Self(name.to_owned())) } else { Err(DirsError::Profile(name.to_owned())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The variables that replace the system's directories, and what goes there. `homeroom.toml(5)` prints this table.
pub const VARIABLES: &[(&str, &str)] = &[
    ("HOMEROOM_CONFIG_DIR", "Directory of config.toml, keymap.toml, themes and profiles."),
    ("HOMEROOM_DATA_DIR", "Directory of accounts, keys, messages and nodes, one directory for each profile."),
    ("HOMEROOM_STATE_DIR", "Directory of log files, locks and control sockets, one directory for each profile."),
    ("HOMEROOM_CACHE_DIR", "Directory of what can be fetched again, one directory for each profile."),
];

/// The directories of one profile. Nothing is created by knowing them.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Configuration, shared by all profiles.
    pub config: PathBuf,
    /// What must not be lost: keys, messages, the node.
    pub data: PathBuf,
    /// Logs, locks, sockets.
    pub state: PathBuf,
    /// What can be fetched again.
    pub cache: PathBuf,
}

impl Dirs {
    /// The directories as the system has them, unless a variable says otherwise.
    ///
    /// # Errors
    /// When there is no home directory and the variables are not set, or a variable holds a relative path.
    pub fn find(profile: &Profile, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self, DirsError> {
        let system = directories::ProjectDirs::from("", "", "homeroom");
        let pick = |name: &'static str, fallback: Option<&Path>| match variable(name).filter(|value| !value.is_empty()) {
            Some(value) if Path::new(&value).is_absolute() => Ok(PathBuf::from(value)),
            Some(_) => Err(DirsError::Relative(name)),
            None => fallback.map(Path::to_path_buf).ok_or(DirsError::NoHome),
        };
        let system = system.as_ref();
        Ok(Self {
            config: pick("HOMEROOM_CONFIG_DIR", system.map(directories::ProjectDirs::config_dir))?,
            data: pick("HOMEROOM_DATA_DIR", system.map(directories::ProjectDirs::data_dir))?.join(profile.as_str()),
            state: pick("HOMEROOM_STATE_DIR", system.map(|dirs| dirs.state_dir().unwrap_or(dirs.data_dir())))?.join(profile.as_str()),
            cache: pick("HOMEROOM_CACHE_DIR", system.map(directories::ProjectDirs::cache_dir))?.join(profile.as_str()),
        })
    }

    /// The configuration files that may be there, the strongest last.
    #[must_use]
    pub fn config_files(&self, profile: &Profile) -> Vec<PathBuf> {
        vec![self.config.join("config.toml"), self.config.join("profiles").join(format!("{}.toml", profile.as_str()))]
    }

    /// Creates the profile's directories, open to their owner only.
    ///
    /// # Errors
    /// Names the directory that cannot be created or is not ours.
    pub fn create(&self) -> Result<(), (PathBuf, std::io::Error)> {
        for path in [&self.data, &self.state, &self.cache] {
            crate::base::private::create_dir(path).map_err(|error| (path.clone(), error))?;
        }
        Ok(())
    }

    /// The socket through which commands reach the running screen of this profile.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    #[test]
    fn profile_names_cannot_leave_their_directory() {
        for good in ["default", "work-2", "a", "9_x"] {
            assert!(Profile::new(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "-x", "a b", "é", &"x".repeat(33)] {
            assert!(Profile::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_replace_the_systems_directories() {
        let profile = Profile::new("p").unwrap();
        let dirs = Dirs::find(&profile, |name| Some(format!("/x/{name}").into())).unwrap();
        assert_eq!(dirs.config, Path::new("/x/HOMEROOM_CONFIG_DIR"));
        assert_eq!(dirs.data, Path::new("/x/HOMEROOM_DATA_DIR/p"));
        assert!(Dirs::find(&profile, |_| Some("relative".into())).is_err());
    }
}
