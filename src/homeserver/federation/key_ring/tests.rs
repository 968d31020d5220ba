#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomVersionId,
    room_version_rules::RoomVersionRules,
    signatures::{Ed25519KeyPair, Verified, hash_and_sign_event, sign_json},
};
use serde_json::json;

use super::{
    answer::tests::{answer, encoded, object, pair},
    notary::Query,
    *,
};
use crate::{
    base::{ManualClock, SystemRandomness},
    homeserver::{
        federation::{
            client::Client,
            connect::Connector,
            discovery::Discovery,
            health::Health,
            testing::{FakeDns, FakeWeb, answer as reply},
            well_known::WellKnown,
        },
        outbound::Guard,
        rooms::acl::Acl,
        sync::Notifier,
    },
};

const NOW_MS: u64 = 1_790_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What a fake server answers when it is asked for keys, and how often it was.
#[derive(Clone, Default)]
struct Says {
    answer: Arc<Mutex<Option<CanonicalJsonObject>>>,
    asked: Arc<AtomicUsize>,
}

impl Says {
    fn set(&self, answer: CanonicalJsonObject) {
        *self.answer.lock().unwrap() = Some(answer);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct World {
    web: FakeWeb,
    dns: Arc<FakeDns>,
    clock: ManualClock,
    store: Store,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let store = tokio::task::spawn_blocking(move || Store::open(&path, Notifier::default().observer()).unwrap()).await.unwrap();
        Self { web: FakeWeb::new(), dns: Arc::default(), clock: ManualClock::at(NOW_MS), store, dir }
    }

    /// A ring of `home.test`; another one on the same store is what a restart makes of it.
    fn ring(&self, notaries: &[&OwnedServerName]) -> KeyRing {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let randomness: Arc<dyn Randomness> = Arc::new(SystemRandomness);
        let connector = Connector::new(Arc::clone(&self.dns) as _, Guard::everything(), Some(self.web.ca()));
        let well_known = WellKnown::new(connector.clone(), Arc::clone(&clock), Arc::clone(&randomness));
        let discovery = Discovery::new(Arc::clone(&self.dns) as _, well_known, Arc::clone(&randomness));
        let health = Arc::new(Health::new(Arc::clone(&clock), Arc::clone(&randomness)));
        let own = Arc::new(SigningKey::load_or_create(self.dir.path(), &SystemRandomness).unwrap());
        let name = ServerName::parse("home.test").unwrap();
        let client =
            Client::new(name.clone(), Arc::clone(&own), connector, discovery, health, self.web.tasks().clone(), Acl::of_owner(&[], &[]));
        let notaries = notaries.iter().map(|name| (*name).clone()).collect();
        KeyRing::new(Parts { name, own, past: Vec::new(), notaries, client, store: self.store.clone(), clock, randomness })
    }

    /// A server that answers every question about keys with what it is told to.
    async fn server(&self, host: &'static str) -> (OwnedServerName, Says) {
        let says = Says::default();
        let told = says.clone();
        let names = [host];
        let address = self.web.serve(&names, move |_| {
            told.asked.fetch_add(1, Ordering::SeqCst);
            let body = told.answer.lock().unwrap().as_ref().map(|answer| serde_json::to_string(answer).unwrap());
            std::future::ready(body.map_or_else(|| reply(500, &[], ""), |body| reply(200, &[], body)))
        });
        let port = address.await.port();
        self.dns.addresses.lock().unwrap().insert(host.to_owned(), vec!["127.0.0.1".parse().unwrap()]);
        (ServerName::parse(format!("{host}:{port}")).unwrap(), says)
    }
}

fn want(server: &ServerName, version: &str, purpose: Purpose) -> Want {
    Want { server: server.to_owned(), key_id: format!("ed25519:{version}"), purpose }
}

/// An event of a user of `server`.
fn event(server: &ServerName, pair: &Ed25519KeyPair, sent_ms: u64, rules: &RoomVersionRules) -> CanonicalJsonObject {
    let mut event = object(json!({
        "type": "m.room.message",
        "sender": format!("@ann:{server}"),
        "room_id": "!r:home.test",
        "origin_server_ts": sent_ms,
        "content": { "body": "hello" },
        "auth_events": [], "prev_events": [], "depth": 5,
    }));
    hash_and_sign_event(server.as_str(), pair, &mut event, &rules.redaction).unwrap();
    event
}

fn v11() -> RoomVersionRules {
    RoomVersionId::V11.rules().unwrap()
}

#[tokio::test]
async fn a_key_is_fetched_once_and_survives_a_restart() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let pair = pair("1");
    says.set(answer(server.as_str(), &pair, NOW_MS + DAY_MS));
    let ring = world.ring(&[]);
    let want = want(&server, "1", Purpose::Request);
    let keys = futures_util::future::join_all((0..10).map(|_| ring.key(&want))).await;
    assert!(keys.iter().all(|key| key.as_ref().unwrap() == pair.public_key().as_slice()));
    assert_eq!(says.asked(), 1);
    assert_eq!(world.ring(&[]).key(&want).await.unwrap(), pair.public_key());
    assert_eq!(says.asked(), 1, "after a restart it is in the store");
}

#[tokio::test]
async fn a_key_that_has_run_out_is_asked_for_again() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let pair = pair("1");
    says.set(answer(server.as_str(), &pair, NOW_MS + DAY_MS));
    let ring = world.ring(&[]);
    let request = want(&server, "1", Purpose::Request);
    ring.key(&request).await.unwrap();
    world.clock.advance(DAY_MS + 1);
    assert!(matches!(ring.key(&request).await, Err(KeyFault::Unknown { .. })), "the server says the same again");
    assert_eq!(says.asked(), 2);
    says.set(answer(server.as_str(), &pair, NOW_MS + 3 * DAY_MS));
    world.clock.advance(DAY_MS);
    ring.key(&request).await.unwrap();
    assert_eq!(says.asked(), 3);
}

#[tokio::test]
async fn nothing_counts_longer_than_seven_days() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    says.set(answer(server.as_str(), &pair("1"), NOW_MS + 365 * DAY_MS));
    let ring = world.ring(&[]);
    ring.key(&want(&server, "1", Purpose::Event(NOW_MS + 7 * DAY_MS))).await.unwrap();
    assert!(ring.key(&want(&server, "1", Purpose::Event(NOW_MS + 7 * DAY_MS + 1))).await.is_err());
    ring.key(&want(&server, "1", Purpose::OldEvent)).await.unwrap();
}

/// Somebody has the name for a day; the owner is back, and neither lists their key nor says that it is past.
#[tokio::test]
async fn a_key_that_is_no_longer_listed_counts_no_longer_than_seven_days_from_when_it_was() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let (thief, owner) = (pair("thief"), pair("owner"));
    says.set(answer(server.as_str(), &thief, NOW_MS + 36_500 * DAY_MS));
    let ring = world.ring(&[]);
    ring.key(&want(&server, "thief", Purpose::Request)).await.unwrap();
    world.clock.advance(DAY_MS);
    says.set(answer(server.as_str(), &owner, NOW_MS + 3 * DAY_MS));
    ring.key(&want(&server, "owner", Purpose::Request)).await.unwrap();
    world.clock.advance(30 * DAY_MS);
    for ring in [ring, world.ring(&[])] {
        assert!(ring.key(&want(&server, "thief", Purpose::Request)).await.is_err());
        assert!(ring.key(&want(&server, "thief", Purpose::Event(NOW_MS + 8 * DAY_MS))).await.is_err());
        assert!(ring.key(&want(&server, "thief", Purpose::Event(NOW_MS + 30 * DAY_MS))).await.is_err());
        assert!(ring.key(&want(&server, "thief", Purpose::Event(NOW_MS + 7 * DAY_MS))).await.is_ok(), "what was sent in its time");
        ring.key(&want(&server, "owner", Purpose::Event(NOW_MS + 2 * DAY_MS))).await.unwrap();
    }
}

/// The same where the key is listed as one of the past, whose end is in the future.
#[tokio::test]
async fn a_key_of_the_past_ends_no_later_than_seven_days_from_now() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let (old, new) = (pair("old"), pair("new"));
    let mut told = object(json!({
        "server_name": server,
        "verify_keys": { "ed25519:new": { "key": encoded(&new) } },
        "old_verify_keys": { "ed25519:old": { "key": encoded(&old), "expired_ts": NOW_MS + 36_500 * DAY_MS } },
        "valid_until_ts": NOW_MS + DAY_MS,
    }));
    sign_json(server.as_str(), &new, &mut told).unwrap();
    says.set(told);
    let ring = world.ring(&[]);
    assert!(ring.key(&want(&server, "old", Purpose::Event(NOW_MS + 8 * DAY_MS))).await.is_err());
    world.clock.advance(3_000);
    assert!(ring.key(&want(&server, "old", Purpose::Event(NOW_MS + 6 * DAY_MS))).await.is_ok());
}

#[tokio::test]
async fn naming_keys_that_do_not_exist_does_not_make_us_ask_without_end() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    says.set(answer(server.as_str(), &pair("1"), NOW_MS + DAY_MS));
    let ring = world.ring(&[]);
    for round in 0..1000_u32 {
        assert!(ring.key(&want(&server, &format!("no{round}"), Purpose::Request)).await.is_err());
        world.clock.advance(1000);
    }
    assert!(says.asked() < 12, "{} times in a quarter of an hour", says.asked());
    ring.key(&want(&server, "1", Purpose::Request)).await.unwrap();
}

#[tokio::test]
async fn a_forged_answer_changes_nothing() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let (good, evil) = (pair("1"), pair("1"));
    let mut forged = answer(server.as_str(), &good, NOW_MS + DAY_MS);
    forged.remove("signatures");
    sign_json(server.as_str(), &evil, &mut forged).unwrap();
    says.set(forged);
    let ring = world.ring(&[]);
    let request = want(&server, "1", Purpose::Request);
    assert!(matches!(ring.key(&request).await, Err(KeyFault::Bad { .. })));
    assert!(matches!(ring.key(&request).await, Err(KeyFault::Unknown { .. })), "it is not asked again at once");
    world.clock.advance(60_000);
    says.set(answer("b.example", &good, NOW_MS + DAY_MS));
    assert!(matches!(ring.key(&request).await, Err(KeyFault::Bad { .. })));
    world.clock.advance(60_000);
    says.set(answer(server.as_str(), &good, NOW_MS + DAY_MS));
    assert_eq!(ring.key(&request).await.unwrap(), good.public_key());
}

#[tokio::test]
async fn a_key_that_a_server_gave_up_signs_no_requests_but_is_good_for_its_time() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let (old, new) = (pair("old"), pair("new"));
    let mut told = object(json!({
        "server_name": server,
        "verify_keys": { "ed25519:new": { "key": encoded(&new) } },
        "old_verify_keys": { "ed25519:old": { "key": encoded(&old), "expired_ts": NOW_MS - DAY_MS } },
        "valid_until_ts": NOW_MS + DAY_MS,
    }));
    sign_json(server.as_str(), &new, &mut told).unwrap();
    says.set(told);
    let (ring, rules) = (world.ring(&[]), v11());
    assert!(ring.key(&want(&server, "old", Purpose::Request)).await.is_err());
    let in_time = event(&server, &old, NOW_MS - DAY_MS, &rules);
    assert_eq!(ring.verify_event(&in_time, &rules).await.unwrap(), Verified::All);
    let too_late = event(&server, &old, NOW_MS - DAY_MS + 1, &rules);
    assert!(matches!(ring.verify_event(&too_late, &rules).await, Err(SignatureFault::Key(KeyFault::Unknown { .. }))));
    // Before room version 5 the time of a key does not matter.
    let rules = RoomVersionId::V4.rules().unwrap();
    let too_late = event(&server, &old, NOW_MS, &rules);
    assert_eq!(ring.verify_event(&too_late, &rules).await.unwrap(), Verified::All);
}

#[tokio::test]
async fn an_event_is_good_redacted_or_wrong() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let pair = pair("1");
    says.set(answer(server.as_str(), &pair, NOW_MS + DAY_MS));
    let (ring, rules) = (world.ring(&[]), v11());
    let good = event(&server, &pair, NOW_MS, &rules);
    assert_eq!(ring.verify_event(&good, &rules).await.unwrap(), Verified::All);
    let mut other_text = good.clone();
    other_text.insert("content".into(), CanonicalJsonValue::Object(object(json!({ "body": "other" }))));
    assert_eq!(ring.verify_event(&other_text, &rules).await.unwrap(), Verified::Signatures, "only the content hash is wrong");
    let mut other_sender = good.clone();
    other_sender.insert("sender".into(), CanonicalJsonValue::String(format!("@eve:{server}")));
    assert!(matches!(ring.verify_event(&other_sender, &rules).await, Err(SignatureFault::Wrong(_))));
    let mut unsigned = good.clone();
    unsigned.insert("signatures".into(), CanonicalJsonValue::Object(BTreeMap::new()));
    assert!(matches!(ring.verify_event(&unsigned, &rules).await, Err(SignatureFault::Wrong(_))));
    // A server cannot speak for another one.
    let mut stolen = good;
    stolen.insert("sender".into(), CanonicalJsonValue::String("@bob:home.test".to_owned()));
    assert!(matches!(ring.verify_event(&stolen, &rules).await, Err(SignatureFault::Wrong(_))));
}

#[tokio::test]
async fn an_event_of_a_server_that_is_away_is_not_called_wrong() {
    let world = World::new().await;
    let (server, _) = world.server("a.example").await;
    let (ring, rules) = (world.ring(&[]), v11());
    let outcome = ring.verify_event(&event(&server, &pair("1"), NOW_MS, &rules), &rules).await;
    assert!(matches!(outcome, Err(SignatureFault::Key(KeyFault::Unreachable { .. }))), "{outcome:?}");
}

/// What a notary answers: these answers with its signature.
fn vouched(notary: &ServerName, key: &Ed25519KeyPair, answers: Vec<CanonicalJsonObject>) -> CanonicalJsonObject {
    let signed = answers.into_iter().map(|mut answer| {
        sign_json(notary.as_str(), key, &mut answer).unwrap();
        CanonicalJsonValue::Object(answer)
    });
    BTreeMap::from([("server_keys".to_owned(), CanonicalJsonValue::Array(signed.collect()))])
}

/// A notary that shows its own keys, and whatever it is told to say of others.
async fn notary(world: &World, key: &Ed25519KeyPair) -> (OwnedServerName, Says) {
    let says = Says::default();
    let own = Says::default();
    let (told, itself) = (says.clone(), own.clone());
    let address = world.web.serve(&["n.example"], move |request| {
        let says = if request.uri().path() == "/_matrix/key/v2/query" { &told } else { &itself };
        says.asked.fetch_add(1, Ordering::SeqCst);
        let body = says.answer.lock().unwrap().as_ref().map(|answer| serde_json::to_string(answer).unwrap());
        std::future::ready(body.map_or_else(|| reply(500, &[], ""), |body| reply(200, &[], body)))
    });
    let name = ServerName::parse(format!("n.example:{}", address.await.port())).unwrap();
    world.dns.addresses.lock().unwrap().insert("n.example".to_owned(), vec!["127.0.0.1".parse().unwrap()]);
    own.set(answer(name.as_str(), key, NOW_MS + DAY_MS));
    (name, says)
}

#[tokio::test]
async fn a_notary_knows_the_keys_of_a_server_that_is_gone() {
    let world = World::new().await;
    let (notary_key, gone_key) = (pair("n"), pair("1"));
    let (notary, says) = notary(&world, &notary_key).await;
    let gone = ServerName::parse("gone.example:1").unwrap();
    says.set(vouched(&notary, &notary_key, vec![answer(gone.as_str(), &gone_key, NOW_MS + DAY_MS)]));
    let (ring, rules) = (world.ring(&[&notary]), v11());
    assert_eq!(ring.verify_event(&event(&gone, &gone_key, NOW_MS, &rules), &rules).await.unwrap(), Verified::All);
}

#[tokio::test]
async fn a_notary_alone_proves_nothing() {
    let world = World::new().await;
    let (notary_key, key) = (pair("n"), pair("1"));
    let (notary, says) = notary(&world, &notary_key).await;
    let gone = ServerName::parse("gone.example:1").unwrap();
    let real = answer(gone.as_str(), &key, NOW_MS + DAY_MS);
    let mut forged = real.clone();
    forged.remove("signatures");
    let other_notary = vouched(&notary, &pair("n"), vec![real.clone()]);
    let not_its_own = vouched(&notary, &notary_key, vec![forged]);
    let unsigned = BTreeMap::from([("server_keys".to_owned(), CanonicalJsonValue::Array(vec![CanonicalJsonValue::Object(real)]))]);
    let unasked = vouched(&notary, &notary_key, vec![answer("other.example", &key, NOW_MS + DAY_MS)]);
    let rules = v11();
    for told in [other_notary, not_its_own, unsigned, unasked, object(json!({})), object(json!({ "server_keys": 7 }))] {
        says.set(told.clone());
        let ring = world.ring(&[&notary]);
        assert!(ring.verify_event(&event(&gone, &key, NOW_MS, &rules), &rules).await.is_err(), "{told:?}");
    }
    assert_eq!(says.asked(), 6);
}

#[tokio::test]
async fn many_servers_are_asked_for_in_one_question() {
    let world = World::new().await;
    let (notary_key, key) = (pair("n"), pair("1"));
    let (notary, says) = notary(&world, &notary_key).await;
    let rules = v11();
    let servers: Vec<_> = (0..50).map(|n| ServerName::parse(format!("s{n}.example:1")).unwrap()).collect();
    says.set(vouched(&notary, &notary_key, servers.iter().map(|server| answer(server.as_str(), &key, NOW_MS + DAY_MS)).collect()));
    let events: Vec<_> = servers.iter().map(|server| event(server, &key, NOW_MS, &rules)).collect();
    let keys = world.ring(&[&notary]).collect(&events, &rules).await;
    assert!(events.iter().all(|event| keys.verify(event, &rules).is_ok()));
    assert_eq!(says.asked(), 1);
}

#[tokio::test]
async fn we_vouch_for_what_servers_told_us() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let key = pair("1");
    says.set(answer(server.as_str(), &key, NOW_MS + DAY_MS));
    let ring = world.ring(&[]);
    let query = |minimum_valid_until_ms| vec![Query { server: server.clone(), minimum_valid_until_ms }];
    let told = ring.vouch(query(NOW_MS)).await.unwrap();
    let signatures = told.first().unwrap()["signatures"].as_object().unwrap();
    assert!(signatures.contains_key("home.test") && signatures.contains_key(server.as_str()));
    ring.vouch(query(NOW_MS)).await.unwrap();
    assert_eq!(says.asked(), 1, "while it is young it is not asked for again");
    world.clock.advance(DAY_MS / 2 + 1);
    ring.vouch(query(NOW_MS)).await.unwrap();
    assert_eq!(says.asked(), 2, "half of its life is over");
    // What is to be had is better than nothing.
    says.answer.lock().unwrap().take();
    world.clock.advance(2 * DAY_MS);
    assert_eq!(ring.vouch(query(NOW_MS + 9 * DAY_MS)).await.unwrap().len(), 1);
    let ourselves = Query { server: ServerName::parse("home.test").unwrap(), minimum_valid_until_ms: 0 };
    assert_eq!(ring.vouch(vec![ourselves]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_key_signs_and_the_old_one_stays_good_for_its_time() {
    let world = World::new().await;
    let (ring, rules) = (world.ring(&[]), v11());
    let home = ServerName::parse("home.test").unwrap();
    let old = ring.0.parts.own.pair();
    let before = event(&home, &old, NOW_MS, &rules);
    world.clock.advance(1000);
    let id = ring.rotate().await.unwrap();
    assert_ne!(id, format!("ed25519:{}", old.version()));
    assert_eq!(ring.verify_event(&before, &rules).await.unwrap(), Verified::All);
    let after = event(&home, &old, NOW_MS + 1001, &rules);
    assert!(ring.verify_event(&after, &rules).await.is_err(), "the old key signs nothing new");
    let told = answer::check(&home, ring.published().unwrap()).unwrap();
    assert!(told.keys.get(&id).unwrap().current);
    let past = told.keys.get(&format!("ed25519:{}", old.version())).unwrap();
    assert_eq!((past.current, past.valid_until_ms), (false, NOW_MS + 1000));
    // A restart finds both.
    let stored = world.store.read(server_keys::past).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(world.ring(&[]).0.parts.own.id(), id);
}

/// An old answer is as well signed as a new one, and a notary may have several.
#[tokio::test]
async fn what_a_notary_remembers_does_not_take_the_place_of_what_the_server_says() {
    let world = World::new().await;
    let (server, says) = world.server("a.example").await;
    let (old, new, notary_key) = (pair("old"), pair("new"), pair("n"));
    let (notary, notary_says) = notary(&world, &notary_key).await;
    says.set(answer(server.as_str(), &new, NOW_MS + DAY_MS));
    let ring = world.ring(&[&notary]);
    ring.key(&want(&server, "new", Purpose::Request)).await.unwrap();
    notary_says.set(vouched(&notary, &notary_key, vec![answer(server.as_str(), &old, NOW_MS - DAY_MS)]));
    world.clock.advance(60_000);
    ring.key(&want(&server, "old", Purpose::Event(NOW_MS - 2 * DAY_MS))).await.unwrap();
    let asked = says.asked();
    ring.key(&want(&server, "new", Purpose::Request)).await.unwrap();
    assert_eq!(says.asked(), asked, "the present key is still known");
    assert!(ring.key(&want(&server, "old", Purpose::Request)).await.is_err());
    let again = world.ring(&[]);
    again.key(&want(&server, "new", Purpose::Request)).await.unwrap();
    assert_eq!(says.asked(), asked, "also after a restart");
    again.key(&want(&server, "old", Purpose::Event(NOW_MS - 2 * DAY_MS))).await.unwrap();
}

/// Whoever names servers that do not answer takes two of the places, not all of them.
#[tokio::test]
async fn one_address_leaves_places_to_others() {
    let world = World::new().await;
    let ring = world.ring(&[]);
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let first = ring.may_check(one).unwrap();
    let second = ring.may_check(one).unwrap();
    assert!(ring.may_check(one).is_none());
    assert!(ring.may_check(other).is_some());
    drop(first);
    let third = ring.may_check(one);
    assert!(third.is_some() && ring.may_check(one).is_none());
    drop((second, third));
    assert!(ring.0.from.lock().unwrap().is_empty());
}
