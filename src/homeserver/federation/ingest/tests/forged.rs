//! Invites by way of a third party need nobody's signature. Before room version 11, redaction makes ordinary invites of them: one
//! whose content is not what was hashed would be an invite in anybody's name.

use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId,
    signatures::{PublicKeyMap, Verified, verify_event},
};
use serde_json::json;

use super::world::{World, raw, wire};
use crate::homeserver::{
    federation::key_ring::verify_with,
    rooms::{build, versions::SUPPORTED},
};

/// A room of one version.
struct Scene {
    version: RoomVersionId,
    room: OwnedRoomId,
    bob: OwnedUserId,
    eve: OwnedUserId,
}

/// Ann's room of each version with Bob of another server in it; Eve is on that server, and nobody has invited her.
async fn scenes() -> (World, Vec<Scene>) {
    let world = World::new(2);
    let mut scenes = Vec::new();
    for version in SUPPORTED {
        let (ann, bob, eve) = (world.user(0, "ann"), world.user(1, "bob"), world.user(1, "eve"));
        let room = world.room(0, &ann, version.clone()).await;
        world.join(1, &bob, &room, 0).await;
        scenes.push(Scene { version, room, bob, eve });
    }
    (world, scenes)
}

impl Scene {
    /// An invite in Ann's name that she never made: without a signature, its hash wrong.
    async fn forged(&self, world: &World, third_party: serde_json::Value) -> (OwnedEventId, String) {
        let ann = world.user(0, "ann");
        let invite = json!({ "membership": "invite" });
        let pdu = world.forge(1, &self.room, &ann, "m.room.member", Some(self.eve.as_str()), invite, |_| ()).await;
        let mut json = pdu.json().clone();
        if let Some(content) = json.get_mut("content").and_then(|content| content.as_object_mut()) {
            content.insert("third_party_invite".into(), serde_json::from_value(third_party).unwrap());
        }
        json.insert("signatures".into(), ruma::CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        json.insert("hashes".into(), serde_json::from_value(json!({ "sha256": "x" })).unwrap());
        let rules = world.handle(1, &self.room).await.rules;
        let id = build::event_id(&json, &rules).unwrap();
        (id, build::canonical(&json).unwrap())
    }

    /// Nothing of it counts on this server.
    async fn is_no_invite(&self, world: &World, server: usize, id: &OwnedEventId, way: &str) {
        let fate = world.fate(server, id).await;
        assert!(fate.is_none_or(|(rejected, ..)| rejected.is_some()), "{} {way}", self.version);
        let member = ("m.room.member".to_owned(), self.eve.to_string());
        assert!(!world.state(server, &self.room).await.contains_key(&member), "{} {way}", self.version);
    }
}

fn third_parties(eve: &OwnedUserId) -> [serde_json::Value; 2] {
    [json!({}), json!({ "display_name": "e", "signed": { "mxid": eve, "token": "t", "signatures": {} } })]
}

/// ruma asks for the signatures of what came, and says that what redaction leaves is signed.
#[tokio::test]
async fn nobody_has_signed_what_redaction_leaves_of_a_forged_third_party_invite() {
    let (world, scenes) = scenes().await;
    for scene in scenes {
        let (_, json) = scene.forged(&world, json!({})).await;
        let json: CanonicalJsonObject = serde_json::from_str(&json).unwrap();
        let (rules, nobody) = (world.handle(0, &scene.room).await.rules, PublicKeyMap::new());
        assert_eq!(verify_event(&nobody, &json, &rules).unwrap(), Verified::Signatures, "if this fails, ruma has mended it");
        let ours = verify_with(&nobody, &json, &rules);
        let ordinary_once_redacted = !rules.redaction.keep_room_member_third_party_invite_signed;
        assert_eq!(ours.is_err(), ordinary_once_redacted, "{}: {ours:?}", scene.version);
    }
}

#[tokio::test]
async fn a_forged_third_party_invite_does_not_come_in_by_a_transaction() {
    let (mut world, scenes) = scenes().await;
    let third = world.add("c.test");
    for scene in scenes {
        for content in third_parties(&scene.eve) {
            let (id, json) = scene.forged(&world, content).await;
            // From a server that is in the room, and from one that is not.
            for from in [1, third] {
                world.deliver(from, 0, vec![json.clone()]).await;
                scene.is_no_invite(&world, 0, &id, "by transaction").await;
            }
        }
    }
}

#[tokio::test]
async fn a_forged_third_party_invite_does_not_come_in_with_a_join() {
    let (mut world, scenes) = scenes().await;
    let third = world.add("c.test");
    for scene in scenes {
        let carl = world.user(third, "carl");
        let (mut answer, _) = world.join_answer(third, &carl, &scene.room, 1).await;
        let mut forged = Vec::new();
        for content in third_parties(&scene.eve) {
            let (id, json) = scene.forged(&world, content).await;
            forged.push(id);
            answer.state.extend(raw(vec![json]));
        }
        let imported = world.servers[third].ingest.import(answer).await.unwrap();
        assert_eq!(imported.refused, 2, "{}", scene.version);
        for id in forged {
            scene.is_no_invite(&world, third, &id, "by join").await;
        }
    }
}

#[tokio::test]
async fn a_forged_third_party_invite_does_not_come_in_by_a_gap() {
    let (world, scenes) = scenes().await;
    for scene in scenes {
        for content in third_parties(&scene.eve) {
            let (id, json) = scene.forged(&world, content).await;
            let after = id.to_string();
            let hello = json!({ "body": "hello" });
            let last = world.forge(1, &scene.room, &scene.bob, "m.room.message", None, hello, |json| {
                json.insert("prev_events".into(), serde_json::from_value(json!([after])).unwrap());
            });
            let last = wire(&last.await);
            world.network.lies.lock().unwrap().insert("missing_events".into(), vec![json.clone()]);
            world.network.lies.lock().unwrap().insert(format!("event {id}"), vec![json]);
            world.deliver(1, 0, vec![last]).await;
            scene.is_no_invite(&world, 0, &id, "by gap").await;
        }
    }
}

/// What is intact needs no signature of the sender's server, and is judged by the rules for such invites.
#[tokio::test]
async fn a_third_party_invite_whose_hash_is_right_is_judged_by_its_token() {
    let (world, scenes) = scenes().await;
    for scene in scenes {
        let ann = world.user(0, "ann");
        let [_, content] = third_parties(&scene.eve);
        let invite = json!({ "membership": "invite", "third_party_invite": content });
        let pdu = world.forge(1, &scene.room, &ann, "m.room.member", Some(scene.eve.as_str()), invite, |_| ()).await;
        world.deliver(1, 0, vec![wire(&pdu)]).await;
        let (rejected, ..) = world.fate(0, pdu.event_id()).await.unwrap();
        assert!(rejected.is_some(), "{}: there is no such token", scene.version);
        scene.is_no_invite(&world, 0, &pdu.event_id().to_owned(), "intact").await;
    }
}
