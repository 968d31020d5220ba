//! Files of other servers that are kept for a while.

use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx};

/// A kept file, or a thumbnail of one that its server made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMedia {
    /// Whose it is.
    pub server: String,
    /// Its ID there.
    pub media_id: String,
    /// Empty for the file; otherwise which thumbnail.
    pub variant: String,
    /// Its name with us.
    pub file: String,
    /// What its server says that it is.
    pub content_type: Option<String>,
    /// What its uploader called it.
    pub filename: Option<String>,
    /// Its size.
    pub size_bytes: i64,
    /// When it was last used, as far as that was noted, in milliseconds since the Unix epoch.
    pub used_ms: i64,
}

/// Looks a file up.
///
/// # Errors
///
/// Database errors.
pub fn get(db: &Reader<'_>, server: &str, media_id: &str, variant: &str) -> Result<Option<RemoteMedia>> {
    let mut query = db.prepare_cached(
        "SELECT file, content_type, filename, size_bytes, used_ms FROM remote_media WHERE server = ?1 AND media_id = ?2 AND variant = ?3",
    )?;
    let found = query.query_row((server, media_id, variant), |row| {
        Ok(RemoteMedia {
            server: server.to_owned(),
            media_id: media_id.to_owned(),
            variant: variant.to_owned(),
            file: row.get(0)?,
            content_type: row.get(1)?,
            filename: row.get(2)?,
            size_bytes: row.get(3)?,
            used_ms: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

/// Notes a file that is on disk. Returns the name of the one that it replaces.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, media: &RemoteMedia) -> Result<Option<String>> {
    let before = get(&tx.reader(), &media.server, &media.media_id, &media.variant)?;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO remote_media (server, media_id, variant, file, content_type, filename, size_bytes, used_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        &media.server,
        &media.media_id,
        &media.variant,
        &media.file,
        &media.content_type,
        &media.filename,
        media.size_bytes,
        media.used_ms,
    ))?;
    Ok(before.map(|before| before.file))
}

/// Notes that a file was used.
///
/// # Errors
///
/// Database errors.
pub fn used(tx: &Tx<'_>, file: &str, now_ms: i64) -> Result<()> {
    tx.prepare_cached("UPDATE remote_media SET used_ms = ?2 WHERE file = ?1")?.execute((file, now_ms))?;
    Ok(())
}

/// Takes rows out, those first that nobody has used for longest, until the rest holds no more than this. Returns their names.
///
/// # Errors
///
/// Database errors.
pub fn shrink(tx: &Tx<'_>, to_bytes: i64, at_most: usize) -> Result<Vec<String>> {
    let mut total: i64 = tx.prepare_cached("SELECT coalesce(sum(size_bytes), 0) FROM remote_media")?.query_row([], |row| row.get(0))?;
    let mut gone = Vec::new();
    while total > to_bytes && gone.len() < at_most {
        let oldest: Option<(String, i64)> = tx
            .prepare_cached(
                "DELETE FROM remote_media WHERE file = (SELECT file FROM remote_media ORDER BY used_ms LIMIT 1) RETURNING file, size_bytes",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((file, size)) = oldest else { break };
        total = total.saturating_sub(size);
        gone.push(file);
    }
    Ok(gone)
}

/// Is there a row for this name?
///
/// # Errors
///
/// Database errors.
pub fn is_kept(db: &Reader<'_>, file: &str) -> Result<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM remote_media WHERE file = ?1")?.exists([file])?)
}
