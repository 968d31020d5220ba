//! History visibility (Client-Server API, "Room History Visibility").

use ruma::events::room::{history_visibility::HistoryVisibility, member::MembershipState};

/// The type of events that say nothing: they only follow the ends of a room that has forked widely. Servers make them, and show
/// them to no client.
pub const DUMMY: &str = "org.matrix.dummy_event";

/// May a user see an event?
///
/// `visibility` and `membership` are those of the state at the event; `joined_later`: the user joined at some time after it.
#[must_use]
pub fn visible(visibility: &HistoryVisibility, membership: &MembershipState, joined_later: bool) -> bool {
    match (visibility, membership) {
        (HistoryVisibility::WorldReadable, _) | (_, MembershipState::Join) | (HistoryVisibility::Invited, MembershipState::Invite) => true,
        (HistoryVisibility::Invited | HistoryVisibility::Joined, _) => false,
        // `shared`, and whatever we do not know, which counts as `shared`.
        _ => joined_later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_specifications_table() {
        use HistoryVisibility as H;
        use MembershipState as M;
        for membership in [M::Join, M::Invite, M::Leave, M::Ban, M::Knock] {
            for later in [false, true] {
                let joined = membership == M::Join;
                assert!(visible(&H::WorldReadable, &membership, later));
                assert_eq!(visible(&H::Shared, &membership, later), joined || later);
                assert_eq!(visible(&H::Invited, &membership, later), joined || membership == M::Invite);
                assert_eq!(visible(&H::Joined, &membership, later), joined);
                assert_eq!(visible(&H::from("something else"), &membership, later), joined || later);
            }
        }
    }
}
