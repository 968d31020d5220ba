//! What a server that joins is told of a room. That may be a hundred thousand events: which they are is worked out first, and
//! they are read a few at a time while they are sent.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::{MembershipError, Result};
use crate::homeserver::{
    store::{Reader, Store, StoreError, events, graph, state, sync_rooms, users},
    types::{EventNid, Pdu, RoomHandle},
};

/// Events of an auth chain that are sent at most.
const MAX_CHAIN: usize = 500_000;
/// Events that are read together.
const CHUNK: usize = 200;

/// What the other server is told of the room, by the events' numbers.
#[derive(Debug, Default)]
pub struct Told {
    state: BTreeSet<EventNid>,
    auth_chain: BTreeSet<EventNid>,
    /// Members were left out.
    pub members_omitted: bool,
}

/// The state before the join and what authorises it. Without members, those stay who give a room without a name its name.
pub(super) fn state(db: &Reader<'_>, room: &RoomHandle, join: &Pdu, omit_members: bool) -> Result<Told> {
    let event = events::by_id(db, join.event_id())?.ok_or_else(|| MembershipError::internal("a join vanished"))?;
    let group = event.state_before.ok_or_else(|| MembershipError::internal("a join has no place"))?;
    let mut named = None;
    let mut shown: BTreeSet<EventNid> = BTreeSet::new();
    let mut members: BTreeSet<EventNid> = BTreeSet::new();
    for (key, nid) in state::of_group(db, group)? {
        if omit_members {
            let (kind, _) = state::key(db, key)?;
            if kind == "m.room.member" {
                members.insert(nid);
                continue;
            }
            if matches!(kind.as_str(), "m.room.name" | "m.room.canonical_alias") {
                named = Some(nid);
            }
        }
        shown.insert(nid);
    }
    let mut told = Told::default();
    if omit_members {
        let mut kept = BTreeSet::new();
        if named.is_none() {
            let user = users::find(db, join.sender())?.ok_or_else(|| MembershipError::internal("a user vanished"))?;
            for hero in sync_rooms::heroes(db, room.nid, user)? {
                kept.extend(sync_rooms::member_entry(db, room.nid, &hero.user_id)?.and_then(|entry| entry.event));
            }
        }
        // Somebody may have changed their name since.
        kept.retain(|nid| members.contains(nid));
        told.members_omitted = members.len() > kept.len();
        shown.extend(kept);
    }
    let of_join = join.auth_events().iter().filter_map(|id| graph::find(db, id).transpose());
    let of_join = of_join.map(|found| found.map(|event| event.nid)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut chain = graph::auth_chain(db, shown.iter().chain(&of_join).copied(), MAX_CHAIN)?;
    chain.extend(of_join);
    if omit_members {
        chain.retain(|nid| !shown.contains(nid));
    }
    told.state = shown;
    told.auth_chain = chain;
    Ok(told)
}

enum Part {
    Text(String),
    Events { nids: Vec<EventNid>, first: bool },
}

impl Told {
    /// The fields `state` and `auth_chain` of a JSON object, without its brackets.
    pub fn fields(self, store: Store) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
        let lists = [("state", self.state), ("auth_chain", self.auth_chain)];
        lists_of(store, lists.map(|(name, events)| (name, events.into_iter().collect())))
    }
}

/// Lists of events as fields of a JSON object, without its brackets, read a few at a time while they are sent.
pub fn lists_of(
    store: Store,
    lists: impl IntoIterator<Item = (&'static str, Vec<EventNid>)>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let mut parts = Vec::new();
    for (name, events) in lists {
        let comma = if parts.is_empty() { "" } else { "," };
        parts.push(Part::Text(format!("{comma}\"{name}\":[")));
        parts.extend(events.chunks(CHUNK).enumerate().map(|(at, some)| Part::Events { nids: some.to_vec(), first: at == 0 }));
        parts.push(Part::Text("]".to_owned()));
    }
    let read = move |part| {
        let store = store.clone();
        async move {
            match part {
                Part::Text(text) => Ok(Bytes::from(text)),
                Part::Events { nids, first } => store.read(move |db| texts(db, &nids, first)).await,
            }
        }
    };
    // One piece is read while the one before it is sent.
    stream::iter(parts).map(read).buffered(2)
}

fn texts(db: &Reader<'_>, nids: &[EventNid], first: bool) -> Result<Bytes, StoreError> {
    let mut out = String::new();
    for (at, nid) in nids.iter().enumerate() {
        if at > 0 || !first {
            out.push(',');
        }
        out.push_str(&events::by_nid(db, *nid)?.json);
    }
    Ok(out.into())
}
