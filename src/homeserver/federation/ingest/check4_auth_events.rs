//! Check 4: the event is allowed by the events that it names as authorising it. What is not is rejected, for good.

use std::{collections::HashMap, sync::Arc};

use ruma::{EventId, events::StateEventType, room_version_rules::AuthorizationRules};

use crate::homeserver::{
    rooms::{
        auth::{self, Verdict},
        build,
    },
    types::Pdu,
};

/// Checks an event against its `auth_events`, all of which `fetch` finds.
pub fn check(rules: &AuthorizationRules, pdu: &Pdu, fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>) -> Verdict {
    if let rejected @ Verdict::Rejected(_) = auth::check_references(rules, pdu, &fetch) {
        return rejected;
    }
    let mut state: HashMap<(StateEventType, String), Arc<Pdu>> = HashMap::new();
    // From room version 12 on, the create event authorises everything without being named.
    let implied = pdu.room_id().filter(|_| rules.room_create_event_id_as_room_id).and_then(build::create_of_room_id);
    for id in implied.iter().chain(pdu.auth_events()) {
        if let Some(event) = fetch(id)
            && let Some(state_key) = event.state_key()
        {
            state.insert((event.kind().to_string().into(), state_key.to_owned()), event);
        }
    }
    auth::check_state(rules, pdu, |kind, key| state.get(&(kind.clone(), key.to_owned())).cloned())
}
