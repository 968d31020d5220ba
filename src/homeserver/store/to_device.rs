//! Messages from device to device, kept until the receiving device has acknowledged them.

use ruma::{DeviceId, OwnedDeviceId, UserId};

use super::{Reader, Result, Tx};
use crate::homeserver::types::{StreamPos, UserNid};

/// Messages that wait for one device. A device that never comes back must not fill the disk; one that does asks again for the
/// keys that it lacks.
const WAITING: i64 = 50_000;
/// How many messages to one device may wait of one other server, and their bytes.
const OF_SERVER: Waiting = Waiting { messages: 10_000, bytes: 64 << 20 };
/// The same of a server that no room is shared with.
const OF_STRANGER: Waiting = Waiting { messages: 100, bytes: 1 << 20 };
/// Where so much waits altogether, nothing more is taken of such servers: there are as many as somebody likes to make up.
const BESIDE_STRANGERS: Waiting = Waiting { messages: WAITING / 2, bytes: 64 << 20 };

/// What waits for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    messages: i64,
    bytes: i64,
}

impl Waiting {
    /// Is there room for a message of that size?
    fn admits(self, waiting: Self, bytes: usize) -> bool {
        waiting.messages < self.messages && waiting.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)) <= self.bytes
    }
}

/// Queues a message of a user of ours for a device and wakes its user.
///
/// # Errors
///
/// Database errors.
pub fn queue(tx: &mut Tx<'_>, user: UserNid, device_id: &DeviceId, sender: &UserId, kind: &str, content: &str) -> Result<StreamPos> {
    let pos = tx.next_pos();
    tx.prepare_cached(
        "INSERT INTO to_device (stream_pos, user_nid, device_id, sender, type, content, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((pos.0, user.0, device_id.as_str(), sender.as_str(), kind, content, origin_of(sender)))?;
    tx.touch(user);
    // Seldom enough to cost nothing, often enough to stay bounded.
    if pos.0 % 64 == 0 {
        bound(tx, user, device_id)?;
    }
    Ok(pos)
}

/// Queues a message of another server's user, unless too much of that server waits already: what waits is kept until the device
/// has it, the new one is dropped. A `stranger` is a server that no room is shared with. False when the message was dropped.
///
/// # Errors
///
/// Database errors.
pub fn queue_remote(
    tx: &mut Tx<'_>,
    user: UserNid,
    device_id: &DeviceId,
    sender: &UserId,
    stranger: bool,
    (kind, content): (&str, &str),
) -> Result<bool> {
    let most = if stranger { OF_STRANGER } else { OF_SERVER };
    let of_server = waiting(tx, user, device_id, Some(&origin_of(sender)))?;
    if !most.admits(of_server, content.len()) || (stranger && !BESIDE_STRANGERS.admits(waiting(tx, user, device_id, None)?, content.len()))
    {
        return Ok(false);
    }
    queue(tx, user, device_id, sender, kind, content)?;
    Ok(true)
}

/// Whom a message counts for: whoever has a name has it with every port and in every spelling.
fn origin_of(sender: &UserId) -> String {
    sender.server_name().host().to_ascii_lowercase()
}

/// What waits for a device of one server, or of all.
fn waiting(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId, origin: Option<&str>) -> Result<Waiting> {
    let mut query = tx.prepare_cached(
        "SELECT coalesce(sum(messages), 0), coalesce(sum(bytes), 0) FROM to_device_waiting
         WHERE user_nid = ?1 AND device_id = ?2 AND (?3 IS NULL OR origin = ?3)",
    )?;
    Ok(query.query_row((user.0, device_id.as_str(), origin), |row| Ok(Waiting { messages: row.get(0)?, bytes: row.get(1)? }))?)
}

/// Drops messages of a device that does not fetch them: the oldest of those who have sent most.
fn bound(tx: &Tx<'_>, user: UserNid, device_id: &DeviceId) -> Result<()> {
    let mut excess = waiting(tx, user, device_id, None)?.messages - WAITING;
    let mut gone = 0;
    while excess > 0 {
        let dropped = tx
            .prepare_cached(
                "DELETE FROM to_device WHERE stream_pos IN (
                     SELECT stream_pos FROM to_device WHERE user_nid = ?1 AND device_id = ?2 AND origin = (
                         SELECT origin FROM to_device_waiting WHERE user_nid = ?1 AND device_id = ?2 ORDER BY messages DESC LIMIT 1)
                     ORDER BY stream_pos LIMIT ?3)",
            )?
            .execute((user.0, device_id.as_str(), excess))?;
        if dropped == 0 {
            break;
        }
        gone += dropped;
        excess -= i64::try_from(dropped).unwrap_or(excess);
    }
    if gone > 0 {
        tracing::warn!(gone, device_id = device_id.as_str(), "a device does not fetch its messages; the oldest were dropped");
    }
    Ok(())
}

/// The devices that a message to all of a user's devices goes to.
///
/// # Errors
///
/// Database errors.
pub fn all_devices(db: &Reader<'_>, user: UserNid) -> Result<Vec<OwnedDeviceId>> {
    let mut query = db.prepare_cached("SELECT device_id FROM devices WHERE user_nid = ?1")?;
    let found = query.query_map([user.0], |row| row.get::<_, String>(0).map(OwnedDeviceId::from))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// How long a message is remembered: longer than any server goes on sending again.
const REMEMBERED_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Notes a message of another server. False when it arrived before.
///
/// # Errors
///
/// Database errors.
pub fn receive_once(tx: &Tx<'_>, server: &ruma::ServerName, message_id: &str, now_ms: i64) -> Result<bool> {
    let added = tx
        .prepare_cached("INSERT OR IGNORE INTO received_to_device (server, message_id, received_ms) VALUES (?1, ?2, ?3)")?
        .execute((server.as_str(), message_id, now_ms))?;
    // A few old ones for each new one: the table shrinks as fast as it grows.
    tx.prepare_cached(
        "DELETE FROM received_to_device WHERE (server, message_id) IN
             (SELECT server, message_id FROM received_to_device WHERE received_ms < ?1 ORDER BY received_ms LIMIT 4)",
    )?
    .execute([now_ms.saturating_sub(REMEMBERED_MS)])?;
    Ok(added > 0)
}

/// Forgets a message that nobody was sent: who sends it again does no harm.
///
/// # Errors
///
/// Database errors.
pub fn forget(tx: &Tx<'_>, server: &ruma::ServerName, message_id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM received_to_device WHERE server = ?1 AND message_id = ?2")?.execute((server.as_str(), message_id))?;
    Ok(())
}

/// Messages that wait, by the server that they came from, and how many of each are remembered.
#[cfg(test)]
pub(crate) fn counts(db: &Reader<'_>) -> Result<Vec<(String, i64, i64)>> {
    let mut query = db.prepare_cached(
        "SELECT origin, sum(messages), (SELECT count(*) FROM received_to_device r WHERE r.server = origin)
         FROM to_device_waiting GROUP BY origin ORDER BY origin",
    )?;
    let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use ruma::{device_id, user_id};

    use super::*;
    use crate::homeserver::store::{Observer, Store, StoreError, accounts};

    async fn store() -> (tempfile::TempDir, Store, UserNid) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db"), Observer(Arc::new(|_| {}))).unwrap();
        let made = store.write(|tx| accounts::create(tx, user_id!("@ann:home.test"), None, false, 1));
        let user = made.await.unwrap().unwrap();
        (dir, store, user)
    }

    fn counted(tx: &Tx<'_>, origin: &str) -> (i64, i64) {
        let sql = "SELECT count(*), coalesce(sum(length(CAST(content AS BLOB))), 0) FROM to_device WHERE origin = ?1";
        tx.query_row(sql, [origin], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    /// A server that nobody has to do with sends as much as it can: what friends have sent waits for the device all the same.
    #[tokio::test]
    async fn a_flood_of_strangers_drives_nothing_out() {
        let (_dir, store, ann) = store().await;
        let done = store.write(move |tx| {
            let phone = device_id!("PHONE");
            let (bob, eve) = (user_id!("@bob:friend.test"), user_id!("@eve:evil.test"));
            for _ in 0..500 {
                assert!(queue_remote(tx, ann, phone, bob, false, ("m.room.encrypted", "{}"))?);
            }
            let mut taken = 0;
            for _ in 0..5_000 {
                taken += i64::from(queue_remote(tx, ann, phone, eve, true, ("m.room.encrypted", "{}"))?);
            }
            // Another port or spelling is no other server.
            for other in ["@eve:evil.test:8448", "@eve:Evil.test"] {
                let other = UserId::parse(other).unwrap();
                assert!(!queue_remote(tx, ann, phone, &other, true, ("m.room.encrypted", "{}"))?);
            }
            assert_eq!((taken, counted(tx, "evil.test").0), (OF_STRANGER.messages, OF_STRANGER.messages));
            assert_eq!(counted(tx, "friend.test").0, 500);
            // By size as well, and each made-up name has the same little, up to a bound for all.
            let large = format!("{{\"x\":\"{}\"}}", "ü".repeat(30_000));
            let mut taken = 0;
            for number in 0..2_000 {
                let made_up = UserId::parse(format!("@eve:evil{}.test", number / 40)).unwrap();
                taken += i64::from(queue_remote(tx, ann, phone, &made_up, true, ("m.room.encrypted", &large))?);
            }
            assert_eq!(counted(tx, "evil0.test").0, OF_STRANGER.bytes / i64::try_from(large.len()).unwrap());
            let all = waiting(tx, ann, phone, None)?;
            assert!(taken < 2_000 && all.bytes <= BESIDE_STRANGERS.bytes, "{taken} {all:?}");
            assert!(queue_remote(tx, ann, phone, bob, false, ("m.room.encrypted", "{}"))?, "friends go on");
            assert_eq!(counted(tx, "friend.test").0, 501);
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_counted_is_what_waits() {
        let (_dir, store, ann) = store().await;
        let done = store.write(move |tx| {
            let phone = device_id!("PHONE");
            for number in 0..200 {
                let sender = UserId::parse(format!("@u:s{}.test", number % 3)).unwrap();
                queue_remote(tx, ann, phone, &sender, false, ("t", &format!("{{\"n\":{number}}}")))?;
            }
            for left in [120_i64, 1, 0] {
                tx.execute(
                    "DELETE FROM to_device WHERE stream_pos <= (SELECT stream_pos FROM to_device ORDER BY stream_pos DESC LIMIT 1 OFFSET ?1)",
                    [left],
                )?;
                for origin in ["s0.test", "s1.test", "s2.test"] {
                    let (messages, bytes) = counted(tx, origin);
                    assert_eq!(waiting(tx, ann, phone, Some(origin))?, Waiting { messages, bytes });
                }
            }
            let rows: i64 = tx.query_row("SELECT count(*) FROM to_device_waiting", [], |row| row.get(0))?;
            assert_eq!(rows, 0);
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn who_has_sent_most_makes_room() {
        let (_dir, store, ann) = store().await;
        let done = store.write(move |tx| {
            let phone = device_id!("PHONE");
            let (local, bob) = (user_id!("@loud:home.test"), user_id!("@bob:friend.test"));
            for _ in 0..100 {
                assert!(queue_remote(tx, ann, phone, bob, false, ("t", "{}"))?);
            }
            for _ in 0..WAITING + 200 {
                queue(tx, ann, phone, local, "t", "{}")?;
            }
            assert_eq!(counted(tx, "friend.test").0, 100);
            let all = waiting(tx, ann, phone, None)?.messages;
            assert!((WAITING..WAITING + 64).contains(&all), "{all}");
            Ok::<_, StoreError>(())
        });
        done.await.unwrap();
    }
}
