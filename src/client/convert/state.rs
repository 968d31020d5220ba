//! Changes of room state as sentences.

use matrix_sdk_ui::timeline::{
    AnyOtherStateEventContentChange as Change, MemberProfileChange, MembershipChange, OtherState, RoomMembershipChange,
    RoomPinnedEventsChange,
};
use ruma::{
    events::{
        StateEventContentChange,
        room::{guest_access::GuestAccess, history_visibility::HistoryVisibility},
    },
    room::JoinRule,
};

use super::{QUOTE_CHARS, one_line};

/// The reason given with a membership change.
pub(super) fn reason(change: &RoomMembershipChange) -> Option<String> {
    match change.content() {
        StateEventContentChange::Original { content, .. } => {
            content.reason.as_deref().map(|reason| one_line(reason, QUOTE_CHARS)).filter(|reason| !reason.is_empty())
        }
        StateEventContentChange::Redacted(_) => None,
    }
}

/// `Ann invited Bob`.
pub(super) fn membership(change: Option<MembershipChange>, sender: &str, target: &str, reason: Option<String>) -> String {
    let mut text = match change {
        Some(MembershipChange::Joined | MembershipChange::InvitationAccepted) => format!("{target} joined"),
        Some(MembershipChange::Left) => format!("{target} left"),
        Some(MembershipChange::Banned) => format!("{sender} banned {target}"),
        Some(MembershipChange::Unbanned) => format!("{sender} lifted the ban on {target}"),
        Some(MembershipChange::Kicked) => format!("{sender} removed {target}"),
        Some(MembershipChange::Invited) => format!("{sender} invited {target}"),
        Some(MembershipChange::KickedAndBanned) => format!("{sender} removed and banned {target}"),
        Some(MembershipChange::InvitationRejected) => format!("{target} declined the invitation"),
        Some(MembershipChange::InvitationRevoked) => format!("{sender} took back the invitation of {target}"),
        Some(MembershipChange::Knocked) => format!("{target} asks to join"),
        Some(MembershipChange::KnockAccepted) => format!("{sender} let {target} in"),
        Some(MembershipChange::KnockRetracted) => format!("{target} no longer asks to join"),
        Some(MembershipChange::KnockDenied) => format!("{sender} refused to let {target} in"),
        Some(MembershipChange::None) => format!("{target} changed nothing"),
        Some(MembershipChange::Error | MembershipChange::NotImplemented) | None => format!("{sender} changed the membership of {target}"),
    };
    if let Some(reason) = reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

/// `Ann is now called Anna`.
pub(super) fn profile(change: &MemberProfileChange, sender: &str) -> String {
    let short = |name: &str| one_line(name, super::NAME_CHARS);
    match change.displayname_change() {
        Some(names) => match (&names.old, &names.new) {
            (Some(old), Some(new)) => format!("{} is now called {}", short(old), short(new)),
            (None, Some(new)) => format!("{} is now called {}", change.user_id().localpart(), short(new)),
            (Some(old), None) => format!("{} removed their display name", short(old)),
            (None, None) => format!("{sender} changed their profile"),
        },
        None if change.avatar_url_change().is_some() => format!("{sender} changed their picture"),
        None => format!("{sender} changed their profile"),
    }
}

/// Any other state; `None` when there is no better way than to name the type.
pub(super) fn other(state: &OtherState, sender: &str) -> Option<String> {
    use StateEventContentChange::Original;
    let quoted = |text: &str| format!("\"{}\"", one_line(text, QUOTE_CHARS));
    Some(match state.content() {
        Change::RoomName(Original { content, .. }) if content.name.is_empty() => format!("{sender} removed the room's name"),
        Change::RoomName(Original { content, .. }) => format!("{sender} named the room {}", quoted(&content.name)),
        Change::RoomTopic(Original { content, .. }) if content.topic.is_empty() => format!("{sender} removed the topic"),
        Change::RoomTopic(Original { content, .. }) => format!("{sender} changed the topic to {}", quoted(&content.topic)),
        Change::RoomAvatar(_) => format!("{sender} changed the room's picture"),
        Change::RoomCanonicalAlias(Original { content, .. }) => match &content.alias {
            Some(alias) => format!("{sender} made {alias} the room's address"),
            None => format!("{sender} changed the room's addresses"),
        },
        Change::RoomCreate(_) => format!("{sender} created the room"),
        Change::RoomEncryption(_) => format!("{sender} turned on end-to-end encryption"),
        Change::RoomGuestAccess(Original { content, .. }) => match content.guest_access {
            GuestAccess::CanJoin => format!("{sender} let guests join"),
            _ => format!("{sender} keeps guests out"),
        },
        Change::RoomHistoryVisibility(Original { content, .. }) => {
            let who = match content.history_visibility {
                HistoryVisibility::Invited => "everybody from their invitation on",
                HistoryVisibility::Joined => "everybody from their joining on",
                HistoryVisibility::Shared => "all members",
                HistoryVisibility::WorldReadable => "anybody",
                _ => "certain people",
            };
            format!("{sender} made the history visible to {who}")
        }
        Change::RoomJoinRules(Original { content, .. }) => {
            let who = match &content.join_rule {
                JoinRule::Public => "anybody may join",
                JoinRule::Invite => "only invited people may join",
                JoinRule::Knock => "people may ask to join",
                JoinRule::Restricted(_) => "members of certain rooms may join",
                JoinRule::KnockRestricted(_) => "members of certain rooms may join, others may ask",
                _ => "the rules for joining changed",
            };
            format!("{sender} decided: {who}")
        }
        Change::RoomPinnedEvents(content) => match RoomPinnedEventsChange::from(content) {
            RoomPinnedEventsChange::Added => format!("{sender} pinned a message"),
            RoomPinnedEventsChange::Removed => format!("{sender} unpinned a message"),
            RoomPinnedEventsChange::Changed => format!("{sender} changed the pinned messages"),
        },
        Change::RoomPowerLevels(_) => format!("{sender} changed the permissions"),
        Change::RoomServerAcl(_) => format!("{sender} changed which servers may take part"),
        Change::RoomThirdPartyInvite(Original { content, .. }) if !content.display_name.is_empty() => {
            format!("{sender} invited {}", one_line(&content.display_name, super::NAME_CHARS))
        }
        Change::RoomTombstone(Original { content, .. }) => {
            format!("{sender} moved the room elsewhere: {}", one_line(&content.body, QUOTE_CHARS))
        }
        Change::SpaceChild(_) => format!("{sender} changed the rooms of this space"),
        Change::SpaceParent(_) => format!("{sender} changed the space this room belongs to"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_actor_and_the_target_stand_where_they_belong() {
        assert_eq!(membership(Some(MembershipChange::Invited), "Ann", "Bob", None), "Ann invited Bob");
        assert_eq!(membership(Some(MembershipChange::InvitationAccepted), "Bob", "Bob", None), "Bob joined");
        assert_eq!(membership(Some(MembershipChange::Kicked), "Ann", "Bob", Some("spam".to_owned())), "Ann removed Bob: spam");
    }
}
