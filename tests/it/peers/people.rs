//! Our node and Synapse tell each other of people: profiles, aliases, directories, spaces, files, keys, and what they do.

use serde_json::{Value, json};

use crate::support::{
    Person,
    across::{join, path, post},
    eventually,
    federation::{Authority, FedNode},
    http::encoded,
    synapse_federating::FedSynapse,
    syncing::Client,
};

/// Ann here and Bob on Synapse.
struct Two {
    node: FedNode,
    synapse: FedSynapse,
    ann: Person,
    bob: Person,
    /// Last: the others' certificates are in its directory.
    _authority: Authority,
}

impl Two {
    fn new() -> Self {
        let authority = Authority::new();
        let (node, synapse) = (FedNode::start(&authority), FedSynapse::start(&authority));
        let (ann, bob) = (node.person("ann"), synapse.person("bob"));
        Self { node, synapse, ann, bob, _authority: authority }
    }

    /// Who asks, who is asked, and the server of the latter: each way once.
    fn each(&mut self, mut ask: impl FnMut(&mut Person, &mut Person, &str)) {
        ask(&mut self.ann, &mut self.bob, self.synapse.name());
        ask(&mut self.bob, &mut self.ann, self.node.name().as_str());
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn profiles_aliases_and_directories_of_either_are_read_by_the_other() {
    Two::new().each(|asker, asked, server| {
        let profile = format!("/_matrix/client/v3/profile/{}", encoded(&asked.user_id));
        asked.http.put(&format!("{profile}/displayname"), &json!({ "displayname": "Somebody" })).ok();
        assert_eq!(asker.http.get(&profile).ok()["displayname"], "Somebody");
        assert_eq!(asker.http.get(&format!("{profile}/displayname")).ok(), json!({ "displayname": "Somebody" }));
        let room =
            asked.create_room(&json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "cats", "name": "Cats" }));
        let alias = encoded(&format!("#cats:{server}"));
        let found = asker.http.get(&format!("/_matrix/client/v3/directory/room/{alias}")).ok();
        assert_eq!((&found["room_id"], &found["servers"]), (&json!(room), &json!([server])));
        let rooms = format!("/_matrix/client/v3/publicRooms?server={}", encoded(server));
        // Synapse counts what its directory tells of a room after the answer to its creation.
        eventually("the room in the directory", || (asker.http.get(&rooms).ok()["chunk"][0]["room_id"] == json!(room)).then_some(()));
        let search = |term: &str| json!({ "filter": { "generic_search_term": term } });
        eventually("the room by its name", || (asker.http.post(&rooms, &search("cat")).ok()["chunk"][0]["name"] == "Cats").then_some(()));
        assert_eq!(asker.http.post(&rooms, &search("dog")).ok()["chunk"], json!([]));
    });
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn spaces_of_either_are_walked_by_the_other() {
    Two::new().each(|asker, asked, server| {
        let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" }, "name": "Far" });
        let (far, open) = (asked.create_room(&space), asked.create_room(&json!({ "preset": "public_chat", "name": "Open" })));
        let root = asker.create_room(&json!({ "preset": "public_chat", "creation_content": { "type": "m.space" }, "name": "Root" }));
        for (who, space, child) in [(&mut *asked, &far, &open), (&mut *asker, &root, &far)] {
            let path = format!("/_matrix/client/v3/rooms/{}/state/m.space.child/{}", encoded(space), encoded(child));
            who.http.put(&path, &json!({ "via": [server] })).ok();
        }
        let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", encoded(&root));
        eventually("the names of all rooms", || {
            let walked = asker.http.get(&path).ok();
            let names = walked["rooms"].as_array().unwrap().iter().map(|room| room["name"].clone()).collect::<Vec<_>>();
            (names == ["Root", "Far", "Open"]).then_some(())
        });
    });
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn files_of_either_are_fetched_by_the_other() {
    Two::new().each(|asker, asked, _| {
        let data: Vec<u8> = (0..500_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let answer = asked.http.request("POST", "/_matrix/media/v3/upload?filename=a.bin", "application/octet-stream", &data).unwrap().ok();
        let place = answer["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let got = asker.http.get(&format!("/_matrix/client/v1/media/download/{place}"));
        assert_eq!((got.status, got.header("content-type")), (200, "application/octet-stream"));
        assert!(got.body == data, "every byte");
        assert!(got.header("content-disposition").contains("a.bin"), "{}", got.header("content-disposition"));
        let mut picture = Vec::new();
        let image = image::DynamicImage::new_rgb8(900, 700);
        image.write_to(&mut std::io::Cursor::new(&mut picture), image::ImageFormat::Png).unwrap();
        let answer = asked.http.request("POST", "/_matrix/media/v3/upload?filename=p.png", "image/png", &picture).unwrap().ok();
        let place = answer["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let small = asker.http.get(&format!("/_matrix/client/v1/media/thumbnail/{place}?width=320&height=240&method=scale"));
        assert_eq!(small.status, 200);
        let small = image::load_from_memory(&small.body).unwrap();
        assert!(small.width() < 900 && small.width() >= 300, "{}", small.width());
        let missing = asker.http.get(&format!("/_matrix/client/v1/media/download/{}", place.replace('/', "/x")));
        assert_eq!(missing.status, 404);
    });
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn keys_of_either_are_asked_for_and_claimed_by_the_other() {
    Two::new().each(|asker, asked, _| {
        let (user, device) = (asked.user_id.clone(), asked.device_id.clone());
        let signatures = json!({ &user: { format!("ed25519:{device}"): "c2ln" } });
        let keys = json!({
            "user_id": user,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("ed25519:{device}"): "a2V5", format!("curve25519:{device}"): "a2V5" },
            "signatures": signatures,
        });
        let once = json!({ "signed_curve25519:A": { "key": "a2V5", "signatures": signatures } });
        asked.http.post("/_matrix/client/v3/keys/upload", &json!({ "device_keys": keys, "one_time_keys": once })).ok();
        let answer = asker.http.post("/_matrix/client/v3/keys/query", &json!({ "device_keys": { &user: [] } })).ok();
        let mut told = answer["device_keys"][&user][&device].clone();
        told.as_object_mut().unwrap().remove("unsigned");
        assert_eq!((told, &answer["failures"]), (keys, &json!({})));
        let claim = json!({ "one_time_keys": { &user: { &device: "signed_curve25519" } } });
        let claimed =
            |asker: &mut Person| asker.http.post("/_matrix/client/v3/keys/claim", &claim).ok()["one_time_keys"][&user][&device].clone();
        assert_eq!(claimed(asker), once);
        assert_eq!(claimed(asker), Value::Null);
    });
}

/// Ann here and Bob on Synapse in one encrypted room, each as host once; the guest's server is last.
fn in_one_room(mut meet: impl FnMut(&mut Client, &mut Client, &str)) {
    let two = Two::new();
    let (ours, theirs) = (two.node.name().to_string(), two.synapse.name().to_owned());
    let (mut ann, mut bob) = (Client::new(two.ann), Client::new(two.bob));
    for turn in 0..2 {
        let (host, guest, via) = if turn == 0 { (&mut ann, &mut bob, &ours) } else { (&mut bob, &mut ann, &theirs) };
        let encryption = json!({ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
        let room = host.person.create_room(&json!({ "preset": "public_chat", "initial_state": [encryption] }));
        join(&mut guest.person, &room, via);
        meet(host, guest, &room);
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn receipts_typing_and_presence_of_either_are_seen_by_the_other() {
    in_one_room(|host, guest, room| {
        let guest_id = guest.person.user_id.clone();
        let event = host.person.say(room, "hello");
        eventually("the message", || {
            let event = guest.person.http.get(&path(room, &format!("event/{}", encoded(&event))));
            (event.status == 200).then_some(())
        });
        post(&mut guest.person, room, &format!("receipt/m.read/{}", encoded(&event)), &json!({ "thread_id": "main" })).ok();
        host.told_ephemeral(room, "m.receipt", |content| content[&event]["m.read"][&guest_id]["thread_id"] == "main");
        let typing = path(room, &format!("typing/{}", encoded(&guest_id)));
        guest.person.http.put(&typing, &json!({ "typing": true, "timeout": 30000 })).ok();
        host.told_ephemeral(room, "m.typing", |content| content["user_ids"] == json!([guest_id]));
        guest.person.http.put(&typing, &json!({ "typing": false })).ok();
        host.told_ephemeral(room, "m.typing", |content| content["user_ids"] == json!([]));
        let presence = format!("/_matrix/client/v3/presence/{}/status", encoded(&guest_id));
        guest.person.http.put(&presence, &json!({ "presence": "unavailable", "status_msg": "at lunch" })).ok();
        eventually("the presence", || (host.person.http.get(&presence).json()["status_msg"] == "at lunch").then_some(()));
    });
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn devices_of_either_are_followed_and_written_to_by_the_other() {
    in_one_room(|host, guest, _| {
        let (host_id, first) = (host.person.user_id.clone(), host.person.device_id.clone());
        host.upload();
        eventually("the first device", || (guest.devices(&host_id) == [first.as_str()]).then_some(()));
        let localpart = host_id.trim_start_matches('@').split(':').next().unwrap();
        let mut second = Client::new(Person::login(host.person.http.address(), localpart, &host.person.password));
        second.upload();
        eventually("the second device", || (guest.devices(&host_id).len() == 2).then_some(()));
        guest.told_changed(&host_id);
        for text in ["one", "two"] {
            guest.send(&host_id, &first, text);
        }
        assert_eq!(host.told_message("two"), ["one", "two"]);
        guest.send(&host_id, "*", "three");
        assert_eq!(second.told_message("three"), ["three"]);
        second.person.http.post("/_matrix/client/v3/logout", &json!({})).ok();
        eventually("the second device to be gone", || (guest.devices(&host_id) == [first.as_str()]).then_some(()));
    });
}
