//! The media repository: files in the data directory, rows in the store.
//!
//! Files are streamed in and out, never held in memory. A file is on disk under its name before its row is committed, so
//! whatever was acknowledged is there. Knows nothing of HTTP.

mod animation;
mod files;
pub mod places;
pub mod preview;
mod remote;
mod removal;
#[cfg(test)]
pub(super) mod samples;
mod thumbnails;

use std::{
    collections::HashSet,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Semaphore, watch};

use self::{files::Files, thumbnails::Made};
pub use self::{
    remote::{Claim as RemoteClaim, Remote},
    thumbnails::{Method, Thumbnail},
};
use super::{
    store::{self, StoreError, media::Media as Row},
    types::UserNid,
};
use crate::base::{Clock, Randomness};

/// How long the place of a file that is to come is kept.
const UNUSED_MS: i64 = 24 * 60 * 60 * 1000;
/// Such places that one user may have at one time.
const PENDING: i64 = 100;
/// Characters of a media ID: nobody guesses one.
const ID_CHARS: usize = 24;
/// Longest content type and file name that is kept.
const NAME_BYTES: usize = 255;

/// Why media was not stored or not given.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// No such file here.
    #[error("there is no such file")]
    NotFound,
    /// There will be one, but not yet.
    #[error("the file has not been uploaded yet")]
    NotYetUploaded,
    /// Somebody else's.
    #[error("this place was made by somebody else")]
    NotOwner,
    /// There is one already.
    #[error("the file has been uploaded already")]
    AlreadyUploaded,
    /// Too many places without files.
    #[error("too many files are still to be uploaded")]
    TooManyPending,
    /// Larger than allowed.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: u64,
    },
    /// The user's files, or everybody's, would take more room than the owner gives them.
    #[error("there is no room left for your files on this server")]
    NoRoom,
    /// The client stopped in the middle.
    #[error("the upload broke off")]
    BrokenOff,
    /// Not an image that can be made smaller.
    #[error("no thumbnail can be made of this file")]
    NoThumbnail,
    /// An image of too many pixels to be opened.
    #[error("the image is too large for a thumbnail")]
    ImageTooLarge,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The file system failed.
    #[error("media files: {0}")]
    Io(std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<std::io::Error> for MediaError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Io(error) }
    }
}

/// What an uploader says of a file.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// What it is.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
}

/// The bytes of an upload as they come. An error ends it.
pub type Upload<'a> = Pin<&'a mut (dyn Stream<Item = Result<Bytes, MediaError>> + Send)>;

/// A file to be sent.
#[derive(Debug)]
pub struct Download {
    /// Open at its start.
    pub file: tokio::fs::File,
    /// Its size.
    pub size_bytes: u64,
    /// What its uploader says that it is.
    pub content_type: Option<String>,
    /// What its uploader called it.
    pub filename: Option<String>,
}

/// How much room files may take, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One file.
    pub file: u64,
    /// All files of one user.
    pub user: Option<u64>,
    /// All files that users have uploaded.
    pub total: Option<u64>,
}

/// How long files are kept, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// After the upload.
    pub age_ms: Option<u64>,
    /// After somebody last got them.
    pub unused_ms: Option<u64>,
}

/// A download of a file is written down at most this often.
const USED_EVERY_MS: i64 = 24 * 60 * 60 * 1000;
/// Files that are removed between two looks at the list.
const AT_ONCE: usize = 100;

/// The media repository of a node.
#[derive(Debug)]
pub struct Media {
    store: store::Store,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    files: Files,
    limits: Limits,
    /// Places that are being filled right now: two uploads to one place must not both win.
    filling: Mutex<HashSet<String>>,
    /// Other servers' files that are being fetched right now.
    fetching: remote::Fetching,
    /// Changes with every finished upload, for those who wait for one.
    uploads: watch::Sender<u64>,
    /// Opening an image takes up to 200 MB for a moment: one at a time.
    decoding: Arc<Semaphore>,
}

impl Media {
    /// The repository in `media/` of this data directory. What uploads left behind that broke off is removed.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made. Blocks: call it off the runtime.
    pub fn open(
        data_dir: &std::path::Path,
        store: store::Store,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        limits: Limits,
    ) -> Result<Self, (PathBuf, std::io::Error)> {
        let dir = data_dir.join("media");
        let files = Files::open(dir.clone()).map_err(|error| (dir, error))?;
        Ok(Self {
            store,
            clock,
            randomness,
            files,
            limits,
            filling: Mutex::default(),
            fetching: remote::Fetching::default(),
            uploads: watch::Sender::new(0),
            decoding: Arc::new(Semaphore::new(1)),
        })
    }

    /// Largest file that may be uploaded.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limits.file
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    fn new_id(&self) -> String {
        self.randomness.alphanumeric(ID_CHARS)
    }

    /// Stores a file and gives it an ID.
    ///
    /// # Errors
    ///
    /// [`MediaError`]; nothing is kept then.
    pub async fn upload(&self, owner: UserNid, description: Description, bytes: Upload<'_>) -> Result<String, MediaError> {
        let media_id = self.new_id();
        self.receive(media_id.clone(), owner, description, bytes).await?;
        Ok(media_id)
    }

    /// Makes a place for a file that comes later. Returns its ID and when it is given up.
    ///
    /// # Errors
    ///
    /// [`MediaError::TooManyPending`].
    pub async fn reserve(&self, owner: UserNid) -> Result<(String, u64), MediaError> {
        let (media_id, now_ms) = (self.new_id(), self.now_ms());
        let id = media_id.clone();
        self.store
            .write(move |tx| {
                store::media::forget_unused(tx, now_ms.saturating_sub(UNUSED_MS))?;
                if store::media::pending(&tx.reader(), owner, now_ms.saturating_sub(UNUSED_MS))? >= PENDING {
                    return Err(MediaError::TooManyPending);
                }
                Ok(store::media::reserve(tx, &id, owner, now_ms)?)
            })
            .await?;
        Ok((media_id, now_ms.saturating_add(UNUSED_MS).unsigned_abs()))
    }

    /// Stores the file of a place that its owner has made.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn fill(&self, media_id: &str, owner: UserNid, description: Description, bytes: Upload<'_>) -> Result<(), MediaError> {
        let _claim = Claim::take(&self.filling, media_id).ok_or(MediaError::AlreadyUploaded)?;
        let row = self.row(media_id).await?;
        if row.owner != Some(owner) {
            return Err(MediaError::NotOwner);
        }
        if row.size_bytes.is_some() {
            return Err(MediaError::AlreadyUploaded);
        }
        self.receive(row.media_id, owner, description, bytes).await
    }

    async fn receive(&self, media_id: String, owner: UserNid, description: Description, bytes: Upload<'_>) -> Result<(), MediaError> {
        let name = self.randomness.alphanumeric(ID_CHARS);
        let limits = self.limits;
        let left = self.store.read(move |db| room_left(db, limits, owner)).await?;
        let written = match self.files.receive(&name, bytes, limits.file.min(left)).await {
            Err(MediaError::TooLarge { limit }) if limit < limits.file => return Err(MediaError::NoRoom),
            other => other?,
        };
        let size = written.size_bytes();
        let path = self.files.original(&media_id).ok_or(MediaError::NotFound)?;
        written.keep(path.clone()).await?;
        let keep = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= NAME_BYTES);
        let row = Row {
            media_id,
            owner: Some(owner),
            content_type: keep(description.content_type),
            filename: keep(description.filename),
            size_bytes: Some(i64::try_from(size).unwrap_or(i64::MAX)),
            created_ms: self.now_ms(),
            used_ms: None,
        };
        let stored = self.store.write(move |tx| {
            // Several uploads may have been under way.
            if room_left(&tx.reader(), limits, owner)? < size {
                return Err(MediaError::NoRoom);
            }
            if store::media::uploaded(tx, &row)? { Ok(()) } else { Err(MediaError::AlreadyUploaded) }
        });
        if let Err(error) = stored.await {
            if matches!(error, MediaError::NoRoom) {
                tokio::fs::remove_file(path).await?;
            }
            return Err(error);
        }
        self.uploads.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Removes files that are older, or have been unused for longer, than the owner keeps them. Returns how many.
    ///
    /// Pictures of people and rooms stay, whatever their age.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn expire(&self, retention: Retention, server: &str) -> Result<usize, MediaError> {
        if retention.age_ms.is_none() && retention.unused_ms.is_none() {
            return Ok(0);
        }
        let ago = |ms: Option<u64>| ms.map_or(i64::MIN, |ms| self.now_ms().saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
        let (before_ms, unused_since_ms) = (ago(retention.age_ms), ago(retention.unused_ms));
        let pictures = self.store.read(store::media::pictures).await?;
        let (mut gone, mut after) = (0, String::new());
        loop {
            let from = after.clone();
            let found = self.store.read(move |db| store::media::stale(db, before_ms, unused_since_ms, &from, AT_ONCE)).await?;
            let Some(last) = found.last() else { return Ok(gone) };
            after.clone_from(last);
            for media_id in found.into_iter().filter(|media_id| !pictures.contains(&format!("mxc://{server}/{media_id}"))) {
                gone += usize::from(self.delete(&media_id).await?);
            }
        }
    }

    /// Removes a file with its thumbnails. False when there is none.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn delete(&self, media_id: &str) -> Result<bool, MediaError> {
        match self.row(media_id).await {
            Ok(row) if row.size_bytes.is_some() => self.remove(media_id).await.map(|()| true),
            Ok(_) | Err(MediaError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes that somebody gets a file. That it could not be noted keeps nobody from it.
    async fn note_use(&self, row: &Row) {
        let now_ms = self.now_ms();
        if now_ms.saturating_sub(row.used_ms.unwrap_or(row.created_ms)) < USED_EVERY_MS {
            return;
        }
        let id = row.media_id.clone();
        if let Err(error) = self.store.write(move |tx| store::media::used(tx, &id, now_ms)).await {
            tracing::warn!(%error, "the use of a file was not noted");
        }
    }

    /// The row of a media ID, unless its time is over.
    async fn row(&self, media_id: &str) -> Result<Row, MediaError> {
        // Only what we gave out reaches the file system, whatever a path says.
        if !files::is_media_id(media_id) {
            return Err(MediaError::NotFound);
        }
        let id = media_id.to_owned();
        let row = self.store.read(move |db| store::media::get(db, &id)).await?.ok_or(MediaError::NotFound)?;
        let expired = row.size_bytes.is_none() && row.created_ms.saturating_add(UNUSED_MS) <= self.now_ms();
        if expired { Err(MediaError::NotFound) } else { Ok(row) }
    }

    /// The row of a file that is there; waits for its upload that long.
    async fn uploaded_row(&self, media_id: &str, wait: Duration) -> Result<Row, MediaError> {
        let mut uploads = self.uploads.subscribe();
        // Whoever does not want to wait gets an answer all the same.
        let row = self.row(media_id).await?;
        if row.size_bytes.is_some() {
            return Ok(row);
        }
        let found = tokio::time::timeout(wait, async {
            loop {
                let row = self.row(media_id).await?;
                if row.size_bytes.is_some() {
                    return Ok(row);
                }
                // The sender lives as long as `self`.
                if uploads.changed().await.is_err() {
                    return Err(MediaError::NotYetUploaded);
                }
            }
        });
        found.await.unwrap_or(Err(MediaError::NotYetUploaded))
    }

    /// Opens a file for sending.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn download(&self, media_id: &str, wait: Duration) -> Result<Download, MediaError> {
        let row = self.uploaded_row(media_id, wait).await?;
        self.note_use(&row).await;
        let path = self.files.original(&row.media_id).ok_or(MediaError::NotFound)?;
        let (file, size_bytes) = files::open(path).await?;
        Ok(Download { file, size_bytes, content_type: row.content_type, filename: row.filename })
    }

    /// A thumbnail that has been made before.
    async fn cached(&self, media_id: &str, wanted: Thumbnail) -> Result<Option<Download>, MediaError> {
        for format in thumbnails::FORMATS {
            let path = self.files.thumbnail(media_id, &wanted.suffix(format)).ok_or(MediaError::NotFound)?;
            match files::open(path).await {
                Ok((file, size_bytes)) => return Ok(Some(thumbnail(file, size_bytes, format))),
                Err(MediaError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens a thumbnail for sending: the original where that is small enough already.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn thumbnail(&self, media_id: &str, wanted: Thumbnail, wait: Duration) -> Result<Download, MediaError> {
        let row = self.uploaded_row(media_id, wait).await?;
        self.note_use(&row).await;
        let original = self.files.original(&row.media_id).ok_or(MediaError::NotFound)?;
        match self.smaller(&row.media_id, original, wanted.standard()).await? {
            Some(made) => Ok(made),
            None => self.download(media_id, wait).await,
        }
    }

    /// A thumbnail of the image at `original`, from before or made now; `None` where the image is small enough as it is. `name`
    /// tells the thumbnails of different images apart.
    async fn smaller(&self, name: &str, original: PathBuf, wanted: Thumbnail) -> Result<Option<Download>, MediaError> {
        let mut wanted = wanted;
        loop {
            wanted.animated = wanted.animated && !self.stands_still(name, wanted).await?;
            if let Some(found) = self.cached(name, wanted).await? {
                return Ok(Some(found));
            }
            let place = Arc::clone(&self.decoding).acquire_owned().await.map_err(|_| MediaError::NoThumbnail)?;
            // Somebody who waited before us may have made it.
            if let Some(found) = self.cached(name, wanted).await? {
                return Ok(Some(found));
            }
            let path = original.clone();
            let made = tokio::task::spawn_blocking(move || {
                let _place = place;
                thumbnails::make(&path, wanted)
            });
            // A decoder that panics on a malicious file has found no image in it.
            let made = made.await.unwrap_or_else(|error| {
                tracing::warn!(media_id = %name, %error, "an image could not be opened");
                Err(MediaError::NoThumbnail)
            })?;
            let (suffix, bytes, format) = match made {
                Made::Small => return Ok(None),
                Made::Still => (wanted.still_suffix(), Vec::new(), None),
                Made::Thumbnail(bytes, format) => (wanted.suffix(format), bytes, Some(format)),
            };
            let path = self.files.thumbnail(name, &suffix).ok_or(MediaError::NotFound)?;
            self.files.write(&self.randomness.alphanumeric(ID_CHARS), bytes, path.clone()).await?;
            if let Some(format) = format {
                let (file, size_bytes) = files::open(path).await?;
                return Ok(Some(thumbnail(file, size_bytes, format)));
            }
            wanted.animated = false;
        }
    }

    /// Is it known that this image has no thumbnail that moves?
    async fn stands_still(&self, name: &str, wanted: Thumbnail) -> Result<bool, MediaError> {
        let path = self.files.thumbnail(name, &wanted.still_suffix()).ok_or(MediaError::NotFound)?;
        Ok(tokio::fs::try_exists(path).await?)
    }
}

/// Bytes that a user may still upload.
fn room_left(db: &store::Reader<'_>, limits: Limits, owner: UserNid) -> Result<u64, MediaError> {
    if limits.user.is_none() && limits.total.is_none() {
        return Ok(u64::MAX);
    }
    let (own, all) = store::media::usage(db, owner)?;
    let left = |limit: Option<u64>, used: u64| limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
    Ok(left(limits.user, own).min(left(limits.total, all)))
}

/// The right to fill a place, given back when dropped.
struct Claim<'a> {
    filling: &'a Mutex<HashSet<String>>,
    media_id: String,
}

impl<'a> Claim<'a> {
    fn take(filling: &'a Mutex<HashSet<String>>, media_id: &str) -> Option<Self> {
        let new = filling.lock().unwrap_or_else(PoisonError::into_inner).insert(media_id.to_owned());
        new.then(|| Self { filling, media_id: media_id.to_owned() })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.media_id);
    }
}

fn thumbnail(file: tokio::fs::File, size_bytes: u64, format: thumbnails::Format) -> Download {
    Download {
        file,
        size_bytes,
        content_type: Some(format.content_type().to_owned()),
        filename: Some(format!("thumbnail.{}", format.extension())),
    }
}
