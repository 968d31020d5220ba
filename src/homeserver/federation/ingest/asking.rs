//! Asking real servers: [`Remote`] over the node's federation client and key ring.

use std::{sync::Arc, time::Duration};

use ruma::{
    CanonicalJsonObject, OwnedEventId, RoomId, ServerName,
    api::federation::{
        authorization::get_event_authorization::v1 as get_event_authorization,
        backfill::get_backfill::v1 as get_backfill,
        event::{
            get_event::v1 as get_event, get_missing_events::v1 as get_missing_events, get_room_state::v1 as get_room_state,
            get_room_state_ids::v1 as get_room_state_ids,
        },
    },
    room_version_rules::RoomVersionRules,
    signatures::Verified,
};
use serde_json::value::RawValue;

use super::remote::{Ask, Remote, RemoteError, Result, Signatures, StateIds, Untrusted};
use crate::homeserver::federation::{
    client::Client,
    key_ring::{EventKeys, KeyRing, SignatureFault},
    request::{Limits, RequestError},
};

/// A whole state takes its time, and more room than other answers: [`super::Ingest`] asks for one at a time. Who is asked has
/// just sent us something, whatever happened before that.
const STATE: Limits = Limits { time: Duration::from_secs(180), body_bytes: 128 << 20, insist: true };
/// The same, as IDs only.
const STATE_IDS: Limits = Limits { time: Duration::from_secs(120), body_bytes: 64 << 20, insist: true };
/// Events whose signatures one thread checks before it looks for other work.
const CHUNK: usize = 256;

/// Asks other servers.
#[derive(Debug)]
pub struct Asking {
    client: Client,
    keys: KeyRing,
}

impl Asking {
    /// By this client, with this ring's keys.
    #[must_use]
    pub fn new(client: Client, keys: KeyRing) -> Self {
        Self { client, keys }
    }
}

impl From<RequestError> for RemoteError {
    fn from(error: RequestError) -> Self {
        Self(error.to_string())
    }
}

fn judge(keys: &EventKeys, event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Signatures {
    match keys.verify(event, rules) {
        Ok(verified) => Signatures::Valid { content_intact: verified == Verified::All },
        Err(SignatureFault::Key(fault)) => Signatures::Unknown(fault.to_string()),
        Err(SignatureFault::Wrong(why)) => Signatures::Invalid(why),
    }
}

#[async_trait::async_trait]
impl Remote for Asking {
    async fn signatures(&self, events: Vec<CanonicalJsonObject>, rules: &RoomVersionRules, ask: Ask) -> Vec<Signatures> {
        let keys = Arc::new(match ask {
            Ask::Servers => self.keys.collect(&events, rules).await,
            Ask::Nobody => self.keys.at_hand_for(&events, rules).await,
        });
        let mut events = events;
        let mut work = Vec::new();
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(CHUNK));
            let chunk = std::mem::replace(&mut events, rest);
            let (keys, rules, count) = (Arc::clone(&keys), rules.clone(), chunk.len());
            // Checking a signature is arithmetic for a tenth of a millisecond: not for the runtime's threads.
            let task = tokio::task::spawn_blocking(move || chunk.iter().map(|event| judge(&keys, event, &rules)).collect::<Vec<_>>());
            work.push((task, count));
        }
        let mut answers = Vec::new();
        for (task, count) in work {
            // The panic hook has logged it; nothing has been found out about these.
            let unknown = |_| vec![Signatures::Unknown("a check failed by a fault in homeroom".into()); count];
            answers.append(&mut task.await.unwrap_or_else(unknown));
        }
        answers
    }

    async fn event(&self, server: &ServerName, event_id: &OwnedEventId) -> Result<Box<RawValue>> {
        Ok(self.client.request(server, get_event::Request::new(event_id.clone())).await?.pdu)
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        earliest: Vec<OwnedEventId>,
        latest: Vec<OwnedEventId>,
        limit: u32,
        min_depth: i64,
    ) -> Result<Untrusted> {
        let mut request = get_missing_events::Request::new(room_id.to_owned(), earliest, latest);
        request.limit = limit.into();
        request.min_depth = u64::try_from(min_depth).ok().and_then(|depth| ruma::UInt::try_from(depth).ok()).unwrap_or_default();
        Ok(self.client.request(server, request).await?.events)
    }

    async fn state_ids(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<StateIds> {
        let request = get_room_state_ids::Request::new(event_id.clone(), room_id.to_owned());
        let answer = self.client.request_within(server, request, STATE_IDS).await?;
        Ok(StateIds { state: answer.pdu_ids, auth_chain: answer.auth_chain_ids })
    }

    async fn state(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<Untrusted> {
        let request = get_room_state::Request::new(event_id.clone(), room_id.to_owned());
        let answer = self.client.request_within(server, request, STATE).await?;
        Ok(answer.pdus.into_iter().chain(answer.auth_chain).collect())
    }

    async fn event_auth(&self, server: &ServerName, room_id: &RoomId, event_id: &OwnedEventId) -> Result<Untrusted> {
        let request = get_event_authorization::Request::new(room_id.to_owned(), event_id.clone());
        Ok(self.client.request_within(server, request, STATE_IDS).await?.auth_chain)
    }

    async fn backfill(&self, server: &ServerName, room_id: &RoomId, from: Vec<OwnedEventId>, limit: u32) -> Result<Untrusted> {
        let request = get_backfill::Request::new(room_id.to_owned(), from, limit.into());
        Ok(self.client.request_within(server, request, Limits::ORDINARY.insisting()).await?.pdus)
    }
}
