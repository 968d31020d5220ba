//! Checking the signatures of events: first the keys that they need are collected, then everything else is pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt as _, stream};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, SigningKeyAlgorithm,
    canonical_json::redact,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{
        PublicKeyMap, Verified, required_server_signatures_to_verify_event, to_canonical_json_string_for_signing,
        verify_canonical_json_bytes, verify_event,
    },
};

use super::{KeyFault, KeyRing, Purpose, Want, is_key_id};

/// Servers whose keys are looked for in the store at a time.
const AT_ONCE: usize = 16;
/// Servers that are asked for their keys at a time: of a large room's many are gone, and each of those is waited for.
const ASKED_AT_ONCE: usize = 48;
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
        verify_with(&keys, event, rules)
    }
}

/// Checks the signatures and the content hash of an event with these keys. [`Verified::Signatures`] means that the content hash
/// is wrong, and that what redaction leaves of the event is signed by everybody who has to sign *that*: an invite by way of a
/// third party needs nobody's signature, but before room version 11 its redacted form is an ordinary invite, which its sender's
/// server has to have signed (Server-Server API, "Validating hashes and signatures on received events").
///
/// # Errors
///
/// [`SignatureFault::Wrong`].
pub fn verify_with(keys: &PublicKeyMap, event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Verified, SignatureFault> {
    let wrong = |error: ruma::signatures::VerificationError| SignatureFault::Wrong(error.to_string());
    let verified = verify_event(keys, event, rules).map_err(wrong)?;
    if verified == Verified::All {
        return Ok(verified);
    }
    let checked = required_server_signatures_to_verify_event(event, &rules.signatures).map_err(wrong)?;
    let redacted = redact(event.clone(), &rules.redaction, None).map_err(|error| SignatureFault::Wrong(error.to_string()))?;
    let required = required_server_signatures_to_verify_event(&redacted, &rules.signatures).map_err(wrong)?;
    match required.difference(&checked).next() {
        Some(server) => Err(SignatureFault::Wrong(format!("its content is not what was hashed, and {server} has not signed the rest"))),
        None => Ok(verified),
    }
}

impl KeyRing {
    /// Collects the keys that these events need, asking the servers that are not known. What is not to be had is remembered as
    /// that.
    pub async fn collect<'a>(&self, events: impl IntoIterator<Item = &'a CanonicalJsonObject>, rules: &RoomVersionRules) -> EventKeys {
        let (mut collected, by_server) = self.look_up(events, rules).await;
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
        .buffer_unordered(ASKED_AT_ONCE);
        while let Some(answers) = asked.next().await {
            for (outcome, want) in answers {
                collected.note(want, Some(outcome));
            }
        }
        drop(asked);
        collected
    }

    /// The keys of these events that are in memory or in the store. Nobody is asked for the others.
    pub async fn at_hand_for<'a>(&self, events: impl IntoIterator<Item = &'a CanonicalJsonObject>, rules: &RoomVersionRules) -> EventKeys {
        let (mut collected, missing) = self.look_up(events, rules).await;
        for want in missing.into_values().flatten() {
            let fault = KeyFault::Unknown { server: want.server.clone(), key_id: want.key_id.clone() };
            collected.note(want, Some(Err(fault)));
        }
        collected
    }

    /// What is in memory or in the store of the keys that these events need, and the rest by server.
    async fn look_up<'a>(
        &self,
        events: impl IntoIterator<Item = &'a CanonicalJsonObject>,
        rules: &RoomVersionRules,
    ) -> (EventKeys, BTreeMap<OwnedServerName, Vec<Want>>) {
        let mut by_server: BTreeMap<OwnedServerName, BTreeSet<Want>> = BTreeMap::new();
        for want in events.into_iter().flat_map(|event| wants(event, rules)) {
            by_server.entry(want.server.clone()).or_default().insert(want);
        }
        let (mut collected, mut missing) = (EventKeys::default(), BTreeMap::new());
        let found = by_server.into_iter().map(|(server, wants)| async move {
            let found = self.all_at_hand(&server, &wants).await;
            (server, wants, found)
        });
        let mut found = stream::iter(found).buffer_unordered(AT_ONCE);
        while let Some((server, wants, found)) = found.next().await {
            match found {
                Ok(found) => {
                    let (there, not): (Vec<_>, Vec<_>) = wants.into_iter().zip(found).partition(|(_, key)| key.is_some());
                    for (want, key) in there {
                        collected.note(want, key.map(Ok));
                    }
                    if !not.is_empty() {
                        missing.insert(server, not.into_iter().map(|(want, _)| want).collect());
                    }
                }
                Err(fault) => wants.into_iter().for_each(|want| collected.note(want, Some(Err(fault.clone())))),
            }
        }
        (collected, missing)
    }

    /// Keys of one server, ours or from memory or the store: one look into the store for all of them.
    async fn all_at_hand(&self, server: &ServerName, wants: &BTreeSet<Want>) -> Result<Vec<Option<Vec<u8>>>, KeyFault> {
        if server == self.name() {
            return Ok(wants.iter().map(|want| self.own_key(want)).collect());
        }
        let Some(first) = wants.first() else { return Ok(Vec::new()) };
        self.at_hand(first).await?;
        Ok(wants.iter().map(|want| self.usable(want)).collect())
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
