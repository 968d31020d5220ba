//! Media files on disk: written aside, synced, renamed. Names are ours alone.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{MediaError, Thumbnail, Upload};

/// How long an upload may stand still.
const STALLED: std::time::Duration = std::time::Duration::from_secs(60);

/// The directory of a media repository.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
}

/// True for what can be a media ID of ours: nothing in it means anything to a file system.
pub(super) fn is_media_id(text: &str) -> bool {
    (3..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Opens a file and says how large it is.
pub(super) async fn open(path: PathBuf) -> Result<(tokio::fs::File, u64), MediaError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| if error.kind() == std::io::ErrorKind::NotFound { MediaError::NotFound } else { error.into() })?;
    let size_bytes = file.metadata().await?.len();
    Ok((file, size_bytes))
}

impl Files {
    /// Makes the directories and removes what unfinished uploads left behind.
    pub(super) fn open(dir: PathBuf) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let aside = dir.join("incoming");
        match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for part in ["incoming", "files", "remote", "thumbnails"] {
            builder.create(dir.join(part))?;
        }
        Ok(Self { dir })
    }

    fn below(&self, kind: &str, media_id: &str, name: &str) -> Option<PathBuf> {
        // Two letters spread the files over 3844 directories.
        let shard = media_id.get(..2)?;
        is_media_id(media_id).then(|| self.dir.join(kind).join(shard).join(name))
    }

    /// Where the file of a media ID is. `None` for what is no ID.
    pub(super) fn original(&self, media_id: &str) -> Option<PathBuf> {
        self.below("files", media_id, media_id)
    }

    /// Where a file of another server is, by the name that we gave it.
    pub(super) fn remote(&self, name: &str) -> Option<PathBuf> {
        self.below("remote", name, name)
    }

    /// Removes a file of another server, and the thumbnails that were made of it.
    pub(super) async fn remove_remote(&self, name: &str) {
        let paths = Thumbnail::suffixes().filter_map(|suffix| self.thumbnail(name, &suffix)).chain(self.remote(name));
        for path in paths {
            match tokio::fs::remove_file(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "a file of another server could not be removed");
                }
                _ => {}
            }
        }
    }

    /// Where a thumbnail is. The suffix is ours.
    pub(super) fn thumbnail(&self, media_id: &str, suffix: &str) -> Option<PathBuf> {
        self.below("thumbnails", media_id, &format!("{media_id}-{suffix}"))
    }

    /// Gives the names of files of a kind that are older than this, so many at a time, for as long as `give` says to go on. Blocks: call
    /// it off the runtime.
    #[expect(clippy::disallowed_methods, reason = "the times of files are the system's, not the node's")]
    pub(super) fn older_than(&self, kind: &str, age: std::time::Duration, batch: usize, mut give: impl FnMut(Vec<String>) -> bool) {
        let Some(before) = std::time::SystemTime::now().checked_sub(age) else { return };
        let entries = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
        let old = |entry: &std::fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| modified < before);
        let mut names = entries(self.dir.join(kind))
            .flat_map(|shard| entries(shard.path()))
            .filter(old)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_media_id(name));
        loop {
            let some: Vec<String> = names.by_ref().take(batch).collect();
            if some.is_empty() || !give(some) {
                return;
            }
        }
    }

    async fn aside(&self, name: &str) -> Result<Incoming, MediaError> {
        let path = self.dir.join("incoming").join(name);
        let file = tokio::fs::File::options().create_new(true).write(true).open(&path).await?;
        Ok(Incoming { path: Some(path), file, size_bytes: 0 })
    }

    /// Writes an upload aside, chunk by chunk.
    pub(super) async fn receive(&self, name: &str, mut bytes: Upload<'_>, limit: u64) -> Result<Incoming, MediaError> {
        let mut incoming = self.aside(name).await?;
        loop {
            let chunk = tokio::time::timeout(STALLED, bytes.next()).await.map_err(|_| MediaError::BrokenOff)?;
            let Some(chunk) = chunk else { break };
            let chunk = chunk?;
            incoming.size_bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if incoming.size_bytes > limit {
                return Err(MediaError::TooLarge { limit });
            }
            incoming.file.write_all(&chunk).await?;
        }
        Ok(incoming)
    }

    /// Writes a file that is in memory.
    pub(super) async fn write(&self, name: &str, bytes: Vec<u8>, path: PathBuf) -> Result<(), MediaError> {
        let mut incoming = self.aside(name).await?;
        incoming.file.write_all(&bytes).await?;
        incoming.keep(path).await
    }
}

/// A file that is being written. Dropped before it is kept, it disappears.
#[derive(Debug)]
pub(super) struct Incoming {
    path: Option<PathBuf>,
    file: tokio::fs::File,
    size_bytes: u64,
}

impl Incoming {
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Puts the file on disk for good under its name.
    pub(super) async fn keep(mut self, path: PathBuf) -> Result<(), MediaError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let Some(aside) = self.path.take() else { return Err(MediaError::NotFound) };
        let moved = tokio::task::spawn_blocking(move || publish(&aside, &path).inspect_err(|_| drop(std::fs::remove_file(&aside))));
        Ok(moved.await.map_err(std::io::Error::other)??)
    }
}

/// Renames and syncs the directories on the way, so that the name outlives a power cut.
fn publish(aside: &Path, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let shard = path.parent().ok_or_else(|| std::io::Error::other("a media path has a directory"))?;
    if !shard.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(shard)?;
        if let Some(kind) = shard.parent() {
            std::fs::File::open(kind)?.sync_all()?;
        }
    }
    std::fs::rename(aside, path)?;
    std::fs::File::open(shard)?.sync_all()
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(%error, "an unfinished upload could not be removed; it will be at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_id_never_leaves_the_directory() {
        let files = Files { dir: PathBuf::from("/data/media") };
        for bad in ["", "..", "../..", "../../etc/passwd", "a/b/c", "ab/..", "..abc", "abc\0", "äää", ".hidden", "ab", &"x".repeat(65)] {
            assert_eq!(files.original(bad), None, "{bad:?}");
            assert_eq!(files.thumbnail(bad, "x"), None, "{bad:?}");
        }
        assert_eq!(files.original("abCD-_9"), Some(PathBuf::from("/data/media/files/ab/abCD-_9")));
    }
}
