//! What people on several servers do with each other, over the Client-Server API.

use serde_json::{Value, json};

use super::{
    Person, eventually,
    http::{Answer, encoded},
};

pub fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encoded(room))
}

pub fn ask(who: &mut Person, what: &str, room: &str, via: &str) -> Answer {
    let path = format!("/_matrix/client/v3/{what}/{}?via={}", encoded(room), encoded(via));
    who.http.post(&path, &json!({}))
}

#[track_caller]
pub fn join(who: &mut Person, room: &str, via: &str) {
    ask(who, "join", room, via).ok();
}

pub fn post(who: &mut Person, room: &str, rest: &str, body: &Value) -> Answer {
    who.http.post(&path(room, rest), body)
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, errcode: &str) {
    assert_eq!((answer.status, answer.errcode().as_str()), (status, errcode), "{}", answer.text());
}

/// Somebody's membership as somebody sees it; empty where it is not to be seen.
pub fn membership(seer: &mut Person, room: &str, of: &str) -> String {
    let answer = seer.http.get(&path(room, &format!("state/m.room.member/{}", encoded(of))));
    answer.json()["membership"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
pub fn becomes(seer: &mut Person, room: &str, of: &str, wanted: &str) {
    eventually(&format!("{of} to be {wanted} in {room}"), || (membership(seer, room, of) == wanted).then_some(()));
}

pub fn sync(who: &mut Person) -> Value {
    who.http.get("/_matrix/client/v3/sync?timeout=0").ok()
}

pub fn joined_members(who: &mut Person, room: &str) -> Vec<String> {
    let answer = who.http.get(&path(room, "joined_members")).ok();
    answer["joined"].as_object().unwrap().keys().cloned().collect()
}

pub fn bodies(who: &mut Person, room: &str) -> Vec<String> {
    who.history(room).iter().filter_map(|event| event["content"]["body"].as_str().map(ToOwned::to_owned)).collect()
}

/// Waits until a room's messages are these, in whatever order.
#[track_caller]
pub fn hears(who: &mut Person, room: &str, wanted: &[&str]) {
    eventually(&format!("{wanted:?} in {room}"), || {
        let found = bodies(who, room);
        wanted.iter().all(|text| found.iter().any(|body| body == text)).then_some(())
    });
    let found = bodies(who, room);
    for text in wanted {
        assert_eq!(found.iter().filter(|body| body == text).count(), 1, "{text} once in {found:?}");
    }
}

pub fn invite_in(sync: &Value, room: &str) -> Option<Vec<Value>> {
    sync["rooms"]["invite"][room]["invite_state"]["events"].as_array().cloned()
}

/// Waits until somebody's client shows that they are out of a room, by a membership of theirs.
#[track_caller]
pub fn removed(who: &mut Person, room: &str, membership: &str) {
    eventually(&format!("{} to be shown {membership} in {room}", who.user_id), || {
        let shown = who.http.get("/_matrix/client/v3/sync?timeout=0&filter=%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D").ok();
        let events = shown["rooms"]["leave"][room]["timeline"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().any(|event| event["state_key"] == json!(who.user_id) && event["content"]["membership"] == membership).then_some(())
    });
}
