//! The node's SQLite store: the only place with SQL.
//!
//! One writer thread takes bounded jobs and commits many of them in one transaction (group commit, `synchronous=FULL`): a
//! job's result is handed out only after its commit, so whatever was acknowledged is on disk. A few reader threads serve
//! queries from the last committed state. Each table family has a file of functions on [`Tx`] and [`Reader`].

pub mod account_data;
pub mod accounts;
pub mod aliases;
pub mod appservices;
pub mod backup;
pub mod building;
mod codec;
pub mod dehydrated;
pub mod delayed;
pub mod device_lists;
pub mod devices;
pub mod directory;
pub mod events;
pub mod filters;
pub mod graph;
pub mod held_invites;
pub mod inbound;
pub mod keys;
pub mod media;
pub mod members;
pub mod meta;
mod migrate;
pub mod oauth;
pub mod one_time_keys;
pub mod openid;
pub mod outbox;
pub mod outside;
pub mod previews;
pub mod profiles;
pub mod push;
pub mod pushers;
mod readers;
pub mod receipts;
pub mod relations;
pub mod remote_devices;
pub mod remote_joins;
pub mod remote_media;
pub mod reports;
pub mod rooms;
pub mod search;
pub mod server_keys;
pub mod servers;
pub mod sliding;
pub mod sso;
pub mod state;
pub mod sync_rooms;
pub mod sync_user;
pub mod threads;
pub mod to_device;
pub mod tokens;
pub mod transactions;
pub mod users;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

pub use self::{
    readers::Reader,
    writer::{Commit, Observer, Tx},
};
use self::{readers::Readers, writer::Writer};

/// What can go wrong in the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file system has no room left. The transaction was rolled back; nothing is lost.
    #[error("the disk is full")]
    DiskFull,
    /// The file was written by a newer homeroom.
    #[error("the database has schema {found}, this homeroom knows schemas up to {known}: use a newer homeroom")]
    NewerSchema {
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The file is not one of ours, or is damaged.
    #[error("the database is damaged or is not homeroom's: {0}")]
    Corrupt(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else that SQLite or the file system reports.
    #[error("database error: {0}")]
    Sqlite(String),
    /// What is stored does not have the form that we gave it: our bug.
    #[error("unexpected data in the store: {0}")]
    Data(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Sqlite(error.to_string()),
        }
    }
}

/// Result of store functions.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
}

impl Store {
    /// Opens the database file, creating it or bringing its schema up to date. Blocks: call it off the runtime.
    ///
    /// # Errors
    ///
    /// [`StoreError::NewerSchema`] and [`StoreError::Corrupt`] leave the file untouched.
    pub fn open(path: &Path, observer: Observer) -> Result<Self> {
        let mut connection = connect(path, false)?;
        migrate::run(&mut connection)?;
        building::sweep(&connection)?;
        let writer = Writer::start(connection, observer)?;
        let readers = Readers::start(path, 3)?;
        Ok(Self { writer: Arc::new(writer), readers: Arc::new(readers) })
    }

    /// Runs a job in the writer's transaction and returns its result once the transaction is on disk.
    ///
    /// A job that returns an error is rolled back alone. Dropping the future does not stop a job that has been queued.
    ///
    /// # Errors
    ///
    /// The job's own error, or what went wrong with the commit, in which case nothing of the job was kept.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.writer.run(job).await
    }

    /// Runs a query on a reader thread, on a snapshot of the last committed state.
    ///
    /// # Errors
    ///
    /// The query's own error, or [`StoreError::Closed`].
    pub async fn read<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T, E> + Send + 'static,
    {
        self.readers.run(query).await
    }

    /// Takes no more jobs, finishes the queued ones and closes the file. Blocks: call it off the runtime.
    pub fn close(&self) {
        self.readers.close();
        self.writer.close();
    }
}

/// Opens a connection with the pragmas that every connection needs.
fn connect(path: &Path, read_only: bool) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !read_only {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Negative: KiB. The operating system caches the file as well; this is per connection.
    connection.pragma_update(None, "cache_size", if read_only { -2048 } else { -4096 })?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // Otherwise a statement with `LIMIT ?` is planned anew whenever the number is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if read_only {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(connection)
}
