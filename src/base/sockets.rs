//! Unix sockets in directories with long names: a socket's address has room for 103 bytes, and homes may be deeper than that.
//!
//! Such a socket is made in a short private directory instead, and a file beside its proper place (`node.sock.at`) says where,
//! so that whoever knows the proper place finds it.

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::private;

/// Longest path that fits a Unix socket's address on every system we run on (104 bytes with the closing zero on macOS).
pub const PATH_MAX: usize = 103;

/// Where the socket with this path is, for who connects.
#[must_use]
pub fn find(path: &Path) -> PathBuf {
    if fits(path) {
        return path.to_path_buf();
    }
    let there = std::fs::read_to_string(pointer(path)).ok().map(PathBuf::from);
    there.filter(|there| there.is_absolute()).unwrap_or_else(|| path.to_path_buf())
}

/// Where to make the socket with this path, for who serves. Leaves word of it where that is somewhere else.
///
/// # Errors
/// When the short directory cannot be made, is not ours alone, or word of it cannot be left.
pub fn place(path: &Path) -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir());
    place_below(path, &[runtime.unwrap_or_else(std::env::temp_dir), PathBuf::from("/tmp")])
}

/// Removes the socket with this path, and the word of where it was.
///
/// # Errors
/// When the socket cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let there = find(path);
    std::fs::remove_file(&there)?;
    if there != path {
        std::fs::remove_file(pointer(path))?;
        // Fails where another socket is, which is as it should be.
        let _ = there.parent().map(std::fs::remove_dir);
    }
    Ok(())
}

fn place_below(path: &Path, bases: &[PathBuf]) -> io::Result<PathBuf> {
    if fits(path) {
        return Ok(path.to_path_buf());
    }
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let proper = std::path::absolute(path)?;
    let hash = Sha256::digest(proper.parent().unwrap_or(&proper).as_os_str().as_bytes());
    let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let owner = format!("homeroom-{}", rustix::process::geteuid().as_raw());
    let there = bases.iter().map(|base| base.join(&owner).join(&short).join(name)).find(|there| fits(there));
    let there = there.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no directory has a path short enough for a socket"))?;
    for dir in there.ancestors().skip(1).take(2).collect::<Vec<_>>().into_iter().rev() {
        // In a directory that is everybody's, somebody else may have been first.
        if std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink()) {
            let message = format!("{} is a link; it may not be ours", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        private::create_dir(dir)?;
    }
    private::write(&pointer(path), there.as_os_str().as_bytes())?;
    Ok(there)
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= PATH_MAX
}

fn pointer(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".at");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    #[test]
    fn a_short_path_is_its_own_place() {
        let path = Path::new("/home/ann/node.sock");
        assert_eq!(place_below(path, &[]).unwrap(), path);
        assert_eq!(find(path), path);
    }

    #[test]
    fn a_long_path_is_found_through_the_word_that_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, runtime) = (dir.path().join("x".repeat(120)), dir.path().join("run"));
        private::create_dir(&deep).unwrap();
        let path = deep.join("node.sock");
        assert_eq!(find(&path), path, "nobody has made it yet");
        let there = place_below(&path, &[dir.path().join("y".repeat(100)), runtime.clone()]).unwrap();
        assert!(fits(&there) && there.starts_with(&runtime), "{there:?}");
        assert_eq!(find(&path), there);
        let _listener = std::os::unix::net::UnixListener::bind(&there).unwrap();
        std::os::unix::net::UnixStream::connect(find(&path)).unwrap();
        assert_eq!(place_below(&path, std::slice::from_ref(&runtime)).unwrap(), there, "the same again");
        let other = place_below(&deep.join("admin.sock"), std::slice::from_ref(&runtime)).unwrap();
        assert_eq!(other.parent(), there.parent());
        remove(&path).unwrap();
        assert!(!there.parent().unwrap().exists() && find(&path) == path);
    }

    #[test]
    fn a_directory_that_somebody_else_may_have_made_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, elsewhere) = (dir.path().join("x".repeat(120)), dir.path().join("elsewhere"));
        private::create_dir(&deep).unwrap();
        private::create_dir(&elsewhere).unwrap();
        let runtime = dir.path().join("run");
        private::create_dir(&runtime).unwrap();
        let link = runtime.join(format!("homeroom-{}", rustix::process::geteuid().as_raw()));
        std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        let refused = place_below(&deep.join("node.sock"), &[runtime]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
