//! Check 2: the servers that have to have signed the event. What they have not is dropped; where keys cannot be had, it waits.

use ruma::room_version_rules::RoomVersionRules;

use super::remote::{Ask, Remote, Signatures};
use crate::homeserver::types::Pdu;

/// Events whose signatures are looked at in one go.
const BATCH: usize = 1000;

/// Checks the signatures of events. The answers are in the order of the events.
pub async fn check(remote: &dyn Remote, events: &[Pdu], rules: &RoomVersionRules, ask: Ask) -> Vec<Signatures> {
    let mut answers = Vec::with_capacity(events.len());
    for batch in events.chunks(BATCH) {
        let mut found = remote.signatures(batch.iter().map(|pdu| pdu.json().clone()).collect(), rules, ask).await;
        // An answer too few must not make another event's signature count for this one.
        found.resize(batch.len(), Signatures::Unknown("no answer from the key ring".into()));
        answers.append(&mut found);
    }
    answers
}
