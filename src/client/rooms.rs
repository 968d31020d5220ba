//! The room list: one row per room, rebuilt only where something changed.
//!
//! The cached list is published before anything is asked of the network or, room by room, of the disk; names of the last
//! senders follow in a second snapshot. Bursts are folded together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use matrix_sdk::{
    Room, RoomState, deserialized_responses::SyncOrStrippedState, latest_events::LatestEventValue,
    notification_settings::RoomNotificationMode,
};
use ruma::{
    OwnedRoomId, OwnedUserId,
    events::{
        AnyMessageLikeEventContent, AnySyncMessageLikeEvent, AnySyncStateEvent, AnySyncTimelineEvent, SyncMessageLikeEvent, SyncStateEvent,
        room::{encrypted::SyncRoomEncryptedEvent, member::MembershipState, message::Relation},
    },
};
use tokio::{sync::broadcast, time::Instant};

use super::{
    context::Context,
    convert::{message_preview, millis, name_of},
    unread::Unread,
    words::one_line,
};
use crate::client::view::{InviteView, LastMessage, Membership, RoomKind, RoomList, RoomRow, SyncPhase};

/// Shortest time between two snapshots.
const PACE: Duration = Duration::from_millis(40);
/// Rooms looked up on disk at the same time.
const LOOKUPS: usize = 8;
/// A second snapshot follows when more lookups than this are needed; fewer are waited for.
const FEW_LOOKUPS: usize = 16;

/// What has to be read from disk about a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lookup {
    last_sender: Option<(OwnedUserId, String)>,
    invite: Option<InviteView>,
}

struct Engine {
    context: Context,
    rows: HashMap<OwnedRoomId, Arc<RoomRow>>,
    lookups: HashMap<OwnedRoomId, Lookup>,
    muted: HashSet<OwnedRoomId>,
    /// When a room without any message came to be known in this run, so that new rooms stand at the top.
    first_seen_ms: HashMap<OwnedRoomId, u64>,
    listening: HashSet<OwnedRoomId>,
    unread: Unread,
    complete: bool,
}

/// Runs until shutdown.
pub(super) async fn run(context: Context) {
    let client = context.client.clone();
    let shutdown = context.tasks.shutdown().clone();
    let mut notable = client.room_info_notable_update_receiver();
    let mut typing = context.typing.subscribe();
    let mut session = context.outlet.session.subscribe();
    let mut read_here = context.read_here.subscribe();
    let (_, room_changes) = client.rooms_stream();
    tokio::pin!(room_changes);
    let mut engine = Engine {
        rows: HashMap::new(),
        lookups: HashMap::new(),
        muted: HashSet::new(),
        first_seen_ms: HashMap::new(),
        listening: HashSet::new(),
        unread: Unread::default(),
        complete: false,
        context,
    };
    engine.refresh_all();
    engine.publish();
    let settings = client.notification_settings().await;
    let mut rules = settings.subscribe_to_changes();
    engine.load_muted(&settings).await;
    let everything: HashSet<OwnedRoomId> = engine.rows.keys().cloned().collect();
    engine.refresh(&everything).await;
    engine.publish();
    engine.listen().await;

    let mut dirty: HashSet<OwnedRoomId> = HashSet::new();
    let mut all_dirty = false;
    let mut next = Instant::now();
    loop {
        let waiting = !dirty.is_empty() || all_dirty;
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            update = notable.recv() => match update {
                Ok(update) => { dirty.insert(update.room_id); }
                Err(broadcast::error::RecvError::Lagged(_)) => all_dirty = true,
                Err(broadcast::error::RecvError::Closed) => return,
            },
            diffs = room_changes.next() => match diffs {
                Some(_) => engine.new_rooms(&mut dirty),
                None => return,
            },
            Ok((room_id, up_to)) = read_here.recv() => {
                if let Some(room) = client.get_room(&room_id) {
                    engine.unread.read_here(&room, up_to);
                    dirty.insert(room_id);
                }
            }
            changed = typing.changed() => if changed.is_ok() { engine.typing_changed(&mut dirty); },
            changed = session.changed() => if changed.is_ok() {
                let complete = engine.complete || session.borrow_and_update().sync == SyncPhase::Live;
                if complete != engine.complete {
                    engine.complete = complete;
                    all_dirty = true;
                }
            },
            Ok(()) = rules.recv() => {
                engine.load_muted(&settings).await;
                all_dirty = true;
            }
            () = tokio::time::sleep_until(next), if waiting => {
                if all_dirty {
                    dirty.extend(client.rooms().iter().map(|room| room.room_id().to_owned()));
                    dirty.extend(engine.rows.keys().cloned());
                }
                engine.refresh(&dirty).await;
                engine.publish();
                engine.listen().await;
                dirty.clear();
                all_dirty = false;
                next = Instant::now() + PACE;
            }
        }
    }
}

impl Engine {
    /// Rebuilds every row from memory.
    fn refresh_all(&mut self) {
        for room in self.context.client.rooms() {
            self.rebuild(&room);
        }
    }

    /// Marks rooms that appeared or disappeared.
    fn new_rooms(&mut self, dirty: &mut HashSet<OwnedRoomId>) {
        let known: HashSet<OwnedRoomId> = self.context.client.rooms().iter().map(|room| room.room_id().to_owned()).collect();
        let now_ms = crate::base::Clock::now_ms(&crate::base::SystemClock);
        for room_id in &known {
            if !self.rows.contains_key(room_id) {
                if self.complete {
                    self.first_seen_ms.entry(room_id.clone()).or_insert(now_ms);
                }
                dirty.insert(room_id.clone());
            }
        }
        dirty.extend(self.rows.keys().filter(|room_id| !known.contains(*room_id)).cloned());
    }

    fn typing_changed(&self, dirty: &mut HashSet<OwnedRoomId>) {
        let typing = self.context.typing.borrow();
        for (room_id, row) in &self.rows {
            let now = typing.get(room_id).map_or(&[][..], |names| names);
            if row.typing.as_slice() != now {
                dirty.insert(room_id.clone());
            }
        }
    }

    /// Rebuilds these rows, reading from disk what is missing.
    async fn refresh(&mut self, room_ids: &HashSet<OwnedRoomId>) {
        let mut missing = Vec::new();
        for room_id in room_ids {
            let Some(room) = self.context.client.get_room(room_id) else {
                self.rows.remove(room_id);
                self.lookups.remove(room_id);
                self.listening.remove(room_id);
                self.unread.forget(room_id);
                continue;
            };
            self.unread.count(&room).await;
            self.rebuild(&room);
            if self.needs_lookup(&room) {
                missing.push(room);
            }
        }
        if missing.len() > FEW_LOOKUPS {
            self.publish();
        }
        let mut found = stream::iter(missing)
            .map(|room| async move {
                let lookup = look_up(&room).await;
                (room, lookup)
            })
            .buffer_unordered(LOOKUPS);
        while let Some((room, lookup)) = found.next().await {
            self.lookups.insert(room.room_id().to_owned(), lookup);
            self.rebuild(&room);
        }
    }

    fn needs_lookup(&self, room: &Room) -> bool {
        let known = self.lookups.get(room.room_id());
        match room.state() {
            RoomState::Invited => known.is_none_or(|known| known.invite.is_none()),
            RoomState::Joined => {
                room.cached_display_name().is_none()
                    || last_sender(room)
                        .is_some_and(|sender| known.and_then(|known| known.last_sender.as_ref()).is_none_or(|(user, _)| *user != sender))
            }
            _ => false,
        }
    }

    fn rebuild(&mut self, room: &Room) {
        let room_id = room.room_id();
        let Some(membership) = membership(room.state()) else {
            self.rows.remove(room_id);
            return;
        };
        let row = self.row(room, membership);
        match self.rows.get(room_id) {
            Some(before) if **before == row => {}
            _ => {
                self.rows.insert(room_id.to_owned(), Arc::new(row));
            }
        }
    }

    fn row(&self, room: &Room, membership: Membership) -> RoomRow {
        let room_id = room.room_id();
        let lookup = self.lookups.get(room_id);
        let last = last_message(room, lookup.and_then(|lookup| lookup.last_sender.as_ref()));
        let direct =
            room.direct_targets_length() > 0 || lookup.and_then(|lookup| lookup.invite.as_ref()).is_some_and(|invite| invite.is_direct);
        let latest_ms = room.latest_event_timestamp().map(millis);
        let unread = self.unread.get(room);
        RoomRow {
            id: room_id.to_owned(),
            name: room_name(room),
            alias: room.canonical_alias(),
            kind: if room.is_space() {
                RoomKind::Space
            } else if direct {
                RoomKind::Direct
            } else {
                RoomKind::Room
            },
            membership,
            unread: unread.unread,
            mentions: unread.mentions,
            marked_unread: room.is_marked_unread(),
            favourite: room.is_favourite(),
            low_priority: room.is_low_priority(),
            muted: self.muted.contains(room_id),
            encrypted: room.encryption_state().is_encrypted(),
            last,
            recency: latest_ms.or_else(|| self.first_seen_ms.get(room_id).copied()).unwrap_or(0),
            typing: self.context.typing.borrow().get(room_id).map(|names| names.to_vec()).unwrap_or_default(),
            invite: lookup.and_then(|lookup| lookup.invite.clone()).filter(|_| membership == Membership::Invited),
        }
    }

    async fn load_muted(&mut self, settings: &matrix_sdk::notification_settings::NotificationSettings) {
        self.muted.clear();
        for room_id in settings.get_rooms_with_user_defined_rules(Some(true)).await {
            let Ok(room_id) = OwnedRoomId::try_from(room_id) else { continue };
            if settings.get_user_defined_room_notification_mode(&room_id).await == Some(RoomNotificationMode::Mute) {
                self.muted.insert(room_id);
            }
        }
    }

    /// Has the SDK keep the last message of each joined room.
    async fn listen(&mut self) {
        let wanted: Vec<OwnedRoomId> = self
            .rows
            .values()
            .filter(|row| row.membership == Membership::Joined && row.kind != RoomKind::Space && !self.listening.contains(&row.id))
            .map(|row| row.id.clone())
            .collect();
        if wanted.is_empty() {
            return;
        }
        let latest = self.context.client.latest_events().await;
        for room_id in wanted {
            match latest.listen_to_room(&room_id).await {
                Ok(_) => {
                    self.listening.insert(room_id);
                }
                Err(error) => tracing::warn!(%room_id, %error, "the last message of a room is not followed"),
            }
        }
    }

    fn publish(&self) {
        let mut rows: Vec<Arc<RoomRow>> = self.rows.values().cloned().collect();
        sort(&mut rows);
        let complete = self.complete;
        self.context.outlet.rooms.send_if_modified(|list| {
            let same = list.complete == complete
                && list.rows.len() == rows.len()
                && list.rows.iter().zip(&rows).all(|(before, now)| Arc::ptr_eq(before, now));
            if !same {
                *list = RoomList { rows: rows.into(), complete };
            }
            !same
        });
    }
}

/// Invitations first, then by recency, then by name; the ID last, so that the order is always the same.
fn sort(rows: &mut [Arc<RoomRow>]) {
    rows.sort_by(|a, b| {
        let invited = |row: &RoomRow| row.membership != Membership::Invited;
        invited(a)
            .cmp(&invited(b))
            .then_with(|| b.recency.cmp(&a.recency))
            .then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase()))
            .then_with(|| a.id.cmp(&b.id))
    });
}

fn membership(state: RoomState) -> Option<Membership> {
    match state {
        RoomState::Joined => Some(Membership::Joined),
        RoomState::Invited => Some(Membership::Invited),
        RoomState::Knocked => Some(Membership::Knocked),
        RoomState::Left | RoomState::Banned => None,
    }
}

/// The room's display name on one line; while it is not computed, its alias or ID.
pub(super) fn room_name(room: &Room) -> String {
    let name = room.cached_display_name().map(|name| one_line(&name.to_string(), 120)).filter(|name| !name.is_empty());
    name.or_else(|| room.canonical_alias().map(|alias| alias.to_string())).unwrap_or_else(|| room.room_id().to_string())
}

/// Reads from disk what a row shows beyond the room's own record.
async fn look_up(room: &Room) -> Lookup {
    if room.state() == RoomState::Invited {
        if let Err(error) = room.display_name().await {
            tracing::debug!(room_id = %room.room_id(), %error, "no room name");
        }
        return Lookup { last_sender: None, invite: invite(room).await };
    }
    if room.cached_display_name().is_none()
        && let Err(error) = room.display_name().await
    {
        tracing::debug!(room_id = %room.room_id(), %error, "no room name");
    }
    let Some(sender) = last_sender(room) else { return Lookup::default() };
    let name = match room.get_member_no_sync(&sender).await {
        Ok(Some(member)) => name_of(&sender, member.display_name(), member.name_ambiguous()),
        _ => name_of(&sender, None, false),
    };
    Lookup { last_sender: Some((sender, name)), invite: None }
}

async fn invite(room: &Room) -> Option<InviteView> {
    let details = room.invite_details().await.ok()?;
    let event = details.invitee.event().clone();
    let (reason, is_direct) = match &*event {
        SyncOrStrippedState::Sync(SyncStateEvent::Original(event)) => (event.content.reason.clone(), event.content.is_direct),
        SyncOrStrippedState::Sync(SyncStateEvent::Redacted(_)) => (None, None),
        SyncOrStrippedState::Stripped(event) => (event.content.reason.clone(), event.content.is_direct),
    };
    Some(InviteView {
        inviter_name: details
            .inviter
            .as_ref()
            .and_then(|inviter| inviter.display_name())
            .map_or_else(|| details.inviter_id.to_string(), |name| one_line(name, 64)),
        inviter: details.inviter_id,
        reason: reason.map(|reason| one_line(&reason, 160)).filter(|reason| !reason.is_empty()),
        is_direct: is_direct.unwrap_or(false),
    })
}

fn last_sender(room: &Room) -> Option<OwnedUserId> {
    match matrix_sdk::BaseRoom::latest_event(room) {
        LatestEventValue::Remote(event) => event.sender(),
        LatestEventValue::LocalIsSending(_) | LatestEventValue::LocalHasBeenSent { .. } | LatestEventValue::LocalCannotBeSent(_) => {
            Some(room.own_user_id().to_owned())
        }
        LatestEventValue::None | LatestEventValue::RemoteInvite { .. } => None,
    }
}

fn last_message(room: &Room, sender: Option<&(OwnedUserId, String)>) -> Option<LastMessage> {
    let value = matrix_sdk::BaseRoom::latest_event(room);
    let timestamp_ms = value.timestamp().map(millis)?;
    let failed = matches!(value, LatestEventValue::LocalCannotBeSent(_));
    let (user_id, text, pending) = match &value {
        LatestEventValue::Remote(event) => (event.sender()?, event_line(&event.raw().deserialize().ok()?)?, false),
        LatestEventValue::LocalIsSending(local) | LatestEventValue::LocalCannotBeSent(local) => {
            (room.own_user_id().to_owned(), content_line(&local.content.deserialize().ok()?)?, !failed)
        }
        LatestEventValue::LocalHasBeenSent { value: local, .. } => {
            (room.own_user_id().to_owned(), content_line(&local.content.deserialize().ok()?)?, false)
        }
        LatestEventValue::None | LatestEventValue::RemoteInvite { .. } => return None,
    };
    let name = sender.filter(|(known, _)| *known == user_id).map(|(_, name)| name.clone());
    Some(LastMessage { sender: name.unwrap_or_else(|| name_of(&user_id, None, false)), text, timestamp_ms, pending, failed })
}

/// One line of an event, where it is worth one.
pub(super) fn event_line(event: &AnySyncTimelineEvent) -> Option<String> {
    match event {
        AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomEncrypted(SyncRoomEncryptedEvent::Original(_))) => {
            Some("[encrypted]".to_owned())
        }
        AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(SyncMessageLikeEvent::Redacted(_))) => {
            Some("[deleted]".to_owned())
        }
        AnySyncTimelineEvent::MessageLike(event) => content_line(&event.original_content()?),
        AnySyncTimelineEvent::State(AnySyncStateEvent::RoomMember(member)) => match member.membership() {
            MembershipState::Join => Some("joined the room".to_owned()),
            MembershipState::Knock => Some("asks to be let in".to_owned()),
            MembershipState::Leave => Some("left the room".to_owned()),
            _ => None,
        },
        AnySyncTimelineEvent::State(_) => None,
    }
}

fn content_line(content: &AnyMessageLikeEventContent) -> Option<String> {
    match content {
        AnyMessageLikeEventContent::RoomMessage(message) => match &message.relates_to {
            Some(Relation::Replacement(replacement)) => Some(message_preview(&replacement.new_content.msgtype)),
            _ => Some(message_preview(&message.msgtype)),
        },
        AnyMessageLikeEventContent::Sticker(sticker) => Some(format!("[sticker] {}", one_line(&sticker.body, 120))),
        AnyMessageLikeEventContent::UnstablePollStart(_) | AnyMessageLikeEventContent::PollStart(_) => Some("[poll]".to_owned()),
        AnyMessageLikeEventContent::CallInvite(_) | AnyMessageLikeEventContent::RtcNotification(_) => Some("[call]".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;

    fn row(id: OwnedRoomId, name: &str, recency: u64, membership: Membership) -> Arc<RoomRow> {
        Arc::new(RoomRow {
            id,
            name: name.to_owned(),
            alias: None,
            kind: RoomKind::Room,
            membership,
            unread: 0,
            mentions: 0,
            marked_unread: false,
            favourite: false,
            low_priority: false,
            muted: false,
            encrypted: false,
            last: None,
            recency,
            typing: Vec::new(),
            invite: None,
        })
    }

    #[test]
    fn invitations_stand_above_rooms_and_newer_rooms_above_older_ones() {
        let mut rows = vec![
            row(owned_room_id!("!old:x"), "old", 1, Membership::Joined),
            row(owned_room_id!("!b:x"), "b", 5, Membership::Joined),
            row(owned_room_id!("!a:x"), "A", 5, Membership::Joined),
            row(owned_room_id!("!invite:x"), "invite", 0, Membership::Invited),
        ];
        sort(&mut rows);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["invite", "A", "b", "old"]);
    }

    #[test]
    fn a_reply_or_edit_shows_its_own_text() {
        let raw = serde_json::json!({
            "type": "m.room.message", "event_id": "$e", "sender": "@a:x", "origin_server_ts": 1,
            "content": {
                "msgtype": "m.text", "body": "* new", "m.new_content": {"msgtype": "m.text", "body": "new"},
                "m.relates_to": {"rel_type": "m.replace", "event_id": "$old"},
            },
        });
        let event: AnySyncTimelineEvent = serde_json::from_value(raw).expect("an event");
        assert_eq!(event_line(&event).as_deref(), Some("new"));
    }
}
