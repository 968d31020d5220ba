//! Witnesses: asking others for keys that a server does not show itself, and being asked (Server-Server API, "Querying Keys
//! Through Another Server").

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName};
use serde_json::json;

use super::{KeyFault, KeyRing, Limits, Purpose, Want, answer, events};
use crate::homeserver::store::server_keys;

/// Servers in one question, ours or a stranger's.
pub const MAX_QUERIED: usize = 100;
/// Questions to one notary at a time.
const QUESTIONS_AT_ONCE: usize = 4;
/// Largest answer of a notary, in bytes.
const NOTARY_BYTES: usize = 8 << 20;
/// How long a notary may take: it may have to ask the servers itself.
const NOTARY_PATIENCE: Duration = Duration::from_secs(45);
/// Fetches that strangers make us do, at a time.
pub(super) const FETCHES_FOR_STRANGERS: usize = 8;
/// How long a stranger waits for all that we fetch for it.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(20);

/// A question of a stranger's: the keys of a server, good until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Whose keys.
    pub server: OwnedServerName,
    /// How long they have to be valid, in milliseconds since the Unix epoch.
    pub minimum_valid_until_ms: u64,
}

impl KeyRing {
    /// Asks the notaries for these keys, in turn, until all are there. What they do not know stays unknown.
    pub(super) async fn ask_notaries(&self, wants: &[Want]) {
        for notary in &self.0.parts.notaries {
            let missing: Vec<&Want> = wants.iter().filter(|want| want.server != *notary && self.usable(want).is_none()).collect();
            let questions: Vec<_> = missing.chunks(MAX_QUERIED).map(|some| self.ask_notary(notary, some)).collect();
            let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS_AT_ONCE);
            while let Some(answer) = answers.next().await {
                if let Err(fault) = answer {
                    tracing::debug!(peer = %notary, %fault, "a notary did not help");
                    break;
                }
            }
        }
    }

    async fn ask_notary(&self, notary: &ServerName, wants: &[&Want]) -> Result<(), KeyFault> {
        let mut queried: BTreeMap<&ServerName, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
        for want in wants {
            let criteria = match want.purpose {
                Purpose::Event(sent_ms) => json!({ "minimum_valid_until_ts": sent_ms }),
                Purpose::Request => json!({ "minimum_valid_until_ts": self.now_ms() }),
                Purpose::OldEvent => json!({}),
            };
            queried.entry(&want.server).or_default().insert(want.key_id.clone(), criteria);
        }
        let unreachable = |why| KeyFault::Unreachable { server: notary.to_owned(), why };
        let body = json!({ "server_keys": queried }).to_string().into_bytes();
        let limits = Limits::ORDINARY.bytes(NOTARY_BYTES).within(NOTARY_PATIENCE);
        let told = self.0.parts.client.raw(notary, Method::POST, "/_matrix/key/v2/query", Some(body), limits).await.map_err(unreachable)?;
        let bad = |why| KeyFault::Bad { server: notary.to_owned(), why: answer::BadAnswer(why) };
        let told: CanonicalJsonObject = serde_json::from_slice(&told).map_err(|_| bad("it is no canonical JSON"))?;
        let objects = told.get("server_keys").and_then(CanonicalJsonValue::as_array).ok_or_else(|| bad("it has no list of keys"))?;
        for object in objects.iter().filter_map(CanonicalJsonValue::as_object).take(MAX_QUERIED * 4) {
            // Nobody asked about others.
            let Some(server) = answer::subject(object).filter(|server| queried.contains_key::<ServerName>(server)) else { continue };
            match self.witnessed(notary, &server, object).await {
                Ok(answer) => self.keep_witnessed(&server, answer).await?,
                Err(fault) => tracing::debug!(peer = %notary, %server, %fault, "what a notary says does not count"),
            }
        }
        Ok(())
    }

    /// Boxed: to check a notary its own key may have to be fetched, by the function that brought us here.
    fn key_of_notary<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Vec<u8>, KeyFault>> {
        Box::pin(self.key(want))
    }

    /// An answer that both the notary and the server have signed.
    async fn witnessed(&self, notary: &ServerName, server: &ServerName, object: &CanonicalJsonObject) -> Result<answer::Answer, KeyFault> {
        let bad = |why| KeyFault::Bad { server: notary.to_owned(), why: answer::BadAnswer(why) };
        let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
        let own = signatures.and_then(|all| all.get(notary.as_str())).and_then(CanonicalJsonValue::as_object);
        let mut witnessed = false;
        for (key_id, signature) in own.into_iter().flatten().take(8) {
            let want = Want { server: notary.to_owned(), key_id: key_id.clone(), purpose: Purpose::Request };
            let Some(signature) = signature.as_str().and_then(answer::base64) else { continue };
            let Ok(key) = self.key_of_notary(&want).await else { continue };
            events::verify(&key, &signature, object).map_err(|_| bad("its signature is wrong"))?;
            witnessed = true;
        }
        if !witnessed {
            return Err(bad("the notary has not signed it"));
        }
        answer::check(server, object.clone()).map_err(|why| KeyFault::Bad { server: server.to_owned(), why })
    }

    /// Answers a stranger: what these servers say about their keys, with our signature beside theirs. Servers that say nothing
    /// are left out; an answer that has run out is better than none (Server-Server API, `GET /_matrix/key/v2/query`).
    ///
    /// # Errors
    ///
    /// When the store fails or nothing can be signed.
    pub async fn vouch(&self, queries: Vec<Query>) -> Result<Vec<CanonicalJsonObject>, KeyFault> {
        let deadline = tokio::time::Instant::now() + STRANGERS_PATIENCE;
        let mut out = Vec::new();
        if queries.iter().any(|query| query.server == self.0.parts.name) {
            out.extend(self.published());
        }
        let answers = stream::iter(queries.into_iter().take(MAX_QUERIED).map(|query| async move {
            let stored = self.stored(&query.server).await?;
            if stored.as_ref().is_some_and(|stored| self.is_fresh(stored, query.minimum_valid_until_ms)) {
                return Ok::<_, KeyFault>(stored);
            }
            if self.may_ask(&query.server) {
                // Whether that helps is seen in the store.
                let fetched = tokio::time::timeout_at(deadline, async {
                    let _place = self.0.for_askers.acquire().await;
                    self.fetch(&query.server).await
                });
                match fetched.await {
                    Ok(Err(KeyFault::Store(error))) => return Err(error.into()),
                    Ok(_) => {
                        // Asked in vain: not so soon again.
                        let stored = self.stored(&query.server).await?;
                        if !stored.as_ref().is_some_and(|stored| self.is_fresh(stored, query.minimum_valid_until_ms)) {
                            self.note_fruitless(&query.server);
                        }
                        return Ok(stored);
                    }
                    Err(_) => {}
                }
            }
            Ok(stored)
        }))
        .buffered(FETCHES_FOR_STRANGERS)
        .collect::<Vec<_>>()
        .await;
        for answer in answers {
            let Some(stored) = answer? else { continue };
            let Ok(mut object) = serde_json::from_slice::<CanonicalJsonObject>(&stored.answer) else { continue };
            if self.0.parts.own.sign_json(self.0.parts.name.as_str(), &mut object).is_ok() {
                out.push(object);
            }
        }
        Ok(out)
    }

    /// True for an answer that is valid for long enough and has not spent half of its life (same place).
    fn is_fresh(&self, stored: &server_keys::StoredAnswer, minimum_valid_until_ms: u64) -> bool {
        let number = |ms: i64| u64::try_from(ms).unwrap_or(0);
        let (fetched_ms, valid_until_ms) = (number(stored.fetched_ms), number(stored.valid_until_ms));
        let half_ms = fetched_ms + valid_until_ms.saturating_sub(fetched_ms) / 2;
        valid_until_ms >= minimum_valid_until_ms && half_ms >= self.now_ms()
    }

    pub(super) async fn stored(&self, server: &ServerName) -> Result<Option<server_keys::StoredAnswer>, KeyFault> {
        if server == self.0.parts.name {
            return Ok(None);
        }
        let server = server.to_owned();
        Ok(self.0.parts.store.read(move |db| server_keys::answer(db, &server)).await?)
    }
}
