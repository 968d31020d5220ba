//! Files go: those that nobody wants any more, and those that nothing knows of.

use std::time::Duration;

use super::{Media, MediaError, Thumbnail};
use crate::homeserver::store;

/// Files that are looked up at one time.
pub(super) const BATCH: usize = 500;

impl Media {
    /// Removes a file, with the thumbnails that were made of it. One that is not there is as good as removed.
    ///
    /// # Errors
    ///
    /// [`MediaError`]; what is left behind is found by [`Self::sweep`].
    pub async fn remove(&self, media_id: &str) -> Result<(), MediaError> {
        let id = media_id.to_owned();
        // The row first: nobody is to be sent half of it.
        self.store.write(move |tx| store::media::delete(tx, &id)).await?;
        self.remove_files(media_id).await
    }

    /// The original last: as long as it is there the others can be found by it.
    async fn remove_files(&self, media_id: &str) -> Result<(), MediaError> {
        let paths = Thumbnail::suffixes().filter_map(|suffix| self.files.thumbnail(media_id, &suffix)).chain(self.files.original(media_id));
        for path in paths {
            match tokio::fs::remove_file(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes files without a row: the process ended between the two. Returns how many there were. Reads all names of the
    /// directory, a batch at a time.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub async fn sweep(&self, older_than: Duration) -> Result<usize, MediaError> {
        let files = self.files.clone();
        let (give, mut batches) = tokio::sync::mpsc::channel::<Vec<String>>(1);
        // Waits for each batch to be taken; ends when nobody takes any.
        let listing =
            tokio::task::spawn_blocking(move || files.older_than("files", older_than, BATCH, |batch| give.blocking_send(batch).is_ok()));
        let mut gone = 0;
        while let Some(mut batch) = batches.recv().await {
            let wanted = batch.clone();
            let known = self.store.read(move |db| store::media::uploaded_among(db, &wanted)).await?;
            batch.retain(|media_id| !known.contains(media_id));
            for media_id in batch {
                self.remove_files(&media_id).await?;
                gone += 1;
            }
        }
        listing.await.map_err(|error| MediaError::Io(std::io::Error::other(error)))?;
        Ok(gone + self.sweep_remote(older_than).await?)
    }
}
