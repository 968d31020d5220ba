//! Where log lines go: a private file that starts anew when it is full. Never the screen.
//!
//! The file is `NAME.log`; older ones are `NAME.log.1` (the newest) and up. Lines are written by a thread of their own;
//! when the disk cannot keep up, lines are dropped instead of holding up the program.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Size at which a log file is set aside.
const MAX_SIZE_BYTES: u64 = 4 * 1024 * 1024;
/// Files kept beside the current one.
const KEPT: u32 = 4;
/// Lines that may wait for the disk.
const WAITING_LINES: usize = 8192;

/// What stops logging from starting.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("`{filter}` is not a log filter: {reason}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("the log file {} cannot be opened: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Logging runs already.
    #[error("logging was started twice")]
    Twice,
}

/// Keeps the writing thread alive; dropping it writes what still waits.
#[derive(Debug)]
pub struct Logging {
    path: PathBuf,
    _worker: WorkerGuard,
}

impl Logging {
    /// The current log file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// True when the text is a filter that `start` takes (`info`, `warn,homeroom::client=debug`).
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::builder().parse(filter).map(|_| ()).map_err(|error| error.to_string())
}

/// Starts logging into `directory/NAME.log`. With `errors_to_stderr`, our own lines of level error also go to standard
/// error, for a program that runs without a screen for long.
///
/// # Errors
/// When the filter is wrong or the file cannot be opened.
pub fn start(directory: &Path, name: &str, filter: &str, errors_to_stderr: bool) -> Result<Logging, LoggingError> {
    let wrong =
        |error: tracing_subscriber::filter::ParseError| LoggingError::Filter { filter: filter.to_owned(), reason: error.to_string() };
    let filter = EnvFilter::builder().parse(filter).map_err(wrong)?;
    let path = directory.join(format!("{name}.log"));
    let file = RotatingFile::open(&path, MAX_SIZE_BYTES, KEPT).map_err(|source| LoggingError::File { path: path.clone(), source })?;
    let (writer, worker) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).lossy(true).thread_name("log writer").finish(file);
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(filter);
    let to_stderr =
        errors_to_stderr.then(|| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr).with_filter(own_errors()));
    tracing_subscriber::registry().with(to_file).with(to_stderr).try_init().map_err(|_| LoggingError::Twice)?;
    Ok(Logging { path, _worker: worker })
}

/// What a library takes for an error is often dealt with by us, and then nothing that somebody should act on.
fn own_errors() -> Targets {
    Targets::new().with_target("homeroom", LevelFilter::ERROR)
}

/// A file that is set aside when it reaches its size.
#[derive(Debug)]
struct RotatingFile {
    path: PathBuf,
    file: fs::File,
    size_bytes: u64,
    max_size_bytes: u64,
    kept: u32,
}

impl RotatingFile {
    fn open(path: &Path, max_size_bytes: u64, kept: u32) -> io::Result<Self> {
        let file = super::private::append(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, size_bytes, max_size_bytes, kept })
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            match fs::rename(self.aside(number), self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.aside(1))?;
        self.file = super::private::append(&self.path)?;
        self.size_bytes = self.file.metadata()?.len();
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        // When the old file cannot be set aside (another process did it first, the disk is full), the line still has a place.
        if self.size_bytes > 0 && self.size_bytes.saturating_add(len) > self.max_size_bytes && self.rotate().is_err() {
            self.size_bytes = 0;
        }
        self.file.write_all(line)?;
        self.size_bytes = self.size_bytes.saturating_add(len);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = RotatingFile::open(&path, 10, 2).unwrap();
        for line in ["first 8\n", "second\n", "third\n", "fourth\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth\n");
        assert_eq!(fs::read_to_string(dir.path().join("x.log.1")).unwrap(), "third\n");
        assert_eq!(fs::read_to_string(dir.path().join("x.log.2")).unwrap(), "second\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_wrong_filter_is_named() {
        assert!(check_filter("info,homeroom=debug").is_ok());
        assert!(check_filter("homeroom=loud").is_err());
    }
}
