//! Files of other servers, kept within a bound: those that nobody has used for longest go first.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{Description, Download, Media, MediaError, NAME_BYTES, Thumbnail, Upload, files, removal::BATCH};
use crate::homeserver::{
    config::Config,
    store::{self, remote_media::RemoteMedia as Row},
};

/// Bytes of other servers' files that are kept.
const KEPT_BYTES: i64 = 1 << 30;
/// Files that make room in one transaction.
const EVICTED: usize = 1000;
/// A use is noted when the last one noted was longer ago, in milliseconds: nobody needs it to the second.
const USED_MS: i64 = 60 * 60 * 1000;

/// A file of another server, or a thumbnail that it made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Whose it is.
    pub server: String,
    /// Its ID there.
    pub media_id: String,
    /// Empty for the file; otherwise which thumbnail.
    pub variant: String,
}

/// Files that are being fetched, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Fetching(Mutex<HashMap<Remote, watch::Sender<()>>>);

/// The part of fetching a file, given back when dropped.
#[derive(Debug)]
pub struct Claim<'a> {
    fetching: &'a Fetching,
    remote: Remote,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let gone = self.fetching.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.remote);
        // Whoever waits looks again: the file is there, or it is their turn.
        if let Some(gone) = gone {
            gone.send_replace(());
        }
    }
}

impl Media {
    /// Largest file of another server that is fetched, in bytes: what servers commonly allow, whatever is allowed here.
    #[must_use]
    pub fn remote_limit(&self) -> u64 {
        self.limits.file.max(Config::MAX_UPLOAD_BYTES)
    }

    /// Takes the part of fetching a file.
    ///
    /// # Errors
    ///
    /// What tells when somebody else, who has it, is done.
    pub fn claim_remote(&self, remote: &Remote) -> Result<Claim<'_>, watch::Receiver<()>> {
        let mut fetching = self.fetching.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = fetching.get(remote) {
            return Err(other.subscribe());
        }
        fetching.insert(remote.clone(), watch::Sender::new(()));
        Ok(Claim { fetching: &self.fetching, remote: remote.clone() })
    }

    /// Removes files of other servers without a row, as [`Self::sweep`] does with ours.
    pub(super) async fn sweep_remote(&self, older_than: Duration) -> Result<usize, MediaError> {
        let files = self.files.clone();
        let (give, mut batches) = tokio::sync::mpsc::channel::<Vec<String>>(1);
        let listing =
            tokio::task::spawn_blocking(move || files.older_than("remote", older_than, BATCH, |batch| give.blocking_send(batch).is_ok()));
        let mut gone = 0;
        while let Some(batch) = batches.recv().await {
            for name in batch {
                let file = name.clone();
                if !self.store.read(move |db| store::remote_media::is_kept(db, &file)).await? {
                    self.files.remove_remote(&name).await;
                    gone += 1;
                }
            }
        }
        listing.await.map_err(|error| MediaError::Io(std::io::Error::other(error)))?;
        Ok(gone)
    }

    async fn remote_row(&self, remote: &Remote) -> Result<Option<Row>, MediaError> {
        let wanted = remote.clone();
        let row = self.store.read(move |db| store::remote_media::get(db, &wanted.server, &wanted.media_id, &wanted.variant)).await?;
        if let Some(row) = &row {
            let (file, now_ms) = (row.file.clone(), self.now_ms());
            if now_ms.saturating_sub(row.used_ms) >= USED_MS {
                self.store.write(move |tx| store::remote_media::used(tx, &file, now_ms)).await?;
            }
        }
        Ok(row)
    }

    /// Opens a file that is kept.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn remote(&self, remote: &Remote) -> Result<Option<Download>, MediaError> {
        let Some(row) = self.remote_row(remote).await? else { return Ok(None) };
        let path = self.files.remote(&row.file).ok_or(MediaError::NotFound)?;
        match files::open(path).await {
            Ok((file, size_bytes)) => Ok(Some(Download { file, size_bytes, content_type: row.content_type, filename: row.filename })),
            // It has just made room for others, or somebody tidied up: it is fetched again.
            Err(MediaError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A smaller image of a file that is kept.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn remote_thumbnail(&self, server: &str, media_id: &str, wanted: Thumbnail) -> Result<Option<Download>, MediaError> {
        let original = Remote { server: server.to_owned(), media_id: media_id.to_owned(), variant: String::new() };
        let Some(row) = self.remote_row(&original).await? else { return Ok(None) };
        let path = self.files.remote(&row.file).ok_or(MediaError::NotFound)?;
        match self.smaller(&row.file, path, wanted.standard()).await {
            Ok(Some(made)) => Ok(Some(made)),
            // Small enough as it is.
            Ok(None) => self.remote(&original).await,
            Err(MediaError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a file as it comes, and opens it.
    ///
    /// # Errors
    ///
    /// [`MediaError`]; nothing is kept then.
    pub async fn keep_remote(&self, remote: &Remote, description: Description, bytes: Upload<'_>) -> Result<Download, MediaError> {
        let file = self.new_id();
        let written = self.files.receive(&self.new_id(), bytes, self.remote_limit()).await?;
        let size = written.size_bytes();
        let path = self.files.remote(&file).ok_or(MediaError::NotFound)?;
        written.keep(path.clone()).await?;
        let keep = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= NAME_BYTES);
        let row = Row {
            server: remote.server.clone(),
            media_id: remote.media_id.clone(),
            variant: remote.variant.clone(),
            file,
            content_type: keep(description.content_type),
            filename: keep(description.filename),
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
            used_ms: self.now_ms(),
        };
        let (file, size_bytes) = files::open(path).await?;
        let found = Download { file, size_bytes, content_type: row.content_type.clone(), filename: row.filename.clone() };
        if let Some(replaced) = self.store.write(move |tx| store::remote_media::put(tx, &row)).await? {
            self.files.remove_remote(&replaced).await;
        }
        self.shrink_remote(KEPT_BYTES, EVICTED).await?;
        Ok(found)
    }

    /// Removes files of other servers, those first that nobody has used for longest, until the rest is no more than this: however
    /// many small ones have to make room for a large one. So many of them in one transaction.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub(in crate::homeserver) async fn shrink_remote(&self, to_bytes: i64, at_one_time: usize) -> Result<(), MediaError> {
        loop {
            let gone = self.store.write(move |tx| store::remote_media::shrink(tx, to_bytes, at_one_time)).await?;
            for name in &gone {
                self.files.remove_remote(name).await;
            }
            if gone.len() < at_one_time {
                return Ok(());
            }
        }
    }
}
