//! Which events of a room a user may see (Client-Server API, "Room history visibility").
//!
//! Both things that decide, the user's membership and the room's setting, are known for every position of the stream.

use super::{format, viewer::Viewer};
use crate::homeserver::{
    store::{
        Reader, Result, events,
        members::{self, Change},
        sync_rooms,
    },
    types::{RoomNid, StreamPos},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    WorldReadable,
    Shared,
    Invited,
    Joined,
}

impl Setting {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("world_readable") => Self::WorldReadable,
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            // What is missing or not understood counts as `shared`.
            _ => Self::Shared,
        }
    }
}

/// A user's relation to a room over time.
#[derive(Debug)]
pub(super) struct History {
    memberships: Vec<Change>,
    /// Only looked at for times at which the user was not joined.
    settings: Vec<(StreamPos, Setting)>,
}

impl History {
    /// Reads it, as far as events after `after` need it.
    pub fn load(db: &Reader<'_>, room: RoomNid, viewer: &Viewer, after: StreamPos) -> Result<Self> {
        let memberships = members::changes(db, room, viewer.user)?;
        let this = Self { memberships, settings: Vec::new() };
        if this.joined_since(after) {
            return Ok(this);
        }
        let mut settings = Vec::new();
        for (pos, event) in sync_rooms::key_history(db, room, "m.room.history_visibility", "")? {
            let text = match event {
                Some(event) => format::content_str(&events::by_nid(db, event)?, "history_visibility")?,
                None => None,
            };
            settings.push((pos, Setting::parse(text.as_deref())));
        }
        Ok(Self { settings, ..this })
    }

    /// True when the user was joined at the position and ever after.
    fn joined_since(&self, pos: StreamPos) -> bool {
        self.membership_at(pos) == Some("join") && self.memberships.iter().filter(|m| m.pos > pos).all(|m| m.membership == "join")
    }

    /// The user's membership right after this position.
    pub fn membership_at(&self, pos: StreamPos) -> Option<&str> {
        self.memberships.iter().rev().find(|m| m.pos <= pos).map(|m| m.membership.as_str())
    }

    /// When the user, who was joined at this position, ceased to be.
    pub fn left_after(&self, pos: StreamPos) -> Option<StreamPos> {
        self.memberships.iter().find(|m| m.pos > pos && m.membership != "join").map(|m| m.pos)
    }

    /// May the user see what stands at this position?
    pub fn visible(&self, pos: StreamPos) -> bool {
        let membership = self.membership_at(pos);
        // A user's own changes are always shown, above all the one by which they left.
        if membership == Some("join") || self.memberships.iter().any(|m| m.pos == pos) {
            return true;
        }
        let shows = |setting: Setting| match setting {
            Setting::WorldReadable => true,
            Setting::Shared => self.memberships.iter().any(|m| m.pos > pos && m.membership == "join"),
            Setting::Invited => membership == Some("invite") && self.memberships.iter().any(|m| m.pos > pos && m.membership == "join"),
            Setting::Joined => false,
        };
        let until =
            |last: StreamPos| self.settings.iter().rev().find(|(at, _)| *at <= last).map_or(Setting::Shared, |(_, setting)| *setting);
        // An event that changes the setting is shown to whom the setting before it or after it lets see.
        let changes = self.settings.iter().any(|(at, _)| *at == pos);
        shows(until(pos)) || (changes && shows(until(StreamPos(pos.0 - 1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::homeserver::types::EventNid;

    fn history(memberships: &[(i64, &str)], settings: &[(i64, Setting)]) -> History {
        History {
            memberships: memberships
                .iter()
                .map(|(pos, m)| Change { pos: StreamPos(*pos), membership: (*m).to_owned(), event: EventNid(*pos) })
                .collect(),
            settings: settings.iter().map(|(pos, setting)| (StreamPos(*pos), *setting)).collect(),
        }
    }

    #[test]
    fn shared_history_is_seen_by_whoever_joins_later_and_never_after_leaving() {
        let history = history(&[(5, "join"), (9, "leave")], &[(2, Setting::Shared)]);
        for (pos, seen) in [(3, true), (5, true), (8, true), (9, true), (10, false)] {
            assert_eq!(history.visible(StreamPos(pos)), seen, "{pos}");
        }
    }

    #[test]
    fn history_for_members_begins_with_the_join() {
        let history = history(&[(4, "invite"), (6, "join")], &[(2, Setting::Joined)]);
        for (pos, seen) in [(3, false), (4, true), (5, false), (6, true), (7, true)] {
            assert_eq!(history.visible(StreamPos(pos)), seen, "{pos}");
        }
    }

    #[test]
    fn history_for_the_invited_begins_with_the_invite() {
        let history = history(&[(4, "invite"), (6, "join")], &[(2, Setting::Invited)]);
        for (pos, seen) in [(3, false), (5, true), (7, true)] {
            assert_eq!(history.visible(StreamPos(pos)), seen, "{pos}");
        }
    }

    #[test]
    fn a_change_of_the_setting_is_seen_by_whom_it_concerns_before_or_after() {
        let narrowed = history(&[(9, "join")], &[(2, Setting::Shared), (5, Setting::Joined), (7, Setting::Invited)]);
        for (pos, seen) in [(4, true), (5, true), (6, false), (7, false), (8, false)] {
            assert_eq!(narrowed.visible(StreamPos(pos)), seen, "{pos}");
        }
    }

    #[test]
    fn a_change_of_the_setting_is_not_retroactive() {
        let history = history(&[(9, "join")], &[(2, Setting::Joined), (5, Setting::Shared)]);
        assert!(!history.visible(StreamPos(4)));
        assert!(history.visible(StreamPos(6)));
    }
}
