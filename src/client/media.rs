//! Saves media to files: decrypted, under a name that is safe, never over an existing file, never half.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_sdk::{
    Client,
    media::{MediaFormat, MediaRequestParameters},
};
use matrix_sdk_ui::timeline::{EventTimelineItem, MsgLikeKind, TimelineItemContent};
use ruma::events::{
    room::{MediaSource, message::MessageType},
    sticker::StickerMediaSource,
};
use tokio::io::AsyncWriteExt;

use super::{context::within, words::Trouble};

/// Longest wait for a download.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Longest file name made from a sender's, in bytes.
const NAME_BYTES: usize = 120;

/// The media of an event, with its file name.
pub(super) fn source_of(event: &EventTimelineItem) -> Option<(MediaSource, String)> {
    let TimelineItemContent::MsgLike(content) = event.content() else { return None };
    match &content.kind {
        MsgLikeKind::Message(message) => Some(match message.msgtype() {
            MessageType::Audio(file) => (file.source.clone(), file.filename().to_owned()),
            MessageType::File(file) => (file.source.clone(), file.filename().to_owned()),
            MessageType::Image(file) => (file.source.clone(), file.filename().to_owned()),
            MessageType::Video(file) => (file.source.clone(), file.filename().to_owned()),
            _ => return None,
        }),
        MsgLikeKind::Sticker(sticker) => {
            let source = match &sticker.content().source {
                StickerMediaSource::Plain(uri) => MediaSource::Plain(uri.clone()),
                StickerMediaSource::Encrypted(file) => MediaSource::Encrypted(file.clone()),
                _ => return None,
            };
            Some((source, sticker.content().body.clone()))
        }
        _ => None,
    }
}

/// Downloads to a file and says which. A directory as target takes the sender's name, made safe.
pub(super) async fn download(client: &Client, source: MediaSource, filename: &str, to: Option<PathBuf>) -> Result<PathBuf, Trouble> {
    let (dir, name) = match to {
        None => (download_dir()?, safe_name(filename)),
        Some(path) if path.is_dir() => (path, safe_name(filename)),
        Some(path) => {
            let name = path.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf);
            (dir, name.ok_or_else(|| Trouble::Other("that is not a usable file name".to_owned()))?)
        }
    };
    tokio::fs::create_dir_all(&dir).await?;
    let request = MediaRequestParameters { source, format: MediaFormat::File };
    // Not kept in the SDK's media store: it is about to be in a file, and the store is for what the screen shows.
    let data = within(DOWNLOAD_TIMEOUT, client.media().get_media_content(&request, false)).await?;
    write_new(&dir, &name, &data).await
}

fn download_dir() -> Result<PathBuf, Trouble> {
    let dirs =
        directories::UserDirs::new().ok_or_else(|| Trouble::Other("there is no home directory to save to; name a file".to_owned()))?;
    Ok(dirs.download_dir().map_or_else(|| dirs.home_dir().join("Downloads"), Path::to_path_buf))
}

/// Writes under a name that is free: `name`, `name (2)` and so on. What could not be written whole is removed.
async fn write_new(dir: &Path, name: &str, data: &[u8]) -> Result<PathBuf, Trouble> {
    for attempt in 1..1000 {
        let path = dir.join(numbered(name, attempt));
        let mut file = match tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error.into()),
        };
        let written = async {
            file.write_all(data).await?;
            file.sync_all().await
        };
        if let Err(error) = written.await {
            drop(file);
            if let Err(error) = tokio::fs::remove_file(&path).await {
                tracing::warn!(%error, "a half-written download could not be removed");
            }
            return Err(error.into());
        }
        return Ok(path);
    }
    Err(Trouble::Other("there are too many files of that name".to_owned()))
}

fn numbered(name: &str, attempt: u32) -> String {
    if attempt == 1 {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{stem} ({attempt}).{extension}"),
        _ => format!("{name} ({attempt})"),
    }
}

/// A sender's file name without anything that could reach outside the directory, hide the file, or upset a terminal.
fn safe_name(filename: &str) -> String {
    let last = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    let cleaned: String = last
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .map(|c| if matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c })
        .collect();
    let trimmed = cleaned.trim().trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']);
    if trimmed.is_empty() {
        return "file".to_owned();
    }
    if trimmed.len() <= NAME_BYTES {
        return trimmed.to_owned();
    }
    let extension = trimmed.rsplit_once('.').map(|(_, extension)| extension).filter(|extension| extension.len() <= 12).unwrap_or_default();
    let mut stem: String = trimmed.to_owned();
    let room = NAME_BYTES.saturating_sub(extension.len() + 1);
    while stem.len() > room {
        stem.pop();
    }
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_the_directory_or_hide() {
        assert_eq!(safe_name("../../etc/passwd"), "passwd");
        assert_eq!(safe_name("..\\..\\evil.exe"), "evil.exe");
        assert_eq!(safe_name(".bashrc"), "bashrc");
        assert_eq!(safe_name("-rf"), "rf");
        assert_eq!(safe_name("a\u{202e}gpj.exe"), "agpj.exe");
        assert_eq!(safe_name("\u{1b}]0;x\u{7}"), "]0;x");
        assert_eq!(safe_name("///"), "file");
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = safe_name(&format!("{}.tar", "ä".repeat(300)));
        assert!(name.len() <= NAME_BYTES && name.ends_with(".tar"), "{name}");
    }

    #[tokio::test]
    async fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = write_new(dir.path(), "a.txt", b"one").await.expect("written");
        let second = write_new(dir.path(), "a.txt", b"two").await.expect("written");
        assert_eq!(second.file_name().and_then(|name| name.to_str()), Some("a (2).txt"));
        assert_eq!(std::fs::read(first).expect("read"), b"one");
        assert_eq!(std::fs::read(second).expect("read"), b"two");
    }
}
