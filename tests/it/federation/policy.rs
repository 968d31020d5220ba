//! Whom the owner wants to have nothing to do with, who has to be let in first, and rooms that ask a server about every event.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use homeroom::{
    base::{Clock as _, ManualClock, SystemClock},
    homeserver::{
        federation::request::{Limits, RequestError},
        store::{events, held_invites, outbox},
    },
};
use ruma::{
    CanonicalJsonValue, EventId, RoomId, RoomVersionId, UserId,
    api::federation::{keys::claim_keys::v1 as claim_keys, query::get_profile_information::v1 as get_profile},
    canonical_json::redact,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::support::{
    Home, Person,
    across::{ask, becomes, bodies, hears, invite_in, join, membership, path, post, refused, sync},
    eventually,
    federation::{Authority, FedNode, free_port},
    http::{Answer, encoded},
    https::Https,
    node::ServedNode,
};

/// Every node of these tests is on `localhost`; ports do not count.
fn blocking(config: &mut homeroom::homeserver::Config) {
    config.federation.block_servers = vec!["local*".to_owned()];
}

/// Nothing waits for other servers any more.
#[track_caller]
fn nothing_waits(node: &FedNode) {
    eventually("the queues to be empty", || {
        let due = node.wait(node.node().store.read(|db| outbox::due(db, i64::MAX, 10))).unwrap();
        due.is_empty().then_some(())
    });
}

#[test]
fn a_server_that_the_owner_blocks_is_neither_heard_nor_told_anything() {
    let authority = Authority::new();
    let (a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, a.name().as_str());
    bob.say(&room, "before");
    hears(&mut ann, &room, &["before"]);

    b.stop();
    b.change(blocking);
    b.start_again();
    let mut bob = Person::login(b.address(), "bob", "the password of bob");
    // What it asks is refused, whatever it is.
    let question = get_profile::Request::new(bob.user_id.as_str().try_into().unwrap());
    let answer = a.wait(a.node().federation.client.request(b.name(), question));
    assert!(matches!(&answer, Err(RequestError::Remote { status: 403, errcode, .. }) if errcode == "M_FORBIDDEN"), "{answer:?}");
    let other = ann.create_room(&json!({ "preset": "private_chat" }));
    refused(&ann.http.post(&path(&other, "invite"), &json!({ "user_id": bob.user_id })), 403, "M_FORBIDDEN");
    // Nobody joins through it, and nobody is asked.
    let public = ann.create_room(&json!({ "preset": "public_chat" }));
    let answer = ask(&mut bob, "join", &public, a.name().as_str());
    refused(&answer, 403, "M_FORBIDDEN");
    assert!(answer.text().contains("the owner of this node"), "{}", answer.text());
    // What is said in a room that both are in stays here, and what is said there is not taken.
    bob.say(&room, "unheard");
    ann.say(&room, "refused");
    nothing_waits(&b);
    assert!(!bodies(&mut ann, &room).contains(&"unheard".to_owned()));
    assert!(!bodies(&mut bob, &room).contains(&"refused".to_owned()));

    b.stop();
    b.change(|_| {});
    b.start_again();
    let mut bob = Person::login(b.address(), "bob", "the password of bob");
    bob.say(&room, "after");
    hears(&mut ann, &room, &["before", "after"]);
    hears(&mut bob, &room, &["refused"]);
    assert!(sync(&mut bob)["rooms"]["join"][&room].is_object());
}

fn holding(config: &mut homeroom::homeserver::Config) {
    config.hold_strangers = true;
}

fn held(node: &FedNode) -> Vec<held_invites::Held> {
    node.wait(node.node().store.read(|db| held_invites::all(db, 100))).unwrap()
}

/// What a client is shown that goes on from where it was.
fn sync_since(who: &mut Person, since: &str) -> Value {
    who.http.get(&format!("/_matrix/client/v3/sync?timeout=0&since={since}")).ok()
}

#[test]
fn an_invite_of_a_stranger_is_shown_only_when_the_owner_lets_it_through() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start_with(&authority, Arc::new(SystemClock), holding));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let since = sync(&mut bob)["next_batch"].as_str().unwrap().to_owned();
    let room = ann.create_room(&json!({ "preset": "private_chat", "invite": [bob.user_id] }));
    // Silently: to the inviter it is an invite like any other.
    assert_eq!(membership(&mut ann, &room, &bob.user_id), "invite");
    let waiting = held(&b);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!((&waiting[0].room_id, &waiting[0].user_id, &waiting[0].inviter), (&room, &bob.user_id, &ann.user_id));
    assert!(invite_in(&sync(&mut bob), &room).is_none());
    let shown = sync_since(&mut bob, &since);
    assert!(invite_in(&shown, &room).is_none(), "{shown}");
    let told = bob.http.get("/_matrix/client/v3/notifications").ok();
    assert_eq!(told["notifications"].as_array().map(Vec::len), Some(0), "{told}");

    let since = shown["next_batch"].as_str().unwrap().to_owned();
    let (room_id, user_id) = (RoomId::parse(&room).unwrap(), UserId::parse(&bob.user_id).unwrap());
    let release = move || {
        let (room_id, user_id) = (room_id.clone(), user_id.clone());
        b.wait(b.node().store.write(move |tx| held_invites::release(tx, &room_id, &user_id))).unwrap()
    };
    assert!(release());
    assert!(!release(), "it is held no longer");
    assert!(invite_in(&sync_since(&mut bob, &since), &room).is_some());
    assert!(invite_in(&sync(&mut bob), &room).is_some());
    bob.join(&room);
    becomes(&mut ann, &room, &bob.user_id, "join");
    // They know each other now.
    let second = ann.create_room(&json!({ "preset": "private_chat", "invite": [bob.user_id] }));
    assert!(invite_in(&sync(&mut bob), &second).is_some());
}

#[test]
fn a_held_invite_that_is_taken_back_is_held_no_longer() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start_with(&authority, Arc::new(SystemClock), holding));
    let (mut ann, bob, mut cat) = (a.person("ann"), b.person("bob"), b.person("cat"));
    // Also where somebody of ours is in the room already, and the invite comes as any other event.
    let public = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut cat, &public, a.name().as_str());
    for room in [ann.create_room(&json!({ "preset": "private_chat" })), public] {
        ann.invite(&room, &bob.user_id);
        eventually("the invite to be held", || (held(&b).len() == 1).then_some(()));
        post(&mut ann, &room, "kick", &json!({ "user_id": bob.user_id })).ok();
        eventually("nothing to be held", || held(&b).is_empty().then_some(()));
    }
}

static LIST: OnceLock<String> = OnceLock::new();

fn with_list(config: &mut homeroom::homeserver::Config) {
    config.policy_lists = LIST.get().into_iter().map(|room| RoomId::parse(room).unwrap()).collect();
}

#[test]
fn who_is_on_a_policy_list_invites_nobody() {
    let authority = Authority::new();
    let (a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut spammer, mut ann, mut bob) = (a.person("spam1"), a.person("ann"), b.person("bob"));
    let list = bob.create_room(&json!({ "preset": "private_chat" }));
    LIST.set(list.clone()).unwrap();
    b.stop();
    b.change(with_list);
    b.start_again();
    let mut bob = Person::login(b.address(), "bob", "the password of bob");
    let rule = |bob: &mut Person, kind: &str, content: &Value| {
        bob.http.put(&path(&list, &format!("state/{kind}/rule")), content).ok();
    };
    let invite = |who: &mut Person, room: &str, bob: &Person| post(who, room, "invite", &json!({ "user_id": bob.user_id }));
    let ban = |entity: &str| json!({ "entity": entity, "recommendation": "m.ban", "reason": "spam" });
    let (theirs, anns) = (spammer.create_room(&json!({ "preset": "private_chat" })), ann.create_room(&json!({ "preset": "private_chat" })));
    for kind in ["m.policy.rule.user", "org.matrix.mjolnir.rule.user"] {
        rule(&mut bob, kind, &ban("@spam?:*"));
        refused(&invite(&mut spammer, &theirs, &bob), 403, "M_INVITE_BLOCKED");
        // Others may, and so may whoever is on the list no longer.
        let answer = invite(&mut ann, &anns, &bob);
        assert_eq!(answer.status, 200, "{}", answer.text());
        post(&mut ann, &anns, "kick", &json!({ "user_id": bob.user_id })).ok();
        rule(&mut bob, kind, &json!({}));
        assert_eq!(invite(&mut spammer, &theirs, &bob).status, 200);
        post(&mut spammer, &theirs, "kick", &json!({ "user_id": bob.user_id })).ok();
    }
    rule(&mut bob, "m.policy.rule.server", &json!({ "entity": "LOCAL*", "recommendation": "org.matrix.msc4204.takedown" }));
    refused(&invite(&mut ann, &anns, &bob), 403, "M_INVITE_BLOCKED");
    rule(&mut bob, "m.policy.rule.server", &json!({ "entity": "local*", "recommendation": "org.example.wave" }));
    assert_eq!(invite(&mut ann, &anns, &bob).status, 200, "what is recommended is something else");
    post(&mut ann, &anns, "kick", &json!({ "user_id": bob.user_id })).ok();
    rule(&mut bob, "m.policy.rule.room", &ban(&anns));
    refused(&invite(&mut ann, &anns, &bob), 403, "M_INVITE_BLOCKED");
}

#[test]
fn a_server_that_asks_too_much_about_our_people_is_told_to_wait_and_others_are_not() {
    let authority = Authority::new();
    // Time stands still there: what is allowed at once is all that is allowed.
    let now = Arc::new(ManualClock::at(SystemClock.now_ms()));
    let (a, b) = (FedNode::start(&authority), FedNode::start_with(&authority, now, |config| config.rate_limits = true));
    let c = FedNode::start_as("127.0.0.1", &authority, Arc::new(SystemClock), |_| {});
    let bob = b.person("bob");
    let ask = |node: &FedNode| {
        let question = get_profile::Request::new(bob.user_id.as_str().try_into().unwrap());
        node.wait(node.node().federation.client.request_within(b.name(), question, Limits::ORDINARY.insisting()))
    };
    let answered = (0..1000).take_while(|_| ask(&a).is_ok()).count();
    assert_eq!(answered, 300);
    assert_eq!(ask(&a).unwrap_err().errcode(), Some("M_LIMIT_EXCEEDED"));
    assert!(ask(&c).is_ok(), "another server");
    let claim = |_| {
        let claim = claim_keys::Request::new(Default::default());
        a.wait(a.node().federation.client.request_within(b.name(), claim, Limits::ORDINARY.insisting()))
    };
    assert_eq!((0..1000).map(claim).take_while(Result::is_ok).count(), 60);
}

/// What a policy server does that stands in for the node of a member.
#[derive(Default)]
struct Desk {
    /// What it answers instead of signing.
    refusal: Option<(u16, Value)>,
    /// It never answers.
    silent: bool,
    /// It signs with a key that the room does not know.
    wrong_key: bool,
    /// Types of the events that it was asked about.
    asked: Vec<String>,
}

/// A room of Ann's with a policy server.
struct Policed {
    node: FedNode,
    ann: Person,
    room: String,
    desk: Arc<Mutex<Desk>>,
    via: FedNode,
    _server: Https,
    _authority: Authority,
}

impl Policed {
    fn new() -> Self {
        let authority = Authority::new();
        let (node, mut via) = (FedNode::start(&authority), FedNode::start(&authority));
        let (mut ann, mut moderator) = (node.person("ann"), via.person("moderator"));
        let room = ann.create_room(&json!({ "preset": "public_chat", "room_version": "12" }));
        join(&mut moderator, &room, node.name().as_str());
        becomes(&mut ann, &room, &moderator.user_id, "join");
        via.stop();
        let pair = |version: &str| Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap();
        let (key, other, desk) = (pair("policy_server"), pair("policy_server"), Arc::<Mutex<Desk>>::default());
        let public = Base64::<Standard>::new(key.public_key().to_vec()).to_string();
        let (name, known) = (via.name().to_string(), Arc::clone(&desk));
        let server = Https::start(via.tls(), via.certificate(), move |asked| {
            if asked.path != "/_matrix/policy/v1/sign" {
                return Some((404, json!({ "errcode": "M_UNRECOGNIZED", "error": "not here" })));
            }
            let mut desk = known.lock().unwrap();
            desk.asked.push(asked.body["type"].as_str().unwrap().to_owned());
            if desk.silent {
                return None;
            }
            if let Some(refusal) = desk.refusal.clone() {
                return Some(refusal);
            }
            let Ok(CanonicalJsonValue::Object(event)) = CanonicalJsonValue::try_from(asked.body) else { panic!("no event") };
            let mut event = redact(event, &RoomVersionId::V12.rules().unwrap().redaction, None).unwrap();
            sign_json(&name, if desk.wrong_key { &other } else { &key }, &mut event).unwrap();
            let event = serde_json::to_value(event).unwrap();
            Some((200, json!({ &name: { "ed25519:policy_server": event["signatures"][&name]["ed25519:policy_server"] } })))
        });
        // Nobody has to be asked about this one.
        let policy = json!({ "via": via.name(), "public_keys": { "ed25519": public } });
        ann.http.put(&path(&room, "state/m.room.policy"), &policy).ok();
        assert!(desk.lock().unwrap().asked.is_empty());
        Self { node, ann, room, desk, via, _server: server, _authority: authority }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    fn say(&mut self, text: &str) -> Answer {
        let path = path(&self.room, &format!("send/m.room.message/{}", Person::transaction()));
        self.ann.http.put(&path, &json!({ "msgtype": "m.text", "body": text }))
    }

    /// Has this event the policy server's signature beside ours?
    fn is_signed(&self, event_id: &str) -> bool {
        let id = EventId::parse(event_id).unwrap();
        let stored = self.node.wait(self.node.node().store.read(move |db| events::by_id(db, &id))).unwrap().unwrap();
        let json: Value = serde_json::from_str(&stored.json).unwrap();
        let ours = json["signatures"][self.node.name().as_str()].is_object();
        ours && json["signatures"][self.via.name().as_str()]["ed25519:policy_server"].is_string()
    }
}

#[test]
fn what_is_sent_to_a_room_with_a_policy_server_is_signed_by_it_first() {
    let mut here = Policed::new();
    let sent = here.say("hello").ok()["event_id"].as_str().unwrap().to_owned();
    assert!(here.is_signed(&sent));
    assert_eq!(here.desk().asked, ["m.room.message"]);
    // State, memberships and redactions as well.
    let topic = here.ann.http.put(&path(&here.room, "state/m.room.topic"), &json!({ "topic": "x" })).ok();
    assert!(here.is_signed(topic["event_id"].as_str().unwrap()));
    let redaction = path(&here.room, &format!("redact/{}/{}", encoded(&sent), Person::transaction()));
    let redacted = here.ann.http.put(&redaction, &json!({})).ok();
    assert!(here.is_signed(redacted["event_id"].as_str().unwrap()));
    let mut cat = here.node.person("cat");
    cat.join(&here.room);
    let name = format!("/_matrix/client/v3/profile/{}/displayname", encoded(&here.ann.user_id));
    here.ann.http.put(&name, &json!({ "displayname": "Ann of the hill" })).ok();
    eventually("the new name to be signed", || (here.desk().asked.len() == 5).then_some(()));
    assert_eq!(here.desk().asked, ["m.room.message", "m.room.topic", "m.room.redaction", "m.room.member", "m.room.member"]);
    // The same transaction again is the same event, and nobody is asked again.
    let again = path(&here.room, "send/m.room.message/once");
    let first = here.ann.http.put(&again, &json!({ "msgtype": "m.text", "body": "once" })).ok();
    assert_eq!(here.ann.http.put(&again, &json!({ "msgtype": "m.text", "body": "once" })).ok(), first);
    assert_eq!(here.desk().asked.len(), 6);
    // A leave as well: others would take an unsigned one for nothing, and the user for still there.
    post(&mut cat, &here.room, "leave", &json!({})).ok();
    assert_eq!(here.desk().asked.len(), 7);
    let left = here.ann.http.get(&path(&here.room, &format!("state/m.room.member/{}?format=event", encoded(&cat.user_id)))).ok();
    assert_eq!(left["content"]["membership"], "leave");
    assert!(here.is_signed(left["event_id"].as_str().unwrap()));
    // Whatever it says: nobody is kept.
    cat.join(&here.room);
    here.desk().refusal = Some((403, json!({ "errcode": "M_FORBIDDEN", "error": "stay" })));
    post(&mut cat, &here.room, "leave", &json!({})).ok();
    let left = here.ann.http.get(&path(&here.room, &format!("state/m.room.member/{}?format=event", encoded(&cat.user_id)))).ok();
    assert_eq!(left["content"]["membership"], "leave");
    assert!(!here.is_signed(left["event_id"].as_str().unwrap()));
}

#[test]
fn what_a_policy_server_does_not_sign_is_not_sent_and_its_sender_is_told_why() {
    let mut here = Policed::new();
    here.desk().refusal = Some((403, json!({ "errcode": "M_FORBIDDEN", "error": "no spam here" })));
    let answer = here.say("spam");
    refused(&answer, 403, "M_FORBIDDEN");
    assert!(answer.text().contains("no spam here"), "{}", answer.text());
    here.desk().refusal = Some((429, json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slowly" })));
    refused(&here.say("too much"), 429, "M_LIMIT_EXCEEDED");
    // What would tell a client something about its own session is not passed on.
    here.desk().refusal = Some((401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "who are you" })));
    refused(&here.say("unknown"), 502, "M_UNKNOWN");
    here.desk().refusal = Some((403, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "who are you" })));
    refused(&here.say("unknown"), 403, "M_FORBIDDEN");
    here.desk().refusal = Some((200, json!({})));
    refused(&here.say("unsigned"), 502, "M_UNKNOWN");
    here.desk().refusal = None;
    here.desk().wrong_key = true;
    refused(&here.say("wrongly signed"), 502, "M_UNKNOWN");
    here.desk().wrong_key = false;
    here.desk().silent = true;
    refused(&here.say("unanswered"), 502, "M_UNKNOWN");
    here.desk().silent = false;
    assert!(bodies(&mut here.ann, &here.room).is_empty());
    // And once it is taken away, nobody is asked.
    here.ann.http.put(&path(&here.room, "state/m.room.policy"), &json!({})).ok();
    let asked = here.desk().asked.len();
    here.say("free").ok();
    assert_eq!(here.desk().asked.len(), asked);
    assert_eq!(bodies(&mut here.ann, &here.room), ["free"]);
}

#[test]
fn the_owner_lets_held_invites_through_or_turns_them_down() {
    let authority = Authority::new();
    let (a, home, port) = (FedNode::start(&authority), Home::new(), free_port());
    let certificate = authority.issue("own", &["localhost"]);
    home.configure(&format!(
        "[node]\nserver_name = \"localhost:{port}\"\nlisten_tls = [\"127.0.0.1:{port}\"]\ntls_cert = {:?}\ntls_key = {:?}\nextra_ca = {:?}\n\
         allow_private_networks = true\nnotaries = []\nregistration = \"open\"\nhold_strangers = true\n",
        certificate.chain,
        certificate.key,
        authority.file()
    ));
    let node = ServedNode::spawn(home.command(&["serve", "--listen", "127.0.0.1:0"])).unwrap();
    let (mut ann, mut bob) = (a.person("ann"), node.person("bob"));
    let [good, bad] = [(); 2].map(|()| ann.create_room(&json!({ "preset": "private_chat", "invite": [bob.user_id] })));
    let listed = || {
        let done = home.run(&["account", "invites", "--json"]);
        assert_eq!(done.code(), 0, "{}", done.err());
        done.json()["invites"].as_array().unwrap().clone()
    };
    assert_eq!(listed().len(), 2);
    let shown = home.run(&["account", "invites"]).out();
    assert!(shown.contains(&ann.user_id) && shown.contains(&good) && shown.contains("share no room"), "{shown}");
    let done = home.run(&["account", "invites", "--release", &bob.user_id, &good]);
    assert_eq!((done.code(), done.out().trim()), (0, good.as_str()), "{}", done.err());
    assert!(invite_in(&sync(&mut bob), &good).is_some());
    assert!(invite_in(&sync(&mut bob), &bad).is_none());
    let done = home.run(&["account", "invites", "--reject", &bob.user_id, &bad]);
    assert_eq!(done.code(), 0, "{}", done.err());
    becomes(&mut ann, &bad, &bob.user_id, "leave");
    assert!(listed().is_empty());
    for what in ["--release", "--reject"] {
        assert_eq!(home.run(&["account", "invites", what, &bob.user_id, &bad]).code(), 7);
    }
    assert_eq!(home.run(&["account", "invites", "--release", "bob", &bad]).code(), 2);
}
