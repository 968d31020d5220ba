//! Message contents: what they carry, their text, and one line of them.

use matrix_sdk_ui::timeline::{MsgLikeKind, PollState, TimelineItemContent};
use ruma::events::{
    room::message::{FormattedBody, MessageFormat, MessageType},
    sticker::StickerEventContent,
};

use super::{QUOTE_CHARS, one_line};
use crate::client::view::{Body, MessageKind};

fn body(plain: &str, formatted: Option<&FormattedBody>) -> Body {
    Body {
        plain: plain.to_owned(),
        html: formatted.filter(|formatted| formatted.format == MessageFormat::Html).map(|formatted| formatted.body.clone()),
    }
}

fn media(
    label: &'static str,
    filename: &str,
    caption: Option<&str>,
    formatted: Option<&FormattedBody>,
    size: Option<ruma::UInt>,
    mimetype: Option<&str>,
) -> (MessageKind, Body) {
    let kind = MessageKind::Media {
        label,
        filename: one_line(filename, QUOTE_CHARS),
        size_bytes: size.map(u64::from),
        mimetype: mimetype.map(|mimetype| one_line(mimetype, 80)),
    };
    (kind, body(caption.unwrap_or_default(), formatted))
}

/// What a message carries, and its text.
pub(super) fn message(content: &MessageType) -> (MessageKind, Body) {
    match content {
        MessageType::Text(text) => (MessageKind::Text, body(&text.body, text.formatted.as_ref())),
        MessageType::Emote(text) => (MessageKind::Emote, body(&text.body, text.formatted.as_ref())),
        MessageType::Notice(text) => (MessageKind::Notice, body(&text.body, text.formatted.as_ref())),
        MessageType::ServerNotice(text) => (MessageKind::Notice, body(&text.body, None)),
        MessageType::Image(file) => {
            let info = file.info.as_deref();
            let mimetype = info.and_then(|info| info.mimetype.as_deref());
            media("image", file.filename(), file.caption(), file.formatted_caption(), info.and_then(|info| info.size), mimetype)
        }
        MessageType::Video(file) => {
            let info = file.info.as_deref();
            let mimetype = info.and_then(|info| info.mimetype.as_deref());
            media("video", file.filename(), file.caption(), file.formatted_caption(), info.and_then(|info| info.size), mimetype)
        }
        MessageType::Audio(file) => {
            let info = file.info.as_deref();
            let mimetype = info.and_then(|info| info.mimetype.as_deref());
            let label = if file.voice.is_some() { "voice message" } else { "audio" };
            media(label, file.filename(), file.caption(), file.formatted_caption(), info.and_then(|info| info.size), mimetype)
        }
        MessageType::File(file) => {
            let info = file.info.as_deref();
            let mimetype = info.and_then(|info| info.mimetype.as_deref());
            media("file", file.filename(), file.caption(), file.formatted_caption(), info.and_then(|info| info.size), mimetype)
        }
        MessageType::Location(location) => (MessageKind::Location, body(&format!("{} ({})", location.body, location.geo_uri()), None)),
        MessageType::VerificationRequest(_) => {
            (MessageKind::Other { kind: "m.key.verification.request".to_owned() }, body("asks to verify keys", None))
        }
        other => (MessageKind::Other { kind: one_line(other.msgtype(), 80) }, body(other.body(), None)),
    }
}

/// A sticker.
pub(super) fn sticker(content: &StickerEventContent) -> (MessageKind, Body, bool) {
    let mimetype = content.info.mimetype.as_deref();
    let (kind, body) = media("sticker", &content.body, None, None, content.info.size, mimetype);
    (kind, body, false)
}

/// A poll: the question and its answers with their votes, one per line.
pub(super) fn poll(poll: &PollState) -> (MessageKind, Body, bool) {
    let results = poll.results();
    let mut text = results.question.clone();
    for answer in &results.answers {
        let votes = results.votes.get(&answer.id).map_or(0, Vec::len);
        text.push_str(&format!("\n- {} ({votes})", answer.text));
    }
    if results.end_time.is_some() {
        text.push_str("\n(closed)");
    }
    (MessageKind::Other { kind: "poll".to_owned() }, body(&text, None), results.has_been_edited)
}

/// Somebody shares where they are.
pub(super) fn live_location() -> (MessageKind, Body, bool) {
    (MessageKind::Location, body("shares their location", None), false)
}

/// One line of a message.
pub(in crate::client) fn message_preview(content: &MessageType) -> String {
    let (kind, body) = message(content);
    line(&kind, &body)
}

fn line(kind: &MessageKind, body: &Body) -> String {
    match kind {
        MessageKind::Media { label, filename, .. } if body.plain.is_empty() => format!("[{label}] {filename}"),
        MessageKind::Media { label, .. } => format!("[{label}] {}", one_line(&body.plain, QUOTE_CHARS)),
        MessageKind::Location => "[location]".to_owned(),
        _ => one_line(&body.plain, QUOTE_CHARS),
    }
}

/// One line of whatever an event shows, for quotes and summaries.
pub(in crate::client) fn preview(content: &TimelineItemContent) -> String {
    let TimelineItemContent::MsgLike(content) = content else {
        return "[change of the room]".to_owned();
    };
    match &content.kind {
        MsgLikeKind::Message(message) => message_preview(message.msgtype()),
        MsgLikeKind::Sticker(content) => {
            let (kind, body, _) = sticker(content.content());
            line(&kind, &body)
        }
        MsgLikeKind::Poll(poll) => format!("[poll] {}", one_line(&poll.results().question, QUOTE_CHARS)),
        MsgLikeKind::Redacted => "[deleted]".to_owned(),
        MsgLikeKind::UnableToDecrypt(_) => "[encrypted]".to_owned(),
        MsgLikeKind::Other(other) => format!("[{}]", one_line(&other.event_type().to_string(), 80)),
        MsgLikeKind::LiveLocation(_) => "[location]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ruma::{events::room::message::FileMessageEventContent, owned_mxc_uri};

    use super::*;

    #[test]
    fn a_file_without_caption_is_named_in_its_preview() {
        let file = FileMessageEventContent::plain("notes.txt".to_owned(), owned_mxc_uri!("mxc://example.org/a"));
        assert_eq!(message_preview(&MessageType::File(file)), "[file] notes.txt");
    }

    #[test]
    fn a_caption_is_the_body_of_media() {
        let mut file = FileMessageEventContent::plain("look at this".to_owned(), owned_mxc_uri!("mxc://example.org/a"));
        file.filename = Some("notes.txt".to_owned());
        let (kind, body) = message(&MessageType::File(file));
        assert!(matches!(kind, MessageKind::Media { label: "file", filename, .. } if filename == "notes.txt"));
        assert_eq!(body.plain, "look at this");
    }

    #[test]
    fn markdown_becomes_html_and_plain_text_does_not() {
        let (_, body) = message(&MessageType::text_markdown("**bold**"));
        assert!(body.html.is_some_and(|html| html.contains("<strong>bold</strong>")));
        let (_, body) = message(&MessageType::text_markdown("plain"));
        assert_eq!(body.html, None);
    }
}
