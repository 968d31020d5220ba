-- What sliding-sync connections have been told, so that they go on after a restart. Written now and then, not with each answer.
CREATE TABLE sliding_connections (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    device_id TEXT NOT NULL,
    form      TEXT NOT NULL,                   -- unstable, v4
    conn_id   TEXT NOT NULL,
    saved_ms  INTEGER NOT NULL,
    state     BLOB NOT NULL,                   -- zstd of JSON
    PRIMARY KEY (user_nid, device_id, form, conn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sliding_connections_by_age ON sliding_connections (saved_ms);
