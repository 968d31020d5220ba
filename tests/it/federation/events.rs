//! Events between nodes: transactions, reading, history.

use futures_util::stream;
use homeroom::homeserver::{
    Node,
    events::{self, EventError},
    federation::{
        ingest::{
            Head, ImportError,
            scan::{List, Piece},
        },
        request::RequestError,
    },
    rooms::{
        auth,
        build::{self, Template},
    },
    store::{StoreError, events as stored, graph, servers, state},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomId, UserId,
    api::federation::{
        backfill::get_backfill::v1 as get_backfill, event::get_event::v1 as get_event,
        transactions::send_transaction_message::v1 as send_transaction_message,
    },
};
use serde_json::{json, value::RawValue};

use crate::support::{
    Person, eventually,
    federation::{Authority, FedNode},
    http::encoded,
};

/// A public room on `a` in which `bob` of `b` is, without the endpoints for joining: the nodes' own parts do what those do.
fn shared_room(a: &FedNode, ann: &mut Person, b: &FedNode, bob: &UserId) -> OwnedRoomId {
    let room = ann.create_room(&json!({ "preset": "public_chat", "topic": "first" }));
    let room_id = RoomId::parse(&room).unwrap();
    ann.say(&room, "before anybody came");
    join(a, b, bob, &room_id);
    room_id
}

fn join(a: &FedNode, b: &FedNode, bob: &UserId, room_id: &RoomId) {
    let (id, user, node) = (room_id.to_owned(), bob.to_owned(), std::sync::Arc::clone(b.node()));
    let (version, pieces, join) = a
        .wait(a.node().store.read(move |db| {
            let room = events::room(db, &id)?;
            let content: CanonicalJsonObject = serde_json::from_value(json!({ "membership": "join" })).unwrap();
            let selected = auth::selection("m.room.member", &user, Some(user.as_str()), &content, &room.rules.authorization).unwrap();
            let mut auth_events = Vec::new();
            for (kind, key) in selected {
                if let Some(nid) = state::current(db, room.nid, &kind.to_string(), &key)? {
                    auth_events.push(stored::id_of(db, nid)?);
                }
            }
            let extremities = stored::extremities(db, room.nid)?;
            let template = Template {
                room_id: Some(&room.room_id),
                sender: &user,
                kind: "m.room.member",
                state_key: Some(user.as_str()),
                content,
                redacts: None,
                origin_server_ts: node.clock.now_ms(),
                prev_depth: extremities.iter().map(|e| e.depth).max().unwrap(),
                prev_events: extremities.into_iter().map(|e| e.event_id).collect(),
                auth_events,
            };
            let sign = |json: &mut CanonicalJsonObject| node.key.sign_event(node.config.server_name.as_str(), json, &room.rules.redaction);
            let (_, join) = build::build(template, &room.rules, sign)?;
            let nids: Vec<_> = state::current_all(db, room.nid)?.into_iter().map(|(_, event)| event).collect();
            let text = |nid| Ok::<_, StoreError>(stored::by_nid(db, nid)?.json.into_boxed_str());
            let chain = graph::auth_chain(db, nids.iter().copied(), 1000)?.into_iter().map(text).collect::<Result<_, _>>()?;
            let state = nids.into_iter().map(text).collect::<Result<_, _>>()?;
            let pieces = [Piece { list: List::State, events: state }, Piece { list: List::AuthChain, events: chain }];
            Ok::<_, EventError>((room.version, pieces, join))
        }))
        .unwrap();
    send(b, a, vec![join.clone()]);
    // The answer says that it was taken down; its place it gets a moment later.
    eventually("the join to have its place", || {
        let (id, name) = (room_id.to_owned(), b.name().to_owned());
        let inside = a.node().store.read(move |db| {
            let room = events::room(db, &id)?;
            Ok::<_, EventError>(servers::is_in_room(db, room.nid, &name)?)
        });
        a.wait(inside).unwrap().then_some(())
    });
    let head = Head { room_id: room_id.to_owned(), version, origin: a.name().to_owned() };
    let inbound = &b.node().federation.inbound;
    let gathered = b.wait(inbound.gather(head, stream::iter(pieces.map(Ok::<_, ImportError>)))).unwrap();
    b.wait(inbound.take(gathered, &join)).unwrap();
}

fn send(from: &FedNode, to: &FedNode, events: Vec<String>) -> send_transaction_message::Response {
    let now = MilliSecondsSinceUnixEpoch::now();
    let mut request = send_transaction_message::Request::new(Person::transaction().into(), from.name().to_owned(), now);
    request.pdus = events.into_iter().map(|json| RawValue::from_string(json).unwrap()).collect();
    from.wait(from.node().federation.client.request(to.name(), request)).unwrap()
}

fn json_of(node: &Node, wait: &FedNode, event_id: &OwnedEventId) -> String {
    let id = event_id.clone();
    wait.wait(node.store.read(move |db| stored::by_id(db, &id))).unwrap().unwrap().json
}

fn bodies(answer: &serde_json::Value) -> Vec<String> {
    let chunk = answer["chunk"].as_array().unwrap();
    chunk.iter().filter_map(|event| event["content"]["body"].as_str().map(ToOwned::to_owned)).collect()
}

#[test]
fn an_event_that_is_sent_over_tls_reaches_the_other_nodes_clients() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let bob_id = UserId::parse(format!("@bob:{}", b.name())).unwrap();
    let room = shared_room(&a, &mut ann, &b, &bob_id);
    let id: OwnedEventId = ann.say(room.as_str(), "hello").try_into().unwrap();
    let outcome = send(&a, &b, vec![json_of(a.node(), &a, &id)]);
    assert_eq!(outcome.pdus.get(&id), Some(&Ok(())));
    let path = format!("/_matrix/client/v3/rooms/{}/event/{}", encoded(room.as_str()), encoded(id.as_str()));
    let event = eventually("the event", || Some(bob.http.get(&path)).filter(|answer| answer.status == 200));
    assert_eq!(event.json()["content"]["body"], "hello");
    let sync = bob.http.get("/_matrix/client/v3/sync").ok();
    let joined = &sync["rooms"]["join"][room.as_str()];
    assert!(joined["timeline"]["events"].as_array().unwrap().iter().any(|event| event["content"]["body"] == "hello"));
    assert!(joined["summary"]["m.joined_member_count"] == 2, "{}", joined["summary"]);
}

#[test]
fn scrolling_back_reaches_what_was_said_before_the_join() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut bob) = (a.person("ann"), b.person("bob"));
    let bob_id = UserId::parse(format!("@bob:{}", b.name())).unwrap();
    let room = shared_room(&a, &mut ann, &b, &bob_id);
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=50", encoded(room.as_str()));
    let mut pages = vec![bob.http.get(&path).ok()];
    while let Some(end) = pages.last().unwrap()["end"].as_str().map(ToOwned::to_owned) {
        assert!(pages.len() < 10, "the beginning comes nearer");
        pages.push(bob.http.get(&format!("{path}&from={}", encoded(&end))).ok());
    }
    assert_eq!(pages.iter().flat_map(bodies).collect::<Vec<_>>(), ["before anybody came"]);
    let events: Vec<_> = pages.iter().flat_map(|page| page["chunk"].as_array().unwrap()).collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types.last(), Some(&"m.room.create"), "down to the room's beginning: {types:?}");
}

#[test]
fn a_node_without_users_in_a_room_is_told_nothing_of_it() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let mut ann = a.person("ann");
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    let id: OwnedEventId = ann.say(&room, "among us").try_into().unwrap();
    let client = &b.node().federation.client;
    let refused = b.wait(client.request(a.name(), get_event::Request::new(id.clone()))).map(drop);
    assert!(matches!(&refused, Err(RequestError::Remote { status: 404, .. })), "{refused:?}");
    let room_id = RoomId::parse(&room).unwrap();
    let request = get_backfill::Request::new(room_id, vec![id], 10_u32.into());
    let refused = b.wait(client.request(a.name(), request)).map(drop);
    assert!(matches!(&refused, Err(RequestError::Remote { status: 403, .. })), "{refused:?}");
}
