//! A connection as it is kept over a restart: compressed JSON, without what can be read anew or sent again.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    connections::{State, States, Told},
    required::Required,
};
use crate::homeserver::types::{RoomNid, StreamPos};

/// Larger ones are not kept: their client begins anew.
const LARGEST: usize = 2 << 20;
/// What a compressed one may grow to.
const LARGEST_PLAIN: usize = 32 << 20;
/// Changes with the form; what is in another is forgotten.
const VERSION: u32 = 1;

/// Extensions that may have begun.
const EXTENSIONS: [&str; 4] = ["account_data", "receipts", "thread_subscriptions", "typing"];

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    states: Vec<SavedState>,
    /// Shared by many rooms.
    required: Vec<Required>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    token: String,
    pos: i64,
    serial: u64,
    keys: BTreeMap<String, u64>,
    fallback: Vec<String>,
    begun: Vec<String>,
    rooms: Vec<SavedRoom>,
}

/// Room, position, whether there is more since then, membership, timeline limit, required state, whether it is a direct chat.
///
/// Members that were sent are not among it: some are sent again.
type SavedRoom = (i64, i64, bool, String, usize, usize, bool);

/// The acknowledged position and the newest; `None` when they are too large to be kept.
pub(super) fn encode(states: &States) -> Option<Vec<u8>> {
    let mut required: Vec<Arc<Required>> = Vec::new();
    let ends = [states.front(), (states.len() > 1).then(|| states.back()).flatten()];
    let saved = ends.into_iter().flatten().map(|(token, state)| state_of(token, state, &mut required)).collect();
    let required = required.iter().map(|required| required.as_ref().clone()).collect();
    let json = serde_json::to_vec(&Saved { version: VERSION, states: saved, required }).ok()?;
    zstd::bulk::compress(&json, 1).ok().filter(|packed| packed.len() <= LARGEST && json.len() <= LARGEST_PLAIN)
}

fn state_of(token: &str, state: &State, required: &mut Vec<Arc<Required>>) -> SavedState {
    let mut index = |of_room: &Arc<Required>| {
        let same = |known: &Arc<Required>| Arc::ptr_eq(known, of_room) || known == of_room;
        required.iter().position(same).unwrap_or_else(|| {
            required.push(Arc::clone(of_room));
            required.len() - 1
        })
    };
    let room = |(room, told): (&RoomNid, &Arc<Told>)| {
        let membership = told.membership.to_string();
        (room.0, told.pos.0, told.behind, membership, told.timeline_limit, index(&told.required), told.is_dm)
    };
    SavedState {
        token: token.to_owned(),
        pos: state.pos.0,
        serial: state.serial,
        keys: state.key_counts.clone(),
        fallback: state.fallback_keys.clone(),
        begun: state.begun.iter().map(|name| (*name).to_owned()).collect(),
        rooms: state.rooms.iter().map(room).collect(),
    }
}

/// What was encoded; `None` for what cannot be read, which is the same as not having it.
pub(super) fn decode(packed: &[u8]) -> Option<States> {
    let json = zstd::bulk::decompress(packed, LARGEST_PLAIN).ok()?;
    let saved: Saved = serde_json::from_slice(&json).ok().filter(|saved: &Saved| saved.version == VERSION)?;
    let required: Vec<Arc<Required>> = saved.required.into_iter().map(Arc::new).collect();
    saved.states.into_iter().map(|state| restore(state, &required)).collect()
}

fn restore(saved: SavedState, required: &[Arc<Required>]) -> Option<(String, Arc<State>)> {
    let room = |(room, pos, behind, membership, timeline_limit, index, is_dm): SavedRoom| {
        let told = Told {
            pos: StreamPos(pos),
            behind,
            membership: membership.into(),
            timeline_limit,
            required: Arc::clone(required.get(index)?),
            is_dm,
            members: Arc::default(),
        };
        Some((RoomNid(room), Arc::new(told)))
    };
    let state = State {
        pos: StreamPos(saved.pos),
        serial: saved.serial,
        rooms: saved.rooms.into_iter().map(room).collect::<Option<_>>()?,
        entries: None,
        key_counts: saved.keys,
        fallback_keys: saved.fallback,
        begun: EXTENSIONS.into_iter().filter(|name| saved.begun.iter().any(|begun| begun == name)).collect(),
    };
    Some((saved.token, Arc::new(state)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]
mod tests {
    use ruma::{events::room::member::MembershipState, user_id};

    use super::*;

    fn state(rooms: i64) -> Arc<State> {
        let required = Arc::new(Required::own_membership(user_id!("@ann:home.test")));
        let told = |pos| Told {
            pos: StreamPos(pos),
            behind: pos % 2 == 0,
            membership: MembershipState::Join,
            timeline_limit: 20,
            required: Arc::clone(&required),
            is_dm: pos % 3 == 0,
            members: Arc::default(),
        };
        Arc::new(State {
            pos: StreamPos(7),
            serial: 8,
            rooms: (0..rooms).map(|n| (RoomNid(n), Arc::new(told(n * 17)))).collect(),
            entries: None,
            key_counts: [("signed_curve25519".to_owned(), 50)].into(),
            fallback_keys: vec!["x".to_owned()],
            begun: ["typing"].into(),
        })
    }

    #[test]
    fn what_was_kept_comes_back_in_little_room() {
        let states: States = [("s1_a.1".to_owned(), state(2)), ("s2_a.2".to_owned(), state(1)), ("s7_a.3".to_owned(), state(2000))].into();
        let packed = encode(&states).unwrap();
        assert!(packed.len() < 2000 * 8, "{}", packed.len());
        let back = decode(&packed).unwrap();
        assert_eq!(back.iter().map(|(token, _)| token.as_str()).collect::<Vec<_>>(), ["s1_a.1", "s7_a.3"]);
        let (was, is) = (&states[2].1, &back[1].1);
        assert_eq!((is.pos, is.serial, &is.key_counts, &is.begun), (was.pos, was.serial, &was.key_counts, &was.begun));
        for (room, told) in &was.rooms {
            let back = &is.rooms[room];
            assert_eq!((back.pos, back.behind, &back.required, back.is_dm), (told.pos, told.behind, &told.required, told.is_dm));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        assert!(decode(b"").is_none());
        assert!(decode(b"nonsense").is_none());
        assert!(decode(&zstd::bulk::compress(b"{\"version\":9,\"states\":[],\"required\":[]}", 1).unwrap()).is_none());
    }
}
