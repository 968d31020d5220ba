//! Telling other servers what is true only for the moment: who types, who is there.
//!
//! Works like a sync of theirs: each change wakes it, and it sends the difference to what it sent last. What holds on is
//! repeated before the other side takes it for over. Server-Server API, "Typing Notifications", "Presence".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedUserId, ServerName, presence::PresenceState};
use serde_json::json;
use tokio::time::Instant;

use crate::homeserver::{
    Node,
    federation::sender::{OutgoingEdu, queue_edu},
    store::{StoreError, Tx, rooms, servers},
    sync::{Presence, Told},
    types::{RoomNid, UserNid},
};

/// Others take somebody's typing for over after a minute, or less.
const TYPING_AGAIN: Duration = Duration::from_secs(25);
/// Others take somebody for gone after half an hour.
const PRESENCE_AGAIN: Duration = Duration::from_secs(25 * 60);
/// Worth nothing after this time, in milliseconds: who hears of it later would hear what is no longer so.
const TYPING_MS: u64 = 30_000;
const PRESENCE_MS: u64 = 10 * 60 * 1000;
/// Rooms of more servers than this are not told how our users are: nobody there looks, and each change would go to them all.
const PRESENCE_SERVERS: usize = 200;

/// Starts the task. It ends with the node.
pub(super) fn start(node: &Arc<Node>) {
    node.tasks.spawn("federation-live", run(Arc::clone(node)));
}

/// What was told, and when it is to be told again.
#[derive(Default)]
struct Said {
    told: Told,
    typing_again: Option<Instant>,
    presence_again: Option<Instant>,
}

/// What has to be said now.
#[derive(Default, Debug, PartialEq, Eq)]
struct Saying {
    typing: BTreeSet<(RoomNid, OwnedUserId, bool)>,
    presence: BTreeSet<UserNid>,
}

impl Said {
    /// The difference to what was said before, and what is due again.
    fn turn(&mut self, now_told: Told, now: Instant) -> Saying {
        let mut saying = Saying::default();
        let again = |due: &mut Option<Instant>, after: Duration, any: bool| {
            let is_due = due.is_some_and(|due| due <= now);
            if is_due || due.is_none() {
                *due = any.then(|| now + after);
            }
            if !any {
                *due = None;
            }
            is_due
        };
        let typing_due = again(&mut self.typing_again, TYPING_AGAIN, !now_told.typing.is_empty());
        for (room, user) in &now_told.typing {
            if typing_due || !self.told.typing.contains(&(*room, user.clone())) {
                saying.typing.insert((*room, user.clone(), true));
            }
        }
        for (room, user) in self.told.typing.difference(&now_told.typing) {
            saying.typing.insert((*room, user.clone(), false));
        }
        let there = |presence: &Presence| presence.state != PresenceState::Offline;
        let presence_due = again(&mut self.presence_again, PRESENCE_AGAIN, now_told.presence.values().any(there));
        for (user, presence) in &now_told.presence {
            let before = self.told.presence.get(user).map(|before| before.serial);
            if before != Some(presence.serial) && (before.is_some() || there(presence)) || (presence_due && there(presence)) {
                saying.presence.insert(*user);
            }
        }
        self.told = now_told;
        saying
    }

    fn next(&self) -> Option<Instant> {
        self.typing_again.into_iter().chain(self.presence_again).min()
    }
}

async fn run(node: Arc<Node>) {
    let mut changes = node.sync.live.changes();
    let mut said = Said::default();
    loop {
        changes.mark_unchanged();
        let told = node.sync.live.of_server(&node.config.server_name);
        let saying = said.turn(told, Instant::now());
        if saying != Saying::default() {
            let (ours, now_ms, presence) = (node.config.server_name.clone(), node.clock.now_ms(), said.told.presence.clone());
            let queued = node.store.write(move |tx| say(tx, &ours, &saying, &presence, now_ms));
            match queued.await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                // It is said again when it is due, or when it changes.
                Err(error) => tracing::warn!(%error, "other servers were not told who types and who is there"),
            }
        }
        let next = said.next();
        tokio::select! {
            () = node.tasks.shutdown().wait() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

fn say(tx: &mut Tx<'_>, ours: &ServerName, saying: &Saying, presence: &BTreeMap<UserNid, Presence>, now_ms: u64) -> Result<(), StoreError> {
    for (room, user_id, typing) in &saying.typing {
        let room_id = rooms::by_nid(&tx.reader(), *room)?.room_id;
        let content = json!({ "room_id": room_id, "user_id": user_id, "typing": typing }).to_string();
        let key = format!("{room_id} {user_id}");
        let edu = OutgoingEdu { kind: "m.typing", content: &content, key: Some(&key), expires_ms: Some(now_ms + TYPING_MS) };
        for server in servers::in_room(&tx.reader(), *room)?.iter().filter(|server| *server != ours) {
            queue_edu(tx, server, &edu)?;
        }
    }
    for user in &saying.presence {
        let Some(known) = presence.get(user) else { continue };
        let mut update = json!({
            "user_id": known.user_id,
            "presence": known.state,
            "last_active_ago": now_ms.saturating_sub(known.last_active_ms),
            "currently_active": known.state == PresenceState::Online,
        });
        if let (Some(message), Some(update)) = (&known.status_msg, update.as_object_mut()) {
            update.insert("status_msg".into(), message.as_str().into());
        }
        let content = json!({ "push": [update] }).to_string();
        let key = Some(known.user_id.as_str());
        let edu = OutgoingEdu { kind: "m.presence", content: &content, key, expires_ms: Some(now_ms + PRESENCE_MS) };
        for server in servers::around_user_in_rooms_of(&tx.reader(), *user, PRESENCE_SERVERS)?.iter().filter(|server| *server != ours) {
            queue_edu(tx, server, &edu)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::homeserver::sync::Live;

    fn user(text: &str) -> OwnedUserId {
        text.try_into().unwrap()
    }

    fn typing(saying: &Saying) -> Vec<(i64, &str, bool)> {
        saying.typing.iter().map(|(room, user, typing)| (room.0, user.as_str(), *typing)).collect()
    }

    #[test]
    fn typing_is_told_when_it_begins_while_it_lasts_and_when_it_ends() {
        let (live, mut said, start) = (Live::new(0), Said::default(), Instant::now());
        let home = ruma::server_name!("home.test");
        let (ann, far) = (user("@ann:home.test"), user("@ben:remote.test"));
        let until = Some(start + Duration::from_secs(100));
        live.set_typing(RoomNid(1), &ann, until);
        live.set_typing(RoomNid(1), &far, until);
        assert_eq!(typing(&said.turn(live.of_server(home), start)), [(1, "@ann:home.test", true)], "others' users are theirs to tell");
        assert_eq!(said.turn(live.of_server(home), start + Duration::from_secs(1)), Saying::default());
        let due = said.next().unwrap();
        assert_eq!(due, start + TYPING_AGAIN);
        assert_eq!(typing(&said.turn(live.of_server(home), due)), [(1, "@ann:home.test", true)]);
        live.set_typing(RoomNid(1), &ann, None);
        assert_eq!(typing(&said.turn(live.of_server(home), due)), [(1, "@ann:home.test", false)]);
        assert_eq!(said.next(), None, "nothing is left to repeat");
    }

    #[test]
    fn presence_is_told_when_it_changes_and_repeated_while_somebody_is_there() {
        let (live, mut said, start) = (Live::new(0), Said::default(), Instant::now());
        let home = ruma::server_name!("home.test");
        let ann = user("@ann:home.test");
        live.set_presence(UserNid(1), &ann, PresenceState::Offline, None, 5);
        assert_eq!(said.turn(live.of_server(home), start), Saying::default(), "who has never been there is not news");
        live.set_presence(UserNid(1), &ann, PresenceState::Online, None, 6);
        assert_eq!(said.turn(live.of_server(home), start).presence, BTreeSet::from([UserNid(1)]));
        assert_eq!(said.turn(live.of_server(home), start), Saying::default());
        let due = said.next().unwrap();
        assert_eq!(due, start + PRESENCE_AGAIN);
        assert_eq!(said.turn(live.of_server(home), due).presence, BTreeSet::from([UserNid(1)]));
        live.set_presence(UserNid(1), &ann, PresenceState::Offline, None, 7);
        assert_eq!(said.turn(live.of_server(home), due).presence, BTreeSet::from([UserNid(1)]));
        assert_eq!(said.next(), None);
    }
}
