//! The authorisation rules (Server-Server API, "Authorization rules" of each room version).

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, EventId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};

use crate::homeserver::types::Pdu;

/// What the rules say of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed.
    Accepted,
    /// It is not, and why.
    Rejected(String),
}

impl Verdict {
    fn of(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Accepted,
            Err(why) => Self::Rejected(why),
        }
    }
}

/// The (type, state key) pairs of the state that authorise an event, as its `auth_events` must name them.
///
/// # Errors
///
/// Why the content makes no sense for the type.
pub fn selection(
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &CanonicalJsonObject,
    rules: &AuthorizationRules,
) -> Result<Vec<(StateEventType, String)>, String> {
    let content = serde_json::value::to_raw_value(content).map_err(|e| e.to_string())?;
    auth_types_for_event(&TimelineEventType::from(kind), sender, state_key, &content, rules)
}

/// The rules that need no state: the form of a create event, and what may stand in `auth_events`.
pub fn check_references(rules: &AuthorizationRules, event: &Pdu, fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>) -> Verdict {
    Verdict::of(check_state_independent_auth_rules(rules, event, fetch))
}

/// The rules that look at a state: that of the event's `auth_events`, the one before the event, or the current one.
pub fn check_state(rules: &AuthorizationRules, event: &Pdu, state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>) -> Verdict {
    Verdict::of(check_state_dependent_auth_rules(rules, event, state))
}
