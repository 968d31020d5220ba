//! Room state: the current state, how it changed, and the state at any event through state groups.
//!
//! A group holds what differs from its parent. Groups of one line of succession are numbered; the parent of number n is n
//! without its lowest set bit (as in a Fenwick tree), so a state is read in at most log2(n) hops, a change costs about log2(n)/2
//! rows, and no full copy is ever written.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx};
use crate::homeserver::types::{EventNid, RoomNid, StateGroupId, StateKeyNid, StreamPos};

/// Outcomes of resolutions that are remembered, at most.
const MERGES_KEPT: i64 = 20_000;

/// The integer id of a (type, state key) pair, given out on first use.
///
/// # Errors
///
/// Database errors.
pub fn intern_key(tx: &Tx<'_>, kind: &str, state_key: &str) -> Result<StateKeyNid> {
    if let Some(found) = find_key(&tx.reader(), kind, state_key)? {
        return Ok(found);
    }
    tx.prepare_cached("INSERT INTO state_keys (type, state_key) VALUES (?1, ?2)")?.execute([kind, state_key])?;
    Ok(StateKeyNid(tx.last_insert_rowid()))
}

/// The integer id of a (type, state key) pair that some room has had.
///
/// # Errors
///
/// Database errors.
pub fn find_key(db: &Reader<'_>, kind: &str, state_key: &str) -> Result<Option<StateKeyNid>> {
    let mut query = db.prepare_cached("SELECT statekey_nid FROM state_keys WHERE type = ?1 AND state_key = ?2")?;
    Ok(query.query_row([kind, state_key], |row| row.get(0).map(StateKeyNid)).optional()?)
}

/// The (type, state key) pair behind an integer id.
///
/// # Errors
///
/// Database errors.
pub fn key(db: &Reader<'_>, key: StateKeyNid) -> Result<(String, String)> {
    let mut query = db.prepare_cached("SELECT type, state_key FROM state_keys WHERE statekey_nid = ?1")?;
    Ok(query.query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The current state event of a (type, state key) pair.
///
/// # Errors
///
/// Database errors.
pub fn current(db: &Reader<'_>, room: RoomNid, kind: &str, state_key: &str) -> Result<Option<EventNid>> {
    let mut query = db.prepare_cached(
        "SELECT c.event_nid FROM current_state c JOIN state_keys k USING (statekey_nid)
         WHERE c.room_nid = ?1 AND k.type = ?2 AND k.state_key = ?3",
    )?;
    Ok(query.query_row((room.0, kind, state_key), |row| row.get(0).map(EventNid)).optional()?)
}

/// The membership keys of a server's users who have, or had, a standing in a room.
///
/// # Errors
///
/// Database errors.
pub fn member_keys_of_server(db: &Reader<'_>, room: RoomNid, server: &ruma::ServerName) -> Result<Vec<StateKeyNid>> {
    let mut query = db.prepare_cached(
        "SELECT k.statekey_nid FROM members m JOIN users u USING (user_nid)
         CROSS JOIN state_keys k ON k.type = 'm.room.member' AND k.state_key = u.user_id
         WHERE m.room_nid = ?1 AND substr(u.user_id, instr(u.user_id, ':') + 1) = ?2",
    )?;
    let rows = query.query_map((room.0, server.as_str()), |row| row.get(0).map(StateKeyNid))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The whole current state, in no particular order.
///
/// # Errors
///
/// Database errors.
pub fn current_all(db: &Reader<'_>, room: RoomNid) -> Result<Vec<(StateKeyNid, EventNid)>> {
    let mut query = db.prepare_cached("SELECT statekey_nid, event_nid FROM current_state WHERE room_nid = ?1")?;
    let rows = query.query_map([room.0], |row| Ok((StateKeyNid(row.get(0)?), EventNid(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The current state events of one type, with their state keys.
///
/// # Errors
///
/// Database errors.
pub fn current_of_type(db: &Reader<'_>, room: RoomNid, kind: &str) -> Result<Vec<(String, EventNid)>> {
    let mut query = db.prepare_cached(
        "SELECT k.state_key, c.event_nid FROM current_state c JOIN state_keys k USING (statekey_nid)
         WHERE c.room_nid = ?1 AND k.type = ?2 ORDER BY c.event_nid",
    )?;
    let rows = query.query_map((room.0, kind), |row| Ok((row.get(0)?, EventNid(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Points a pair of the current state to an event, or to none, and notes the change for sync. Returns what it pointed to before.
///
/// # Errors
///
/// Database errors.
pub fn set_current(tx: &Tx<'_>, room: RoomNid, key: StateKeyNid, event: Option<EventNid>, pos: StreamPos) -> Result<Option<EventNid>> {
    let mut query = tx.prepare_cached("SELECT event_nid FROM current_state WHERE room_nid = ?1 AND statekey_nid = ?2")?;
    let before: Option<i64> = query.query_row((room.0, key.0), |row| row.get(0)).optional()?;
    match event {
        Some(event) => tx
            .prepare_cached(
                "INSERT INTO current_state (room_nid, statekey_nid, event_nid) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET event_nid = ?3",
            )?
            .execute((room.0, key.0, event.0))?,
        None => tx.prepare_cached("DELETE FROM current_state WHERE room_nid = ?1 AND statekey_nid = ?2")?.execute((room.0, key.0))?,
    };
    tx.prepare_cached(
        "INSERT INTO state_changes (room_nid, stream_pos, statekey_nid, event_nid, prev_event_nid) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((room.0, pos.0, key.0, event.map(|event| event.0), before))?;
    Ok(before.map(EventNid))
}

/// What a state key pointed to before the change at this position (which an event of ours made).
///
/// # Errors
///
/// Database errors.
pub fn replaced_at(db: &Reader<'_>, room: RoomNid, pos: StreamPos, key: StateKeyNid) -> Result<Option<EventNid>> {
    let mut query =
        db.prepare_cached("SELECT prev_event_nid FROM state_changes WHERE room_nid = ?1 AND stream_pos = ?2 AND statekey_nid = ?3")?;
    let found: Option<Option<i64>> = query.query_row((room.0, pos.0, key.0), |row| row.get(0)).optional()?;
    Ok(found.flatten().map(EventNid))
}

/// A new line of succession that starts with this state.
///
/// # Errors
///
/// Database errors.
pub fn root_group(tx: &Tx<'_>, room: RoomNid, state: impl IntoIterator<Item = (StateKeyNid, EventNid)>) -> Result<StateGroupId> {
    let group = insert_group(tx, room, None, 0)?;
    for (key, event) in state {
        insert_entry(tx, group, key, Some(event))?;
    }
    Ok(group)
}

/// What a state group changes: a key and the event that it points to, or none.
pub type Changes = BTreeMap<StateKeyNid, Option<EventNid>>;

/// The group that follows `base` when these keys change.
///
/// # Errors
///
/// Database errors.
pub fn next_group(tx: &Tx<'_>, room: RoomNid, base: StateGroupId, changes: Changes) -> Result<StateGroupId> {
    let (parent, number, changes) = successor(&tx.reader(), base, changes)?;
    let group = insert_group(tx, room, Some(parent), number)?;
    for (key, event) in changes {
        insert_entry(tx, group, key, event)?;
    }
    Ok(group)
}

/// What the group that follows `base` builds on when these keys change, its number, and what it has to hold.
pub(super) fn successor(db: &Reader<'_>, base: StateGroupId, changes: Changes) -> Result<(StateGroupId, i64, Changes)> {
    let (mut parent, mut at) = link(db, base)?;
    let number = at + 1;
    let wanted = number & (number - 1);
    // What happened between the new group's parent and here: the newest value of each key wins.
    let mut changed = changes;
    let mut here = base;
    while at != wanted {
        for (key, event) in entries(db, here)? {
            changed.entry(key).or_insert(event);
        }
        here = parent.ok_or_else(|| StoreError::Data(format!("state group {} has no parent", here.0)))?;
        (parent, at) = link(db, here)?;
    }
    Ok((here, number, changed))
}

/// What makes one state into another.
#[must_use]
pub fn difference(before: &BTreeMap<StateKeyNid, EventNid>, after: &BTreeMap<StateKeyNid, EventNid>) -> Changes {
    let set = after.iter().filter(|(key, event)| before.get(key) != Some(event)).map(|(key, event)| (*key, Some(*event)));
    let gone = before.keys().filter(|key| !after.contains_key(key)).map(|key| (*key, None));
    set.chain(gone).collect()
}

/// The keys on which these states disagree, each with its value in every one of them, in the order of `groups`.
///
/// Reads what the states do not share, not the states.
///
/// # Errors
///
/// Database errors.
pub fn divergence(db: &Reader<'_>, groups: &[StateGroupId]) -> Result<BTreeMap<StateKeyNid, Vec<Option<EventNid>>>> {
    let lines = groups.iter().map(|group| line(db, *group)).collect::<Result<Vec<_>>>()?;
    // The newest group that all of them go back to; what lies before it is the same for all.
    let others: Vec<BTreeSet<StateGroupId>> = lines.iter().skip(1).map(|line| line.iter().copied().collect()).collect();
    let shared = lines.first().and_then(|first| first.iter().copied().find(|group| others.iter().all(|line| line.contains(group))));
    let mut own = Vec::with_capacity(groups.len());
    let mut keys = BTreeSet::new();
    for line in &lines {
        let mut changes = Changes::new();
        for group in line.iter().take_while(|group| Some(**group) != shared) {
            for (key, event) in entries(db, *group)? {
                changes.entry(key).or_insert(event);
            }
        }
        keys.extend(changes.keys().copied());
        own.push(changes);
    }
    let mut found = BTreeMap::new();
    for key in keys {
        let before = match shared {
            Some(group) if own.iter().any(|changes| !changes.contains_key(&key)) => key_of_group(db, group, key)?,
            _ => None,
        };
        let values: Vec<Option<EventNid>> = own.iter().map(|changes| changes.get(&key).copied().unwrap_or(before)).collect();
        if values.iter().any(|value| Some(value) != values.first()) {
            found.insert(key, values);
        }
    }
    Ok(found)
}

/// A group and those that it builds on, newest first.
fn line(db: &Reader<'_>, group: StateGroupId) -> Result<Vec<StateGroupId>> {
    let mut line = Vec::new();
    let mut next = Some(group);
    while let Some(group) = next {
        line.push(group);
        next = link(db, group)?.0;
    }
    Ok(line)
}

/// The outcome of resolving these states, if it is known. The groups are in ascending order.
///
/// # Errors
///
/// Database errors.
pub fn merge(db: &Reader<'_>, groups: &[StateGroupId]) -> Result<Option<StateGroupId>> {
    let mut query = db.prepare_cached("SELECT group_id FROM state_merges WHERE groups = ?1")?;
    Ok(query.query_row([merge_key(groups)], |row| row.get(0).map(StateGroupId)).optional()?)
}

/// Remembers the outcome of resolving these states. Old ones are forgotten.
///
/// # Errors
///
/// Database errors.
pub fn add_merge(tx: &Tx<'_>, groups: &[StateGroupId], outcome: StateGroupId) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO state_merges (groups, group_id) VALUES (?1, ?2)")?.execute((merge_key(groups), outcome.0))?;
    let last = tx.last_insert_rowid();
    tx.prepare_cached("DELETE FROM state_merges WHERE merge_nid <= ?1")?.execute([last - MERGES_KEPT])?;
    Ok(())
}

fn merge_key(groups: &[StateGroupId]) -> String {
    groups.iter().map(|group| group.0.to_string()).collect::<Vec<_>>().join(" ")
}

fn link(db: &Reader<'_>, group: StateGroupId) -> Result<(Option<StateGroupId>, i64)> {
    let mut query = db.prepare_cached("SELECT parent, chain FROM state_groups WHERE group_id = ?1")?;
    Ok(query.query_row([group.0], |row| Ok((row.get::<_, Option<i64>>(0)?.map(StateGroupId), row.get(1)?)))?)
}

fn entries(db: &Reader<'_>, group: StateGroupId) -> Result<Vec<(StateKeyNid, Option<EventNid>)>> {
    let mut query = db.prepare_cached("SELECT statekey_nid, event_nid FROM state_group_entries WHERE group_id = ?1")?;
    let rows = query.query_map([group.0], |row| Ok((StateKeyNid(row.get(0)?), row.get::<_, Option<i64>>(1)?.map(EventNid))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn insert_group(tx: &Tx<'_>, room: RoomNid, parent: Option<StateGroupId>, chain: i64) -> Result<StateGroupId> {
    tx.prepare_cached("INSERT INTO state_groups (room_nid, parent, chain) VALUES (?1, ?2, ?3)")?.execute((
        room.0,
        parent.map(|p| p.0),
        chain,
    ))?;
    Ok(StateGroupId(tx.last_insert_rowid()))
}

pub(super) fn insert_entry(tx: &Tx<'_>, group: StateGroupId, key: StateKeyNid, event: Option<EventNid>) -> Result<()> {
    tx.prepare_cached("INSERT INTO state_group_entries (group_id, statekey_nid, event_nid) VALUES (?1, ?2, ?3)")?.execute((
        group.0,
        key.0,
        event.map(|event| event.0),
    ))?;
    Ok(())
}

/// The whole state of a group.
///
/// # Errors
///
/// Database errors.
pub fn of_group(db: &Reader<'_>, group: StateGroupId) -> Result<BTreeMap<StateKeyNid, EventNid>> {
    let mut state = Changes::new();
    for group in line(db, group)? {
        for (key, event) in entries(db, group)? {
            state.entry(key).or_insert(event);
        }
    }
    Ok(state.into_iter().filter_map(|(key, event)| Some((key, event?))).collect())
}

/// One key of a group's state.
///
/// # Errors
///
/// Database errors.
pub fn key_of_group(db: &Reader<'_>, group: StateGroupId, key: StateKeyNid) -> Result<Option<EventNid>> {
    let mut query = db.prepare_cached(
        "WITH RECURSIVE line (group_id, parent, hop) AS (
             SELECT group_id, parent, 0 FROM state_groups WHERE group_id = ?1
             UNION ALL SELECT g.group_id, g.parent, line.hop + 1 FROM line JOIN state_groups g ON g.group_id = line.parent)
         SELECT e.event_nid FROM line JOIN state_group_entries e ON e.group_id = line.group_id AND e.statekey_nid = ?2
         ORDER BY line.hop LIMIT 1",
    )?;
    let found: Option<Option<i64>> = query.query_row((group.0, key.0), |row| row.get(0)).optional()?;
    Ok(found.flatten().map(EventNid))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{prelude::*, test_runner::TestRunner};

    use super::*;
    use crate::homeserver::store::{Observer, Store};

    const EVENTS: i64 = 40;

    /// One user, one room, some events and keys to point with.
    fn furnish(tx: &Tx<'_>) -> Result<Vec<StateKeyNid>> {
        tx.execute_batch("INSERT INTO users VALUES (1, '@ann:home.test'); INSERT INTO rooms VALUES (1, '!room', '12', 0, NULL, 0)")?;
        for event in 1..=EVENTS {
            tx.execute(
                "INSERT INTO events (event_nid, event_id, room_nid, sender_nid, type, depth, origin_server_ts, json)
                 VALUES (?1, '$' || ?1, 1, 1, 't', 1, 1, x'00')",
                [event],
            )?;
        }
        (0..6).map(|key| intern_key(tx, "t", &format!("k{key}"))).collect()
    }

    #[tokio::test]
    async fn state_groups_give_what_a_copied_map_gives_also_in_branches() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|e| StoreError::Data(e.to_string()))?;
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {})))?;
        store
            .write(|tx| {
                let keys = furnish(tx)?;
                // Each step changes a key on top of some earlier state, usually the newest.
                let steps =
                    proptest::collection::vec((0..keys.len(), 1..=EVENTS, prop_oneof![4 => Just(0_usize), 1 => 0..30_usize]), 1..120);
                let outcome = TestRunner::new(ProptestConfig::with_cases(40)).run(&steps, |steps| {
                    let mut known = vec![(root_group(tx, RoomNid(1), []).expect("a root"), BTreeMap::new())];
                    for (key, event, back) in steps {
                        let at = known.len().saturating_sub(1 + back);
                        let (base, mut state) = known.get(at).cloned().expect("in range");
                        let key = keys.get(key).copied().expect("in range");
                        // Every fifth step takes the key away.
                        let value = (event % 5 != 0).then_some(EventNid(event));
                        let group = next_group(tx, RoomNid(1), base, Changes::from([(key, value)])).expect("a successor");
                        match value {
                            Some(event) => drop(state.insert(key, event)),
                            None => drop(state.remove(&key)),
                        }
                        known.push((group, state));
                    }
                    for pair in known.windows(7) {
                        let [(a, left), .., (b, right)] = pair else { continue };
                        let apart = divergence(&tx.reader(), &[*a, *b]).expect("the groups are there");
                        let expected: BTreeMap<_, _> = keys
                            .iter()
                            .map(|key| (*key, vec![left.get(key).copied(), right.get(key).copied()]))
                            .filter(|(_, values)| values.first() != values.last())
                            .collect();
                        prop_assert_eq!(apart, expected);
                    }
                    for (group, state) in known {
                        let found = of_group(&tx.reader(), group).expect("the group is there");
                        prop_assert_eq!(&found, &state);
                        for key in &keys {
                            prop_assert_eq!(key_of_group(&tx.reader(), group, *key).expect("the group is there"), state.get(key).copied());
                        }
                    }
                    Ok(())
                });
                outcome.map_err(|e| StoreError::Data(e.to_string()))
            })
            .await?;
        store.close();
        Ok(())
    }

    #[tokio::test]
    async fn a_long_line_is_read_in_few_hops() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|e| StoreError::Data(e.to_string()))?;
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {})))?;
        let hops = store.write(|tx| {
            let keys = furnish(tx)?;
            let mut group = root_group(tx, RoomNid(1), [])?;
            for step in 0..1000_usize {
                let key = keys.get(step % keys.len()).copied().unwrap_or(StateKeyNid(1));
                group = next_group(tx, RoomNid(1), group, Changes::from([(key, Some(EventNid(1)))]))?;
            }
            let (mut hops, mut next) = (0, Some(group));
            while let Some(group) = next {
                next = link(&tx.reader(), group)?.0;
                hops += 1;
            }
            Ok::<_, StoreError>(hops)
        });
        assert!(hops.await? <= 11);
        store.close();
        Ok(())
    }
}
