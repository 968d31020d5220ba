//! People of two servers in one room: keys, messages to devices, receipts, typing, presence; servers that stop in between.

use serde_json::{Value, json};

use crate::support::{
    Person,
    across::{join, path, post},
    eventually,
    federation::{Authority, FedNode},
    http::encoded,
    syncing::Client,
};

fn room(ann: &mut Person, ben: &mut Person, via: &str) -> String {
    let encryption = json!({ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
    let room = ann.create_room(&json!({ "preset": "public_chat", "initial_state": [encryption] }));
    join(ben, &room, via);
    room
}

#[test]
fn device_lists_are_followed_across_servers_and_kept_while_the_other_is_away() {
    let authority = Authority::new();
    let (mut a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut ben) = (Client::new(a.person("ann")), Client::new(b.person("ben")));
    let ann_id = ann.person.user_id.clone();
    ann.upload();
    room(&mut ann.person, &mut ben.person, a.name().as_str());
    ben.told_changed(&ann_id);
    let first = ann.person.device_id.clone();
    assert_eq!(ben.devices(&ann_id), [first.as_str()]);

    let mut second = Client::new(Person::login(a.address(), "ann", "the password of ann"));
    second.upload();
    ben.told_changed(&ann_id);
    let mut both = [first.clone(), second.person.device_id.clone()];
    both.sort();
    eventually("both devices", || (ben.devices(&ann_id) == both).then_some(()));

    // The next change follows the last one: it is applied without asking, which shows while the other server is away.
    let master = json!({ "user_id": ann_id, "usage": ["master"], "keys": {
        "ed25519:Kl2UOzTxWbeUyzhKzhwD3mNkVKSZs1hG0NsUKZTK8oY": "Kl2UOzTxWbeUyzhKzhwD3mNkVKSZs1hG0NsUKZTK8oY",
    } });
    ann.person.http.post("/_matrix/client/v3/keys/device_signing/upload", &json!({ "master_key": master })).ok();
    ben.told_changed(&ann_id);
    second.person.http.post("/_matrix/client/v3/logout", &json!({})).ok();
    eventually("the second device to be gone and the master key to be there", || {
        let answer = ben.query(&ann_id);
        let devices = answer["device_keys"][&ann_id].as_object().map_or(0, serde_json::Map::len);
        (devices == 1 && answer["master_keys"][&ann_id] == master).then_some(())
    });
    a.stop();
    let answer = ben.query(&ann_id);
    assert_eq!(answer["device_keys"][&ann_id].as_object().unwrap().keys().collect::<Vec<_>>(), [&first]);
    assert_eq!((&answer["master_keys"][&ann_id], &answer["failures"]), (&master, &json!({})));
}

#[test]
fn messages_to_devices_arrive_once_in_order_over_restarts_of_either_server() {
    let authority = Authority::new();
    let (mut a, mut b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut ben) = (Client::new(a.person("ann")), Client::new(b.person("ben")));
    let (ben_id, device) = (ben.person.user_id.clone(), ben.person.device_id.clone());
    ann.send(&ben_id, &device, "one");
    assert_eq!(ben.told_message("one"), ["one"]);
    b.stop();
    ann.send(&ben_id, &device, "two");
    ann.send(&ben_id, "*", "three");
    a.stop();
    b.start_again();
    a.start_again();
    // Clients reach it at another port now.
    let mut http = b.http();
    http.token = ben.person.http.token.clone();
    ben.person.http = http;
    assert_eq!(ben.told_message("three"), ["two", "three"]);
}

#[test]
fn receipts_typing_and_presence_are_seen_across_servers() {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    let (mut ann, mut ben) = (Client::new(a.person("ann")), Client::new(b.person("ben")));
    let (ann_id, ben_id) = (ann.person.user_id.clone(), ben.person.user_id.clone());
    let room = room(&mut ann.person, &mut ben.person, a.name().as_str());
    let event = ann.person.say(&room, "hello");
    eventually("the message", || {
        let event = ben.person.http.get(&path(&room, &format!("event/{}", encoded(&event))));
        (event.status == 200).then_some(())
    });
    post(&mut ben.person, &room, &format!("receipt/m.read/{}", encoded(&event)), &json!({ "thread_id": "main" })).ok();
    ann.told_ephemeral(&room, "m.receipt", |content| content[&event]["m.read"][&ben_id]["thread_id"] == "main");

    let typing = path(&room, &format!("typing/{}", encoded(&ben_id)));
    ben.person.http.put(&typing, &json!({ "typing": true, "timeout": 30000 })).ok();
    ann.told_ephemeral(&room, "m.typing", |content| content["user_ids"] == json!([ben_id]));
    ben.person.http.put(&typing, &json!({ "typing": false })).ok();
    ann.told_ephemeral(&room, "m.typing", |content| content["user_ids"] == json!([]));

    let presence = format!("/_matrix/client/v3/presence/{}/status", encoded(&ben_id));
    ben.person.http.put(&presence, &json!({ "presence": "unavailable", "status_msg": "at lunch" })).ok();
    ann.told("Ben's presence", |sync| {
        let events = sync["presence"]["events"].as_array()?;
        let of_ben = |event: &&Value| event["sender"] == json!(ben_id) && event["content"]["status_msg"] == "at lunch";
        events.iter().find(of_ben).map(|_| ())
    });
    assert_eq!(ann.person.http.get(&presence).ok()["presence"], "unavailable");

    post(&mut ben.person, &room, "leave", &json!({})).ok();
    ann.told("Ben to share no room any more", |sync| {
        sync["device_lists"]["left"].as_array()?.iter().any(|user| user == &json!(ben_id)).then_some(())
    });
    assert_eq!(ann.person.http.get(&presence).status, 403);
    // Nobody of Ben's server is in the room: what is typed there is none of its business.
    let typing = path(&room, &format!("typing/{}", encoded(&ann_id)));
    ann.person.http.put(&typing, &json!({ "typing": true })).ok();
}
