//! Event filters of the Client-Server API.

use ruma::api::client::filter::{RoomEventFilter, UrlFilter};

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Event type.
    pub kind: &'a str,
    /// Sender.
    pub sender: &'a str,
    /// The event's JSON, looked into for `url` when the filter asks.
    pub json: &'a str,
}

/// Does the event pass? Limit, rooms and lazy loading are the caller's business.
#[must_use]
pub fn passes(filter: &RoomEventFilter, facts: Facts<'_>) -> bool {
    if filter.types.as_ref().is_some_and(|types| !types.iter().any(|pattern| matches(pattern, facts.kind)))
        || filter.not_types.iter().any(|pattern| matches(pattern, facts.kind))
        || filter.senders.as_ref().is_some_and(|senders| !senders.iter().any(|sender| sender == facts.sender))
        || filter.not_senders.iter().any(|sender| sender == facts.sender)
    {
        return false;
    }
    match &filter.url_filter {
        None => true,
        Some(UrlFilter::EventsWithUrl) => has_url(facts.json),
        Some(UrlFilter::EventsWithoutUrl) => !has_url(facts.json),
    }
}

/// A type pattern: `*` stands for any run of characters.
fn matches(pattern: &str, kind: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return false };
    let Some(mut rest) = kind.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.split_once(middle) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(end) => rest.ends_with(end),
    }
}

fn has_url(json: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Event {
        content: Content,
    }
    #[derive(serde::Deserialize)]
    struct Content {
        url: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_str::<Event>(json).is_ok_and(|event| event.content.url.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        for (pattern, kind, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("m.room.*", "m.room.member", true),
            ("*", "anything", true),
            ("m.*.x", "m.a.x", true),
            ("m.*.x", "m.x", false),
            ("m.*.a.*.x", "m.1.a.2.x", true),
            ("m.*a*a", "m.a", false),
        ] {
            assert_eq!(matches(pattern, kind), expected, "{pattern} {kind}");
        }
    }
}
