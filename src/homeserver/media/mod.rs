//! The media repository: files in the data directory, rows in the store.
//!
//! Files are streamed in and out, never held in memory. A file is on disk under its name before its row is committed, so
//! whatever was acknowledged is there. Knows nothing of HTTP.

mod files;
pub mod places;
pub mod preview;
mod removal;
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

use self::files::Files;
pub use self::thumbnails::{Method, Thumbnail};
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

/// The media repository of a node.
#[derive(Debug)]
pub struct Media {
    store: store::Store,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    files: Files,
    limit: u64,
    /// Places that are being filled right now: two uploads to one place must not both win.
    filling: Mutex<HashSet<String>>,
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
        limit: u64,
    ) -> Result<Self, (PathBuf, std::io::Error)> {
        let dir = data_dir.join("media");
        let files = Files::open(dir.clone()).map_err(|error| (dir, error))?;
        Ok(Self {
            store,
            clock,
            randomness,
            files,
            limit,
            filling: Mutex::default(),
            uploads: watch::Sender::new(0),
            decoding: Arc::new(Semaphore::new(1)),
        })
    }

    /// Largest file that may be uploaded.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
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
        let written = self.files.receive(&name, bytes, self.limit).await?;
        let size = written.size_bytes();
        let path = self.files.original(&media_id).ok_or(MediaError::NotFound)?;
        written.keep(path).await?;
        let keep = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= NAME_BYTES);
        let row = Row {
            media_id,
            owner: Some(owner),
            content_type: keep(description.content_type),
            filename: keep(description.filename),
            size_bytes: Some(i64::try_from(size).unwrap_or(i64::MAX)),
            created_ms: self.now_ms(),
        };
        if !self.store.write(move |tx| store::media::uploaded(tx, &row)).await? {
            return Err(MediaError::AlreadyUploaded);
        }
        self.uploads.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
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
        let wanted = wanted.standard();
        if let Some(found) = self.cached(&row.media_id, wanted).await? {
            return Ok(found);
        }
        let original = self.files.original(&row.media_id).ok_or(MediaError::NotFound)?;
        let place = Arc::clone(&self.decoding).acquire_owned().await.map_err(|_| MediaError::NoThumbnail)?;
        // Somebody who waited before us may have made it.
        if let Some(found) = self.cached(&row.media_id, wanted).await? {
            return Ok(found);
        }
        let made = tokio::task::spawn_blocking(move || {
            let _place = place;
            thumbnails::make(&original, wanted)
        });
        // A decoder that panics on a malicious file has found no image in it.
        let made = made.await.unwrap_or_else(|error| {
            tracing::warn!(media_id = %row.media_id, %error, "an image could not be opened");
            Err(MediaError::NoThumbnail)
        })?;
        let Some((bytes, format)) = made else { return self.download(media_id, wait).await };
        let path = self.files.thumbnail(&row.media_id, &wanted.suffix(format)).ok_or(MediaError::NotFound)?;
        self.files.write(&self.randomness.alphanumeric(ID_CHARS), bytes, path.clone()).await?;
        let (file, size_bytes) = files::open(path).await?;
        Ok(thumbnail(file, size_bytes, format))
    }
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
