//! Changes of thread subscriptions, as clients are told of them (MSC4308).

use serde_json::{Map, Value, json};

use crate::homeserver::{
    store::{Reader, Result, threads},
    types::{StreamPos, Token, UserNid},
};

/// A user's changes with `after < position <= up_to`, the newest of them, and where to go on backwards when there are more.
///
/// # Errors
///
/// Database errors.
pub fn thread_changes(
    db: &Reader<'_>,
    user: UserNid,
    after: StreamPos,
    up_to: StreamPos,
    limit: usize,
) -> Result<(Map<String, Value>, Option<String>)> {
    let changes = threads::changes(db, user, after, up_to, limit.saturating_add(1))?;
    let more = changes.len() > limit;
    let mut told = Map::new();
    let mut reached = up_to;
    for change in changes.into_iter().take(limit) {
        reached = StreamPos(change.pos.0 - 1);
        let (section, mut entry) = match change.subscribed {
            true => ("subscribed", json!({ "automatic": change.automatic })),
            false => ("unsubscribed", json!({})),
        };
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("bump_stamp".into(), change.pos.0.into());
        }
        let rooms = told.entry(section).or_insert_with(|| json!({}));
        if let Some(rooms) = rooms.as_object_mut()
            && let Some(threads) = rooms.entry(change.room_id.to_string()).or_insert_with(|| json!({})).as_object_mut()
        {
            threads.insert(change.root.to_string(), entry);
        }
    }
    Ok((told, more.then(|| Token(reached).to_string())))
}
