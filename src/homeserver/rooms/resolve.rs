//! State resolution (Room Version 2, "State resolution"; room version 12 for the newer form) over ruma's algorithm.
//!
//! The caller gives only what takes part: the keys on which the states disagree, and of the others those that checks may look
//! at. A room of a hundred thousand members is resolved by the handful of events that are in dispute.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::homeserver::types::Pdu;

/// A state: what each (type, state key) points to.
pub type StateMap = state_res::StateMap<OwnedEventId>;

/// The states to be resolved and what was found out about them.
#[derive(Debug)]
pub struct Dispute {
    /// The states.
    pub states: Vec<StateMap>,
    /// The auth difference of the whole states.
    pub auth_difference: BTreeSet<OwnedEventId>,
    /// The conflicted state subgraph; looked at from room version 12 on.
    pub subgraph: BTreeSet<OwnedEventId>,
}

/// Resolves. The outcome holds the given keys that are set, and those that the auth difference brought in.
///
/// # Errors
///
/// Why not: an event that `fetch` does not find, or one that could never have been accepted.
pub fn resolve(rules: &RoomVersionRules, dispute: &Dispute, fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>) -> Result<StateMap, String> {
    let Some(v2) = rules.state_res.v2_rules() else {
        return Err("this room version resolves state in a way that is not supported".into());
    };
    // ruma works the difference out from whole auth chains; what some sets hold and one does not is the difference.
    let difference: EventIdSet<OwnedEventId> = dispute.auth_difference.iter().cloned().collect();
    let chains = vec![difference, EventIdSet::new()];
    let subgraph = |_: &state_res::StateMap<Vec<OwnedEventId>>| Some(dispute.subgraph.iter().cloned().collect());
    state_res::resolve(&rules.authorization, v2, &dispute.states, chains, fetch, subgraph).map_err(|e| e.to_string())
}

/// Types of events that authorise others: the only ones that lie on auth paths.
#[must_use]
pub fn authorises(kind: &str) -> bool {
    matches!(kind, "m.room.create" | "m.room.power_levels" | "m.room.join_rules" | "m.room.member" | "m.room.third_party_invite")
}

/// Keys that every resolution may look at.
#[must_use]
pub fn always_needed() -> [(StateEventType, String); 3] {
    [StateEventType::RoomCreate, StateEventType::RoomPowerLevels, StateEventType::RoomJoinRules].map(|kind| (kind, String::new()))
}
