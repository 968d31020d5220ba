//! Files that one process holds at a time.

use std::fs::{File, TryLockError};

/// A locked file (`flock`), until it is dropped.
///
/// A program that this process starts has a copy of the handle for a moment, before it becomes that program: closing ours would
/// leave the lock with it. So the lock is given back rather than left to the handle's end.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Takes the lock of an open file.
    ///
    /// # Errors
    /// `WouldBlock` with the file when somebody else has it, or what the system says.
    pub fn take(file: File) -> Result<Self, (TryLockError, File)> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(error) => Err((error, file)),
        }
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a lock is given back only when its file is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_copy_of_the_handle_does_not_keep_the_lock() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let open = || File::options().create(true).truncate(false).write(true).open(dir.path().join("lock"));
        let lock = FileLock::take(open()?).expect("nobody has it");
        assert!(matches!(FileLock::take(open()?), Err((TryLockError::WouldBlock, _))));
        // As a process has that was forked and has not become another program yet.
        let copy = lock.0.try_clone()?;
        drop(lock);
        assert!(FileLock::take(open()?).is_ok());
        drop(copy);
        Ok(())
    }
}
