//! An invented profile, as snapshots: for the README's picture, for tests and for measurements that need no server.
//!
//! Deterministic: the same calls give the same snapshots, in one fixed time zone and at one fixed moment.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{Model, Msg, keymap::Keymap, theme::Theme, update};
use crate::client::view::{
    Body, Connection, InviteView, Item, ItemId, ItemKind, LastMessage, Member, MemberRole, Membership, Message, MessageKind, NodeState,
    Pagination, Reaction, ReplyPreview, RoomDetails, RoomKind, RoomList, RoomRow, SendState, SessionView, StateChange, SyncPhase, Timeline,
};

/// The moment of the sample: Saturday, 21 November 2026, 14:20 UTC.
pub const NOW_MS: u64 = 1_795_270_800_000;
const MINUTE: u64 = 60_000;

/// A user of the sample's server.
#[must_use]
pub fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:home.example")).expect("names of the sample are valid localparts")
}

/// A room of the sample.
#[must_use]
pub fn room(name: &str) -> OwnedRoomId {
    OwnedRoomId::try_from(format!("!{name}:home.example")).expect("names of the sample are valid opaque IDs")
}

/// An event of the sample.
#[must_use]
pub fn event(number: u64) -> OwnedEventId {
    OwnedEventId::try_from(format!("$event{number}:home.example")).expect("numbers make valid event IDs")
}

/// A room row without anything special.
#[must_use]
pub fn row(id: &str, name: &str, kind: RoomKind, minutes_ago: u64) -> RoomRow {
    RoomRow {
        id: room(id),
        name: name.to_owned(),
        alias: None,
        kind,
        membership: Membership::Joined,
        unread: 0,
        mentions: 0,
        marked_unread: false,
        favourite: false,
        low_priority: false,
        muted: false,
        encrypted: kind == RoomKind::Direct,
        last: None,
        recency: NOW_MS - minutes_ago * MINUTE,
        typing: Vec::new(),
        invite: None,
    }
}

fn last(sender: &str, text: &str, minutes_ago: u64) -> Option<LastMessage> {
    Some(LastMessage {
        sender: sender.to_owned(),
        text: text.to_owned(),
        timestamp_ms: NOW_MS - minutes_ago * MINUTE,
        pending: false,
        failed: false,
    })
}

/// A list of these rows.
#[must_use]
pub fn list(rows: Vec<RoomRow>) -> RoomList {
    RoomList { rows: rows.into_iter().map(Arc::new).collect(), complete: true }
}

/// The sample's rooms.
#[must_use]
pub fn rooms() -> RoomList {
    let invite = InviteView {
        inviter: user("dana"),
        inviter_name: "Dana".to_owned(),
        reason: Some("We miss you at the choir".to_owned()),
        is_direct: false,
    };
    list(vec![
        RoomRow { membership: Membership::Invited, invite: Some(invite), ..row("choir", "Choir", RoomKind::Room, 30) },
        RoomRow {
            alias: ruma::RoomAliasId::parse("#garden:home.example").ok(),
            encrypted: true,
            last: last("Bob", "Tomatoes are in, the rest tomorrow", 4),
            ..row("garden", "Garden", RoomKind::Room, 4)
        },
        RoomRow {
            unread: 2,
            mentions: 1,
            last: last("Eve", "Ann, is the restore done?", 9),
            ..row("ops", "Operations", RoomKind::Room, 9)
        },
        RoomRow { unread: 1, last: last("Bob", "See you at seven", 26), ..row("bob", "Bob", RoomKind::Direct, 26) },
        RoomRow { typing: vec!["Carol".to_owned()], last: last("Carol", "Paris?", 55), ..row("carol", "Carol", RoomKind::Direct, 55) },
        RoomRow { unread: 14, muted: true, last: last("Bot", "Build 812 passed", 70), ..row("builds", "Builds", RoomKind::Room, 70) },
        row("village", "Village", RoomKind::Space, 600),
        RoomRow { last: last("Ann", "Minutes are in the wiki", 3000), ..row("council", "Council", RoomKind::Room, 3000) },
    ])
}

/// A text message.
#[must_use]
pub fn text(unique: u64, sender: &str, minutes_ago: u64, text: &str) -> Item {
    Item {
        unique,
        revision: 0,
        id: Some(ItemId::Event(event(unique))),
        sender: Some(user(&sender.to_lowercase())),
        sender_name: sender.to_owned(),
        timestamp_ms: NOW_MS - minutes_ago * MINUTE,
        is_own: sender == "Ann",
        send_state: SendState::Sent,
        read_by: Vec::new(),
        kind: ItemKind::Message(message(text)),
    }
}

/// What a plain text carries.
#[must_use]
pub fn message(text: &str) -> Message {
    Message {
        kind: MessageKind::Text,
        body: Body { plain: text.to_owned(), html: None },
        edited: false,
        reply: None,
        reactions: Vec::new(),
        thread: None,
        in_thread: None,
        mentions: Vec::new(),
        mentions_me: false,
        editable: false,
    }
}

/// Changes the message of an item.
#[must_use]
pub fn with(mut item: Item, change: impl FnOnce(&mut Message)) -> Item {
    if let ItemKind::Message(message) = &mut item.kind {
        change(message);
    }
    item
}

/// An item that is no message.
#[must_use]
pub fn other(unique: u64, minutes_ago: u64, kind: ItemKind) -> Item {
    Item { id: None, sender: None, sender_name: String::new(), kind, ..text(unique, "Bob", minutes_ago, "") }
}

/// The timeline of a room.
#[must_use]
pub fn timeline(id: &str, items: Vec<Item>, back: Pagination) -> Timeline {
    Timeline {
        room_id: room(id),
        thread_root: None,
        items: items.into_iter().map(Arc::new).collect(),
        back,
        pages: 0,
        typing: Arc::from([]),
    }
}

/// The conversation in the garden.
#[must_use]
pub fn garden() -> Timeline {
    let reaction = |key: &str, count, mine| Reaction { key: key.to_owned(), count, mine, senders: vec!["Bob".to_owned()] };
    let html =
        "<p>Three things are left:</p><ul><li>beans, <b>by the wall</b></li><li>the <code>drip-timer</code></li><li>compost</li></ul>";
    let items = vec![
        other(1, 200, ItemKind::DayDivider { timestamp_ms: NOW_MS }),
        other(2, 199, ItemKind::State(StateChange { text: "Bob changed the topic to “Spring plan”".to_owned(), is_membership: false })),
        with(text(3, "Bob", 42, "Good morning! Who is in the garden today?"), |m| m.reactions = vec![reaction("👋", 3, true)]),
        text(4, "Bob", 41, "I can bring the seedlings."),
        with(text(5, "Carol", 30, "Three things are left: beans, timer, compost"), |m| m.body.html = Some(html.to_owned())),
        other(6, 29, ItemKind::ReadMarker),
        with(text(7, "Ann", 18, "I take the timer, it only needs a new battery."), |m| {
            m.reply =
                Some(ReplyPreview { event_id: event(5), sender: Some("Carol".to_owned()), text: Some("Three things are left".to_owned()) });
            m.edited = true;
            m.editable = true;
        }),
        with(text(8, "Eve", 11, "Ann, thank you! Photo from the bench:"), |m| m.mentions_me = true),
        with(text(9, "Eve", 11, ""), |m| {
            m.kind = MessageKind::Media {
                label: "image",
                filename: "bench.jpg".to_owned(),
                size_bytes: Some(482_113),
                mimetype: Some("image/jpeg".to_owned()),
            };
        }),
        with(text(10, "Bob", 4, "Tomatoes are in, the rest tomorrow 🍅"), |m| {
            m.reactions = vec![reaction("🎉", 2, false), reaction("❤️", 1, true)]
        }),
        with(Item { read_by: vec!["Bob".to_owned(), "Carol".to_owned()], ..text(11, "Ann", 2, "Wonderful. See you at noon!") }, |m| {
            m.editable = true
        }),
    ];
    timeline("garden", items, Pagination::Idle)
}

/// Details of the garden.
#[must_use]
pub fn details() -> RoomDetails {
    let member = |name: &str, role| Member { id: user(&name.to_lowercase()), name: name.to_owned(), membership: Membership::Joined, role };
    RoomDetails {
        id: room("garden"),
        name: "Garden".to_owned(),
        given_name: Some("Garden".to_owned()),
        topic: Some("Spring plan".to_owned()),
        alias: ruma::RoomAliasId::parse("#garden:home.example").ok(),
        encrypted: true,
        version: "12".to_owned(),
        joined_count: 4,
        members: Arc::from([
            member("Ann", MemberRole::Admin),
            member("Bob", MemberRole::Moderator),
            member("Carol", MemberRole::User),
            member("Eve", MemberRole::User),
        ]),
        can_send: true,
        pinned: Vec::new(),
    }
}

/// The sample's session.
#[must_use]
pub fn session() -> SessionView {
    SessionView {
        user_id: Some(user("ann")),
        display_name: Some("Ann".to_owned()),
        device_id: None,
        connection: Connection::Online,
        sync: SyncPhase::Live,
        node: NodeState::Here { server_name: "home.example".to_owned() },
        queued: 0,
        failed: 0,
    }
}

/// A model with session and rooms, nothing open.
#[must_use]
pub fn lobby(keymap: Keymap, theme: Theme) -> Model {
    let mut model = Model::new(keymap, theme, crate::base::Zone::UTC);
    model.now_ms = NOW_MS;
    update(&mut model, Msg::Session(session()));
    update(&mut model, Msg::Rooms(rooms()));
    model
}

/// A model with the garden open.
#[must_use]
pub fn model(keymap: Keymap, theme: Theme) -> Model {
    let mut model = lobby(keymap, theme);
    model.wanted = Some(room("garden"));
    update(&mut model, Msg::Rooms(rooms()));
    update(&mut model, Msg::Details(Some(Arc::new(details()))));
    update(&mut model, Msg::Timeline(Some(garden())));
    model
}
