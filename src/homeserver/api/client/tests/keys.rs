//! End-to-end keys and to-device messages.

use ruma::{
    CanonicalJsonObject,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, PASSWORD, TestNode, password_stage, refused},
    store,
    types::StreamPos,
};

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";
const SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

fn device_keys(client: &Client, key: &str) -> Value {
    json!({
        "user_id": client.user_id,
        "device_id": client.device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{}", client.device_id): key, format!("curve25519:{}", client.device_id): key },
        "signatures": { client.user_id.clone(): { format!("ed25519:{}", client.device_id): "c2ln" } },
    })
}

fn one_time(key: &str) -> Value {
    json!({ "key": key, "signatures": { "@ann:home.test": { "ed25519:ONE": "c2ln" } } })
}

#[tokio::test]
async fn device_keys_come_back_with_the_devices_name() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let keys = device_keys(&ann, "a2V5");
    assert_eq!(test.post(&ann, UPLOAD, json!({ "device_keys": keys })).await.1, json!({ "one_time_key_counts": {} }));
    let (status, answer) = test.post(&ben, QUERY, json!({ "device_keys": { "@ann:home.test": [], "@nobody:home.test": [] } })).await;
    assert_eq!(status, 200);
    assert_eq!(answer["device_keys"], json!({ "@ann:home.test": { "ONE": keys } }));
}

#[tokio::test]
async fn keys_of_others_and_malformed_keys_are_refused() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let good = device_keys(&ann, "a2V5");
    let mut cases = vec![device_keys(&ben, "a2V5"), json!("x"), json!([])];
    for (field, value) in [
        ("device_id", json!("OTHER")),
        ("user_id", json!(["@ann:home.test"])),
        ("algorithms", json!("m.olm")),
        ("algorithms", json!([1])),
        ("keys", json!({})),
        ("keys", json!({ "ed25519:ONE": 1 })),
        ("keys", json!({ "ed25519:ONE": "a", "ed25519:TWO": "b" })),
        ("keys", json!({ "ed25519:ONE": "a", "nonsense": "b" })),
        ("signatures", json!({ "@ann:home.test": "x" })),
        ("signatures", json!({ "@ann:home.test": { "ed25519:ONE": null } })),
        ("extra", json!("x".repeat(20_000))),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        cases.push(bad);
    }
    for bad in cases {
        let answer = test.post(&ann, UPLOAD, json!({ "device_keys": bad })).await;
        assert_eq!(refused(&answer), (400, "M_BAD_JSON"), "{bad}");
    }
    assert_eq!(
        test.post(&ben, QUERY, json!({ "device_keys": { "@ann:home.test": [] } })).await.1["device_keys"],
        json!({ "@ann:home.test": {} })
    );
}

#[tokio::test]
async fn a_devices_identity_keys_never_change() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    assert_eq!(test.post(&ann, UPLOAD, json!({ "device_keys": device_keys(&ann, "b2xk") })).await.0, 200);
    assert_eq!(test.post(&ann, UPLOAD, json!({ "device_keys": device_keys(&ann, "b2xk") })).await.0, 200);
    assert_eq!(refused(&test.post(&ann, UPLOAD, json!({ "device_keys": device_keys(&ann, "bmV3") })).await), (400, "M_INVALID_PARAM"));
    let (_, answer) = test.post(&ann, QUERY, json!({ "device_keys": { "@ann:home.test": ["ONE"] } })).await;
    assert_eq!(answer["device_keys"]["@ann:home.test"]["ONE"]["keys"]["ed25519:ONE"], json!("b2xk"));
}

#[tokio::test]
async fn one_time_keys_are_claimed_once_in_upload_order_then_the_fallback_key() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    for id in ["AAAAZ", "AAAAB", "AAAAC"] {
        test.post(&ann, UPLOAD, json!({ "one_time_keys": { format!("signed_curve25519:{id}"): one_time(id) } })).await;
    }
    let fallback = json!({ "fallback_keys": { "signed_curve25519:FB": { "key": "ZmI", "fallback": true, "signatures": {} } } });
    let (_, counts) = test.post(&ann, UPLOAD, fallback).await;
    assert_eq!(counts, json!({ "one_time_key_counts": { "signed_curve25519": 3 } }));
    let claim = json!({ "one_time_keys": { "@ann:home.test": { "ONE": "signed_curve25519", "GONE": "signed_curve25519" } } });
    for id in ["AAAAZ", "AAAAB", "AAAAC", "FB", "FB"] {
        let (status, answer) = test.post(&ben, CLAIM, claim.clone()).await;
        assert_eq!(status, 200);
        let keys = answer["one_time_keys"]["@ann:home.test"]["ONE"].as_object().unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), [&format!("signed_curve25519:{id}")]);
    }
    let device: ruma::OwnedDeviceId = "ONE".into();
    let unused = test.node.store.read(move |db| {
        let user = store::users::find(db, ruma::user_id!("@ann:home.test"))?.unwrap();
        store::one_time_keys::unused_fallbacks(db, user, &device)
    });
    assert_eq!(unused.await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_with_a_conflicting_one_time_key_changes_nothing() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let first = json!({ "one_time_keys": { "signed_curve25519:A": one_time("a2V5") } });
    assert_eq!(test.post(&ann, UPLOAD, first.clone()).await.0, 200);
    assert_eq!(test.post(&ann, UPLOAD, first).await.1, json!({ "one_time_key_counts": { "signed_curve25519": 1 } }));
    let both = json!({ "one_time_keys": { "signed_curve25519:0": one_time("bmV3"), "signed_curve25519:A": one_time("b3RoZXI") } });
    let answer = test.post(&ann, UPLOAD, both).await;
    assert_eq!(answer.0, 400);
    // matrix-sdk reads both keys out of this sentence.
    let message = answer.1["error"].as_str().unwrap();
    assert!(message.starts_with("One time key signed_curve25519:A already exists. Old key: {\"key\":\"a2V5\""), "{message}");
    assert_eq!(test.post(&ann, UPLOAD, json!({})).await.1, json!({ "one_time_key_counts": { "signed_curve25519": 1 } }));
}

#[tokio::test]
async fn concurrent_claims_never_get_the_same_one_time_key() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let keys = (0..20).map(|n| (format!("signed_curve25519:{n:04}"), one_time("a2V5"))).collect::<serde_json::Map<_, _>>();
    test.post(&ann, UPLOAD, json!({ "one_time_keys": keys })).await;
    let claim = || test.post(&ben, CLAIM, json!({ "one_time_keys": { "@ann:home.test": { "ONE": "signed_curve25519" } } }));
    let answers = futures_util::future::join_all((0..30).map(|_| claim())).await;
    let mut got = answers
        .iter()
        .filter_map(|(_, a)| a["one_time_keys"]["@ann:home.test"]["ONE"].as_object()?.keys().next().cloned())
        .collect::<Vec<_>>();
    got.sort();
    let before = got.len();
    got.dedup();
    assert_eq!((before, got.len()), (20, 20));
}

pub(super) struct Key {
    pair: Ed25519KeyPair,
    public: String,
}

pub(super) fn key() -> Key {
    use base64::Engine;
    let pair = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "x".into()).unwrap();
    let public = base64::engine::general_purpose::STANDARD_NO_PAD.encode(pair.public_key());
    Key { pair, public }
}

/// Signs in a user's name; the signature is found under `ed25519:{name}`.
fn sign(object: &Value, user: &str, key: &Key, name: &str) -> Value {
    let mut canonical: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    canonical.remove("signatures");
    sign_json(user, &key.pair, &mut canonical).unwrap();
    let signed = serde_json::to_value(&canonical).unwrap();
    let mut result = object.clone();
    result["signatures"][user][format!("ed25519:{name}")] = signed["signatures"][user]["ed25519:x"].clone();
    result
}

pub(super) fn signing_key(user: &str, usage: &str, key: &Key) -> Value {
    json!({ "user_id": user, "usage": [usage], "keys": { format!("ed25519:{}", key.public): key.public } })
}

#[tokio::test]
async fn the_first_cross_signing_keys_need_no_password_and_new_ones_do() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let (master, self_signing) = (key(), key());
    let signed = sign(&signing_key(&ann.user_id, "self_signing", &self_signing), &ann.user_id, &master, &master.public);
    let first = json!({ "master_key": signing_key(&ann.user_id, "master", &master), "self_signing_key": signed });
    assert_eq!(test.post(&ann, SIGNING, first.clone()).await.0, 200);
    assert_eq!(test.post(&ann, SIGNING, first.clone()).await.0, 200, "the same again changes nothing");
    let new = key();
    let mut second = json!({ "master_key": signing_key(&ann.user_id, "master", &new) });
    let (status, challenge) = test.post(&ann, SIGNING, second.clone()).await;
    assert_eq!((status.as_u16(), &challenge["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    second["auth"] = password_stage(&challenge["session"], "ann", "wrong");
    assert_eq!(refused(&test.post(&ann, SIGNING, second.clone()).await), (401, "M_FORBIDDEN"));
    second["auth"] = password_stage(&challenge["session"], "ann", PASSWORD);
    assert_eq!(test.post(&ann, SIGNING, second).await.0, 200);
    let (_, answer) = test.post(&ann, QUERY, json!({ "device_keys": { "@ann:home.test": [] } })).await;
    assert_eq!(answer["master_keys"]["@ann:home.test"]["keys"], json!({ format!("ed25519:{}", new.public): new.public }));
    assert_eq!(answer["self_signing_keys"], json!({}), "the old one is not signed by the new master key");
}

#[tokio::test]
async fn no_device_and_no_cross_signing_key_have_the_same_id() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let (taken, master) = (key(), key());
    let other = test.client("ann", &taken.public).await;
    let upload = |key: &Key| json!({ "master_key": signing_key(&ann.user_id, "master", key) });
    assert_eq!(refused(&test.post(&ann, SIGNING, upload(&taken)).await), (403, "M_FORBIDDEN"));
    assert_eq!(test.post(&ann, SIGNING, upload(&master)).await.0, 200);
    let login = |device: &str, user: &str| {
        let identifier = json!({ "type": "m.id.user", "user": user });
        json!({ "type": "m.login.password", "identifier": identifier, "password": PASSWORD, "device_id": device })
    };
    let sign_in = |body: Value| test.call("POST", "/_matrix/client/v3/login", None, body);
    assert_eq!(refused(&sign_in(login(&master.public, "ann")).await), (400, "M_INVALID_PARAM"));
    let dehydrated = json!({ "device_id": master.public, "device_data": { "algorithm": "x" }, "device_keys": {
        "user_id": ann.user_id, "device_id": master.public, "algorithms": [], "keys": { format!("ed25519:{}", master.public): "a2V5" },
        "signatures": {} } });
    let path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
    assert_eq!(refused(&test.put(&ann, path, dehydrated).await), (400, "M_INVALID_PARAM"));
    let (_, devices) = test.get(&ann, "/_matrix/client/v3/devices").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 2, "{devices}");
    assert_eq!(test.get(&other, "/_matrix/client/v3/account/whoami").await.0, 200);
    test.client("ben", &master.public).await;
}

#[tokio::test]
async fn a_self_signing_key_without_the_masters_signature_is_refused() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let (master, other) = (key(), key());
    let alone = json!({ "self_signing_key": signing_key(&ann.user_id, "self_signing", &other) });
    assert_eq!(refused(&test.post(&ann, SIGNING, alone).await), (400, "M_MISSING_PARAM"));
    let forged = sign(&signing_key(&ann.user_id, "self_signing", &other), &ann.user_id, &other, &master.public);
    let body = json!({ "master_key": signing_key(&ann.user_id, "master", &master), "self_signing_key": forged });
    assert_eq!(refused(&test.post(&ann, SIGNING, body).await), (400, "M_INVALID_SIGNATURE"));
    let others = json!({ "master_key": signing_key("@ben:home.test", "master", &master) });
    assert_eq!(refused(&test.post(&ann, SIGNING, others).await), (400, "M_BAD_JSON"));
    let (_, answer) = test.post(&ann, QUERY, json!({ "device_keys": { "@ann:home.test": [] } })).await;
    assert_eq!(answer["master_keys"], json!({}));
}

#[tokio::test]
async fn signatures_on_others_are_seen_by_the_signer_only_and_wrong_ones_are_refused() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let (ann_master, ann_user, ben_master) = (key(), key(), key());
    let user_signing = sign(&signing_key(&ann.user_id, "user_signing", &ann_user), &ann.user_id, &ann_master, &ann_master.public);
    let upload = json!({ "master_key": signing_key(&ann.user_id, "master", &ann_master), "user_signing_key": user_signing });
    assert_eq!(test.post(&ann, SIGNING, upload).await.0, 200);
    let target = signing_key(&ben.user_id, "master", &ben_master);
    assert_eq!(test.post(&ben, SIGNING, json!({ "master_key": target })).await.0, 200);

    let forged = sign(&target, &ann.user_id, &ann_master, &ann_user.public);
    let (_, answer) = test.post(&ann, SIGNATURES, json!({ "@ben:home.test": { ben_master.public.clone(): forged } })).await;
    assert_eq!(answer["failures"]["@ben:home.test"][&ben_master.public]["errcode"], json!("M_INVALID_SIGNATURE"));
    let good = sign(&target, &ann.user_id, &ann_user, &ann_user.public);
    let both = json!({ "@ben:home.test": { ben_master.public.clone(): good, "GONE": good } });
    let (status, answer) = test.post(&ann, SIGNATURES, both).await;
    assert_eq!((status.as_u16(), answer["failures"]["@ben:home.test"].as_object().unwrap().len()), (200, 1));

    let query = json!({ "device_keys": { "@ben:home.test": [] } });
    let seen_by_ann = test.post(&ann, QUERY, query.clone()).await.1;
    assert!(seen_by_ann["master_keys"]["@ben:home.test"]["signatures"]["@ann:home.test"].is_object());
    let seen_by_ben = test.post(&ben, QUERY, query).await.1;
    assert_eq!(seen_by_ben["master_keys"]["@ben:home.test"], target);
    let (_, of_ann) = test.post(&ben, QUERY, json!({ "device_keys": { "@ann:home.test": [] } })).await;
    assert_eq!(of_ann["user_signing_keys"], json!({}));
}

#[tokio::test]
async fn ones_own_device_is_signed_by_the_self_signing_key() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let (master, own, device) = (key(), key(), key());
    let keys = device_keys(&ann, &device.public);
    test.post(&ann, UPLOAD, json!({ "device_keys": keys })).await;
    let self_signing = sign(&signing_key(&ann.user_id, "self_signing", &own), &ann.user_id, &master, &master.public);
    let upload = json!({ "master_key": signing_key(&ann.user_id, "master", &master), "self_signing_key": self_signing });
    test.post(&ann, SIGNING, upload).await;
    let signed = json!({ "@ann:home.test": {
        "ONE": sign(&keys, &ann.user_id, &own, &own.public),
        master.public.clone(): sign(&signing_key(&ann.user_id, "master", &master), &ann.user_id, &device, "ONE"),
    }});
    assert_eq!(test.post(&ann, SIGNATURES, signed).await.1, json!({ "failures": {} }));
    let (_, answer) = test.post(&ann, QUERY, json!({ "device_keys": { "@ann:home.test": [] } })).await;
    let on_device = &answer["device_keys"]["@ann:home.test"]["ONE"]["signatures"]["@ann:home.test"];
    assert!(on_device[format!("ed25519:{}", own.public)].is_string() && on_device["ed25519:ONE"].is_string());
    assert!(answer["master_keys"]["@ann:home.test"]["signatures"]["@ann:home.test"]["ed25519:ONE"].is_string());
}

#[tokio::test]
async fn a_change_of_keys_is_told_to_those_who_share_a_room() {
    let test = TestNode::new().await;
    let (ann, ben, cat) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await, test.client("cat", "CAT").await);
    test.share_a_room(&[&ann, &ben]).await;
    let changes = async |who: &Client| test.get(who, "/_matrix/client/v3/keys/changes?from=s0&to=s1000").await.1["changed"].clone();
    assert_eq!(changes(&ben).await, json!(["@ann:home.test"]), "they share a room now");
    assert_eq!(changes(&cat).await, json!([]));
    let changes = async |who: &Client| test.get(who, "/_matrix/client/v3/keys/changes?from=s1&to=s1000").await.1["changed"].clone();
    test.post(&ann, UPLOAD, json!({ "device_keys": device_keys(&ann, "a2V5") })).await;
    assert_eq!(changes(&ben).await, json!(["@ann:home.test"]));
    assert_eq!(changes(&ann).await, json!(["@ann:home.test"]));
    assert_eq!(changes(&cat).await, json!([]));
    let odd = test.get(&ann, "/_matrix/client/v3/keys/changes?from=x&to=s1").await;
    assert_eq!(refused(&odd), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn who_leaves_the_last_common_room_is_named_as_left() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let room = test.post(&ann, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.1["room_id"].clone();
    let room = room.as_str().unwrap().replace('!', "%21").replace(':', "%3A");
    test.post(&ben, &format!("/_matrix/client/v3/join/{room}"), json!({})).await;
    let (_, before) = test.get(&ann, "/_matrix/client/v3/keys/changes?from=s0&to=s1000").await;
    assert_eq!(before, json!({ "changed": ["@ben:home.test"], "left": [] }));
    test.post(&ben, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await;
    for who in [&ann, &ben] {
        let (_, after) = test.get(who, "/_matrix/client/v3/keys/changes?from=s0&to=s1000").await;
        assert_eq!((after["changed"].clone(), after["left"].as_array().unwrap().len()), (json!([]), 1), "{after}");
    }
}

#[tokio::test]
async fn a_to_device_message_is_queued_once_per_transaction_for_the_devices_named() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let (_two, _ben) = (test.client("ann", "TWO").await, test.client("ben", "BEN").await);
    let body = json!({ "messages": {
        "@ann:home.test": { "*": { "n": 1 } },
        "@ben:home.test": { "BEN": { "n": 2 }, "GONE": { "n": 3 } },
        "@nobody:home.test": { "*": {} },
        "@far:other.test": { "*": {} },
    }});
    for _ in 0..2 {
        assert_eq!(test.put(&ann, "/_matrix/client/v3/sendToDevice/m.room_key/t1", body.clone()).await.0, 200);
    }
    let queued = test.node.store.read(|db| {
        let mut queued = Vec::new();
        for (user_id, device) in [("@ann:home.test", "ONE"), ("@ann:home.test", "TWO"), ("@ben:home.test", "BEN")] {
            let user = store::users::find(db, &ruma::UserId::parse(user_id).unwrap())?.unwrap();
            for message in store::sync_user::to_device(db, user, device.into(), StreamPos(0), StreamPos(i64::MAX), 10)? {
                queued.push([device.to_owned(), message.kind, message.sender, message.content]);
            }
        }
        Ok::<_, store::StoreError>(queued)
    });
    let (kind, sender) = ("m.room_key", "@ann:home.test");
    assert_eq!(queued.await.unwrap(), [["TWO", kind, sender, "{\"n\":1}"], ["BEN", kind, sender, "{\"n\":2}"]]);
    let odd = json!({ "messages": { "@ben:home.test": { "BEN": "text" } } });
    assert_eq!(refused(&test.put(&ann, "/_matrix/client/v3/sendToDevice/x/t2", odd).await), (400, "M_BAD_JSON"));
    let large = json!({ "messages": { "@ben:home.test": { "BEN": { "x": "x".repeat(70_000) } } } });
    assert_eq!(refused(&test.put(&ann, "/_matrix/client/v3/sendToDevice/x/t3", large).await), (413, "M_TOO_LARGE"));
}
