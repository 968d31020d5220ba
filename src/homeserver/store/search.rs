//! Full-text search. The index is kept in the transactions that store and redact events, so it never tells of what is gone.

use serde::Deserialize;

use super::{Reader, Result, Tx, codec};
use crate::homeserver::types::{EventNid, RoomNid};

/// Words of a search that count.
const WORDS: usize = 32;
/// Matches that one search looks at, the newest of the whole node: ranking and joining are paid for each.
const CANDIDATES: i64 = 50_000;
/// Events that one round of [`catch_up`] walks past, most of which may have nothing to find in them.
const SPAN: i64 = 5_000;

/// A field that can be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `content.body` of messages.
    Body,
    /// `content.name` of room names.
    Name,
    /// `content.topic` of room topics.
    Topic,
}

impl Field {
    fn column(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Name => "name",
            Self::Topic => "topic",
        }
    }
}

#[derive(Deserialize)]
struct Texts {
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    body: Option<serde_json::Value>,
    #[serde(default)]
    name: Option<serde_json::Value>,
    #[serde(default)]
    topic: Option<serde_json::Value>,
}

/// True for types that may have something to be found in them.
pub(super) fn takes(kind: &str) -> bool {
    matches!(kind, "m.room.message" | "m.room.name" | "m.room.topic")
}

/// Adds an event, if there is something to be found in it.
///
/// # Errors
///
/// Database errors.
pub(super) fn add(tx: &Tx<'_>, event: EventNid, kind: &str, json: &str) -> Result<()> {
    if !takes(kind) {
        return Ok(());
    }
    // Content of a wrong form has no text.
    let Ok(Texts { content }) = serde_json::from_str::<Texts>(json) else { return Ok(()) };
    let text = |of: &str, value: Option<serde_json::Value>| value.filter(|_| of == kind).and_then(|v| v.as_str().map(ToOwned::to_owned));
    let (body, name, topic) =
        (text("m.room.message", content.body), text("m.room.name", content.name), text("m.room.topic", content.topic));
    if body.is_none() && name.is_none() && topic.is_none() {
        return Ok(());
    }
    tx.prepare_cached("INSERT INTO search_index (rowid, body, name, topic) VALUES (?1, ?2, ?3, ?4)")?
        .execute((event.0, body, name, topic))?;
    Ok(())
}

/// Removes an event: it was redacted.
pub(super) fn remove(tx: &Tx<'_>, event: EventNid) -> Result<()> {
    tx.prepare_cached("DELETE FROM search_index WHERE rowid = ?1")?.execute([event.0])?;
    Ok(())
}

/// Adds some of the events from before the index: at most so many, out of a bounded stretch. False when none are left.
///
/// # Errors
///
/// Database errors.
pub fn catch_up(tx: &Tx<'_>, limit: usize) -> Result<bool> {
    let next: i64 = tx.prepare_cached("SELECT next_nid FROM search_backlog")?.query_row([], |row| row.get(0))?;
    if next <= 0 {
        return Ok(false);
    }
    let mut query = tx.prepare_cached(
        "SELECT event_nid, type, json FROM events WHERE event_nid <= ?1 AND event_nid > ?2
           AND type IN ('m.room.message', 'm.room.name', 'm.room.topic') ORDER BY event_nid DESC LIMIT ?3",
    )?;
    let floor = next.saturating_sub(SPAN).max(0);
    let mut rows = query.query((next, floor, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let (mut reached, mut added) = (next, 0);
    while let Some(row) = rows.next()? {
        reached = row.get::<_, i64>(0)?;
        added += 1;
        let kind: String = row.get(1)?;
        let json = codec::unpack(row.get_ref(2)?.as_blob().map_err(|e| super::StoreError::Data(e.to_string()))?)?;
        add(tx, EventNid(reached), &kind, &json)?;
    }
    let next = if added < limit { floor } else { reached - 1 };
    tx.prepare_cached("UPDATE search_backlog SET next_nid = ?1")?.execute([next])?;
    Ok(next > 0)
}

/// The words of a search, as a person wrote them.
#[must_use]
pub fn words(term: &str) -> Vec<&str> {
    term.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(WORDS).collect()
}

/// Accepted events in these rooms that hold all words, best or newest first, among the newest events of the node that do. No
/// word means no event.
///
/// # Errors
///
/// Database errors.
pub fn find(db: &Reader<'_>, term: &str, fields: &[Field], rooms: &[RoomNid], by_rank: bool, limit: usize) -> Result<Vec<(EventNid, f64)>> {
    // Each word in quotes: nothing that a person writes is taken for the query language.
    let words = words(term).into_iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
    if words.is_empty() || fields.is_empty() || rooms.is_empty() {
        return Ok(Vec::new());
    }
    let columns = fields.iter().map(|field| field.column()).collect::<Vec<_>>().join(" ");
    let rooms = serde_json::to_string(&rooms.iter().map(|room| room.0).collect::<Vec<_>>()).unwrap_or_default();
    let order = if by_rank { "s.rank, e.origin_server_ts DESC" } else { "e.origin_server_ts DESC, e.event_nid DESC" };
    let mut query = db.prepare_cached(&format!(
        "SELECT e.event_nid, s.rank
         FROM (SELECT rowid, rank FROM search_index WHERE search_index MATCH ?1 ORDER BY rowid DESC LIMIT {CANDIDATES}) s
         JOIN events e ON e.event_nid = s.rowid
         WHERE e.room_nid IN (SELECT value FROM json_each(?2)) AND e.rejected IS NULL AND e.soft_failed = 0 AND e.stream_pos IS NOT NULL
         ORDER BY {order} LIMIT ?3"
    ))?;
    let query_text = format!("{{{columns}}} : ({words})");
    // bm25 is the smaller the better.
    let found = query.query_map((query_text, rooms, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
        Ok((EventNid(row.get(0)?), -row.get::<_, f64>(1)?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
