//! What users report to the owner.

use super::{Reader, Result, Tx};

/// Reports that are kept; the oldest make room.
const KEPT: i64 = 10_000;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Who reports.
    pub reporter: String,
    /// The room.
    pub room_id: Option<String>,
    /// The event.
    pub event_id: Option<String>,
    /// The user.
    pub user_id: Option<String>,
    /// Why.
    pub reason: String,
    /// From -100 (worst) to 0, where an old client says so.
    pub score: Option<i64>,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// Adds a report.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, report: &Report) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO reports (reporter, room_id, event_id, user_id, reason, score, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        &report.reporter,
        &report.room_id,
        &report.event_id,
        &report.user_id,
        &report.reason,
        report.score,
        report.created_ms,
    ))?;
    tx.prepare_cached("DELETE FROM reports WHERE report_id <= ?1 - ?2")?.execute((tx.last_insert_rowid(), KEPT))?;
    Ok(())
}

/// The newest reports, newest first.
///
/// # Errors
///
/// Database errors.
pub fn newest(db: &Reader<'_>, limit: usize) -> Result<Vec<Report>> {
    let mut query = db.prepare_cached(
        "SELECT reporter, room_id, event_id, user_id, reason, score, created_ms FROM reports ORDER BY report_id DESC LIMIT ?1",
    )?;
    let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(Report {
            reporter: row.get(0)?,
            room_id: row.get(1)?,
            event_id: row.get(2)?,
            user_id: row.get(3)?,
            reason: row.get(4)?,
            score: row.get(5)?,
            created_ms: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
