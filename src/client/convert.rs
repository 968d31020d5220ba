//! SDK types -> view. Pure: looks nothing up and waits for nothing.
//!
//! Names of people come in through `Names`; who has to be known beforehand is told by `people_of`.

mod message;
mod state;

use std::collections::HashMap;

use matrix_sdk_ui::timeline::{
    EmbeddedEvent, EncryptedMessage, EventSendState, EventTimelineItem, MsgLikeContent, MsgLikeKind, Profile, TimelineDetails,
    TimelineEventItemId, TimelineItem, TimelineItemContent, TimelineItemKind, VirtualTimelineItem,
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId, events::AnySyncTimelineEvent, serde::Raw};

pub(super) use self::message::{message_preview, preview};
use super::words::{Trouble, one_line};
use crate::client::view::{
    DecryptionProblem, Item, ItemId, ItemKind, Message, Reaction, ReplyPreview, SendState, StateChange, ThreadSummary,
};

/// Longest name of a person that is shown.
const NAME_CHARS: usize = 64;
/// Most people named on one item; their number is exact all the same.
const MOST_NAMES: usize = 100;
/// Longest quoted line.
pub(super) const QUOTE_CHARS: usize = 160;

/// Display names of the people of one room.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<OwnedUserId, String>);

impl Names {
    /// Remembers a name as the room shows it.
    pub(super) fn set(&mut self, user_id: OwnedUserId, display_name: Option<&str>, ambiguous: bool) {
        let name = name_of(&user_id, display_name, ambiguous);
        self.0.insert(user_id, name);
    }

    /// Forgets one, so that it is looked up again.
    pub(super) fn forget(&mut self, user_id: &UserId) {
        self.0.remove(user_id);
    }

    /// True when the name is known.
    pub(super) fn knows(&self, user_id: &UserId) -> bool {
        self.0.contains_key(user_id)
    }

    /// The name, or the localpart.
    pub(super) fn get(&self, user_id: &UserId) -> String {
        self.0.get(user_id).cloned().unwrap_or_else(|| name_of(user_id, None, false))
    }
}

/// A person's name on one line; with the user ID where two share it.
pub(super) fn name_of(user_id: &UserId, display_name: Option<&str>, ambiguous: bool) -> String {
    let name = display_name.map(|name| one_line(name, NAME_CHARS)).filter(|name| !name.is_empty());
    match name {
        Some(name) if ambiguous => format!("{name} ({user_id})"),
        Some(name) => name,
        None => one_line(user_id.localpart(), NAME_CHARS),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn millis(timestamp: MilliSecondsSinceUnixEpoch) -> u64 {
    u64::from(timestamp.get())
}

/// Everybody whose name an item shows, beside its sender.
pub(super) fn people_of(item: &TimelineItem) -> Vec<&UserId> {
    let Some(event) = item.as_event() else { return Vec::new() };
    let mut people: Vec<&UserId> = event.read_receipts().keys().take(MOST_NAMES).map(|user| &**user).collect();
    match event.content() {
        TimelineItemContent::MsgLike(content) => {
            people.extend(content.reactions.values().flat_map(|by_sender| by_sender.keys().take(MOST_NAMES).map(|user| &**user)));
        }
        TimelineItemContent::MembershipChange(change) => people.push(change.user_id()),
        _ => {}
    }
    people
}

/// The person whose name an item may have changed.
pub(super) fn renamed(item: &TimelineItem) -> Option<&UserId> {
    match item.as_event()?.content() {
        TimelineItemContent::MembershipChange(change) => Some(change.user_id()),
        TimelineItemContent::ProfileChange(change) => Some(change.user_id()),
        _ => None,
    }
}

/// An item as the screen shows it, with revision 0.
pub(super) fn item(item: &TimelineItem, unique: u64, me: &UserId, names: &Names) -> Item {
    match item.kind() {
        TimelineItemKind::Virtual(item) => divider(item, unique),
        TimelineItemKind::Event(event) => event_item(event, unique, me, names),
    }
}

fn divider(item: &VirtualTimelineItem, unique: u64) -> Item {
    match item {
        VirtualTimelineItem::DateDivider(day) => aside(ItemKind::DayDivider { timestamp_ms: millis(*day) }, millis(*day), unique),
        VirtualTimelineItem::ReadMarker => aside(ItemKind::ReadMarker, 0, unique),
        VirtualTimelineItem::TimelineStart => aside(ItemKind::TimelineStart, 0, unique),
    }
}

/// An item that is no event.
pub(super) fn aside(kind: ItemKind, timestamp_ms: u64, unique: u64) -> Item {
    Item {
        unique,
        revision: 0,
        id: None,
        sender: None,
        sender_name: String::new(),
        timestamp_ms,
        is_own: false,
        send_state: SendState::Sent,
        read_by: Vec::new(),
        kind,
    }
}

fn view_id(id: TimelineEventItemId) -> ItemId {
    match id {
        TimelineEventItemId::TransactionId(id) => ItemId::Transaction(id),
        TimelineEventItemId::EventId(id) => ItemId::Event(id),
    }
}

/// An event that stands in no timeline of the SDK's, with revision 0: it can be read, and that is all.
pub(super) fn embedded(event: EmbeddedEvent, unique: u64, me: &UserId, names: &Names) -> Item {
    let sender_name = profile_name(&event.sender, &event.sender_profile, names);
    let source = Source { content: &event.content, json: None, mentions_me: false, editable: false };
    Item {
        id: Some(view_id(event.identifier)),
        kind: kind(&source, &sender_name, me, names),
        sender_name,
        is_own: event.sender == me,
        sender: Some(event.sender),
        ..aside(ItemKind::ReadMarker, millis(event.timestamp), unique)
    }
}

/// Where the kind of an item is read from.
struct Source<'a> {
    content: &'a TimelineItemContent,
    json: Option<&'a Raw<AnySyncTimelineEvent>>,
    mentions_me: bool,
    editable: bool,
}

fn event_item(event: &EventTimelineItem, unique: u64, me: &UserId, names: &Names) -> Item {
    let sender_name = profile_name(event.sender(), event.sender_profile(), names);
    let read_by = event
        .read_receipts()
        .keys()
        .filter(|user| user.as_str() != me.as_str() && user.as_str() != event.sender().as_str())
        .take(MOST_NAMES)
        .map(|user| names.get(user))
        .collect();
    let source =
        Source { content: event.content(), json: event.latest_json(), mentions_me: event.is_highlighted(), editable: event.is_editable() };
    Item {
        unique,
        revision: 0,
        id: Some(view_id(event.identifier())),
        sender: Some(event.sender().to_owned()),
        kind: kind(&source, &sender_name, me, names),
        sender_name,
        timestamp_ms: millis(event.timestamp()),
        is_own: event.is_own(),
        send_state: event.send_state().map_or(SendState::Sent, send_state),
        read_by,
    }
}

/// The name in a profile that may not have been loaded.
pub(super) fn profile_name(user_id: &UserId, profile: &TimelineDetails<Profile>, names: &Names) -> String {
    match profile {
        TimelineDetails::Ready(profile) => name_of(user_id, profile.display_name.as_deref(), profile.display_name_ambiguous),
        _ => names.get(user_id),
    }
}

fn send_state(state: &EventSendState) -> SendState {
    match state {
        EventSendState::NotSentYet { .. } => SendState::Sending,
        EventSendState::Sent { .. } => SendState::Sent,
        EventSendState::SendingFailed { error, is_recoverable } => {
            SendState::Failed { reason: Trouble::of(error).to_string(), will_retry: *is_recoverable }
        }
    }
}

fn kind(source: &Source<'_>, sender_name: &str, me: &UserId, names: &Names) -> ItemKind {
    match source.content {
        TimelineItemContent::MsgLike(content) => message_like(source, content, me, names),
        TimelineItemContent::MembershipChange(change) => {
            let target =
                change.display_name().map_or_else(|| names.get(change.user_id()), |name| name_of(change.user_id(), Some(&name), false));
            ItemKind::State(StateChange {
                text: state::membership(change.change(), sender_name, &target, state::reason(change)),
                is_membership: true,
            })
        }
        TimelineItemContent::ProfileChange(change) => {
            ItemKind::State(StateChange { text: state::profile(change, sender_name), is_membership: true })
        }
        TimelineItemContent::OtherState(change) => match state::other(change, sender_name) {
            Some(text) => ItemKind::State(StateChange { text, is_membership: false }),
            None => unsupported(source),
        },
        TimelineItemContent::CallInvite | TimelineItemContent::RtcNotification { .. } => {
            ItemKind::State(StateChange { text: format!("{sender_name} started a call"), is_membership: false })
        }
        TimelineItemContent::FailedToParseMessageLike { .. } | TimelineItemContent::FailedToParseState { .. } => unsupported(source),
    }
}

fn unsupported(source: &Source<'_>) -> ItemKind {
    ItemKind::Unsupported { event_type: one_line(&source.content.event_type_str().unwrap_or_default(), 80) }
}

fn message_like(source: &Source<'_>, content: &MsgLikeContent, me: &UserId, names: &Names) -> ItemKind {
    let (kind, body, edited) = match &content.kind {
        MsgLikeKind::Message(message) => {
            let (kind, body) = message::message(message.msgtype());
            (kind, body, message.is_edited())
        }
        MsgLikeKind::Sticker(sticker) => message::sticker(sticker.content()),
        MsgLikeKind::Poll(poll) => message::poll(poll),
        MsgLikeKind::LiveLocation(_) => message::live_location(),
        MsgLikeKind::Other(other) => return ItemKind::Unsupported { event_type: one_line(&other.event_type().to_string(), 80) },
        MsgLikeKind::Redacted => return redacted(source, names),
        MsgLikeKind::UnableToDecrypt(encrypted) => return ItemKind::Undecryptable(problem(encrypted)),
    };
    ItemKind::Message(Message {
        kind,
        body,
        edited,
        reply: content.in_reply_to.as_ref().map(|reply| {
            let loaded = match &reply.event {
                TimelineDetails::Ready(event) => Some(event),
                _ => None,
            };
            ReplyPreview {
                event_id: reply.event_id.clone(),
                sender: loaded.map(|event| profile_name(&event.sender, &event.sender_profile, names)),
                text: loaded.map(|event| preview(&event.content)),
            }
        }),
        reactions: content
            .reactions
            .iter()
            .map(|(key, by_sender)| Reaction {
                key: one_line(key, 40),
                count: by_sender.len(),
                mine: by_sender.contains_key(me),
                senders: by_sender.keys().take(MOST_NAMES).map(|user| names.get(user)).collect(),
            })
            .collect(),
        thread: content.thread_summary.as_ref().map(|thread| ThreadSummary {
            replies: thread.num_replies,
            latest: match &thread.latest_event {
                TimelineDetails::Ready(latest) => Some(preview(&latest.content)),
                _ => None,
            },
        }),
        in_thread: content.thread_root.clone(),
        mentions_me: source.mentions_me,
        mentions: match &content.kind {
            MsgLikeKind::Message(message) if source.editable => {
                message.mentions().map(|mentions| mentions.user_ids.iter().take(MOST_NAMES).cloned().collect()).unwrap_or_default()
            }
            _ => Vec::new(),
        },
        editable: source.editable,
    })
}

/// Who redacted it and why stands in the redacted event itself (`unsigned.redacted_because`).
fn redacted(source: &Source<'_>, names: &Names) -> ItemKind {
    #[derive(serde::Deserialize)]
    struct Unsigned {
        redacted_because: Option<Because>,
    }
    #[derive(serde::Deserialize)]
    struct Because {
        sender: OwnedUserId,
        #[serde(default)]
        content: BecauseContent,
    }
    #[derive(Default, serde::Deserialize)]
    struct BecauseContent {
        reason: Option<String>,
    }
    let because =
        source.json.and_then(|json| json.get_field::<Unsigned>("unsigned").ok().flatten()).and_then(|unsigned| unsigned.redacted_because);
    ItemKind::Redacted {
        by: because.as_ref().map(|because| names.get(&because.sender)),
        reason: because
            .and_then(|because| because.content.reason)
            .map(|reason| one_line(&reason, QUOTE_CHARS))
            .filter(|reason| !reason.is_empty()),
    }
}

/// Says why a message cannot be read, and what would help.
fn problem(encrypted: &EncryptedMessage) -> DecryptionProblem {
    let reason = match encrypted {
        // The SDK does not export the type of `cause`; its values are part of its interface (`UtdCause`, repr with numbers).
        EncryptedMessage::MegolmV1AesSha2 { cause, .. } => match *cause as u8 {
            1 => "sent before you joined, so its key was never for you",
            2 => "the sender's identity has changed since you verified it; verify them again",
            3 => "sent from a device that its owner has not verified",
            4 => "sent from a device that is unknown or deleted",
            5 => "sent before this device signed in, and your account has no key backup",
            6 => "the sender shares keys with verified devices only; verify this device",
            7 => "the sender did not share the key with this device",
            8 => "sent before this device signed in; verify this device or enter your recovery key to read it",
            _ => "its key has not arrived yet; it will appear here when it does",
        },
        EncryptedMessage::OlmV1Curve25519AesSha2 { .. } => "encrypted in a way that is not meant for rooms",
        EncryptedMessage::Unknown => "encrypted in a way this version does not know",
    };
    DecryptionProblem { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_name_falls_back_to_the_localpart_and_tells_namesakes_apart() {
        let ann = user_id!("@ann:example.org");
        assert_eq!(name_of(ann, None, false), "ann");
        assert_eq!(name_of(ann, Some("  "), false), "ann");
        assert_eq!(name_of(ann, Some("Ann\nB"), false), "Ann B");
        assert_eq!(name_of(ann, Some("Ann"), true), "Ann (@ann:example.org)");
    }

    #[test]
    fn forgotten_names_are_unknown_again() {
        let ann = user_id!("@ann:example.org");
        let mut names = Names::default();
        names.set(ann.to_owned(), Some("Ann"), false);
        assert!(names.knows(ann));
        names.forget(ann);
        assert!(!names.knows(ann));
        assert_eq!(names.get(ann), "ann");
    }
}
