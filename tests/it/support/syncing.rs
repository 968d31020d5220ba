//! A client that syncs on from where it was, and waits for what it is told.

use serde_json::{Value, json};

use super::{Person, eventually, http::encoded};

/// A client that syncs on from where it was.
pub struct Client {
    pub person: Person,
    since: Option<String>,
}

impl Client {
    /// Syncs for the first time.
    pub fn new(person: Person) -> Self {
        let mut client = Self { person, since: None };
        client.sync();
        client
    }

    /// What is new.
    pub fn sync(&mut self) -> Value {
        let since = self.since.take().map(|since| format!("&since={}", encoded(&since))).unwrap_or_default();
        let answer = self.person.http.get(&format!("/_matrix/client/v3/sync?timeout=0{since}")).ok();
        self.since = answer["next_batch"].as_str().map(ToOwned::to_owned);
        answer
    }

    /// Syncs on until something is told.
    #[track_caller]
    pub fn told<T>(&mut self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        eventually(what, || find(&self.sync()))
    }

    #[track_caller]
    pub fn told_ephemeral(&mut self, room: &str, kind: &str, find: impl Fn(&Value) -> bool) {
        self.told(&format!("{kind} in {room}"), |sync| {
            let events = sync["rooms"]["join"][room]["ephemeral"]["events"].as_array()?;
            events.iter().any(|event| event["type"] == kind && find(&event["content"])).then_some(())
        });
    }

    #[track_caller]
    pub fn told_changed(&mut self, user_id: &str) {
        self.told(&format!("{user_id}'s devices to be new"), |sync| {
            sync["device_lists"]["changed"].as_array()?.iter().any(|user| user == user_id).then_some(())
        });
    }

    /// Messages to this device, as far as they have come since the last look.
    #[track_caller]
    pub fn told_message(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        eventually(&format!("the message {text}"), || {
            let sync = self.sync();
            for event in sync["to_device"]["events"].as_array().into_iter().flatten() {
                all.push(event["content"]["n"].as_str().unwrap_or_default().to_owned());
            }
            all.iter().any(|known| known == text).then_some(())
        });
        all
    }

    /// Uploads the device's keys.
    pub fn upload(&mut self) {
        let (user, device) = (self.person.user_id.clone(), self.person.device_id.clone());
        let keys = json!({
            "user_id": user,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("ed25519:{device}"): "a2V5" },
            "signatures": { user: { format!("ed25519:{device}"): "c2ln" } },
        });
        self.person.http.post("/_matrix/client/v3/keys/upload", &json!({ "device_keys": keys })).ok();
    }

    /// What the server knows of somebody's keys.
    pub fn query(&mut self, user_id: &str) -> Value {
        self.person.http.post("/_matrix/client/v3/keys/query", &json!({ "device_keys": { user_id: [] }, "timeout": 30_000 })).ok()
    }

    #[track_caller]
    pub fn devices(&mut self, user_id: &str) -> Vec<String> {
        let answer = self.query(user_id);
        assert_eq!(answer["failures"], json!({}));
        let mut devices = answer["device_keys"][user_id].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        devices.sort();
        devices
    }

    /// Sends a message to a device.
    pub fn send(&mut self, user_id: &str, device: &str, text: &str) {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", Person::transaction());
        self.person.http.put(&path, &json!({ "messages": { user_id: { device: { "n": text } } } })).ok();
    }
}
