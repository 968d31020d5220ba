//! Brings the schema up to date, one numbered file after the other, each in its own transaction.

use rusqlite::Connection;

use super::{Result, StoreError};

/// "home" in ASCII: marks the file as ours, so that another program's database is not taken for it.
const APPLICATION_ID: i64 = 0x686f_6d65;

/// Schema files in order; the version of a database is the number of those that were applied.
const SCHEMAS: &[&str] = &[
    include_str!("schema/0001_initial.sql"),
    include_str!("schema/0002_oauth.sql"),
    include_str!("schema/0003_client_api.sql"),
    include_str!("schema/0004_search.sql"),
    include_str!("schema/0005_dehydrated_devices.sql"),
    include_str!("schema/0006_outgoing.sql"),
    include_str!("schema/0007_people.sql"),
    include_str!("schema/0008_remote_events.sql"),
    include_str!("schema/0009_sliding_connections.sql"),
    include_str!("schema/0010_appservices.sql"),
    include_str!("schema/0011_reviewed.sql"),
    include_str!("schema/0012_server_keys.sql"),
    include_str!("schema/0013_threads_media.sql"),
    include_str!("schema/0014_outside.sql"),
    include_str!("schema/0015_joining.sql"),
    include_str!("schema/0016_sso.sql"),
    include_str!("schema/0017_unfinished_groups.sql"),
    include_str!("schema/0018_held_invites.sql"),
    include_str!("schema/0019_members_by_age.sql"),
    include_str!("schema/0020_to_device_origins.sql"),
    include_str!("schema/0021_inbound_origins.sql"),
    include_str!("schema/0022_outgoing_alone.sql"),
];

/// Applies what is missing.
///
/// # Errors
///
/// [`StoreError::NewerSchema`] when the database is ahead of this program, [`StoreError::Corrupt`] when it is not ours.
pub(super) fn run(connection: &mut Connection) -> Result<()> {
    let known = i64::try_from(SCHEMAS.len()).map_err(|e| StoreError::Data(e.to_string()))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found > known && application == APPLICATION_ID {
        return Err(StoreError::NewerSchema { found, known });
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(StoreError::Corrupt("it belongs to another program".into()));
    }
    for (version, schema) in (1_i64..).zip(SCHEMAS) {
        if version <= found {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(schema)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
        tracing::info!(version, "database schema applied");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_database_gets_the_newest_schema_and_a_second_run_changes_nothing() -> Result<()> {
        let mut connection = Connection::open_in_memory()?;
        run(&mut connection)?;
        run(&mut connection)?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        assert_eq!(usize::try_from(found).ok(), Some(SCHEMAS.len()));
        Ok(())
    }

    #[test]
    fn refuses_a_schema_from_the_future() -> Result<()> {
        let mut connection = Connection::open_in_memory()?;
        run(&mut connection)?;
        connection.pragma_update(None, "user_version", 999)?;
        assert!(matches!(run(&mut connection), Err(StoreError::NewerSchema { found: 999, .. })));
        Ok(())
    }

    #[test]
    fn refuses_another_programs_database() -> Result<()> {
        let mut connection = Connection::open_in_memory()?;
        connection.execute_batch("CREATE TABLE something (x)")?;
        assert!(matches!(run(&mut connection), Err(StoreError::Corrupt(_))));
        Ok(())
    }
}
