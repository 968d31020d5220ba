//! State groups that are too large for one transaction: written in pieces, so that other writes go on in between.
//!
//! Until nothing points to a group, nobody sees it. What a crash leaves unfinished is removed when the store is opened.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{Reader, Result, Tx, state};
use crate::homeserver::types::{EventNid, RoomNid, StateGroupId, StateKeyNid};

/// A state group to be.
#[derive(Debug)]
pub struct Blueprint {
    /// The group that it builds on.
    pub parent: Option<StateGroupId>,
    /// Its number in its line of succession.
    pub number: i64,
    /// What differs from the parent.
    pub entries: Vec<(StateKeyNid, Option<EventNid>)>,
}

/// How to come by the group of a state.
#[derive(Debug)]
pub enum Plan {
    /// It is there.
    Here(StateGroupId),
    /// It has to be made.
    Make(Blueprint),
}

/// How to come by the group of a state given in full: what differs from `base` where that is little, a line of its own otherwise.
///
/// # Errors
///
/// Database errors.
pub fn plan(db: &Reader<'_>, base: Option<StateGroupId>, state: &BTreeMap<StateKeyNid, EventNid>) -> Result<Plan> {
    if let Some(base) = base {
        let changes = state::difference(&state::of_group(db, base)?, state);
        if changes.is_empty() {
            return Ok(Plan::Here(base));
        }
        if changes.len() < state.len() / 2 + 8 {
            let (parent, number, changes) = state::successor(db, base, changes)?;
            return Ok(Plan::Make(Blueprint { parent: Some(parent), number, entries: changes.into_iter().collect() }));
        }
    }
    let entries = state.iter().map(|(key, event)| (*key, Some(*event))).collect();
    Ok(Plan::Make(Blueprint { parent: None, number: 0, entries }))
}

/// Begins a group. Nothing may point to it before [`finish`].
///
/// # Errors
///
/// Database errors.
pub fn begin(tx: &Tx<'_>, room: RoomNid, blueprint: &Blueprint) -> Result<StateGroupId> {
    let group = state::insert_group(tx, room, blueprint.parent, blueprint.number)?;
    tx.prepare_cached("INSERT INTO unfinished_groups (group_id) VALUES (?1)")?.execute([group.0])?;
    Ok(group)
}

/// Adds some of its entries.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, group: StateGroupId, entries: &[(StateKeyNid, Option<EventNid>)]) -> Result<()> {
    for (key, event) in entries {
        state::insert_entry(tx, group, *key, *event)?;
    }
    Ok(())
}

/// The group is complete.
///
/// # Errors
///
/// Database errors.
pub fn finish(tx: &Tx<'_>, group: StateGroupId) -> Result<()> {
    tx.prepare_cached("DELETE FROM unfinished_groups WHERE group_id = ?1")?.execute([group.0])?;
    Ok(())
}

/// Removes what was never finished. For a store that nobody writes to yet.
pub(super) fn sweep(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         DELETE FROM state_group_entries WHERE group_id IN (SELECT group_id FROM unfinished_groups);
         DELETE FROM state_groups WHERE group_id IN (SELECT group_id FROM unfinished_groups);
         DELETE FROM unfinished_groups;
         COMMIT",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::homeserver::store::{Observer, Store, StoreError};

    type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

    #[tokio::test]
    async fn what_was_not_finished_is_gone_after_a_restart() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("node.db");
        let store = Store::open(&path, Observer(Arc::new(|_| {})))?;
        let made = store.write(|tx| {
            tx.execute_batch("INSERT INTO rooms (room_nid, room_id, version, created_ms) VALUES (1, '!r', '12', 0)")?;
            let key = state::intern_key(tx, "t", "")?;
            let blueprint = Blueprint { parent: None, number: 0, entries: vec![(key, None)] };
            let (kept, left) = (begin(tx, RoomNid(1), &blueprint)?, begin(tx, RoomNid(1), &blueprint)?);
            for group in [kept, left] {
                add(tx, group, &blueprint.entries)?;
            }
            finish(tx, kept)?;
            Ok::<_, StoreError>(kept)
        });
        let kept = made.await?;
        tokio::task::spawn_blocking(move || store.close()).await?;
        let store = Store::open(&path, Observer(Arc::new(|_| {})))?;
        let left = store.read(|db| {
            let groups: Vec<i64> =
                db.prepare("SELECT group_id FROM state_groups")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let entries: i64 = db.query_row("SELECT count(*) FROM state_group_entries", [], |row| row.get(0))?;
            let unfinished: i64 = db.query_row("SELECT count(*) FROM unfinished_groups", [], |row| row.get(0))?;
            Ok::<_, StoreError>((groups, entries, unfinished))
        });
        assert_eq!(left.await?, (vec![kept.0], 1, 0));
        Ok(())
    }
}
