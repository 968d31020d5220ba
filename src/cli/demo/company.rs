//! Company for the guest: whoever is around reacts to what the guest writes and answers it.
//!
//! Sees what the guest's own devices see, through a session of the guest's; what is encrypted stays closed to it, so answers
//! there are such that fit anything.

use std::time::Duration;

use http::Method;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use super::{
    hand::{Hand, encoded},
    stage::StageError,
};

/// How long one look waits for something to happen.
const WAIT: Duration = Duration::from_secs(30);

/// Something that the guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub room_id: OwnedRoomId,
    /// What it is called.
    pub event_id: OwnedEventId,
    /// What it says, where that can be read.
    pub text: Option<String>,
    /// The thread that it is in.
    pub thread: Option<OwnedEventId>,
}

/// Watches what the guest writes.
#[derive(Debug)]
pub struct Watch<'a> {
    guest: &'a Hand,
    user: String,
    from_ms: u64,
    since: Option<String>,
}

impl<'a> Watch<'a> {
    /// From a moment on: what is told of the past was never written by the guest.
    #[must_use]
    pub fn new(guest: &'a Hand, user: String, from_ms: u64) -> Self {
        Self { guest, user, from_ms, since: None }
    }

    /// What was written since the last look; waits for something, though not for ever.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn look(&mut self) -> Result<Vec<Written>, StageError> {
        let none = json!({ "types": [] });
        let timeline = json!({ "limit": 20, "types": ["m.room.message", "m.room.encrypted"], "senders": [self.user] });
        let room = json!({ "timeline": timeline, "state": none, "ephemeral": none, "account_data": none });
        let filter = json!({ "room": room, "presence": none, "account_data": none }).to_string();
        let mut path = format!("/_matrix/client/v3/sync?set_presence=offline&filter={}", encoded(&filter));
        if let Some(since) = &self.since {
            path.push_str(&format!("&timeout={}&since={}", WAIT.as_millis(), encoded(since)));
        }
        let answer = self.guest.call(Method::GET, &path, &Value::Null).await?;
        self.since = answer.get("next_batch").and_then(Value::as_str).map(str::to_owned);
        Ok(written(&answer, &self.user, self.from_ms))
    }
}

fn written(answer: &Value, user: &str, from_ms: u64) -> Vec<Written> {
    let rooms = answer.pointer("/rooms/join").and_then(Value::as_object).into_iter().flatten();
    let events = rooms.flat_map(|(room_id, room)| {
        let events = room.pointer("/timeline/events").and_then(Value::as_array).into_iter().flatten();
        events.map(move |event| (room_id, event))
    });
    events
        .filter(|(_, event)| event.get("sender").and_then(Value::as_str) == Some(user))
        .filter(|(_, event)| event.get("origin_server_ts").and_then(Value::as_u64).is_some_and(|at_ms| at_ms >= from_ms))
        // An edit is nothing new.
        .filter(|(_, event)| event.pointer("/content/m.relates_to/rel_type").and_then(Value::as_str) != Some("m.replace"))
        .filter_map(|(room_id, event)| {
            let relation = event.pointer("/content/m.relates_to");
            let thread = relation.filter(|relation| relation.get("rel_type").and_then(Value::as_str) == Some("m.thread"));
            Some(Written {
                room_id: room_id.as_str().try_into().ok()?,
                event_id: event.get("event_id")?.as_str()?.try_into().ok()?,
                text: event.pointer("/content/body").and_then(Value::as_str).map(str::to_owned),
                thread: thread.and_then(|thread| thread.get("event_id")?.as_str()?.try_into().ok()),
            })
        })
        .collect()
}

/// Answers: what the message must hold (none: anything), and what may be said to it.
const ANSWERS: [(&[&str], &[&str]); 8] = [
    (&["thank", "thanks", "cheers"], &["Any time!", "You are welcome.", "Of course. That is what we are here for."]),
    (&["bye", "good night", "see you"], &["See you!", "Sleep well, when you get there.", "Until next time."]),
    (&["sorry"], &["No harm done.", "Happens to all of us, and to me twice a week.", "Nothing to be sorry for."]),
    (
        &["help", "how do", "how can"],
        &["`F1` shows every key, and `Ctrl+P` finds any action by name.", "Try `Ctrl+P`, it knows everything here."],
    ),
    (&["hello", "hi", "hey", "morning", "moin", "hallo"], &["Hello robin!", "Hi! Good to see you here.", "Hello! The kettle is on."]),
    (&["test"], &["Loud and clear.", "Arrived, in one piece.", "Received. Over."]),
    (
        &["?"],
        &[
            "Good question. Let me think about it until the tea is ready.",
            "I would say yes, but ask Elke.",
            "Nobody knows. We could put it on the list.",
        ],
    ),
    (&[], &["I like that.", "Tell us more!", "Noted, it goes on the list.", "That is what I said on Monday.", "Hear, hear.", "Ha! Yes."]),
];
/// Answers to what only the people in the room can read.
const IN_CONFIDENCE: [&str; 5] = [
    "Got it. And nobody but us can read it.",
    "That stays between us: not even the server knows what you wrote.",
    "Read and understood.",
    "Agreed. Let us talk about it on Tuesday.",
    "Good. I shall keep it to myself.",
];
const REACTIONS: [&str; 6] = ["👍", "❤️", "😄", "🎉", "👀", "🙏"];

/// What somebody says to it.
pub fn answer(text: Option<&str>, random: &mut StdRng) -> &'static str {
    let Some(text) = text else { return IN_CONFIDENCE.choose(random).copied().unwrap_or_default() };
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let holds = |wanted: &&str| if wanted.chars().all(char::is_alphanumeric) { words.contains(wanted) } else { text.contains(*wanted) };
    let found = ANSWERS.iter().find(|(wanted, _)| wanted.is_empty() || wanted.iter().any(holds));
    found.and_then(|(_, answers)| answers.choose(random)).copied().unwrap_or_default()
}

/// With what somebody reacts, if at all.
pub fn reaction(random: &mut StdRng) -> Option<&'static str> {
    if random.random_bool(0.6) { REACTIONS.choose(random).copied() } else { None }
}

/// Who answers: whoever is called by name, otherwise anybody.
pub fn who<'a>(text: Option<&str>, people: &[&'a str], random: &mut StdRng) -> Option<&'a str> {
    let text = text.unwrap_or_default().to_lowercase();
    let called = people.iter().find(|key| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == **key));
    called.or_else(|| people.choose(random)).copied()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn answers_fit_what_was_written() {
        let mut random = StdRng::seed_from_u64(1);
        let of = |text: &str| ANSWERS.iter().find(|(wanted, _)| wanted.contains(&text)).map(|(_, answers)| *answers).unwrap_or_default();
        assert!(of("hello").contains(&answer(Some("Hello everybody!"), &mut random)));
        assert!(of("?").contains(&answer(Some("Is there cake?"), &mut random)));
        assert!(!of("hi").contains(&answer(Some("This is nothing"), &mut random)), "a word, not a part of one");
        assert!(IN_CONFIDENCE.contains(&answer(None, &mut random)));
        assert_eq!(who(Some("what does Elke say"), &["sam", "elke"], &mut random), Some("elke"));
        assert_eq!(who(Some("hello"), &[], &mut random), None);
    }

    #[test]
    fn only_what_the_guest_wrote_anew_is_seen() {
        let event = |id: &str, sender: &str, content: Value| json!({ "event_id": id, "sender": sender, "content": content, "origin_server_ts": 10 });
        let events = [
            event("$a", "@robin:x", json!({ "body": "hello" })),
            event("$b", "@wren:x", json!({ "body": "hello" })),
            event("$c", "@robin:x", json!({ "body": "* hullo", "m.relates_to": { "rel_type": "m.replace", "event_id": "$a" } })),
            event("$d", "@robin:x", json!({ "body": "so", "m.relates_to": { "rel_type": "m.thread", "event_id": "$b" } })),
            event("$e", "@robin:x", json!({ "ciphertext": "..." })),
            json!({ "event_id": "$f", "sender": "@robin:x", "content": { "body": "of old" }, "origin_server_ts": 9 }),
        ];
        let seen = written(&json!({ "rooms": { "join": { "!r:x": { "timeline": { "events": events } } } } }), "@robin:x", 10);
        let shown: Vec<_> = seen.iter().map(|w| (w.event_id.as_str(), w.text.as_deref(), w.thread.is_some())).collect();
        assert_eq!(shown, [("$a", Some("hello"), false), ("$d", Some("so"), true), ("$e", None, false)]);
    }
}
