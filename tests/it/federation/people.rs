//! What servers tell each other of people: profiles, aliases, directories, spaces, keys, files.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Person,
    federation::{Authority, FedNode},
    http::{Answer, encoded},
};

fn pair() -> (Authority, FedNode, FedNode) {
    let authority = Authority::new();
    let (a, b) = (FedNode::start(&authority), FedNode::start(&authority));
    (authority, a, b)
}

#[test]
fn profiles_of_other_servers_users_are_read_and_changed_ones_too() {
    let (_authority, a, mut b) = pair();
    let (mut ann, mut ben) = (a.person("ann"), b.person("ben"));
    let path = format!("/_matrix/client/v3/profile/{}", encoded(&ben.user_id));
    let mine = |field: &str| format!("{path}/{field}");
    ben.http.put(&mine("displayname"), &json!({ "displayname": "Benjamin" })).ok();
    ben.http.put(&mine("org.example.pets"), &json!({ "org.example.pets": ["cat"] })).ok();
    let profile = ann.http.get(&path).ok();
    assert_eq!((&profile["displayname"], &profile["org.example.pets"]), (&json!("Benjamin"), &json!(["cat"])));
    assert_eq!(ann.http.get(&mine("displayname")).ok(), json!({ "displayname": "Benjamin" }));
    assert_eq!(ann.http.get(&mine("avatar_url")).status, 404);
    let nobody = format!("/_matrix/client/v3/profile/{}", encoded(&format!("@nobody:{}", b.name())));
    assert_eq!(ann.http.get(&nobody).status, 404);
    ben.http.put(&mine("displayname"), &json!({ "displayname": "Ben" })).ok();
    assert_eq!(ann.http.get(&path).ok()["displayname"], "Ben");
    b.stop();
    let gone = ann.http.get(&path);
    assert_eq!((gone.status, gone.errcode().as_str()), (502, "M_UNKNOWN"));
}

#[test]
fn aliases_directories_and_rooms_of_other_servers_are_found() {
    let (_authority, a, b) = pair();
    let (mut ann, mut ben) = (a.person("ann"), b.person("ben"));
    let public = ben.create_room(&json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "cats", "name": "Cats" }));
    ben.create_room(&json!({ "preset": "public_chat", "visibility": "public", "name": "Dogs" }));
    let alias = format!("#cats:{}", b.name());
    let found = ann.http.get(&format!("/_matrix/client/v3/directory/room/{}", encoded(&alias))).ok();
    assert_eq!(found, json!({ "room_id": public, "servers": [b.name()] }));
    let unknown = ann.http.get(&format!("/_matrix/client/v3/directory/room/{}", encoded(&format!("#none:{}", b.name()))));
    assert_eq!((unknown.status, unknown.errcode().as_str()), (404, "M_NOT_FOUND"));

    let rooms = format!("/_matrix/client/v3/publicRooms?server={}", encoded(b.name().as_str()));
    let names = |answer: Value| {
        let mut names: Vec<String> =
            answer["chunk"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(ann.http.get(&rooms).ok()), ["Cats", "Dogs"]);
    let first = ann.http.get(&format!("{rooms}&limit=1")).ok();
    let second = ann.http.get(&format!("{rooms}&limit=1&since={}", first["next_batch"].as_str().unwrap())).ok();
    let mut both = names(first);
    both.extend(names(second));
    both.sort();
    assert_eq!(both, ["Cats", "Dogs"]);
    assert_eq!(names(ann.http.post(&rooms, &json!({ "filter": { "generic_search_term": "cat" } })).ok()), ["Cats"]);

    let summary = ann.http.get(&format!("/_matrix/client/v1/room_summary/{}", encoded(&alias))).ok();
    assert_eq!((&summary["room_id"], &summary["name"], &summary["membership"]), (&json!(public), &json!("Cats"), &json!("leave")));
}

#[test]
fn a_space_of_another_server_is_walked_as_far_as_one_may_know_it() {
    let (_authority, a, b) = pair();
    let (mut ann, mut ben) = (a.person("ann"), b.person("ben"));
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" }, "name": "Space" });
    let root = ann.create_room(&space);
    let far = ben.create_room(&json!({ "preset": "public_chat", "creation_content": { "type": "m.space" }, "name": "Far" }));
    let open = ben.create_room(&json!({ "preset": "public_chat", "name": "Open" }));
    let closed = ben.create_room(&json!({ "preset": "private_chat", "name": "Closed" }));
    let link = |who: &mut Person, space: &str, child: &str, via: &str, order: &str| {
        let path = format!("/_matrix/client/v3/rooms/{}/state/m.space.child/{}", encoded(space), encoded(child));
        who.http.put(&path, &json!({ "via": [via], "order": order })).ok();
    };
    link(&mut ann, &root, &far, b.name().as_str(), "a");
    link(&mut ben, &far, &open, b.name().as_str(), "a");
    link(&mut ben, &far, &closed, b.name().as_str(), "b");
    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", encoded(&root));
    let names = |answer: &Value| answer["rooms"].as_array().unwrap().iter().map(|room| room["name"].clone()).collect::<Vec<_>>();
    let whole = ann.http.get(&path).ok();
    assert_eq!(names(&whole), ["Space", "Far", "Open"]);
    assert_eq!(whole["rooms"][1]["children_state"].as_array().unwrap().len(), 2);
    let first = ann.http.get(&format!("{path}?limit=2")).ok();
    let from = first["next_batch"].as_str().unwrap();
    let second = ann.http.get(&format!("{path}?limit=2&from={from}")).ok();
    assert_eq!((names(&first), names(&second)), (vec![json!("Space"), json!("Far")], vec![json!("Open")]));
}

fn device_keys(who: &Person) -> Value {
    let (user, device) = (&who.user_id, &who.device_id);
    json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): "a2V5" },
        "signatures": { user: { format!("ed25519:{device}"): "c2ln" } },
    })
}

fn one_time_keys(who: &Person, ids: &[&str]) -> Value {
    let key = json!({ "key": "a2V5", "signatures": { &who.user_id: { format!("ed25519:{}", who.device_id): "c2ln" } } });
    ids.iter().map(|id| (format!("signed_curve25519:{id}"), key.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn keys_of_other_servers_users_are_asked_for_and_claimed_and_a_dead_server_holds_nobody_up() {
    let (_authority, a, b) = pair();
    let (mut ann, mut ben) = (a.person("ann"), b.person("ben"));
    let upload = json!({ "device_keys": device_keys(&ben), "one_time_keys": one_time_keys(&ben, &["A"]) });
    ben.http.post("/_matrix/client/v3/keys/upload", &upload).ok();
    ben.http.put(&format!("/_matrix/client/v3/devices/{}", ben.device_id), &json!({ "display_name": "Ben's telephone" })).ok();
    let dead = format!("@eve:localhost:{}", crate::support::federation::free_port());
    let nobody = format!("@nobody:{}", b.name());
    let query = json!({ "device_keys": { &ben.user_id: [], &dead: [], &nobody: [] }, "timeout": 30_000 });
    let asked = Instant::now();
    let answer = ann.http.post("/_matrix/client/v3/keys/query", &query).ok();
    assert!(asked.elapsed() < Duration::from_secs(28));
    assert_eq!(answer["device_keys"][&ben.user_id], json!({ &ben.device_id: device_keys(&ben) }), "as uploaded, and without a name");
    let failures = answer["failures"].as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(failures, [dead.split_once(':').unwrap().1]);
    let claim = json!({ "one_time_keys": {
        &ben.user_id: { &ben.device_id: "signed_curve25519" },
        &dead: { "EVE": "signed_curve25519" },
    } });
    let first = ann.http.post("/_matrix/client/v3/keys/claim", &claim).ok();
    assert_eq!(first["one_time_keys"][&ben.user_id][&ben.device_id], one_time_keys(&ben, &["A"]));
    assert_eq!(first["failures"].as_object().unwrap().len(), 1);
    let second = ann.http.post("/_matrix/client/v3/keys/claim", &claim).ok();
    assert_eq!(second["one_time_keys"], json!({}), "each key is given out once");
}

fn download(who: &mut Person, kind: &str, mxc: &str, query: &str) -> Answer {
    let place = mxc.strip_prefix("mxc://").unwrap();
    who.http.get(&format!("/_matrix/client/v1/media/{kind}/{place}{query}"))
}

fn upload(who: &mut Person, content_type: &str, name: &str, body: &[u8]) -> String {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let answer = who.http.request("POST", &path, content_type, body).unwrap().ok();
    answer["content_uri"].as_str().unwrap().to_owned()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::DynamicImage::new_rgb8(width, height);
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    bytes
}

#[test]
fn files_of_other_servers_are_fetched_whole_and_kept() {
    let (_authority, a, mut b) = pair();
    let (mut ann, mut ben) = (a.person("ann"), b.person("ben"));
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mxc = upload(&mut ben, "text/html", "page.html", &data);
    let got = download(&mut ann, "download", &mxc, "");
    assert_eq!((got.status, got.header("content-type")), (200, "text/html"));
    assert_eq!(got.header("content-disposition"), "attachment; filename=page.html");
    assert!(got.header("content-security-policy").starts_with("sandbox"));
    assert!(got.body == data, "every byte");
    let picture = upload(&mut ben, "image/png", "p.png", &png(900, 700));
    let small = download(&mut ann, "thumbnail", &picture, "?width=300&height=200&method=scale");
    assert_eq!((small.status, small.header("content-type")), (200, "image/jpeg"));
    assert_eq!(image::load_from_memory(&small.body).unwrap().width(), 309);
    let missing = download(&mut ann, "download", &format!("mxc://{}/nosuchfile", b.name()), "?timeout_ms=0");
    assert_eq!((missing.status, missing.errcode().as_str()), (404, "M_NOT_FOUND"));
    for path in ["..%2F..%2Fkey%2Fv2%2Fserver", "a.b", "%00"] {
        assert_eq!(download(&mut ann, "download", &format!("mxc://{}/{path}", b.name()), "").status, 404, "{path}");
    }
    b.stop();
    assert!(download(&mut ann, "download", &mxc, "").body == data, "kept while its server is away");
    assert_eq!(download(&mut ann, "thumbnail", &picture, "?width=300&height=200&method=scale").status, 200);
    let other = download(&mut ann, "download", &format!("mxc://{}/somethingelse", b.name()), "");
    assert_eq!(other.status, 502);
}

#[test]
fn files_are_given_to_servers_that_sign_and_to_nobody_else() {
    let (_authority, _a, b) = pair();
    let mut ben = b.person("ben");
    let mxc = upload(&mut ben, "text/plain", "t.txt", b"text");
    let id = mxc.rsplit('/').next().unwrap();
    for path in [
        format!("media/download/{id}"),
        format!("media/thumbnail/{id}?width=10&height=10"),
        format!("user/devices/{}", encoded(&ben.user_id)),
    ] {
        let answer = b.http().get(&format!("/_matrix/federation/v1/{path}"));
        assert_eq!((answer.status, answer.errcode().as_str()), (401, "M_UNAUTHORIZED"), "{path}");
    }
}
