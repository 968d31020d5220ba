//! Joins through other servers that are under way.

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, UserId};
use rusqlite::OptionalExtension;

use super::{Reader, Result, StoreError, Tx, rooms, users};

/// A join under way.
#[derive(Debug, Clone)]
pub struct RemoteJoin {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who.
    pub user_id: OwnedUserId,
    /// Servers that may help.
    pub via: Vec<OwnedServerName>,
    /// Why.
    pub reason: Option<String>,
}

/// Writes a join of a room of this version down.
///
/// # Errors
///
/// Database errors.
pub fn put(tx: &Tx<'_>, join: &RemoteJoin, version: &RoomVersionId, now_ms: u64) -> Result<()> {
    let via = serde_json::to_string(&join.via).map_err(|e| StoreError::Data(e.to_string()))?;
    tx.prepare_cached(
        "INSERT INTO remote_joins (room_id, user_id, via, reason, started_ms, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET via = ?3, version = ?6",
    )?
    .execute(rusqlite::params![
        join.room_id.as_str(),
        join.user_id.as_str(),
        via,
        join.reason,
        i64::try_from(now_ms).unwrap_or(i64::MAX),
        version.as_str()
    ])?;
    Ok(())
}

/// A join is done or has failed.
///
/// # Errors
///
/// Database errors.
pub fn done(tx: &Tx<'_>, room_id: &RoomId, user_id: &UserId) -> Result<()> {
    tx.prepare_cached("DELETE FROM remote_joins WHERE room_id = ?1 AND user_id = ?2")?.execute((room_id.as_str(), user_id.as_str()))?;
    Ok(())
}

/// The version of a room that is being joined. `None`: it is not being joined.
///
/// # Errors
///
/// Database errors.
pub fn version_of(db: &Reader<'_>, room_id: &RoomId) -> Result<Option<RoomVersionId>> {
    let mut query =
        db.prepare_cached("SELECT version FROM remote_joins WHERE room_id = ?1 AND version IS NOT NULL ORDER BY started_ms DESC")?;
    let version: Option<String> = query.query_row([room_id.as_str()], |row| row.get(0)).optional()?;
    version.map(|text| RoomVersionId::try_from(text).map_err(|e| StoreError::Data(format!("room version: {e}")))).transpose()
}

/// All of them, the oldest first.
///
/// # Errors
///
/// Database errors.
pub fn all(db: &Reader<'_>) -> Result<Vec<RemoteJoin>> {
    let mut query = db.prepare_cached("SELECT room_id, user_id, via, reason FROM remote_joins ORDER BY started_ms")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(RemoteJoin {
            room_id: rooms::parse(&row.get::<_, String>(0)?)?,
            user_id: users::parse(&row.get::<_, String>(1)?)?,
            via: serde_json::from_str(&row.get::<_, String>(2)?).map_err(|e| StoreError::Data(e.to_string()))?,
            reason: row.get(3)?,
        });
    }
    Ok(found)
}
