//! Checking the signatures of events: first the keys that they need are collected, then everything else is pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt as _, stream};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, SigningKeyAlgorithm,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{
        PublicKeyMap, Verified, required_server_signatures_to_verify_event, to_canonical_json_string_for_signing,
        verify_canonical_json_bytes, verify_event,
    },
};

use super::{KeyFault, KeyRing, Purpose, Want, is_key_id};

/// Servers that are asked for their keys at a time.
const AT_ONCE: usize = 16;
/// From so many unknown servers on, the notaries are asked first: one question instead of many.
const MANY: usize = 8;
/// Signatures of one server on one event that are looked at.
const MAX_SIGNATURES: usize = 8;

/// Why a signature does not count.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignatureFault {
    /// There is no key to check it with. The same event may be good when it comes again.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// It is not of that key, or is not there.
    #[error("the signature is wrong: {0}")]
    Wrong(String),
}

/// Keys that were collected for events.
#[derive(Debug, Default)]
pub struct EventKeys {
    found: HashMap<Want, Vec<u8>>,
    faults: HashMap<OwnedServerName, KeyFault>,
}

/// Checks one signature.
pub(super) fn verify(key: &[u8], signature: &[u8], object: &CanonicalJsonObject) -> Result<(), SignatureFault> {
    let wrong = |why: String| SignatureFault::Wrong(why);
    let text = to_canonical_json_string_for_signing(object).map_err(|error| wrong(error.to_string()))?;
    verify_text(key, signature, &text)
}

/// Checks a signature of a text.
pub(super) fn verify_text(key: &[u8], signature: &[u8], text: &str) -> Result<(), SignatureFault> {
    let wrong = |why: String| SignatureFault::Wrong(why);
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature, text.as_bytes()).map_err(|error| wrong(error.to_string()))
}

/// Which keys could check an event: for each server that has to have signed it, those that its signatures name.
fn wants(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Vec<Want> {
    let Ok(servers) = required_server_signatures_to_verify_event(event, &rules.signatures) else { return Vec::new() };
    let sent_ms = event.get("origin_server_ts").and_then(CanonicalJsonValue::as_integer);
    let sent_ms = sent_ms.and_then(|sent| u64::try_from(i64::from(sent)).ok()).unwrap_or_default();
    let purpose = if rules.enforce_key_validity { Purpose::Event(sent_ms) } else { Purpose::OldEvent };
    let signatures = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    let mut wants = Vec::new();
    for server in servers {
        let named = signatures.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
        let ids = named.into_iter().flatten().map(|(id, _)| id).filter(|id| is_key_id(id)).take(MAX_SIGNATURES);
        wants.extend(ids.map(|id| Want { server: server.clone(), key_id: id.clone(), purpose }));
    }
    wants
}

impl EventKeys {
    fn note(&mut self, want: Want, outcome: Option<Result<Vec<u8>, KeyFault>>) {
        match outcome {
            Some(Ok(key)) => {
                self.found.insert(want, key);
            }
            Some(Err(fault)) => {
                self.faults.insert(want.server, fault);
            }
            None => {}
        }
    }

    /// Checks the signatures and the content hash of an event whose keys were collected. [`Verified::Signatures`] means that
    /// the content hash is wrong: the event goes on in its redacted form (Server-Server API, "Checks performed on receipt").
    ///
    /// # Errors
    ///
    /// [`SignatureFault`].
    pub fn verify(&self, event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Verified, SignatureFault> {
        let wrong = |error: ruma::signatures::VerificationError| SignatureFault::Wrong(error.to_string());
        let servers = required_server_signatures_to_verify_event(event, &rules.signatures).map_err(wrong)?;
        let mut keys = PublicKeyMap::new();
        for want in wants(event, rules) {
            if let Some(key) = self.found.get(&want) {
                keys.entry(want.server.to_string()).or_default().insert(want.key_id, Base64::new(key.clone()));
            }
        }
        for server in servers {
            // "No key" is told apart from "wrong": it is no fault of the event's.
            if let (false, Some(fault)) = (keys.contains_key(server.as_str()), self.faults.get(&server)) {
                return Err(fault.clone().into());
            }
        }
        verify_event(&keys, event, rules).map_err(wrong)
    }
}

impl KeyRing {
    /// Collects the keys that these events need, asking the servers that are not known. What is not to be had is remembered as
    /// that.
    pub async fn collect<'a>(&self, events: impl IntoIterator<Item = &'a CanonicalJsonObject>, rules: &RoomVersionRules) -> EventKeys {
        let wants: BTreeSet<Want> = events.into_iter().flat_map(|event| wants(event, rules)).collect();
        let mut collected = EventKeys::default();
        let mut missing = Vec::new();
        let mut looked_up =
            stream::iter(wants.into_iter().map(|want| async move { (self.without_asking(&want).await, want) })).buffer_unordered(AT_ONCE);
        while let Some((outcome, want)) = looked_up.next().await {
            match outcome {
                Ok(None) => missing.push(want),
                other => collected.note(want, other.transpose()),
            }
        }
        drop(looked_up);
        let mut by_server: BTreeMap<OwnedServerName, Vec<Want>> = BTreeMap::new();
        for want in missing {
            by_server.entry(want.server.clone()).or_default().push(want);
        }
        if by_server.len() >= MANY {
            let all: Vec<Want> = by_server.values().flatten().cloned().collect();
            self.ask_notaries(&all).await;
        }
        // One server's keys one after the other, many servers at a time.
        let mut asked = stream::iter(by_server.into_values().map(|wants| async move {
            let mut out = Vec::with_capacity(wants.len());
            for want in wants {
                out.push((self.key(&want).await, want));
            }
            out
        }))
        .buffer_unordered(AT_ONCE);
        while let Some(answers) = asked.next().await {
            for (outcome, want) in answers {
                collected.note(want, Some(outcome));
            }
        }
        drop(asked);
        collected
    }

    /// A key of ours, or one from memory or the store.
    async fn without_asking(&self, want: &Want) -> Result<Option<Vec<u8>>, KeyFault> {
        if want.server == *self.name() { Ok(self.own_key(want)) } else { self.at_hand(want).await }
    }

    /// Checks the signatures and the content hash of one event, fetching keys as needed. [`Verified::Signatures`] means that
    /// the content hash is wrong. For many events, [`Self::collect`] once.
    ///
    /// # Errors
    ///
    /// [`SignatureFault`].
    pub async fn verify_event(&self, event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Verified, SignatureFault> {
        self.collect([event], rules).await.verify(event, rules)
    }
}
