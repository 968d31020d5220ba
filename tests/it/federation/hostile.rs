//! What a server that does not keep to the rules is answered by the endpoints for memberships.

use homeroom::homeserver::{
    federation::request::{Limits, RequestError},
    rooms::build,
};
use http::Method;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomId, RoomVersionId, UserId,
    api::federation::membership::{prepare_join_event::v1 as prepare_join, prepare_leave_event::v1 as prepare_leave},
};
use serde_json::{Value, json};

use crate::support::{
    Person,
    across::{becomes, invite_in, joined_members, membership, sync},
    federation::{Authority, FedNode},
    http::encoded,
};

/// A room of Ann's on one node, and another node whose keys are used to lie.
struct Scene {
    victim: FedNode,
    liar: FedNode,
    _authority: Authority,
}

impl Scene {
    fn new() -> (Self, Person) {
        let authority = Authority::new();
        let (victim, liar) = (FedNode::start(&authority), FedNode::start(&authority));
        let ann = victim.person("ann");
        (Self { victim, liar, _authority: authority }, ann)
    }

    fn user(&self, name: &str) -> String {
        format!("@{name}:{}", self.liar.name())
    }

    /// What the node would have us sign for a join.
    fn template(&self, room: &str, user: &str) -> Value {
        let mut request = prepare_join::Request::new(RoomId::parse(room).unwrap(), UserId::parse(user).unwrap());
        request.ver = vec![RoomVersionId::V10, RoomVersionId::V12];
        let answer = self.liar.wait(self.liar.node().federation.client.request(self.victim.name(), request)).unwrap();
        serde_json::from_str(answer.event.get()).unwrap()
    }

    fn sign(&self, event: &Value, version: &RoomVersionId) -> (CanonicalJsonObject, String) {
        let Ok(CanonicalJsonValue::Object(mut event)) = CanonicalJsonValue::try_from(event.clone()) else { panic!("no object: {event}") };
        let rules = version.rules().unwrap();
        self.liar.node().key.sign_event(self.liar.name().as_str(), &mut event, &rules.redaction).unwrap();
        let id = build::event_id(&event, &rules).unwrap();
        (event, id.to_string())
    }

    fn put(&self, path: &str, body: &impl serde::Serialize) -> Result<Value, RequestError> {
        let client = &self.liar.node().federation.client;
        let body = serde_json::to_vec(body).unwrap();
        let answer = self.liar.wait(client.raw(self.victim.name(), Method::PUT, path, Some(body), Limits::ORDINARY.insisting()));
        answer.map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    #[track_caller]
    fn send(&self, what: &str, room: &str, event_id: &str, event: &CanonicalJsonObject) -> Result<Value, RequestError> {
        self.put(&format!("/_matrix/federation/v2/{what}/{}/{}", encoded(room), encoded(event_id)), event)
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(name: &str, answer: Result<T, RequestError>, codes: &[&str]) {
    match answer {
        Err(RequestError::Remote { status: 400..=499, errcode, .. }) if codes.contains(&errcode.as_str()) => {}
        other => panic!("{name}: {other:?}"),
    }
}

/// A transaction may be larger than other requests: fifty events and a hundred EDUs of 64 KiB are legal.
#[test]
fn a_transaction_larger_than_other_requests_is_taken() {
    let (scene, ann) = Scene::new();
    let transaction = |bytes: usize| {
        let edu = |n: usize| {
            let messages = json!({ &ann.user_id: { "NOBODY": { "x": "x".repeat(bytes) } } });
            let content = json!({ "sender": scene.user("eve"), "type": "m.test", "message_id": n.to_string(), "messages": messages });
            json!({ "edu_type": "m.direct_to_device", "content": content })
        };
        let edus: Vec<Value> = (0..100).map(edu).collect();
        json!({ "origin": scene.liar.name(), "origin_server_ts": 1, "pdus": [], "edus": edus })
    };
    let answer = scene.put("/_matrix/federation/v1/send/large", &transaction(45_000));
    assert!(answer.is_ok(), "{answer:?}");
    // Beyond that it is refused; whether the answer is read depends on how much is still being sent.
    assert!(scene.put("/_matrix/federation/v1/send/larger", &transaction(140_000)).is_err());
    let answer = scene.put("/_matrix/federation/v1/send/small", &transaction(10));
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn only_the_join_that_was_asked_for_is_taken() {
    let (scene, mut ann) = Scene::new();
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let room = ann.create_room(&json!({ "preset": "public_chat", "room_version": version.as_str() }));
        let other = ann.create_room(&json!({ "preset": "public_chat", "room_version": version.as_str() }));
        let eve = scene.user("eve");
        let template = scene.template(&room, &eve);
        assert!(template.get("signatures").is_none() && template.get("hashes").is_none(), "{template}");
        type Change = fn(&mut Value, &str);
        let wrong: [(&str, Change); 8] = [
            ("another type", |e, _| e["type"] = json!("m.room.power_levels")),
            ("somebody else's membership", |e, _| e["state_key"] = json!("@zoe:elsewhere.test")),
            ("another membership", |e, _| e["content"]["membership"] = json!("knock")),
            ("another room", |e, other| e["room_id"] = json!(other)),
            ("somebody else's event", |e, _| (e["sender"], e["state_key"]) = (json!("@zoe:elsewhere.test"), json!("@zoe:elsewhere.test"))),
            ("unknown places", |e, _| e["prev_events"] = json!(["$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])),
            ("no place", |e, _| e["prev_events"] = json!([])),
            ("nothing that authorises it", |e, _| e["auth_events"] = json!([])),
        ];
        for (name, change) in wrong {
            let mut event = template.clone();
            change(&mut event, &other);
            let (event, id) = scene.sign(&event, &version);
            let codes = ["M_INVALID_PARAM", "M_FORBIDDEN", "M_BAD_STATE"];
            refused(name, scene.send("send_join", &room, &id, &event), &codes);
        }
        let (event, id) = scene.sign(&template, &version);
        let mut unsigned = event.clone();
        unsigned.remove("signatures");
        refused("no signature", scene.send("send_join", &room, &id, &unsigned), &["M_FORBIDDEN"]);
        let mut changed = event.clone();
        changed.insert("content".into(), CanonicalJsonValue::try_from(json!({ "membership": "join", "displayname": "Ann" })).unwrap());
        refused("a wrong hash", scene.send("send_join", &room, &id, &changed), &["M_INVALID_PARAM"]);
        refused(
            "another event's ID",
            scene.send("send_join", &room, "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &event),
            &["M_INVALID_PARAM"],
        );
        refused("another endpoint", scene.send("send_leave", &room, &id, &event), &["M_INVALID_PARAM"]);
        assert_eq!(joined_members(&mut ann, &room).len(), 1, "nobody got in");
        // And the honest one, twice.
        let first = scene.send("send_join", &room, &id, &event).unwrap();
        assert_eq!(scene.send("send_join", &room, &id, &event).unwrap(), first);
        assert_eq!(first["origin"], json!(scene.victim.name()));
        assert!(first["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
        becomes(&mut ann, &room, &eve, "join");
    }
}

#[test]
fn questions_about_joins_are_answered_as_the_specification_says() {
    let (scene, mut ann) = Scene::new();
    let room = ann.create_room(&json!({ "preset": "public_chat", "room_version": "12" }));
    let client = &scene.liar.node().federation.client;
    let ask = |room: &str, user: &str, versions: Vec<RoomVersionId>| {
        let mut request = prepare_join::Request::new(RoomId::parse(room).unwrap(), UserId::parse(user).unwrap());
        request.ver = versions;
        scene.liar.wait(client.request(scene.victim.name(), request)).map(drop)
    };
    let eve = scene.user("eve");
    refused("another server's user", ask(&room, "@zoe:elsewhere.test", vec![RoomVersionId::V12]), &["M_FORBIDDEN"]);
    refused("no version in common", ask(&room, &eve, vec![RoomVersionId::V10]), &["M_INCOMPATIBLE_ROOM_VERSION"]);
    refused("a room that is not there", ask("!nowhere:elsewhere.test", &eve, vec![RoomVersionId::V12]), &["M_NOT_FOUND"]);
    let leave = prepare_leave::Request::new(RoomId::parse(&room).unwrap(), UserId::parse(&eve).unwrap());
    refused("leaving without having come", scene.liar.wait(client.request(scene.victim.name(), leave)).map(drop), &["M_FORBIDDEN"]);
    // Without the members.
    let template = scene.template(&room, &eve);
    let (event, id) = scene.sign(&template, &RoomVersionId::V12);
    let path = format!("/_matrix/federation/v2/send_join/{}/{}?omit_members=true", encoded(&room), encoded(&id));
    let answer = scene.put(&path, &event).unwrap();
    // The room has no name: its members are what it is called by.
    assert_eq!(answer["members_omitted"], false);
    ann.http.put(&crate::support::across::path(&room, "state/m.room.name"), &json!({ "name": "named" })).ok();
    let zoe = scene.user("zoe");
    let (event, id) = scene.sign(&scene.template(&room, &zoe), &RoomVersionId::V12);
    let path = format!("/_matrix/federation/v2/send_join/{}/{}?omit_members=true", encoded(&room), encoded(&id));
    let answer = scene.put(&path, &event).unwrap();
    assert_eq!(answer["members_omitted"], true, "{answer}");
    assert!(answer["state"].as_array().unwrap().iter().all(|event| event["type"] != "m.room.member"));
    let mut servers: Vec<&str> = answer["servers_in_room"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut both = [scene.victim.name().as_str(), scene.liar.name().as_str()];
    servers.sort_unstable();
    both.sort_unstable();
    assert_eq!(servers, both);
}

#[test]
fn an_invite_that_is_not_what_it_says_is_refused() {
    let (scene, mut ann) = Scene::new();
    let invited = ann.user_id.clone();
    let mut mallory = scene.liar.person("mallory");
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let room = mallory.create_room(&json!({ "preset": "private_chat", "room_version": version.as_str(), "name": "trap" }));
        let state = |kind: &str| {
            let (room, kind) = (RoomId::parse(&room).unwrap(), kind.to_owned());
            let found = scene.liar.node().store.read(move |db| {
                use homeroom::homeserver::store::{StoreError, events, rooms, state};
                let room = rooms::by_id(db, &room)?.unwrap();
                let nid = state::current(db, room.nid, &kind, "")?.unwrap();
                Ok::<_, StoreError>(events::by_nid(db, nid)?.json)
            });
            serde_json::from_str::<Value>(&scene.liar.wait(found).unwrap()).unwrap()
        };
        let create = state("m.room.create");
        let honest = json!({
            "type": "m.room.member", "sender": mallory.user_id, "state_key": invited, "room_id": room, "depth": 9,
            "content": { "membership": "invite" }, "origin_server_ts": 1_790_000_000_000_u64,
            "prev_events": ["$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], "auth_events": ["$BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        });
        let send = |event: &Value, told: Value, given: &str| {
            let (event, id) = scene.sign(event, &version);
            let body = json!({ "room_version": given, "event": event, "invite_room_state": told });
            scene.put(&format!("/_matrix/federation/v2/invite/{}/{}", encoded(&room), encoded(&id)), &body)
        };
        let changed = |change: fn(&mut Value)| {
            let mut event = honest.clone();
            change(&mut event);
            event
        };
        let told = json!([create]);
        let bad = ["M_INVALID_PARAM", "M_FORBIDDEN", "M_NOT_FOUND"];
        for (name, event) in [
            ("no invite", changed(|e| e["content"]["membership"] = json!("join"))),
            ("no membership", changed(|e| e["type"] = json!("m.room.message"))),
            ("another server's user invites", changed(|e| e["sender"] = json!("@zoe:elsewhere.test"))),
            ("another server's user is invited", changed(|e| e["state_key"] = json!("@zoe:elsewhere.test"))),
            ("another room", changed(|e| e["room_id"] = json!("!other:elsewhere.test"))),
        ] {
            refused(name, send(&event, told.clone(), version.as_str()), &bad);
        }
        let mut nobody = honest.clone();
        nobody["state_key"] = json!(format!("@nobody:{}", scene.victim.name()));
        refused("nobody", send(&nobody, told.clone(), version.as_str()), &["M_NOT_FOUND"]);
        refused("a version that nobody has", send(&honest, told.clone(), "org.example.99"), &["M_INCOMPATIBLE_ROOM_VERSION"]);
        if version == RoomVersionId::V12 {
            refused("no create event", send(&honest, json!([]), "12"), &["M_MISSING_PARAM"]);
            let mut other = create.clone();
            other["content"]["m.federate"] = json!(true);
            refused("another room's create event", send(&honest, json!([other]), "12"), &["M_INVALID_PARAM"]);
        }
        assert!(invite_in(&sync(&mut ann), &room).is_none(), "nothing of it is shown");
        let taken = send(&honest, told, version.as_str()).unwrap();
        assert!(taken["event"]["signatures"][scene.victim.name().as_str()].is_object(), "{taken}");
        assert!(invite_in(&sync(&mut ann), &room).is_some());
        assert_eq!(membership(&mut ann, &room, &invited), "", "an invite shows nothing of the room");
    }
    let v1 = scene.put("/_matrix/federation/v1/invite/!x:y/$z", &json!({}));
    refused("version 1", v1, &["M_INCOMPATIBLE_ROOM_VERSION"]);
}
