//! Sending: messages, replies, edits, reactions, redactions, files. Everything goes through the SDK's send queue, which is on
//! disk: what was accepted survives a crash, and goes out once, in order.

use std::{path::Path, sync::Arc, time::Duration};

use matrix_sdk::{
    Room,
    attachment::{AttachmentConfig, AttachmentInfo, BaseAudioInfo, BaseFileInfo, BaseImageInfo, BaseVideoInfo},
    room::{
        edit::EditedContent,
        reply::{EnforceThread, Reply, ReplyError},
    },
    send_queue::{RoomSendQueueError, SendHandle},
};
use matrix_sdk_ui::timeline::{EventTimelineItem, ReactionStatus, Timeline, TimelineEventItemId};
use ruma::{
    OwnedEventId, UserId,
    events::{
        AnyMessageLikeEventContent, Mentions,
        room::message::{
            AddMentions, MessageType, ReplyWithinThread, RoomMessageEventContent, RoomMessageEventContentWithoutRelation,
            TextMessageEventContent,
        },
    },
};

use super::{context::within, opening::timeline_trouble, timelines::Handles, words::Trouble};
use crate::client::{command::Draft, view::ItemId};

/// Longest wait for the event that is replied to.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the size of files that the server takes; without knowing, it is left to judge.
const LIMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger files are refused before they are read, whatever the server allows.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// No server takes an event larger than 64 KiB; a message needs room for its HTML, its encryption and its envelope.
const MAX_TEXT_BYTES: usize = 40_000;
/// The content of an event, as JSON: 65,536 bytes (Client-Server API, "Size limits") less what stands around it.
const MAX_CONTENT_BYTES: usize = 60_000;
/// The same where it is encrypted: that makes four bytes of three, and keys and devices are named beside it.
const MAX_ENCRYPTED_CONTENT_BYTES: usize = 44_000;

impl From<RoomSendQueueError> for Trouble {
    fn from(error: RoomSendQueueError) -> Self {
        match error {
            RoomSendQueueError::RoomNotJoined | RoomSendQueueError::RoomDisappeared => Self::Other("you are not in that room".to_owned()),
            RoomSendQueueError::StorageError(error) => Self::of_store(&error),
            RoomSendQueueError::FailedToCreateAttachment => Self::Other("the file could not be prepared".to_owned()),
        }
    }
}

/// The content of a draft, without its relation to other events.
fn content(draft: &Draft) -> Result<RoomMessageEventContentWithoutRelation, Trouble> {
    let text = draft.text.as_str();
    if text.trim().is_empty() {
        return Err(Trouble::Other("there is nothing to send".to_owned()));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(Trouble::Other(format!(
            "the message is too long ({} KB; at most {} KB fit into one); send it as a file instead",
            text.len() / 1000,
            MAX_TEXT_BYTES / 1000
        )));
    }
    let content = match (draft.emote, draft.literal) {
        (false, false) => RoomMessageEventContentWithoutRelation::text_markdown(text),
        (false, true) => RoomMessageEventContentWithoutRelation::text_plain(text),
        (true, false) => RoomMessageEventContentWithoutRelation::emote_markdown(text),
        (true, true) => RoomMessageEventContentWithoutRelation::emote_plain(text),
    };
    // Also when empty: it says that this message mentions nobody, whatever its text looks like.
    let mut mentions = Mentions::with_user_ids(draft.mentions.iter().cloned());
    mentions.room = mentions_room(text);
    Ok(content.add_mentions(mentions))
}

/// Refuses what no server would take, before it is queued: a text that is given back can be sent in another way. An edit holds its
/// content twice.
fn fits(content: &impl serde::Serialize, times: usize, encrypted: bool) -> Result<(), Trouble> {
    let size = serde_json::to_vec(content).map_err(|error| Trouble::Other(error.to_string()))?.len() * times;
    let most = if encrypted { MAX_ENCRYPTED_CONTENT_BYTES } else { MAX_CONTENT_BYTES };
    if size <= most {
        return Ok(());
    }
    Err(Trouble::Other(format!(
        "with its formatting the message is too long ({} KB; at most {} KB fit into one); send it with /plain, or as a file",
        size.div_ceil(1000),
        most / 1000
    )))
}

/// `@room` as a word of its own.
fn mentions_room(text: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | ':' | ';' | '!' | '?')).any(|word| word == "@room")
}

/// Puts a message into the room's queue.
pub(super) async fn message(room: &Room, draft: &Draft, handles: Handles) -> Result<SendHandle, Trouble> {
    let content = related(room, draft, handles).await?;
    Ok(room.send_queue().send(content.into()).await?)
}

/// A message ready to be sent past the queue.
pub(super) async fn prepared(room: &Room, draft: &Draft) -> Result<AnyMessageLikeEventContent, Trouble> {
    Ok(related(room, draft, Handles::default()).await?.into())
}

/// The content of a draft with its relation to other events, small enough to be sent.
async fn related(room: &Room, draft: &Draft, handles: Handles) -> Result<RoomMessageEventContent, Trouble> {
    let content = with_relation(room, draft, handles).await?;
    fits(&content, 1, room.encryption_state().is_encrypted())?;
    Ok(content)
}

async fn with_relation(room: &Room, draft: &Draft, handles: Handles) -> Result<RoomMessageEventContent, Trouble> {
    let content = content(draft)?;
    let (event_id, enforce_thread) = match (&draft.reply_to, &draft.thread_root) {
        (None, None) => return Ok(content.with_relation(None)),
        (Some(reply_to), None) => (reply_to.clone(), EnforceThread::MaybeThreaded),
        (Some(reply_to), Some(_)) => (reply_to.clone(), EnforceThread::Threaded(ReplyWithinThread::Yes)),
        (None, Some(root)) => (newest_in_thread(root, handles).await, EnforceThread::Threaded(ReplyWithinThread::No)),
    };
    let reply = Reply { event_id, enforce_thread, add_mentions: AddMentions::Yes };
    within(FETCH_TIMEOUT, async { room.make_reply_event(content, reply).await.map_err(reply_trouble) }).await
}

fn reply_trouble(error: ReplyError) -> Trouble {
    match error {
        ReplyError::Fetch(error) => Trouble::of(&error),
        ReplyError::StateEvent => Trouble::Other("that cannot be replied to".to_owned()),
        ReplyError::Deserialization => Trouble::Other("the message replied to cannot be read".to_owned()),
    }
}

/// The newest event of a thread that we know, for clients that show threads as replies.
async fn newest_in_thread(root: &OwnedEventId, handles: Handles) -> OwnedEventId {
    let mut newest = None;
    for timeline in handles.ready().await {
        let items = timeline.items().await;
        // The room's timeline has the news, the thread's its history.
        newest = newest.max(items.iter().rev().find_map(|item| {
            let event = item.as_event()?;
            let event_id = event.event_id()?;
            (event.content().thread_root().as_ref() == Some(root)).then(|| (event.timestamp(), event_id.to_owned()))
        }));
    }
    newest.map_or_else(|| root.clone(), |(_, newest)| newest)
}

fn sdk_id(item: &ItemId) -> TimelineEventItemId {
    match item {
        ItemId::Transaction(id) => TimelineEventItemId::TransactionId(id.clone()),
        ItemId::Event(id) => TimelineEventItemId::EventId(id.clone()),
    }
}

/// An item of an open timeline, with its timeline.
pub(super) async fn find(handles: Handles, id: &ItemId) -> Option<(Arc<Timeline>, EventTimelineItem)> {
    let wanted = sdk_id(id);
    for timeline in handles.ready().await {
        let items = timeline.items().await;
        let found = items.iter().rev().filter_map(|item| item.as_event()).find(|event| match &wanted {
            TimelineEventItemId::EventId(id) => event.event_id() == Some(&**id),
            TimelineEventItemId::TransactionId(id) => event.transaction_id() == Some(&**id),
        });
        if let Some(event) = found {
            let event = event.clone();
            return Some((timeline, event));
        }
    }
    None
}

fn gone() -> Trouble {
    Trouble::Other("that message is not here any more".to_owned())
}

/// Replaces the text of one of our messages.
pub(super) async fn edit(room: &Room, item: &ItemId, draft: &Draft, handles: Handles) -> Result<(), Trouble> {
    let found = find(handles, item).await;
    let is_media = found.as_ref().is_some_and(|(_, event)| {
        event.content().as_message().is_some_and(|message| {
            matches!(message.msgtype(), MessageType::Audio(_) | MessageType::File(_) | MessageType::Image(_) | MessageType::Video(_))
        })
    });
    let edited = if is_media {
        let caption = Some(draft.text.clone()).filter(|text| !text.trim().is_empty());
        let formatted = caption.as_deref().filter(|_| !draft.literal).and_then(ruma::events::room::message::FormattedBody::markdown);
        let mentions = Some(Mentions::with_user_ids(draft.mentions.iter().cloned()));
        EditedContent::MediaCaption { caption, formatted_caption: formatted, mentions }
    } else {
        let content = content(draft)?;
        fits(&content, 2, room.encryption_state().is_encrypted())?;
        EditedContent::RoomMessage(content)
    };
    match (found, item) {
        (Some((timeline, event)), _) => {
            let edit = async { timeline.edit(&event.identifier(), edited).await.map_err(|error| timeline_trouble(&error)) };
            within(FETCH_TIMEOUT, edit).await
        }
        (None, ItemId::Event(event_id)) => {
            let made = async { room.make_edit_event(event_id, edited).await.map_err(|error| Trouble::Other(error.to_string())) };
            let content = within(FETCH_TIMEOUT, made).await?;
            room.send_queue().send(content).await?;
            Ok(())
        }
        (None, ItemId::Transaction(_)) => Err(gone()),
    }
}

/// Adds our reaction, or takes it back. False when it is only queued that it is taken back: the SDK asks the server for that at
/// once, and does not when there is no connection.
pub(super) async fn toggle_reaction(room: &Room, item: &ItemId, key: &str, online: bool, handles: Handles) -> Result<bool, Trouble> {
    let (timeline, event) = find(handles, item).await.ok_or_else(gone)?;
    let sent = sent_reaction(&event, room.own_user_id(), key);
    if online || sent.is_none() {
        let toggled = async { timeline.toggle_reaction(&event.identifier(), key).await.map_err(|error| timeline_trouble(&error)) };
        match within(FETCH_TIMEOUT, toggled).await {
            Err(trouble) if sent.is_some() && trouble.is_connection() => {}
            toggled => return toggled.map(|_| true),
        }
    }
    if let Some(reaction) = sent {
        room.send_queue().redact(reaction, None).await?;
    }
    Ok(false)
}

/// Our reaction, where the server has it.
fn sent_reaction(event: &EventTimelineItem, me: &UserId, key: &str) -> Option<OwnedEventId> {
    match &event.content().reactions()?.get(key)?.get(me)?.status {
        ReactionStatus::RemoteToRemote(event_id) => Some(event_id.clone()),
        ReactionStatus::LocalToLocal(_) | ReactionStatus::LocalToRemote(_) => None,
    }
}

/// Redacts an event, or drops a message that was not sent.
pub(super) async fn redact(room: &Room, item: &ItemId, reason: Option<&str>, handles: Handles) -> Result<(), Trouble> {
    let event_id = match item {
        ItemId::Event(event_id) => event_id.clone(),
        ItemId::Transaction(_) => {
            let (_, event) = find(handles, item).await.ok_or_else(gone)?;
            match event.event_id() {
                // It was sent in the meantime.
                Some(event_id) => event_id.to_owned(),
                None => {
                    let handle = event.local_echo_send_handle().ok_or_else(gone)?;
                    let dropped = handle.abort().await.map_err(|error| Trouble::of_store(&error))?;
                    return if dropped { Ok(()) } else { Err(Trouble::Other("it is being sent at this very moment".to_owned())) };
                }
            }
        }
    };
    room.send_queue().redact(event_id, reason).await?;
    Ok(())
}

/// Tries a failed message again.
pub(super) async fn retry(room: &Room, item: &ItemId, handles: Handles) -> Result<(), Trouble> {
    let (_, event) = find(handles, item).await.ok_or_else(gone)?;
    if let Some(handle) = event.local_echo_send_handle() {
        handle.unwedge().await?;
    }
    room.send_queue().set_enabled(true);
    Ok(())
}

/// What a file is, as far as its name and header tell.
struct Kind {
    mimetype: &'static str,
    info: AttachmentInfo,
}

fn kind_of(path: &Path, size: u64) -> Kind {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let size = ruma::UInt::new(size);
    let mimetype = match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "m4a" => "audio/mp4",
        "txt" | "log" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        _ => "application/octet-stream",
    };
    let info = match mimetype.split('/').next() {
        Some("image") => {
            let dimensions = image::ImageReader::open(path)
                .ok()
                .and_then(|reader| reader.with_guessed_format().ok())
                .and_then(|reader| reader.into_dimensions().ok());
            AttachmentInfo::Image(BaseImageInfo {
                width: dimensions.map(|(width, _)| width.into()),
                height: dimensions.map(|(_, height)| height.into()),
                size,
                ..BaseImageInfo::default()
            })
        }
        Some("video") => AttachmentInfo::Video(BaseVideoInfo { size, ..BaseVideoInfo::default() }),
        Some("audio") => AttachmentInfo::Audio(BaseAudioInfo { size, ..BaseAudioInfo::default() }),
        _ => AttachmentInfo::File(BaseFileInfo { size }),
    };
    Kind { mimetype, info }
}

/// Puts a file into the room's queue.
pub(super) async fn file(room: &Room, path: &Path, caption: Option<&str>, online: bool) -> Result<SendHandle, Trouble> {
    let meta = tokio::fs::metadata(path).await?;
    if !meta.is_file() {
        return Err(Trouble::Other("that is not a file".to_owned()));
    }
    let size = meta.len();
    // Offline the server is not waited for: it will judge the file when it gets it.
    let allowed = if online {
        within(LIMIT_TIMEOUT, room.client().load_or_fetch_max_upload_size()).await.map_or(MAX_FILE_BYTES, u64::from)
    } else {
        MAX_FILE_BYTES
    };
    if size > allowed.min(MAX_FILE_BYTES) {
        return Err(Trouble::Other(format!(
            "the file is too large ({} MB; the server takes {} MB)",
            size.div_ceil(1_000_000),
            allowed.min(MAX_FILE_BYTES) / 1_000_000
        )));
    }
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Trouble::Other("the file has no usable name".to_owned()))?;
    let data = tokio::fs::read(path).await?;
    let owned = path.to_owned();
    let kind = tokio::task::spawn_blocking(move || kind_of(&owned, size))
        .await
        .map_err(|_| Trouble::Other("the file cannot be read".to_owned()))?;
    let mimetype = kind.mimetype.parse().map_err(|_| Trouble::Other("the file has no usable type".to_owned()))?;
    let caption = caption.filter(|caption| !caption.trim().is_empty()).map(TextMessageEventContent::markdown);
    let config = AttachmentConfig::new().info(kind.info).caption(caption);
    Ok(room.send_queue().send_attachment(name, mimetype, data, config).await?)
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    fn draft(text: &str) -> Draft {
        Draft { text: text.to_owned(), emote: false, literal: false, reply_to: None, thread_root: None, mentions: Vec::new() }
    }

    #[test]
    fn mentions_are_said_explicitly() {
        let mut with = draft("hello Ann");
        with.mentions.push(owned_user_id!("@ann:x"));
        let content = content(&with).expect("content").with_relation(None);
        let mentions = content.mentions.expect("mentions are always set");
        assert!(mentions.user_ids.contains(&owned_user_id!("@ann:x")) && !mentions.room);
    }

    #[test]
    fn only_the_word_itself_mentions_the_room() {
        assert!(mentions_room("hello @room!") && mentions_room("@room"));
        assert!(!mentions_room("write to me@room.example") && !mentions_room("@roommate"));
    }

    #[test]
    fn empty_and_enormous_messages_are_refused_with_words() {
        assert!(content(&draft("  \n")).is_err());
        let error = content(&draft(&"x".repeat(2_000_000))).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
    }

    /// As large as the composer takes it, and larger with its HTML and encryption than any server takes it.
    #[test]
    fn what_fits_no_event_with_its_formatting_is_refused_with_words() {
        let marked = draft(&"**x** ".repeat(23 * 1024 / 6));
        let long = content(&marked).expect("content").with_relation(None);
        let error = fits(&long, 1, true).expect_err("its ciphertext is too long");
        assert!(error.to_string().contains("/plain"), "{error}");
        let plain = content(&Draft { literal: true, ..marked }).expect("content").with_relation(None);
        assert!(fits(&plain, 1, true).is_ok() && fits(&plain, 2, false).is_ok());
        assert!(fits(&plain, 2, true).is_err(), "an edit has it twice");
    }

    #[test]
    fn literal_text_stays_as_typed() {
        let mut literal = draft("**not bold**");
        literal.literal = true;
        let content = content(&literal).expect("content").with_relation(None);
        let MessageType::Text(text) = content.msgtype else { panic!("text") };
        assert!(text.formatted.is_none());
    }
}
